//! What the second reader finds.

use std::sync::Arc;

use aof2_core::objects::memory::{Fault as Fail, MemoryStore, Verb};
use aof2_core::objects::{ObjectStore, Upload};
use aof2_core::objects::{Refusal, Tier2Reason};
use aof2_core::snapshot::verify::{Fault, Level, Unwatched, VerifyError, verify};
use aof2_format::StreamName;
use aof2_format::snapshot::{Catalogue, SnapshotId};

use crate::common::durable;
use crate::support::{Node, node};

struct Taken {
    memory: Arc<MemoryStore>,
    node: Node,
    id: SnapshotId,
    key: String,
    _folder: tempfile::TempDir,
}

fn reason(error: VerifyError) -> Tier2Reason {
    match error {
        VerifyError::Tier2(error) => error.reason(),
        VerifyError::Ended { .. } => panic!("{error}"),
    }
}

fn taken() -> Taken {
    taken_in(MemoryStore::new())
}

fn taken_in(memory: MemoryStore) -> Taken {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(memory);
    let node = node(memory.clone(), folder.path());
    for round in 0..3 {
        durable(&node.store, "orders", b"records").expect("acknowledged");
        node.take("orders", &format!("r{round}"));
    }
    let status = node.take("orders", "r2");
    Taken {
        memory,
        node,
        id: status.snapshot_id,
        key: status.key,
        _folder: folder,
    }
}

impl Taken {
    fn fault(&self, level: Level) -> Option<(Fault, String)> {
        self.node.verify("orders", self.id, level).fault
    }

    fn catalogue(&self) -> Catalogue {
        let bytes = self.memory.bytes_of(&self.key).expect("there");
        Catalogue::decode(&bytes).expect("a catalogue")
    }

    fn replace(&self, key: &str, bytes: Vec<u8>) {
        let upload = Upload::of_bytes(bytes.into(), "behind our back".into());
        self.memory.put(key, &upload).expect("put");
    }
}

#[test]
fn every_named_object_that_is_deleted_is_found_by_its_key() {
    let taken = taken();
    assert_eq!(taken.fault(Level::L1), None);
    let catalogue = taken.catalogue();
    assert_eq!((catalogue.segments.len(), catalogue.chunks.len()), (3, 3));
    let segments = catalogue.segments.iter().map(|it| it.key.clone());
    let chunks = catalogue.chunks.iter().map(|it| it.key.clone());
    for key in segments.chain(chunks).chain([taken.key.clone()]) {
        let bytes = taken.memory.bytes_of(&key).expect("there");
        taken.memory.delete(&key).expect("deleted");
        let verdict = taken.node.verify("orders", taken.id, Level::L0);
        let (fault, message) = verdict.fault.expect("a fault");
        assert_eq!(fault, Fault::ObjectMissing);
        assert!(message.contains(&key), "{message}");
        assert_eq!(verdict.missing, std::slice::from_ref(&key));
        taken.replace(&key, bytes.to_vec());
        assert_eq!(taken.fault(Level::L0), None);
    }
    taken.node.stop();
}

#[test]
fn another_size_other_bytes_and_a_foreign_catalogue_are_told_apart() {
    let taken = taken();
    let sound = taken.memory.bytes_of(&taken.key).expect("there");
    let segment = taken.catalogue().segments[1].key.clone();
    let bytes = taken.memory.bytes_of(&segment).expect("there").to_vec();
    taken.replace(&segment, bytes[1..].to_vec());
    assert_eq!(
        taken.fault(Level::L0).expect("a fault").0,
        Fault::SizeMismatch
    );
    let mut other = bytes.clone();
    other[20] ^= 1;
    taken.replace(&segment, other);
    let (fault, message) = taken.fault(Level::L0).expect("a fault");
    assert_eq!(fault, Fault::DigestMismatch);
    assert!(message.contains(&segment), "{message}");
    taken.replace(&segment, bytes);

    let mut torn = sound.to_vec();
    torn[60] ^= 1;
    taken.replace(&taken.key, torn);
    assert_ne!(taken.fault(Level::L0), None);
    taken.replace(&taken.key, b"{}".to_vec());
    assert_eq!(
        taken.fault(Level::L0).expect("a fault").0,
        Fault::Undecodable
    );
    let stream = StreamName::new("orders").expect("a name");
    let expected = Some("sha256:00");
    taken.replace(&taken.key, sound.to_vec());
    let verdict = verify(
        &taken.node.tier2,
        &stream,
        taken.id,
        Level::L0,
        expected,
        &Unwatched,
    );
    let (fault, _) = verdict.expect("answered").fault.expect("a fault");
    assert_eq!(fault, Fault::DigestMismatch);
    taken.node.stop();
}

