//! L2: what is found by reading every byte, and how much of it is in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aof2_core::io::SystemDisk;
use aof2_core::objects::memory::{Fault as Fail, MemoryStore, Verb};
use aof2_core::objects::{ObjectStore, Refusal, Upload, crc64nvme};
use aof2_core::snapshot::verify::{Fault, Level, Unwatched, Verdict, VerifyError, Watch, verify};
use aof2_format::StreamName;
use aof2_format::snapshot::{Catalogue, SnapshotId};

use crate::common::{durable, small_config};
use crate::support::{Node, configured_node};

struct Taken {
    memory: Arc<MemoryStore>,
    node: Node,
    id: SnapshotId,
    catalogue: Catalogue,
    _folder: tempfile::TempDir,
}

/// A segment for each of the groups of records.
fn taken(memory: MemoryStore, segments: &[Vec<Vec<u8>>]) -> Taken {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(memory);
    let mut config = small_config(folder.path());
    config.segment.target_bytes = 8 << 20;
    let node = configured_node(Arc::new(SystemDisk), memory.clone(), config, "orders-0");
    let mut status = None;
    for (round, records) in segments.iter().enumerate() {
        for record in records {
            durable(&node.store, "orders", record).expect("acknowledged");
        }
        status = Some(node.take("orders", &format!("r{round}")));
    }
    let status = status.expect("one was taken");
    let bytes = memory.bytes_of(&status.key).expect("there");
    Taken {
        catalogue: Catalogue::decode(&bytes).expect("a catalogue"),
        memory,
        node,
        id: status.snapshot_id,
        _folder: folder,
    }
}

fn small() -> Vec<Vec<Vec<u8>>> {
    let records = |round: u8| (0..20).map(|n| vec![b'a' + round; n]).collect();
    (0..3).map(records).collect()
}

impl Taken {
    fn verify(&self, level: Level, watch: &dyn Watch) -> Result<Verdict, VerifyError> {
        let stream = StreamName::new("orders").expect("a name");
        verify(&self.node.tier2, &stream, self.id, level, None, watch)
    }

    fn fault(&self, level: Level) -> Option<(Fault, String)> {
        self.verify(level, &Unwatched).expect("answered").fault
    }
}

#[test]
fn a_snapshot_that_is_whole_is_read_whole() {
    let taken = taken(MemoryStore::new(), &small());
    let verdict = taken.verify(Level::L2, &Unwatched).expect("answered");
    assert_eq!(verdict.fault, None);
    let sizes = taken.catalogue.segments.iter().map(|it| it.object_bytes);
    assert_eq!(verdict.bytes_read, sizes.sum::<u64>());
    let below = taken.verify(Level::L1, &Unwatched).expect("answered");
    assert_eq!(below.bytes_read, 0);
    assert_eq!(verdict.records_replayed, below.records_replayed);
    taken.node.stop();
}

/// The store says of each object what it said when it was written.
#[test]
fn every_byte_that_changed_in_a_segment_is_found_and_l1_finds_those_that_it_reads_alone() {
    for keeps_checksums in [true, false] {
        let memory = MemoryStore::new();
        if !keeps_checksums {
            memory.forget_checksums();
        }
        let taken = taken(memory, &small());
        let segment = taken.catalogue.segments[1].clone();
        let bytes = taken.memory.bytes_of(&segment.key).expect("there").len();
        let read_by_l0 = bytes - aof2_format::warm::FOOTER_BYTES;
        for offset in 0..bytes {
            taken.memory.damage(&segment.key, offset);
            let Some((fault, message)) = taken.fault(Level::L2) else {
                // A bit of a frame that no decoder looks at: only the object's checksum could tell, and what it holds is whole.
                let object = taken.memory.bytes_of(&segment.key).expect("there");
                let content = zstd::decode_all(&object[..]).expect("a zstd stream");
                let is_whole = crc64nvme(&content) == segment.crc64.0;
                assert!(!keeps_checksums && is_whole, "byte {offset} of {bytes}");
                taken.memory.damage(&segment.key, offset);
                continue;
            };
            let is_told = matches!(fault, Fault::DigestMismatch | Fault::Undecodable);
            assert!(is_told, "byte {offset}: {fault:?} {message}");
            assert!(message.contains(&segment.key), "{message}");
            if offset % 16 == 0 {
                let by_l1 = taken.fault(Level::L1);
                assert_eq!(by_l1.is_none(), offset < read_by_l0, "byte {offset}");
            }
            taken.memory.damage(&segment.key, offset);
        }
        assert_eq!(taken.fault(Level::L2), None, "all was put back");
        taken.node.stop();
    }
}

