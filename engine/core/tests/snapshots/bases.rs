//! Snapshots of a stream whose older manifest chunks left the volume.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use aof2_core::drain::{DrainPhase, DrainRequest};
use aof2_core::io::SystemDisk;
use aof2_core::objects::memory::MemoryStore;
use aof2_core::objects::{ObjectStore, Removal};
use aof2_core::snapshot::SnapshotReason;
use aof2_core::snapshot::verify::Level;
use aof2_format::names::file;

use crate::common::{copy_directory, durable, eventually, payloads, read_all, small_config};
use crate::support::{Delayed, Node, configured_node};

/// Chunks behind a base that make the next one due.
const AFTER: u64 = 2;

fn node(memory: &Arc<MemoryStore>, folder: &Path) -> Node {
    node_on(memory.clone(), folder)
}

fn node_on(objects: Arc<dyn ObjectStore>, folder: &Path) -> Node {
    let mut config = small_config(folder);
    config.manifest.base_after_chunks = AFTER;
    configured_node(Arc::new(SystemDisk), objects, config, "orders-0")
}

fn manifest_of(folder: &Path, stream: &str) -> PathBuf {
    let streams = folder.join(file::STREAMS_DIR);
    streams.join(stream).join(file::MANIFEST_DIR)
}

fn manifest(folder: &Path) -> PathBuf {
    manifest_of(folder, "orders")
}

/// Numbers of the chunks that are on the volume, ascending.
fn chunks(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(manifest(folder)).expect("a folder");
    let numbers = entries.filter_map(|entry| {
        let name = entry.expect("an entry").file_name();
        file::parse_manifest_chunk(name.to_str()?).map(|(_, number)| number)
    });
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

fn take(node: &Node, requests: std::ops::Range<u64>) -> Vec<u64> {
    let mut taken = Vec::new();
    for number in requests {
        durable(&node.store, "orders", number.to_string().as_bytes()).expect("acknowledged");
        let status = node.take("orders", &format!("r{number}"));
        let verdict = node.verify("orders", status.snapshot_id, Level::L1);
        assert_eq!(verdict.fault, None, "r{number}");
        taken.push(status.uploaded_sequence);
    }
    taken
}

fn all(node: &Node) -> Vec<String> {
    let payloads = payloads(&read_all(&node.store, "orders"));
    let texts = payloads.into_iter().map(String::from_utf8);
    texts.map(|text| text.expect("a text")).collect()
}

fn numbers(upto: u64) -> Vec<String> {
    (0..upto).map(|number| number.to_string()).collect()
}

#[test]
fn chunks_that_are_in_tier_2_leave_the_volume_and_snapshots_starts_and_drains_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = self::node(&memory, folder.path());
    assert_eq!(take(&node, 0..7), [1, 2, 3, 4, 5, 6, 7]);
    // Of the seven that are closed.
    eventually("six chunks go", || chunks(folder.path()) == [6, 7]);
    let list = |node: &Node| {
        let listed = node.snapshots.list(Some("orders")).expect("listed");
        let known = listed.into_iter().map(|it| (it.key, it.digest, it.request));
        known.collect::<Vec<_>>()
    };
    let listed = list(&node);
    assert_eq!(listed.len(), 7);
    node.stop();

    let node = self::node(&memory, folder.path());
    assert_eq!(node.store.describe("orders").expect("there").damage, None);
    assert_eq!(list(&node), listed);
    assert_eq!(all(&node), numbers(7));
    // The newest catalogue is gone: what it said of chunks is in the base.
    memory.delete(&listed[0].0).expect("deleted");
    assert_eq!(take(&node, 7..9), [8, 9]);
    eventually("eight chunks go", || chunks(folder.path()) == [8, 9]);
    durable(&node.store, "orders", b"9").expect("acknowledged");
    let limit = std::time::Duration::from_secs(20);
    node.tiers.drain().begin(DrainRequest {
        ttl: limit,
        upload_timeout: limit,
        drain_timeout: limit,
    });
    eventually("the drain", || {
        node.tiers.drain().status().phase == DrainPhase::Drained
    });
    node.stop();
    let node = self::node(&memory, folder.path());
    assert_eq!(all(&node), numbers(10));
    node.stop();
}

