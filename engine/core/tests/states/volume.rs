//! What a device holds at a point of a recording: what was synced, and what may or may not have reached it.
//!
//! No more is taken for granted than POSIX grants. A file's sync makes its bytes durable, not its entry in a directory; a data
//! sync makes the length durable only as far as bytes were written; each directory has a sync of its own. Bytes that were not
//! synced may be there sector by sector, in any order, but a sector never skips a write that it has a later one of: they go
//! through a page cache. A rename within a directory happens or does not; one between two directories may happen by halves.

use std::collections::BTreeMap;

use crate::content::{Content, SECTOR_BYTES};
use crate::image::{Data, Image, Inode, Node, Op, ROOT_INODE};

#[derive(Clone, Debug)]
struct Pending {
    /// Number of the change.
    at: usize,
    change: Change,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, data: Data },
    Grow(u64),
    Cut(u64),
}

#[derive(Clone, Debug)]
enum EntryChange {
    Set(String, Inode),
    Remove(String),
    Move {
        from: String,
        to: String,
        inode: Inode,
    },
}

#[derive(Clone, Debug)]
enum Kept {
    File {
        durable: Content,
        pending: Vec<Pending>,
    },
    Directory {
        durable: BTreeMap<String, Inode>,
        pending: Vec<(usize, EntryChange)>,
    },
}

#[derive(Clone, Debug)]
pub struct Volume {
    kept: Vec<Kept>,
    changes: usize,
}

/// Something that a power cut may take away.
#[derive(Clone, Debug)]
pub struct Item {
    pub inode: Inode,
    at: usize,
    /// Of a write.
    pub sectors: u64,
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Kept,
    /// The first sectors of a write, or all but the first ones.
    Front(u64),
    Back(u64),
    /// Some sectors of a write.
    Scattered(u64),
}

impl Fate {
    fn keeps(self, sector: u64) -> bool {
        match self {
            Fate::Lost => false,
            Fate::Kept => true,
            Fate::Front(count) => sector < count,
            Fate::Back(skipped) => sector >= skipped,
            Fate::Scattered(seed) => crate::dice::Dice::new(seed.wrapping_add(sector))
                .next()
                .is_multiple_of(2),
        }
    }
}

fn apply(content: &mut Content, change: &Change) {
    match change {
        Change::Write { offset, data } => data.put(content, *offset),
        Change::Grow(length) => content.grow(*length),
        Change::Cut(length) => content.set_length(*length),
    }
}

fn apply_entry(entries: &mut BTreeMap<String, Inode>, change: &EntryChange) {
    match change {
        EntryChange::Set(name, inode) => {
            entries.insert(name.clone(), *inode);
        }
        EntryChange::Remove(name) => {
            entries.remove(name);
        }
        EntryChange::Move { from, to, inode } => {
            if entries.get(from) == Some(inode) {
                entries.remove(from);
            }
            entries.insert(to.clone(), *inode);
        }
    }
}

impl Volume {
    /// Everything that is there is durable.
    pub fn new(base: &Image) -> Volume {
        let kept = base.nodes.iter().map(|node| match node {
            Node::File(content) => Kept::File {
                durable: content.clone(),
                pending: Vec::new(),
            },
            Node::Directory(entries) => Kept::Directory {
                durable: entries.clone(),
                pending: Vec::new(),
            },
        });
        Volume {
            kept: kept.collect(),
            changes: 0,
        }
    }

    /// So far.
    #[allow(dead_code)] // not in every test program
    pub fn changes(&self) -> usize {
        self.changes
    }

