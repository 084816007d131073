//! What a start asks of the disk, for each stream that rests.

use std::path::Path;
use std::sync::Arc;

use super::{durable, options};
use crate::error::OpenError;
use crate::io::fault::{Call, Fault, FaultDisk, Faults, How};
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

/// Syncs and writes of a start on the volume as a killed process leaves it, up to the point where streams serve.
fn calls_of_start(store: &Store, faults: &Faults) -> (u64, u64) {
    let copy = tempfile::tempdir().expect("a folder");
    let root = store.config().directory.clone();
    faults.at_one_moment(|| testing::copy_directory(&root, copy.path()));
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
    (syncs(&counted), writes(&counted))
}

#[test]
fn a_stream_that_a_checkpoint_settled_costs_a_start_no_sync_and_no_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, faults) = settled(folder.path());
    // The journal says so with its next commit, which is of one stream.
    store.append(durable(&name(0))).expect("acknowledged");
    let (syncs, writes) = calls_of_start(&store, &faults);
    assert!(syncs <= 2 && writes <= 2, "{syncs} syncs, {writes} writes");
}

#[test]
fn what_no_checkpoint_settled_is_synced_before_it_serves() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, faults) = settled(folder.path());
    for number in 0..STREAMS {
        store.append(durable(&name(number))).expect("acknowledged");
    }
    let (syncs, _) = calls_of_start(&store, &faults);
    assert!(syncs >= STREAMS, "{syncs}");
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
