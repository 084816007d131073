//! The real store with its tiers over a Tier 2 in memory: what was acknowledged is what comes back out of the objects.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // no part of the store

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use aof2_core::claims::StreamClaims;
use aof2_core::claims::suite as claims_suite;
use aof2_core::claims::{Address, ClusterName};
use aof2_core::config::MIB;
use aof2_core::drain::{DrainPhase, DrainReason, DrainRequest};
use aof2_core::error::RolledBack;
use aof2_core::io::fault::{FaultDisk, Faults};
use aof2_core::io::{Clock, SystemClock, SystemDisk};
use aof2_core::objects::memory::{Fault, MemoryStore, Verb};
use aof2_core::objects::{ObjectStore, Tier2, Upload, suite};
use aof2_core::snapshot::{SnapshotPhase, SnapshotReason, SnapshotRequest, Snapshots};
use aof2_core::tier::Tiers;
use aof2_core::{AppendError, Claims, Identity, OpenError, OpenOptions, SegmentState, Store};
use aof2_format::Seed;
use aof2_format::names::{KeyPrefix, ObjectKey};
use aof2_format::record_batch;
use aof2_format::segment::{DATA_OFFSET, SegmentHeader};
use common::{CLUSTER, copy_directory, durable, eventually, read_all, small_config};

const PATIENT: DrainRequest = DrainRequest {
    ttl: Duration::from_secs(60),
    upload_timeout: Duration::from_secs(60),
    drain_timeout: Duration::from_secs(60),
};

struct Node {
    store: Store,
    tiers: Tiers,
    faults: Arc<Faults>,
    /// Told when Tier 2 speaks against the volume after it was opened.
    refused: mpsc::Receiver<OpenError>,
}

fn prefix() -> KeyPrefix {
    KeyPrefix::new("p/").expect("a prefix")
}

fn try_node(memory: &Arc<MemoryStore>, directory: &Path, name: &str) -> Result<Node, OpenError> {
    try_node_at(memory, directory, name, Arc::new(SystemClock))
}

fn try_node_at(
    memory: &Arc<MemoryStore>,
    directory: &Path,
    name: &str,
    clock: Arc<dyn Clock>,
) -> Result<Node, OpenError> {
    let tier2 = Tier2::new(
        memory.clone(),
        prefix(),
        suite::test_policy(),
        Arc::new(aof2_core::io::SystemClock),
        Arc::new(aof2_core::io::SystemRng),
    );
    let cluster = ClusterName {
        namespace: "default".into(),
        name: "orders".into(),
    };
    let claims = Arc::new(StreamClaims::new(
        Arc::new(tier2),
        cluster,
        Address(format!("{name}.orders")),
    ));
    let mut config = small_config(directory);
    config.tier2.claim_check = Duration::from_millis(50);
    let identity = Identity {
        cluster_id: CLUSTER.to_owned(),
        node: name.to_owned(),
    };
    let mut options = OpenOptions::new(config.clone(), identity);
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
    options.environment.disk = disk;
    options.environment.clock = clock;
    options.claims = Some(claims.clone() as Arc<dyn Claims>);
    let store = Store::open(options)?;
    let (told, refused) = mpsc::channel();
    store.on_refused(Box::new(move |error| {
        // A test that does not look has dropped its end.
        let _ = told.send(error);
    }));
    let tiers =
        Tiers::start(Arc::new(store.clone()), Some(claims), &config).expect("threads start");
    Ok(Node {
        store,
        tiers,
        faults,
        refused,
    })
}

fn node(memory: &Arc<MemoryStore>, directory: &Path, name: &str) -> Node {
    try_node(memory, directory, name).expect("the directory opens")
}

impl Node {
    fn refusal(&self) -> OpenError {
        self.refused
            .recv_timeout(Duration::from_secs(20))
            .expect("the volume is refused in time")
    }

