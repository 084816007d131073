//! Sealing: data synced, seal block written and synced, `SealSegment` committed; only then does the segment count as sealed.
//!
//! What the segment changed of the stream's producers is recorded with it, so that recovery needs to read no sealed segment.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aof2_format::checksum::Crc64Nvme;
use aof2_format::cut;
use aof2_format::manifest_record::ManifestEvent;
use aof2_format::segment::SegmentSeal;

use super::pipeline::Pipeline;
use crate::error::StoreError;
use crate::io::WriteError;
use crate::io::sync::{RwLock, Signal};
use crate::manifest::producer_table;
use crate::metrics::add;
use crate::port::SealHook;
use crate::segment::active::ActiveSegment;
use crate::segment::files;
use crate::segment::sealed::{Sealed, SealedInfo};
use crate::stream::work::SealWork;
use crate::stream::{Entry, Stream};

const READ_BYTES: usize = 1 << 20;

pub(crate) struct Sealer {
    pipeline: Arc<Pipeline>,
    /// Any number of subscribers.
    pub hooks: RwLock<Vec<SealHook>>,
    /// After each seal, whether it was done or not.
    pub changed: Signal,
}

impl Sealer {
    pub fn new(pipeline: Arc<Pipeline>) -> Sealer {
        Sealer {
            pipeline,
            hooks: RwLock::default(),
            changed: Signal::default(),
        }
    }

    /// The sealing thread.
    pub fn work(&self) {
        self.pipeline.work.seal.run(|work| self.run(work));
    }

    /// Does one seal. A failure of the disk poisons the store; a rejection leaves the seal for later.
    fn run(&self, work: SealWork) {
        if self.pipeline.common.poison.is_set() {
            return;
        }
        let rejected = &self.pipeline.work.rejected_seals;
        // In the order of its segments.
        if let Some(error) = rejected.ahead_of(&work) {
            rejected.add(work, error);
        } else {
            match self.seal(&work) {
                Ok(()) => rejected.done(&work),
                Err(SealError::Rejected(error)) => rejected.add(work, error),
                Err(SealError::Disk(error)) => self.pipeline.common.poison.set_by(&error),
            }
        }
        self.changed.notify_all();
    }

    fn seal(&self, work: &SealWork) -> Result<(), SealError> {
        let SealWork {
            stream,
            segment,
            end,
            end_sequence,
            chain,
            times,
            changes,
        } = work;
        let owned = stream.owned(&*self.pipeline);
        let mut parts = producer_table::encode(changes);
        // Asked first: the rest reads and writes a whole segment.
        stream
            .manifest
            .room_for(&owned, &parts)
            .map_err(SealError::of_manifest)?;
        if !self.write_all_of(stream, segment, *end)? {
            return Ok(());
        }
        let base_sequence = segment.base_sequence();
        let epoch = segment.epoch();
        let path = files::segment(&stream.directory, base_sequence, epoch, segment.id);
        let at = |verb: &'static str| {
            let path = path.clone();
            move |source: io::Error| SealError::from(WriteError { verb, path, source })
        };
        segment
            .name(&*self.pipeline.common.env.disk, &path)
            .map_err(at("rename"))?;
        segment.sync().map_err(at("sync"))?;
        let crc64 = checksum(segment, *end).map_err(at("read"))?;
        let sealed_unix_nanos = self.pipeline.common.env.clock.unix_nanos();
        let block = SegmentSeal {
            cluster_id: self.pipeline.common.ids.cluster_id,
            stream_uuid: stream.identity.uuid,
            segment_id: segment.id,
            epoch,
            base_sequence,
            end_sequence: *end_sequence,
            records: end_sequence - base_sequence,
            data_end: *end,
            crc64,
            chain: *chain,
            sealed_unix_nanos,
            flush_failure: false,
        };
        let info = SealedInfo {
            segment_id: segment.id,
            epoch,
            base_sequence,
            end_sequence: *end_sequence,
            data_end: *end,
            crc64,
        };
        segment
            .file
            .write_all_at(&block.encode(), SegmentSeal::offset(*end))
            .map_err(at("write"))?;
        segment
            .file
            .truncate(info.file_bytes())
            .map_err(at("truncate"))?;
        segment.file.sync_all().map_err(at("sync"))?;
        self.count_length(segment, info.file_bytes());

