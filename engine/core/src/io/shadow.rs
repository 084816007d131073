//! A disk that is looked at and not changed: what is written stays in memory and ends with it. A recovery over it finds what the next
//! start would find, and leaves the volume as it is.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::sync::Mutex;
use super::{DirectoryEntry, DirectoryLock, Disk, DiskFile, FileClass, Map, VolumeSpace};

/// What of a file is kept at a time, once a byte of it was written.
const PAGE_BYTES: u64 = 4096;

#[derive(Debug)]
pub struct ShadowDisk {
    below: Arc<dyn Disk>,
    changed: Mutex<Changed>,
}

#[derive(Debug, Default)]
struct Changed {
    /// `None`: the file is gone.
    files: BTreeMap<PathBuf, Option<Arc<Content>>>,
    directories: BTreeSet<PathBuf>,
}

/// Of one file, whatever its names are.
#[derive(Debug)]
struct Content {
    /// `None`: it was made here.
    below: Option<Arc<dyn DiskFile>>,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    length: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

#[derive(Debug)]
struct ShadowFile {
    path: PathBuf,
    content: Arc<Content>,
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl ShadowDisk {
    pub fn new(below: Arc<dyn Disk>) -> ShadowDisk {
        ShadowDisk {
            below,
            changed: Mutex::default(),
        }
    }

    /// The content of a file, for writing.
    fn content(&self, path: &Path) -> io::Result<Arc<Content>> {
        let mut changed = self.changed.lock();
        match changed.files.get(path) {
            Some(Some(content)) => Ok(content.clone()),
            Some(None) => Err(missing()),
            None => {
                let content = Arc::new(Content::of(self.below.open_read(path)?)?);
                changed.files.insert(path.to_owned(), Some(content.clone()));
                Ok(content)
            }
        }
    }
}

impl Content {
    fn of(below: Arc<dyn DiskFile>) -> io::Result<Content> {
        let length = below.len()?;
        Ok(Content {
            below: Some(below),
            written: Mutex::new(Written {
                length,
                pages: BTreeMap::new(),
            }),
        })
    }

    fn new() -> Content {
        Content {
            below: None,
            written: Mutex::new(Written {
                length: 0,
                pages: BTreeMap::new(),
            }),
        }
    }

