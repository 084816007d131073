//! A segment that still takes records: positioned writes into blocks that are allocated ahead.
//!
//! Bytes at an offset are given once and never rewritten. `allocated >= staged tail >= written >= synced` holds at all times;
//! a byte is staged only where blocks are allocated, so a full disk is met before anything is acknowledged.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::io::sync::Mutex;

use super::index::SparseIndex;
use crate::admit::{Refusal, Space};
use crate::config::MIB;
use crate::io::{Disk, DiskFile, FileClass, WriteError, create_whole};

/// First allocation: a header, a small batch and a seal. An idle stream has no more.
pub(crate) const FIRST_ALLOCATION_BYTES: u64 = 16 << 10;
/// A stream that goes on gets to a mebibyte in two steps; from there each allocation doubles the file up to the target.
const FIRST_STEPS: u64 = 8;

#[derive(Debug)]
pub(crate) struct ActiveSegment {
    pub id: u64,
    pub file: Arc<dyn DiskFile>,
    /// Set when the segment takes its first record: sequence of that record.
    base_sequence: AtomicU64,
    allocated: AtomicU64,
    /// Offset behind the last batch that was staged.
    staged: AtomicU64,
    written: AtomicU64,
    synced: AtomicU64,
    /// By the monotonic clock: a wall clock that steps must not stop `segment.max_age`.
    opened: Mutex<Option<Instant>>,
    epoch: AtomicU32,
    pub index: Mutex<SparseIndex>,
    /// Where the file is as long as it does not have its own name.
    spare: Mutex<Option<PathBuf>>,
}

