//! Small segments that become one, over a Tier 2 in memory and without one: through restarts, trims, evictions, snapshots and drains.

mod kills;
mod objects;
mod races;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aof2_format::compaction::{self, Compaction as Recorded};
use aof2_format::manifest_chunk;
use aof2_format::manifest_record::ManifestEvent;
use aof2_format::names::file;

use super::node::{Node, node_with};
use super::options;
use crate::compaction::{Compaction, CompactionRefusal, CompactionRun};
use crate::config::{Config, KIB, MIB};
use crate::deletion::Deletion;
use crate::io::fault::FaultDisk;
use crate::io::{SystemDisk, fault::Fault};
use crate::objects::memory::MemoryStore;
use crate::request::{AppendRequest, Durability};
use crate::snapshot::Snapshots;
use crate::store::Store;
use crate::tier::Tiers;
use crate::tier::testing::until;

pub(super) const PAYLOADS: [&[u8]; 8] = [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7"];

const ONLY_WHEN_ASKED: Duration = Duration::from_secs(24 * 3600);
const AT_ONCE: Duration = Duration::from_millis(10);

/// A node that merges when it is asked to.
pub(super) struct Merging {
    pub node: Node,
    pub compaction: Compaction,
}

pub(super) fn merging(memory: &Arc<MemoryStore>, directory: &Path) -> Merging {
    merging_with(memory, directory, |_| {})
}

pub(super) fn merging_with(
    memory: &Arc<MemoryStore>,
    directory: &Path,
    change: impl FnOnce(&mut Config),
) -> Merging {
    let node = node_with(memory, directory, |config| {
        config.tier2.delete_grace = Duration::ZERO;
        change(config);
    });
    let compaction = Compaction::start_with(node.store.clone(), &node.tiers, ONLY_WHEN_ASKED);
    Merging { node, compaction }
}

impl Merging {
    /// So many uploaded segments of a record each.
    pub fn segments(&self, count: usize) {
        for payload in &PAYLOADS[..count] {
            self.node.segment(payload);
        }
    }

    /// Asks for a pass and waits for its end.
    pub fn merge(&self) -> CompactionRun {
        merge(&self.compaction)
    }

    pub fn ids(&self) -> Vec<u64> {
        let segments = self.node.store.segments("a").expect("a stream");
        segments.iter().map(|segment| segment.segment_id).collect()
    }

    pub fn read_all(&self) {
        let found = self.node.read(0).expect("read");
        assert_eq!(found, PAYLOADS[..found.len()]);
        let acked = self.node.store.watermarks().remove(0).acked;
        assert_eq!(found.len() as u64, acked);
    }

    /// Everything that is uploaded is so without a hole, and nothing waits.
    pub fn is_uploaded(&self) {
        let mark = self.node.store.watermarks().remove(0);
        assert_eq!(
            (mark.sealed, mark.sealed_uploaded),
            (mark.acked, mark.acked)
        );
        assert_eq!(self.node.store.sealed_segments_pending(), []);
    }

    pub fn stop(self) {
        self.node.tiers.stop();
        self.compaction.stop();
        self.node.stop();
    }
}

pub(super) fn merge(compaction: &Compaction) -> CompactionRun {
    let id = compaction.ask(None).expect("taken").id;
    let mut run = CompactionRun::default();
    until("the pass", || {
        run = compaction.run(id).expect("kept");
        run.has_ended
    });
    run
}

/// Of segments, and warm files.
pub(super) fn files(directory: &Path) -> (Vec<u64>, Vec<u64>) {
    let ids = |folder: PathBuf, id: &dyn Fn(&str) -> Option<u64>| {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut ids: Vec<u64> = names
            .filter_map(|name| id(&name.to_string_lossy()))
            .collect();
        ids.sort_unstable();
        ids
    };
    let warm = directory.join(format!("{0}/{0}/a", file::WARM_DIR));
    (
        ids(directory.join("streams/a/segments"), &|name| {
            file::parse_segment(name).map(|it| it.segment_id)
        }),
        ids(warm, &|name| file::parse_warm(name).map(|it| it.segment_id)),
    )
}

pub(super) fn objects(memory: &MemoryStore) -> Vec<u64> {
    let keys = memory.keys();
    let names = keys.iter().filter(|key| key.contains("segments/"));
    let ids = names.map(|key| {
        let name = key.rsplit('/').next().expect("a name");
        let id = name.split(['-', '.']).nth(2).expect("an id");
        id.parse::<u64>().expect("digits")
    });
    let mut ids: Vec<u64> = ids.collect();
    ids.sort_unstable();
    ids
}

/// What the manifest says of merges, in its order.
pub(super) fn recorded(store: &Store) -> Vec<(u64, Recorded)> {
    let cut = store.cut_manifest("a").expect("cut");
    let stream = store.known("a").expect("a stream");
    let mut found = Vec::new();
    for chunk in cut.chunks {
        let bytes = store.closed_chunk_bytes("a", chunk).expect("read");
        let offset = manifest_chunk::DATA_OFFSET as usize;
        for commit in manifest_chunk::commits(&bytes, offset, stream.identity.seed) {
            for record in commit.expect("whole").records {
                if let ManifestEvent::CustomEvent { schema_id, blob } = &record.event
                    && *schema_id == compaction::SCHEMA_ID
                {
                    let event = Recorded::decode(blob).expect("decodes");
                    found.push((record.segment_id, event));
                }
            }
        }
    }
    found
}

pub(super) fn kinds(store: &Store) -> Vec<&'static str> {
    let kind = |(_, event): (u64, Recorded)| match event {
        Recorded::Begun(_) => "begun",
        Recorded::Merged(..) => "merged",
        Recorded::Failed { .. } => "failed",
        Recorded::GivenUp => "given up",
    };
    recorded(store).into_iter().map(kind).collect()
}

