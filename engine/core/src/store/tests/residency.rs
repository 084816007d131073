//! A store whose manifest says that its segments are elsewhere, started again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aof2_format::manifest_record::{LocalCopy, ManifestEvent};
use aof2_format::names::{KeyPrefix, ObjectKey, file};

use super::node::node;
use crate::drain::{DrainPhase, DrainRequest};
use crate::error::ReadError;
use crate::objects::ObjectStore;
use crate::objects::memory::MemoryStore;
use crate::residency::tests::{deleted, evicted, sealed, start};
use crate::testing::copy_directory;
use crate::tier::testing::until;

pub(super) fn segment_files(directory: &Path) -> Vec<PathBuf> {
    let folder = directory.join("streams/a/segments");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            file::parse_segment(&name).is_some()
        })
        .collect();
    files.sort();
    files
}

/// Two uploaded segments that the manifest says are evicted, and an open one behind them, as a power cut leaves them.
fn evicted_volume(memory: &Arc<MemoryStore>, events: &[(u64, ManifestEvent)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let node = node(memory, folder.path());
    node.segment(b"one");
    node.segment(b"two");
    node.append(b"three");
    for (segment_id, event) in events {
        node.commit(*segment_id, event.clone());
    }
    let cut = tempfile::tempdir().expect("a folder");
    node.faults
        .at_one_moment(|| copy_directory(folder.path(), cut.path()));
    node.stop();
    cut
}

/// Whose files are there, of the two. The one behind them may still have the name under which it was made ahead.
fn uploaded_files(directory: &Path) -> Vec<u64> {
    let files = segment_files(directory).into_iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        Some(file::parse_segment(&name)?.segment_id)
    });
    files.filter(|id| *id <= 2).collect()
}

fn hot_evicted() -> [(u64, ManifestEvent); 2] {
    [1, 2].map(|id| (id, evicted(LocalCopy::Hot)))
}

#[test]
fn an_evicted_segment_is_read_from_a_lower_tier_and_the_log_goes_on_behind_it() {
    // The power went before the files were removed, or after.
    for are_removed in [false, true] {
        let memory = Arc::new(MemoryStore::new());
        let folder = evicted_volume(&memory, &hot_evicted());
        if are_removed {
            for file in &segment_files(folder.path())[..2] {
                std::fs::remove_file(file).expect("removed");
            }
        }
        let node = node(&memory, folder.path());
        assert_eq!(
            uploaded_files(folder.path()),
            [0_u64; 0],
            "the start removed them"
        );
        let all = [&b"one"[..], b"two", b"three"];
        assert_eq!(node.read(0).expect("read"), all);
        assert_eq!(node.read(1).expect("read"), all[1..]);
        assert_eq!(node.read(2).expect("read"), [b"three"]);
        node.append(b"four");
        assert_eq!(node.read(2).expect("read"), [&b"three"[..], b"four"]);
        let info = node.store.streams().remove(0);
        assert_eq!((info.first_sequence, info.durable_sequence), (0, 4));
        assert_eq!(info.damage, None);
        node.stop();
    }
}

#[test]
fn a_drain_behind_evicted_segments_gets_its_token_and_nothing_is_uploaded_twice() {
    let memory = Arc::new(MemoryStore::new());
    let both = hot_evicted()
        .into_iter()
        .chain([1, 2].map(|id| (id, evicted(LocalCopy::Warm))));
    let folder = evicted_volume(&memory, &both.collect::<Vec<_>>());
    let node = node(&memory, folder.path());
    let mark = node.store.watermarks().remove(0);
    assert_eq!((mark.acked, mark.sealed_uploaded), (3, 2));
    node.tiers.drain().begin(DrainRequest {
        ttl: Duration::from_secs(60),
        upload_timeout: Duration::from_secs(20),
        drain_timeout: Duration::from_secs(20),
    });
    until("the drain", || {
        node.tiers.drain().status().phase == DrainPhase::Drained
    });
    assert!(node.tiers.drain().status().token.is_some());
    let status = node.tiers.tier2_status().expect("a Tier 2");
    assert_eq!(status.moves.uploaded_segments, 1, "the open one");
    assert_eq!(status.moves.failure, None);
    node.stop();
}

#[test]
fn a_trimmed_stream_keeps_its_watermark_when_its_objects_are_deleted() {
    let memory = Arc::new(MemoryStore::new());
    let first = "p/segments/a/00000000000000000000-0000000001-00000000000000000001.aofz";
    assert!(ObjectKey::parse(&KeyPrefix::new("p/").expect("a prefix"), first).is_some());
    let trimmed = [
        (0, start(1)),
        (1, evicted(LocalCopy::Hot)),
        (1, evicted(LocalCopy::Warm)),
        (1, deleted(first)),
    ];
    let folder = evicted_volume(&memory, &trimmed);
    memory.delete(first).expect("deleted");
    let node = node(&memory, folder.path());
    let error = node.read(0).expect_err("trimmed");
    assert!(
        matches!(error, ReadError::Trimmed { first: 1, .. }),
        "{error:?}"
    );
    assert_eq!(node.read(1).expect("read"), [&b"two"[..], b"three"]);
    let mark = node.store.watermarks().remove(0);
    assert_eq!((mark.acked, mark.sealed_uploaded), (3, 2));
    // What was open is sealed and uploaded meanwhile.
    let pending = node.store.sealed_segments_pending();
    assert!(
        pending.iter().all(|it| it.base_sequence == 2),
        "{pending:?}"
    );

    // A snapshot of it names what is left, and the second reader agrees.
    node.verified_snapshot();
    assert!(
        !memory.keys().contains(&first.to_owned()),
        "it is not put again"
    );
    node.stop();
}

#[test]
fn a_segment_of_which_no_copy_is_named_is_damaged_and_its_file_stays() {
    let memory = Arc::new(MemoryStore::new());
    let object = memory.clone();
    let folder = evicted_volume(
        &memory,
        &[(1, evicted(LocalCopy::Hot)), (1, evicted(LocalCopy::Warm))],
    );
    let keys = object.keys();
    let first = keys
        .iter()
        .find(|key| key.contains("segments/"))
        .expect("an object");
    {
        let node = node(&memory, folder.path());
        assert_eq!(uploaded_files(folder.path()), [2], "the start removed one");
        node.commit(1, deleted(first));
        node.stop();
    }
    let node = node(&memory, folder.path());
    let error = node.read(0).expect_err("gone");
    assert!(
        matches!(&error, ReadError::Damaged { message, .. } if message.contains("no copy")),
        "{error:?}"
    );
    assert_eq!(node.read(1).expect("read"), [&b"two"[..], b"three"]);
    node.stop();
}

/// The fold says so before the record is durable, and before the segment can be read.
#[test]
fn a_segment_whose_seal_is_not_done_waits_for_no_upload_yet() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path());
    node.append(b"one");
    node.commit(1, sealed(1));
    assert_eq!(node.store.sealed_segments_pending(), []);
    let failure = node.tiers.tier2_status().expect("a Tier 2").moves.failure;
    assert_eq!(failure, None);
}
