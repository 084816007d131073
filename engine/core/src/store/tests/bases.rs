//! Starts from a manifest's base, and from what somebody made of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aof2_format::manifest_base::{BaseChunk, ManifestBase};
use aof2_format::manifest_chunk::{self, DATA_OFFSET};
use aof2_format::manifest_record::{ManifestEvent, ReasonCode};
use aof2_format::names::file;
use aof2_format::snapshot::{NOTE_SCHEMA_ID, SnapshotId, SnapshotNote};
use aof2_format::{ClusterId, Salt, StreamUuid};

use super::{durable, options};
use crate::io::fault::{Call, Fault, FaultDisk, Faults, How};
use crate::io::{FileClass, SystemDisk};
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
}

#[test]
fn a_stream_whose_base_and_chunks_are_gone_is_damaged_with_file_and_remedy_until_they_are_back() {
    let volume = volume();
    type Loss = fn(&Path);
    let losses: [(&str, Loss); 5] = [
        ("is missing", |folder| {
            std::fs::remove_file(base_file(folder)).expect("removed");
        }),
        ("checksum", |folder| {
            overwrite(&base_file(folder), |bytes| bytes[300] ^= 1);
        }),
        ("newer than", |folder| {
            overwrite(&base_file(folder), |bytes| {
                bytes[8] = 9;
                let crc = aof2_format::checksum::crc32c(&bytes[..252]);
                bytes[252..256].copy_from_slice(&crc.to_le_bytes());
            });
        }),
        ("belongs to stream", |folder| {
            rebase(folder, |base| base.stream_uuid = StreamUuid([9; 16]));
        }),
        ("chain", |folder| {
            rebase(folder, |base| base.chunks[2].chain ^= 1);
        }),
    ];
    for (why, lose) in losses {
        for gone in [0..3, 1..2, 2..3] {
            let copy = volume.copy();
            lose(copy.path());
            for number in gone.clone() {
                std::fs::remove_file(chunk_file(copy.path(), number)).expect("removed");
            }
            for _ in 0..2 {
                let (store, _) = open(copy.path());
                let told = damage(&store).unwrap_or_else(|| panic!("{why}, without {gone:?}"));
                let path = base_file(copy.path());
                for part in [why, &path.display().to_string(), "Restore the base"] {
                    assert!(told.contains(part), "{part} is not in: {told}");
                }
                store.append(durable("a")).expect_err("refused");
                store.append(durable("other")).expect("acknowledged");
                store.close().expect("closes");
            }
            // As the message says.
            for number in gone {
                let from = chunk_file(volume.folder.path(), number);
                std::fs::copy(from, chunk_file(copy.path(), number)).expect("put back");
            }
            volume.starts(copy.path(), why, false);
        }
    }
    let copy = volume.copy();
    for number in 0..4 {
        std::fs::remove_file(chunk_file(copy.path(), number)).expect("removed");
    }
    let (store, _) = open(copy.path());
    let told = damage(&store).expect("the chunk behind the base is gone");
    assert!(told.contains("manifest chunk 3 is missing"), "{told}");
}

/// Of the chunk in use nothing but the journal says that it was there.
#[test]
fn a_stream_whose_newest_chunk_is_gone_is_damaged_until_it_is_back() {
    for after in [AFTER, u64::MAX] {
        let folder = tempfile::tempdir().expect("a folder");
        let start = || {
            let mut options = options(folder.path());
            options.config.manifest.base_after_chunks = after;
            Store::open(options).expect("the directory opens")
        };
        let store = start();
        store.append(durable("a")).expect("acknowledged");
        for _ in 0..=AFTER {
            commit(&store, failed(ReasonCode::Codec));
            close_chunk(&store);
        }
        commit(&store, failed(ReasonCode::Transient));
        let known = state(&store);
        store.close().expect("closes");
        // The next process knows of the chunk only what was carried over.
        start().close().expect("closes");
        assert_eq!(base_file(folder.path()).exists(), after == AFTER);
        let newest = chunk_file(folder.path(), AFTER + 1);
        let aside = folder.path().join("aside");
        std::fs::rename(&newest, &aside).expect("moved");
        for _ in 0..3 {
            let store = start();
            let told = damage(&store).expect("the journal knows of it");
            for part in [
                "manifest chunk 4 is missing",
                "EPOCH-00000000000000000004.mlog from a backup",
            ] {
                assert!(told.contains(part), "{part} is not in: {told}");
            }
            store.append(durable("a")).expect_err("refused");
            store.append(durable("other")).expect("acknowledged");
            store.close().expect("closes");
        }
        std::fs::rename(&aside, &newest).expect("put back");
        let store = start();
        assert_eq!(damage(&store), None);
        assert_eq!(state(&store), known);
        store.append(durable("a")).expect("acknowledged");
        store.close().expect("closes");
    }
}

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
    let pipeline = store.pipeline();
    pipeline.checkpoint.run_once(pipeline).expect("done");
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
        write_base(&store).expect_err(&format!("{call:?}"));
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

