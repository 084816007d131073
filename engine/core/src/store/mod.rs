//! `Store`: the handle that callers hold. Each verb is one call into the part that does it.

mod admission;
mod append;
mod bases;
mod checkpoint;
pub mod cut;
pub(crate) mod delete;
mod evict;
pub(crate) mod merge;
mod open;
mod opener;
pub(crate) mod orphans;
pub(crate) mod pieces;
pub(crate) mod pipeline;
mod port;
mod report;
mod restore;
mod seal;
mod settle;
mod snapshot;
#[cfg(test)]
mod tests;
pub mod trim;
pub(crate) mod usage;
mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::io::sync::Mutex;
use crate::io::{ThreadHandle, sync};
use crate::volume::Identity;

pub(crate) use self::append::count_refusal;
pub use self::append::{Busy, MAX_APPEND_RECORDS};
use self::pipeline::Pipeline;
pub(crate) use self::snapshot::{StreamFacts, StreamNames};
use crate::config::Config;
use crate::error::ClaimError;
use crate::error::{AppendError, OpenError, ReadError, StoreError};
use crate::io::{DirectoryLock, Environment};
use crate::metrics::Metrics;
use crate::port::{
    Claims, SealHook, SealedSegment, SegmentBytes, TierRecord, VolumeIdentity, Watermark,
};
use crate::request::{
    AppendCallback, AppendRequest, Appended, ReadRequest, SegmentInfo, StreamInfo,
};
use crate::stream::read::Reader;
use crate::stream::{Quarantined, Stream};

pub struct OpenOptions {
    pub config: Config,
    pub identity: Identity,
    pub environment: Environment,
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
            environment: Environment::system(),
            claims: None,
            on_progress: None,
        }
    }
}

/// A callback that waits for a stream's watermark; dropped, it is called no more.
#[must_use]
pub struct DurableWait {
    stream: Arc<Stream>,
    id: u64,
    is_detached: bool,
}

impl DurableWait {
    /// It is called in any case.
    pub fn detach(mut self) {
        self.is_detached = true;
    }
}

impl Drop for DurableWait {
    fn drop(&mut self) {
        if !self.is_detached {
            self.stream.tails.leave(self.id);
        }
    }
}

/// A store that is open. Clones share it; it closes when the last one goes.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// The store's threads and the lock that they work under.
type Running = (Vec<ThreadHandle>, Box<dyn DirectoryLock>);

struct Inner {
    parts: open::Parts,
    /// `None` once closed.
    running: Mutex<Option<Running>>,
}

impl Store {
    pub fn open(options: OpenOptions) -> Result<Store, OpenError> {
        let open::Running {
            parts,
            threads,
            lock,
        } = open::open(options)?;
        Ok(Store {
            inner: Arc::new(Inner {
                parts,
                running: Mutex::new(Some((threads, lock))),
            }),
        })
    }

    fn parts(&self) -> &open::Parts {
        &self.inner.parts
    }

    fn pipeline(&self) -> &Pipeline {
        &self.inner.parts.pipeline
    }

    fn stream(&self, name: &str) -> Result<Arc<Stream>, ReadError> {
        self.pipeline()
            .streams
            .existing_named(name)
            .ok_or_else(|| ReadError::UnknownStream {
                stream: name.to_owned(),
            })
    }

    fn known(&self, name: &str) -> Result<Arc<Stream>, StoreError> {
        self.pipeline()
            .streams
            .existing_named(name)
            .ok_or_else(|| StoreError::UnknownStream {
                stream: name.to_owned(),
            })
    }

    pub fn identity(&self) -> &VolumeIdentity {
        &self.parts().admission.volume.identity
    }

    /// Blocks until the append is acknowledged or refused.
    pub fn append(&self, request: AppendRequest) -> Result<Appended, AppendError> {
        append::append(&self.parts().opener, request)
    }

    /// Blocks where blocks have to be allocated for the stream, for as long as the disk takes. Requests of one caller to one stream
    /// keep their order.
    pub fn append_with(&self, request: AppendRequest, on_done: AppendCallback) {
        append::append_with(&self.parts().opener, request, on_done);
    }

    /// The same for a caller that must not block: gives the append back where `append_with` might wait.
    pub fn try_append_with(
        &self,
        request: AppendRequest,
        on_done: AppendCallback,
    ) -> Result<(), Busy> {
        append::try_append_with(&self.parts().opener, request, on_done)
    }

    pub fn read(&self, request: ReadRequest) -> Result<Reader, ReadError> {
        let ReadRequest {
            stream,
            from_sequence,
            limit,
            include_staged,
        } = request;
        let stream = self.stream(&stream)?;
        Ok(Reader::new(
            self.pipeline().common.clone(),
            stream,
            from_sequence,
            limit,
            include_staged,
        ))
    }

