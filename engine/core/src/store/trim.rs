//! Moving the start of a stream: records below it are gone for readers from the record in the manifest on, whatever copies are
//! still there. Copies on this node leave after it, segment by segment, each with a record of its own first; a start removes what
//! is left of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aof2_format::manifest_record::{LocalCopy, ManifestEvent};
use aof2_format::start_sequence::{self, StartReason, StartSequence};
use thiserror::Error;

use super::Store;
use crate::dropped::Dropped;
use crate::error::{ReadError, StoreError};
use crate::io::sync::MutexGuard;
use crate::manifest::state::ManifestState;
use crate::metrics::add;
use crate::port::SealedSegment;
use crate::residency::SealedExtent;
use crate::stream::{Entry, Quarantined, Stream};

/// Called where the start of a stream moved: must not block.
pub(crate) type TrimHook = Box<dyn Fn() + Send + Sync>;

/// Why the start of a stream is not moved.
#[derive(Debug, Error)]
pub enum TrimError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    NotServed(ReadError),
    #[error(
        "stream {stream} cannot be trimmed before {before}: its records are sealed up to {sealed}, and the next one is {next}; trim before {sealed} at most, or run `aof2-admin seal --stream {stream}` first"
    )]
    NotSealed {
        stream: String,
        before: u64,
        sealed: u64,
        next: u64,
    },
    #[error(
        "stream {stream} cannot be trimmed before {before}: its next record is {next}; trim before {sealed} at most"
    )]
    BeyondEnd {
        stream: String,
        before: u64,
        sealed: u64,
        next: u64,
    },
}

/// What a trim takes, or has taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trim {
    pub stream: String,
    /// Of the first record that can be read: now, or after the trim.
    pub first_sequence: u64,
    /// Sequences that cannot be read any more.
    pub records: u64,
    /// Segments that lie wholly below, and what they hold on this node.
    pub segments: u64,
    pub node_bytes: u64,
    /// Of these segments, those with an object in Tier 2. It goes after its grace, unless a snapshot names it.
    pub objects: u64,
    /// The last sequence that a trim can name now.
    pub sealed_sequence: u64,
}

impl Store {
    /// What a trim of this stream would take. Changes nothing.
    pub fn possible_trim(&self, stream: &str, before: u64) -> Result<Trim, TrimError> {
        let stream = self.known(stream)?;
        check(&stream, before)?;
        Ok(trim_of(&stream, before))
    }

    /// Records below `before` cannot be read any more. Durable when it returns; a start that is there already stays. Answers what it
    /// took.
    pub fn trim(&self, stream: &str, before: u64, reason: StartReason) -> Result<Trim, TrimError> {
        let stream = self.known(stream)?;
        check(&stream, before)?;
        let trim = trim_of(&stream, before);
        if trim.records > 0 {
            let start = StartSequence {
                start_sequence: before,
                reason,
            };
            let event = ManifestEvent::CustomEvent {
                schema_id: start_sequence::SCHEMA_ID,
                blob: start.encode().to_vec(),
            };
            let owned = stream.owned(self.pipeline());
            let _start = stream.start.lock();
            // Of no segment.
            let committed = stream
                .manifest
                .commit_and_read(&owned, 0, vec![event], uploaded_upto);
            let before_it = publish(&stream, before, committed?);
            forget_trimmed(&stream, before);
            let counters = &self.pipeline().common.counters;
            let counter = match reason {
                StartReason::Trim => &counters.trimmed_records,
                StartReason::Retention => &counters.expired_records,
            };
            add(counter, before.saturating_sub(before_it));
            let Trim {
                records, segments, ..
            } = trim;
            tracing::info!(stream = %stream.name, first_sequence = before, records, segments, ?reason, "stream trimmed");
        }
        // Also where it was trimmed before: an earlier process may have left copies.
        if let Some(hook) = &*self.parts().on_trimmed.read() {
            hook();
        }
        Ok(trim)
    }

    pub(crate) fn on_trimmed(&self, hook: TrimHook) {
        *self.parts().on_trimmed.write() = Some(hook);
    }

    /// Names of streams with segments that nobody needs and that still have a copy on this node.
    pub(crate) fn streams_with_trimmed_copies(&self) -> Vec<Arc<str>> {
        let streams = self.pipeline().streams.existing();
        let has_copies = |stream: &&Arc<Stream>| {
            let manifest = &stream.manifest;
            manifest.read(|state| state.residency.has_leaving_on_node())
        };
        let found = streams.iter().filter(has_copies);
        found.map(|stream| stream.shared_name.clone()).collect()
    }

    /// The first ones, `most` at most.
    pub(crate) fn trimmed_on_node(
        &self,
        stream: &str,
        most: usize,
    ) -> Result<Vec<SealedSegment>, StoreError> {
        let stream = self.known(stream)?;
        let name = &stream.shared_name;
        Ok(stream
            .manifest
            .read(|state| state.residency.leaving_on_node(name, most)))
    }

    /// Drops the copy in Tier 0 of a segment that nobody needs. Blocks on the manifest.
    pub(crate) fn drop_trimmed(
        &self,
        stream: &str,
        segment_id: u64,
    ) -> Result<Dropped, StoreError> {
        let stream = self.known(stream)?;
        let _evicting: MutexGuard<'_, ()> = self.parts().evicting.lock();
        let found = stream.manifest.read(|state| {
            let residency = &state.residency;
            let segment = residency.sealed_segment(&stream.shared_name, segment_id)?;
            let is_there = !residency.is_needed(segment_id) && segment.copies.hot;
            is_there.then_some((segment, residency.start_sequence()))
        });
        let Some((segment, start)) = found else {
            return Ok(Dropped::Nothing);
        };
        let dropped = ManifestEvent::LocalEvicted {
            copy: LocalCopy::Hot,
            bytes: segment.bytes,
        };
        let owned = stream.owned(self.pipeline());
        let committed =
            stream
                .manifest
                .commit_and_read(&owned, segment_id, vec![dropped], uploaded_upto);
        // Durable before that, though whoever committed it may not have said so yet.
        publish(&stream, start, committed?);
        // Where there is none, the start of this process removed the file.
        let Some(sealed) = stream.sealed_entry(segment_id) else {
            return Ok(Dropped::Nothing);
        };
        Ok(self.remove_dropped(&stream, &sealed))
    }

