//! Snapshots that somebody deletes, over a Tier 2 in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use aof2_format::StreamName;
use aof2_format::snapshot::{Catalogue, SnapshotId};
use aof2_format::snapshot_deletion::DeletionStage;

use super::killer::{Killer, Left, each};
use super::node::snapshot;
use super::whole::{Whole, objects, start, take_over, trim};
use crate::deletion::{SnapshotDeleteError, SnapshotDeleted};
use crate::objects::memory::{Fault, MemoryStore, Verb};
use crate::objects::{ObjectStore, Upload};
use crate::snapshot::verify::{Level, Unwatched, verify};
use crate::snapshot::{LookupError, SnapshotRequest};
use crate::tier::testing::until;

/// Two snapshots of stream a: of two records, of which a trim has taken the first since, and of three.
struct Two {
    whole: Whole,
    old: (SnapshotId, String),
    new: (SnapshotId, String),
}

fn two(memory: &Arc<MemoryStore>, directory: &std::path::Path) -> Two {
    let whole = start(memory, directory);
    whole.node.segment(b"0");
    whole.node.segment(b"1");
    let old = snapshot(&whole.snapshots, "old");
    trim(&whole, 1);
    whole.node.segment(b"2");
    let new = snapshot(&whole.snapshots, "new");
    Two { whole, old, new }
}

impl Whole {
    fn delete(&self, id: SnapshotId) -> Result<SnapshotDeleted, SnapshotDeleteError> {
        self.deletion.delete_snapshot(&self.node.store, "a", id)
    }

    fn refused(&self, id: SnapshotId) -> String {
        self.delete(id).expect_err("refused").to_string()
    }

    fn stage(&self, id: SnapshotId) -> Option<DeletionStage> {
        let stage = self.node.store.snapshot_deletion("a", id);
        stage.expect("a stream")
    }

    fn listed(&self) -> Vec<SnapshotId> {
        let listed = self.snapshots.list(Some("a")).expect("a stream");
        listed.iter().map(|it| it.snapshot_id).collect()
    }

    fn is_verified(&self, id: SnapshotId) -> bool {
        let stream = StreamName::new("a").expect("a name");
        let tier2 = &self.node.tier2;
        let verdict = verify(tier2, &stream, id, Level::L1, None, &Unwatched);
        verdict.expect("read").fault.is_none()
    }
}

fn is_there(memory: &MemoryStore, key: &str) -> bool {
    memory.bytes_of(key).is_some()
}

#[test]
fn a_deleted_snapshot_is_none_any_more_and_what_it_alone_named_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let Two { whole, old, new } = two(&memory, folder.path());
    until("the first object is kept", || whole.waits("Snapshot", 1));
    assert_eq!(objects(&memory).len(), 3);
    let newest = whole.refused(new.0);
    assert_eq!(
        newest,
        format!(
            "snapshot {} of stream a is needed: the newest snapshot of a stream always stays; take a new one first",
            new.0
        )
    );
    let never = whole.delete(SnapshotId::new(1, 0));
    assert!(matches!(never, Err(SnapshotDeleteError::Unknown { .. })));
    let elsewhere = whole
        .deletion
        .delete_snapshot(&whole.node.store, "b", old.0);
    assert!(matches!(elsewhere, Err(SnapshotDeleteError::Store(_))));
    let length = memory.bytes_of(&old.1).expect("a catalogue").len() as u64;
    let deleted = whole.delete(old.0).expect("deleted");
    assert_eq!(deleted, SnapshotDeleted::Deleted { bytes: length });
    assert!(!is_there(&memory, &old.1) && is_there(&memory, &new.1));
    until("the object goes", || objects(&memory).len() == 2);
    until("none waits", || whole.status().waiting.is_empty());
    assert_eq!(whole.status().deleted_snapshots, 1);
    let gone = |whole: &Whole| {
        assert_eq!(
            whole.delete(old.0).expect("again"),
            SnapshotDeleted::Missing
        );
        assert_eq!(whole.listed(), [new.0]);
        let status = whole.snapshots.status("a", old.0);
        assert!(matches!(status, Err(LookupError::Deleted { .. })));
        let reading = whole.snapshots.reading("a", old.0);
        assert!(matches!(reading, Err(LookupError::Deleted { .. })));
        assert!(whole.is_verified(new.0));
    };
    gone(&whole);
    whole.stop();
    let whole = start(&memory, folder.path());
    gone(&whole);
    // Who asked for the deleted one gets another one.
    let (again, _) = snapshot(&whole.snapshots, "old");
    assert!(again > new.0);
    assert_eq!(whole.listed(), [again, new.0]);
    whole.stop();
}

