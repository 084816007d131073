//! Adjacent sealed segments become one. Order: the manifest says that it is begun -> the file, whole and compared -> whoever asked for it
//! brings it to Tier 2 -> one record swaps it for its inputs -> their files go. A start removes what was not finished, and what the swap
//! dropped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aof2_format::compaction::{self, Compaction, Inputs, Output};
use aof2_format::manifest_record::ManifestEvent;
use aof2_format::volume::MERGES_VERSION;
use thiserror::Error;

use super::Store;
use crate::common::Common;
use crate::config::MIB;
use crate::error::{ReadError, StoreError};
use crate::io::sync::MutexGuard;
use crate::port::{FailureReason, RecordTimes, SealedSegment, SegmentBytes};
use crate::segment::files;
use crate::segment::merge::{self, Identity, Input, Made, MergeFileError};
use crate::segment::sealed::Sealed;
use crate::stream::{Entry, Stream};

/// Written between two waits for the disk: an append never has more than this of a merge before it.
const STEP_BYTES: u64 = 4 * MIB;
/// Longest of these waits.
const STEP_WAIT: Duration = Duration::from_secs(1);

/// Why segments are not merged.
#[derive(Debug, Error)]
pub(crate) enum MergeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    File(MergeFileError),
    #[error("cannot read what is to be merged")]
    Read(#[from] ReadError),
    #[error("Tier 0 has no room for {bytes} bytes of merged segments")]
    NoRoom { bytes: u64 },
    /// What was planned holds no more: trimmed, evicted, or merged already.
    #[error("segments of stream {stream} changed before they were merged")]
    Changed { stream: String },
}

impl From<MergeFileError> for MergeError {
    fn from(error: MergeFileError) -> MergeError {
        match &error {
            MergeFileError::Disk { path, source, .. } => {
                let what = path.display().to_string();
                match StoreError::of_lack(source, what) {
                    Some(lack) => MergeError::Store(lack),
                    None => MergeError::File(error),
                }
            }
            MergeFileError::Input { .. }
            | MergeFileError::Differs { .. }
            | MergeFileError::Interrupted => MergeError::File(error),
        }
    }
}

/// A merge that was begun. Its room is reserved for as long as this is held, and for good once it is done.
pub(crate) struct Merging {
    stream: Arc<Stream>,
    pub output_id: u64,
    inputs: Inputs,
    sealed: Vec<Arc<Sealed>>,
    times: RecordTimes,
    sealed_unix_nanos: i64,
    room: Room,
}

struct Room {
    common: Arc<Common>,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.common.space.remove_segment(self.bytes);
    }
}

/// The output's file, which does not count yet.
pub(crate) struct MergedFile {
    made: Made,
    path: PathBuf,
    /// As it will be, with what was tried of it so far.
    pub segment: SealedSegment,
}

/// What a swap has replaced.
#[derive(Debug)]
pub(crate) struct Replaced {
    /// With the copies that they had.
    pub inputs: Vec<SealedSegment>,
    /// Of the output's file.
    pub bytes: u64,
}