/// Why a segment could not be created or grown.
#[derive(Debug)]
pub(crate) enum GrowError {
    Refused(Refusal),
    Disk {
        verb: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl ActiveSegment {
    /// A synced, empty file with its first blocks. Its header and its name come with its first record.
    pub fn create(
        disk: &dyn Disk,
        space: &Space,
        spare: &Path,
        id: u64,
    ) -> Result<Arc<ActiveSegment>, GrowError> {
        space
            .take(FIRST_ALLOCATION_BYTES)
            .map_err(GrowError::Refused)?;
        let made = Self::create_file(disk, spare);
        match made {
            Ok(file) => {
                let segment = ActiveSegment::of(file, id, FIRST_ALLOCATION_BYTES);
                *segment.spare.lock() = Some(spare.to_owned());
                Ok(Arc::new(segment))
            }
            Err(error) => {
                space.remove_segment(FIRST_ALLOCATION_BYTES);
                Err(no_space_is_refused(error, space))
            }
        }
    }

    fn create_file(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn DiskFile>, GrowError> {
        create_whole(disk, path, FileClass::Segment, |file| {
            file.allocate(0, FIRST_ALLOCATION_BYTES)
                .map_err(|error| ("allocate", error))
        })
        .map_err(|WriteError { verb, path, source }| GrowError::Disk {
            verb,
            path,
            source,
        })
    }

    fn of(file: Arc<dyn DiskFile>, id: u64, allocated: u64) -> ActiveSegment {
        ActiveSegment {
            id,
            file,
            base_sequence: AtomicU64::new(u64::MAX),
            allocated: AtomicU64::new(allocated),
            staged: AtomicU64::new(0),
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            opened: Mutex::new(None),
            epoch: AtomicU32::new(0),
            index: Mutex::new(SparseIndex::default()),
            spare: Mutex::new(None),
        }
    }

    /// A segment that recovery found: everything up to `end` is in the file and synced.
    pub fn recovered(
        file: Arc<dyn DiskFile>,
        id: u64,
        allocated: u64,
        end: u64,
        index: SparseIndex,
        spare: Option<PathBuf>,
    ) -> ActiveSegment {
        let segment = ActiveSegment::of(file, id, allocated);
        segment.staged.store(end, Ordering::Release);
        segment.written.store(end, Ordering::Release);
        segment.synced.store(end, Ordering::Release);
        *segment.index.lock() = index;
        *segment.spare.lock() = spare;
        segment
    }

    /// Called once, when the first record is staged (or was found).
    pub fn begin(&self, base_sequence: u64, epoch: u32, now: Instant) {
        self.base_sequence.store(base_sequence, Ordering::Release);
        self.epoch.store(epoch, Ordering::Release);
        *self.opened.lock() = Some(now);
    }

    pub fn base_sequence(&self) -> u64 {
        self.base_sequence.load(Ordering::Acquire)
    }

    /// Gives the file its own name, durably. Done once; recovery takes either name.
    pub fn name(&self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        let mut spare = self.spare.lock();
        let Some(from) = spare.as_ref() else {
            return Ok(());
        };
        disk.rename(from, path)?;
        disk.sync_directory(path.parent().unwrap_or(Path::new(".")))?;
        *spare = None;
        Ok(())
    }

    pub fn note_staged(&self, end: u64) {
        self.staged.store(end, Ordering::Release);
    }

    pub fn staged_end(&self) -> u64 {
        self.staged.load(Ordering::Acquire)
    }

    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// How long it has taken records.
    pub fn age(&self, now: Instant) -> Duration {
        let opened = *self.opened.lock();
        opened.map_or(Duration::ZERO, |opened| {
            now.saturating_duration_since(opened)
        })
    }

    pub fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Acquire)
    }

    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    pub fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    pub fn has_blocks(&self, end: u64) -> bool {
        end <= self.allocated()
    }

    /// Makes sure that blocks up to `end` are there. Takes more ahead, or what is just needed where that is refused.
    pub fn grow(&self, space: &Space, end: u64, target_bytes: u64) -> Result<(), GrowError> {
        let allocated = self.allocated();
        if self.has_blocks(end) {
            return Ok(());
        }
        let needed = end.next_multiple_of(FIRST_ALLOCATION_BYTES) - allocated;
        let ahead = next_allocation(allocated, target_bytes);
        if ahead > needed {
            match self.take(space, allocated, ahead) {
                // Less may do.
                Err(GrowError::Refused(_)) => {}
                done => return done,
            }
        }
        self.take(space, allocated, needed)
    }

    fn take(&self, space: &Space, allocated: u64, more: u64) -> Result<(), GrowError> {
        space.take(more).map_err(GrowError::Refused)?;
        match self.file.allocate(allocated, more) {
            Ok(()) => {
                self.allocated.store(allocated + more, Ordering::Release);
                Ok(())
            }
            Err(source) => {
                space.remove_segment(more);
                let error = GrowError::Disk {
                    verb: "allocate",
                    path: self.file.path().to_owned(),
                    source,
                };
                Err(no_space_is_refused(error, space))
            }
        }
    }

    /// What the next `grow` takes ahead, if anything.
    pub fn next_allocation(&self, target_bytes: u64) -> u64 {
        next_allocation(self.allocated(), target_bytes)
    }

    /// Writers of one stream exclude each other; bytes come in the order of their offsets. `part_written` receives offset and length of
    /// each part of at most `part_bytes`.
    ///
    /// What is written counts once all of it is: a sync in between must not take the middle of a batch for an end, which recovery
    /// would look for.
    pub fn write(
        &self,
        bytes: &[u8],
        offset: u64,
        part_bytes: usize,
        mut part_written: impl FnMut(u64, u64),
    ) -> io::Result<()> {
        assert_eq!(offset, self.written(), "bytes reach a segment in order");
        let end = offset + bytes.len() as u64;
        assert!(
            end <= self.allocated(),
            "bytes are staged only where blocks are allocated"
        );
        let mut at = offset;
        for part in bytes.chunks(part_bytes) {
            self.file.write_all_at(part, at)?;
            part_written(at, part.len() as u64);
            at += part.len() as u64;
        }
        self.written.store(end, Ordering::Release);
        Ok(())
    }

    /// Makes what is written now durable. Does nothing where it is already.
    pub fn sync(&self) -> io::Result<bool> {
        let written = self.written();
        if self.synced() >= written {
            return Ok(false);
        }
        self.file.sync_data()?;
        self.synced.fetch_max(written, Ordering::AcqRel);
        Ok(true)
    }

    /// The file was cut to `bytes` when it was sealed.
    pub fn note_length(&self, bytes: u64) {
        self.allocated.store(bytes, Ordering::Release);
    }
}

fn next_allocation(allocated: u64, target_bytes: u64) -> u64 {
    let longer = match allocated < MIB {
        true => (allocated * FIRST_STEPS).min(MIB),
        false => allocated * 2,
    };
    longer
        .min(target_bytes.next_multiple_of(FIRST_ALLOCATION_BYTES))
        .saturating_sub(allocated)
}

/// A failed allocation for want of something is a refusal, not a broken disk.
fn no_space_is_refused(error: GrowError, space: &Space) -> GrowError {
    match error {
        GrowError::Disk { verb, path, source } => match space.refusal_of(&source) {
            Some(refusal) => GrowError::Refused(refusal),
            None => GrowError::Disk { verb, path, source },
        },
        refused @ GrowError::Refused(_) => refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SystemDisk;

    #[test]
    fn a_sync_in_the_middle_of_a_large_batch_does_not_take_it_for_an_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = SystemDisk
            .create(&folder.path().join("segment"), FileClass::Segment)
            .expect("a file");
        file.allocate(0, MIB).expect("allocated");
        let segment = ActiveSegment::of(file, 1, MIB);
        let (first, batch) = ([1; 4096], vec![2; 600 << 10]);
        segment
            .write(&first, 0, 256 << 10, |_, _| {})
            .expect("written");
        let mut parts = 0;
        // A checkpoint behind every part of the batch: what it syncs is what recovery has to find.
        let checkpoint = |_, _| {
            parts += 1;
            segment.sync().expect("synced");
            assert_eq!(segment.synced(), 4096, "behind part {parts}");
        };
        let written = segment.write(&batch, 4096, 256 << 10, checkpoint);
        written.expect("written");
        assert_eq!(parts, 3);
        segment.sync().expect("synced");
        assert_eq!(segment.synced(), 4096 + batch.len() as u64);
    }
}
