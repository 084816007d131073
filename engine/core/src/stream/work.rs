//! What a stream leaves to background threads.

use std::sync::Arc;

use super::Stream;
use crate::port::RecordTimes;
use crate::producers::Changes;
use crate::segment::active::ActiveSegment;

pub(crate) enum Work {
    /// Make the next segment of a stream ahead.
    Prepare(Arc<Stream>),
    /// One more journal file, while there are fewer than configured.
    JournalFile,
    /// Remove the journal files that the configuration no longer asks for.
    OutdatedJournal,
    /// Give a segment its own name.
    Name {
        stream: Arc<Stream>,
        segment: Arc<ActiveSegment>,
    },
    /// The segment takes no more records.
    Seal(SealWork),
    /// Claim a stream or make a segment, then do what waits for it.
    Open(Arc<Stream>),
}

pub(crate) struct SealWork {
    pub stream: Arc<Stream>,
    pub segment: Arc<ActiveSegment>,
    /// Offset behind the last batch.
    pub end: u64,
    pub end_sequence: u64,
    /// Chain of the last batch.
    pub chain: u32,
    /// Of all its batches.
    pub times: RecordTimes,
    /// What the segment changed of the stream's producers.
    pub changes: Changes,
}
