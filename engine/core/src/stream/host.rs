//! What a stream asks of whoever has it. Calls go down: from the store into its streams; what comes back up is in this trait.

use std::sync::Arc;

use aof2_format::StreamName;

use super::Stream;
use super::work::Work;
use crate::common::Common;
use crate::identity::StreamIdentity;
use crate::journal::ManifestFrame;
use crate::journal::round::Ended;
use crate::manifest::owner::Owner;

/// The store, to its streams.
pub(crate) trait Host: Send + Sync {
    fn common(&self) -> &Common;

    /// The next round of the journal takes what the stream has staged. Answers its number.
    fn enlist(&self, stream: &Arc<Stream>) -> u64;

    /// The same for a caller that waits for the round, or runs it.
    fn enlist_and_lead(&self, stream: &Arc<Stream>) -> u64;

    fn enlist_manifest(&self, frame: ManifestFrame) -> u64;

    fn wait_for_round(&self, round: u64) -> Result<(), Ended>;

    /// The next checkpoint settles the stream. Its lock is held, and its `is_dirty` set.
    fn mark_dirty(&self, stream: &Arc<Stream>);

    /// The next checkpoint settles its manifest.
    fn mark_manifest_dirty(&self, stream: &Arc<Stream>);

    /// For a background thread.
    fn push(&self, work: Work);

    /// Full pieces of the stream should leave memory.
    fn ask_for_write_out(&self, stream: &Arc<Stream>);

    /// How many streams share the staging memory.
    fn stream_count(&self) -> usize;
}

/// A stream and its host, as the stream's manifest knows them.
pub(crate) struct Owned<'a> {
    pub host: &'a dyn Host,
    pub stream: &'a Arc<Stream>,
}

impl Owner for Owned<'_> {
    fn common(&self) -> &Common {
        self.host.common()
    }

    fn name(&self) -> &StreamName {
        &self.stream.name
    }

    fn shared_name(&self) -> &Arc<str> {
        &self.stream.shared_name
    }

    fn identity(&self) -> &StreamIdentity {
        &self.stream.identity
    }

    fn directory(&self) -> &std::path::Path {
        &self.stream.directory
    }

    fn epoch(&self) -> u32 {
        self.stream.epoch()
    }

    fn enlist(&self, frame: ManifestFrame) -> u64 {
        self.host.enlist_manifest(frame)
    }

    fn wait_for_round(&self, round: u64) -> Result<(), Ended> {
        self.host.wait_for_round(round)
    }

    fn mark_dirty(&self) {
        self.host.mark_manifest_dirty(self.stream);
    }
}

impl Stream {
    pub fn owned<'a>(self: &'a Arc<Self>, host: &'a dyn Host) -> Owned<'a> {
        Owned { host, stream: self }
    }
}
