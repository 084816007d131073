//! A disk in memory that writes down what is done to it.
//!
//! Every change is one entry of the recording, in the order in which it happened; what the test notes (an acknowledgement, say)
//! stands between the changes. A sync covers what was done before it began and counts from when it ended.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aof2_core::io::{
    Clock, DirectoryEntry, DirectoryLock, Disk, DiskFile, FileClass, Map, SystemClock, VolumeSpace,
    sync,
};
use parking_lot::Mutex;

use crate::content::{Content, is_zero};
use crate::dice::Dice;
use crate::model::Note;
use crate::recording::{Data, Image, Inode, Node, Op, ROOT_INODE, Recording};
use crate::volume::Volume;

/// Where the store is. Nothing of it is on a real disk.
pub const ROOT: &str = "/store";

/// A slow sync takes less than this. That of a segment is of much that is dirty.
const MOST_MICROS: u64 = 600;
const MOST_MICROS_OF_SEGMENTS: u64 = 6_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncKind {
    Data,
    All,
    Directory,
    Volume,
}

/// What a seeded fault is asked about.
pub struct SyncCall<'a> {
    pub kind: SyncKind,
    /// The one that the file was opened by.
    pub path: &'a str,
    pub class: FileClass,
    pub thread: &'a str,
}

pub type SyncHook = Arc<dyn Fn(&SyncCall<'_>) + Send + Sync>;

/// What this disk does wrong, for tests of the tests.
#[derive(Clone, Copy)]
pub struct Faults {
    /// Such a sync does nothing.
    pub omits: fn(&SyncCall<'_>) -> bool,
    /// A file that is renamed is synced behind that instead of before it.
    pub renames_before_sync: bool,
    /// Zeroes are not written over what is in segments and manifest chunks.
    pub leaves_torn_bytes: bool,
}

impl Faults {
    pub const NONE: Faults = Faults {
        omits: |_| false,
        renames_before_sync: false,
        leaves_torn_bytes: false,
    };
}

struct State {
    image: Image,
    ops: Vec<Op>,
    notes: Vec<(usize, Note)>,
    /// Owed a sync behind their rename.
    unsynced: Vec<Inode>,
    is_locked: bool,
}

struct Inner {
    base: Image,
    faults: Faults,
    /// Of how long a sync takes.
    latency: Option<Mutex<Dice>>,
    hook: Mutex<Option<SyncHook>>,
    state: Mutex<State>,
}

#[derive(Clone)]
pub struct RecordingDisk {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for RecordingDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordingDisk").finish_non_exhaustive()
    }
}

impl RecordingDisk {
    pub fn new(base: Image, faults: Faults) -> RecordingDisk {
        RecordingDisk::with_latency(base, faults, None)
    }

    /// Syncs take their time, as a device does: what the store does meanwhile is part of the recording.
    pub fn slow(base: Image, faults: Faults, dice: &mut Dice) -> RecordingDisk {
        RecordingDisk::with_latency(base, faults, Some(Mutex::new(dice.fork())))
    }

    fn with_latency(base: Image, faults: Faults, latency: Option<Mutex<Dice>>) -> RecordingDisk {
        let state = State {
            image: base.clone(),
            ops: Vec::new(),
            notes: Vec::new(),
            unsynced: Vec::new(),
            is_locked: false,
        };
        RecordingDisk {
            inner: Arc::new(Inner {
                base,
                faults,
                latency,
                hook: Mutex::new(None),
                state: Mutex::new(state),
            }),
        }
    }

    /// Goes on where a recording ends, as after the end of a process: what was not synced is there, and still not synced.
    pub fn resumed(recording: Recording, faults: Faults) -> RecordingDisk {
        let Recording { base, ops, notes } = recording;
        let mut volume = Volume::new(&base);
        ops.iter().for_each(|op| volume.step(op));
        let disk = RecordingDisk::new(base, faults);
        {
            let mut state = disk.inner.state.lock();
            state.image = volume.cached();
            state.ops = ops;
            state.notes = notes;
        }
        disk
    }

    /// Called within every sync, after it began and before it ends.
    pub fn on_sync(&self, hook: SyncHook) {
        *self.inner.hook.lock() = Some(hook);
    }

    /// Holds at every cut from here on.
    pub fn note(&self, note: Note) {
        let mut state = self.inner.state.lock();
        let at = state.ops.len();
        state.notes.push((at, note));
    }

    /// Changes so far.
    pub fn changes(&self) -> usize {
        self.inner.state.lock().ops.len()
    }

    pub fn recording(&self) -> Recording {
        let state = self.inner.state.lock();
        Recording {
            base: self.inner.base.clone(),
            ops: state.ops.clone(),
            notes: state.notes.clone(),
        }
    }

    fn file(&self, path: &Path, inode: Inode, class: FileClass) -> Arc<dyn DiskFile> {
        Arc::new(RecordedFile {
            inner: self.inner.clone(),
            path: path.to_owned(),
            inode,
            class,
        })
    }
}

impl Inner {
    /// In two steps, so that others may change things while it runs.
    fn sync(&self, inode: Inode, kind: SyncKind, path: &Path, class: FileClass) {
        let begun = self.state.lock().ops.len();
        let thread = std::thread::current();
        let path = path.to_string_lossy();
        let call = SyncCall {
            kind,
            path: &path,
            class,
            thread: thread.name().unwrap_or(""),
        };
        if (self.faults.omits)(&call) {
            return;
        }
        let hook = self.hook.lock().clone();
        if let Some(hook) = hook {
            hook(&call);
        }
        match &self.latency {
            None => {
                sync::pause();
                std::thread::yield_now();
            }
            Some(latency) => {
                let most = match class {
                    FileClass::Segment => MOST_MICROS_OF_SEGMENTS,
                    FileClass::Journal | FileClass::Manifest | FileClass::Other => MOST_MICROS,
                };
                let micros = latency.lock().below(most);
                SystemClock.sleep(Duration::from_micros(micros));
            }
        }
        let mut state = self.state.lock();
        // The handle keeps its first path when the file has got its name.
        let is_temporary = path.ends_with(".tmp") && state.find(Path::new(&*path)).is_ok();
        if self.faults.renames_before_sync && kind == SyncKind::All && is_temporary {
            state.unsynced.push(inode);
            return;
        }
        state.ops.push(match kind {
            SyncKind::Volume => Op::SyncVolume { begun },
            SyncKind::Data | SyncKind::All | SyncKind::Directory => Op::Sync {
                inode,
                begun,
                covers_length: kind != SyncKind::Data,
            },
        });
    }
}

fn error(kind: io::ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, path.display().to_string())
}

