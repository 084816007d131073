//! What was done to a disk, change by change, and what is there after so many changes: killed, or copied to another volume.

use crate::content::is_zero;
pub use crate::image::{Data, Image, Inode, Node, Op, ROOT_INODE};
use crate::model::Note;
use crate::volume::{Fate, Volume};

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
