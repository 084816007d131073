//! What is on a volume in memory: files and directories, how much of it is used, and what of it is durable.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::content::Content;
use crate::image::{Image, Inode, Node, ROOT_INODE};
use crate::volume::Volume;

/// Where the store is. Nothing of it is on a real disk.
pub const ROOT: &str = "/store";
/// Of the whole volume.
pub const TOTAL_BYTES: u64 = 256 << 20;

/// Files by their paths below the root.
pub type Files<'a> = BTreeMap<String, &'a Content>;

pub fn error(kind: io::ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, path.display().to_string())
}

pub fn raw(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

pub const ENOSPC: i32 = 28;
pub const EMFILE: i32 = 24;
pub const EIO: i32 = 5;

/// Why calls fail that need blocks, or anything else that runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    Space {
        left_bytes: u64,
    },
    /// Others have taken all but those that the process has now.
    Descriptors,
}

/// What is on it.
pub struct Contents {
    pub image: Image,
    pub volume: Volume,
    /// Lengths of files, by what they are for.
    pub used_bytes: u64,
    pub segment_bytes: u64,
    pub most_segment_bytes: u64,
    /// By inode.
    pub is_segment: Vec<bool>,
    /// What others have on the volume.
    pub others_bytes: u64,
    /// Files that are open, and how many may be.
    pub open: u64,
    pub most_open: u64,
    pub is_locked: bool,
}

impl Contents {
    pub fn new(image: Image) -> Contents {
        let mut contents = Contents {
            volume: Volume::new(&image),
            is_segment: vec![false; image.nodes.len()],
            image,
            used_bytes: 0,
            segment_bytes: 0,
            most_segment_bytes: 0,
            others_bytes: 0,
            open: 0,
            most_open: u64::MAX,
            is_locked: false,
        };
        contents.count(ROOT_INODE, false);
        contents
    }

    pub fn gather<'a>(&'a self, inode: Inode, path: &str, files: &mut Files<'a>) {
        match &self.image.nodes[inode] {
            Node::File(content) => _ = files.insert(path.to_owned(), content),
            Node::Directory(entries) => {
                for (name, inode) in entries {
                    let path = match path {
                        "" => name.clone(),
                        parent => format!("{parent}/{name}"),
                    };
                    self.gather(*inode, &path, files);
                }
            }
        }
    }

    pub fn count(&mut self, inode: Inode, is_segment: bool) {
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

    pub fn find(&self, path: &Path) -> io::Result<Inode> {
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
    pub fn place(&self, path: &Path) -> io::Result<(Inode, String)> {
        let refused = || error(io::ErrorKind::InvalidInput, path);
        let parent = self.find(path.parent().ok_or_else(refused)?)?;
        let name = path.file_name().ok_or_else(refused)?;
        Ok((parent, name.to_string_lossy().into_owned()))
    }

    pub fn entries(&mut self, inode: Inode) -> &mut BTreeMap<String, Inode> {
        match &mut self.image.nodes[inode] {
            Node::Directory(entries) => entries,
            Node::File(_) => unreachable!("`place` answers directories"),
        }
    }

    pub fn content(&mut self, inode: Inode) -> &mut Content {
        match &mut self.image.nodes[inode] {
            Node::File(content) => content,
            Node::Directory(_) => unreachable!("directories are not opened"),
        }
    }

    pub fn add(&mut self, node: Node, is_segment: bool) -> Inode {
        self.image.nodes.push(node);
        self.is_segment.push(is_segment);
        self.image.nodes.len() - 1
    }

    pub fn available_bytes(&self) -> u64 {
        TOTAL_BYTES.saturating_sub(self.used_bytes + self.others_bytes)
    }

    pub fn look_for_descriptor(&self) -> io::Result<()> {
        match self.open < self.most_open {
            true => Ok(()),
            false => Err(raw(EMFILE)),
        }
    }

    /// Blocks up to there.
    pub fn take(&mut self, inode: Inode, length: u64) -> io::Result<()> {
        let more = length.saturating_sub(self.content(inode).length());
        if more > self.available_bytes() {
            return Err(raw(ENOSPC));
        }
        self.used_bytes += more;
        if self.is_segment[inode] {
            self.segment_bytes += more;
            self.most_segment_bytes = self.most_segment_bytes.max(self.segment_bytes);
        }
        Ok(())
    }

    pub fn give_back(&mut self, inode: Inode, bytes: u64) {
        self.used_bytes = self.used_bytes.saturating_sub(bytes);
        if self.is_segment[inode] {
            self.segment_bytes = self.segment_bytes.saturating_sub(bytes);
        }
    }

    /// An entry for this inode is gone.
    pub fn drop_node(&mut self, inode: Inode) {
        if let Node::File(content) = &self.image.nodes[inode] {
            let bytes = content.length();
            self.give_back(inode, bytes);
            // Whoever still has it open neither grows nor counts.
            self.is_segment[inode] = false;
        }
    }
}
