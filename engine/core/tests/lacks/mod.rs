//! A machine that is out of space, descriptors or memory: rejections, no end of the process, and nobody has to help afterwards.

use std::sync::Arc;

use aof2_core::io::fault::{Call, Fault, FaultDisk, Faults, How};
use aof2_core::io::{Disk, FileClass, SystemDisk};
use aof2_core::{AppendError, OpenError, Remedy, SegmentState, Store, StoreError};

use crate::common::*;

const LACKS: [i32; 5] = [
    libc::ENOSPC,
    libc::EDQUOT,
    libc::EMFILE,
    libc::ENFILE,
    libc::ENOMEM,
];

/// More than the first blocks of a manifest take.
const PRODUCERS: u64 = 1_500;

fn append_as_many_producers(store: &Store) {
    for id in 1..=PRODUCERS {
        produced(store, "s", id, 0, &[b"x"]).unwrap();
    }
}

fn is_sealed(store: &Store) -> bool {
    let segments = store.segments("s").unwrap();
    segments
        .iter()
        .all(|segment| segment.state == SegmentState::Sealed)
}

/// A neighbour takes each free block: the seal's record in the manifest has no place.
#[test]
fn a_seal_whose_record_has_no_room_is_rejected_and_done_by_itself_later() {
    let directory = tempfile::tempdir().unwrap();
    let (store, faults) = open_with_faults(small_config(directory.path()));
    append_as_many_producers(&store);
    faults.limit_allocation(Some(0));
    for _ in 0..3 {
        let rejected = store.seal(Some("s")).unwrap_err();
        assert!(
            matches!(rejected, StoreError::DiskFull { .. }),
            "{rejected}"
        );
        assert_eq!(rejected.remedy(), Remedy::Retry);
    }
    assert!(!is_sealed(&store));
    assert_eq!(store.poisoned(), None);
    let refused = durable(&store, "s", b"y").unwrap_err();
    assert!(matches!(refused, AppendError::DiskFull { .. }), "{refused}");
    assert_eq!(read_all(&store, "s").len() as u64, PRODUCERS);

    faults.limit_allocation(None);
    eventually("the seal", || is_sealed(&store));
    durable(&store, "s", b"y").unwrap();
    drop(store);
    let store = open(directory.path());
    assert_eq!(read_all(&store, "s").len() as u64, PRODUCERS + 1);
    // What the seal says of producers is whole.
    let again = produced(&store, "s", PRODUCERS, 0, &[b"x"]).unwrap();
    assert!(again.duplicate);
}

#[test]
fn a_store_opens_where_nothing_can_be_allocated_and_serves_reads() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    append_as_many_producers(&store);
    drop(store);
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk) as Arc<dyn Disk>);
    faults.limit_allocation(Some(0));
    let mut options = options(small_config(directory.path()));
    options.environment.disk = disk;
    let store = Store::open(options).expect("nothing has to be allocated");
    assert_eq!(read_all(&store, "s").len() as u64, PRODUCERS);
    assert!(durable(&store, "s", b"y").is_err());
    assert_eq!(store.poisoned(), None);
    faults.limit_allocation(None);
    eventually("the seal of what was found", || is_sealed(&store));
    durable(&store, "s", b"y").unwrap();
}