impl Store {
    /// Reserves the room and says in the manifest which segments become which one; the same that was begun before goes on. Blocks until
    /// that is durable.
    pub(crate) fn begin_merge(
        &self,
        stream: &str,
        segment_ids: &[u64],
    ) -> Result<Merging, MergeError> {
        let stream = self.known(stream)?;
        let changed = || MergeError::Changed {
            stream: stream.name.to_string(),
        };
        let sealed = segment_ids.iter().map(|id| stream.sealed_entry(*id));
        let sealed: Vec<Arc<Sealed>> = sealed.collect::<Option<_>>().ok_or_else(changed)?;
        let (Some(first), Some(last)) = (sealed.first(), sealed.last()) else {
            return Err(changed());
        };
        let inputs = Inputs {
            base_sequence: first.info.base_sequence,
            end_sequence: last.info.end_sequence,
            epoch: first.info.epoch,
            segment_ids: segment_ids.to_vec(),
        };
        let (bytes, _) = merge::file_bytes(sealed.iter().map(|it| it.info.data_end));
        let common = &self.pipeline().common;
        if !common.space.take_for_copy(bytes, 0) {
            return Err(MergeError::NoRoom { bytes });
        }
        let room = Room {
            common: common.clone(),
            bytes,
        };
        let (known, seals) = stream.manifest.read(|state| {
            let residency = &state.residency;
            let begun = residency.unfinished().filter(|it| it.inputs == inputs);
            let seals = residency.are_sealed(&inputs).then(|| {
                let seals = segment_ids
                    .iter()
                    .filter_map(|id| residency.segment(*id)?.seal);
                seals.collect::<Vec<_>>()
            });
            (begun.map(|it| it.output_id), seals)
        });
        let seals = seals.ok_or_else(changed)?;
        let output_id = match known {
            Some(id) => id,
            None => {
                // An engine that passes over what follows would serve inputs whose files are gone.
                self.parts().admission.require_version(MERGES_VERSION)?;
                let id = stream.staged.lock().allocate_segment_id();
                self.commit_compaction(&stream, id, &Compaction::Begun(inputs.clone()))?;
                id
            }
        };
        let first_times = seals.iter().map(|seal| seal.times.first_unix_nanos);
        let last_times = seals.iter().map(|seal| seal.times.last_unix_nanos);
        let sealed_at = seals.iter().map(|seal| seal.sealed_unix_nanos);
        Ok(Merging {
            times: RecordTimes {
                first_unix_nanos: first_times.min().unwrap_or_default(),
                last_unix_nanos: last_times.max().unwrap_or_default(),
            },
            sealed_unix_nanos: sealed_at.max().unwrap_or_default(),
            stream,
            output_id,
            inputs,
            sealed,
            room,
        })
    }

    /// Makes the file. `may_go_on` is asked between its parts. Blocks on the disk, after what appends have for it.
    pub(crate) fn write_merged(
        &self,
        merging: &Merging,
        may_go_on: &dyn Fn() -> bool,
    ) -> Result<MergedFile, MergeError> {
        let Merging {
            stream,
            output_id,
            inputs,
            sealed,
            times,
            sealed_unix_nanos,
            room: _,
        } = merging;
        let common = &self.pipeline().common;
        let read = sealed.iter().map(|sealed| {
            let mapped = sealed.unread(|| stream.mapped(common, sealed))?;
            let mapped = mapped.ok_or_else(|| MergeError::Changed {
                stream: stream.name.to_string(),
            })?;
            Ok(Input {
                info: sealed.info.clone(),
                bytes: mapped.bytes.clone(),
            })
        });
        let read = read.collect::<Result<Vec<_>, MergeError>>()?;
        let path = files::segment(
            &stream.directory,
            inputs.base_sequence,
            inputs.epoch,
            *output_id,
        );
        let identity = Identity {
            segment_id: *output_id,
            sealed_unix_nanos: *sealed_unix_nanos,
        };
        let mut since = 0;
        let made = merge::merge(
            &*common.env.disk,
            &path,
            &identity,
            &read,
            &mut |file, offset, length| {
                common.pacer.push(file, offset, length);
                since += length;
                if since >= STEP_BYTES {
                    since = 0;
                    common.pacer.drain(common.env.clock.monotonic() + STEP_WAIT);
                }
                may_go_on()
            },
        )?;
        let tried = self.unsealed_output(&stream.shared_name, *output_id)?;
        let segment = SealedSegment {
            stream: stream.shared_name.clone(),
            segment_id: *output_id,
            epoch: made.info.epoch.into(),
            base_sequence: made.info.base_sequence,
            records: made.info.end_sequence - made.info.base_sequence,
            bytes: made.info.data_end,
            crc64: made.info.crc64,
            times: *times,
            sealed_unix_nanos: *sealed_unix_nanos,
            copies: Default::default(),
            moves: tried.map(|output| output.moves).unwrap_or_default(),
            compressed_bytes: None,
        };
        Ok(MergedFile {
            made,
            path,
            segment,
        })
    }

