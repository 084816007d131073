//! The volume of a node, in memory: what is written is there at once and durable once it is synced, it may be full, and it dies with the
//! power.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aof2_core::io::{
    DirectoryEntry, DirectoryLock, Disk, DiskFile, FileClass, Map, VolumeSpace, sync,
};
use parking_lot::Mutex;

use crate::content::{Content, is_zero};
use crate::image::{Data, Image, Inode, Node, Op, ROOT_INODE};
use crate::power::Power;
use crate::volume::Volume;

/// Where the store is. Nothing of it is on a real disk.
pub const ROOT: &str = "/store";
/// Of the whole volume.
const TOTAL_BYTES: u64 = 256 << 20;

/// Why calls fail that need blocks, or anything else that runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    Space {
        left_bytes: u64,
    },
    /// Others have taken all but those that the process has now.
    Descriptors,
}

struct State {
    image: Image,
    volume: Volume,
    /// Lengths of files, by what they are for.
    used_bytes: u64,
    segment_bytes: u64,
    most_segment_bytes: u64,
    /// By inode.
    is_segment: Vec<bool>,
    lack: Option<Lack>,
    /// Files that are open, and how many may be.
    open: u64,
    most_open: u64,
    is_locked: bool,
}

struct Inner {
    power: Arc<Power>,
    state: Mutex<State>,
}

#[derive(Clone)]
pub struct MemoryDisk {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryDisk").finish_non_exhaustive()
    }
}

fn error(kind: io::ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, path.display().to_string())
}

fn raw(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

const ENOSPC: i32 = 28;
const EMFILE: i32 = 24;
const EIO: i32 = 5;

impl MemoryDisk {
    pub fn new(image: Image, power: Arc<Power>) -> MemoryDisk {
        let mut state = State {
            volume: Volume::new(&image),
            is_segment: vec![false; image.nodes.len()],
            image,
            used_bytes: 0,
            segment_bytes: 0,
            most_segment_bytes: 0,
            lack: None,
            open: 0,
            most_open: u64::MAX,
            is_locked: false,
        };
        state.count(ROOT_INODE, false);
        MemoryDisk {
            inner: Arc::new(Inner {
                power,
                state: Mutex::new(state),
            }),
        }
    }

    pub fn set_lack(&self, lack: Option<Lack>) {
        let mut state = self.inner.state.lock();
        state.lack = lack;
        state.most_open = match lack {
            Some(Lack::Descriptors) => state.open,
            Some(Lack::Space { .. }) | None => u64::MAX,
        };
    }

    /// What is durable, and what may be.
    pub fn volume(&self) -> Volume {
        self.inner.state.lock().volume.clone()
    }

    /// A start has removed what was dropped.
    pub fn is_started(&self) {
        let mut state = self.inner.state.lock();
        state.most_segment_bytes = state.segment_bytes;
    }

    /// Allocated bytes of files in Tier 0: now, and at most since the store was open.
    pub fn segment_bytes(&self) -> (u64, u64) {
        let state = self.inner.state.lock();
        (state.segment_bytes, state.most_segment_bytes)
    }

    /// Every file with its path below the root.
    pub fn files(&self) -> BTreeMap<String, Content> {
        let mut files = BTreeMap::new();
        self.inner
            .state
            .lock()
            .gather(ROOT_INODE, "", &mut |path, content| {
                files.insert(path.to_owned(), content.clone());
            });
        files
    }

    /// Of one that counts as open already.
    fn file(&self, path: &Path, inode: Inode) -> Arc<dyn DiskFile> {
        Arc::new(File {
            inner: self.inner.clone(),
            path: path.to_owned(),
            inode,
        })
    }
}

impl Inner {
    /// Before a change: others may go on, the power may go.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        sync::pause();
        let mut state = self.state.lock();
        self.power.step(|| state.volume.clone());
        if self.power.is_out() {
            return Err(raw(EIO));
        }
        change(&mut state)
    }

    fn sync(&self, inode: Inode, covers_length: bool, is_volume: bool) -> io::Result<()> {
        let begun = self.change(|state| Ok(state.volume.changes()))?;
        self.change(|state| {
            state.volume.step(&match is_volume {
                true => Op::SyncVolume { begun },
                false => Op::Sync {
                    inode,
                    begun,
                    covers_length,
                },
            });
            Ok(())
        })
    }
}

impl State {
    fn gather(&self, inode: Inode, path: &str, with: &mut impl FnMut(&str, &Content)) {
        match &self.image.nodes[inode] {
            Node::File(content) => with(path, content),
            Node::Directory(entries) => {
                for (name, inode) in entries {
                    let path = match path {
                        "" => name.clone(),
                        parent => format!("{parent}/{name}"),
                    };
                    self.gather(*inode, &path, with);
                }
            }
        }
    }

