//! A small model of the store for the tests of the coordinator and the drain: streams of sealed segments with real bytes, a manifest that folds
//! records, admission as a flag.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::io::sync::Mutex;
use aof2_format::checksum::{Salt, Seed, crc64nvme};
use aof2_format::record_batch;
use aof2_format::segment::{DATA_OFFSET, SegmentHeader};
use aof2_format::{ClusterId, StreamName, StreamUuid};

use crate::below::LowerTiers;
use crate::claims::suite as claims_suite;
use crate::coordinator::Settings;
use crate::error::ClaimError;
use crate::error::{ReadError, StoreError};
use crate::io::Environment;
use crate::port::{
    ColdCopy, Copies, FailedStep, Fill, HotCopy, Moves, Objects, OpenBytes, RecordTimes,
    RestoreError, SealHook, SealedSegment, Tier0Usage, TierRecord, VolumeIdentity, WarmCopy,
    Watermark,
};
use crate::port::{Port, SealedBytes};

pub struct ModelPort {
    directory: PathBuf,
    environment: Environment,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    streams: BTreeMap<Arc<str>, Stream>,
    records: Vec<(Arc<str>, u64, TierRecord)>,
    hooks: Vec<SealHook>,
    admission_closed: Option<String>,
    superseded: Vec<(String, u64)>,
    refuses_commits: bool,
    when_closing: Option<Box<dyn FnOnce() + Send>>,
    seals_hang: bool,
    times_damaged: u64,
}

#[derive(Default)]
struct Stream {
    acked: u64,
    active: Vec<Vec<u8>>,
    segments: Vec<(SealedSegment, Vec<u8>)>,
    chain: u32,
}

const SALT: Salt = Salt(0x5eed_5a17);

impl ModelPort {
    pub fn new(directory: &Path) -> Arc<ModelPort> {
        ModelPort::within(directory, Environment::system())
    }

    pub fn within(directory: &Path, environment: Environment) -> Arc<ModelPort> {
        Arc::new(ModelPort {
            directory: directory.to_owned(),
            environment,
            state: Mutex::default(),
        })
    }

    /// One record of `payload`, acknowledged. False: admission is closed.
    pub fn append(&self, stream: &str, payload: &[u8]) -> bool {
        let mut state = self.state.lock();
        if state.admission_closed.is_some() {
            return false;
        }
        let stream = state.streams.entry(stream.into()).or_default();
        stream.acked += 1;
        stream.active.push(payload.to_vec());
        true
    }

    /// An append that was admitted before admission closed and is acknowledged after.
    pub fn append_in_flight(&self, stream: &str, payload: &[u8]) {
        let mut state = self.state.lock();
        let stream = state.streams.entry(stream.into()).or_default();
        stream.acked += 1;
        stream.active.push(payload.to_vec());
    }

    /// Seals wait for a disk that does not come back, until told otherwise.
    pub fn hang_seals(&self, hang: bool) {
        self.state.lock().seals_hang = hang;
    }

    /// Runs once, when admission is closed next.
    pub fn when_closing(&self, run: impl FnOnce() + Send + 'static) {
        self.state.lock().when_closing = Some(Box::new(run));
    }

    pub fn records(&self, stream: &str) -> Vec<TierRecord> {
        let state = self.state.lock();
        state
            .records
            .iter()
            .filter(|(of, ..)| &**of == stream)
            .map(|(.., record)| record.clone())
            .collect()
    }

    /// Damage that a job has told of.
    pub fn times_damaged(&self) -> u64 {
        self.state.lock().times_damaged
    }

    pub fn superseded(&self) -> Vec<(String, u64)> {
        self.state.lock().superseded.clone()
    }

    pub fn refuse_commits(&self, refuse: bool) {
        self.state.lock().refuses_commits = refuse;
    }

    pub fn segment(&self, stream: &str, segment_id: u64) -> (SealedSegment, Vec<u8>) {
        let state = self.state.lock();
        let segments = &state.streams[stream].segments;
        segments
            .iter()
            .find(|(segment, _)| segment.segment_id == segment_id)
            .expect("there")
            .clone()
    }

    /// Flips a bit of a sealed segment.
    pub fn damage_segment(&self, stream: &str, segment_id: u64) {
        let mut state = self.state.lock();
        let stream = state.streams.get_mut(stream).expect("there");
        let (_, bytes) = stream
            .segments
            .iter_mut()
            .find(|(segment, _)| segment.segment_id == segment_id)
            .expect("there");
        *bytes.last_mut().expect("not empty") ^= 1;
    }
}

