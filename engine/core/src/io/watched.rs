//! The disk as the store sees it: no answer that says "what was written may be gone" is missed.
//!
//! The kernel tells a failed write-out once per open file, to whichever call asks first, and the next call answers Ok for bytes
//! that are gone. Several kinds of call ask: fdatasync and fsync, sync_file_range, close, fsync of a directory. So here
//! - each of them counts as a sync: its failure is reported to the store, whatever its error number is and whoever made the call;
//! - a sync answers Ok only when every call on the same file that was begun before it returned has returned too, and none has
//!   failed: one that ran in parallel may have received the error instead;
//! - after the first failure nothing is synced any more.
//!
//! An ENOSPC of a sync is no refusal like that of an allocation: the bytes were accepted before. The error that callers get
//! carries no error number, so that none of them takes it for one.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::io::sync::{Condvar, Mutex};

use super::{
    DirectoryEntry, DirectoryLock, Disk, DiskFile, FileClass, Map, VolumeSpace,
    is_out_of_descriptors, is_rejection,
};

/// Who is notified of failures: the store's poison.
pub trait WriteOutFailures: Send + Sync {
    /// What failed first, if anything has.
    fn failed(&self) -> Option<String>;
    fn note(&self, verb: &'static str, path: &Path, error: &io::Error);
}

#[derive(Clone)]
pub struct WatchedDisk {
    inner: Arc<dyn Disk>,
    failures: Arc<dyn WriteOutFailures>,
}

impl std::fmt::Debug for WatchedDisk {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(formatter)
    }
}

impl WatchedDisk {
    pub fn new(inner: Arc<dyn Disk>, failures: Arc<dyn WriteOutFailures>) -> WatchedDisk {
        WatchedDisk { inner, failures }
    }

    fn watch(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(WatchedFile {
            inner: Some(file),
            failures: self.failures.clone(),
            calls: Calls::default(),
            syncing: Mutex::default(),
        })
    }

    fn sync(&self, path: &Path, sync: impl Fn() -> io::Result<()>) -> io::Result<()> {
        refuse_after_failure(&*self.failures)?;
        sync().map_err(|error| {
            // A directory is opened to be synced: without a descriptor no sync was begun.
            if is_out_of_descriptors(&error) {
                return error;
            }
            reported(&*self.failures, "sync", path, error)
        })
    }
}

fn refuse_after_failure(failures: &dyn WriteOutFailures) -> io::Result<()> {
    match failures.failed() {
        None => Ok(()),
        Some(first) => Err(io::Error::other(first)),
    }
}

/// Tells, and takes the error number away.
fn reported(
    failures: &dyn WriteOutFailures,
    verb: &'static str,
    path: &Path,
    error: io::Error,
) -> io::Error {
    failures.note(verb, path, &error);
    io::Error::new(error.kind(), error)
}

/// A file that is open for writing.
struct WatchedFile {
    /// `None` only while it is dropped.
    inner: Option<Arc<dyn DiskFile>>,
    failures: Arc<dyn WriteOutFailures>,
    calls: Calls,
    /// One sync at a time: the next one begins knowing what the last one returned.
    syncing: Mutex<()>,
}

/// Calls on one file that may return the error of a failed write-out, and have not returned.
#[derive(Default)]
struct Calls {
    state: Mutex<CallsState>,
    returned: Condvar,
}

#[derive(Default)]
struct CallsState {
    begun: u64,
    /// Numbers of those that have not returned; a few at most.
    open: Vec<u64>,
}

/// Returns when dropped, also by a panic.
struct Call<'a> {
    calls: &'a Calls,
    number: u64,
}

impl Calls {
    fn begin(&self) -> Call<'_> {
        let mut state = self.state.lock();
        state.begun += 1;
        let number = state.begun;
        state.open.push(number);
        Call {
            calls: self,
            number,
        }
    }

    /// Until every call that was begun before now has returned.
    fn wait_for_begun(&self) {
        let mut state = self.state.lock();
        let begun = state.begun;
        while state.open.iter().any(|number| *number <= begun) {
            self.returned.wait(&mut state);
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut state = self.calls.state.lock();
        state.open.retain(|number| *number != self.number);
        drop(state);
        self.calls.returned.notify_all();
    }
}

impl WatchedFile {
    fn inner(&self) -> &Arc<dyn DiskFile> {
        let Some(inner) = &self.inner else {
            unreachable!("only drop takes it")
        };
        inner
    }

    /// A failure is reported before the call counts as returned.
    fn call(
        &self,
        verb: &'static str,
        call: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
    ) -> io::Result<()> {
        refuse_after_failure(&*self.failures)?;
        let _call = self.calls.begin();
        call(&**self.inner()).map_err(|error| reported(&*self.failures, verb, self.path(), error))
    }

    /// A change that failed is reported at once, so that no other thread continues meanwhile. What lacks space or memory is the caller's
    /// to judge: nothing that was accepted is gone.
    fn broken(&self, verb: &'static str, error: io::Error) -> io::Error {
        if is_rejection(&error) {
            error
        } else {
            reported(&*self.failures, verb, self.path(), error)
        }
    }

    fn sync(&self, call: impl FnOnce(&dyn DiskFile) -> io::Result<()>) -> io::Result<()> {
        {
            let _one_at_a_time = self.syncing.lock();
            self.call("sync", call)?;
        }
        self.calls.wait_for_begun();
        refuse_after_failure(&*self.failures)
    }
}

impl std::fmt::Debug for WatchedFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(formatter)
    }
}

impl Drop for WatchedFile {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else {
            return;
        };
        let path = inner.path().to_owned();
        if let Err(error) = inner.close() {
            self.failures.note("close", &path, &error);
        }
    }
}