/// One call fails for each reason, wherever that is: the caller is told to retry, and the retry does it.
#[test]
fn what_the_machine_lacks_for_a_moment_rejects_a_call_and_ends_nothing() {
    for errno in LACKS {
        for call in [
            Call::Create,
            Call::CreateDirectory,
            Call::Allocate,
            Call::Rename,
            Call::OpenWrite,
            Call::Unlink,
        ] {
            let directory = tempfile::tempdir().unwrap();
            let (store, faults) = open_with_faults(small_config(directory.path()));
            durable(&store, "old", b"1").unwrap();
            faults.add(Fault::of(call).how(How::Fails(errno)));
            if let Err(rejected) = durable(&store, "new", b"1") {
                assert_eq!(rejected.remedy(), Remedy::Retry, "{call:?}: {rejected}");
                durable(&store, "new", b"1").unwrap();
            }
            // Whoever did not meet it in the making of a stream may meet it in a seal.
            if let Err(rejected) = store.seal(None) {
                assert_eq!(rejected.remedy(), Remedy::Retry, "{call:?}: {rejected}");
            }
            eventually("the seals", || store.seal(None).is_ok());
            durable(&store, "old", b"2").unwrap();
            assert_eq!(store.poisoned(), None, "{call:?} {errno}");
            store.close().unwrap();
            let store = open(directory.path());
            assert_eq!(read_all(&store, "old").len(), 2, "{call:?} {errno}");
            assert_eq!(read_all(&store, "new").len(), 1, "{call:?} {errno}");
        }
    }
}

/// A file system that gives its blocks when they are written.
#[test]
fn a_write_behind_the_journal_that_is_rejected_is_made_again() {
    for errno in LACKS {
        for class in [FileClass::Segment, FileClass::Manifest] {
            let directory = tempfile::tempdir().unwrap();
            let (store, faults) = open_with_faults(small_config(directory.path()));
            durable(&store, "s", b"1").unwrap();
            store.seal(None).unwrap();
            durable(&store, "s", b"2").unwrap();
            faults.add(Fault::of(Call::Write).class(class).how(How::Fails(errno)));
            eventually("the seal", || store.seal(None).is_ok());
            if class == FileClass::Manifest {
                // The checkpoint writes it; the one of the close is the first that has to.
                store.close().unwrap();
            }
            assert!(faults.has_failed(), "{class:?}");
            assert_eq!(store.poisoned(), None, "{class:?} {errno}");
            drop(store);
            let store = open(directory.path());
            let found = payloads(&read_all(&store, "s"));
            assert_eq!(found, [b"1".to_vec(), b"2".to_vec()], "{class:?} {errno}");
        }
    }
}

fn open_on(directory: &std::path::Path, fault: Fault) -> (Result<Store, OpenError>, Arc<Faults>) {
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk) as Arc<dyn Disk>);
    faults.add(fault);
    let mut options = options(small_config(directory));
    options.environment.disk = disk;
    (Store::open(options), faults)
}

/// Every call of a start in turn: it opens, or is told to be tried again, and then opens with everything.
#[test]
fn a_start_that_lacks_something_is_tried_again() {
    let origin = tempfile::tempdir().unwrap();
    let store = open(origin.path());
    for stream in ["a", "b"] {
        durable(&store, stream, b"1").unwrap();
        store.seal(None).unwrap();
        durable(&store, stream, b"2").unwrap();
    }
    // As a killed process leaves it.
    let killed = tempfile::tempdir().unwrap();
    copy_directory(origin.path(), killed.path());
    store.close().unwrap();
    let mut rejections = 0;
    for errno in LACKS {
        for call in [
            Call::OpenRead,
            Call::Read,
            Call::OpenWrite,
            Call::Create,
            Call::Write,
            Call::Allocate,
            Call::Rename,
            Call::Unlink,
            Call::CreateDirectory,
        ] {
            for after in 0..40 {
                let directory = tempfile::tempdir().unwrap();
                copy_directory(killed.path(), directory.path());
                let fault = Fault::of(call).how(How::Fails(errno)).after(after);
                let (opened, faults) = open_on(directory.path(), fault);
                let has_failed = faults.has_failed();
                match opened {
                    Ok(store) => drop(store),
                    Err(rejected) => {
                        assert_eq!(rejected.remedy(), Remedy::Retry, "{call:?}: {rejected:?}");
                        rejections += 1;
                    }
                }
                if !has_failed {
                    break;
                }
                let store = open(directory.path());
                for stream in ["a", "b"] {
                    let found = payloads(&read_all(&store, stream));
                    assert_eq!(found, [b"1".to_vec(), b"2".to_vec()], "{call:?} {after}");
                }
            }
        }
    }
    assert!(rejections > 50, "{rejections}");
}