/// A Tier 0 that moves down by itself is always near its high mark.
#[test]
fn there_is_room_for_a_merge_up_to_the_high_mark_and_where_there_is_none_the_pass_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let it = merging(&Arc::new(MemoryStore::new()), folder.path());
    it.segments(5);
    until("nothing to evict", || it.node.tiers.coordinator().is_idle());
    let leave = |bytes: u64| {
        let used_bytes = it.node.store.tier0_usage().used_bytes;
        let mut config = (*it.node.store.config()).clone();
        config.tier0.instance_quota_bytes = (used_bytes + bytes).div_ceil(9) * 10;
        it.node.store.reconfigure(config);
    };
    leave(KIB);
    let run = it.merge();
    let end = run.end.unwrap_or_default();
    assert_eq!(run.inputs, 0);
    assert!(
        end.starts_with("stream a has segments to merge and no room for what they become: 10"),
        "{end}"
    );
    // What one that comes back would leave for open segments is not left here.
    leave(MIB);
    it.node.append(PAYLOADS[5]);
    leave(16 * KIB);
    let run = it.merge();
    assert_eq!((run.inputs, run.outputs), (5, 1), "{run:?}");
    it.read_all();
    it.stop();
}

#[test]
fn small_segments_become_one_with_the_same_records_copies_and_times() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let it = merging(&memory, folder.path());
    it.segments(5);
    let before = it.node.store.segments("a").expect("a stream");
    let run = it.merge();
    assert_eq!(
        (run.inputs, run.outputs, run.failures),
        (5, 1, 0),
        "{run:?}"
    );
    assert!(
        run.read_bytes > 5 * 4096 && run.written_bytes > 2 * 4096,
        "{run:?}"
    );
    let end = "no stream has 4 adjacent segments below half of";
    assert!(
        run.end.as_deref().is_some_and(|why| why.starts_with(end)),
        "{run:?}"
    );

    let after = it.node.store.segments("a").expect("a stream");
    let [output] = &after[..] else {
        panic!("{after:?}")
    };
    assert!(output.segment_id > before.iter().map(|it| it.segment_id).max().unwrap_or(0));
    assert_eq!((output.base_sequence, output.records), (0, 5));
    let times = |of: fn(&crate::port::RecordTimes) -> i64| {
        before
            .iter()
            .map(move |it| of(it.times.as_ref().expect("sealed")))
    };
    let found = output.times.expect("sealed");
    assert_eq!(
        Some(found.first_unix_nanos),
        times(|it| it.first_unix_nanos).min()
    );
    assert_eq!(
        Some(found.last_unix_nanos),
        times(|it| it.last_unix_nanos).max()
    );
    let copies = &output.copies;
    assert!(
        copies.hot && copies.warm.is_none() && copies.cold.is_some(),
        "{copies:?}"
    );
    let object = memory
        .bytes_of(output.key.as_deref().expect("a key"))
        .expect("there");
    assert_eq!(output.compressed_bytes, Some(object.len() as u64));
    it.read_all();
    it.is_uploaded();
    let id = output.segment_id;
    assert_eq!(files(folder.path()), (vec![id], vec![]));
    let moves = it.node.tiers.tier2_status().expect("a Tier 2").moves;
    assert_eq!(moves.tier1_bytes, 0);
    assert_eq!(
        it.node.store.metrics().tier0_total_bytes,
        output_file_bytes(folder.path())
    );
    assert_eq!(kinds(&it.node.store), ["begun", "merged"]);
    // Nothing more is to be done, and a stream goes on behind it.
    assert_eq!(it.merge().inputs, 0);
    it.node.segment(PAYLOADS[5]);
    it.node.append(PAYLOADS[6]);
    it.read_all();
    it.stop();

    let it = merging(&memory, folder.path());
    it.read_all();
    assert_eq!(it.ids()[0], id);
    it.stop();
}