    /// The first sealed segments that hold a readable record, `most` at most, ascending, and the bytes of all that can be read.
    pub(crate) fn sealed_from_start(
        &self,
        stream: &str,
        most: usize,
    ) -> Result<(Vec<SealedExtent>, u64), StoreError> {
        let stream = self.known(stream)?;
        let sealed_upto = stream.sealed.load(Ordering::Acquire);
        let (sealed, sealed_bytes) = stream.manifest.read(|state| {
            let residency = &state.residency;
            let readable = residency
                .readable()
                .take_while(|(_, _, seal)| seal.end_sequence <= sealed_upto);
            let extents = readable.take(most).map(|(_, _, seal)| SealedExtent {
                end_sequence: seal.end_sequence,
                bytes: seal.data_end,
                newest_unix_nanos: seal.times.last_unix_nanos,
            });
            (
                extents.collect(),
                residency.readable_bytes_upto(sealed_upto),
            )
        });
        Ok((sealed, sealed_bytes + stream.unsealed_bytes()))
    }

    /// Names of all streams, in their order.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        let streams = self.pipeline().streams.existing();
        let names = streams.iter().map(|stream| stream.shared_name.clone());
        let mut names: Vec<Arc<str>> = names.collect();
        names.sort();
        names
    }

    /// The newest time that the start of this process found stored with the streams; `None` = there were none.
    pub(crate) fn newest_record_unix_nanos(&self) -> Option<i64> {
        self.parts().newest_record_unix_nanos
    }

    /// Entries of trimmed segments without a file leave the list of what readers can reach.
    pub(crate) fn forget_trimmed(&self, stream: &str) -> Result<(), StoreError> {
        let stream = self.known(stream)?;
        let start = stream
            .manifest
            .read(|state| state.residency.start_sequence());
        forget_trimmed(&stream, start.min(stream.first.load(Ordering::Acquire)));
        Ok(())
    }
}

/// Whatever the sequence is.
pub(super) fn can_be_trimmed(quarantined: Option<&Quarantined>) -> bool {
    match quarantined {
        Some(Quarantined::Superseded { .. } | Quarantined::Refused { .. }) => false,
        Some(Quarantined::Damaged { .. } | Quarantined::Gone) | None => true,
    }
}

fn check(stream: &Stream, before: u64) -> Result<(), TrimError> {
    let (next, quarantined) = {
        let staged = stream.staged.lock();
        (staged.next_sequence, staged.quarantined.clone())
    };
    let name = || stream.name.to_string();
    match quarantined {
        Some(Quarantined::Superseded { to }) => {
            return Err(TrimError::NotServed(ReadError::Superseded {
                stream: name(),
                from: stream.epoch().into(),
                to,
            }));
        }
        Some(Quarantined::Refused { reason, message }) => {
            return Err(TrimError::NotServed(ReadError::VolumeRefused {
                stream: name(),
                reason,
                message: message.to_string(),
            }));
        }
        Some(Quarantined::Damaged { .. } | Quarantined::Gone) | None => {}
    }
    let sealed = stream.sealed.load(Ordering::Acquire);
    if before > next {
        return Err(TrimError::BeyondEnd {
            stream: name(),
            before,
            sealed,
            next,
        });
    }
    if before > sealed {
        return Err(TrimError::NotSealed {
            stream: name(),
            before,
            sealed,
            next,
        });
    }
    Ok(())
}

fn trim_of(stream: &Stream, before: u64) -> Trim {
    let first = stream.first.load(Ordering::Acquire);
    let (mut segments, mut node_bytes, mut objects) = (0, 0, 0);
    stream.manifest.read(|state| {
        let readable = state.residency.readable();
        for (_, segment, seal) in readable.take_while(|(_, _, seal)| seal.end_sequence <= before) {
            segments += 1;
            node_bytes += if segment.copies.hot { seal.data_end } else { 0 };
            node_bytes += segment.copies.warm.unwrap_or(0);
            objects += u64::from(segment.copies.cold.is_some());
        }
    });
    Trim {
        stream: stream.name.to_string(),
        first_sequence: before.max(first),
        records: before.saturating_sub(first),
        segments,
        node_bytes,
        objects,
        sealed_sequence: stream.sealed.load(Ordering::Acquire),
    }
}

fn uploaded_upto(state: &ManifestState) -> u64 {
    state.residency.uploaded_upto()
}

/// Readers are told from here on. Both are durable. Answers where the stream began before.
fn publish(stream: &Stream, start: u64, uploaded: u64) -> u64 {
    let before = stream.first.fetch_max(start, Ordering::AcqRel);
    stream.uploaded.fetch_max(uploaded, Ordering::AcqRel);
    stream.damage.forget_below(start);
    before
}

fn forget_trimmed(stream: &Stream, start: u64) {
    let mut segments = stream.segments.write();
    segments.retain(|entry| match entry {
        Entry::Sealed(sealed) => sealed.info.end_sequence > start || sealed.is_hot(),
        Entry::Open(_) => true,
    });
}