#[test]
fn the_newest_verified_one_stays_whatever_became_of_newer_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let Two { whole, old, new } = two(&memory, folder.path());
    whole.node.segment(b"3");
    let (newest, _) = snapshot(&whole.snapshots, "newest");
    // What only the newest names.
    let last = objects(&memory).pop().expect("objects");
    let bytes = memory.bytes_of(&last).expect("an object");
    memory.delete(&last).expect("deleted");
    let told = whole.refused(new.0);
    assert!(
        told.contains("no newer one is verified")
            && told.contains(&format!(
                "snapshot {newest} is faulty: object {last} is missing"
            )),
        "{told}"
    );
    assert_eq!(whole.stage(new.0), None);
    let deleted = whole.delete(old.0).expect("the second one is verified");
    assert!(matches!(deleted, SnapshotDeleted::Deleted { .. }));
    whole.refused(new.0);
    let again = Upload::of_bytes(bytes, "put".into());
    memory.put(&last, &again).expect("put");
    let deleted = whole.delete(new.0).expect("the newest is verified");
    assert!(matches!(deleted, SnapshotDeleted::Deleted { .. }));
    // It was looked at just now, and is older all the same.
    whole.refused(newest);
    assert!(whole.is_verified(newest));
    whole.stop();
}

#[test]
fn what_is_being_taken_or_verified_is_not_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let Two { whole, old, .. } = two(&memory, folder.path());
    let reading = whole.snapshots.reading("a", old.0).expect("there");
    let verified = whole.delete(old.0);
    assert!(matches!(
        verified,
        Err(SnapshotDeleteError::BeingVerified { .. })
    ));
    drop(reading);
    memory.set_unreachable(true);
    let request = SnapshotRequest {
        stream: "a".into(),
        request: "third".into(),
        seals: true,
    };
    let third = whole.snapshots.begin(request).expect("begun").snapshot_id;
    let taken = whole.delete(third);
    assert!(matches!(taken, Err(SnapshotDeleteError::BeingTaken { .. })));
    memory.heal();
    until("it is done", || {
        whole.listed().first() == Some(&third) && !whole.snapshots.is_running("a")
    });
    whole.delete(old.0).expect("deleted");
    whole.stop();
}

#[test]
fn a_bucket_that_fails_ends_it_before_the_record_or_is_waited_for_behind_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let Two { whole, old, .. } = two(&memory, folder.path());
    memory.set_unreachable(true);
    let failed = whole.delete(old.0);
    assert!(
        matches!(failed, Err(SnapshotDeleteError::Failed { .. })),
        "{failed:?}"
    );
    assert_eq!(whole.stage(old.0), None);
    memory.heal();
    memory.inject(Verb::Delete, Fault::AccessDenied, 100_000);
    let waits = whole.delete(old.0).expect("it is recorded");
    assert!(
        matches!(&waits, SnapshotDeleted::Waits { why } if why.contains("access is denied")),
        "{waits:?}"
    );
    assert_eq!(whole.stage(old.0), Some(DeletionStage::Begun));
    assert!(is_there(&memory, &old.1) && whole.listed().len() == 1);
    until("a pass says so", || {
        let failure = whole.status().failure.unwrap_or_default();
        failure.contains("access is denied") && failure.contains(&old.1)
    });
    // It still names its object.
    assert_eq!(objects(&memory).len(), 3);
    memory.heal();
    // Accepted and not done, then done with its answer lost.
    memory.inject(Verb::Delete, Fault::Ignored, 1);
    memory.inject(Verb::Delete, Fault::LostResponse, 1);
    until("a pass does it", || {
        whole.node.tiers.coordinator().ring();
        whole.stage(old.0) == Some(DeletionStage::Done)
    });
    assert!(!is_there(&memory, &old.1));
    until("the object goes", || objects(&memory).len() == 2);
    until("nothing fails", || whole.status().failure.is_none());
    whole.stop();
}

