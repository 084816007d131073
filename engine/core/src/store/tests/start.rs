//! What a start asks of the disk, for each stream that rests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aof2_format::BLOCK_BYTES;
use aof2_format::segment::{DATA_OFFSET, SegmentHeader};

use super::{durable, options};
use crate::error::{OpenError, Remedy};
use crate::io::fault::{Call, Fault, FaultDisk, Faults, How};
use crate::io::{Disk, DiskFile, FileClass, SystemDisk};
use crate::recovery::{self, volume};
use crate::segment::files;
use crate::store::Store;
use crate::testing;

const STREAMS: u64 = 40;

fn open(folder: &Path) -> (Store, Arc<Faults>) {
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
    let mut options = options(folder);
    options.environment.disk = disk as Arc<dyn Disk>;
    (Store::open(options).expect("the directory opens"), faults)
}

fn name(number: u64) -> String {
    format!("s-{number}")
}

/// Streams with a record each, in segments that are open and settled.
fn settled(folder: &Path) -> (Store, Arc<Faults>) {
    let (store, faults) = open(folder);
    for number in 0..STREAMS {
        store.append(durable(&name(number))).expect("acknowledged");
    }
    let pipeline = store.pipeline();
    pipeline.checkpoint.run_once(pipeline).expect("settled");
    (store, faults)
}

fn syncs(faults: &Faults) -> u64 {
    [FileClass::Segment, FileClass::Manifest]
        .map(|class| faults.calls(Call::Sync, class))
        .iter()
        .sum()
}

fn writes(faults: &Faults) -> u64 {
    [FileClass::Segment, FileClass::Manifest]
        .map(|class| faults.calls(Call::Write, class))
        .iter()
        .sum()
}

/// The volume as a killed process leaves it.
fn killed(store: &Store, faults: &Faults) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    let root = store.config().directory.clone();
    faults.at_one_moment(|| testing::copy_directory(&root, copy.path()));
    copy
}

/// Syncs and writes of a start, up to the point where streams serve.
fn calls_of_start(folder: &Path) -> (u64, u64) {
    let (disk, counted) = FaultDisk::new(Arc::new(SystemDisk));
    let options = options(folder);
    let env = &options.environment;
    let identity = &options.identity;
    let volume = volume::identify(&*disk, &*env.rng, folder, identity, None);
    let context = recovery::Context {
        disk: &*disk,
        clock: &*env.clock,
        root: folder,
        volume: &volume.expect("its own"),
        journal_file_bytes: options.config.journal.file_bytes,
        journal_files: options.config.journal.files,
        on_progress: None,
    };
    let recovered = recovery::recover(&context).expect("recovered");
    assert_eq!(recovered.streams.len() as u64, STREAMS);
    assert!(recovered.streams.iter().all(|it| it.damage.is_none()));
    (syncs(&counted), writes(&counted))
}

#[test]
fn what_only_the_journal_holds_is_written_and_synced_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, faults) = settled(folder.path());
    for number in 0..STREAMS {
        store.append(durable(&name(number))).expect("acknowledged");
    }
    let volume = killed(&store, &faults);
    for number in 0..STREAMS {
        let segments = files::segments(&volume.path().join("streams").join(name(number)));
        for entry in SystemDisk.list(&segments).expect("listed") {
            let path = segments.join(entry.name);
            let file = SystemDisk.open_write(&path, FileClass::Segment);
            let file = file.expect("it is there");
            file.write_all_at(&[0; 4096], DATA_OFFSET).expect("zeroed");
        }
    }
    let (syncs, writes) = calls_of_start(volume.path());
    assert!(syncs >= STREAMS && writes >= STREAMS, "{syncs} {writes}");
    // What stands in the files by now costs the next start nothing.
    assert_eq!(calls_of_start(volume.path()), (0, 0));
}

