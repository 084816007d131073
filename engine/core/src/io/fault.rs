//! A disk that fails on purpose: one decorator for tests of poison, of a full disk, and of the crash harness itself. It can fail
//! every call that reaches the disk, or panic in it, and refuse threads.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use crate::io::sync::{Mutex, RwLock};

use super::{
    DirectoryEntry, DirectoryLock, Disk, DiskFile, FileClass, Map, SystemThreads, ThreadBody,
    ThreadHandle, Threads, VolumeSpace,
};

/// A call that reaches the disk. Of a file: has its class, but for files that are opened to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Create,
    OpenWrite,
    OpenRead,
    Read,
    Write,
    Allocate,
    Truncate,
    Sync,
    Pace,
    Map,
    Close,
    CreateDirectory,
    SyncDirectory,
    SyncVolume,
    Rename,
    Unlink,
}

/// What a call does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Fails(i32),
    Panics,
}

/// Strikes once, or each time until it is lifted.
#[derive(Clone, Debug)]
pub struct Fault {
    pub call: Call,
    /// `None`: whatever the file is, or no file.
    pub class: Option<FileClass>,
    /// Only where the path holds this.
    pub path: &'static str,
    /// Calls that match and are let through first.
    pub after: u64,
    pub how: How,
    pub lasts: bool,
}

impl Fault {
    /// The next call of this kind fails with EIO.
    pub fn of(call: Call) -> Fault {
        Fault {
            call,
            class: None,
            path: "",
            after: 0,
            how: How::Fails(libc::EIO),
            lasts: false,
        }
    }

    pub fn class(self, class: FileClass) -> Fault {
        let class = Some(class);
        Fault { class, ..self }
    }

    pub fn path(self, path: &'static str) -> Fault {
        Fault { path, ..self }
    }

    pub fn after(self, after: u64) -> Fault {
        Fault { after, ..self }
    }

    pub fn how(self, how: How) -> Fault {
        Fault { how, ..self }
    }

    /// Strikes until `Faults::lift`.
    pub fn lasting(self) -> Fault {
        Fault {
            lasts: true,
            ..self
        }
    }
}

/// What the decorated disk does. Shared with the test, may change while the store runs.
#[derive(Debug, Default)]
pub struct Faults {
    state: Mutex<State>,
    syncs: AtomicU64,
    /// Read by each call that changes the disk while it does.
    changing: RwLock<()>,
    before_change: RwLock<Option<Hook>>,
}

#[derive(Clone)]
struct Hook(Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    failed: bool,
    failed_path: PathBuf,
    syncs_after_failure: u64,
    syncs_of_failed: u64,
    skip_syncs_of: Vec<FileClass>,
    allocation_budget_bytes: Option<u64>,
    available_bytes: Option<u64>,
    sync_delay: Option<Duration>,
    last_synced_by: HashMap<FileClass, ThreadId>,
    refused_thread: Option<&'static str>,
    calls: HashMap<(Call, Option<FileClass>), u64>,
}