impl ModelPort {
    /// Flips a bit of a segment's last batch before it is sealed: the seal vouches for it.
    pub fn damage_before_seal(&self, stream: &str, segment_id: u64) {
        self.damage_segment(stream, segment_id);
        let mut state = self.state.lock();
        let stream = state.streams.get_mut(stream).expect("there");
        let mut segments = stream.segments.iter_mut();
        let found = segments.find(|(segment, _)| segment.segment_id == segment_id);
        let (segment, bytes) = found.expect("there");
        segment.crc64 = crc64nvme(bytes);
    }
}

impl Stream {
    fn seal(&mut self, name: &Arc<str>) -> Option<SealedSegment> {
        if self.active.is_empty() {
            return None;
        }
        let segment_id = self.segments.len() as u64 + 1;
        let base_sequence = self.acked - self.active.len() as u64;
        let header = SegmentHeader {
            cluster_id: claims_suite::CLUSTER.parse::<ClusterId>().expect("a uuid"),
            stream: StreamName::new(name).expect("a name"),
            stream_uuid: StreamUuid([7; 16]),
            stream_salt: SALT,
            segment_id,
            epoch: 1,
            base_sequence,
            created_unix_nanos: 1,
            prev_chain: self.chain,
        };
        let mut bytes = header.encode().to_vec();
        assert_eq!(bytes.len() as u64, DATA_OFFSET);
        for (sequence, payload) in (base_sequence..).zip(self.active.drain(..)) {
            let fields = record_batch::Fields {
                base_sequence: sequence,
                epoch: 1,
                prev_chain: self.chain,
                ..record_batch::Fields::default()
            };
            self.chain =
                record_batch::encode(&mut bytes, &fields, [payload.as_slice()], Seed::new(SALT))
                    .expect("fits");
        }
        let segment = SealedSegment {
            stream: name.clone(),
            segment_id,
            epoch: 1,
            base_sequence,
            records: self.acked - base_sequence,
            bytes: bytes.len() as u64,
            crc64: crc64nvme(&bytes),
            times: RecordTimes::at(1),
            sealed_unix_nanos: 1,
            copies: Copies {
                hot: true,
                ..Copies::default()
            },
            moves: Moves::default(),
            compressed_bytes: None,
        };
        self.segments.push((segment.clone(), bytes));
        Some(segment)
    }
}

impl Port for ModelPort {
    fn volume(&self) -> VolumeIdentity {
        claims_suite::volume("orders-0", 1)
    }

    fn environment(&self) -> &Environment {
        &self.environment
    }

    fn directory(&self) -> PathBuf {
        self.directory.clone()
    }

    fn has_tier1_volume(&self) -> bool {
        false
    }

    fn tier1_directory(&self) -> PathBuf {
        self.directory.clone()
    }

    fn pending(&self) -> Vec<SealedSegment> {
        let state = self.state.lock();
        let all = state.streams.values().flat_map(|stream| &stream.segments);
        all.filter(|(segment, _)| !segment.moves.was_uploaded)
            .map(|(segment, _)| segment.clone())
            .collect()
    }

    fn sealed_segment(&self, stream: &str, segment_id: u64) -> Option<SealedSegment> {
        Some(self.segment(stream, segment_id).0)
    }

    fn is_unneeded(&self, _stream: &str, _segment_id: u64) -> bool {
        false
    }

    fn tier0_usage(&self) -> Tier0Usage {
        Tier0Usage::default()
    }

    fn tier0_budget(&self) -> (u64, u64) {
        (0, 0)
    }

    fn hot_copies(&self) -> Vec<HotCopy> {
        Vec::new()
    }

    fn without_warm_copy(&self) -> Vec<SealedSegment> {
        Vec::new()
    }

    fn ever_sealed(&self) -> Vec<SealedSegment> {
        let state = self.state.lock();
        let all = state.streams.values().flat_map(|stream| &stream.segments);
        all.map(|(segment, _)| segment.clone()).collect()
    }

    fn compressing_again(&self) -> Vec<SealedSegment> {
        let mut all = self.ever_sealed();
        all.retain(|segment| segment.moves.is_compressing_again);
        all
    }

    fn warm_copies(&self) -> Vec<WarmCopy> {
        Vec::new()
    }

    fn objects(&self, _is_confirmed: &dyn Fn(&str, u64) -> bool) -> Option<Objects> {
        None
    }

    fn open_bytes(&self) -> Vec<OpenBytes> {
        Vec::new()
    }

    fn evict_hot(&self, _stream: &str, _segment_id: u64) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn restore_hot(&self, _: &str, _: u64, _: Fill<'_>) -> Result<u64, RestoreError> {
        Ok(0)
    }

    fn readable_segments(&self, stream: &str) -> Option<Vec<SealedSegment>> {
        let state = self.state.lock();
        let found = state.streams.get(stream)?;
        let segments = found.segments.iter();
        Some(segments.map(|(segment, _)| segment.clone()).collect())
    }

    fn on_pressure(&self, _pressed: Box<dyn Fn() + Send + Sync>) {}