/// Whatever happens to the bucket between the catalogue and the last look.
#[test]
fn a_chunk_whose_object_is_gone_or_is_another_stays_on_the_volume() {
    type Loss = fn(&MemoryStore, &str);
    let losses: [Loss; 2] = [
        |memory, key| assert_eq!(memory.delete(key), Ok(Removal::Removed)),
        |memory, key| memory.damage(key, 4200),
    ];
    for loss in losses {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Arc::new(MemoryStore::new());
        // Otherwise it is the store that notices.
        memory.forget_checksums();
        let hit = memory.clone();
        let hits = Arc::new(Mutex::new(BTreeSet::new()));
        let met = hits.clone();
        let objects = Delayed {
            memory: memory.clone(),
            before: Box::new(move |verb, key| {
                let is_chunk = verb == "get" && key.contains("manifest/orders/");
                if is_chunk && met.lock().expect("held by nobody").insert(key.to_owned()) {
                    loss(&hit, key);
                }
            }),
        };
        let node = node_on(Arc::new(objects), folder.path());
        for number in 0..AFTER {
            durable(&node.store, "orders", b"a record").expect("acknowledged");
            node.take("orders", &format!("r{number}"));
        }
        let base = manifest(folder.path()).join(file::MANIFEST_BASE);
        eventually("a base", || base.exists());
        eventually("a look at each object", || {
            hits.lock().expect("held by nobody").len() as u64 == AFTER
        });
        node.stop();
        assert_eq!(chunks(folder.path()), [0, 1, 2]);
    }
}

/// Others wait for nothing of it.
#[test]
fn a_chunk_that_stays_keeps_none_of_those_behind_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let hit = memory.clone();
    let objects = Delayed {
        memory: memory.clone(),
        before: Box::new(move |verb, key| {
            // Whenever somebody looks at it. The next snapshot sends it again.
            if verb == "get" && key.ends_with("00000000000000000000.mlog") {
                hit.delete(key).expect("deleted");
            }
        }),
    };
    let node = node_on(Arc::new(objects), folder.path());
    for number in 0..2 * AFTER {
        durable(&node.store, "orders", b"a record").expect("acknowledged");
        node.take("orders", &format!("r{number}"));
    }
    eventually("the next one goes", || !chunks(folder.path()).contains(&1));
    assert_eq!(chunks(folder.path())[0], 0);
    node.stop();
}

/// Where calls wait until the test goes on.
#[derive(Default)]
struct Gate {
    /// How many came, and whether they may pass.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().expect("held by nobody");
        state.0 += 1;
        while !state.1 {
            state = self.changed.wait(state).expect("held by nobody");
        }
    }

    fn came(&self) -> usize {
        self.state.lock().expect("held by nobody").0
    }

    fn open(&self) {
        self.state.lock().expect("held by nobody").1 = true;
        self.changed.notify_all();
    }
}

/// Also where the test fails, so that the node can stop.
struct Opened(Arc<Gate>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open();
    }
}

#[test]
fn no_snapshot_waits_for_the_chunks_of_another_stream_to_leave_the_volume() {
    /// Snapshots that ask Tier 2 at a time.
    const STEPS: usize = 8;
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let (chunk, catalogue) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
    let (at_chunk, at_catalogue) = (chunk.clone(), catalogue.clone());
    let objects = Delayed {
        memory: memory.clone(),
        before: Box::new(move |verb, key| match verb {
            "get" if key.starts_with("p/manifest/") => at_chunk.pass(),
            "put" if key.starts_with("p/snapshots/") && !key.contains("/s0/") => {
                at_catalogue.pass();
            }
            _ => {}
        }),
    };
    let node = node_on(Arc::new(objects), folder.path());
    let (chunks_go, catalogues_go) = (Opened(chunk.clone()), Opened(catalogue.clone()));
    let streams: Vec<String> = (0..=STEPS).map(|number| format!("s{number}")).collect();
    let request = |number: u64| format!("r{number}");
    for number in 0..AFTER {
        durable(&node.store, "s0", b"a record").expect("acknowledged");
        node.take("s0", &request(number));
    }
    eventually("a look at an object", || chunk.came() == 1);
    for stream in &streams[1..] {
        durable(&node.store, stream, b"a record").expect("acknowledged");
        node.begin(stream, &request(0));
    }
    eventually("as many snapshots as may", || catalogue.came() == STEPS);
    drop(catalogues_go);
    for stream in &streams[1..] {
        node.take(stream, &request(0));
        for number in 1..AFTER {
            durable(&node.store, stream, b"a record").expect("acknowledged");
            node.take(stream, &request(number));
        }
    }
    assert_eq!(chunk.came(), 1, "one thread looks at them");
    drop(chunks_go);
    // None of them is forgotten.
    for stream in &streams {
        let oldest = manifest_of(folder.path(), stream).join(file::manifest_chunk(1, 0));
        eventually("the oldest chunk goes", || !oldest.exists());
    }
    node.stop();
}

#[test]
fn a_pruned_chunk_that_is_gone_from_tier_2_is_named_by_the_next_snapshot() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = self::node(&memory, folder.path());
    take(&node, 0..4);
    eventually("chunks go", || chunks(folder.path()) == [4]);
    let keys = memory.keys();
    let key = keys.iter().find(|key| key.contains("manifest/orders/"));
    let key = key.expect("a chunk");
    memory.delete(key).expect("deleted");
    durable(&node.store, "orders", b"4").expect("acknowledged");
    let status = node.finish("orders", "r4");
    let why = status.why.expect("a reason");
    assert_eq!(why.reason, SnapshotReason::ObjectMissing);
    assert!(why.message.contains(key.as_str()), "{}", why.message);
    node.stop();
}

