//! Starts from a manifest's base, and from what somebody made of it.

mod devices;
mod many;
mod missing;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aof2_format::manifest_base::{BaseChunk, ManifestBase};
use aof2_format::manifest_chunk::DATA_OFFSET;
use aof2_format::manifest_record::{ManifestEvent, ReasonCode};
use aof2_format::names::file;
use aof2_format::{ClusterId, Salt, StreamUuid};

use super::{durable, options};
use crate::io::SystemDisk;
use crate::io::fault::{FaultDisk, Faults};
use crate::manifest::state::ManifestState;
use crate::store::Store;
use crate::testing::copy_directory;

/// Chunks behind a base that make the next one due.
const AFTER: u64 = 3;

fn open(folder: &Path) -> (Store, Arc<Faults>) {
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
    let mut options = options(folder);
    options.environment.disk = disk;
    options.config.manifest.base_after_chunks = AFTER;
    (Store::open(options).expect("the directory opens"), faults)
}

fn commit(store: &Store, event: ManifestEvent) {
    let stream = store.known("a").expect("it exists");
    let owned = stream.owned(store.pipeline());
    let committed = stream.manifest.commit(&owned, 1, vec![event]);
    committed.expect("durable");
}

fn failed(reason: ReasonCode) -> ManifestEvent {
    ManifestEvent::CompressionFailed { reason }
}

/// As a snapshot closes one.
fn close_chunk(store: &Store) {
    let stream = store.known("a").expect("it exists");
    let owned = stream.owned(store.pipeline());
    stream.manifest.cut(&owned).expect("closed");
}

fn write_base(store: &Store) -> Result<bool, crate::error::StoreError> {
    let stream = store.known("a").expect("it exists");
    let owned = stream.owned(store.pipeline());
    stream.manifest.write_base(&owned, u64::MAX)
}

fn state(store: &Store) -> ManifestState {
    let stream = store.known("a").expect("it exists");
    stream.manifest.read(ManifestState::clone)
}

fn damage(store: &Store) -> Option<String> {
    store.describe("a").expect("it exists").damage
}

fn manifest(folder: &Path) -> PathBuf {
    folder.join("streams/a").join(file::MANIFEST_DIR)
}

fn base_file(folder: &Path) -> PathBuf {
    manifest(folder).join(file::MANIFEST_BASE)
}

fn chunk_file(folder: &Path, number: u64) -> PathBuf {
    manifest(folder).join(file::manifest_chunk(1, number))
}

fn base_in(folder: &Path) -> ManifestBase {
    let bytes = std::fs::read(base_file(folder)).expect("a base");
    ManifestBase::decode(&bytes).expect("it decodes")
}

/// A killed process left it: a base of the first three chunks, two closed ones behind it and one in use.
struct Volume {
    folder: tempfile::TempDir,
    state: ManifestState,
}

fn volume() -> Volume {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, faults) = open(folder.path());
    store.append(durable("a")).expect("acknowledged");
    store.seal(Some("a")).expect("sealed");
    close_chunk(&store);
    for reason in [ReasonCode::Codec, ReasonCode::Transient] {
        assert!(!write_base(&store).expect("not due"));
        commit(&store, failed(reason));
        close_chunk(&store);
    }
    // Not before the chunk behind has a header.
    assert!(!write_base(&store).expect("not due"));
    commit(&store, ManifestEvent::CompressionStarted);
    assert!(write_base(&store).expect("written"));
    assert!(!write_base(&store).expect("not due"));
    close_chunk(&store);
    commit(&store, failed(ReasonCode::Authorisation));
    close_chunk(&store);
    commit(&store, failed(ReasonCode::ObjectMissing));
    let kept = tempfile::tempdir().expect("a folder");
    faults.at_one_moment(|| copy_directory(folder.path(), kept.path()));
    assert_eq!(base_in(kept.path()).chunks.len(), 3);
    Volume {
        folder: kept,
        state: state(&store),
    }
}