impl Faults {
    pub fn add(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// No fault that was added strikes any more.
    pub fn lift(&self) {
        self.state.lock().faults.clear();
    }

    /// The n-th sync (from 0) of this class from now on fails once, with EIO.
    pub fn fail_sync(&self, class: FileClass, nth: u64) {
        self.add(Fault::of(Call::Sync).class(class).after(nth));
    }

    /// Syncs of this class answer Ok and do nothing.
    pub fn skip_syncs(&self, class: FileClass) {
        self.state.lock().skip_syncs_of.push(class);
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
    pub fn delay_syncs(&self, delay: Option<Duration>) {
        self.state.lock().sync_delay = delay;
    }

    /// Threads of this name, without `aof2-`, are not started.
    pub fn refuse_thread(&self, name: &'static str) {
        self.state.lock().refused_thread = Some(name);
    }

    /// The thread that asked last for a sync of this class.
    pub fn last_synced_by(&self, class: FileClass) -> Option<ThreadId> {
        self.state.lock().last_synced_by.get(&class).copied()
    }

    /// Calls `look` between two changes: what it sees of the disk is of one moment, as a killed process or a snapshot of the
    /// volume leaves it. Changes that are asked for meanwhile wait.
    pub fn at_one_moment<T>(&self, read: impl FnOnce() -> T) -> T {
        let _still = self.changing.write();
        read()
    }

    /// From now on `hook` runs before each call that changes the disk: what it sees `at_one_moment` is what a kill at that call leaves.
    /// `None`: no longer.
    pub fn before_each_change(&self, hook: Option<Arc<dyn Fn() + Send + Sync>>) {
        *self.before_change.write() = hook.map(Hook);
    }

    fn change<T>(&self, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let hook = self.before_change.read().clone();
        if let Some(Hook(hook)) = hook {
            hook();
        }
        let _changing = self.changing.read();
        change()
    }

    /// Whether a fault that was added has struck.
    pub fn has_failed(&self) -> bool {
        self.state.lock().failed
    }

    /// Those of the file or directory that a fault has struck. Others may be under way beside it.
    pub fn syncs_of_failed(&self) -> u64 {
        self.state.lock().syncs_of_failed
    }

    /// Syncs of files and directories, and paced write-outs, asked for after the injected failure.
    pub fn syncs_after_failure(&self) -> u64 {
        self.state.lock().syncs_after_failure
    }

    /// Calls of this kind so far, on files of this class; `None`: of no class.
    pub fn calls(&self, call: Call, class: impl Into<Option<FileClass>>) -> u64 {
        let state = self.state.lock();
        state.calls.get(&(call, class.into())).copied().unwrap_or(0)
    }

    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    fn on(&self, call: Call, class: Option<FileClass>, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        *state.calls.entry((call, class)).or_default() += 1;
        if state.failed
            && matches!(
                call,
                Call::Sync | Call::SyncDirectory | Call::SyncVolume | Call::Pace
            )
        {
            state.syncs_after_failure += 1;
            let is_again = call != Call::Pace && state.failed_path == path;
            state.syncs_of_failed += u64::from(is_again);
        }
        let matching = state.faults.iter_mut().position(|fault| {
            let is_meant = fault.call == call
                && (fault.class.is_none() || fault.class == class)
                && path.to_string_lossy().contains(fault.path);
            let strikes = is_meant && fault.after == 0;
            fault.after -= u64::from(is_meant && !strikes);
            strikes
        });
        let Some(index) = matching else {
            return Ok(());
        };
        let Fault { how, lasts, .. } = state.faults[index];
        if !lasts {
            state.faults.remove(index);
        }
        state.failed = true;
        state.failed_path = path.to_owned();
        drop(state);
        match how {
            How::Fails(errno) => Err(io::Error::from_raw_os_error(errno)),
            How::Panics => panic!("a fault: {call:?} of {}", path.display()),
        }
    }

    /// Whether the sync has to be done.
    fn on_sync(&self, class: Option<FileClass>, path: &Path) -> io::Result<bool> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let delay = {
            let mut state = self.state.lock();
            if let Some(class) = class {
                let by = std::thread::current().id();
                state.last_synced_by.insert(class, by);
            }
            state.sync_delay
        };
        if let Some(delay) = delay {
            super::sync::sleep(delay);
        }
        self.on(Call::Sync, class, path)?;
        let state = self.state.lock();
        Ok(class.is_none_or(|class| !state.skip_syncs_of.contains(&class)))
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

/// The system's threads, but for the one that is refused.
impl Threads for Faults {
    fn start(&self, name: &str, body: ThreadBody) -> io::Result<ThreadHandle> {
        let refused = self.state.lock().refused_thread;
        if refused.is_some_and(|refused| name.strip_prefix("aof2-") == Some(refused)) {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        SystemThreads.start(name, body)
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

    fn wrap(&self, file: Arc<dyn DiskFile>, class: Option<FileClass>) -> Arc<dyn DiskFile> {
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
    /// `None`: opened to be read.
    class: Option<FileClass>,
    faults: Arc<Faults>,
}

impl FaultFile {
    fn on(&self, call: Call) -> io::Result<()> {
        self.faults.on(call, self.class, self.path())
    }
}

impl DiskFile for FaultFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.on(Call::Read)?;
        self.inner.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.on(Call::Write)?;
        self.faults
            .change(|| self.inner.write_all_at(bytes, offset))
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.on(Call::Allocate)?;
        self.faults.on_allocate(length)?;
        self.faults.change(|| self.inner.allocate(offset, length))
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.on(Call::Truncate)?;
        self.faults.change(|| self.inner.truncate(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.faults.on_sync(self.class, self.path())? {
            self.inner.sync_data()
        } else {
            Ok(())
        }
    }

    fn sync_all(&self) -> io::Result<()> {
        if self.faults.on_sync(self.class, self.path())? {
            self.inner.sync_all()
        } else {
            Ok(())
        }
    }

    fn pace(&self, offset: u64, length: u64) -> io::Result<()> {
        self.on(Call::Pace)?;
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
        self.on(Call::Map)?;
        self.inner.map(length)
    }

    fn close(self: Arc<Self>) -> io::Result<()> {
        let struck = self.on(Call::Close);
        let closed = Arc::into_inner(self).map_or(Ok(()), |this| this.inner.close());
        struck.and(closed)
    }
}

impl Disk for FaultDisk {
    fn create(&self, path: &Path, class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        self.faults.on(Call::Create, Some(class), path)?;
        let file = self.faults.change(|| self.inner.create(path, class))?;
        Ok(self.wrap(file, Some(class)))
    }

    fn open_write(&self, path: &Path, class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        self.faults.on(Call::OpenWrite, Some(class), path)?;
        Ok(self.wrap(self.inner.open_write(path, class)?, Some(class)))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.faults.on(Call::OpenRead, None, path)?;
        Ok(self.wrap(self.inner.open_read(path)?, None))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.faults.on(Call::CreateDirectory, None, path)?;
        self.faults.change(|| self.inner.create_directory(path))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.faults.on(Call::SyncDirectory, None, path)?;
        self.inner.sync_directory(path)
    }

    fn sync_volume(&self, path: &Path) -> io::Result<()> {
        self.faults.on(Call::SyncVolume, None, path)?;
        self.inner.sync_volume(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.on(Call::Rename, None, to)?;
        self.faults.change(|| self.inner.rename(from, to))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.faults.on(Call::Unlink, None, path)?;
        self.faults.change(|| self.inner.unlink(path))
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
