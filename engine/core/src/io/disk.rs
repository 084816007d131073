use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags, FlockOperation};

use super::{DirectoryEntry, DirectoryLock, Disk, DiskFile, FileClass, Map, VolumeSpace};

/// Nobody but the engine's user reads records, whatever its umask is.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// The real disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

#[derive(Debug)]
struct SystemFile {
    file: File,
    path: PathBuf,
}

impl SystemFile {
    fn open(path: &Path, options: &OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
        let file = options.open(path)?;
        Ok(Arc::new(SystemFile {
            file,
            path: path.to_owned(),
        }))
    }
}

impl DiskFile for SystemFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.file.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(
            &self.file,
            FallocateFlags::empty(),
            offset,
            length,
        )?)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn pace(&self, offset: u64, length: u64) -> io::Result<()> {
        let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
            | libc::SYNC_FILE_RANGE_WRITE
            | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        // SAFETY: the descriptor is open as long as `self`; the call takes no pointer.
        let result = unsafe {
            libc::sync_file_range(
                self.file.as_raw_fd(),
                offset as libc::off64_t,
                length as libc::off64_t,
                flags,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    fn forget_cache(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)?)
    }

    fn map(&self, length: u64) -> io::Result<Map> {
        Map::of(&self.file, length)
    }

    fn close(self: Arc<Self>) -> io::Result<()> {
        let Some(this) = Arc::into_inner(self) else {
            return Ok(());
        };
        // SAFETY: the descriptor is ours and is used by nobody after this.
        match unsafe { libc::close(this.file.into_raw_fd()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

struct FileLock {
    file: File,
}

impl DirectoryLock for FileLock {}

impl Drop for FileLock {
    /// A lock lasts as long as any duplicate of its descriptor: a process that was forked meanwhile and did not get to its `exec` yet
    /// has one. Unlocked, it is free whoever still holds one.
    fn drop(&mut self) {
        let unlocked = rustix::fs::flock(self.file.as_fd(), FlockOperation::Unlock);
        if let Err(error) = unlocked {
            tracing::debug!("the lock of the directory ends with its descriptor: {error}");
        }
    }
}

impl Disk for SystemDisk {
    fn create(&self, path: &Path, _class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        SystemFile::open(
            path,
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(FILE_MODE),
        )
    }

    fn open_write(&self, path: &Path, _class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        SystemFile::open(path, OpenOptions::new().read(true).write(true))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        SystemFile::open(path, OpenOptions::new().read(true))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let made = std::fs::DirBuilder::new().mode(DIRECTORY_MODE).create(path);
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_volume(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(path)?)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            // Our own names are ASCII; others are not ours.
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirectoryEntry {
                    name,
                    is_directory: entry.file_type()?.is_dir(),
                });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn space(&self, path: &Path) -> io::Result<VolumeSpace> {
        let space = rustix::fs::statvfs(path)?;
        Ok(VolumeSpace {
            total_bytes: space.f_blocks * space.f_frsize,
            available_bytes: space.f_bavail * space.f_frsize,
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path)?;
        rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(FileLock { file }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_dropped_is_free_though_a_duplicate_of_its_descriptor_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .expect("a file");
        rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).expect("locked");
        // What a child has between fork and exec.
        let duplicate = file.try_clone().expect("a duplicate");
        let lock = FileLock { file };
        assert!(SystemDisk.lock(&path).is_err(), "it is held");
        drop(lock);
        let again = SystemDisk.lock(&path);
        assert!(again.is_ok(), "it is free");
        drop(duplicate);
    }
}