impl Volume {
    /// A copy of it.
    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().expect("a folder");
        copy_directory(self.folder.path(), copy.path());
        copy
    }

    fn starts(&self, folder: &Path, what: &str, uses_base: bool) {
        let (store, _) = open(folder);
        // Before the end of the store writes another.
        assert_eq!(base_file(folder).exists(), uses_base, "{what}");
        assert_eq!(damage(&store), None, "{what}");
        assert_eq!(state(&store), self.state, "{what}");
        store.append(durable("a")).expect("acknowledged");
        store.close().expect("closes");
    }
}

fn overwrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("it is there");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("written");
}

/// Where that one file is, behind its chunks.
fn rebase(folder: &Path, change: impl FnOnce(&mut ManifestBase)) {
    let mut base = base_in(folder);
    change(&mut base);
    std::fs::write(base_file(folder), base.encode()).expect("written");
}

#[test]
fn a_start_reads_the_base_and_the_chunks_behind_it_and_no_other() {
    let volume = volume();
    let copy = volume.copy();
    for number in 0..3 {
        overwrite(&chunk_file(copy.path(), number), |bytes| bytes.fill(0xA5));
    }
    volume.starts(copy.path(), "chunks that the base stands for", true);
    // And goes on from there: the next base is made upon this one.
    let (store, _) = open(copy.path());
    close_chunk(&store);
    commit(&store, failed(ReasonCode::BucketOrNetwork));
    assert!(write_base(&store).expect("written"));
    assert_eq!(base_in(copy.path()).chunks.len(), 6);
    let known = state(&store);
    store.close().expect("closes");
    let (store, _) = open(copy.path());
    assert_eq!(state(&store), known);
}

#[test]
fn a_base_that_is_not_of_this_manifest_is_not_used_and_goes_where_all_chunks_are_there() {
    let volume = volume();
    let last = |base: &mut ManifestBase, change: fn(&mut BaseChunk)| {
        // Nobody would notice by what is in it.
        base.records.clear();
        change(base.chunks.last_mut().expect("a chunk"));
    };
    type Change = fn(&mut ManifestBase, &dyn Fn(&mut ManifestBase, fn(&mut BaseChunk)));
    let changes: [(&str, Change); 7] = [
        ("another cluster", |base, _| {
            base.records.clear();
            base.cluster_id = ClusterId([9; 16]);
        }),
        ("another stream", |base, _| {
            base.records.clear();
            base.stream_uuid = StreamUuid([9; 16]);
        }),
        ("another salt", |base, _| {
            base.records.clear();
            base.stream_salt = Salt(9);
        }),
        ("another chain", |base, last| last(base, |it| it.chain ^= 1)),
        ("more records", |base, last| {
            last(base, |it| it.next_manifest_sequence += 1);
        }),
        ("fewer chunks", |base, _| {
            base.records.clear();
            base.chunks.pop();
            base.chunks.last_mut().expect("a chunk").chain ^= 1;
        }),
        ("more chunks", |base, last| {
            let before = *base.chunks.last().expect("a chunk");
            base.chunks.push(BaseChunk {
                first_manifest_sequence: before.next_manifest_sequence,
                ..before
            });
            last(base, |_| {});
        }),
    ];
    for (what, change) in changes {
        let copy = volume.copy();
        rebase(copy.path(), |base| change(base, &last));
        volume.starts(copy.path(), what, false);
    }
    for (what, change) in [
        ("flipped", (|bytes| bytes[300] ^= 1) as fn(&mut Vec<u8>)),
        ("cut", |bytes| bytes.truncate(280)),
        ("emptied", Vec::clear),
        ("zeroes", |bytes| bytes.fill(0)),
    ] {
        let copy = volume.copy();
        overwrite(&base_file(copy.path()), change);
        volume.starts(copy.path(), what, false);
    }
    let copy = volume.copy();
    std::fs::remove_file(base_file(copy.path())).expect("removed");
    volume.starts(copy.path(), "removed", false);
}