    fn count(&mut self, inode: Inode, is_segment: bool) {
        match &self.image.nodes[inode] {
            Node::File(content) => {
                let length = content.length();
                self.is_segment[inode] = is_segment;
                self.used_bytes += length;
                self.segment_bytes += if is_segment { length } else { 0 };
            }
            Node::Directory(entries) => {
                for (name, inode) in entries.clone() {
                    self.count(inode, is_segment || name == "segments");
                }
            }
        }
    }

    fn find(&self, path: &Path) -> io::Result<Inode> {
        let relative = path
            .strip_prefix(ROOT)
            .map_err(|_| error(io::ErrorKind::NotFound, path))?;
        let mut inode = ROOT_INODE;
        for name in relative {
            let Node::Directory(entries) = &self.image.nodes[inode] else {
                return Err(error(io::ErrorKind::NotADirectory, path));
            };
            let found = name.to_str().and_then(|name| entries.get(name));
            inode = *found.ok_or_else(|| error(io::ErrorKind::NotFound, path))?;
        }
        Ok(inode)
    }

    /// The directory that holds an entry, and the entry's name.
    fn place(&self, path: &Path) -> io::Result<(Inode, String)> {
        let refused = || error(io::ErrorKind::InvalidInput, path);
        let parent = self.find(path.parent().ok_or_else(refused)?)?;
        let name = path.file_name().ok_or_else(refused)?;
        Ok((parent, name.to_string_lossy().into_owned()))
    }

    fn entries(&mut self, inode: Inode) -> &mut BTreeMap<String, Inode> {
        match &mut self.image.nodes[inode] {
            Node::Directory(entries) => entries,
            Node::File(_) => unreachable!("`place` answers directories"),
        }
    }

    fn content(&mut self, inode: Inode) -> &mut Content {
        match &mut self.image.nodes[inode] {
            Node::File(content) => content,
            Node::Directory(_) => unreachable!("directories are not opened"),
        }
    }

    fn add(&mut self, node: Node, is_segment: bool) -> Inode {
        self.image.nodes.push(node);
        self.is_segment.push(is_segment);
        self.image.nodes.len() - 1
    }

    fn available_bytes(&self) -> u64 {
        match self.lack {
            Some(Lack::Space { left_bytes }) => left_bytes,
            Some(Lack::Descriptors) | None => TOTAL_BYTES.saturating_sub(self.used_bytes),
        }
    }

    fn look_for_descriptor(&self) -> io::Result<()> {
        match self.open < self.most_open {
            true => Ok(()),
            false => Err(raw(EMFILE)),
        }
    }

    /// Blocks up to there.
    fn take(&mut self, inode: Inode, length: u64) -> io::Result<()> {
        let more = length.saturating_sub(self.content(inode).length());
        if more > self.available_bytes() {
            return Err(raw(ENOSPC));
        }
        if let Some(Lack::Space { left_bytes }) = &mut self.lack {
            *left_bytes -= more;
        }
        self.used_bytes += more;
        if self.is_segment[inode] {
            self.segment_bytes += more;
            self.most_segment_bytes = self.most_segment_bytes.max(self.segment_bytes);
        }
        Ok(())
    }

    fn give_back(&mut self, inode: Inode, bytes: u64) {
        self.used_bytes = self.used_bytes.saturating_sub(bytes);
        if self.is_segment[inode] {
            self.segment_bytes = self.segment_bytes.saturating_sub(bytes);
        }
        if let Some(Lack::Space { left_bytes }) = &mut self.lack {
            *left_bytes += bytes;
        }
    }

    /// An entry for this inode is gone.
    fn drop_node(&mut self, inode: Inode) {
        if let Node::File(content) = &self.image.nodes[inode] {
            let bytes = content.length();
            self.give_back(inode, bytes);
            // Whoever still has it open neither grows nor counts.
            self.is_segment[inode] = false;
        }
    }
}

struct File {
    inner: Arc<Inner>,
    path: PathBuf,
    inode: Inode,
}

