//! Files of streams need a descriptor only while they are used: a store has any number of streams, and a process few descriptors.
//!
//! A file whose writes are synced may be closed at any time and is opened again by its next call. One with unsynced writes is synced
//! first, through the handle that wrote: the error of a failed write-out is told to a handle that was open then. Journal files, the
//! mark and everything else that a process has a fixed number of keep their descriptors.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crate::io::sync::{Mutex, RwLock};

use super::{
    DirectoryEntry, DirectoryLock, Disk, DiskFile, FileClass, Map, VolumeSpace,
    is_out_of_descriptors,
};

/// Sweeps that a file is not used in before it is closed.
const IDLE_SWEEPS: u64 = 5;

pub(crate) struct RestingDisk {
    inner: Arc<dyn Disk>,
    pool: Arc<Pool>,
}

/// What has a descriptor, oldest first, and what is known by its path.
struct Pool {
    limit: usize,
    open: Mutex<VecDeque<Weak<RestingFile>>>,
    by_path: Mutex<HashMap<PathBuf, Vec<Weak<RestingFile>>>>,
    /// Held for writing while a name changes on the disk and here: in between a file that rests would not be found.
    naming: RwLock<()>,
    sweep: AtomicU64,
}

struct RestingFile {
    disk: Arc<dyn Disk>,
    pool: Arc<Pool>,
    class: FileClass,
    name: Name,
    /// `None` while it rests. Held for reading by every call on the file.
    handle: RwLock<Option<Arc<dyn DiskFile>>>,
    /// Of itself, for the pool.
    this: Weak<RestingFile>,
    /// Calls that changed the file, and how many of them a sync was begun behind.
    changes: AtomicU64,
    synced: AtomicU64,
    /// What the process before wrote is synced, too.
    is_known_synced: AtomicBool,
    /// It has no name any more, so it cannot be opened again.
    is_unlinked: AtomicBool,
    used_in: AtomicU64,
}

/// A file's path; a rename adds the next one.
struct Name {
    path: PathBuf,
    next: OnceLock<Box<Name>>,
}

impl Name {
    fn new(path: &Path) -> Name {
        Name {
            path: path.to_owned(),
            next: OnceLock::new(),
        }
    }

    fn last(&self) -> &Name {
        let mut name = self;
        while let Some(next) = name.next.get() {
            name = next;
        }
        name
    }
}

impl RestingDisk {
    /// At most about `limit` files of segments and manifests have a descriptor.
    pub fn new(inner: Arc<dyn Disk>, limit: usize) -> RestingDisk {
        let pool = Pool {
            limit: limit.max(8),
            open: Mutex::default(),
            by_path: Mutex::default(),
            naming: RwLock::default(),
            sweep: AtomicU64::new(0),
        };
        RestingDisk {
            inner,
            pool: Arc::new(pool),
        }
    }

    fn rests(class: FileClass) -> bool {
        match class {
            FileClass::Segment | FileClass::Manifest => true,
            FileClass::Journal | FileClass::Other => false,
        }
    }

    fn begin(
        &self,
        path: &Path,
        class: FileClass,
        open: impl Fn() -> io::Result<Arc<dyn DiskFile>>,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let handle = self.pool.with_descriptor(open)?;
        if !Self::rests(class) {
            return Ok(handle);
        }
        let file = Arc::new_cyclic(|this| RestingFile {
            disk: self.inner.clone(),
            pool: self.pool.clone(),
            class,
            name: Name::new(path),
            handle: RwLock::new(Some(handle)),
            this: this.clone(),
            changes: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            is_known_synced: AtomicBool::new(false),
            is_unlinked: AtomicBool::new(false),
            used_in: AtomicU64::new(self.pool.sweep.load(Ordering::Relaxed)),
        });
        let mut by_path = self.pool.by_path.lock();
        by_path
            .entry(path.to_owned())
            .or_default()
            .push(Arc::downgrade(&file));
        drop(by_path);
        self.pool.note_open(&file);
        Ok(file)
    }
}

