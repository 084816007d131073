//! What looks at clusters remember in this process alone: losing it costs a question, a pause or a minute of counting.

use parking_lot::Mutex;

use super::{backoff::Backoff, dry_run::DryRuns, samples::Samples};

#[derive(Default)]
pub struct Memory {
    pub backoff: Mutex<Backoff>,
    pub dry_runs: DryRuns,
    pub samples: Mutex<Samples>,
}
