//! Every call that may be told of a failed write-out counts as a sync, and every other call that changes the disk counts as
//! broken when it fails: no acknowledgement after, the earlier ones are there when the store is opened again.

use aof2_core::io::FileClass;
use aof2_core::io::fault::{Call, Fault, How};
use aof2_core::{OpenError, ReadError, Store, StoreError};

use super::{
    DEADLINE, ensure_refused, found, in_time, open_to_be_poisoned, options_with_faults,
    use_until_poisoned,
};
use crate::common::{
    copy_directory, durable, open, open_with_faults, read_all, small_config, try_open,
};

const EIO: i32 = 5;
const ENOMEM: i32 = 12;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

fn a_fault_poisons(fault: Fault) {
    let case = format!("{fault:?}");
    // One sync of the file may have begun before a paced call beside it fails: it waits for that call, and fails with it.
    let most_beside = u64::from(fault.call == Call::Pace);
    let directory = tempfile::tempdir().unwrap();
    let (store, faults, told) = open_to_be_poisoned(directory.path());
    durable(&store, "other", b"before").unwrap();
    faults.add(fault);
    let user = store.clone();
    let acknowledged = in_time(&case, move || use_until_poisoned(&user));
    assert!(faults.has_failed(), "{case}");
    let message = told.recv_timeout(DEADLINE).expect(&case);
    assert!(message.starts_with("cannot "), "{case}: {message}");
    assert_eq!(store.failure(), Some(message), "{case}");
    assert_eq!(store.metrics().flush_failures, 1, "{case}");
    ensure_refused(&store);
    let durable = store
        .describe("s")
        .map_or(0, |stream| stream.durable_sequence);
    assert_eq!(durable, acknowledged, "{case}: the watermark stands still");
    let closing = store.clone();
    let closed = in_time(&case, move || closing.close());
    assert!(
        matches!(closed, Err(StoreError::Poisoned { .. })),
        "{case}: {closed:?}"
    );
    drop(store);
    let again = faults.syncs_of_failed();
    assert!(again <= most_beside, "{case}: synced again {again} times");

    let store = open(directory.path());
    let found = found(&store);
    assert!(
        found.len() as u64 >= acknowledged,
        "{case}: {acknowledged} were acknowledged, {} are found",
        found.len()
    );
    for (sequence, record) in found.iter().enumerate() {
        assert_eq!(
            record.payload[..8],
            (sequence as u64).to_le_bytes(),
            "{case}"
        );
    }
    assert_eq!(read_all(&store, "other").len(), 1, "{case}");
}

/// Whatever the error number: what was accepted may be gone.
fn a_failed_write_out_poisons(fault: &Fault) {
    for errno in [EIO, ENOSPC, EDQUOT] {
        a_fault_poisons(fault.clone().how(How::Fails(errno)));
    }
}

#[test]
fn a_failed_sync_poisons_the_store_whatever_the_file_and_the_error() {
    for (class, after) in [
        (FileClass::Journal, 3),
        // The first are of new segments, the others of large appends, rolls, checkpoints and seals.
        (FileClass::Segment, 0),
        (FileClass::Segment, 4),
        (FileClass::Segment, 9),
        (FileClass::Manifest, 1),
        (FileClass::Other, 1),
    ] {
        a_failed_write_out_poisons(&Fault::of(Call::Sync).class(class).after(after));
    }
}

#[test]
fn a_failed_paced_write_out_poisons_the_store() {
    a_failed_write_out_poisons(&Fault::of(Call::Pace));
    a_failed_write_out_poisons(&Fault::of(Call::Pace).after(5));
}

#[test]
fn a_failed_close_of_a_written_file_poisons_the_store() {
    for class in [FileClass::Segment, FileClass::Other] {
        a_failed_write_out_poisons(&Fault::of(Call::Close).class(class));
    }
}

#[test]
fn a_failed_sync_of_a_directory_poisons_the_store() {
    for path in ["/streams", "/segments", "/manifest", "/journal"] {
        a_failed_write_out_poisons(&Fault::of(Call::SyncDirectory).path(path));
    }
}

#[test]
fn a_broken_disk_poisons_the_store() {
    let segment = |call| Fault::of(call).class(FileClass::Segment);
    for fault in [
        Fault::of(Call::Write).class(FileClass::Journal).after(3),
        segment(Call::Write).after(2),
        Fault::of(Call::Write).class(FileClass::Manifest),
        Fault::of(Call::Write).class(FileClass::Other),
        segment(Call::Create).after(1),
        segment(Call::Allocate).after(2),
        segment(Call::Truncate),
        Fault::of(Call::Create).class(FileClass::Manifest),
        Fault::of(Call::Create).class(FileClass::Other),
        Fault::of(Call::CreateDirectory),
        Fault::of(Call::Rename).path("/segments").after(1),
        Fault::of(Call::Rename).path("stream.header"),
        Fault::of(Call::Rename).path("/manifest"),
    ] {
        a_fault_poisons(fault);
    }
}

/// What a kill left in the page cache only is synced by recovery, and synced once: the process ends.
#[test]
fn a_failed_sync_while_the_store_opens_poisons_it() {
    let directory = tempfile::tempdir().unwrap();
    {
        let folder = tempfile::tempdir().unwrap();
        let mut config = small_config(folder.path());
        // A checkpoint would have synced it.
        config.checkpoint.interval = std::time::Duration::from_secs(3600);
        let store = try_open(config).unwrap();
        durable(&store, "s", b"x").unwrap();
        copy_directory(folder.path(), directory.path());
    }
    for fault in [Fault::of(Call::SyncVolume), Fault::of(Call::SyncDirectory)] {
        for errno in [EIO, ENOSPC] {
            let (options, faults) = options_with_faults(directory.path());
            faults.add(fault.clone().how(How::Fails(errno)));
            match Store::open(options).err() {
                Some(OpenError::Poisoned { message }) => {
                    assert!(message.starts_with("cannot sync "), "{message}");
                }
                other => panic!("{fault:?}: {other:?}"),
            }
            assert_eq!(faults.syncs_after_failure(), 0, "{fault:?}");
        }
    }
    assert_eq!(read_all(&open(directory.path()), "s").len(), 1);
}

/// As many maps as the process may have: the next one is refused, and nothing was lost.
#[test]
fn a_map_that_is_refused_is_an_error_of_that_read_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (store, faults) = open_with_faults(small_config(directory.path()));
    durable(&store, "s", b"x").unwrap();
    store.seal(None).unwrap();
    faults.add(Fault::of(Call::Map).how(How::Fails(ENOMEM)));
    let request = aof2_core::ReadRequest {
        stream: "s".into(),
        from_sequence: 0,
        limit: 0,
        include_staged: false,
    };
    match store.read(request).unwrap().next_batch(1000) {
        Err(ReadError::Disk { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(store.failure(), None);
    assert_eq!(read_all(&store, "s").len(), 1);
    durable(&store, "s", b"y").unwrap();
}