    /// Everything of `stream` sealed and in the bucket.
    fn upload(&self, stream: &str) {
        self.store.seal(Some(stream)).expect("sealed");
        eventually("the upload", || {
            let marks = self.store.watermarks();
            let mark = marks.iter().find(|mark| &*mark.stream == stream);
            mark.is_some_and(|mark| mark.sealed_uploaded == mark.acked)
        });
    }

    fn stop(self) {
        self.tiers.stop();
        self.store.close().expect("closes");
    }

    fn drain(&self) {
        self.tiers.drain().begin(PATIENT);
        eventually("the drain", || {
            self.tiers.drain().status().phase == DrainPhase::Drained
        });
    }
}

/// Every payload of a stream, read from nothing but the bucket, in order of sequence, up to the first segment that is not there yet.
fn payloads_in_bucket(memory: &MemoryStore, stream: &str) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    for key in memory.keys() {
        let Some(ObjectKey::Segment {
            stream: of,
            segment,
        }) = ObjectKey::parse(&prefix(), &key)
        else {
            continue;
        };
        if of.as_str() != stream {
            continue;
        }
        if segment.base_sequence > payloads.len() as u64 {
            break;
        }
        assert_eq!(
            segment.base_sequence,
            payloads.len() as u64,
            "{key} goes on where the one before ends"
        );
        let warm = memory.bytes_of(&key).expect("listed");
        let bytes = zstd::stream::decode_all(&warm[..]).expect("zstd");
        let seed = Seed::new(
            SegmentHeader::decode(&bytes)
                .expect("a segment")
                .stream_salt,
        );
        let mut offset = DATA_OFFSET as usize;
        while offset < bytes.len() {
            let batch = record_batch::decode(&bytes[offset..], seed).expect("a batch");
            assert_eq!(batch.base_sequence(), payloads.len() as u64);
            payloads.extend(batch.payloads().map(<[u8]>::to_vec));
            offset += batch.batch_bytes();
        }
    }
    payloads
}

#[test]
fn a_drain_under_load_leaves_every_acknowledged_record_in_the_bucket() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path(), "orders-0");
    let acknowledged: Vec<Vec<Vec<u8>>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let store = &node.store;
                scope.spawn(move || {
                    let mut acknowledged = Vec::new();
                    loop {
                        let payload = format!(
                            "writer {writer} record {} {}",
                            acknowledged.len(),
                            "x".repeat(2000)
                        )
                        .into_bytes();
                        match durable(store, &format!("s-{writer}"), &payload) {
                            Ok(_) => acknowledged.push(payload),
                            Err(AppendError::Draining { .. }) => return acknowledged,
                            Err(other) => panic!("{other}"),
                        }
                    }
                })
            })
            .collect();
        eventually("some records", || {
            node.store
                .watermarks()
                .iter()
                .filter(|mark| mark.acked > 50)
                .count()
                == 4
        });
        node.drain();
        writers
            .into_iter()
            .map(|writer| writer.join().expect("no panic"))
            .collect()
    });
    for (writer, acknowledged) in acknowledged.iter().enumerate() {
        assert!(acknowledged.len() > 50);
        let stream = format!("s-{writer}");
        assert_eq!(
            &payloads_in_bucket(&memory, &stream),
            acknowledged,
            "{stream}"
        );
    }
    for mark in node.store.watermarks() {
        assert_eq!(
            (mark.acked, mark.unsealed_bytes),
            (mark.sealed_uploaded, 0),
            "{}",
            mark.stream
        );
    }
    let segments = node.store.segments("s-0").expect("there");
    assert!(
        segments
            .iter()
            .all(|segment| segment.state == SegmentState::Uploaded && segment.key.is_some())
    );
    node.stop();
}

#[test]
fn segments_that_roll_under_load_go_up_by_themselves_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path(), "orders-0");
    let payloads: Vec<Vec<u8>> = (0..100u8).map(|index| vec![index; 60_000]).collect();
    for payload in &payloads {
        durable(&node.store, "a", payload).expect("acknowledged");
    }
    // Segments of 1 MiB hold 17 of them, and one whose successor is late up to twice as many: what is left open holds at most 34.
    eventually("full segments in the bucket", || {
        let sealed = node.store.watermarks()[0].sealed as usize;
        sealed >= 66 && payloads_in_bucket(&memory, "a") == payloads[..sealed]
    });
    assert_eq!(node.store.watermarks()[0].acked, 100);
    node.stop();
}

