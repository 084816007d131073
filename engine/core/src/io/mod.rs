//! The only door to the disk, the clock, randomness, threads and their waits, and the only place with `unsafe`.
//!
//! Everything durable goes through `Disk`: create-preallocate, positioned write, sync, rename with a directory sync, unlink.
//! An error of a write or a sync is never retried: the caller poisons the store; of what counts as a sync, `WatchedDisk` does.

#![allow(unsafe_code)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // this is the door

mod clock;
mod disk;
mod environment;
mod errno;
#[cfg(feature = "testing")]
pub mod fault;
mod map;
mod memory;
mod resting;
mod rng;
mod shadow;
pub mod sync;
mod threads;
mod watched;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use clock::SteadyClock;
pub use clock::{Clock, SystemClock};
pub use disk::SystemDisk;
pub use environment::Environment;
pub(crate) use errno::{Lack, is_device_error, is_out_of_descriptors, is_rejection, lack_of};
pub use map::Map;
pub use memory::return_large_blocks;
pub(crate) use resting::RestingDisk;
pub use rng::{Rng, SystemRng};
pub use shadow::ShadowDisk;
pub use threads::{SystemThreads, ThreadBody, ThreadHandle, Threads};
pub(crate) use threads::{each_in_parallel, in_parallel};
pub use watched::{WatchedDisk, WriteOutFailures};