fn output_file_bytes(directory: &Path) -> u64 {
    let folder = directory.join("streams/a/segments");
    let entries = std::fs::read_dir(folder).expect("a folder");
    let sizes = entries.map(|entry| entry.expect("an entry").metadata().expect("a file").len());
    sizes.sum()
}

#[test]
fn whoever_asks_is_told_what_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let it = merging(&memory, folder.path());
    let why = |it: &Merging| it.merge().end.expect("a reason");
    it.segments(3);
    let target = it.node.store.config().segment_target_bytes();
    assert_eq!(
        why(&it),
        format!(
            "no stream has 4 adjacent segments below half of {target} bytes that are in Tier 0 and wait for nothing; stream a has 3 in a row"
        )
    );
    let refused = it.compaction.ask(Some("b"));
    let stream = "b".to_owned();
    assert_eq!(refused, Err(CompactionRefusal::UnknownStream { stream }));
    it.node.segment(PAYLOADS[3]);
    it.node.store.close_admission("drain");
    assert_eq!(why(&it), "appends are refused (drain)");
    it.node.store.open_admission();
    it.node.faults.report_available(Some(MIB));
    assert!(why(&it).starts_with("volume is nearly full (1048576 of "));
    it.node.faults.report_available(None);
    it.node.store.supersede("a", 9);
    let id = it.compaction.ask(Some("a")).expect("taken").id;
    until("the pass", || {
        it.compaction.run(id).expect("kept").has_ended
    });
    let run = it.compaction.run(id).expect("kept");
    let gone = "stream a is damaged, or another volume owns it";
    assert_eq!(run.end.as_deref(), Some(gone));
    assert_eq!(it.compaction.run(id + 1), None);
    it.stop();
}

/// A store without Tier 2, and what merges its segments.
struct Local {
    store: Store,
    tiers: Tiers,
    compaction: Compaction,
    faults: Arc<crate::io::fault::Faults>,
}

fn local(directory: &Path) -> Local {
    local_with(directory, false, ONLY_WHEN_ASKED)
}