    fn note_held(&self, _held: String) {}

    fn read_below_with(&self, _lower: Arc<dyn LowerTiers>) {}

    fn segment_bytes(&self, stream: &str, segment_id: u64) -> Result<SealedBytes, ReadError> {
        Ok(Box::new(self.segment(stream, segment_id).1))
    }

    fn note_damage(&self, _stream: &str, segment_id: u64, problem: &str) -> String {
        self.state.lock().times_damaged += 1;
        format!("segment {segment_id}, all of it: {problem}")
    }

    fn commit(&self, stream: &str, segment_id: u64, record: TierRecord) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if state.refuses_commits {
            return Err(StoreError::Closed);
        }
        let name: Arc<str> = stream.into();
        let segments = &mut state.streams.get_mut(&name).expect("a stream").segments;
        let (segment, _) = segments
            .iter_mut()
            .find(|(segment, _)| segment.segment_id == segment_id)
            .expect("a segment");
        let SealedSegment { copies, moves, .. } = segment;
        match &record {
            TierRecord::CompressionStarted => {
                moves.compression_started = true;
                moves.is_compressing_again = copies.warm.is_some();
            }
            TierRecord::CompressionDone {
                compressed_bytes, ..
            } => {
                copies.warm = Some(*compressed_bytes);
                moves.is_compressing_again = false;
            }
            TierRecord::UploadStarted { key } => moves.upload_started = Some(key.clone()),
            TierRecord::UploadDone { key, etag } => {
                moves.upload_started = None;
                moves.was_uploaded = true;
                copies.cold = Some(ColdCopy {
                    key: key.clone(),
                    etag: etag.clone(),
                });
            }
            TierRecord::WarmEvicted { .. } => copies.warm = None,
            TierRecord::WarmHydrated { bytes } => copies.warm = Some(*bytes),
            TierRecord::HydrationStarted { .. } | TierRecord::HydrationFailed { .. } => {}
            TierRecord::CompressionFailed { reason } => {
                moves.note_failure(FailedStep::Compression, *reason);
            }
            TierRecord::UploadFailed { reason, .. } => {
                moves.upload_started = None;
                moves.note_failure(FailedStep::Upload, *reason);
            }
        }
        state.records.push((name, segment_id, record));
        Ok(())
    }

    fn on_sealed(&self, hook: SealHook) {
        self.state.lock().hooks.push(hook);
    }

    fn settle_volume_check(&self) -> Result<(), ClaimError> {
        Ok(())
    }

    fn keep_standing(&self) -> Result<(), ClaimError> {
        Ok(())
    }

    fn supersede(&self, stream: &str, to_epoch: u64) {
        self.state
            .lock()
            .superseded
            .push((stream.to_owned(), to_epoch));
    }

    fn watermarks(&self) -> Vec<Watermark> {
        let state = self.state.lock();
        let mark = |(name, stream): (&Arc<str>, &Stream)| {
            let sealed = stream.acked - stream.active.len() as u64;
            let first_missing = stream
                .segments
                .iter()
                .find(|(segment, _)| !segment.moves.was_uploaded);
            Watermark {
                is_damaged: false,
                damaged_end: None,
                stream: name.clone(),
                epoch: 1,
                acked: stream.acked,
                sealed,
                sealed_uploaded: first_missing.map_or(sealed, |(segment, _)| segment.base_sequence),
                unsealed_bytes: stream
                    .active
                    .iter()
                    .map(|payload| payload.len() as u64)
                    .sum(),
            }
        };
        state.streams.iter().map(mark).collect()
    }

    fn seal(&self, only: Option<&str>) -> Result<(), StoreError> {
        while self.state.lock().seals_hang {
            std::thread::park_timeout(Duration::from_millis(2));
        }
        let mut state = self.state.lock();
        let mut sealed = Vec::new();
        for (name, stream) in &mut state.streams {
            if only.is_none_or(|only| only == &**name) {
                sealed.extend(stream.seal(name));
            }
        }
        let hooks = state.hooks.clone();
        drop(state);
        for hook in hooks {
            sealed.iter().for_each(|segment| hook(segment));
        }
        Ok(())
    }

    fn close_admission(&self, reason: &str) {
        let mut state = self.state.lock();
        state.admission_closed = Some(reason.to_owned());
        let run = state.when_closing.take();
        drop(state);
        if let Some(run) = run {
            run();
        }
    }

    fn open_admission(&self) {
        self.state.lock().admission_closed = None;
    }
}

pub fn settings() -> Settings {
    Settings {
        compression_level: 3,
        block_bytes: 4096,
        upload_concurrency: 2,
        claim_check: Duration::from_secs(10),
        tier1_max_bytes: 0,
        hydrate_on_demand: true,
    }
}

/// Polls until it holds; fails after a minute, which a machine with other work may need, with what was waited for.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
