//! Journal files: prezeroed once, so that a sync of them carries no metadata, and then used over and over, each time with a
//! fresh salt and number.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::io::sync::{Condvar, Mutex};
use aof2_format::names::file;

use crate::io::WriteError;
use crate::io::{Disk, DiskFile, FileClass, create_whole};
use crate::journal::replay::Reuse;
use crate::segment::files;

#[derive(Clone)]
pub(crate) struct JournalFile {
    pub file: Arc<dyn DiskFile>,
    /// Of its current or last use; 0 = never used.
    pub number: u64,
}

pub(crate) struct Files {
    state: Mutex<State>,
    changed: Condvar,
    current: AtomicU64,
    pub file_bytes: u64,
    configured: usize,
}

struct State {
    /// The first one is used next.
    free: Vec<JournalFile>,
    /// Full, and perhaps still needed.
    closed: Vec<JournalFile>,
    /// Slots taken so far.
    slots: u32,
    /// Needed until a commit of this process stands.
    outdated: Vec<Outdated>,
    /// No file of a lower number is needed any more.
    settled_before: u64,
    interrupted: bool,
}

/// A file that is not used again.
pub(crate) struct Outdated {
    pub path: PathBuf,
    /// It is damaged: kept aside for whoever looks into it. Otherwise it is of another size or number, and removed.
    pub is_kept: bool,
}

impl Files {
    /// `found` are the files of the process before, which recovery has done with.
    pub fn new(found: Reuse, last_number: u64, file_bytes: u64, configured: usize) -> Files {
        let Reuse {
            mut free,
            slots,
            outdated,
        } = found;
        free.sort_by_key(|file| file.number);
        Files {
            state: Mutex::new(State {
                free,
                closed: Vec::new(),
                slots,
                outdated,
                // Recovery has brought everything in them to where it belongs.
                settled_before: last_number + 1,
                interrupted: false,
            }),
            changed: Condvar::new(),
            current: AtomicU64::new(last_number),
            file_bytes,
            configured,
        }
    }

    pub fn count(&self) -> u64 {
        u64::from(self.state.lock().slots)
    }

    /// Number of the file that takes commits.
    pub fn current_number(&self) -> u64 {
        self.current.load(Ordering::Acquire)
    }

    pub fn has_closed(&self) -> bool {
        !self.state.lock().closed.is_empty()
    }

    /// Whether another file should be made ahead.
    pub fn wants_more(&self) -> bool {
        let state = self.state.lock();
        state.free.is_empty() && (state.slots as usize) < self.configured
    }

    /// Makes one more file, where there are fewer than configured. An error for want of space changes nothing.
    pub fn add(&self, disk: &dyn Disk, root: &Path) -> Result<bool, WriteError> {
        let slot = {
            let mut state = self.state.lock();
            if state.slots as usize >= self.configured {
                return Ok(false);
            }
            state.slots += 1;
            state.slots - 1
        };
        match create(disk, root, slot, self.file_bytes) {
            Ok(file) => {
                self.state.lock().free.push(JournalFile { file, number: 0 });
                self.changed.notify_all();
                Ok(true)
            }
            Err(error) => {
                self.state.lock().slots -= 1;
                Err(error)
            }
        }
    }

    pub fn has_outdated(&self) -> bool {
        !self.state.lock().outdated.is_empty()
    }

    /// Removes or sets aside what is not used again. What cannot be moved is found again by the next process.
    pub fn remove_outdated(&self, disk: &dyn Disk, root: &Path) {
        let outdated = std::mem::take(&mut self.state.lock().outdated);
        for Outdated { path, is_kept } in outdated {
            let done = match is_kept {
                true => set_aside(disk, root, &path),
                false => disk.unlink(&path),
            };
            if let Err(error) = done {
                tracing::warn!(path = %path.display(), %error, "cannot delete an unused journal file; the next start retries");
            }
        }
    }

    pub fn settled_before(&self) -> u64 {
        self.state.lock().settled_before
    }

    /// Waits for a free file. `ask` is called as long as there is none. `None` once interrupted.
    pub fn take(&self, ask: impl Fn()) -> Option<JournalFile> {
        let mut state = self.state.lock();
        loop {
            if state.interrupted {
                return None;
            }
            if !state.free.is_empty() {
                return Some(state.free.remove(0));
            }
            drop(state);
            ask();
            state = self.state.lock();
            if state.free.is_empty() && !state.interrupted {
                let _ = self
                    .changed
                    .wait_for(&mut state, std::time::Duration::from_millis(20));
            }
        }
    }

    /// `next` takes commits from here on; `full` waits for a checkpoint.
    pub fn switch(&self, full: Option<JournalFile>, next_number: u64) {
        let mut state = self.state.lock();
        state.closed.extend(full);
        self.current.store(next_number, Ordering::Release);
    }

    /// Files before the cut may be used again.
    pub fn recycle(&self, cut: u64) {
        let mut state = self.state.lock();
        state.settled_before = state.settled_before.max(cut);
        let (free, closed) = std::mem::take(&mut state.closed)
            .into_iter()
            .partition(|file: &JournalFile| file.number < cut);
        state.closed = closed;
        state.free.extend::<Vec<JournalFile>>(free);
        drop(state);
        self.changed.notify_all();
    }

    pub fn interrupt(&self) {
        self.state.lock().interrupted = true;
        self.changed.notify_all();
    }
}

/// Moves a file to the quarantine of the data directory, under the first free name.
pub(crate) fn set_aside(disk: &dyn Disk, root: &Path, path: &Path) -> io::Result<()> {
    let directory = files::quarantine(root);
    disk.create_directory(&directory)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut to = directory.join(&*name);
    let mut copy = 0;
    while disk.exists(&to)? {
        copy += 1;
        to = directory.join(format!("{name}.{copy}"));
    }
    disk.rename(path, &to)?;
    disk.sync_directory(&directory)?;
    disk.sync_directory(path.parent().unwrap_or(root))
}

fn path_of(root: &Path, slot: u32) -> PathBuf {
    files::journal(root).join(file::journal(slot))
}

fn create(
    disk: &dyn Disk,
    root: &Path,
    slot: u32,
    bytes: u64,
) -> Result<Arc<dyn DiskFile>, WriteError> {
    const ZEROES: &[u8] = &[0; 1 << 18];
    let path = path_of(root, slot);
    let zeroed = create_whole(disk, &path, FileClass::Other, |file| {
        let write_all = || {
            file.allocate(0, bytes)?;
            let mut offset = 0;
            while offset < bytes {
                let part = ZEROES.len().min((bytes - offset) as usize);
                file.write_all_at(&ZEROES[..part], offset)?;
                offset += part as u64;
            }
            Ok(())
        };
        write_all().map_err(|error| ("zero", error))
    })?;
    drop(zeroed);
    disk.open_write(&path, FileClass::Journal)
        .map_err(|source| WriteError {
            verb: "open",
            path,
            source,
        })
}
