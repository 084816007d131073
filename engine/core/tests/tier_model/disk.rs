//! The volume of a node, in memory: what is written is there at once and durable once it is synced, it may be full, and it dies with the
//! power.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aof2_core::io::{
    DirectoryEntry, DirectoryLock, Disk, DiskFile, FileClass, Map, VolumeSpace, sync,
};
use parking_lot::{Mutex, MutexGuard};

use crate::content::{Content, is_zero};
use crate::contents::{Contents, EIO, TOTAL_BYTES, error, raw};
pub use crate::contents::{Files, Lack, ROOT};
use crate::image::{Data, Image, Inode, Node, Op, ROOT_INODE};
use crate::power::Power;
use crate::volume::Volume;

struct Inner {
    power: Arc<Power>,
    state: Mutex<Contents>,
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

impl MemoryDisk {
    pub fn new(image: Image, others_bytes: u64, power: Arc<Power>) -> MemoryDisk {
        let mut contents = Contents::new(image);
        contents.others_bytes = others_bytes;
        MemoryDisk {
            inner: Arc::new(Inner {
                power,
                state: Mutex::new(contents),
            }),
        }
    }

    pub fn set_lack(&self, lack: Option<Lack>) {
        let mut state = self.inner.state.lock();
        state.others_bytes = match lack {
            Some(Lack::Space { left_bytes }) => {
                TOTAL_BYTES.saturating_sub(state.used_bytes + left_bytes)
            }
            Some(Lack::Descriptors) | None => 0,
        };
        state.most_open = match lack {
            Some(Lack::Descriptors) => state.open,
            Some(Lack::Space { .. }) | None => u64::MAX,
        };
    }

    /// What others have on the volume.
    pub fn others_bytes(&self) -> u64 {
        self.inner.state.lock().others_bytes
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

    /// The files, as long as nobody changes them.
    pub fn view(&self) -> View<'_> {
        View(self.inner.state.lock())
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

pub struct View<'a>(MutexGuard<'a, Contents>);

impl View<'_> {
    /// Every file with its path below the root.
    pub fn files(&self) -> Files<'_> {
        let mut files = Files::new();
        self.0.gather(ROOT_INODE, "", &mut files);
        files
    }
}

impl Inner {
    /// Before a change: others may go on, the power may go.
    fn change<T>(&self, change: impl FnOnce(&mut Contents) -> io::Result<T>) -> io::Result<T> {
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