#[test]
fn a_bucket_that_hangs_holds_nobody_but_who_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let Two { whole, old, .. } = two(&memory, folder.path());
    let (hangs, is_hanging) = mpsc::channel();
    let (answer, may_answer) = mpsc::channel::<()>();
    let may_answer = crate::io::sync::Mutex::new(may_answer);
    memory.before_each_call(move |verb| {
        if verb == Verb::Delete {
            // Gone: the test is over.
            let _ = hangs.send(());
            let _ = may_answer.lock().recv();
        }
    });
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| whole.delete(old.0));
        is_hanging.recv().expect("the bucket is asked");
        whole.node.segment(b"3");
        assert_eq!(whole.node.read(1).expect("read"), [b"1", b"2", b"3"]);
        snapshot(&whole.snapshots, "meanwhile");
        assert_eq!(whole.stage(old.0), Some(DeletionStage::Begun));
        drop(answer);
        let deleted = asked.join().expect("answered").expect("deleted");
        assert!(matches!(deleted, SnapshotDeleted::Deleted { .. }));
    });
    whole.stop();
}

#[test]
fn who_lost_the_stream_deletes_nothing_also_where_that_happens_behind_the_record() {
    for behind_the_record in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Arc::new(MemoryStore::new());
        let Two { whole, old, .. } = two(&memory, folder.path());
        let (bucket, store) = (Arc::downgrade(&memory), whole.node.store.clone());
        let (id, is_taken) = (old.0, AtomicBool::new(false));
        memory.before_each_call(move |_| {
            let stage = store.snapshot_deletion("a", id).expect("a stream");
            let is_time = !behind_the_record || stage == Some(DeletionStage::Begun);
            if is_time && !is_taken.swap(true, Ordering::SeqCst) {
                take_over(&bucket.upgrade().expect("a bucket"));
            }
        });
        // Of the probe of the bucket.
        let before = memory.calls(Verb::Delete);
        let refused = whole.delete(old.0);
        assert!(
            matches!(&refused, Err(SnapshotDeleteError::NotOwned { message }) if message.contains("orders-1")),
            "{refused:?}"
        );
        let begun = behind_the_record.then_some(DeletionStage::Begun);
        assert_eq!(whole.stage(old.0), begun);
        let again = whole.delete(old.0);
        assert!(
            matches!(again, Err(SnapshotDeleteError::NotOwned { .. })),
            "{again:?}"
        );
        whole.rest();
        assert_eq!(memory.calls(Verb::Delete), before);
        assert!(is_there(&memory, &old.1));
        whole.stop();
    }
}