impl DiskFile for WatchedFile {
    fn path(&self) -> &Path {
        self.inner().path()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner().len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner().read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let written = self.inner().write_all_at(bytes, offset);
        written.map_err(|error| self.broken("write", error))
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.inner().allocate(offset, length)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let cut = self.inner().truncate(length);
        cut.map_err(|error| self.broken("truncate", error))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(|file| file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(|file| file.sync_all())
    }

    fn pace(&self, offset: u64, length: u64) -> io::Result<()> {
        self.call("write out", |file| file.pace(offset, length))
    }

    fn forget_cache(&self) -> io::Result<()> {
        self.inner().forget_cache()
    }

    fn map(&self, length: u64) -> io::Result<Map> {
        self.inner().map(length)
    }
}

impl Disk for WatchedDisk {
    fn create(&self, path: &Path, class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.watch(self.inner.create(path, class)?))
    }

    fn open_write(&self, path: &Path, class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.watch(self.inner.open_write(path, class)?))
    }

    /// Reads tell nothing of writes.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.inner.open_read(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.inner.create_directory(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.sync(path, || self.inner.sync_directory(path))
    }

    fn sync_volume(&self, path: &Path) -> io::Result<()> {
        self.sync(path, || self.inner.sync_volume(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.inner.unlink(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.inner.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn space(&self, path: &Path) -> io::Result<VolumeSpace> {
        self.inner.space(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        self.inner.lock(path)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::time::Duration;

    use super::*;
    use crate::io::SystemDisk;
    use crate::io::fault::{Call, Fault, FaultDisk};
    use crate::poison::Poison;

    /// A file of which one call is told of the failed write-out, late: the next ones are not.
    #[derive(Debug)]
    struct TellsTheFirst {
        begun: SyncSender<()>,
        goes_on: Mutex<Receiver<()>>,
    }

    impl DiskFile for TellsTheFirst {
        fn path(&self) -> &Path {
            Path::new("/segment")
        }

        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
            Ok(0)
        }

        fn write_all_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
            Ok(())
        }

        fn allocate(&self, _offset: u64, _length: u64) -> io::Result<()> {
            Ok(())
        }

        fn truncate(&self, _length: u64) -> io::Result<()> {
            Ok(())
        }

        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }

        fn sync_all(&self) -> io::Result<()> {
            self.pace(0, 0)
        }

        fn pace(&self, _offset: u64, _length: u64) -> io::Result<()> {
            self.begun.send(()).expect("the test listens");
            // The test has it go on, or has ended.
            let _ = self.goes_on.lock().recv();
            Err(io::Error::from_raw_os_error(libc::EIO))
        }

        fn forget_cache(&self) -> io::Result<()> {
            Ok(())
        }

        fn map(&self, _length: u64) -> io::Result<Map> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// What a sync answers that runs beside `other`, which takes its error.
    fn sync_beside(other: impl FnOnce(&dyn DiskFile) -> io::Result<()> + Send) {
        let poison = Arc::new(Poison::default());
        let (begun, has_begun) = sync_channel(1);
        let (go_on, goes_on) = sync_channel(1);
        let inner = Arc::new(TellsTheFirst {
            begun,
            goes_on: Mutex::new(goes_on),
        });
        let disk = WatchedDisk::new(Arc::new(SystemDisk), poison.clone());
        let file = disk.watch(inner);
        std::thread::scope(|scope| {
            let taking = scope.spawn(|| other(&*file));
            has_begun.recv().expect("the call begins");
            let (answer, answered) = sync_channel(1);
            let syncing = file.clone();
            scope.spawn(move || answer.send(syncing.sync_data()));
            // A sync that does not wait has answered by then.
            let early = answered.recv_timeout(Duration::from_millis(200));
            go_on.send(()).expect("the call waits");
            assert!(early.is_err(), "answered before the other call: {early:?}");
            assert!(taking.join().expect("no panic").is_err());
            let answer = answered.recv().expect("an answer");
            assert!(answer.is_err(), "the bytes may be gone");
        });
        assert!(poison.is_set());
        assert!(file.sync_data().is_err(), "nothing is synced any more");
    }

    #[test]
    fn a_sync_fails_when_a_paced_write_out_beside_it_was_told_of_the_failure() {
        sync_beside(|file| file.pace(0, 1));
    }

    #[test]
    fn a_sync_fails_when_another_sync_beside_it_was_told_of_the_failure() {
        sync_beside(|file| file.sync_all());
    }

    #[test]
    fn after_a_failure_no_sync_reaches_the_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let (inner, faults) = FaultDisk::new(Arc::new(SystemDisk));
        let disk = WatchedDisk::new(inner, Arc::new(Poison::default()));
        let path = folder.path().join("segment");
        let file = disk.create(&path, FileClass::Segment).expect("a file");
        file.sync_all().expect("synced");
        faults.add(Fault::of(Call::Pace));
        file.pace(0, 1).expect_err("a fault");
        file.sync_data().expect_err("refused");
        file.sync_all().expect_err("refused");
        file.pace(0, 1).expect_err("refused");
        disk.sync_directory(folder.path()).expect_err("refused");
        assert_eq!(faults.syncs_after_failure(), 0);
    }

    #[test]
    fn a_sync_that_lacks_space_is_no_refusal() {
        let error = io::Error::from_raw_os_error(libc::ENOSPC);
        assert!(is_rejection(&error));
        let error = reported(&Poison::default(), "sync", Path::new("/segment"), error);
        assert!(!is_rejection(&error));
        assert!(error.to_string().contains("No space"), "{error}");
    }
}
