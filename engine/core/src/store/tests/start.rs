//! What a start asks of the disk, for each stream that rests.

use std::path::Path;
use std::sync::Arc;

use super::{durable, options};
use crate::io::fault::{Call, FaultDisk, Faults};
use crate::io::{Disk, FileClass, SystemDisk};
use crate::recovery::{self, volume};
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

/// Calls of a start on the volume as a killed process leaves it, up to the point where streams serve. `is_repeated`: a start before it was
/// killed, too.
fn calls_of_start(store: &Store, faults: &Faults, is_repeated: bool) -> (u64, u64) {
    let copy = tempfile::tempdir().expect("a folder");
    let root = store.config().directory.clone();
    faults.at_one_moment(|| testing::copy_directory(&root, copy.path()));
    if is_repeated {
        std::fs::write(copy.path().join("starting"), "").expect("a file");
    }
    let (disk, counted) = FaultDisk::new(Arc::new(SystemDisk));
    let options = options(copy.path());
    let env = &options.environment;
    let identity = &options.identity;
    let volume = volume::identify(&*disk, &*env.rng, copy.path(), identity, None);
    let context = recovery::Context {
        disk: &*disk,
        clock: &*env.clock,
        root: copy.path(),
        volume: &volume.expect("its own"),
        journal_file_bytes: options.config.journal.file_bytes,
        journal_files: options.config.journal.files,
        on_progress: None,
    };
    let recovered = recovery::recover(&context).expect("recovered");
    assert_eq!(recovered.streams.len() as u64, STREAMS);
    assert!(recovered.streams.iter().all(|it| it.damage.is_none()));
    assert!(!copy.path().join("starting").exists());
    (syncs(&counted), writes(&counted))
}

#[test]
fn a_stream_that_a_checkpoint_settled_costs_a_start_no_sync_and_no_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, faults) = settled(folder.path());
    // The journal says so with its next commit, which is of one stream.
    store.append(durable(&name(0))).expect("acknowledged");
    let (syncs, writes) = calls_of_start(&store, &faults, false);
    assert!(syncs <= 2 && writes <= 2, "{syncs} syncs, {writes} writes");
}

#[test]
fn a_start_after_one_that_was_killed_syncs_what_that_one_may_have_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, faults) = settled(folder.path());
    store.append(durable(&name(0))).expect("acknowledged");
    let (syncs, _) = calls_of_start(&store, &faults, true);
    assert!(syncs >= 2 * STREAMS, "{syncs}");
}

#[test]
fn what_no_checkpoint_settled_is_synced_before_it_serves() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, faults) = settled(folder.path());
    for number in 0..STREAMS {
        store.append(durable(&name(number))).expect("acknowledged");
    }
    let (syncs, _) = calls_of_start(&store, &faults, false);
    assert!(syncs >= STREAMS, "{syncs}");
}
