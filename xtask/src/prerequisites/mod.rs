//! What the machine must have before a cluster can come up: packages of the distribution and programs built from Go modules.
//! Everything here is a no-op of milliseconds the second time.

mod debian;
mod go;

use anyhow::Result;

pub use go::Program;

/// What a run is going to need.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A cluster made by us on this machine: everything.
    LocalCluster,
    /// A cluster that exists: only the clients.
    Clients,
    /// No cluster: what tests of single crates start.
    Tests,
}

pub fn ensure(need: Need) -> Result<()> {
    match need {
        Need::LocalCluster => {
            debian::ensure()?;
            go::ensure(&Program::ALL)
        }
        Need::Clients => go::ensure(&Program::CLIENTS),
        Need::Tests => {
            debian::ensure_file_systems()?;
            go::ensure(&Program::SERVERS)
        }
    }
}