    /// Calls back with the durable count once it is over `sequence`: at once if it is already. The callback must not block; it is
    /// dropped uncalled when the store closes or the answer of this is dropped.
    pub fn on_durable_beyond(
        &self,
        stream: &str,
        sequence: u64,
        callback: Box<dyn FnOnce(u64) + Send>,
    ) -> Result<DurableWait, ReadError> {
        let stream = self.stream(stream)?;
        if self.pipeline().common.space.is_closing() {
            return Err(ReadError::Closed);
        }
        let id = stream.tails.wait(sequence, || stream.durable(), callback);
        Ok(DurableWait {
            stream,
            id,
            is_detached: false,
        })
    }

    /// Blocks until the durable count is over `sequence` or the time is up; answers the durable count.
    pub fn wait_durable_beyond(
        &self,
        stream: &str,
        sequence: u64,
        timeout: Duration,
    ) -> Result<u64, ReadError> {
        let (answer, answered) = sync::answer();
        let _waits = self.on_durable_beyond(
            stream,
            sequence,
            Box::new(move |count| {
                // The waiter may have run out of time.
                answer.send(count);
            }),
        )?;
        match answered.wait_for(timeout) {
            Some(count) => Ok(count),
            None => Ok(self.stream(stream)?.durable()),
        }
    }

    /// Ordered by name.
    pub fn streams(&self) -> Vec<StreamInfo> {
        let has_claims = self.parts().admission.claims.is_some();
        self.pipeline()
            .streams
            .existing()
            .iter()
            .map(|stream| stream.info(has_claims))
            .collect()
    }

    pub fn describe(&self, stream: &str) -> Result<StreamInfo, ReadError> {
        Ok(self
            .stream(stream)?
            .info(self.parts().admission.claims.is_some()))
    }

    /// Last number of a producer that the stream holds durably; `None` where it holds none, or has forgotten the producer. May wait
    /// for a sync.
    pub fn last_producer_seq(
        &self,
        stream: &str,
        producer_id: u64,
    ) -> Result<Option<u64>, ReadError> {
        report::last_producer_seq(self.pipeline(), &self.stream(stream)?, producer_id)
    }

    /// Every record of a producer that the stream does not remember any more has a lower sequence; 0 = it remembers all.
    pub fn producers_forgotten_before(&self, stream: &str) -> Result<u64, ReadError> {
        let stream = self.stream(stream)?;
        Ok(stream.staged.lock().producers.forgotten_before())
    }

    /// Ordered by sequence.
    pub fn segments(&self, stream: &str) -> Result<Vec<SegmentInfo>, ReadError> {
        Ok(self.stream(stream)?.segment_infos())
    }

    /// Segments below the start of a stream whose objects are not deleted yet. Ordered by sequence.
    pub fn trimmed_segments(&self, stream: &str) -> Result<Vec<SegmentInfo>, ReadError> {
        Ok(self.stream(stream)?.trimmed_infos())
    }

    /// Seals what one stream (or every stream) holds now. Answers the count of sealed records per stream.
    pub fn seal(&self, stream: Option<&str>) -> Result<BTreeMap<String, u64>, StoreError> {
        let streams = match stream {
            Some(name) => vec![self.known(name)?],
            None => self.pipeline().streams.existing(),
        };
        settle::seal(self.pipeline(), &self.parts().sealer, &streams)
    }

    /// Makes everything staged now durable. Answers the durable count per stream.
    pub fn flush(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        settle::flush(self.pipeline())
    }

    /// Appends are refused as `Draining` from here on, also those that wait for a claim or a segment. When this returns, those that
    /// were not refused are staged.
    pub fn close_admission(&self, reason: &str) {
        self.pipeline().common.space.close_admission(reason);
    }

    pub fn open_admission(&self) {
        self.pipeline().common.space.open_admission();
    }

    /// Why appends are refused as `Draining`, if they are.
    pub fn admission_closed(&self) -> Option<String> {
        self.pipeline().common.space.admission_closed()
    }

    /// Takes over the hot keys. Restart keys keep their values of open.
    pub fn reconfigure(&self, config: Config) {
        let now = self.pipeline().common.config.load_full();
        self.pipeline()
            .common
            .config
            .store(Arc::new(now.with_hot_keys_of(config)));
    }

    pub fn config(&self) -> Arc<Config> {
        self.pipeline().common.config.load_full()
    }

    pub fn metrics(&self) -> Metrics {
        report::metrics(
            self.pipeline(),
            &self.parts().admission,
            self.parts().replay,
        )
    }

    /// What failed, once the store is poisoned.
    pub fn poisoned(&self) -> Option<String> {
        self.pipeline().common.poison.message()
    }

    /// Why this store serves nobody any more, although it is open: it is poisoned, or one of its threads has ended.
    pub fn failure(&self) -> Option<String> {
        if let Some(message) = self.poisoned() {
            return Some(message);
        }
        let running = self.inner.running.lock();
        let (threads, _) = running.as_ref()?;
        let ended = threads.iter().find(|thread| thread.is_finished())?;
        let name = ended.name();
        Some(format!("thread {name} ended"))
    }