#[test]
fn what_was_not_uploaded_before_a_restart_is_uploaded_after_it_and_nothing_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let first = node(&memory, folder.path(), "orders-0");
    durable(&first.store, "a", b"one").expect("acknowledged");
    first.store.seal(None).expect("sealed");
    eventually("the first upload", || {
        payloads_in_bucket(&memory, "a").len() == 1
    });
    memory.set_unreachable(true);
    durable(&first.store, "a", b"two").expect("acknowledged with Tier 2 down");
    first.store.seal(None).expect("sealed");
    first.stop();

    // Still down: the volume goes on.
    let second = node(&memory, folder.path(), "orders-0");
    durable(&second.store, "a", b"three").expect("acknowledged with Tier 2 down");
    let refused = durable(&second.store, "new", b"x").expect_err("no claim");
    assert!(
        matches!(refused, AppendError::ClaimPending { .. }),
        "{refused}"
    );
    assert_eq!(
        second
            .tiers
            .tier2_status()
            .expect("Tier 2")
            .unconfirmed_claims,
        1
    );
    memory.heal();
    second.store.seal(None).expect("sealed");
    let expected = ["one", "two", "three"].map(|text| text.as_bytes().to_vec());
    eventually("the rest", || payloads_in_bucket(&memory, "a") == expected);
    durable(&second.store, "new", b"x").expect("claimed now");
    assert_eq!(
        second
            .tiers
            .tier2_status()
            .expect("Tier 2")
            .moves
            .uploaded_segments,
        2
    );
    assert_eq!(read_all(&second.store, "a").len(), 3);
    second.stop();
}

#[test]
fn another_node_is_told_who_owns_a_stream_and_a_lost_volume_is_refused() {
    let (mine, theirs, fresh) = (
        tempfile::tempdir(),
        tempfile::tempdir(),
        tempfile::tempdir(),
    );
    let [mine, theirs, fresh] = [mine, theirs, fresh].map(|folder| folder.expect("a folder"));
    let memory = Arc::new(MemoryStore::new());
    let owner = node(&memory, mine.path(), "orders-0");
    durable(&owner.store, "a", b"x").expect("acknowledged");
    let other = node(&memory, theirs.path(), "orders-1");
    match durable(&other.store, "a", b"y").expect_err("owned") {
        AppendError::NotOwner {
            stream,
            owner,
            address,
        } => {
            assert_eq!(
                (stream.as_str(), owner.as_str(), address.as_str()),
                ("a", "orders-0", "orders-0.orders")
            );
        }
        other => panic!("{other}"),
    }
    owner.stop();
    match try_node(&memory, fresh.path(), "orders-0")
        .err()
        .expect("refused")
    {
        OpenError::VolumeLost { node, streams } => {
            assert_eq!((node.as_str(), streams), ("orders-0", vec!["a".to_owned()]))
        }
        other => panic!("{other}"),
    }
    other.stop();
}

#[test]
fn tier_2_down_during_a_drain_reopens_with_the_reason_and_nobody_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path(), "orders-0");
    durable(&node.store, "a", b"0").expect("acknowledged");
    memory.set_unreachable(true);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (store, is_over) = (&node.store, &is_over);
        let writer = scope.spawn(move || {
            while !is_over.load(Ordering::Acquire) {
                durable(store, "a", b"goes on").expect("acknowledged while it holds");
            }
        });
        node.tiers.drain().begin(DrainRequest {
            upload_timeout: Duration::from_millis(300),
            ..PATIENT
        });
        eventually("the bound", || {
            node.tiers.drain().status().phase == DrainPhase::Open
        });
        is_over.store(true, Ordering::Release);
        writer.join().expect("nobody is refused");
    });
    let status = node.tiers.drain().status();
    assert_eq!(
        (status.reason, status.token),
        (Some(DrainReason::Tier2Unreachable), None)
    );
    assert_eq!(&*status.lagging[0].stream, "a");
    memory.heal();
    node.drain();
    assert_eq!(
        payloads_in_bucket(&memory, "a").len() as u64,
        node.store.watermarks()[0].acked
    );
    node.stop();
}

