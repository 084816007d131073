//! What no power cut shows and each restart relies on: marks that prove what was durable, and salts that tell uses apart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aof2_core::io::FileClass;
use aof2_format::journal::JournalHeader;
use aof2_format::journal_mark::JournalMark;
use aof2_format::manifest_base::ManifestBase;
use aof2_format::names::file::{MANIFEST_BASE, parse_manifest_chunk};

use crate::content::Content;
use crate::dice::Dice;
use crate::disk::{Faults, RecordingDisk};
use crate::model::Note;
use crate::recording::{Data, Image, Inode, Node, Op, ROOT_INODE, Recording};
use crate::session::{How, Session, config};
use crate::timeline::Timeline;
use crate::volume::Fate;
use crate::workloads;

/// Everything that was written, as if the process had been killed just now.
fn killed(disk: &RecordingDisk) -> Image {
    let recording = disk.recording();
    let volume = Timeline::new(&recording).at(recording.ops.len());
    let items = volume.items();
    volume.cut(&items, &vec![Fate::Kept; items.len()])
}

/// The first file of a directory.
fn first_file<'a>(image: &'a mut Image, directory: &[&str]) -> &'a mut Content {
    let mut inode = ROOT_INODE;
    for name in directory {
        let Node::Directory(entries) = &image.nodes[inode] else {
            panic!("{name} is in a directory");
        };
        inode = entries[*name];
    }
    let Node::Directory(entries) = &image.nodes[inode] else {
        panic!("{directory:?} is a directory");
    };
    let inode = *entries.values().next().expect("an entry");
    match &mut image.nodes[inode] {
        Node::File(content) => content,
        Node::Directory(_) => panic!("a file in {directory:?}"),
    }
}

/// A file of the data directory itself.
fn root_file<'a>(image: &'a Image, name: &str) -> &'a Content {
    let Node::Directory(entries) = &image.nodes[ROOT_INODE] else {
        panic!("the root is a directory");
    };
    match &image.nodes[entries[name]] {
        Node::File(content) => content,
        Node::Directory(_) => panic!("{name} is a file"),
    }
}