/// Of a chunk that was just made nothing says what came before it.
#[test]
fn a_base_with_a_chunk_without_a_header_behind_it_is_not_used() {
    let volume = volume();
    let copy = volume.copy();
    let (store, _) = open(copy.path());
    close_chunk(&store);
    let known = state(&store);
    store.close().expect("closes");
    let in_use = std::fs::read(chunk_file(copy.path(), 6)).expect("a chunk");
    assert!(in_use.iter().all(|byte| *byte == 0));
    rebase(copy.path(), |base| {
        base.records.clear();
        let before = *base.chunks.last().expect("a chunk");
        for _ in 3..6 {
            base.chunks.push(BaseChunk {
                first_manifest_sequence: before.next_manifest_sequence,
                bytes: 1 << 20,
                ..before
            });
        }
    });
    let (store, _) = open(copy.path());
    // It was synced before any base was: one without is not that chunk.
    let told = damage(&store).expect("the base says that there was more");
    assert!(told.contains("byte 4096 was durable"), "{told}");
    assert_eq!(state(&store), known, "all chunks were replayed");
    assert!(base_file(copy.path()).exists(), "nothing is removed");
}

#[test]
fn a_base_that_knows_less_of_a_chunk_than_was_durable_is_not_used() {
    let volume = volume();
    let copy = volume.copy();
    rebase(copy.path(), |base| {
        base.records.clear();
        base.chunks[2].bytes = DATA_OFFSET;
    });
    // The journal still has the commit.
    volume.starts(copy.path(), "fewer bytes", false);

    // Also where the file is gone, as it would be behind a base that knows all of it.
    let copy = volume.copy();
    rebase(copy.path(), |base| {
        base.records.clear();
        base.chunks[2].bytes = DATA_OFFSET;
    });
    std::fs::remove_file(chunk_file(copy.path(), 2)).expect("removed");
    let (store, _) = open(copy.path());
    let told = damage(&store).expect("the base is not that of the chunk");
    assert!(told.contains("base knows 4096 bytes"), "{told}");
}

/// A release from before bases passes over the file, and goes on in the chunks.
#[test]
fn a_base_that_a_release_passed_over_for_a_while_counts_again() {
    let volume = volume();
    let copy = volume.copy();
    let aside = copy.path().join("aside");
    std::fs::rename(base_file(copy.path()), &aside).expect("moved");
    let start = || {
        let mut options = options(copy.path());
        options.config.manifest.base_after_chunks = u64::MAX;
        Store::open(options).expect("the directory opens")
    };
    let store = start();
    for reason in [ReasonCode::Codec, ReasonCode::BucketOrNetwork] {
        commit(&store, failed(reason));
        close_chunk(&store);
    }
    store.append(durable("a")).expect("acknowledged");
    store.seal(Some("a")).expect("sealed");
    let known = state(&store);
    store.close().expect("closes");
    std::fs::rename(&aside, base_file(copy.path())).expect("put back");
    for number in 0..3 {
        overwrite(&chunk_file(copy.path(), number), |bytes| bytes.fill(0xA5));
    }
    let store = start();
    assert_eq!(damage(&store), None);
    assert_eq!(state(&store), known);
}

#[test]
fn chunks_may_leave_the_volume_behind_a_base_that_reads_back_and_only_those_that_a_snapshot_names()
{
    let volume = volume();
    let (store, _) = open(volume.folder.path());
    let stream = store.known("a").expect("it exists");
    let owned = stream.owned(store.pipeline());
    let numbers = |below| {
        let chunks = stream.manifest.prunable(&owned, below);
        chunks.map(|chunks| chunks.iter().map(|it| it.number).collect::<Vec<_>>())
    };
    assert_eq!(numbers(9).expect("read back"), [0, 1, 2]);
    assert_eq!(numbers(2).expect("read back"), [0, 1]);
    assert!(numbers(0).expect("none").is_empty());
    let first = stream.manifest.prunable(&owned, 1).expect("one")[0];
    assert!(stream.manifest.prune(&owned, first).expect("removed"));
    assert!(!chunk_file(volume.folder.path(), 0).exists());
    assert_eq!(numbers(9).expect("read back"), [1, 2]);
    assert_eq!(stream.manifest.pruned(0).map(|it| it.number), Some(0));
    assert_eq!(stream.manifest.pruned(1), None);
    overwrite(&base_file(volume.folder.path()), |bytes| bytes[300] ^= 1);
    let error = numbers(9).expect_err("nothing else has the first one");
    assert!(error.to_string().contains("manifest/base"), "{error}");
}