fn local_with(directory: &Path, is_enabled: bool, pass_every: Duration) -> Local {
    let mut options = options(directory);
    options.config.compaction.enabled = is_enabled;
    let config = options.config.clone();
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
    options.environment.disk = disk;
    let store = Store::open(options).expect("the directory opens");
    let tiers = Tiers::start(Arc::new(store.clone()), None, &config).expect("threads");
    let compaction = Compaction::start_with(store.clone(), &tiers, pass_every);
    Local {
        store,
        tiers,
        compaction,
        faults,
    }
}

impl Local {
    fn segment(&self, payload: &[u8]) {
        let request = AppendRequest {
            stream: "a".to_owned(),
            payloads: vec![payload.to_vec().into()],
            durability: Durability::Durable,
            producer: None,
        };
        self.store.append(request).expect("acknowledged");
        self.store.seal(Some("a")).expect("sealed");
    }

    fn count(&self) -> usize {
        self.store.segments("a").expect("a stream").len()
    }

    fn read(&self) -> Vec<Vec<u8>> {
        let request = crate::request::ReadRequest {
            stream: "a".to_owned(),
            from_sequence: 0,
            limit: 0,
            include_staged: false,
        };
        let mut reader = self.store.read(request).expect("a stream");
        let mut found = Vec::new();
        while let Some(records) = reader.next_batch(MIB as usize).expect("readable") {
            found.extend(records.into_iter().map(|record| record.payload.to_vec()));
        }
        found
    }

    fn stop(self) {
        self.tiers.stop();
        self.compaction.stop();
        self.store.close().expect("closes");
    }
}

#[test]
fn without_tier_2_the_volume_alone_is_merged_and_without_being_asked_where_that_is_enabled() {
    let folder = tempfile::tempdir().expect("a folder");
    {
        let it = local_with(folder.path(), false, AT_ONCE);
        for payload in &PAYLOADS[..4] {
            it.segment(payload);
        }
        it.tiers.coordinator().ring();
        until("the first pass", || it.compaction.status().end.is_some());
        let end = it.compaction.status().end;
        assert_eq!(end.as_deref(), Some("compaction.enabled is false"));
        assert_eq!(it.count(), 4);
        it.stop();
    }
    let it = local_with(folder.path(), true, AT_ONCE);
    until("the merge", || it.compaction.status().merges == 1);
    assert_eq!(it.count(), 1);
    let status = it.compaction.status();
    assert_eq!((status.merges, status.inputs, status.failures), (1, 4, 0));
    assert!(
        status
            .last
            .is_some_and(|last| &*last.stream == "a" && last.failure.is_none())
    );
    assert_eq!(it.read(), PAYLOADS[..4]);
    it.stop();
}

/// As a snapshot each hour makes them.
#[test]
fn a_byte_is_written_again_at_most_as_often_as_its_segment_can_double() {
    let folder = tempfile::tempdir().expect("a folder");
    let it = local(folder.path());
    let (records, bytes) = (96_u64, 4 << 10);
    for number in 0..records {
        it.segment(&vec![number as u8; bytes]);
        merge(&it.compaction);
    }
    let status = it.compaction.status();
    let target = it.store.config().segment_target_bytes();
    let most = (target / bytes as u64).ilog2() as u64;
    // Header and seal of each output are its own.
    let own = 3 * 4096 * status.merges;
    let rewritten =
        status.written_bytes.saturating_sub(own) as f64 / (records * bytes as u64) as f64;
    println!(
        "{records} segments of {bytes} bytes: {} merges, {} segments left, each byte rewritten {rewritten:.2} times, at most {most}",
        status.merges,
        it.count()
    );
    assert!(rewritten <= most as f64, "{status:?}");
    assert!(it.count() as u64 <= 4 * most, "{}", it.count());
    let read = it.read();
    assert_eq!(read.len() as u64, records);
    assert!(
        read.iter()
            .enumerate()
            .all(|(number, record)| record == &vec![number as u8; bytes])
    );
    it.stop();
}
