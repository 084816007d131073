use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::*;
use crate::support::*;
use aof2_core::io::{
    DirectoryEntry, DirectoryLock, Disk, DiskFile, FileClass, SystemDisk, VolumeSpace,
};
use aof2_core::{OpenError, ReadError, Store};

/// A disk that does not give one file back.
#[derive(Debug)]
struct BadSector {
    path: PathBuf,
    error: i32,
}

impl Disk for BadSector {
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if path == self.path {
            return Err(io::Error::from_raw_os_error(self.error));
        }
        SystemDisk.open_read(path)
    }

    fn create(&self, path: &Path, class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        SystemDisk.create(path, class)
    }

    fn open_write(&self, path: &Path, class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        SystemDisk.open_write(path, class)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        SystemDisk.create_directory(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        SystemDisk.sync_directory(path)
    }

    fn sync_volume(&self, path: &Path) -> io::Result<()> {
        SystemDisk.sync_volume(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
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

fn try_open_with(data: &Path, bad: BadSector) -> Result<Store, OpenError> {
    let mut options = options(small_config(data));
    options.environment.disk = Arc::new(bad);
    Store::open(options)
}

#[test]
fn a_segment_that_the_device_does_not_give_back_is_told_with_its_error() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 1);
    let bad = BadSector {
        path: segment_file(directory.path(), 2),
        error: 5, // EIO
    };
    let store = try_open_with(directory.path(), bad).unwrap();
    assert_eq!(reported(&store), [whole(2)]);
    let error = reader(&store, RECORDS).next_batch(1 << 20).unwrap_err();
    assert!(matches!(error, ReadError::Disk { .. }), "{error}");
    assert_eq!(served(&store, 2 * RECORDS).0.len() as u64, RECORDS + 1);
    assert_eq!(reported(&store), [whole(2)], "told once");
    durable(&store, "s", &payload(END + 1)).unwrap();
}

#[test]
fn a_process_without_descriptors_left_says_nothing_about_its_files() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 1);
    let bad = BadSector {
        path: segment_file(directory.path(), 2),
        error: 24, // EMFILE
    };
    match try_open_with(directory.path(), bad) {
        Err(OpenError::Disk { .. }) => {}
        other => panic!("{:?}", other.map(|_| "it opened")),
    }
    ensure_told(directory.path(), 1, &[]);
}