    pub fn step(&mut self, op: &Op) {
        let at = self.changes;
        self.changes += 1;
        match op {
            Op::MakeDirectory {
                parent,
                name,
                inode,
            } => {
                self.kept.push(Kept::Directory {
                    durable: BTreeMap::new(),
                    pending: Vec::new(),
                });
                debug_assert_eq!(*inode + 1, self.kept.len());
                self.entry(*parent, at, EntryChange::Set(name.clone(), *inode));
            }
            Op::Create {
                parent,
                name,
                inode,
            } => {
                self.kept.push(Kept::File {
                    durable: Content::default(),
                    pending: Vec::new(),
                });
                debug_assert_eq!(*inode + 1, self.kept.len());
                self.entry(*parent, at, EntryChange::Set(name.clone(), *inode));
            }
            Op::Rename { from, to, inode } if from.0 == to.0 => {
                let change = EntryChange::Move {
                    from: from.1.clone(),
                    to: to.1.clone(),
                    inode: *inode,
                };
                self.entry(from.0, at, change);
            }
            Op::Rename { from, to, inode } => {
                self.entry(from.0, at, EntryChange::Remove(from.1.clone()));
                self.entry(to.0, at, EntryChange::Set(to.1.clone(), *inode));
            }
            Op::Unlink {
                parent,
                name,
                inode: _,
            } => {
                self.entry(*parent, at, EntryChange::Remove(name.clone()));
            }
            Op::Write {
                inode,
                offset,
                data,
            } => {
                let change = Change::Write {
                    offset: *offset,
                    data: data.clone(),
                };
                self.change(*inode, at, change);
            }
            Op::Allocate { inode, length } => self.change(*inode, at, Change::Grow(*length)),
            Op::Truncate { inode, length } => self.change(*inode, at, Change::Cut(*length)),
            Op::Sync {
                inode,
                begun,
                covers_length,
            } => self.sync(*inode, *begun, *covers_length),
            Op::SyncVolume { begun } => {
                (0..self.kept.len()).for_each(|inode| self.sync(inode, *begun, true));
            }
        }
    }

    fn entry(&mut self, parent: Inode, at: usize, change: EntryChange) {
        match &mut self.kept[parent] {
            Kept::Directory { pending, .. } => pending.push((at, change)),
            Kept::File { .. } => unreachable!("entries are in directories"),
        }
    }

    fn change(&mut self, inode: Inode, at: usize, change: Change) {
        match &mut self.kept[inode] {
            Kept::File { pending, .. } => pending.push(Pending { at, change }),
            Kept::Directory { .. } => unreachable!("directories are not written"),
        }
    }

    fn sync(&mut self, inode: Inode, begun: usize, covers_length: bool) {
        match &mut self.kept[inode] {
            Kept::Directory { durable, pending } => pending.retain(|(at, change)| {
                let is_covered = *at < begun;
                if is_covered {
                    apply_entry(durable, change);
                }
                !is_covered
            }),
            Kept::File { durable, pending } => {
                let mut left: Vec<Pending> = Vec::new();
                for item in pending.drain(..) {
                    let is_growth = matches!(item.change, Change::Grow(_));
                    if item.at >= begun || (is_growth && !covers_length) {
                        left.push(item);
                        continue;
                    }
                    if let Change::Cut(_) = item.change {
                        // What it grew to before is cut off with the rest.
                        left.clear();
                    }
                    apply(durable, &item.change);
                }
                left.retain(
                    |item| !matches!(item.change, Change::Grow(to) if to <= durable.length()),
                );
                *pending = left;
            }
        }
    }

    /// What a process finds that is started without a power cut: all that was done, by the same inodes.
    pub fn cached(&self) -> Image {
        let nodes = self.kept.iter().map(|kept| match kept {
            Kept::File { durable, pending } => {
                let mut content = durable.clone();
                pending
                    .iter()
                    .for_each(|item| apply(&mut content, &item.change));
                Node::File(content)
            }
            Kept::Directory { durable, pending } => {
                let mut entries = durable.clone();
                pending
                    .iter()
                    .for_each(|(_, change)| apply_entry(&mut entries, change));
                Node::Directory(entries)
            }
        });
        Image {
            nodes: nodes.collect(),
        }
    }

