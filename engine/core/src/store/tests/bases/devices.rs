//! Files of a manifest that the machine cannot open, and that the device does not give back: neither says what is in them.

use super::*;
use crate::error::Remedy;
use crate::error::{OpenError, StoreError};
use crate::io::fault::{Call, Fault, How};

/// Reads before what the device says is believed.
const READS: usize = 3;

fn try_open(folder: &Path, faults: impl IntoIterator<Item = Fault>) -> Result<Store, OpenError> {
    let (disk, all) = FaultDisk::new(Arc::new(SystemDisk));
    let mut options = options(folder);
    options.environment.disk = disk;
    options.config.manifest.base_after_chunks = u64::MAX;
    faults.into_iter().for_each(|fault| all.add(fault));
    Store::open(options)
}

/// Removes the chunks that the base stands for.
fn prune(folder: &Path) {
    for number in 0..3 {
        std::fs::remove_file(chunk_file(folder, number)).expect("removed");
    }
}

/// Too few descriptors say nothing about a base.
#[test]
fn a_base_that_cannot_be_opened_for_want_of_descriptors_refuses_the_start_and_stays() {
    let volume = volume();
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
    let mut options = options(volume.folder.path());
    options.environment.disk = disk;
    let lack = Fault::of(Call::OpenRead).path("manifest/base");
    faults.add(lack.clone().how(How::Fails(libc::EMFILE)));
    let refused = Store::open(options).err().expect("refused");
    assert_eq!(refused.remedy(), Remedy::Retry, "{refused}");
    assert!(base_file(volume.folder.path()).exists());
    volume.starts(volume.folder.path(), "once there are some", true);
}

#[test]
fn a_chunk_that_cannot_be_opened_or_read_for_want_of_something_refuses_the_start() {
    let volume = volume();
    for (call, number) in [
        // The chunk behind the base, to see whether it is the one.
        (Call::OpenRead, libc::EMFILE),
        (Call::OpenRead, libc::ENOMEM),
        // One of which the journal has something.
        (Call::OpenWrite, libc::ENFILE),
        (Call::OpenWrite, libc::ENOMEM),
        (Call::Read, libc::ENOMEM),
    ] {
        let copy = volume.copy();
        let lack = Fault::of(call).path(".mlog").how(How::Fails(number));
        // More than what the journal has is compared with the chunk.
        let refused = try_open(copy.path(), vec![lack; 64]).err();
        let refused = refused.unwrap_or_else(|| panic!("{call:?} {number}: it opens"));
        assert_eq!(refused.remedy(), Remedy::Retry, "{refused}");
        volume.starts(copy.path(), "once there are some", true);
    }
}

/// One path of several failed just now.
#[test]
fn a_device_that_gives_a_file_back_when_asked_again_is_no_damage() {
    for path in ["manifest/base", "00003.mlog", "00004.mlog", "00005.mlog"] {
        let volume = volume();
        prune(volume.folder.path());
        let once = Fault::of(Call::Read).path(path);
        let store = try_open(volume.folder.path(), vec![once; READS - 1]).expect("it opens");
        assert_eq!(damage(&store), None, "{path}");
        assert_eq!(state(&store), volume.state, "{path}");
    }
}

/// Its stream is damaged until the device does, the others are served, and nothing of it is removed.
#[test]
fn a_file_that_the_device_does_not_give_back_damages_its_stream_alone_and_no_longer_than_that() {
    for (path, part) in [
        ("manifest/base", "file cannot be read: "),
        ("00003.mlog", "manifest chunk 3: "),
        ("00004.mlog", "manifest chunk 4 cannot be read: "),
    ] {
        let volume = volume();
        let folder = volume.folder.path();
        try_open(folder, [])
            .expect("it opens")
            .close()
            .expect("closes");
        prune(folder);
        let bad = vec![Fault::of(Call::Read).path(path); 2 * READS];
        let store = try_open(folder, bad).expect("it opens");
        let told = damage(&store).expect("it is told");
        assert!(
            told.contains(part) && told.contains("os error 5"),
            "{path}: {told}"
        );
        store.append(durable("a")).expect_err("refused");
        store.append(durable("other")).expect("acknowledged");
        store.close().expect("closes");
        volume.starts(folder, path, true);
    }
}

#[test]
fn a_base_that_the_device_does_not_give_back_stays_where_the_chunks_are_replayed() {
    let volume = volume();
    let folder = volume.folder.path();
    let bad = vec![Fault::of(Call::Read).path("manifest/base"); READS];
    let store = try_open(folder, bad).expect("it opens");
    assert_eq!(damage(&store), None);
    assert_eq!(state(&store), volume.state);
    assert!(base_file(folder).exists());
    store.close().expect("closes");
    volume.starts(folder, "the next start", true);
}

/// The journal is written over by a process that serves.
#[test]
fn a_chunk_that_does_not_take_what_the_journal_alone_has_refuses_the_start() {
    let volume = volume();
    let folder = volume.folder.path();
    let bad = vec![Fault::of(Call::OpenWrite).path("00005.mlog"); READS];
    let refused = try_open(folder, bad).err().expect("refused");
    assert!(matches!(refused, OpenError::Disk { .. }), "{refused}");
    volume.starts(folder, "the next start", true);
}

#[test]
fn a_closed_chunk_that_cannot_be_opened_now_is_a_refusal_and_no_damage() {
    /// More than the store has files that it may close for another.
    const OPEN: usize = 64;
    let volume = volume();
    for number in [libc::EMFILE, libc::ENFILE, libc::ENOMEM] {
        for path in ["00000.mlog", "manifest/base"] {
            let copy = volume.copy();
            let (store, faults) = open(copy.path());
            let stream = store.known("a").expect("it exists");
            let owned = stream.owned(store.pipeline());
            let first = stream.manifest.prunable(&owned, 1).expect("one")[0];
            let lack = Fault::of(Call::OpenRead).path(path);
            (0..OPEN).for_each(|_| faults.add(lack.clone().how(How::Fails(number))));
            let refused = match path {
                "manifest/base" => stream.manifest.prunable(&owned, 1).map(drop),
                _ => stream.manifest.closed_bytes(&owned, first).map(drop),
            };
            let refused = refused.expect_err("not now");
            assert!(matches!(refused, StoreError::OutOf { .. }), "{refused}");
            assert_eq!(refused.remedy(), Remedy::Retry);
        }
    }
}

#[test]
fn a_closed_chunk_is_damaged_once_the_device_does_not_give_it_back_when_asked_again() {
    let volume = volume();
    let (store, faults) = open(volume.folder.path());
    let stream = store.known("a").expect("it exists");
    let owned = stream.owned(store.pipeline());
    let first = stream.manifest.prunable(&owned, 1).expect("one")[0];
    let bad = Fault::of(Call::Read).path("00000.mlog");
    (1..READS).for_each(|_| faults.add(bad.clone()));
    let bytes = stream
        .manifest
        .closed_bytes(&owned, first)
        .expect("asked again");
    assert_eq!(bytes.len() as u64, first.bytes);
    (0..READS).for_each(|_| faults.add(bad.clone()));
    let damaged = stream
        .manifest
        .closed_bytes(&owned, first)
        .expect_err("damaged");
    assert!(matches!(damaged, StoreError::Damaged { .. }), "{damaged}");
}