#[test]
fn a_start_whose_volume_cannot_be_synced_serves_nothing_and_ends_the_process() {
    for number in [libc::EIO, libc::ENOSPC] {
        let folder = tempfile::tempdir().expect("a folder");
        drop(settled(folder.path()));
        let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
        faults.add(Fault::of(Call::SyncVolume).how(How::Fails(number)));
        let mut options = options(folder.path());
        options.environment.disk = disk as Arc<dyn Disk>;
        let opened = Store::open(options).map(drop);
        assert!(
            matches!(opened, Err(OpenError::Poisoned { .. })),
            "{opened:?}"
        );
        assert_eq!(faults.syncs_after_failure(), 0);
    }
}

#[test]
fn a_marker_that_an_earlier_start_left_is_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(settled(folder.path()));
    let marker = folder.path().join("starting");
    std::fs::write(&marker, "").expect("written");
    let (store, _) = open(folder.path());
    assert!(!marker.exists());
    store.append(durable(&name(0))).expect("acknowledged");
}

/// The length of a file reaches the device after its bytes, or not at all: the journal makes a segment as long as its records then, and
/// its seal makes it longer.
#[test]
fn a_segment_that_lost_its_length_counts_in_tier_0_as_long_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, faults) = settled(folder.path());
    let volume = killed(&store, &faults);
    drop(store);
    let segments = |number| files::segments(&volume.path().join("streams").join(name(number)));
    for number in 0..STREAMS {
        for entry in std::fs::read_dir(segments(number)).expect("listed") {
            let path = entry.expect("an entry").path();
            let file = std::fs::OpenOptions::new().write(true).open(path);
            file.expect("it is there")
                .set_len(DATA_OFFSET)
                .expect("cut");
        }
    }
    let (store, _) = open(volume.path());
    store.seal(None).expect("sealed");
    store.close().expect("closes");
    let lengths = (0..STREAMS).flat_map(|number| {
        let entries = std::fs::read_dir(segments(number)).expect("listed");
        entries.map(|entry| entry.expect("an entry").metadata().expect("a file").len())
    });
    assert_eq!(store.metrics().tier0_total_bytes, lengths.sum::<u64>());
}

#[test]
fn what_a_process_did_not_finish_is_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(settled(folder.path()));
    let unfinished = folder.path().join("clock.json.tmp");
    std::fs::write(&unfinished, "{").expect("written");
    let (store, _) = open(folder.path());
    assert!(!unfinished.exists());
    store.append(durable(&name(0))).expect("acknowledged");
}

fn paths_in(directory: &Path) -> Vec<PathBuf> {
    let entries = SystemDisk.list(directory).unwrap_or_default();
    entries
        .into_iter()
        .map(|entry| directory.join(entry.name))
        .collect()
}

/// In the last block of the first record, which a seal does not cut off.
const TORN_AT: u64 = 2 * DATA_OFFSET - 16;

/// Its segments hold these bytes behind the record, as a write that a power cut tore leaves them.
fn torn(number: u64, root: &Path, bytes: &[u8]) -> Vec<Arc<dyn DiskFile>> {
    let segments = files::segments(&root.join("streams").join(name(number)));
    let files = paths_in(&segments).into_iter().map(|path| {
        let file = SystemDisk.open_write(&path, FileClass::Segment);
        let file = file.expect("it is there");
        file.write_all_at(bytes, TORN_AT).expect("written");
        file
    });
    files.collect()
}