#[test]
fn a_stream_with_a_damaged_base_is_whole_again_with_its_chunks_from_tier_2() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = self::node(&memory, folder.path());
    take(&node, 0..5);
    eventually("chunks go", || chunks(folder.path()) == [4, 5]);
    node.stop();
    let base = manifest(folder.path()).join(file::MANIFEST_BASE);
    let mut bytes = std::fs::read(&base).expect("a base");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&base, bytes).expect("written");
    let node = self::node(&memory, folder.path());
    let damage = node.store.describe("orders").expect("there").damage;
    let damage = damage.expect("it is told");
    for part in [
        base.display().to_string().as_str(),
        "manifest chunks 0 to 3 are not on this volume",
        "object manifest/orders/EPOCH/CHUNK.mlog is file EPOCH-CHUNK.mlog",
    ] {
        assert!(damage.contains(part), "{part} is not in: {damage}");
    }
    durable(&node.store, "orders", b"5").expect_err("refused");
    node.stop();
    // As it says.
    for key in memory.keys() {
        let Some(name) = key.strip_prefix("p/manifest/orders/") else {
            continue;
        };
        let to = manifest(folder.path()).join(name.replace('/', "-"));
        if !to.exists() {
            std::fs::write(to, memory.bytes_of(&key).expect("there")).expect("written");
        }
    }
    let node = self::node(&memory, folder.path());
    assert_eq!(node.store.describe("orders").expect("there").damage, None);
    assert!(!base.exists());
    assert_eq!(all(&node), numbers(5));
    // And all of it happens again.
    assert_eq!(take(&node, 5..7), [6, 7]);
    eventually("chunks go", || chunks(folder.path()).len() <= 2);
    node.stop();
}

/// Flips a byte of this payload wherever it lies below the directory: in the segment and in the journal.
fn damage_everywhere(directory: &Path, payload: &[u8]) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            damage_everywhere(&path, payload);
            continue;
        }
        let mut bytes = std::fs::read(&path).expect("readable");
        let places = bytes.windows(payload.len()).enumerate();
        let found = places.filter_map(|(at, part)| (part == payload).then_some(at));
        let found: Vec<usize> = found.collect();
        found.iter().for_each(|at| bytes[*at] ^= 1);
        if !found.is_empty() {
            std::fs::write(&path, bytes).expect("written");
        }
    }
}

#[test]
fn a_stream_whose_older_chunks_left_the_volume_is_cut_and_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = self::node(&memory, folder.path());
    take(&node, 0..5);
    eventually("chunks go", || chunks(folder.path()) == [4, 5]);
    let kept = |number: u64| format!("record {number} is kept");
    durable(&node.store, "orders", kept(5).as_bytes()).expect("acknowledged");
    for lost in [b"record 6 is lost", b"record 7 is lost"] {
        durable(&node.store, "orders", lost).expect("acknowledged");
    }
    node.store.flush().expect("flushed");
    let killed = tempfile::tempdir().expect("a folder");
    copy_directory(folder.path(), killed.path());
    node.stop();
    damage_everywhere(killed.path(), b"record 6 is lost");

    let node = self::node(&memory, killed.path());
    durable(&node.store, "orders", b"more").expect_err("damaged");
    let cut = node.store.possible_cut("orders").expect("at its end");
    assert_eq!(cut.first_lost, 6);
    node.store.cut("orders", 6).expect("accepted");
    node.stop();

    let mut expected = numbers(5);
    expected.push(kept(5));
    for number in 0..3 {
        let node = self::node(&memory, killed.path());
        assert_eq!(node.store.describe("orders").expect("there").damage, None);
        let more = format!("after the cut {number}");
        let appended = durable(&node.store, "orders", more.as_bytes()).expect("acknowledged");
        assert!(appended.first_sequence >= 8, "given twice: {appended:?}");
        expected.push(more);
        assert_eq!(all(&node), expected);
        let status = node.take("orders", &format!("c{number}"));
        let verdict = node.verify("orders", status.snapshot_id, Level::L1);
        assert_eq!(verdict.fault, None, "c{number}");
        node.stop();
        let left = chunks(killed.path());
        assert!(!left.contains(&3), "{left:?}");
    }

    // With a manifest that is damaged nobody knows where its end is.
    let base = manifest(killed.path()).join(file::MANIFEST_BASE);
    std::fs::remove_file(base).expect("removed");
    let node = self::node(&memory, killed.path());
    let error = node
        .store
        .possible_cut("orders")
        .expect_err("refused")
        .to_string();
    for part in ["cannot be cut", "manifest/base", "Restore the base"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    node.stop();
}