impl Pool {
    /// Closes others where the process has no descriptor left.
    fn with_descriptor<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        loop {
            match open() {
                Err(error) if is_out_of_descriptors(&error) && self.close_one()? => {}
                other => return other,
            }
        }
    }

    fn note_open(&self, file: &Arc<RestingFile>) {
        let is_full = {
            let mut open = self.open.lock();
            open.push_back(Arc::downgrade(file));
            open.len() > self.limit
        };
        if is_full && let Err(error) = self.close_one() {
            // It keeps its descriptor, and the store is told by the disk below.
            tracing::debug!(%error, "a file cannot be closed to make room for another");
        }
    }

    /// Closes the file that was opened first, of those that nobody is using. False when there is none.
    fn close_one(&self) -> io::Result<bool> {
        let mut tries = self.open.lock().len();
        while tries > 0 {
            tries -= 1;
            let Some(file) = self.open.lock().pop_front() else {
                return Ok(false);
            };
            let Some(file) = file.upgrade() else {
                continue;
            };
            match file.rest(true) {
                Ok(true) => return Ok(true),
                Ok(false) => self.open.lock().push_back(Arc::downgrade(&file)),
                Err(error) => {
                    self.open.lock().push_back(Arc::downgrade(&file));
                    return Err(error);
                }
            }
        }
        Ok(false)
    }

    /// Closes what is synced and was not used for some sweeps.
    fn sweep(&self) {
        let now = self.sweep.fetch_add(1, Ordering::Relaxed) + 1;
        let open: Vec<Weak<RestingFile>> = self.open.lock().drain(..).collect();
        let mut kept = VecDeque::with_capacity(open.len());
        for file in open.iter().filter_map(Weak::upgrade) {
            let is_idle = now - file.used_in.load(Ordering::Relaxed).min(now) > IDLE_SWEEPS;
            if !is_idle || !file.rest(false).unwrap_or(false) {
                kept.push_back(Arc::downgrade(&file));
            }
        }
        let mut open = self.open.lock();
        kept.extend(open.drain(..));
        *open = kept;
    }

    fn renamed(&self, from: &Path, to: &Path) {
        // Whoever had the name has none now.
        self.unlinked(to);
        let mut by_path = self.by_path.lock();
        let Some(files) = by_path.remove(from) else {
            return;
        };
        // Dropped after the lock, which a file that goes takes.
        let named: Vec<Arc<RestingFile>> = files.iter().filter_map(Weak::upgrade).collect();
        for file in &named {
            let next = Box::new(Name::new(to));
            if file.name.last().next.set(next).is_err() {
                unreachable!("names are given under one lock");
            }
        }
        by_path.insert(to.to_owned(), files);
        drop(by_path);
    }

    fn unlinked(&self, path: &Path) {
        let files = self.by_path.lock().remove(path);
        for file in files.iter().flatten().filter_map(Weak::upgrade) {
            file.is_unlinked.store(true, Ordering::Release);
        }
    }
}

impl RestingFile {
    /// Gives the descriptor back. False where it is in use, has none, or has writes that are not to be synced now.
    fn rest(&self, may_sync: bool) -> io::Result<bool> {
        let Some(mut handle) = self.handle.try_write() else {
            return Ok(false);
        };
        let Some(open) = &*handle else {
            return Ok(true);
        };
        if self.is_unlinked.load(Ordering::Acquire) {
            return Ok(false);
        }
        let is_clean = self.synced.load(Ordering::Acquire) >= self.changes.load(Ordering::Acquire);
        if !is_clean {
            if !may_sync {
                return Ok(false);
            }
            open.sync_all()?;
            self.note_synced(self.changes.load(Ordering::Acquire));
        }
        *handle = None;
        Ok(true)
    }

    fn note_synced(&self, changes: u64) {
        self.synced.fetch_max(changes, Ordering::AcqRel);
        self.is_known_synced.store(true, Ordering::Release);
    }

    fn call<T>(&self, call: impl Fn(&dyn DiskFile) -> io::Result<T>) -> io::Result<T> {
        let now = self.pool.sweep.load(Ordering::Relaxed);
        self.used_in.store(now, Ordering::Relaxed);
        loop {
            if let Some(open) = &*self.handle.read() {
                return call(&**open);
            }
            self.open()?;
        }
    }

    /// A call that changes the file.
    fn change(&self, call: impl Fn(&dyn DiskFile) -> io::Result<()>) -> io::Result<()> {
        self.call(|file| {
            // Before the call: a sync that ends meanwhile does not count for it.
            self.changes.fetch_add(1, Ordering::AcqRel);
            call(file)
        })
    }

    fn sync(&self, call: impl Fn(&dyn DiskFile) -> io::Result<()>) -> io::Result<()> {
        let begun = self.changes.load(Ordering::Acquire);
        let is_synced = || {
            self.is_known_synced.load(Ordering::Acquire)
                && self.synced.load(Ordering::Acquire) >= begun
        };
        loop {
            match &*self.handle.read() {
                Some(open) => {
                    call(&**open)?;
                    break;
                }
                None if is_synced() => return Ok(()),
                None => {}
            }
            self.open()?;
        }
        self.note_synced(begun);
        Ok(())
    }

    fn open(&self) -> io::Result<()> {
        let opened = self.pool.with_descriptor(|| {
            let _naming = self.pool.naming.read();
            // What has its name by now is another file.
            if self.is_unlinked.load(Ordering::Acquire) {
                return Err(io::ErrorKind::NotFound.into());
            }
            self.disk.open_write(&self.name.last().path, self.class)
        })?;
        {
            let mut handle = self.handle.write();
            if handle.is_some() {
                return Ok(());
            }
            *handle = Some(opened);
        }
        if let Some(this) = self.this.upgrade() {
            self.pool.note_open(&this);
        }
        Ok(())
    }
}