    /// Bytes of the output, for its way down.
    pub(crate) fn merged_bytes(&self, file: &MergedFile) -> Result<SegmentBytes, MergeError> {
        let failed = |source| MergeFileError::Disk {
            verb: "map",
            path: file.path.clone(),
            source,
        };
        let bytes = file.made.info.data_end;
        let disk = &self.pipeline().common.env.disk;
        let opened = disk.open_read(&file.path).map_err(failed)?;
        let map = opened.map(bytes).map_err(failed)?;
        Ok(SegmentBytes {
            map: Arc::new(map),
            bytes: bytes as usize,
        })
    }

    /// The file of an output that is not to count after all.
    pub(crate) fn discard_merged(&self, file: &MergedFile) {
        let path = file.path.display();
        if let Err(error) = self.pipeline().common.env.disk.unlink(&file.path) {
            tracing::warn!("cannot remove unfinished {path}: {error}");
        }
    }

    /// The swap: from here on the output counts and the inputs do not, for readers and in the manifest. `object_bytes`: of its object,
    /// 0 without one. Blocks until it is durable. The file of an output that is not swapped is removed, unless nobody can tell whether
    /// it was.
    pub(crate) fn commit_merged(
        &self,
        merging: Merging,
        file: MergedFile,
        object_bytes: u64,
    ) -> Result<Replaced, MergeError> {
        let Merging {
            stream,
            output_id,
            inputs,
            sealed: _,
            times,
            sealed_unix_nanos,
            mut room,
        } = merging;
        let changed = || MergeError::Changed {
            stream: stream.name.to_string(),
        };
        let _start: MutexGuard<'_, ()> = stream.start.lock();
        let _evicting: MutexGuard<'_, ()> = self.parts().evicting.lock();
        let (info, index) = (file.made.info.clone(), file.made.index.clone());
        let made = Arc::new(Sealed::new(info, file.path.clone(), Some(index)));
        // Readers first: whoever has an input in hand finds the output where that is gone.
        let swapped = self
            .still_holds(&stream, output_id, &inputs)
            .and_then(|before| Some((before, swap(&stream, &inputs.segment_ids, &made)?)));
        let Some((before, swapped)) = swapped else {
            self.discard_merged(&file);
            return Err(changed());
        };
        let output = Output {
            durable_bytes: file.made.info.data_end,
            segment_crc64: file.made.info.crc64,
            object_bytes,
            first_unix_nanos: times.first_unix_nanos,
            last_unix_nanos: times.last_unix_nanos,
            sealed_unix_nanos,
            chain: file.made.chain,
        };
        let event = Compaction::Merged(inputs.clone(), output);
        match self.commit_compaction(&stream, output_id, &event) {
            Ok(()) => {}
            // The record may be durable: the next start tells which of them are files of segments.
            Err(error @ StoreError::Poisoned { .. }) => return Err(error.into()),
            Err(error) => {
                swap_back(&stream, &made, swapped);
                made.retire();
                self.discard_merged(&file);
                return Err(error.into());
            }
        }
        let bytes = std::mem::take(&mut room.bytes);
        stream.damage.forget_segments(&inputs.segment_ids);
        for input in swapped.iter().filter(|input| input.is_hot()) {
            self.remove_dropped(&stream, input);
        }
        Ok(Replaced {
            inputs: before,
            bytes,
        })
    }

    /// The inputs, where what was planned holds: none was trimmed, and the output is as safe as each of them.
    fn still_holds(
        &self,
        stream: &Stream,
        output_id: u64,
        inputs: &Inputs,
    ) -> Option<Vec<SealedSegment>> {
        let has_tier2 = self.pipeline().common.has_tier2;
        stream.manifest.read(|state| {
            let residency = &state.residency;
            let is_begun = residency.unfinished().is_some_and(|unfinished| {
                unfinished.output_id == output_id && unfinished.inputs == *inputs
            });
            let is_cold = |id: &u64| {
                let segment = residency.segment(*id);
                segment.is_some_and(|segment| segment.copies.cold.is_some())
            };
            let mut all = inputs.segment_ids.iter().chain([&output_id]);
            let holds = is_begun
                && residency.are_sealed(inputs)
                && all.all(|id| is_cold(id) == has_tier2 && !residency.is_trimmed(*id));
            let ids = inputs.segment_ids.iter();
            let sealed = ids.map(|id| residency.sealed_segment(&stream.shared_name, *id));
            sealed.collect::<Option<_>>().filter(|_| holds)
        })
    }