#[test]
fn a_catalogue_that_cannot_be_read_goes_where_the_manifest_knows_it_and_one_of_others_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let Two { whole, old, new } = two(&memory, folder.path());
    let bytes = memory.bytes_of(&old.1).expect("a catalogue");
    let put = |key: &str, bytes: bytes::Bytes| {
        memory.delete(key).expect("deleted");
        let upload = Upload::of_bytes(bytes, "put".into());
        memory.put(key, &upload).expect("put");
    };
    // Of another stream, under a key of ours.
    let mut other = Catalogue::decode(&bytes).expect("a catalogue");
    other.stream_uuid = aof2_format::StreamUuid([9; 16]);
    put(&old.1, other.encode().into());
    let foreign = whole.delete(old.0);
    assert!(
        matches!(foreign, Err(SnapshotDeleteError::Foreign { .. })),
        "{foreign:?}"
    );
    // One that no marker tells of.
    let unmarked = old
        .1
        .replace(&old.0.0.to_string(), &(old.0.0 - 1).to_string());
    assert_ne!(unmarked, old.1);
    put(&unmarked, bytes.slice(..9));
    let unknown = whole.delete(SnapshotId(old.0.0 - 1));
    assert!(
        matches!(unknown, Err(SnapshotDeleteError::Foreign { .. })),
        "{unknown:?}"
    );
    let mut abandoned = Catalogue::decode(&bytes).expect("a catalogue");
    abandoned.snapshot_id = SnapshotId(old.0.0 - 1);
    put(&unmarked, abandoned.encode().into());
    let deleted = whole.delete(abandoned.snapshot_id).expect("ours");
    assert!(matches!(deleted, SnapshotDeleted::Deleted { .. }));
    put(&old.1, bytes.slice(..9));
    let deleted = whole
        .delete(old.0)
        .expect("its marker says that it is ours");
    assert!(matches!(deleted, SnapshotDeleted::Deleted { .. }));
    assert_eq!(whole.listed(), [new.0]);
    until("objects go again", || {
        whole.status();
        objects(&memory).len() == 2
    });
    whole.stop();
}

fn comes_to_an_end(
    left: &Left,
    number: usize,
    old: &(SnapshotId, String),
    new: SnapshotId,
) -> bool {
    let Left {
        directory,
        memory,
        answered,
        is_request,
    } = left;
    let told = format!("kill {number}, at a request: {is_request}");
    let was_there = is_there(memory, &old.1);
    let whole = start(memory, directory.path());
    let stage = whole.stage(old.0);
    // The record comes first.
    assert!(was_there || stage.is_some(), "{told}");
    assert!(
        *answered == 0 || stage == Some(DeletionStage::Done),
        "{told}"
    );
    assert!(stage != Some(DeletionStage::Done) || !was_there, "{told}");
    if stage.is_none() {
        assert_eq!(whole.listed(), [new, old.0], "{told}");
        assert!(whole.is_verified(old.0), "{told}");
        let deleted = whole.delete(old.0).expect("again");
        assert!(matches!(deleted, SnapshotDeleted::Deleted { .. }), "{told}");
    }
    until(&told, || {
        whole.status();
        whole.stage(old.0) == Some(DeletionStage::Done) && objects(memory).len() == 2
    });
    assert!(!is_there(memory, &old.1), "{told}");
    assert_eq!(whole.listed(), [new], "{told}");
    assert!(whole.is_verified(new), "{told}");
    assert_eq!(
        whole.delete(old.0).expect("again"),
        SnapshotDeleted::Missing
    );
    whole.stop();
    stage == Some(DeletionStage::Begun)
}

#[test]
fn a_kill_at_any_step_leaves_what_the_next_start_brings_to_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let Two { whole, old, new } = two(&memory, folder.path());
    until("the first object is kept", || whole.waits("Snapshot", 1));
    until("nothing is under way", || {
        whole.node.tiers.coordinator().is_idle()
    });
    let killer = Killer::begin(&whole.node, &memory, folder.path());
    whole.delete(old.0).expect("deleted");
    killer.answered();
    until("the object goes", || {
        whole.status();
        objects(&memory).len() == 2
    });
    let left = killer.end();
    whole.stop();
    assert!(left.len() > 10, "{}", left.len());
    let begun = AtomicU64::new(0);
    each(&left, |left, number| {
        let is_begun = comes_to_an_end(left, number, &old, new.0);
        begun.fetch_add(is_begun.into(), Ordering::SeqCst);
    });
    assert!(begun.load(Ordering::SeqCst) > 0, "none between the records");
}
