//! How a base comes to the volume.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aof2_format::manifest_chunk;

use super::*;
use crate::error::StoreError;
use crate::io::FileClass;
use crate::io::fault::{Call, Fault, How};

/// A chunk that was full is closed with its last commits in the journal alone.
#[test]
fn a_base_is_written_of_commits_that_are_synced_where_their_chunks_were_not_yet() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, faults) = open(folder.path());
    store.append(durable("a")).expect("acknowledged");
    let large = || ManifestEvent::CustomEvent {
        schema_id: 77,
        blob: vec![7; 700 << 10],
    };
    let kept = tempfile::tempdir().expect("a folder");
    for _ in 0..2 * AFTER + 1 {
        commit(&store, large());
    }
    faults.at_one_moment(|| copy_directory(folder.path(), kept.path()));
    let closed = std::fs::read(chunk_file(folder.path(), 0)).expect("a chunk");
    assert!(closed.iter().all(|byte| *byte == 0), "none is written yet");
    assert!(write_base(&store).expect("written"));
    assert_eq!(base_in(folder.path()).chunks.len() as u64, AFTER);
    let seed = store.known("a").expect("it exists").identity.seed;
    for number in 0..AFTER {
        let bytes = std::fs::read(chunk_file(folder.path(), number)).expect("a chunk");
        let commits = manifest_chunk::commits(&bytes, DATA_OFFSET as usize, seed);
        assert!(commits.filter(Result::is_ok).count() >= 2, "chunk {number}");
    }
    let header = std::fs::read(chunk_file(folder.path(), AFTER)).expect("a chunk");
    assert!(header.iter().any(|byte| *byte != 0), "its header is synced");
    drop(store);

    // Where the sync fails there is no base, and nothing is acknowledged any more.
    let (store, faults) = open(kept.path());
    let before = faults.syncs();
    commit(&store, large());
    faults.fail_sync(FileClass::Manifest, 0);
    write_base(&store).expect_err("poisoned");
    assert!(faults.syncs() > before && store.poisoned().is_some());
    assert!(!base_file(kept.path()).exists());
}

#[test]
fn without_a_tier_2_the_checkpoint_writes_the_base() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = open(folder.path());
    store.append(durable("a")).expect("acknowledged");
    for number in 0..AFTER {
        commit(&store, failed(ReasonCode::Codec));
        close_chunk(&store);
        assert!(!base_file(folder.path()).exists(), "{number}");
    }
    commit(&store, failed(ReasonCode::Codec));
    // Somebody is at the manifest's base, and for long.
    let stream = store.known("a").expect("it exists");
    let busy = stream.manifest.hold_base();
    for _ in 0..3 {
        let (done, checkpoint) = std::sync::mpsc::channel();
        let own = store.clone();
        std::thread::spawn(move || {
            let pipeline = own.pipeline();
            let checkpoint = pipeline.checkpoint.run_once(pipeline);
            done.send(checkpoint.is_ok())
        });
        let limit = Duration::from_secs(20);
        let done = checkpoint
            .recv_timeout(limit)
            .expect("it waits for no base");
        assert!(done);
        commit(&store, failed(ReasonCode::Transient));
    }
    let counters = &store.pipeline().common.counters;
    assert!(counters.checkpoints.load(Ordering::Relaxed) >= 3);
    assert!(!base_file(folder.path()).exists());
    drop(busy);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !base_file(folder.path()).exists() {
        assert!(Instant::now() < deadline, "no base is written");
        std::thread::yield_now();
    }
    store.close().expect("closes");
    assert_eq!(base_in(folder.path()).chunks.len() as u64, AFTER);
}

/// What waits when the store closes is written, so that a process that ends soon after each start has a base at last.
#[test]
fn a_base_that_waits_when_the_store_closes_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = open(folder.path());
    for stream in ["a", "b"] {
        store.append(durable(stream)).expect("acknowledged");
    }
    for _ in 0..AFTER {
        commit(&store, failed(ReasonCode::Codec));
        close_chunk(&store);
    }
    commit(&store, failed(ReasonCode::Codec));
    assert!(!base_file(folder.path()).exists());
    store.close().expect("closes");
    assert_eq!(base_in(folder.path()).chunks.len() as u64, AFTER);
}

#[test]
fn a_base_that_the_disk_rejects_is_tried_again_and_one_that_cannot_be_synced_ends_the_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, faults) = open(folder.path());
    store.append(durable("a")).expect("acknowledged");
    for _ in 0..AFTER {
        commit(&store, failed(ReasonCode::Codec));
        close_chunk(&store);
    }
    commit(&store, failed(ReasonCode::Transient));
    for (call, number) in [
        (Call::Create, libc::ENOMEM),
        (Call::Write, libc::ENOSPC),
        (Call::Rename, libc::ENOSPC),
        (Call::OpenRead, libc::ENOMEM),
    ] {
        let path = match call {
            Call::OpenRead => ".mlog",
            _ => "base",
        };
        faults.add(Fault::of(call).path(path).how(How::Fails(number)));
        let rejected = write_base(&store).expect_err(&format!("{call:?}"));
        let is_lack = matches!(
            rejected,
            StoreError::DiskFull { .. } | StoreError::OutOf { .. }
        );
        assert!(is_lack, "{call:?}: {rejected}");
        assert_eq!(store.poisoned(), None, "{call:?}");
        assert!(!base_file(folder.path()).exists());
        store.append(durable("a")).expect("acknowledged");
    }
    faults.add(Fault::of(Call::Sync).path("base"));
    write_base(&store).expect_err("poisoned");
    assert!(store.poisoned().is_some());
    drop(store);
    let (store, _) = open(folder.path());
    assert_eq!(damage(&store), None);
    let left = manifest(folder.path()).join("base.tmp");
    assert!(!left.exists(), "a start removes it");
    assert!(write_base(&store).expect("written"));
}