impl Drop for File {
    fn drop(&mut self) {
        self.inner.state.lock().open -= 1;
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl DiskFile for File {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.inner.state.lock().content(self.inode).length())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self
            .inner
            .state
            .lock()
            .content(self.inode)
            .read(buffer, offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let inode = self.inode;
        self.inner.change(|state| {
            let length = bytes.len() as u64;
            state.take(inode, offset + length)?;
            let data = match is_zero(bytes) {
                true => Data::Zeroes(length),
                false => Data::Bytes(bytes.into()),
            };
            data.put(state.content(inode), offset);
            state.volume.step(&Op::Write {
                inode,
                offset,
                data,
            });
            Ok(())
        })
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let inode = self.inode;
        self.inner.change(|state| {
            let length = offset + length;
            state.take(inode, length)?;
            state.content(inode).grow(length);
            state.volume.step(&Op::Allocate { inode, length });
            Ok(())
        })
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let inode = self.inode;
        self.inner.change(|state| {
            let before = state.content(inode).length();
            match length < before {
                true => state.give_back(inode, before - length),
                false => state.take(inode, length)?,
            }
            state.content(inode).set_length(length);
            state.volume.step(&Op::Truncate { inode, length });
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync(self.inode, false, false)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.inner.sync(self.inode, true, false)
    }

    fn pace(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn forget_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, length: u64) -> io::Result<Map> {
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        match self.read_at(&mut bytes, 0)? == bytes.len() {
            true => Ok(Map::from(bytes)),
            false => Err(error(io::ErrorKind::UnexpectedEof, &self.path)),
        }
    }
}

struct Held {
    inner: Arc<Inner>,
}

impl DirectoryLock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.inner.state.lock().is_locked = false;
    }
}

impl Disk for MemoryDisk {
    fn create(&self, path: &Path, _class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.inner.change(|state| {
            state.look_for_descriptor()?;
            let (parent, name) = state.place(path)?;
            if state.entries(parent).contains_key(&name) {
                return Err(error(io::ErrorKind::AlreadyExists, path));
            }
            let is_segment = path.parent().is_some_and(|it| it.ends_with("segments"));
            let inode = state.add(Node::File(Content::default()), is_segment);
            state.entries(parent).insert(name.clone(), inode);
            state.volume.step(&Op::Create {
                parent,
                name,
                inode,
            });
            state.open += 1;
            Ok(inode)
        })?;
        Ok(self.file(path, inode))
    }

    fn open_write(&self, path: &Path, _class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        let inode = {
            let mut state = self.inner.state.lock();
            state.look_for_descriptor()?;
            let inode = state.find(path)?;
            if matches!(state.image.nodes[inode], Node::Directory(_)) {
                return Err(error(io::ErrorKind::IsADirectory, path));
            }
            state.open += 1;
            inode
        };
        Ok(self.file(path, inode))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open_write(path, FileClass::Other)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        if path == Path::new(ROOT) {
            return Ok(());
        }
        self.inner.change(|state| {
            let (parent, name) = state.place(path)?;
            if let Some(inode) = state.entries(parent).get(&name).copied() {
                return match &state.image.nodes[inode] {
                    Node::Directory(_) => Ok(()),
                    Node::File(_) => Err(error(io::ErrorKind::AlreadyExists, path)),
                };
            }
            let inode = state.add(Node::Directory(BTreeMap::new()), false);
            state.entries(parent).insert(name.clone(), inode);
            state.volume.step(&Op::MakeDirectory {
                parent,
                name,
                inode,
            });
            Ok(())
        })
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let inode = self.inner.state.lock().find(path)?;
        self.inner.sync(inode, true, false)
    }

    fn sync_volume(&self, path: &Path) -> io::Result<()> {
        let inode = self.inner.state.lock().find(path)?;
        self.inner.sync(inode, true, true)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.change(|state| {
            let from_place = state.place(from)?;
            let to_place = state.place(to)?;
            let inode = state
                .entries(from_place.0)
                .remove(&from_place.1)
                .ok_or_else(|| error(io::ErrorKind::NotFound, from))?;
            let replaced = state.entries(to_place.0).insert(to_place.1.clone(), inode);
            if let Some(replaced) = replaced {
                state.drop_node(replaced);
            }
            state.volume.step(&Op::Rename {
                from: from_place,
                to: to_place,
                inode,
            });
            Ok(())
        })
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.inner.change(|state| {
            let (parent, name) = state.place(path)?;
            let inode = state
                .entries(parent)
                .remove(&name)
                .ok_or_else(|| error(io::ErrorKind::NotFound, path))?;
            state.drop_node(inode);
            state.volume.step(&Op::Unlink {
                parent,
                name,
                inode,
            });
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let state = self.inner.state.lock();
        let inode = state.find(path)?;
        let Node::Directory(entries) = &state.image.nodes[inode] else {
            return Err(error(io::ErrorKind::NotADirectory, path));
        };
        Ok(entries
            .iter()
            .map(|(name, inode)| DirectoryEntry {
                name: name.clone(),
                is_directory: matches!(state.image.nodes[*inode], Node::Directory(_)),
            })
            .collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.inner.state.lock().find(path).is_ok())
    }

    fn space(&self, _path: &Path) -> io::Result<VolumeSpace> {
        let state = self.inner.state.lock();
        Ok(VolumeSpace {
            total_bytes: TOTAL_BYTES,
            available_bytes: state.available_bytes(),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        let mut state = self.inner.state.lock();
        if std::mem::replace(&mut state.is_locked, true) {
            return Err(error(io::ErrorKind::WouldBlock, path));
        }
        Ok(Box::new(Held {
            inner: self.inner.clone(),
        }))
    }
}