/// An open file. Syncs go through the handle that wrote.
#[allow(clippy::len_without_is_empty)] // an empty file is nothing special here
pub trait DiskFile: Send + Sync + Debug {
    fn path(&self) -> &Path;
    fn len(&self) -> io::Result<u64>;
    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reserves blocks for `offset..offset + length` and extends the file over them.
    fn allocate(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Gives blocks behind `length` back.
    fn truncate(&self, length: u64) -> io::Result<()>;
    fn sync_data(&self) -> io::Result<()>;
    fn sync_all(&self) -> io::Result<()>;
    /// Starts write-out of a range and waits for it: paces the device queue, never a step of durability.
    fn pace(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Drops clean cached pages, so that the next read asks the device.
    fn forget_cache(&self) -> io::Result<()>;
    /// A read-only map of the first `length` bytes, which must be there and never change again.
    fn map(&self, length: u64) -> io::Result<Map>;
    /// Closes the file, unless another handle of it is left, and tells what a drop cannot: some file systems report a failed
    /// write-out here.
    fn close(self: Arc<Self>) -> io::Result<()> {
        Ok(())
    }
}

/// A failed write or sync, with its file.
#[derive(Debug)]
pub(crate) struct WriteError {
    pub verb: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

/// What a file is for; faults are injected per class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileClass {
    Journal,
    Segment,
    Manifest,
    Other,
}

pub struct DirectoryEntry {
    pub name: String,
    pub is_directory: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeSpace {
    pub total_bytes: u64,
    pub available_bytes: u64,
}

/// Held while the store is open; released when dropped or when the process ends.
pub trait DirectoryLock: Send + Sync {}

pub trait Disk: Send + Sync + Debug {
    /// A new file; fails if it exists.
    fn create(&self, path: &Path, class: FileClass) -> io::Result<Arc<dyn DiskFile>>;
    fn open_write(&self, path: &Path, class: FileClass) -> io::Result<Arc<dyn DiskFile>>;
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// Everything on the file system that holds this directory, whoever wrote it: files, their names and what is of others.
    fn sync_volume(&self, path: &Path) -> io::Result<()>;
    /// Replaces `to`. The caller syncs the directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn unlink(&self, path: &Path) -> io::Result<()>;
    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>>;
    fn exists(&self, path: &Path) -> io::Result<bool>;
    fn space(&self, path: &Path) -> io::Result<VolumeSpace>;
    /// `WouldBlock` when another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>>;
    /// Called every now and then: files that nobody has used for a while may give their descriptors back.
    fn rest(&self) {}
}

/// A file that gets its name when `prepare` is done and synced: after a crash it is whole, or not there. `prepare` says what it could
/// not do. The handle is on the file from before it had its name.
pub(crate) fn create_whole(
    disk: &dyn Disk,
    path: &Path,
    class: FileClass,
    prepare: impl FnOnce(&dyn DiskFile) -> Result<(), (&'static str, io::Error)>,
) -> Result<Arc<dyn DiskFile>, WriteError> {
    let at = |verb: &'static str| {
        move |source: io::Error| WriteError {
            verb,
            path: path.to_owned(),
            source,
        }
    };
    let temporary = temporary_path(path);
    if disk.exists(&temporary).map_err(at("look for"))? {
        disk.unlink(&temporary).map_err(at("remove"))?;
    }
    let file = disk.create(&temporary, class).map_err(at("create"))?;
    if let Err((verb, source)) = prepare(&*file) {
        // Best effort: recovery removes what is left.
        let _ = disk.unlink(&temporary);
        return Err(at(verb)(source));
    }
    let name = || {
        file.sync_all().map_err(at("sync"))?;
        disk.rename(&temporary, path).map_err(at("rename"))
    };
    if let Err(error) = name() {
        let _ = disk.unlink(&temporary);
        return Err(error);
    }
    let directory = path.parent().unwrap_or(Path::new("."));
    disk.sync_directory(directory)
        .map_err(at("sync the directory of"))?;
    Ok(file)
}

/// Writes a small file so that after a crash either the old or the whole new content is there.
pub fn replace_file(
    disk: &dyn Disk,
    path: &Path,
    bytes: &[u8],
    class: FileClass,
) -> io::Result<()> {
    let written = create_whole(disk, path, class, |file| {
        file.write_all_at(bytes, 0)
            .map_err(|error| ("write", error))
    });
    written.map(drop).map_err(|failed| failed.source)
}

pub fn read_file(disk: &dyn Disk, path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
    let file = disk.open_read(path)?;
    let length = file.len()?;
    if length > limit_bytes {
        return Err(io::Error::other(format!(
            "{length} bytes exceed the limit of {limit_bytes}"
        )));
    }
    let mut bytes = vec![0; length as usize];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Reads of what a device does not give back, before that is believed: one path of several may have failed just now.
const READS: u32 = 3;

/// Repeats a read that the device fails.
pub(crate) fn again<T>(read: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let mut answer = read();
    for _ in 1..READS {
        match &answer {
            Err(error) if is_device_error(error) => answer = read(),
            Ok(_) | Err(_) => break,
        }
    }
    answer
}

/// Whether a file reads back as these bytes there. One that cannot be read does not.
pub(crate) fn holds(file: &dyn DiskFile, offset: u64, bytes: &[u8]) -> bool {
    let mut found = vec![0; bytes.len()];
    matches!(file.read_at(&mut found, offset), Ok(read) if found[..read] == *bytes)
}

/// Where a file stands before it is complete. Recovery removes such files.
pub fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// Lets the process open as many files as it is allowed to. Best effort. Answers how many those are.
pub(crate) fn raise_open_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        );
        if raised.is_err() {
            return limit.current.unwrap_or(u64::MAX);
        }
    }
    limit.maximum.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::fault::{Call, Fault, FaultDisk};
    use super::*;

    #[test]
    fn a_file_that_cannot_be_replaced_keeps_its_old_content() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
        replace_file(&*disk, &path, b"old", FileClass::Other).expect("there is none");
        for call in [Call::Create, Call::Write, Call::Sync, Call::Rename] {
            faults.add(Fault::of(call));
            let replaced = replace_file(&*disk, &path, b"new", FileClass::Other);
            replaced.expect_err("a fault");
            let found = read_file(&SystemDisk, &path, 100).expect("it is there");
            assert_eq!(found, b"old", "{call:?}");
        }
        replace_file(&*disk, &path, b"new", FileClass::Other).expect("replaced");
        assert_eq!(read_file(&SystemDisk, &path, 100).expect("read"), b"new");
    }
}