    /// In the order of the changes.
    pub fn items(&self) -> Vec<Item> {
        let mut items = Vec::new();
        for (inode, kept) in self.kept.iter().enumerate() {
            match kept {
                Kept::Directory { pending, .. } => {
                    items.extend(pending.iter().map(|(at, _)| Item {
                        inode,
                        at: *at,
                        sectors: 0,
                    }))
                }
                Kept::File { pending, .. } => items.extend(pending.iter().map(|item| Item {
                    inode,
                    at: item.at,
                    sectors: match &item.change {
                        Change::Write { offset, data } => {
                            (offset + data.length()).div_ceil(SECTOR_BYTES) - offset / SECTOR_BYTES
                        }
                        Change::Grow(_) | Change::Cut(_) => 0,
                    },
                })),
            }
        }
        items.sort_by_key(|item| item.at);
        items
    }

    /// The device after a power cut. `fates` belong to `items`.
    pub fn cut(&self, items: &[Item], fates: &[Fate]) -> Image {
        let mut by_inode: BTreeMap<Inode, Vec<Fate>> = BTreeMap::new();
        for (item, fate) in items.iter().zip(fates) {
            by_inode.entry(item.inode).or_default().push(*fate);
        }
        let mut image = Image { nodes: Vec::new() };
        let mut numbers: BTreeMap<Inode, Inode> = BTreeMap::new();
        self.put(ROOT_INODE, &by_inode, &mut image, &mut numbers);
        image
    }

    /// Copies a node and what is below it. Two names of one file stay names of one file.
    fn put(
        &self,
        inode: Inode,
        fates: &BTreeMap<Inode, Vec<Fate>>,
        image: &mut Image,
        numbers: &mut BTreeMap<Inode, Inode>,
    ) -> Inode {
        if let Some(number) = numbers.get(&inode) {
            return *number;
        }
        let number = image.nodes.len();
        numbers.insert(inode, number);
        let fates_here = fates.get(&inode).map_or(&[][..], Vec::as_slice);
        match &self.kept[inode] {
            Kept::File { durable, pending } => {
                let content = left_of(durable, pending, fates_here);
                image.nodes.push(Node::File(content));
            }
            Kept::Directory { durable, pending } => {
                image.nodes.push(Node::Directory(BTreeMap::new()));
                let mut entries = durable.clone();
                for ((_, change), fate) in pending.iter().zip(fates_here) {
                    if *fate != Fate::Lost {
                        apply_entry(&mut entries, change);
                    }
                }
                let entries = entries
                    .into_iter()
                    .map(|(name, inode)| (name, self.put(inode, fates, image, numbers)))
                    .collect();
                image.nodes[number] = Node::Directory(entries);
            }
        }
        number
    }
}

fn left_of(durable: &Content, pending: &[Pending], fates: &[Fate]) -> Content {
    let mut left = durable.clone();
    if fates.iter().all(|fate| *fate == Fate::Lost) {
        return left;
    }
    // What the page cache held after each change.
    let mut cache = durable.clone();
    for (Pending { at: _, change }, fate) in pending.iter().zip(fates) {
        apply(&mut cache, change);
        match change {
            Change::Grow(_) | Change::Cut(_) => {
                if *fate != Fate::Lost {
                    apply(&mut left, change);
                }
            }
            Change::Write { offset, data } => {
                let end = offset + data.length();
                let first = offset / SECTOR_BYTES;
                if let (Data::Zeroes(length), Fate::Kept) = (data, fate)
                    && offset.is_multiple_of(SECTOR_BYTES)
                    && length.is_multiple_of(SECTOR_BYTES)
                {
                    left.zero(*offset, *length);
                    continue;
                }
                for sector in first..end.div_ceil(SECTOR_BYTES) {
                    if fate.keeps(sector - first) {
                        left.take_sector(&cache, sector);
                        left.grow(end.min((sector + 1) * SECTOR_BYTES));
                    }
                }
            }
        }
    }
    left
}