    /// A try failed. Said once for each reason.
    pub(crate) fn note_merge_failed(
        &self,
        stream: &str,
        output_id: u64,
        reason: FailureReason,
    ) -> Result<(), StoreError> {
        let stream = self.known(stream)?;
        let is_new = stream.manifest.read(|state| {
            let unfinished = state.residency.unfinished();
            unfinished.is_some_and(|it| it.output_id == output_id && !it.failures.contains(&reason))
        });
        let reason = reason.into();
        match is_new {
            true => self.commit_compaction(&stream, output_id, &Compaction::Failed { reason }),
            false => Ok(()),
        }
    }

    /// It will never be sealed. Does nothing where it is none that was begun.
    pub(crate) fn give_up_merge(&self, stream: &str, output_id: u64) -> Result<(), StoreError> {
        let stream = self.known(stream)?;
        let is_begun = stream.manifest.read(|state| {
            let unfinished = state.residency.unfinished();
            unfinished.is_some_and(|it| it.output_id == output_id)
        });
        match is_begun {
            true => self.commit_compaction(&stream, output_id, &Compaction::GivenUp),
            false => Ok(()),
        }
    }

    /// An output that is not sealed, as far as it can be told without its file: who it is, and what was tried of it. Its length and checksum
    /// are 0. `None`: there is no such output.
    pub(crate) fn unsealed_output(
        &self,
        stream: &str,
        segment_id: u64,
    ) -> Result<Option<SealedSegment>, StoreError> {
        let stream = self.known(stream)?;
        Ok(stream.manifest.read(|state| {
            let residency = &state.residency;
            let segment = residency.segment(segment_id)?;
            let merge = segment.merge.filter(|_| segment.seal.is_none())?;
            Some(SealedSegment {
                stream: stream.shared_name.clone(),
                segment_id,
                epoch: segment.epoch.into(),
                base_sequence: segment.base_sequence,
                records: merge.end_sequence - segment.base_sequence,
                bytes: 0,
                crc64: 0,
                times: RecordTimes::default(),
                sealed_unix_nanos: 0,
                copies: segment.copies.clone(),
                moves: segment.moves.clone(),
                compressed_bytes: None,
            })
        }))
    }

    fn commit_compaction(
        &self,
        stream: &Arc<Stream>,
        output_id: u64,
        event: &Compaction,
    ) -> Result<(), StoreError> {
        let event = ManifestEvent::CustomEvent {
            schema_id: compaction::SCHEMA_ID,
            blob: event.encode(),
        };
        let owned = stream.owned(self.pipeline());
        stream.manifest.commit(&owned, output_id, vec![event])
    }
}

/// The output takes the place of these in what readers reach. Answers them; `None`: they do not lie there one behind the other.
fn swap(stream: &Stream, segment_ids: &[u64], made: &Arc<Sealed>) -> Option<Vec<Arc<Sealed>>> {
    let mut segments = stream.segments.write();
    let first = segments
        .iter()
        .position(|entry| Some(&entry.id()) == segment_ids.first())?;
    let range = first..first + segment_ids.len();
    let inputs = segments
        .get(range.clone())?
        .iter()
        .map(|entry| match entry {
            Entry::Sealed(sealed) => Some(sealed.clone()),
            Entry::Open(_) => None,
        });
    let inputs: Vec<Arc<Sealed>> = inputs.collect::<Option<_>>()?;
    let ids = inputs.iter().map(|input| input.info.segment_id);
    if !ids.eq(segment_ids.iter().copied()) {
        return None;
    }
    let used = inputs.iter().map(|input| input.used()).max();
    made.note_used_at(used.unwrap_or(0));
    segments.splice(range, [Entry::Sealed(made.clone())]);
    Some(inputs)
}

fn swap_back(stream: &Stream, made: &Sealed, inputs: Vec<Arc<Sealed>>) {
    let mut segments = stream.segments.write();
    let id = made.info.segment_id;
    if let Some(at) = segments.iter().position(|entry| entry.id() == id) {
        segments.splice(at..=at, inputs.into_iter().map(Entry::Sealed));
    }
}
