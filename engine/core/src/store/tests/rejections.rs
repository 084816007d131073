//! What the disk rejected, and what is done once it does no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aof2_format::manifest_chunk::ManifestChunkHeader;
use aof2_format::names::file;

use super::{durable, options};
use crate::error::StoreError;
use crate::io::fault::{Call, Fault, FaultDisk, Faults, How};
use crate::io::{Disk, FileClass, SystemDisk};
use crate::request::{Producer, SegmentState};
use crate::segment::files;
use crate::store::{Store, settle};
use crate::tier::testing::until;

fn open(folder: &std::path::Path) -> (Store, Arc<Faults>) {
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
    let mut options = options(folder);
    options.environment.disk = disk as Arc<dyn Disk>;
    (Store::open(options).expect("the directory opens"), faults)
}

#[test]
fn a_manifest_that_a_checkpoint_could_not_write_is_written_by_the_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, faults) = open(folder.path());
    store.append(durable("a")).expect("acknowledged");
    let stream = store.known("a").expect("it exists");
    let chunk = files::manifest(&stream.directory).join(file::manifest_chunk(1, 0));
    let is_written = || {
        let bytes = std::fs::read(&chunk).expect("the chunk");
        ManifestChunkHeader::decode(&bytes).is_ok()
    };
    let full = Fault::of(Call::Write).class(FileClass::Manifest);
    faults.add(full.how(How::Fails(libc::ENOSPC)));
    let pipeline = store.pipeline();
    let rejected = pipeline.checkpoint.run_once(pipeline);
    assert!(crate::io::is_rejection(
        &rejected.expect_err("rejected").source
    ));
    assert!(!is_written());
    pipeline.checkpoint.run_once(pipeline).expect("done");
    assert!(is_written());
}

#[test]
fn a_rejected_seal_is_answered_with_its_reason_also_when_it_is_tried_once_more_meanwhile() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, faults) = open(folder.path());
    // More producers than the first blocks of the manifest hold.
    for id in 1..=1_500 {
        let mut request = durable("a");
        request.producer = Some(Producer {
            id,
            first_seq: 0,
            since: 0,
        });
        store.append(request).expect("acknowledged");
    }
    faults.limit_allocation(Some(0));
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                store.pipeline().work.retry_seals();
            }
        });
        let answers: Vec<_> = (0..2_000).map(|_| store.seal(Some("a"))).collect();
        is_done.store(true, Ordering::SeqCst);
        for answer in answers {
            let error = answer.expect_err("rejected");
            assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
        }
    });
}

#[test]
fn a_later_seal_of_a_stream_does_not_overtake_one_that_is_tried_once_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, faults) = open(folder.path());
    let work = &store.pipeline().work;
    // Between the list of what was rejected and the queue of the sealing thread, as `retry_seals` has it. The checkpoint may come first, and
    // another write of a segment, as of the file that is made ahead, may take the fault.
    let on_its_way = loop {
        store.append(durable("a")).expect("acknowledged");
        let full = Fault::of(Call::Write).class(FileClass::Segment);
        faults.add(full.how(How::Fails(libc::ENOSPC)));
        let Err(rejected) = store.seal(Some("a")) else {
            continue;
        };
        assert!(
            matches!(rejected, StoreError::DiskFull { .. }),
            "{rejected}"
        );
        let taken = work.rejected_seals.take();
        if !taken.is_empty() {
            break taken;
        }
    };
    let first = on_its_way[0].segment.id;
    store.append(durable("a")).expect("acknowledged");
    let stream = store.known("a").expect("it exists");
    settle::roll_for_seal(store.pipeline(), &stream, &mut stream.staged.lock()).expect("rolled");
    work.seal.wait_idle();
    let open = || {
        let segments = store.segments("a").expect("it exists");
        let open = segments
            .into_iter()
            .filter(|it| it.state == SegmentState::Sealing);
        open.map(|it| it.segment_id).collect::<Vec<_>>()
    };
    let waiting = open();
    assert_eq!((waiting.len(), waiting[0]), (2, first), "{waiting:?}");
    work.seal.push_front(on_its_way.into_iter());
    until("the seals", || open().is_empty());
}