    /// Zeroes behind the end.
    fn page_below(&self, page: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; PAGE_BYTES as usize];
        if let Some(below) = &self.below {
            below.read_at(&mut bytes, page * PAGE_BYTES)?;
        }
        Ok(bytes)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let written = self.written.lock();
        let there = written.length.saturating_sub(offset);
        let wanted = there.min(buffer.len() as u64) as usize;
        let buffer = &mut buffer[..wanted];
        buffer.fill(0);
        if let Some(below) = &self.below {
            below.read_at(buffer, offset)?;
        }
        let pages = offset / PAGE_BYTES..(offset + wanted as u64).div_ceil(PAGE_BYTES);
        for (page, bytes) in written.pages.range(pages) {
            let start = page * PAGE_BYTES;
            let from = start.max(offset);
            let to = (start + PAGE_BYTES).min(offset + wanted as u64);
            buffer[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
        }
        Ok(wanted)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut written = self.written.lock();
        let end = offset + bytes.len() as u64;
        for page in offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES) {
            let kept = match written.pages.entry(page) {
                Entry::Occupied(kept) => kept.into_mut(),
                Entry::Vacant(place) => place.insert(self.page_below(page)?),
            };
            let start = page * PAGE_BYTES;
            let from = start.max(offset);
            let to = (start + PAGE_BYTES).min(end);
            kept[(from - start) as usize..(to - start) as usize]
                .copy_from_slice(&bytes[(from - offset) as usize..(to - offset) as usize]);
        }
        written.length = written.length.max(end);
        Ok(())
    }
}

impl DiskFile for ShadowFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.written.lock().length)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.content.read(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.content.write(bytes, offset)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut written = self.content.written.lock();
        written.length = written.length.max(offset + length);
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let old = self.len()?;
        if length < old {
            // What is cut off reads as zeroes where the file grows again.
            let end = old.next_multiple_of(PAGE_BYTES);
            self.content
                .write(&vec![0; (end - length) as usize], length)?;
        }
        self.content.written.lock().length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn pace(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn forget_cache(&self) -> io::Result<()> {
        match &self.content.below {
            Some(below) => below.forget_cache(),
            None => Ok(()),
        }
    }

    fn map(&self, length: u64) -> io::Result<Map> {
        let mut bytes = vec![0; length as usize];
        match self.read_at(&mut bytes, 0)? as u64 {
            read if read == length => Ok(Map::from(bytes)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Disk for ShadowDisk {
    fn create(&self, path: &Path, _class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        if self.exists(path)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = Arc::new(Content::new());
        let mut changed = self.changed.lock();
        changed.files.insert(path.to_owned(), Some(content.clone()));
        Ok(Arc::new(ShadowFile {
            path: path.to_owned(),
            content,
        }))
    }

    fn open_write(&self, path: &Path, _class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(ShadowFile {
            content: self.content(path)?,
            path: path.to_owned(),
        }))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let changed = self.changed.lock().files.get(path).cloned();
        match changed {
            Some(Some(content)) => Ok(Arc::new(ShadowFile {
                path: path.to_owned(),
                content,
            })),
            Some(None) => Err(missing()),
            None => self.below.open_read(path),
        }
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        if !self.below.exists(path)? {
            self.changed.lock().directories.insert(path.to_owned());
        }
        Ok(())
    }

    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_volume(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let content = self.content(from)?;
        let mut changed = self.changed.lock();
        changed.files.insert(from.to_owned(), None);
        changed.files.insert(to.to_owned(), Some(content));
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        if !self.exists(path)? {
            return Err(missing());
        }
        self.changed.lock().files.insert(path.to_owned(), None);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let changed = self.changed.lock();
        let mut entries: BTreeMap<String, bool> = BTreeMap::new();
        match self.below.list(path) {
            Ok(found) => entries.extend(found.into_iter().map(|it| (it.name, it.is_directory))),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && changed.directories.contains(path) => {}
            Err(error) => return Err(error),
        }
        let name_of = |entry: &Path| {
            let name = entry.file_name()?.to_str()?.to_owned();
            (entry.parent() == Some(path)).then_some(name)
        };
        for (file, content) in &changed.files {
            let Some(name) = name_of(file) else { continue };
            match content {
                Some(_) => entries.insert(name, false),
                None => entries.remove(&name),
            };
        }
        let made = changed.directories.iter();
        entries.extend(made.filter_map(|it| Some((name_of(it)?, true))));
        let entries = entries.into_iter();
        Ok(entries
            .map(|(name, is_directory)| DirectoryEntry { name, is_directory })
            .collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let changed = self.changed.lock();
        match changed.files.get(path) {
            Some(content) => Ok(content.is_some()),
            None if changed.directories.contains(path) => Ok(true),
            None => self.below.exists(path),
        }
    }

    fn space(&self, path: &Path) -> io::Result<VolumeSpace> {
        self.below.space(path)
    }

    /// The real one: whoever looks keeps others out.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        self.below.lock(path)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SystemDisk, read_file, replace_file};
    use super::*;

    fn tree(root: &Path) -> Vec<(String, Vec<u8>)> {
        let names = SystemDisk.list(root).expect("listed").into_iter();
        names
            .filter(|entry| !entry.is_directory)
            .map(|entry| {
                let bytes = read_file(&SystemDisk, &root.join(&entry.name), 1 << 20);
                (entry.name, bytes.expect("read"))
            })
            .collect()
    }

    #[test]
    fn what_is_written_is_read_back_and_the_disk_below_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let old: Vec<u8> = (0..10_000_u32).map(|it| it as u8).collect();
        for name in ["changed", "replaced", "removed", "renamed"] {
            std::fs::write(root.join(name), &old).expect("written");
        }
        let before = tree(root);
        let disk = ShadowDisk::new(Arc::new(SystemDisk));

        let file = disk
            .open_write(&root.join("changed"), FileClass::Other)
            .expect("opens");
        file.write_all_at(b"new", 4_095).expect("written");
        file.write_all_at(b"behind the end", 20_000)
            .expect("written");
        let again = read_file(&disk, &root.join("changed"), 1 << 20).expect("read");
        assert_eq!(again.len(), 20_014);
        assert_eq!(again[..4_095], old[..4_095]);
        assert_eq!(&again[4_095..4_098], b"new");
        assert_eq!(again[4_098..10_000], old[4_098..]);
        assert!(again[10_000..20_000].iter().all(|byte| *byte == 0));
        assert_eq!(&again[20_000..], b"behind the end");
        file.truncate(4_096).expect("cut");
        file.allocate(0, 5_000).expect("longer");
        let again = read_file(&disk, &root.join("changed"), 1 << 20).expect("read");
        assert_eq!((again.len(), again[4_095], again[4_096]), (5_000, b'n', 0));

        replace_file(&disk, &root.join("replaced"), b"other", FileClass::Other).expect("replaced");
        disk.unlink(&root.join("removed")).expect("removed");
        disk.rename(&root.join("renamed"), &root.join("moved"))
            .expect("renamed");
        disk.create_directory(&root.join("made")).expect("made");
        disk.create(&root.join("made/file"), FileClass::Other)
            .expect("created");
        assert!(disk.create(&root.join("moved"), FileClass::Other).is_err());
        let names = |path: &Path| -> Vec<String> {
            let entries = disk.list(path).expect("listed").into_iter();
            entries.map(|entry| entry.name).collect()
        };
        assert_eq!(names(root), ["changed", "made", "moved", "replaced"]);
        assert_eq!(names(&root.join("made")), ["file"]);
        let read = |name: &str| read_file(&disk, &root.join(name), 1 << 20);
        assert_eq!(read("replaced").expect("read"), b"other");
        assert_eq!(read("moved").expect("read"), old);
        for gone in ["removed", "renamed"] {
            let error = read(gone).expect_err("gone");
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{gone}");
            assert!(disk.unlink(&root.join(gone)).is_err());
        }

        drop(disk);
        assert_eq!(tree(root), before);
        assert!(!root.join("made").exists());
    }
}