#[test]
fn chunks_may_leave_the_volume_behind_a_base_that_reads_back_and_only_those_that_a_snapshot_names()
{
    let volume = volume();
    let (store, _) = open(volume.folder.path());
    let stream = store.known("a").expect("it exists");
    let owned = stream.owned(store.pipeline());
    let numbers = |below, limit| {
        let chunks = stream.manifest.prunable(&owned, below, limit);
        chunks.map(|chunks| chunks.iter().map(|it| it.number).collect::<Vec<_>>())
    };
    assert_eq!(numbers(9, 9).expect("read back"), [0, 1, 2]);
    assert_eq!(numbers(2, 9).expect("read back"), [0, 1]);
    assert_eq!(numbers(9, 1).expect("read back"), [0]);
    assert!(numbers(0, 9).expect("none").is_empty());
    let first = stream.manifest.prunable(&owned, 1, 1).expect("one")[0];
    assert!(stream.manifest.prune(&owned, first).expect("removed"));
    assert!(!chunk_file(volume.folder.path(), 0).exists());
    assert_eq!(numbers(9, 9).expect("read back"), [1, 2]);
    assert_eq!(stream.manifest.pruned(0).map(|it| it.number), Some(0));
    assert_eq!(stream.manifest.pruned(1), None);
    overwrite(&base_file(volume.folder.path()), |bytes| bytes[300] ^= 1);
    let error = numbers(9, 9).expect_err("nothing else has the first one");
    assert!(error.to_string().contains("manifest/base"), "{error}");
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
    Store::open(options).err().expect("refused");
    assert!(base_file(volume.folder.path()).exists());
    volume.starts(volume.folder.path(), "once there are some", true);
}

/// The figures of docs/benchmarks.md:
/// `AOF2_SNAPSHOTS=10000 cargo test -p aof2-core --lib -- --nocapture a_start_after_many_snapshots`
#[test]
fn a_start_after_many_snapshots_reads_no_more_than_after_ten() {
    let many = std::env::var("AOF2_SNAPSHOTS").ok();
    let many = many.map_or(200, |number| {
        number.parse().expect("AOF2_SNAPSHOTS is a number")
    });
    let mut opened = Vec::new();
    for snapshots in [10, many] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = options(folder.path());
        options.config.manifest.base_after_chunks = u64::MAX;
        let store = Store::open(options).expect("it opens");
        store.append(durable("a")).expect("acknowledged");
        store.seal(Some("a")).expect("sealed");
        for number in 0..snapshots {
            // What a snapshot leaves in the manifest, and something that it is about.
            close_chunk(&store);
            let stream = store.known("a").expect("it exists");
            let marker = ManifestEvent::SnapshotMarker {
                chunk_index: number,
                chunk_offset: 5_000,
                snapshot_id: 1 << 32 | (number + 1),
            };
            let note = SnapshotNote {
                format_version: 0,
                snapshot_id: SnapshotId::new(1, number as u32 + 1),
                request: format!("request {number}"),
                key: format!("p/snapshots/a/{number}.json"),
                digest: "sha256:".to_owned() + &"5a".repeat(32),
                bytes: 5_000,
                durable_sequence: 1,
                uploaded_sequence: 1,
                started_unix_nanos: 0,
            };
            let note = ManifestEvent::CustomEvent {
                schema_id: NOTE_SCHEMA_ID,
                blob: note.encode(),
            };
            let owned = stream.owned(store.pipeline());
            let committed = stream.manifest.commit(&owned, 0, vec![marker, note]);
            committed.expect("durable");
            commit(&store, failed(ReasonCode::Transient));
        }
        store.close().expect("closes");
        let start = |what: &str| {
            let times = (0..5).map(|_| {
                let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
                let mut options = super::options(folder.path());
                options.environment.disk = disk;
                options.config.manifest.base_after_chunks = u64::MAX;
                let is_over = std::sync::atomic::AtomicBool::new(false);
                let (took, descriptors, store) = std::thread::scope(|scope| {
                    let most = scope.spawn(|| {
                        let mut most = 0;
                        while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                            let open = std::fs::read_dir("/proc/self/fd").expect("a folder");
                            most = open.count().max(most);
                        }
                        most
                    });
                    let began = std::time::Instant::now();
                    let store = Store::open(options).expect("it opens");
                    let took = began.elapsed();
                    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
                    (took, most.join().expect("counted"), store)
                });
                assert_eq!(damage(&store), None);
                let files = faults.calls(Call::OpenRead, None);
                store.close().expect("closes");
                (took, files, descriptors)
            });
            let mut times: Vec<_> = times.collect();
            times.sort();
            let (took, files, _) = times[2];
            let descriptors = times.iter().map(|(_, _, it)| *it).max();
            println!(
                "{snapshots} snapshots, {what}: {took:.1?}, {files} files opened to be read, at most {descriptors:?} descriptors"
            );
            files
        };
        start("chunks alone");
        let mut options = super::options(folder.path());
        options.config.manifest.base_after_chunks = 1;
        let store = Store::open(options).expect("it opens");
        assert!(write_base(&store).expect("written"));
        store.close().expect("closes");
        start("base, chunks left");
        for number in 0..base_in(folder.path()).chunks.len() as u64 {
            std::fs::remove_file(chunk_file(folder.path(), number)).expect("removed");
        }
        opened.push(start("base, chunks pruned"));
    }
    assert_eq!(opened[0], opened[1]);
}