impl Drop for RestingFile {
    fn drop(&mut self) {
        let mut by_path = self.pool.by_path.lock();
        if let Some(files) = by_path.get_mut(&self.name.last().path) {
            files.retain(|file| file.strong_count() > 0);
            if files.is_empty() {
                by_path.remove(&self.name.last().path);
            }
        }
    }
}

impl fmt::Debug for RestingFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("RestingFile")
            .field(&self.name.last().path)
            .finish()
    }
}

impl fmt::Debug for RestingDisk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(formatter)
    }
}

impl DiskFile for RestingFile {
    fn path(&self) -> &Path {
        &self.name.last().path
    }

    fn len(&self) -> io::Result<u64> {
        self.call(|file| file.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let buffer = Mutex::new(buffer);
        self.call(|file| file.read_at(&mut buffer.lock(), offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(|file| file.write_all_at(bytes, offset))
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.change(|file| file.allocate(offset, length))
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.change(|file| file.truncate(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(|file| file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(|file| file.sync_all())
    }

    fn pace(&self, offset: u64, length: u64) -> io::Result<()> {
        // What rests is synced.
        match &*self.handle.read() {
            Some(open) => open.pace(offset, length),
            None => Ok(()),
        }
    }

    fn forget_cache(&self) -> io::Result<()> {
        self.call(|file| file.forget_cache())
    }

    fn map(&self, length: u64) -> io::Result<Map> {
        self.call(|file| file.map(length))
    }
}

impl Disk for RestingDisk {
    fn create(&self, path: &Path, class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        self.begin(path, class, || self.inner.create(path, class))
    }

    fn open_write(&self, path: &Path, class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        self.begin(path, class, || self.inner.open_write(path, class))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.pool.with_descriptor(|| self.inner.open_read(path))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.inner.create_directory(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.pool
            .with_descriptor(|| self.inner.sync_directory(path))
    }

    fn sync_volume(&self, path: &Path) -> io::Result<()> {
        self.pool.with_descriptor(|| self.inner.sync_volume(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _naming = self.pool.naming.write();
        self.inner.rename(from, to)?;
        self.pool.renamed(from, to);
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.inner.unlink(path)?;
        self.pool.unlinked(path);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.pool.with_descriptor(|| self.inner.list(path))
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

    fn rest(&self) {
        self.pool.sweep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::fault::{Call, Fault, FaultDisk, Faults, How};
    use crate::io::{SystemDisk, WatchedDisk};
    use crate::poison::Poison;

    struct Fixture {
        folder: tempfile::TempDir,
        faults: Arc<Faults>,
        poison: Arc<Poison>,
        disk: RestingDisk,
    }

    impl Fixture {
        fn new(limit: usize) -> Fixture {
            let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
            let poison = Arc::new(Poison::default());
            let watched = Arc::new(WatchedDisk::new(disk, poison.clone()));
            Fixture {
                folder: tempfile::tempdir().expect("a folder"),
                faults,
                poison,
                disk: RestingDisk::new(watched, limit),
            }
        }

        fn path(&self, name: usize) -> PathBuf {
            self.folder.path().join(name.to_string())
        }

        fn files(&self, count: usize) -> Vec<Arc<dyn DiskFile>> {
            let create = |name| self.disk.create(&self.path(name), FileClass::Segment);
            (0..count)
                .map(|name| create(name).expect("a file"))
                .collect()
        }

        /// Files of this folder that the process has open.
        fn descriptors(&self) -> usize {
            let open = std::fs::read_dir("/proc/self/fd").expect("a list of descriptors");
            let paths = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
            paths
                .filter(|path| path.starts_with(self.folder.path()))
                .count()
        }
    }

    fn text(file: &Arc<dyn DiskFile>) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        let read = file.read_at(&mut bytes, 0).expect("read");
        bytes.truncate(read);
        bytes
    }

    #[test]
    fn any_number_of_files_is_used_with_few_descriptors() {
        let fixture = Fixture::new(10);
        let files = fixture.files(100);
        for round in 0..3u8 {
            for (name, file) in files.iter().enumerate() {
                file.write_all_at(&[round, name as u8], u64::from(round) * 2)
                    .expect("written");
            }
            assert!(fixture.descriptors() <= 11, "{}", fixture.descriptors());
        }
        for (name, file) in files.iter().enumerate() {
            let name = name as u8;
            assert_eq!(text(file), [0, name, 1, name, 2, name]);
        }
        assert!(!fixture.poison.is_set());
    }

    #[test]
    fn a_file_that_nobody_uses_gives_its_descriptor_back_once_it_is_synced() {
        let fixture = Fixture::new(100);
        let files = fixture.files(3);
        let sweeps = || (0..=IDLE_SWEEPS).for_each(|_| fixture.disk.rest());
        files[0].write_all_at(b"synced", 0).expect("written");
        files[0].sync_data().expect("synced");
        files[1].write_all_at(b"not synced", 0).expect("written");
        let syncs = fixture.faults.syncs();
        sweeps();
        assert_eq!(fixture.descriptors(), 1, "only unsynced writes hold one");
        assert_eq!(fixture.faults.syncs(), syncs, "a sweep syncs nothing");
        // What it was synced for is known, without a descriptor.
        files[0].sync_all().expect("nothing to do");
        assert_eq!((fixture.faults.syncs(), fixture.descriptors()), (syncs, 1));
        assert_eq!(text(&files[0]), b"synced");
        files[1].sync_data().expect("synced");
        sweeps();
        assert_eq!(fixture.descriptors(), 0);
        assert_eq!(text(&files[1]), b"not synced");
    }

    #[test]
    fn a_write_out_that_failed_is_told_before_its_handle_goes() {
        let fixture = Fixture::new(8);
        let files = fixture.files(8);
        files[0].write_all_at(b"lost", 0).expect("written");
        fixture
            .faults
            .add(Fault::of(Call::Sync).class(FileClass::Segment));
        let path = fixture.path(8);
        // Its descriptor is the first file's, which has to be synced for it.
        fixture
            .disk
            .create(&path, FileClass::Segment)
            .expect("created");
        assert!(fixture.poison.is_set(), "{}", fixture.poison.reason());
    }

    #[test]
    fn without_a_descriptor_left_another_file_gives_up_its_own() {
        let fixture = Fixture::new(100);
        let files = fixture.files(10);
        for errno in [libc::EMFILE, libc::ENFILE] {
            for call in [Call::OpenRead, Call::OpenWrite, Call::Create] {
                fixture.faults.add(Fault::of(call).how(How::Fails(errno)));
            }
            let read = fixture.disk.open_read(&fixture.path(0));
            read.expect("another file rests");
            let class = FileClass::Manifest;
            let written = fixture.disk.open_write(&fixture.path(0), class);
            written.expect("another file rests");
            let path = fixture.path(errno as usize);
            fixture.disk.create(&path, class).expect("another rests");
        }
        assert!(!fixture.poison.is_set());
        drop(files);
    }

    #[test]
    fn a_file_that_rests_follows_its_name() {
        let fixture = Fixture::new(100);
        let file = fixture.files(1).remove(0);
        file.write_all_at(b"it", 0).expect("written");
        file.sync_all().expect("synced");
        for name in [1, 2] {
            let (from, to) = (file.path().to_owned(), fixture.path(name));
            fixture.disk.rename(&from, &to).expect("renamed");
            (0..=IDLE_SWEEPS).for_each(|_| fixture.disk.rest());
            assert_eq!(fixture.descriptors(), 0);
            assert_eq!((file.path(), text(&file)), (&*to, b"it".to_vec()));
        }
    }

    #[test]
    fn a_file_that_is_used_while_it_gets_another_name_is_found() {
        let fixture = Fixture::new(100);
        let file = fixture.files(1).remove(0);
        file.write_all_at(b"it", 0).expect("written");
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::SeqCst) {
                    fixture.disk.pool.close_one().expect("closed");
                    assert_eq!(text(&file), b"it");
                }
            });
            for name in 0..2_000 {
                let (from, to) = (fixture.path(name), fixture.path(name + 1));
                fixture.disk.rename(&from, &to).expect("renamed");
            }
            is_done.store(true, Ordering::SeqCst);
        });
    }

    #[test]
    fn a_file_that_lost_its_name_is_never_taken_for_the_one_that_has_it_now() {
        let fixture = Fixture::new(100);
        let rest = || (0..=IDLE_SWEEPS).for_each(|_| fixture.disk.rest());
        let (replaced, other) = (fixture.files(1).remove(0), fixture.path(1));
        rest();
        let class = FileClass::Segment;
        fixture.disk.create(&other, class).expect("created");
        let path = fixture.path(0);
        fixture.disk.rename(&other, &path).expect("renamed");
        let error = replaced.write_all_at(b"old", 0).expect_err("it is gone");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(std::fs::read(&path).expect("the other"), b"");
    }

    #[test]
    fn a_file_without_a_name_keeps_its_descriptor() {
        let fixture = Fixture::new(100);
        let file = fixture.files(1).remove(0);
        file.write_all_at(b"it", 0).expect("written");
        file.sync_all().expect("synced");
        fixture.disk.unlink(file.path()).expect("removed");
        (0..=IDLE_SWEEPS).for_each(|_| fixture.disk.rest());
        assert_eq!(text(&file), b"it");
    }
}