/// Counts bytes, and does something once there are enough.
struct AfterBytes<'a> {
    enough: u64,
    read: AtomicU64,
    total: AtomicU64,
    act: &'a (dyn Fn() -> Result<(), String> + Sync),
}

impl<'a> AfterBytes<'a> {
    fn new(enough: u64, act: &'a (dyn Fn() -> Result<(), String> + Sync)) -> Self {
        AfterBytes {
            enough,
            read: AtomicU64::new(0),
            total: AtomicU64::new(0),
            act,
        }
    }
}

impl Watch for AfterBytes<'_> {
    fn begins(&self, total_bytes: u64) {
        self.total.store(total_bytes, Ordering::Relaxed);
    }

    fn read(&self, bytes: u64) -> Result<(), String> {
        match self.read.fetch_add(bytes, Ordering::Relaxed) + bytes >= self.enough {
            true => (self.act)(),
            false => Ok(()),
        }
    }
}

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn a_large_segment_is_read_in_pieces_and_whoever_waits_can_end_it() {
    const MIB: usize = 1 << 20;
    let large = (0..6).map(|_| noise(900 << 10)).collect();
    let taken = taken(MemoryStore::new(), &[large, vec![noise(MIB)]]);
    let ranges = taken.memory.calls(Verb::GetRange);
    let counted = AfterBytes::new(u64::MAX, &|| Ok(()));
    let verdict = taken.verify(Level::L2, &counted).expect("answered");
    assert_eq!(verdict.fault, None);
    let total = counted.total.into_inner();
    assert!(total > 6 * MIB as u64);
    assert_eq!(
        (counted.read.into_inner(), verdict.bytes_read),
        (total, total)
    );
    // Footers and rows of two segments, the parts of four objects that L0 reads, and pieces: three of one, one of the other.
    assert_eq!(taken.memory.calls(Verb::GetRange) - ranges, 4 + 4 + 3 + 1);

    let enough = 2 * MIB as u64;
    let ended = AfterBytes::new(enough, &|| Err("that is enough".to_owned()));
    let error = taken.verify(Level::L2, &ended).expect_err("no verdict");
    let told = error.to_string();
    assert!(matches!(error, VerifyError::Ended { .. }), "{told}");
    assert!(
        told.contains("stream orders") && told.contains("that is enough"),
        "{told}"
    );
    assert!(ended.read.into_inner() < 3 * enough);

    // What is moved to an archive while it is read is named, with what to do.
    let archive = || {
        let archived = Fail::Refused(Refusal::Archived);
        taken.memory.inject(Verb::GetRange, archived, 100);
        Ok(())
    };
    let moved = AfterBytes::new(enough, &archive);
    let verdict = taken.verify(Level::L2, &moved).expect("answered");
    let (fault, message) = verdict.fault.expect("a fault");
    assert_eq!(fault, Fault::ObjectArchived);
    assert!(message.contains("restore the object"), "{message}");
    taken.memory.heal();
    let second = taken.catalogue.segments[1].key.clone();
    let object = taken.memory.bytes_of(&second).expect("there");
    let delete = || {
        taken.memory.delete(&second).expect("deleted");
        Ok(())
    };
    let verdict = taken.verify(Level::L2, &AfterBytes::new(enough, &delete));
    let verdict = verdict.expect("answered");
    assert_eq!(verdict.fault.expect("a fault").0, Fault::ObjectMissing);
    assert_eq!(verdict.missing, [second.as_str()]);
    let restored = Upload::of_bytes(object, "restored".into());
    taken.memory.put(&second, &restored).expect("put");
    assert_eq!(taken.fault(Level::L2), None);
    // Nothing is learned from a store that is going away.
    let stop = || {
        taken.node.tier2.stop();
        Ok(())
    };
    let error = taken.verify(Level::L2, &AfterBytes::new(enough, &stop));
    assert!(matches!(error, Err(VerifyError::Tier2(_))), "{error:?}");
}
