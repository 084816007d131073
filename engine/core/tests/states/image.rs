//! Files and directories in memory, and the changes of a disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::content::Content;

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