        // A segment that recovery found may be one that the manifest does not know: its bytes reached the file, and the process was
        // killed before the journal had the record of its opening.
        let is_known = stream
            .manifest
            .read(|state| state.residency.segment(segment.id).is_some());
        let opened = (!is_known).then_some(ManifestEvent::SegmentOpened {
            base_sequence,
            epoch,
        });
        let sealed = ManifestEvent::SealSegment {
            durable_bytes: *end,
            segment_crc64: crc64,
            ext_id: 0,
            watermark: *end_sequence,
            flush_failure: false,
            chain: *chain,
            first_unix_nanos: times.first_unix_nanos,
            last_unix_nanos: times.last_unix_nanos,
            sealed_unix_nanos,
        };
        let last = parts.pop();
        // Each in a commit of its own: together they may be more than a commit of the journal takes. They count from the seal on.
        let parts = parts.into_iter().map(|part| vec![part]);
        let cut = stream
            .cut
            .as_ref()
            .filter(|cut| cut.gap_segment_id() == segment.id);
        let cut = cut.map(|cut| ManifestEvent::CustomEvent {
            schema_id: cut::SCHEMA_ID,
            blob: cut.encode(),
        });
        let before = opened.into_iter().chain(cut).chain(last);
        let events = before.chain([sealed]).collect();
        for events in parts.chain([events]) {
            stream
                .manifest
                .commit(&owned, segment.id, events)
                .map_err(SealError::of_manifest)?;
        }
        let index = segment.index.lock().clone();
        let sealed = Arc::new(Sealed::new(info, path, Some(index)));
        replace(stream, segment, sealed);
        stream.sealed.fetch_max(*end_sequence, Ordering::AcqRel);
        if let Some(_publishing) = self.pipeline.common.poison.publish() {
            stream.publish_durable(*end_sequence);
        }
        self.pipeline
            .checkpoint
            .forget_segment(stream.identity.number, segment.id);
        add(&self.pipeline.common.counters.segments_sealed, 1);
        let hooks = self.hooks.read().clone();
        if let Some(sealed) = stream.sealed_segment(segment.id) {
            for hook in hooks {
                hook(&sealed);
            }
        }
        Ok(())
    }

    /// What the file takes from here on. One that recovery found may have had no blocks for its seal: its length of before was lost with
    /// the power, and the journal made it as long as its records.
    fn count_length(&self, segment: &ActiveSegment, file_bytes: u64) {
        let allocated = segment.allocated();
        let space = &self.pipeline.common.space;
        segment.note_length(file_bytes);
        space.add_segment(file_bytes.saturating_sub(allocated));
        space.remove_segment(allocated.saturating_sub(file_bytes));
    }

    /// Gets every byte of the segment into its file. False when the store ends first.
    fn write_all_of(
        &self,
        stream: &Arc<Stream>,
        segment: &ActiveSegment,
        end: u64,
    ) -> Result<bool, SealError> {
        loop {
            stream.write_out(&*self.pipeline, true)?;
            if segment.written() >= end {
                return Ok(true);
            }
            // A round is going to take some of it; after that it may leave memory.
            let round = stream.staged.lock().round;
            if round != 0 && self.pipeline.journal.wait(round).is_err() {
                return Ok(false);
            }
            if self.pipeline.common.poison.is_set() {
                return Ok(false);
            }
        }
    }
}

/// Why a segment is not sealed.
enum SealError {
    /// Nothing is lost: it is tried again.
    Rejected(StoreError),
    Disk(WriteError),
}

impl From<WriteError> for SealError {
    fn from(error: WriteError) -> SealError {
        let what = format!("the seal of {}", error.path.display());
        match StoreError::of_lack(&error.source, what) {
            Some(rejected) => SealError::Rejected(rejected),
            None => SealError::Disk(error),
        }
    }
}

impl SealError {
    /// Where the store is poisoned or the stream damaged, that has been told, and the next start tries again.
    fn of_manifest(error: StoreError) -> SealError {
        SealError::Rejected(error)
    }
}

fn checksum(segment: &ActiveSegment, end: u64) -> io::Result<u64> {
    let mut crc = Crc64Nvme::default();
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = 0;
    while offset < end {
        let part = buffer.len().min((end - offset) as usize);
        let read = segment.file.read_at(&mut buffer[..part], offset)?;
        if read < part {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        crc.update(&buffer[..part]);
        offset += part as u64;
    }
    Ok(crc.finish())
}

fn replace(stream: &Stream, segment: &Arc<ActiveSegment>, sealed: Arc<Sealed>) {
    let mut segments = stream.segments.write();
    for entry in segments.iter_mut() {
        if matches!(entry, Entry::Open(open) if open.id == segment.id) {
            *entry = Entry::Sealed(sealed);
            return;
        }
    }
}