#[test]
fn two_hundred_streams_drain_within_seconds() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path(), "orders-0");
    for stream in 0..200 {
        durable(
            &node.store,
            &format!("s-{stream}"),
            format!("record of {stream}").as_bytes(),
        )
        .expect("acknowledged");
    }
    let begun = std::time::Instant::now();
    node.drain();
    println!("drained 200 streams in {:?}", begun.elapsed());
    for stream in 0..200 {
        assert_eq!(
            payloads_in_bucket(&memory, &format!("s-{stream}")).len(),
            1,
            "s-{stream}"
        );
    }
    node.stop();
}

#[test]
fn a_volume_too_full_for_a_warm_file_holds_the_drain_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let (disk, faults) = aof2_core::io::fault::FaultDisk::new(Arc::new(aof2_core::io::SystemDisk));
    let memory = Arc::new(MemoryStore::new());
    let tier2 = suite::test_tier2(memory.clone());
    let cluster = ClusterName {
        namespace: "default".into(),
        name: "orders".into(),
    };
    let claims = Arc::new(StreamClaims::new(
        Arc::new(tier2),
        cluster,
        Address("orders-0.orders".into()),
    ));
    let config = small_config(folder.path());
    let mut options = common::options(config.clone());
    options.environment.disk = disk;
    options.claims = Some(claims.clone() as Arc<dyn Claims>);
    let store = Store::open(options).expect("opens");
    let tiers =
        Tiers::start(Arc::new(store.clone()), Some(claims), &config).expect("threads start");
    durable(&store, "a", b"x").expect("acknowledged");
    faults.report_available(Some(2 * MIB));
    store.seal(None).expect("sealed from the reserve");
    eventually("the refusal", || {
        let failure = tiers.tier2_status().and_then(|status| status.moves.failure);
        failure.is_some_and(|failure| failure.contains("Tier 1 has 2097152 bytes left"))
    });
    faults.report_available(None);
    tiers.drain().begin(PATIENT);
    eventually("the drain", || {
        tiers.drain().status().phase == DrainPhase::Drained
    });
    tiers.stop();
    store.close().expect("closes");
}

/// Flips a byte of this record's payload in the file of a stream's first segment.
fn damage_record(directory: &Path, stream: &str, payload: &[u8]) -> std::path::PathBuf {
    use std::os::unix::fs::FileExt;

    let segments = directory.join("streams").join(stream).join("segments");
    let files = std::fs::read_dir(segments).expect("a directory");
    let mut files: Vec<_> = files.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let path = files.swap_remove(0);
    let bytes = std::fs::read(&path).expect("readable");
    let found = bytes
        .windows(payload.len())
        .position(|part| part == payload);
    let at = found.expect("the record is in the first segment");
    let file = std::fs::File::options().write(true).open(&path);
    let flipped = [bytes[at] ^ 1];
    file.expect("writable")
        .write_all_at(&flipped, at as u64)
        .expect("written");
    path
}

fn told_of(store: &Store, stream: &str) -> Vec<(u64, u64, u64)> {
    let ranges = store.describe(stream).expect("there").damaged_ranges;
    ranges
        .iter()
        .map(|range| (range.segment_id, range.from_sequence, range.to_sequence))
        .collect()
}