#[test]
fn a_start_on_a_full_volume_clears_torn_bytes_of_which_no_copy_fits() {
    for call in [Call::CreateDirectory, Call::Create, Call::Write] {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, faults) = settled(folder.path());
        let volume = killed(&store, &faults);
        drop(store);
        let segments = torn(0, volume.path(), b"torn");
        let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
        let full = Fault::of(call).path("quarantine");
        faults.add(full.how(How::Fails(libc::ENOSPC)));
        let mut options = options(volume.path());
        options.environment.disk = disk as Arc<dyn Disk>;
        let store = Store::open(options).expect("opens all the same");
        assert!(faults.has_failed(), "{call:?}");
        let quarantine = files::quarantine(&volume.path().join("streams").join(name(0)));
        assert_eq!(paths_in(&quarantine), Vec::<PathBuf>::new());
        for file in &segments {
            let mut found = [1; 4];
            assert_eq!(file.read_at(&mut found, TORN_AT).expect("read"), 4);
            let is_removed = !file.path().exists();
            assert!(found == [0; 4] || is_removed, "{call:?}");
        }
        // Before anything is acknowledged behind them.
        assert!(faults.calls(Call::Sync, FileClass::Segment) > 0);
        store.append(durable(&name(0))).expect("acknowledged");
        let killed = killed(&store, &faults);
        let (store, _) = open(killed.path());
        assert_eq!(store.metrics().replay.torn_bytes, 0);
        assert_eq!(store.describe(&name(0)).expect("there").next_sequence, 2);
    }
}

#[test]
fn a_start_with_room_keeps_a_copy_of_torn_bytes_and_one_that_lacks_memory_is_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, faults) = settled(folder.path());
    let volume = killed(&store, &faults);
    drop(store);
    torn(0, volume.path(), b"torn");
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
    let lacks = Fault::of(Call::Create).path(".torn");
    faults.add(lacks.how(How::Fails(libc::ENOMEM)));
    let mut options = options(volume.path());
    options.environment.disk = disk as Arc<dyn Disk>;
    let error = Store::open(options).map(drop).expect_err("tried again");
    assert_eq!(error.remedy(), Remedy::Retry, "{error}");
    let (store, _) = open(volume.path());
    let quarantine = files::quarantine(&volume.path().join("streams").join(name(0)));
    let kept: Vec<Vec<u8>> = paths_in(&quarantine)
        .iter()
        .map(|path| std::fs::read(path).expect("a file"))
        .collect();
    assert!(!kept.is_empty() && kept.iter().all(|bytes| bytes.ends_with(b"torn")));
    assert_eq!(store.describe(&name(0)).expect("there").next_sequence, 1);
}

/// Records that were buffered behind others that are lost, in a segment of their own.
#[test]
fn a_start_on_a_full_volume_removes_a_segment_that_follows_nothing_and_finds_no_place_to_put_it() {
    for call in [None, Some(Call::CreateDirectory), Some(Call::Rename)] {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, faults) = settled(folder.path());
        let volume = killed(&store, &faults);
        drop(store);
        let stream = volume.path().join("streams").join(name(0));
        let found = paths_in(&files::segments(&stream));
        let headers = found.iter().filter_map(|path| {
            let bytes = std::fs::read(path).expect("a file");
            SegmentHeader::decode(&bytes[..BLOCK_BYTES]).ok()
        });
        let last = headers.max_by_key(|header| header.segment_id);
        let last = last.expect("a segment");
        let lonely = SegmentHeader {
            segment_id: last.segment_id + 7,
            base_sequence: 9,
            ..last
        };
        let path = files::segment(&stream, 9, lonely.epoch, lonely.segment_id);
        std::fs::write(&path, lonely.encode()).expect("written");
        let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
        if let Some(call) = call {
            let full = Fault::of(call).path("quarantine");
            faults.add(full.how(How::Fails(libc::ENOSPC)));
        }
        let mut options = options(volume.path());
        options.environment.disk = disk as Arc<dyn Disk>;
        let store = Store::open(options).expect("opens all the same");
        assert_eq!(faults.has_failed(), call.is_some(), "{call:?}");
        assert!(!path.exists(), "{call:?}");
        let kept = paths_in(&files::quarantine(&stream)).len();
        assert_eq!(kept, usize::from(call.is_none()), "{call:?}");
        store.append(durable(&name(0))).expect("acknowledged");
        let described = store.describe(&name(0)).expect("there");
        assert_eq!((described.next_sequence, described.damage), (2, None));
    }
}
