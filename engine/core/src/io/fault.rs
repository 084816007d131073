//! A disk that fails on purpose: one decorator for tests of poison, of a full disk, and of the crash harness itself.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ThreadId;

use parking_lot::Mutex;

use super::{DirectoryEntry, DirectoryLock, Disk, DiskFile, FileClass, Map, VolumeSpace};

/// What the decorated disk does. Shared with the test, may change while the store runs.
#[derive(Debug, Default)]
pub struct Faults {
    state: Mutex<State>,
    syncs: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    fail_sync_of: Option<(FileClass, u64)>,
    failed: bool,
    syncs_after_failure: u64,
    skip_syncs_of: Vec<FileClass>,
    skip_directory_syncs: bool,
    allocation_budget_bytes: Option<u64>,
    available_bytes: Option<u64>,
    sync_delay: Option<std::time::Duration>,
    last_synced_by: HashMap<FileClass, ThreadId>,
}

impl Faults {
    /// The n-th sync (from 0) of this class from now on fails once, with EIO.
    pub fn fail_sync(&self, class: FileClass, nth: u64) {
        self.state.lock().fail_sync_of = Some((class, nth));
    }

    /// Syncs of this class answer Ok and do nothing.
    pub fn skip_syncs(&self, class: FileClass) {
        self.state.lock().skip_syncs_of.push(class);
    }

    pub fn skip_directory_syncs(&self) {
        self.state.lock().skip_directory_syncs = true;
    }

    /// Allocations beyond this many bytes answer ENOSPC; `None` lifts the limit.
    pub fn limit_allocation(&self, budget_bytes: Option<u64>) {
        self.state.lock().allocation_budget_bytes = budget_bytes;
    }

    /// What `space` answers as available.
    pub fn report_available(&self, available_bytes: Option<u64>) {
        self.state.lock().available_bytes = available_bytes;
    }

    /// Every sync takes at least this long.
    pub fn delay_syncs(&self, delay: Option<std::time::Duration>) {
        self.state.lock().sync_delay = delay;
    }

    /// The thread that asked last for a sync of this class.
    pub fn last_synced_by(&self, class: FileClass) -> Option<ThreadId> {
        self.state.lock().last_synced_by.get(&class).copied()
    }

    pub fn has_failed(&self) -> bool {
        self.state.lock().failed
    }

    /// Syncs asked for after the injected failure.
    pub fn syncs_after_failure(&self) -> u64 {
        self.state.lock().syncs_after_failure
    }

    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Whether the sync has to be done.
    fn on_sync(&self, class: FileClass) -> io::Result<bool> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        state
            .last_synced_by
            .insert(class, std::thread::current().id());
        if let Some(delay) = state.sync_delay {
            drop(state);
            std::thread::sleep(delay);
            state = self.state.lock();
        }
        if state.failed {
            state.syncs_after_failure += 1;
        }
        if let Some((wanted, nth)) = state.fail_sync_of
            && wanted == class
        {
            if nth == 0 {
                state.fail_sync_of = None;
                state.failed = true;
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            state.fail_sync_of = Some((wanted, nth - 1));
        }
        Ok(!state.skip_syncs_of.contains(&class))
    }

    fn on_allocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        match &mut state.allocation_budget_bytes {
            Some(budget) if *budget < bytes => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            Some(budget) => {
                *budget -= bytes;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
pub struct FaultDisk {
    inner: Arc<dyn Disk>,
    faults: Arc<Faults>,
}

impl FaultDisk {
    pub fn new(inner: Arc<dyn Disk>) -> (Arc<FaultDisk>, Arc<Faults>) {
        let faults = Arc::new(Faults::default());
        (
            Arc::new(FaultDisk {
                inner,
                faults: faults.clone(),
            }),
            faults,
        )
    }

    fn wrap(&self, file: Arc<dyn DiskFile>, class: FileClass) -> Arc<dyn DiskFile> {
        Arc::new(FaultFile {
            inner: file,
            class,
            faults: self.faults.clone(),
        })
    }
}

#[derive(Debug)]
struct FaultFile {
    inner: Arc<dyn DiskFile>,
    class: FileClass,
    faults: Arc<Faults>,
}

impl DiskFile for FaultFile {
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
        self.inner.write_all_at(bytes, offset)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.faults.on_allocate(length)?;
        self.inner.allocate(offset, length)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.inner.truncate(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.faults.on_sync(self.class)? {
            self.inner.sync_data()
        } else {
            Ok(())
        }
    }

    fn sync_all(&self) -> io::Result<()> {
        if self.faults.on_sync(self.class)? {
            self.inner.sync_all()
        } else {
            Ok(())
        }
    }

    fn pace(&self, offset: u64, length: u64) -> io::Result<()> {
        // Write-out would hide a missing sync from the crash harness.
        if self.faults.state.lock().skip_syncs_of.is_empty() {
            self.inner.pace(offset, length)
        } else {
            Ok(())
        }
    }

    fn forget_cache(&self) -> io::Result<()> {
        self.inner.forget_cache()
    }

    fn map(&self, length: u64) -> io::Result<Map> {
        self.inner.map(length)
    }
}

impl Disk for FaultDisk {
    fn create(&self, path: &Path, class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(self.inner.create(path, class)?, class))
    }

    fn open_write(&self, path: &Path, class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(self.inner.open_write(path, class)?, class))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.inner.open_read(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.inner.create_directory(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        if self.faults.state.lock().skip_directory_syncs {
            Ok(())
        } else {
            self.inner.sync_directory(path)
        }
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
        let mut space = self.inner.space(path)?;
        if let Some(available) = self.faults.state.lock().available_bytes {
            space.available_bytes = available;
        }
        Ok(space)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        self.inner.lock(path)
    }
}

/// Cuts the power of the file system at `mount`: everything that is not on the device is lost, and every call from now on
/// fails, until it is unmounted. For tests on a file system of their own.
pub fn cut_power(mount: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    /// `_IOR('X', 125, u32)`
    const FS_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;
    let no_log_flush: u32 = 2;
    let directory = std::fs::File::open(mount)?;
    // SAFETY: the descriptor is open, and the argument points to the u32 that this request reads.
    let result = unsafe {
        libc::ioctl(
            directory.as_raw_fd(),
            FS_IOC_SHUTDOWN as _,
            &raw const no_log_flush,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
