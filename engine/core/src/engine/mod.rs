//! `Store`: the handle that callers hold. Each verb is one call into the part that does it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::error::{AppendError, OpenError, ReadError, StoreError};
use crate::io::{Clock, Disk, Rng, SystemClock, SystemDisk, SystemRng};
use crate::metrics::Metrics;
use crate::request::{AppendCallback, AppendRequest, Appended, ReadRequest, Record, SegmentInfo, StreamInfo};
use crate::tier_port::{Claims, SealHook, SealedSegment, SegmentBytes, TierRecord, VolumeIdentity, Watermark};

/// Whose directory this has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: String,
    pub node: String,
}

pub struct OpenOptions {
    pub config: Config,
    pub identity: Identity,
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    /// `None` = no Tier 2: streams are local.
    pub claims: Option<Arc<dyn Claims>>,
    /// Told of recovery's progress: bytes done, bytes in all.
    pub on_progress: Option<Box<dyn Fn(u64, u64) + Send>>,
}

impl OpenOptions {
    /// On the real disk, without Tier 2.
    pub fn new(config: Config, identity: Identity) -> OpenOptions {
        OpenOptions {
            config,
            identity,
            disk: Arc::new(SystemDisk),
            clock: Arc::new(SystemClock),
            rng: Arc::new(SystemRng),
            claims: None,
            on_progress: None,
        }
    }
}

/// A store that is open. Clones share it.
#[derive(Clone)]
pub struct Store {}

impl Store {
    pub fn open(options: OpenOptions) -> Result<Store, OpenError> {
        Err(OpenError::Locked { path: options.config.directory })
    }

    pub fn identity(&self) -> &VolumeIdentity {
        unreachable!("no store is open yet")
    }

    /// Blocks until the append is acknowledged or refused.
    pub fn append(&self, request: AppendRequest) -> Result<Appended, AppendError> {
        Err(AppendError::EmptyBatch { stream: request.stream })
    }

    /// Never blocks on the disk. Requests of one caller to one stream keep their order.
    pub fn append_with(&self, request: AppendRequest, on_done: AppendCallback) {
        on_done(Err(AppendError::EmptyBatch { stream: request.stream }));
    }

    pub fn read(&self, _request: ReadRequest) -> Result<Reader, ReadError> {
        Err(ReadError::Closed)
    }

    /// Calls back with the durable count once it is over `sequence`: at once if it is already. The callback must not block; it is
    /// dropped uncalled when the store closes.
    pub fn on_durable_beyond(&self, _stream: &str, _sequence: u64, _callback: Box<dyn FnOnce(u64) + Send>) -> Result<(), ReadError> {
        Err(ReadError::Closed)
    }

    /// Blocks until the durable count is over `sequence` or the time is up; answers the durable count.
    pub fn wait_durable_beyond(&self, _stream: &str, _sequence: u64, _timeout: Duration) -> Result<u64, ReadError> {
        Err(ReadError::Closed)
    }

    /// Ordered by name.
    pub fn streams(&self) -> Vec<StreamInfo> {
        Vec::new()
    }

    pub fn describe(&self, stream: &str) -> Result<StreamInfo, ReadError> {
        Err(ReadError::UnknownStream { stream: stream.to_owned() })
    }

    /// Last sequence of a producer that the stream holds durably.
    pub fn last_producer_seq(&self, stream: &str, _producer_id: u64) -> Result<Option<u64>, ReadError> {
        Err(ReadError::UnknownStream { stream: stream.to_owned() })
    }

    /// Ordered by sequence.
    pub fn segments(&self, stream: &str) -> Result<Vec<SegmentInfo>, ReadError> {
        Err(ReadError::UnknownStream { stream: stream.to_owned() })
    }

    /// Seals what one stream (or every stream) holds now. Answers the count of sealed records per stream.
    pub fn seal(&self, _stream: Option<&str>) -> Result<BTreeMap<String, u64>, StoreError> {
        Err(StoreError::Closed)
    }

    /// Makes everything staged now durable. Answers the durable count per stream.
    pub fn flush(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        Err(StoreError::Closed)
    }

    /// Appends are refused as `Draining` from here on.
    pub fn close_admission(&self, _reason: &str) {}

    pub fn open_admission(&self) {}

    /// Why appends are refused as `Draining`, if they are.
    pub fn admission_closed(&self) -> Option<String> {
        None
    }

    /// Takes over the hot keys. Restart keys keep their values of open.
    pub fn reconfigure(&self, _config: Config) {}

    pub fn config(&self) -> Arc<Config> {
        Arc::new(Config::new(""))
    }

    pub fn metrics(&self) -> Metrics {
        Metrics::default()
    }

    /// What failed, once the store is poisoned.
    pub fn poisoned(&self) -> Option<String> {
        None
    }

    /// Called once, with what failed; at once if the store is poisoned already. The process should exit 74.
    pub fn on_poison(&self, _callback: Box<dyn FnOnce(String) + Send>) {}

    /// Stops admission, makes everything durable, stops the threads. The directory may be opened again after.
    pub fn close(&self) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    // --- for the tiers

    /// Sealed segments that are not uploaded, oldest first within a stream.
    pub fn sealed_segments_pending(&self) -> Vec<SealedSegment> {
        Vec::new()
    }

    pub fn segment_bytes(&self, stream: &str, _segment_id: u64) -> Result<SegmentBytes, ReadError> {
        Err(ReadError::UnknownStream { stream: stream.to_owned() })
    }

    /// Blocks until the record is durable in the stream's manifest.
    pub fn commit_manifest(&self, _stream: &str, _segment_id: u64, _record: TierRecord) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    /// Ordered by name.
    pub fn watermarks(&self) -> Vec<Watermark> {
        Vec::new()
    }

    /// Replaces the hook.
    pub fn on_sealed(&self, _hook: SealHook) {}

    /// Another owner was found in Tier 2: the stream refuses appends and reads from here on.
    pub fn supersede(&self, _stream: &str, _to_epoch: u64) {}

    /// Where warm files lie.
    pub fn tier1_directory(&self) -> std::path::PathBuf {
        std::path::PathBuf::new()
    }

    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(SystemDisk)
    }

    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }
}

/// Records of a range, in order, in bounded batches.
pub struct Reader {}

impl Reader {
    /// The next records, about `max_bytes` of payload; `None` at the limit or at the end of what may be read now (call again
    /// later to go on from there).
    pub fn next_batch(&mut self, _max_bytes: usize) -> Result<Option<Vec<Record>>, ReadError> {
        Ok(None)
    }

    /// Sequence of the record that comes next.
    pub fn position(&self) -> u64 {
        0
    }
}