impl State {
    fn find(&self, path: &Path) -> io::Result<Inode> {
        let relative = path
            .strip_prefix(ROOT)
            .map_err(|_| error(io::ErrorKind::NotFound, path))?;
        let mut inode = ROOT_INODE;
        for name in relative {
            let Node::Directory(entries) = &self.image.nodes[inode] else {
                return Err(error(io::ErrorKind::NotADirectory, path));
            };
            let name = name.to_string_lossy();
            inode = *entries
                .get(&*name)
                .ok_or_else(|| error(io::ErrorKind::NotFound, path))?;
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

    fn add(&mut self, node: Node) -> Inode {
        self.image.nodes.push(node);
        self.image.nodes.len() - 1
    }

    /// Zeroes that go on where the last ones ended are one change: they are many, and all alike.
    fn record_write(&mut self, inode: Inode, offset: u64, bytes: &[u8]) {
        let is_zero = is_zero(bytes);
        if is_zero
            && let Some(Op::Write {
                inode: last,
                offset: from,
                data: Data::Zeroes(length),
            }) = self.ops.last_mut()
            && *last == inode
            && *from + *length == offset
        {
            *length += bytes.len() as u64;
            return;
        }
        let data = match is_zero {
            true => Data::Zeroes(bytes.len() as u64),
            false => Data::Bytes(bytes.into()),
        };
        self.ops.push(Op::Write {
            inode,
            offset,
            data,
        });
    }
}

struct RecordedFile {
    inner: Arc<Inner>,
    path: PathBuf,
    inode: Inode,
    class: FileClass,
}

impl std::fmt::Debug for RecordedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordedFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl DiskFile for RecordedFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.inner.state.lock().content(self.inode).length())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.inner.state.lock().content(self.inode).clone();
        Ok(content.read(buffer, offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        sync::pause();
        let is_durable = matches!(self.class, FileClass::Segment | FileClass::Manifest);
        if self.inner.faults.leaves_torn_bytes && is_durable && is_zero(bytes) {
            return Ok(());
        }
        let mut state = self.inner.state.lock();
        state.content(self.inode).write(bytes, offset);
        state.record_write(self.inode, offset, bytes);
        Ok(())
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut state = self.inner.state.lock();
        let length = offset + length;
        state.content(self.inode).grow(length);
        state.ops.push(Op::Allocate {
            inode: self.inode,
            length,
        });
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut state = self.inner.state.lock();
        state.content(self.inode).set_length(length);
        state.ops.push(Op::Truncate {
            inode: self.inode,
            length,
        });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner
            .sync(self.inode, SyncKind::Data, &self.path, self.class);
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.inner
            .sync(self.inode, SyncKind::All, &self.path, self.class);
        Ok(())
    }

    /// Durable by luck only, and luck is what the states are made of.
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

impl Disk for RecordingDisk {
    fn create(&self, path: &Path, class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.inner.state.lock();
        let (parent, name) = state.place(path)?;
        if state.entries(parent).contains_key(&name) {
            return Err(error(io::ErrorKind::AlreadyExists, path));
        }
        let inode = state.add(Node::File(Content::default()));
        state.entries(parent).insert(name.clone(), inode);
        state.ops.push(Op::Create {
            parent,
            name,
            inode,
        });
        drop(state);
        Ok(self.file(path, inode, class))
    }

    fn open_write(&self, path: &Path, class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.inner.state.lock();
        let inode = state.find(path)?;
        match &state.image.nodes[inode] {
            Node::File(_) => Ok(self.file(path, inode, class)),
            Node::Directory(_) => Err(error(io::ErrorKind::IsADirectory, path)),
        }
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open_write(path, FileClass::Other)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        if path == Path::new(ROOT) {
            return Ok(());
        }
        let mut state = self.inner.state.lock();
        let (parent, name) = state.place(path)?;
        if let Some(inode) = state.entries(parent).get(&name).copied() {
            return match &state.image.nodes[inode] {
                Node::Directory(_) => Ok(()),
                Node::File(_) => Err(error(io::ErrorKind::AlreadyExists, path)),
            };
        }
        let inode = state.add(Node::Directory(BTreeMap::new()));
        state.entries(parent).insert(name.clone(), inode);
        state.ops.push(Op::MakeDirectory {
            parent,
            name,
            inode,
        });
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let inode = self.inner.state.lock().find(path)?;
        self.inner
            .sync(inode, SyncKind::Directory, path, FileClass::Other);
        Ok(())
    }

    fn sync_volume(&self, path: &Path) -> io::Result<()> {
        let inode = self.inner.state.lock().find(path)?;
        self.inner
            .sync(inode, SyncKind::Volume, path, FileClass::Other);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.inner.state.lock();
        let from_place = state.place(from)?;
        let to_place = state.place(to)?;
        let inode = state
            .entries(from_place.0)
            .remove(&from_place.1)
            .ok_or_else(|| error(io::ErrorKind::NotFound, from))?;
        state.entries(to_place.0).insert(to_place.1.clone(), inode);
        state.ops.push(Op::Rename {
            from: from_place,
            to: to_place,
            inode,
        });
        if let Some(at) = state.unsynced.iter().position(|owed| *owed == inode) {
            state.unsynced.swap_remove(at);
            let begun = state.ops.len();
            state.ops.push(Op::Sync {
                inode,
                begun,
                covers_length: true,
            });
        }
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.inner.state.lock();
        let (parent, name) = state.place(path)?;
        let inode = state
            .entries(parent)
            .remove(&name)
            .ok_or_else(|| error(io::ErrorKind::NotFound, path))?;
        state.ops.push(Op::Unlink {
            parent,
            name,
            inode,
        });
        Ok(())
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
        Ok(VolumeSpace {
            total_bytes: 1 << 40,
            available_bytes: 1 << 40,
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
