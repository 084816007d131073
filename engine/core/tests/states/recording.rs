//! What was done to a disk, change by change, and what is there after so many changes: killed, or copied to another volume.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::content::{Content, is_zero};
use crate::model::Note;
use crate::volume::{Fate, Volume};

/// Index of a node.
pub type Inode = usize;
/// Of the directory of the store.
pub const ROOT_INODE: Inode = 0;

#[derive(Clone, Debug)]
pub enum Node {
    File(Content),
    Directory(BTreeMap<String, Inode>),
}

/// Files and directories; the first one is the root.
#[derive(Clone, Debug)]
pub struct Image {
    pub nodes: Vec<Node>,
}

impl Image {
    pub fn empty() -> Image {
        Image {
            nodes: vec![Node::Directory(BTreeMap::new())],
        }
    }
}

#[derive(Clone, Debug)]
pub enum Data {
    Zeroes(u64),
    Bytes(Arc<[u8]>),
}

impl Data {
    pub fn length(&self) -> u64 {
        match self {
            Data::Zeroes(length) => *length,
            Data::Bytes(bytes) => bytes.len() as u64,
        }
    }

    pub fn put(&self, content: &mut Content, offset: u64) {
        match self {
            Data::Zeroes(length) => content.zero(offset, *length),
            Data::Bytes(bytes) => content.write(bytes, offset),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Op {
    MakeDirectory {
        parent: Inode,
        name: String,
        inode: Inode,
    },
    Create {
        parent: Inode,
        name: String,
        inode: Inode,
    },
    Rename {
        from: (Inode, String),
        to: (Inode, String),
        inode: Inode,
    },
    Unlink {
        parent: Inode,
        name: String,
        inode: Inode,
    },
    Write {
        inode: Inode,
        offset: u64,
        data: Data,
    },
    /// Blocks up to there.
    Allocate {
        inode: Inode,
        length: u64,
    },
    Truncate {
        inode: Inode,
        length: u64,
    },
    /// Of a file or a directory. `begun`: how many changes there were when it began.
    Sync {
        inode: Inode,
        begun: usize,
        covers_length: bool,
    },
    /// Of all files and directories.
    SyncVolume {
        begun: usize,
    },
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Op::MakeDirectory {
                parent,
                name,
                inode,
            } => write!(f, "make directory {name} in #{parent} as #{inode}"),
            Op::Create {
                parent,
                name,
                inode,
            } => write!(f, "create {name} in #{parent} as #{inode}"),
            Op::Rename { from, to, inode } => write!(
                f,
                "rename #{inode} from {} in #{} to {} in #{}",
                from.1, from.0, to.1, to.0
            ),
            Op::Unlink {
                parent,
                name,
                inode,
            } => write!(f, "unlink {name} in #{parent}, #{inode}"),
            Op::Write {
                inode,
                offset,
                data,
            } => {
                let what = match data {
                    Data::Zeroes(_) => "zeroes",
                    Data::Bytes(_) => "bytes",
                };
                write!(f, "write {} {what} to #{inode} at {offset}", data.length())
            }
            Op::Allocate { inode, length } => write!(f, "allocate #{inode} up to {length}"),
            Op::Truncate { inode, length } => write!(f, "cut #{inode} to {length}"),
            Op::Sync {
                inode,
                begun,
                covers_length,
            } => {
                let what = if *covers_length { "all" } else { "data" };
                write!(f, "sync {what} of #{inode} as it was before {begun}")
            }
            Op::SyncVolume { begun } => write!(f, "sync the volume as it was before {begun}"),
        }
    }
}

/// What was there, what was done to it, and what the test noted after how many changes.
#[derive(Clone, Debug)]
pub struct Recording {
    pub base: Image,
    pub ops: Vec<Op>,
    pub notes: Vec<(usize, Note)>,
}

impl Recording {
    /// As if the process had been killed after so many changes.
    pub fn killed(&self, changes: usize) -> Recording {
        let notes = self.notes.iter().filter(|(at, _)| *at <= changes);
        Recording {
            base: self.base.clone(),
            ops: self.ops[..changes].to_vec(),
            notes: notes.cloned().collect(),
        }
    }

    /// As if what is there after so many changes had been copied file by file to another volume, and not synced there.
    pub fn copied(&self, changes: usize) -> Recording {
        let killed = self.killed(changes);
        let mut volume = Volume::new(&killed.base);
        killed.ops.iter().for_each(|op| volume.step(op));
        let items = volume.items();
        let image = volume.cut(&items, &vec![Fate::Kept; items.len()]);
        // Inodes are numbered in the order in which the copy makes them.
        let mut ops = Vec::new();
        let mut next = ROOT_INODE + 1;
        copy(&image, ROOT_INODE, ROOT_INODE, &mut next, &mut ops);
        let notes = killed.notes.into_iter();
        Recording {
            base: Image::empty(),
            notes: notes.map(|(_, note)| (ops.len(), note)).collect(),
            ops,
        }
    }
}

/// Of a copy.
const PIECE_BYTES: usize = 32 << 10;

fn copy(image: &Image, from: Inode, to: Inode, next: &mut Inode, ops: &mut Vec<Op>) {
    let Node::Directory(entries) = &image.nodes[from] else {
        return;
    };
    // What is not finished is removed in any case.
    for (name, entry) in entries.iter().filter(|(name, _)| !name.ends_with(".tmp")) {
        let (parent, name, inode) = (to, name.clone(), *next);
        *next += 1;
        match &image.nodes[*entry] {
            Node::Directory(_) => {
                ops.push(Op::MakeDirectory {
                    parent,
                    name,
                    inode,
                });
                copy(image, *entry, inode, next, ops);
            }
            Node::File(content) => {
                ops.push(Op::Create {
                    parent,
                    name,
                    inode,
                });
                let length = content.length();
                ops.push(Op::Allocate { inode, length });
                let mut bytes = vec![0; length as usize];
                content.read(&mut bytes, 0);
                let pieces = bytes.chunks(PIECE_BYTES).enumerate();
                for (index, piece) in pieces.filter(|(_, piece)| !is_zero(piece)) {
                    ops.push(Op::Write {
                        inode,
                        offset: (index * PIECE_BYTES) as u64,
                        data: Data::Bytes(piece.into()),
                    });
                }
            }
        }
    }
}