#[test]
fn a_segment_that_is_damaged_before_its_upload_is_told_by_segment_and_sequence_everywhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    {
        let store = common::open(folder.path());
        for stream in ["a", "b"] {
            for record in 0..5 {
                durable(&store, stream, format!("{stream} {record}").as_bytes()).expect("written");
            }
        }
        store.seal(None).expect("sealed");
        durable(&store, "a", b"a later").expect("written");
        store.close().expect("closes");
    }
    let path = damage_record(folder.path(), "a", b"a 2");
    for start in 0..2 {
        let node = node(&memory, folder.path(), "orders-0");
        eventually("the damage is told", || {
            told_of(&node.store, "a") == [(1, 2, 3)]
        });
        assert_eq!(node.store.metrics().damaged_streams, 1);
        let names_it = |message: &str| {
            [
                "stream a",
                "segment 1, sequence 2:",
                path.to_str().expect("text"),
            ]
            .iter()
            .all(|part| message.contains(part))
        };
        eventually("the mover tells it", || {
            let failure = node.tiers.tier2_status().expect("Tier 2").moves.failure;
            failure.is_some_and(|message| names_it(&message))
        });
        let hasty = DrainRequest {
            upload_timeout: Duration::from_millis(200),
            ..PATIENT
        };
        let mut records = 0;
        for drain in 0..4 {
            node.tiers.drain().begin(hasty);
            eventually("the bound", || {
                node.tiers.drain().status().phase == DrainPhase::Open
            });
            let status = node.tiers.drain().status();
            assert_eq!(status.reason, Some(DrainReason::Damaged), "{status:?}");
            let message = status.message.expect("a message");
            assert!(names_it(&message), "{message}");
            // The first drain sealed the later record. From then on a failed try is no news to the manifest.
            let written = node.store.metrics().manifest_records;
            assert!(
                drain < 2 || written == records,
                "start {start}, drain {drain}"
            );
            records = written;
        }
        let snapshots = Snapshots::start(node.store.clone(), &node.tiers);
        let request = SnapshotRequest {
            stream: "a".into(),
            request: format!("r{start}"),
            seals: true,
        };
        let id = snapshots.begin(request).expect("begun").snapshot_id;
        let of_request = || snapshots.status("a", id).expect("known");
        eventually("the snapshot gives up", || {
            of_request().phase == SnapshotPhase::Failed
        });
        let why = of_request().why.expect("a reason");
        assert_eq!(why.reason, SnapshotReason::Damaged);
        assert!(names_it(&why.message), "{}", why.message);
        snapshots.stop();

        eventually("the other stream is uploaded", || {
            payloads_in_bucket(&memory, "b").len() == 5
        });
        let first = "segments/a/00000000000000000000-";
        assert!(memory.keys().iter().all(|key| !key.contains(first)));
        assert_eq!(told_of(&node.store, "a"), [(1, 2, 3)], "told once");
        assert_eq!(told_of(&node.store, "b"), []);
        durable(&node.store, "a", b"goes on").expect("appends go on");
        node.stop();
    }
}
// --- volumes that are not what Tier 2 knows

/// A volume and a place for its copy.
struct Volumes {
    folder: tempfile::TempDir,
    memory: Arc<MemoryStore>,
}