    /// Called once, with what failed; at once if the store is poisoned already. The process should exit 74.
    pub fn on_poison(&self, callback: Box<dyn FnOnce(String) + Send>) {
        self.pipeline().common.poison.on_set(callback);
    }

    /// Called once, when Tier 2 is found to speak against this volume after the store was opened without it; at once if it was already.
    /// Every stream is quarantined then, and the store should be closed.
    pub fn on_refused(&self, callback: Box<dyn FnOnce(OpenError) + Send>) {
        self.parts().admission.on_refused(callback);
    }

    /// Stops admission, makes everything durable, stops the threads. The directory may be opened again after.
    pub fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }

    // --- for the tiers

    /// Sealed segments that are not uploaded, oldest first within a stream.
    pub fn sealed_segments_pending(&self) -> Vec<SealedSegment> {
        self.pipeline()
            .streams
            .existing()
            .iter()
            .flat_map(|stream| stream.pending_segments())
            .collect()
    }

    pub fn segment_bytes(&self, stream: &str, segment_id: u64) -> Result<SegmentBytes, ReadError> {
        let stream = self.stream(stream)?;
        let missing = || stream.not_resident(segment_id);
        let sealed = stream.sealed_entry(segment_id).ok_or_else(missing)?;
        let mapped = sealed.unread(|| stream.mapped(&self.pipeline().common, &sealed))?;
        let mapped = mapped.ok_or_else(missing)?;
        Ok(SegmentBytes {
            map: mapped.map.clone(),
            bytes: sealed.info.data_end as usize,
        })
    }

    /// A copy of this sealed segment could not be made for what its bytes are: finds out which sequences are lost, and answers what
    /// is known about the segment.
    pub fn note_damage(&self, stream: &str, segment_id: u64, problem: &str) -> String {
        let stream = self.pipeline().streams.existing_named(stream);
        let sealed = stream
            .as_ref()
            .and_then(|stream| Some((stream, stream.sealed_entry(segment_id)?)));
        match sealed {
            Some((stream, sealed)) => stream.survey(&self.pipeline().common, &sealed, problem),
            None => problem.to_owned(),
        }
    }

    /// Blocks until the record is durable in the stream's manifest.
    pub fn commit_manifest(
        &self,
        stream: &str,
        segment_id: u64,
        record: TierRecord,
    ) -> Result<(), StoreError> {
        let stream = self.known(stream)?;
        let is_output = || {
            let manifest = &stream.manifest;
            manifest.read(|state| state.residency.is_unsealed_output(segment_id))
        };
        if stream.sealed_segment(segment_id).is_none() && !is_output() {
            return Err(StoreError::UnknownSegment {
                stream: stream.name.to_string(),
                segment_id,
            });
        }
        let owned = stream.owned(self.pipeline());
        let uploaded =
            stream
                .manifest
                .commit_and_read(&owned, segment_id, vec![record.into()], |state| {
                    state.residency.uploaded_upto()
                })?;
        stream.uploaded.fetch_max(uploaded, Ordering::AcqRel);
        Ok(())
    }

    /// Ordered by name.
    pub fn watermarks(&self) -> Vec<Watermark> {
        self.pipeline()
            .streams
            .existing()
            .iter()
            .map(|stream| stream.watermark())
            .collect()
    }

    /// Adds a subscriber; there may be any number.
    pub fn on_sealed(&self, hook: SealHook) {
        self.parts().sealer.hooks.write().push(hook);
    }

    /// Makes the check of this volume that is owed to Tier 2, if it is. Before every publication. Blocks on Tier 2.
    pub fn settle_volume_check(&self) -> Result<(), ClaimError> {
        self.parts().admission.settle()
    }

    /// The same, and the next mark of this volume if it is due. Blocks on Tier 2.
    pub fn keep_standing(&self) -> Result<(), ClaimError> {
        self.parts().admission.keep()
    }

    /// Another owner was found in Tier 2: the stream refuses appends and reads from here on.
    pub fn supersede(&self, stream: &str, to_epoch: u64) {
        if let Some(stream) = self.pipeline().streams.existing_named(stream) {
            stream.staged.lock().quarantined = Some(Quarantined::Superseded { to: to_epoch });
        }
    }

    /// Where warm files lie.
    pub fn tier1_directory(&self) -> PathBuf {
        open::tier1_directory(&self.pipeline().common.config.load())
    }

    /// Its disk is watched, and its threads are the store's: a failed sync, a panic or a thread that cannot be started poisons it.
    pub fn environment(&self) -> &Environment {
        &self.pipeline().common.env
    }
}

impl Inner {
    fn close(&self) -> Result<(), StoreError> {
        let Some((threads, lock)) = self.running.lock().take() else {
            return Ok(());
        };
        let pipeline = &self.parts.pipeline;
        pipeline.common.space.begin_closing();
        let result = settle::before_exit(pipeline);
        open::stop(pipeline, threads);
        drop(lock);
        result
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "store was not closed cleanly; the next start recovers it");
        }
    }
}