#[test]
fn where_the_store_keeps_no_checksum_a_segment_that_was_overwritten_is_found_by_its_etag() {
    let memory = MemoryStore::new();
    memory.forget_checksums();
    let taken = taken_in(memory);
    assert_eq!(taken.fault(Level::L1), None);
    let segment = taken.catalogue().segments[1].key.clone();
    let mut bytes = taken.memory.bytes_of(&segment).expect("there").to_vec();
    bytes[20] ^= 1;
    taken.replace(&segment, bytes);
    let (fault, message) = taken.fault(Level::L0).expect("a fault");
    assert_eq!(fault, Fault::DigestMismatch);
    assert!(
        message.contains(&segment) && message.contains("ETag"),
        "{message}"
    );
    taken.node.stop();
}

#[test]
fn a_catalogue_that_says_something_else_than_its_manifest_passes_l0_and_not_l1() {
    let taken = taken();
    let sound = taken.catalogue();
    let lies: [&dyn Fn(&mut Catalogue); 2] = [
        &|it| {
            it.segments.pop();
            it.uploaded_sequence -= 1;
        },
        &|it| it.segments[2].etag.push('x'),
    ];
    for (index, lie) in lies.into_iter().enumerate() {
        let mut catalogue = sound.clone();
        lie(&mut catalogue);
        taken.replace(&taken.key, catalogue.encode());
        assert_eq!(taken.fault(Level::L0), None, "lie {index}");
        let (fault, _) = taken.fault(Level::L1).expect("a fault");
        assert_eq!(fault, Fault::ReplayDiffers, "lie {index}");
    }
    taken.node.stop();
}

#[test]
fn a_catalogue_that_says_something_else_than_its_segments_does_not_pass_l0() {
    let taken = taken();
    let sound = taken.catalogue();
    let lies: [&dyn Fn(&mut Catalogue); 3] = [
        &|it| it.segments[0].crc64.0 ^= 1,
        &|it| it.segments[0].segment_id += 7,
        &|it| it.segments[1].bytes += 1,
    ];
    for (index, lie) in lies.into_iter().enumerate() {
        let mut catalogue = sound.clone();
        lie(&mut catalogue);
        taken.replace(&taken.key, catalogue.encode());
        let (fault, message) = taken.fault(Level::L0).expect("a fault");
        assert_eq!(fault, Fault::DigestMismatch, "lie {index}");
        assert!(message.contains("/segments/"), "lie {index}: {message}");
    }
    taken.node.stop();
}

/// A rule of the bucket moved them: HEAD answers as before.
#[test]
fn objects_that_nobody_can_read_are_not_verified() {
    let taken = taken();
    for (verb, names) in [(Verb::GetRange, "/segments/"), (Verb::Get, "/snapshots/")] {
        for level in [Level::L0, Level::L1] {
            let archived = Fail::Refused(Refusal::Archived);
            taken.memory.inject(verb, archived, 100);
            let (fault, message) = taken.fault(level).expect("a fault");
            assert_eq!(fault, Fault::ObjectArchived);
            for part in [names, "archived", "restore the object"] {
                assert!(message.contains(part), "{level:?}: {message}");
            }
            taken.memory.heal();
            assert_eq!(taken.fault(level), None);
        }
    }
    // Nobody may read them: nothing is learned, and that is no success.
    taken.memory.inject(Verb::GetRange, Fail::AccessDenied, 100);
    let stream = StreamName::new("orders").expect("a name");
    let error = verify(
        &taken.node.tier2,
        &stream,
        taken.id,
        Level::L0,
        None,
        &Unwatched,
    )
    .expect_err("denied");
    assert_eq!(reason(error), Tier2Reason::AccessDenied);
    taken.memory.heal();
    taken.node.stop();
}

#[test]
fn a_tier_2_that_does_not_answer_is_no_verdict() {
    let taken = taken();
    taken.memory.set_unreachable(true);
    let stream = StreamName::new("orders").expect("a name");
    let error = verify(
        &taken.node.tier2,
        &stream,
        taken.id,
        Level::L1,
        None,
        &Unwatched,
    )
    .expect_err("down");
    assert_eq!(reason(error), Tier2Reason::Unreachable);
    taken.memory.heal();
    taken.node.stop();
}
