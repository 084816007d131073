//! A disk that writes down every call that may report a failed write-out, with its file, its answer and when it began and
//! ended. `AOF2_CRASH_TRACE=DIRECTORY` keeps the trace of every power cut that loses something, to show which call answered Ok
//! for bytes that are gone.
//!
//! A line is one `write` to a file outside of the file system that is cut: it stays when the process is killed.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use aof2_core::io::{
    DirectoryEntry, DirectoryLock, Disk, DiskFile, FileClass, Map, SystemDisk, VolumeSpace,
};
use rustix::time::{ClockId, clock_gettime};

pub const DIRECTORY: &str = "AOF2_CRASH_TRACE";
/// Tells the child where its trace goes.
pub const FILE: &str = "AOF2_CRASH_TRACE_FILE";

#[derive(Debug)]
pub struct Trace(File);

impl Trace {
    pub fn open(path: &Path) -> Arc<Trace> {
        let file = File::options().create(true).append(true).open(path);
        Arc::new(Trace(file.unwrap()))
    }

    /// Calls, and writes down what was answered.
    pub fn around<T>(&self, what: &str, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let begun = now_micros();
        let answer = call();
        let told = match &answer {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        let line = format!("{begun} {} {what}: {told}\n", now_micros());
        (&self.0).write_all(line.as_bytes()).unwrap();
        answer
    }
}

/// Of `CLOCK_MONOTONIC`, which all processes share.
fn now_micros() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

#[derive(Debug)]
pub struct TraceDisk {
    pub trace: Arc<Trace>,
}

impl TraceDisk {
    fn wrap(&self, class: FileClass, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(TraceFile {
            inner: file,
            class,
            trace: self.trace.clone(),
        })
    }
}

#[derive(Debug)]
struct TraceFile {
    inner: Arc<dyn DiskFile>,
    class: FileClass,
    trace: Arc<Trace>,
}

impl TraceFile {
    fn around<T>(&self, verb: &str, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let what = format!("{verb} {:?} {}", self.class, self.path().display());
        self.trace.around(&what, call)
    }
}

impl DiskFile for TraceFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let verb = format!("write {offset}+{}", bytes.len());
        self.around(&verb, || self.inner.write_all_at(bytes, offset))
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.inner.allocate(offset, length)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.inner.truncate(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.around("fdatasync", || self.inner.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.around("fsync", || self.inner.sync_all())
    }

    fn pace(&self, offset: u64, length: u64) -> io::Result<()> {
        let verb = format!("sync_file_range {offset}+{length}");
        self.around(&verb, || self.inner.pace(offset, length))
    }

    fn forget_cache(&self) -> io::Result<()> {
        self.inner.forget_cache()
    }

    fn map(&self, length: u64) -> io::Result<Map> {
        self.inner.map(length)
    }
}

impl Disk for TraceDisk {
    fn create(&self, path: &Path, class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(class, SystemDisk.create(path, class)?))
    }

    fn open_write(&self, path: &Path, class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(class, SystemDisk.open_write(path, class)?))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        SystemDisk.open_read(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        SystemDisk.create_directory(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let what = format!("fsync directory {}", path.display());
        self.trace.around(&what, || SystemDisk.sync_directory(path))
    }

    fn sync_volume(&self, path: &Path) -> io::Result<()> {
        let what = format!("syncfs {}", path.display());
        self.trace.around(&what, || SystemDisk.sync_volume(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let what = format!("rename {} {}", from.display(), to.display());
        self.trace.around(&what, || SystemDisk.rename(from, to))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        SystemDisk.unlink(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        SystemDisk.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        SystemDisk.exists(path)
    }

    fn space(&self, path: &Path) -> io::Result<VolumeSpace> {
        SystemDisk.space(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        SystemDisk.lock(path)
    }
}