#[test]
fn a_hole_below_what_a_later_batch_knows_to_be_durable_is_damage() {
    let disk = RecordingDisk::new(Image::empty(), Faults::NONE);
    let mut dice = Dice::new(3);
    let mut session = Session::open(disk.clone(), config(), 1, &mut dice).expect("it opens");
    session.append("s", &[100], How::Durable).expect("appended");
    // Synced in its segment, and no byte of it is in the journal.
    session
        .append("s", &[250 << 10], How::Durable)
        .expect("appended");
    // In the segment only, and no checkpoint has told the journal how far that is synced.
    session
        .append("s", &[100], How::Buffered)
        .expect("appended");
    let deadline = Instant::now() + Duration::from_secs(60);
    while session.store.describe("s").expect("there").durable_sequence < 3 {
        assert!(Instant::now() < deadline, "buffered records are settled");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(session.store.metrics().checkpoints, 0);

    let mut image = killed(&disk);
    let segment = first_file(&mut image, &["streams", "s", "segments"]);
    segment.write(&[0; 512], 100 << 10);
    let before = segment.digest(0);
    let disk = RecordingDisk::new(image, Faults::NONE);
    let mut session = Session::open(disk.clone(), config(), 100, &mut dice).expect("it opens");
    let mut now = killed(&disk);
    let segment = first_file(&mut now, &["streams", "s", "segments"]);
    assert_eq!(segment.digest(0), before, "what is damaged is left alone");
    let info = session.store.describe("s").expect("there");
    let damage = info.damage.expect("two acknowledged records are gone");
    assert!(damage.contains("from sequence 1"), "{damage}");
    let refused = session.append("s", &[100], How::Durable);
    assert!(refused.expect_err("refused").contains("Damaged"));
}

#[test]
fn a_torn_batch_that_nothing_knows_to_be_durable_is_no_damage() {
    let disk = RecordingDisk::new(Image::empty(), Faults::NONE);
    let mut dice = Dice::new(4);
    let mut session = Session::open(disk.clone(), config(), 1, &mut dice).expect("it opens");
    session.append("s", &[100], How::Durable).expect("appended");
    for _ in 0..3 {
        // More than the memory of the stream holds: the first goes to the segment.
        session
            .append("s", &[250 << 10], How::Buffered)
            .expect("appended");
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut image = killed(&disk);
    let mut byte = [0];
    while first_file(&mut image, &["streams", "s", "segments"]).read(&mut byte, 100 << 10) == 0
        || byte == [0]
    {
        assert!(Instant::now() < deadline, "a full piece is written");
        std::thread::sleep(Duration::from_millis(5));
        image = killed(&disk);
    }
    let segment = first_file(&mut image, &["streams", "s", "segments"]);
    segment.write(&[0; 512], 100 << 10);
    let disk = RecordingDisk::new(image, Faults::NONE);
    let session = Session::open(disk, config(), 100, &mut dice).expect("it opens");
    assert_eq!(session.store.describe("s").expect("there").damage, None);
    assert_eq!(session.served().expect("readable")["s"], [1]);
}

/// Journal files are used again and again.
fn recycling() -> Recording {
    let recycling = workloads::ALL
        .iter()
        .find(|workload| workload.name == "recycling")
        .expect("it is there");
    recycling
        .record(Faults::NONE, &mut Dice::new(5))
        .expect("it runs")
}

/// A power cut in that write may leave it without a header, and then it must not be missed.
#[test]
fn a_journal_file_is_written_over_only_after_the_mark_says_that_nobody_needs_it() {
    let mut numbers: BTreeMap<Inode, u64> = BTreeMap::new();
    let (mut written, mut settled_before, mut written_over) = (None, 0, 0);
    for (at, op) in recycling().ops.iter().enumerate() {
        match op {
            Op::Write {
                inode,
                offset,
                data: Data::Bytes(bytes),
            } => {
                if let Ok(mark) = JournalMark::decode(bytes) {
                    written = Some((at, *inode, mark.settled_before));
                } else if *offset == 0
                    && let Ok(header) = JournalHeader::decode(bytes)
                    && let Some(number) = numbers.insert(*inode, header.file_number)
                {
                    assert!(number < settled_before, "{number}, {settled_before}");
                    written_over += 1;
                }
            }
            Op::Sync { inode, begun, .. } => {
                if let Some((when, mark, settled)) = written
                    && mark == *inode
                    && *begun > when
                {
                    settled_before = settled;
                }
            }
            _ => {}
        }
    }
    assert!(written_over >= 2, "both files are used twice");
}

/// A stale commit of an earlier use must not verify, whatever its numbers are.
#[test]
fn each_use_of_a_journal_file_has_a_salt_of_its_own() {
    let recording = recycling();
    let headers: Vec<JournalHeader> = recording
        .ops
        .iter()
        .filter_map(|op| match op {
            Op::Write {
                offset: 0,
                data: Data::Bytes(bytes),
                inode: _,
            } => JournalHeader::decode(bytes).ok(),
            _ => None,
        })
        .collect();
    assert!(headers.len() >= 4, "both files are used twice");
    let salts: BTreeSet<u64> = headers.iter().map(|header| header.salt.0).collect();
    assert_eq!(salts.len(), headers.len(), "{salts:x?}");
    let numbers: Vec<u64> = headers.iter().map(|header| header.file_number).collect();
    assert!(
        numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "{numbers:?}"
    );
}

/// From its first commit on a journal file is missed where it is gone, and only the mark tells of the newest one.
#[test]
fn the_mark_names_a_journal_file_before_anything_in_it_is_acknowledged() {
    let disk = RecordingDisk::new(Image::empty(), Faults::NONE);
    let mut session =
        Session::open(disk.clone(), config(), 1, &mut Dice::new(7)).expect("it opens");
    // Noted by the round itself: the journal has not come to rest.
    session.append("s", &[100], How::Called).expect("staged");
    session.settle().expect("acknowledged");
    let recording = disk.recording();
    let acknowledged = recording
        .notes
        .iter()
        .find_map(|(changes, note)| match note {
            Note::Acknowledged { .. } => Some(*changes),
            Note::Attempt { .. } | Note::Durable { .. } | Note::Served(_) => None,
        });
    let volume = Timeline::new(&recording).at(acknowledged.expect("it is noted"));
    let items = volume.items();
    let synced = volume.cut(&items, &vec![Fate::Lost; items.len()]);
    let mark = root_file(&synced, "journal.mark");
    let mut bytes = vec![0; mark.length() as usize];
    mark.read(&mut bytes, 0);
    let newest = JournalMark::decode_file(&bytes).max_by_key(|mark| mark.turn);
    let newest = newest.expect("a slot verifies");
    assert_eq!(newest.file_number, 1, "{newest:?}");
    assert!(newest.commit > 0, "{newest:?}");
}

/// The checkpoint syncs a segment while a round takes a record of it; the record leaves memory and reaches the file after the sync
/// began. It is durable when its round is done, not when that sync is.
#[test]
fn a_record_that_leaves_memory_while_its_segment_is_synced_is_not_durable_by_that() {
    /// Steps, each waited for by the next.
    const JOURNAL_SYNCS: usize = 1;
    const CHECKPOINT_SYNCS: usize = 2;
    const OVER: usize = 3;
    let disk = RecordingDisk::new(Image::empty(), Faults::NONE);
    let mut config = config();
    config.checkpoint.interval = Duration::ZERO;
    let mut session = Session::open(disk.clone(), config, 1, &mut Dice::new(6)).expect("it opens");
    for stream in ["other", "s"] {
        session
            .append(stream, &[100], How::Durable)
            .expect("appended");
    }
    let step = Arc::new(AtomicUsize::new(0));
    let at_least = |step: &AtomicUsize, wanted| step.load(Ordering::SeqCst) >= wanted;
    let (hook_step, hook_disk) = (step.clone(), disk.clone());
    disk.on_sync(Arc::new(move |call| {
        let step = &hook_step;
        if call.class == FileClass::Journal {
            // The round of the other stream, then the one of the record.
            step.fetch_max(JOURNAL_SYNCS, Ordering::SeqCst);
            let wanted = match at_least(step, CHECKPOINT_SYNCS) {
                false => CHECKPOINT_SYNCS,
                true => OVER,
            };
            wait("the checkpoint", || at_least(step, wanted));
        } else if call.path.contains("/streams/s/segments/") && !at_least(step, CHECKPOINT_SYNCS) {
            let before = hook_disk.changes();
            step.store(CHECKPOINT_SYNCS, Ordering::SeqCst);
            wait("the record in its segment", || {
                let changes = hook_disk.recording().ops;
                let is_it = |op: &Op| matches!(op, Op::Write { offset, .. } if *offset > 4096);
                changes[before..].iter().filter(|op| is_it(op)).count() >= 2
            });
        }
    }));
    session
        .append("other", &[100], How::Called)
        .expect("staged");
    wait("the round of the other", || at_least(&step, JOURNAL_SYNCS));
    session.append("s", &[100], How::Called).expect("staged");
    wait("a checkpoint", || session.store.metrics().checkpoints > 0);
    let durable = session.store.describe("s").expect("there").durable_sequence;
    step.store(OVER, Ordering::SeqCst);
    session.settle().expect("acknowledged");
    assert_eq!(durable, 1, "its round was not synced yet");
    assert_eq!(
        session.store.describe("s").expect("there").durable_sequence,
        2
    );
}

fn wait(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Names that files got while something of them was not synced.
fn named_too_early(recording: &Recording) -> Vec<String> {
    let mut last_change: BTreeMap<Inode, usize> = BTreeMap::new();
    let mut synced: BTreeMap<Inode, usize> = BTreeMap::new();
    let mut early = Vec::new();
    for (index, op) in recording.ops.iter().enumerate() {
        match op {
            Op::Write { inode, .. } | Op::Allocate { inode, .. } | Op::Truncate { inode, .. } => {
                last_change.insert(*inode, index);
            }
            Op::Sync { inode, begun, .. } => {
                let known = synced.entry(*inode).or_default();
                *known = (*known).max(*begun);
            }
            Op::Rename { from, to, inode } if from.1.ends_with(".tmp") => {
                let covered = synced.get(inode).copied().unwrap_or(0);
                if last_change
                    .get(inode)
                    .is_some_and(|change| *change >= covered)
                {
                    early.push(to.1.clone());
                }
            }
            Op::Rename { .. }
            | Op::MakeDirectory { .. }
            | Op::Create { .. }
            | Op::Unlink { .. }
            | Op::SyncVolume { .. } => {}
        }
    }
    early
}

/// A second copy heals most of them, so that no state shows it.
#[test]
fn a_file_gets_its_name_when_all_of_it_is_synced() {
    let mut dice = Dice::new(5);
    let early = Faults {
        renames_before_sync: true,
        ..Faults::NONE
    };
    let mut noticed = BTreeSet::new();
    for workload in workloads::ALL {
        let good = workload.record(Faults::NONE, &mut dice).expect("recorded");
        assert_eq!(named_too_early(&good), Vec::<String>::new());
        let bad = workload.record(early, &mut dice).expect("recorded");
        noticed.extend(named_too_early(&bad));
    }
    for file in ["stream.header", "journal.mark", "streams.catalog"] {
        assert!(noticed.contains(file), "{file} is not among {noticed:?}");
    }
}

/// A start reads none of the chunks that a base stands for: they are on the device before it has its name, and the header of the chunk
/// behind them, without which it does not count. No chunk goes before that name is on the device.
#[test]
fn a_base_gets_its_name_behind_its_chunks_and_a_chunk_goes_behind_a_durable_base() {
    let of = |name: &str| {
        let workload = workloads::ALL.iter().find(|it| it.name == name);
        let workload = workload.expect("it is there");
        workload
            .record(Faults::NONE, &mut Dice::new(8))
            .expect("it runs")
    };
    let (_, bases, pruned) = look_at_bases(&of("chunks"));
    assert!(bases > 0 && pruned == 0, "{bases} bases, {pruned} pruned");
    let (left, bases, pruned) = look_at_bases(&of("snapshots"));
    assert!(bases >= 2 && pruned >= 2, "{bases} bases, {pruned} pruned");
    assert!(left <= 2, "{left} chunks are left");
}

/// Answers how many chunks are left, how many bases got their name and how many chunks went.
fn look_at_bases(recording: &Recording) -> (usize, usize, usize) {
    let mut chunks: BTreeMap<u64, Inode> = BTreeMap::new();
    let mut writes: BTreeMap<Inode, Vec<(usize, u64)>> = BTreeMap::new();
    let mut bytes: BTreeMap<Inode, Vec<u8>> = BTreeMap::new();
    let mut synced: BTreeMap<Inode, usize> = BTreeMap::new();
    // Chunks that a base stands for, and those that a durable one does.
    let mut named: Option<(usize, Inode, u64)> = None;
    let (mut durable, mut bases, mut pruned) = (0, 0, 0);
    for (at, op) in recording.ops.iter().enumerate() {
        match op {
            Op::Write {
                inode,
                offset,
                data,
            } => {
                writes.entry(*inode).or_default().push((at, *offset));
                if let Data::Bytes(written) = data {
                    let bytes = bytes.entry(*inode).or_default();
                    bytes.resize(bytes.len().max(*offset as usize + written.len()), 0);
                    bytes[*offset as usize..][..written.len()].copy_from_slice(written);
                }
            }
            Op::Sync { inode, begun, .. } => {
                let known = synced.entry(*inode).or_default();
                *known = (*known).max(*begun);
                if let Some((when, directory, stands_for)) = named
                    && directory == *inode
                    && *begun > when
                {
                    durable = stands_for;
                }
            }
            Op::Rename { to, inode, .. } => {
                if let Some((_, number)) = parse_manifest_chunk(&to.1) {
                    chunks.insert(number, *inode);
                }
                if to.1 == MANIFEST_BASE {
                    let base = ManifestBase::decode(&bytes[inode]).expect("a base");
                    let stands_for = base.chunks.len() as u64;
                    let is_synced = |number: u64, upto: u64| {
                        let Some(inode) = chunks.get(&number) else {
                            return number < durable;
                        };
                        let covered = synced.get(inode).copied().unwrap_or(0);
                        let mut writes = writes.get(inode).into_iter().flatten();
                        writes.all(|(when, offset)| *offset >= upto || *when < covered)
                            && covered > 0
                    };
                    for number in 0..stands_for {
                        assert!(
                            is_synced(number, u64::MAX),
                            "chunk {number} of {stands_for}"
                        );
                    }
                    assert!(
                        is_synced(stands_for, 4096),
                        "the header behind {stands_for}"
                    );
                    named = Some((at, to.0, stands_for));
                    bases += 1;
                }
            }
            Op::Unlink { name, .. } => {
                if let Some((_, number)) = parse_manifest_chunk(name) {
                    assert!(
                        number < durable,
                        "chunk {number} goes, {durable} are in a base"
                    );
                    chunks.remove(&number);
                    pruned += 1;
                }
            }
            Op::MakeDirectory { .. }
            | Op::Create { .. }
            | Op::Allocate { .. }
            | Op::Truncate { .. }
            | Op::SyncVolume { .. } => {}
        }
    }
    (chunks.len(), bases, pruned)
}