impl Volumes {
    fn new() -> Volumes {
        Volumes {
            folder: tempfile::tempdir().expect("a folder"),
            memory: Arc::new(MemoryStore::new()),
        }
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    fn start(&self) -> Node {
        node(&self.memory, &self.data(), "orders-0")
    }

    fn refused(&self) -> OpenError {
        try_node(&self.memory, &self.data(), "orders-0")
            .err()
            .expect("refused")
    }

    fn copy_volume(&self) {
        copy_directory(&self.data(), &self.folder.path().join("copy"));
    }

    /// As a VolumeSnapshot does.
    fn copy_running_volume(&self, node: &Node) {
        node.faults.at_one_moment(|| self.copy_volume());
    }

    fn put_the_copy_back(&self) {
        self.lose_the_volume();
        copy_directory(&self.folder.path().join("copy"), &self.data());
    }

    fn lose_the_volume(&self) {
        std::fs::remove_dir_all(self.data()).expect("removed");
    }
}

fn append(node: &Node, stream: &str, records: u64) {
    for record in 0..records {
        durable(&node.store, stream, format!("record {record}").as_bytes()).expect("acknowledged");
    }
}

fn proofs(refused: OpenError) -> Vec<RolledBack> {
    match refused {
        OpenError::RolledBack { node, proofs, .. } => {
            assert_eq!(node, "orders-0");
            proofs
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_volume_that_is_older_than_its_objects_is_refused_and_names_stream_and_counts() {
    let volumes = Volumes::new();
    let node = volumes.start();
    append(&node, "s", 10);
    node.stop();
    volumes.copy_volume();
    let node = volumes.start();
    append(&node, "s", 10);
    append(&node, "quiet", 1);
    node.upload("s");
    node.stop();
    volumes.put_the_copy_back();
    let objects = volumes.memory.keys();
    let refused = volumes.refused();
    assert_eq!(refused.reason(), "RolledBack");
    let text = refused.to_string();
    assert!(
        text.contains("stream s has 10 records here") && text.contains("mount its newest state"),
        "{text}"
    );
    let proofs = proofs(refused);
    assert!(
        matches!(&proofs[0], RolledBack::Segment { stream, local: 10, bucket: 11, .. } if stream == "s"),
        "{proofs:?}"
    );
    assert!(
        matches!(
            proofs[1],
            RolledBack::Mark {
                local: 1,
                bucket: 2,
                ..
            }
        ),
        "{proofs:?}"
    );
    assert_eq!(volumes.memory.keys(), objects, "nothing was published");
    // It stays so.
    assert_eq!(volumes.refused().reason(), "RolledBack");
}

#[test]
fn a_volume_from_before_a_start_is_refused_even_when_nothing_was_uploaded_since() {
    let volumes = Volumes::new();
    let node = volumes.start();
    append(&node, "s", 10);
    // Else the next start seals and uploads it.
    node.upload("s");
    node.stop();
    volumes.copy_volume();
    let node = volumes.start();
    append(&node, "s", 10);
    node.stop();
    volumes.put_the_copy_back();
    let proofs = proofs(volumes.refused());
    assert!(
        matches!(
            proofs[..],
            [RolledBack::Mark {
                local: 1,
                bucket: 2,
                ..
            }]
        ),
        "{proofs:?}"
    );
}

#[test]
fn a_copy_of_a_running_volume_is_refused_for_a_segment_that_was_open_when_it_was_made() {
    let volumes = Volumes::new();
    let node = volumes.start();
    append(&node, "s", 10);
    node.upload("s");
    append(&node, "s", 10);
    volumes.copy_running_volume(&node);
    append(&node, "s", 10);
    node.upload("s");
    node.stop();
    volumes.put_the_copy_back();
    let proofs = proofs(volumes.refused());
    assert!(
        matches!(&proofs[..], [RolledBack::Segment { stream, local: 20, bucket: 11, .. }] if stream == "s"),
        "{proofs:?}"
    );
}

struct SkewedClock(AtomicU64);

impl Clock for SkewedClock {
    fn monotonic(&self) -> Instant {
        SystemClock.monotonic() + Duration::from_secs(self.0.load(Ordering::Acquire))
    }

    fn unix_nanos(&self) -> i64 {
        SystemClock.unix_nanos()
    }

    fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration);
    }
}

#[test]
fn a_copy_of_a_running_volume_is_refused_once_the_process_has_left_another_mark() {
    let volumes = Volumes::new();
    let clock = Arc::new(SkewedClock(AtomicU64::new(0)));
    let node = try_node_at(&volumes.memory, &volumes.data(), "orders-0", clock.clone())
        .expect("the directory opens");
    append(&node, "s", 10);
    volumes.copy_running_volume(&node);
    append(&node, "s", 10);
    clock.0.store(61, Ordering::Release);
    eventually("the next mark", || {
        let marks = volumes.memory.keys();
        marks.iter().filter(|key| key.contains("/marks/")).count() == 2
    });
    node.stop();
    volumes.put_the_copy_back();
    let proofs = proofs(volumes.refused());
    assert!(
        matches!(
            proofs[..],
            [RolledBack::Mark {
                local: 1,
                bucket: 2,
                ..
            }]
        ),
        "{proofs:?}"
    );
}

#[test]
fn a_stream_that_the_volume_claimed_and_does_not_have_does_not_begin_again() {
    let volumes = Volumes::new();
    let node = volumes.start();
    append(&node, "s", 10);
    volumes.copy_running_volume(&node);
    append(&node, "t", 1);
    node.stop();
    volumes.put_the_copy_back();
    // Nothing was uploaded and no mark was left: the claim is all there is.
    let node = volumes.start();
    append(&node, "s", 1);
    let refused = durable(&node.store, "t", b"x").expect_err("it was there");
    assert!(
        matches!(&refused, AppendError::VolumeRefused { stream, reason: "RolledBack", .. } if stream == "t"),
        "{refused}"
    );
    let proofs = proofs(node.refusal());
    assert!(
        matches!(&proofs[..], [RolledBack::Claim { stream, epoch: 1 }] if stream == "t"),
        "{proofs:?}"
    );
    // The whole volume is older than it should be.
    let refused = durable(&node.store, "s", b"x").expect_err("quarantined");
    assert!(
        matches!(refused, AppendError::VolumeRefused { .. }),
        "{refused}"
    );
    node.stop();
}

#[test]
fn a_claim_whose_process_ended_before_the_stream_was_created_is_taken_up_again() {
    let volumes = Volumes::new();
    let node = volumes.start();
    append(&node, "s", 1);
    let identity = node.store.identity().clone();
    node.stop();
    let memory: Arc<dyn ObjectStore> = volumes.memory.clone();
    assert_eq!(
        claims_suite::claims_of(&memory, "p/", "orders-0").find(&identity, "s"),
        Ok(Some(1))
    );
    // Directory, claim, and no more.
    std::fs::create_dir(volumes.data().join("streams/t")).expect("created");
    assert_eq!(
        claims_suite::claims_of(&memory, "p/", "orders-0").claim(&identity, "t"),
        Ok(1)
    );
    let node = volumes.start();
    assert_eq!(
        durable(&node.store, "t", b"x")
            .expect("acknowledged")
            .first_sequence,
        0
    );
    node.stop();
}

#[test]
fn an_empty_volume_that_starts_while_tier_2_is_down_waits_until_it_is_known_not_to_be_a_lost_one() {
    let volumes = Volumes::new();
    let node = volumes.start();
    append(&node, "s", 10);
    node.stop();
    volumes.lose_the_volume();
    volumes.memory.set_unreachable(true);
    for _ in 0..2 {
        // The check is owed across restarts.
        let node = volumes.start();
        assert!(node.store.metrics().owes_volume_check);
        for stream in ["s", "new"] {
            let refused = durable(&node.store, stream, b"x").expect_err("it waits");
            assert!(
                matches!(refused, AppendError::ClaimPending { .. }),
                "{refused}"
            );
        }
        node.stop();
    }
    let node = volumes.start();
    volumes.memory.heal();
    match node.refusal() {
        OpenError::VolumeLost { node, streams } => {
            assert_eq!((node.as_str(), streams), ("orders-0", vec!["s".to_owned()]))
        }
        other => panic!("{other}"),
    }
    let refused = durable(&node.store, "new", b"x").expect_err("the volume is lost");
    assert!(
        matches!(
            refused,
            AppendError::VolumeRefused {
                reason: "VolumeLost",
                ..
            }
        ),
        "{refused}"
    );
    node.stop();
    assert_eq!(volumes.refused().reason(), "VolumeLost");
}

#[test]
fn an_empty_volume_of_a_new_node_serves_as_soon_as_tier_2_answers() {
    let volumes = Volumes::new();
    volumes.memory.set_unreachable(true);
    let node = volumes.start();
    let refused = durable(&node.store, "s", b"x").expect_err("it waits");
    assert!(
        matches!(refused, AppendError::ClaimPending { .. }),
        "{refused}"
    );
    volumes.memory.heal();
    eventually("the check", || !node.store.metrics().owes_volume_check);
    append(&node, "s", 1);
    node.stop();
}

#[test]
fn an_older_volume_goes_on_while_tier_2_is_down_and_stops_when_it_answers() {
    let volumes = Volumes::new();
    let node = volumes.start();
    append(&node, "s", 10);
    node.stop();
    volumes.copy_volume();
    let node = volumes.start();
    append(&node, "s", 10);
    node.stop();
    volumes.put_the_copy_back();
    volumes.memory.set_unreachable(true);
    let node = volumes.start();
    append(&node, "s", 5);
    node.store.seal(Some("s")).expect("sealed");
    let objects = volumes.memory.keys();
    volumes.memory.heal();
    let refused = node.refusal();
    assert!(
        refused
            .to_string()
            .contains("kept on this volume: s 10..15"),
        "what was acknowledged meanwhile is told: {refused}"
    );
    proofs(refused);
    let refused = durable(&node.store, "s", b"x").expect_err("quarantined");
    assert!(
        matches!(
            refused,
            AppendError::VolumeRefused {
                reason: "RolledBack",
                ..
            }
        ),
        "{refused}"
    );
    let stopped = node.store.identity().clone();
    node.stop();
    let published: Vec<String> = volumes
        .memory
        .keys()
        .into_iter()
        .filter(|key| !objects.contains(key) && !key.contains("/probe/"))
        .collect();
    assert_eq!(published, Vec::<String>::new(), "of {stopped:?}");
    assert_eq!(volumes.refused().reason(), "RolledBack");
}

#[test]
fn an_object_whose_upload_was_begun_here_is_no_proof_whatever_became_of_its_record() {
    let volumes = Volumes::new();
    let node = volumes.start();
    append(&node, "s", 10);
    // The object lands, and what follows fails: `UploadFailed` is what the manifest says.
    volumes.memory.inject(Verb::Head, Fault::AccessDenied, 1);
    node.store.seal(Some("s")).expect("sealed");
    eventually("the failure", || {
        let failure = node.tiers.tier2_status().and_then(|it| it.moves.failure);
        failure.is_some() && !payloads_in_bucket(&volumes.memory, "s").is_empty()
    });
    node.stop();
    let node = volumes.start();
    append(&node, "s", 1);
    node.upload("s");
    node.stop();
}

#[test]
fn an_emptied_bucket_is_no_proof() {
    let volumes = Volumes::new();
    let node = volumes.start();
    append(&node, "s", 10);
    node.upload("s");
    node.stop();
    for key in volumes.memory.keys() {
        volumes.memory.delete(&key).expect("deleted");
    }
    let node = volumes.start();
    append(&node, "s", 1);
    node.stop();
}

#[test]
fn a_claim_that_cannot_be_read_is_counted_and_keeps_no_other_stream_from_being_superseded() {
    let volumes = Volumes::new();
    let node = volumes.start();
    for stream in ["a", "b", "c"] {
        append(&node, stream, 1);
    }
    node.stop();
    let put = |key: &str| {
        let upload = Upload::of_bytes("not a claim".into(), "test".into());
        volumes.memory.put(key, &upload).expect("put");
    };
    put("p/claims/a/00000000000000000001");
    put("p/claims/b/00000000000000000002");
    let node = volumes.start();
    eventually("b to be quarantined", || {
        matches!(
            durable(&node.store, "b", b"x"),
            Err(AppendError::Superseded { from: 1, to: 2, .. })
        )
    });
    // Its claim is not confirmed, but nothing says that it is another's.
    append(&node, "a", 1);
    node.upload("c");
    let status = node.tiers.tier2_status().expect("Tier 2");
    assert_eq!(
        status.unreadable_claims.keys().collect::<Vec<_>>(),
        [
            "p/claims/a/00000000000000000001",
            "p/claims/b/00000000000000000002"
        ]
    );
    node.stop();
}
