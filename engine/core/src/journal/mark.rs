//! `journal.mark`: how far the journal was synced, kept outside the journal.
//!
//! Within a file each commit vouches for the one before it. The mark vouches for the newest, and for the files as a whole. It is
//! written before the first commit of a file is acknowledged, and soon after the journal comes to rest; what is acknowledged in
//! between is vouched for by what follows it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::io::sync::Mutex;
use aof2_format::BLOCK_BYTES;
use aof2_format::journal_mark::{FILE_BYTES, JournalMark};
use aof2_format::names::file;

use crate::io::WriteError;
use crate::io::{Disk, DiskFile, FileClass, replace_file};
use crate::volume::VolumeIds;

/// The newest commit that is known to be synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Synced {
    pub commit: u64,
    pub file_number: u64,
}

/// What was found on the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoundMark {
    /// No file, or none of its slots is this volume's.
    Missing,
    At(Synced),
}

pub(crate) struct Mark {
    file: Arc<dyn DiskFile>,
    /// The last write; its turn and what it said.
    written: Mutex<JournalMark>,
    /// Its commit, for whoever must not wait for a write.
    written_commit: AtomicU64,
    /// Of the journal, set by the writer after each sync.
    synced: Mutex<Synced>,
}

impl Mark {
    /// Reads the file, or makes it where it is missing or damaged as a whole. On a volume that holds nothing yet it says that no
    /// commit was synced: a power cut may leave the first stream, and no commit.
    pub fn open(
        disk: &dyn Disk,
        root: &Path,
        volume: &VolumeIds,
        holds_nothing: bool,
    ) -> io::Result<(Mark, FoundMark)> {
        let path = root.join(file::JOURNAL_MARK);
        let is_ours = |mark: &JournalMark| {
            mark.cluster_id == volume.cluster_id
                && mark.volume_id == volume.volume_id
                && mark.node_id == volume.node_id
        };
        let mut bytes = vec![0; FILE_BYTES];
        if disk.exists(&path)? {
            let file = disk.open_read(&path)?;
            file.forget_cache()?;
            let read = file.read_at(&mut bytes, 0)?;
            bytes.truncate(read);
        }
        let found = JournalMark::decode_file(&bytes)
            .filter(is_ours)
            .max_by_key(|mark| mark.turn);
        let none = JournalMark {
            cluster_id: volume.cluster_id,
            node_id: volume.node_id,
            volume_id: volume.volume_id,
            turn: 0,
            file_number: 0,
            commit: 0,
            settled_before: 0,
        };
        let newest = found.or(holds_nothing.then_some(none));
        if found.is_none() || bytes.len() < FILE_BYTES {
            let mut fresh = vec![0; FILE_BYTES];
            if let Some(mark) = &newest {
                let at = JournalMark::slot_offset(mark.turn) as usize;
                fresh[at..at + BLOCK_BYTES].copy_from_slice(&mark.encode());
            }
            replace_file(disk, &path, &fresh, FileClass::Other)?;
        }
        let told = newest.map_or(FoundMark::Missing, |mark| {
            FoundMark::At(Synced {
                commit: mark.commit,
                file_number: mark.file_number,
            })
        });
        let written = newest.unwrap_or(none);
        let synced = Synced {
            commit: written.commit,
            file_number: written.file_number,
        };
        let mark = Mark {
            file: disk.open_write(&path, FileClass::Other)?,
            written_commit: AtomicU64::new(written.commit),
            written: Mutex::new(written),
            synced: Mutex::new(synced),
        };
        Ok((mark, told))
    }

    /// The writer has synced this commit. Costs a store.
    pub fn note(&self, synced: Synced) {
        *self.synced.lock() = synced;
    }

    pub fn synced(&self) -> Synced {
        *self.synced.lock()
    }

    /// Whether the file says less than is known.
    pub fn is_behind(&self) -> bool {
        self.written_commit.load(Ordering::Acquire) < self.synced().commit
    }

    /// Makes what is known durable. One sync, of this file alone.
    pub fn write(&self) -> Result<(), WriteError> {
        let mut written = self.written.lock();
        let Synced {
            commit,
            file_number,
        } = self.synced();
        if written.commit >= commit {
            return Ok(());
        }
        let next = JournalMark {
            turn: written.turn + 1,
            commit,
            file_number,
            ..*written
        };
        self.put(&mut written, next)
    }

    /// Before a file of a lower number is written over: a power cut may leave it without a header, and it must not be missed.
    pub fn settle(&self, settled_before: u64) -> Result<(), WriteError> {
        let mut written = self.written.lock();
        if written.settled_before >= settled_before {
            return Ok(());
        }
        let next = JournalMark {
            turn: written.turn + 1,
            settled_before,
            ..*written
        };
        self.put(&mut written, next)
    }

    /// As the file says.
    pub fn settled_before(&self) -> u64 {
        self.written.lock().settled_before
    }

    fn put(&self, written: &mut JournalMark, next: JournalMark) -> Result<(), WriteError> {
        let at = |verb: &'static str| {
            move |source: io::Error| WriteError {
                verb,
                path: self.file.path().to_owned(),
                source,
            }
        };
        self.file
            .write_all_at(&next.encode(), JournalMark::slot_offset(next.turn))
            .map_err(at("write"))?;
        self.file.sync_data().map_err(at("sync"))?;
        *written = next;
        self.written_commit.store(next.commit, Ordering::Release);
        Ok(())
    }
}
