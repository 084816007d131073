//! `kill -9` at each system call that changes the volume, and at each request to the bucket, of copies that leave Tier 0 and Tier 1 and of
//! copies that come back. Each state that a kill can leave is started again: every record is there, nothing of half a copy is, and the tiers
//! are counted as they are.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aof2_format::names::file;

use super::killer::{Killer, Left, each};
use super::node::{Node, node_with};
use crate::config::MIB;
use crate::deletion::Deletion;
use crate::objects::memory::MemoryStore;
use crate::port::SealedSegment;
use crate::tier::LocalTier;
use crate::tier::testing::until;

/// For a count that is brought up to date behind the work.
const PATIENCE: Duration = Duration::from_secs(30);

const PAYLOADS: [&[u8]; 4] = [b"0", b"1", b"2", b"3"];

fn start(memory: &Arc<MemoryStore>, directory: &Path) -> Node {
    node_with(memory, directory, |config| config.tier1.max_bytes = MIB)
}

fn first(node: &Node) -> SealedSegment {
    let segments = node.store.readable_segments("a").expect("a stream");
    segments.into_iter().next().expect("a segment")
}

fn drop_warm(node: &Node, killer: &Killer) {
    let id = first(node).segment_id;
    let deleted = Deletion::delete_warm(&node.tiers, &node.store, "a", id);
    deleted.expect("there was one");
    killer.answered();
}

fn drop_hot(node: &Node, killer: &Killer) {
    let id = first(node).segment_id;
    let dropped = node.store.evict_hot("a", id).expect("dropped");
    assert!(dropped > 0);
    killer.answered();
}

fn bring_back(node: &Node, killer: &Killer, tier: LocalTier) {
    let end = first(node).end_sequence();
    let asked = node.tiers.hydrate("a", 0, Some(end), tier).expect("taken");
    assert!(asked.segments > 0, "{tier:?}");
    let status = || node.tiers.hydration(asked.id).expect("known");
    until("the copy to come back", || status().has_ended());
    assert_eq!(status().done_segments, asked.segments, "{:?}", status());
    killer.answered();
}

/// As the coordinator does it, for the budget; Tier 1 gets a copy first.
fn evict_for_the_budget(node: &Node, killer: &Killer) {
    let before = node.store.config();
    let mut config = (*before).clone();
    // It is above the high mark, and not so full that room goes before copies.
    config.tier0.instance_quota_bytes = node.store.tier0_usage().used_bytes * 100 / 93;
    node.store.reconfigure(config);
    until("an eviction", || !first(node).copies.hot);
    until("the end of it", || node.tiers.coordinator().is_idle());
    node.store.reconfigure((*before).clone());
    killer.answered();
}

/// Three sealed and uploaded records, and one behind them in an open segment.
fn kills() -> Vec<Left> {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = start(&memory, folder.path());
    for payload in &PAYLOADS[..3] {
        node.segment(payload);
    }
    node.append(PAYLOADS[3]);
    until("the uploads are over", || {
        node.tiers.coordinator().is_idle()
    });
    let killer = Killer::begin(&node, &memory, folder.path());
    drop_warm(&node, &killer);
    evict_for_the_budget(&node, &killer);
    assert!(first(&node).copies.warm.is_some(), "made again first");
    bring_back(&node, &killer, LocalTier::Tier0);
    drop_hot(&node, &killer);
    drop_warm(&node, &killer);
    bring_back(&node, &killer, LocalTier::Tier1);
    drop_warm(&node, &killer);
    bring_back(&node, &killer, LocalTier::Tier0);
    let left = killer.end();
    node.stop();
    left
}

fn files(directory: &Path) -> Vec<(PathBuf, u64)> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let files = entries.map(|entry| {
        let entry = entry.expect("an entry");
        let length = entry.metadata().expect("there").len();
        (entry.path(), length)
    });
    files.collect()
}

fn bytes(files: &[(PathBuf, u64)]) -> u64 {
    files.iter().map(|(_, length)| length).sum()
}

/// What does not hold of the files and their counts, if anything.
fn differs(node: &Node, root: &Path) -> Option<String> {
    let hot = files(&root.join("streams/a/segments"));
    let warm = files(&node.store.tier1_directory().join(file::WARM_DIR).join("a"));
    let sealed = node.store.readable_segments("a").expect("a stream");
    let name = |path: &Path| path.file_name().map(|it| it.to_string_lossy().into_owned());
    let mut names = hot.iter().chain(&warm).filter_map(|(path, _)| name(path));
    if let Some(half) = names.find(|name| name.ends_with(file::TMP_SUFFIX)) {
        return Some(format!("{half} is left"));
    }
    let is_hot = |it: &&SealedSegment| it.copies.hot;
    let is_warm = |it: &&SealedSegment| it.copies.warm.is_some();
    let ids = |of: &dyn Fn(&&SealedSegment) -> bool| -> Vec<u64> {
        sealed.iter().filter(of).map(|it| it.segment_id).collect()
    };
    let has_files = |files: &[(PathBuf, u64)], parse: &dyn Fn(&str) -> Option<u64>| {
        let of_files = files.iter().filter_map(|(path, _)| parse(&name(path)?));
        let mut found: Vec<u64> = of_files.collect();
        found.sort_unstable();
        found
    };
    let parse_hot = |name: &str| file::parse_segment(name).map(|it| it.segment_id);
    let parse_warm = |name: &str| file::parse_warm(name).map(|it| it.segment_id);
    let last = sealed.last().map_or(0, |it| it.segment_id);
    let mut found = has_files(&hot, &parse_hot);
    // Behind them lie open ones.
    found.retain(|id| *id <= last);
    if found != ids(&is_hot) {
        return Some(format!("files {found:?}, hot copies {:?}", ids(&is_hot)));
    }
    let found = has_files(&warm, &parse_warm);
    if found != ids(&is_warm) {
        return Some(format!("files {found:?}, warm copies {:?}", ids(&is_warm)));
    }
    let moves = node.tiers.tier2_status().expect("a Tier 2").moves;
    let counted = (node.store.tier0_usage().used_bytes, moves.tier1_bytes);
    let there = (bytes(&hot), bytes(&warm));
    (counted != there).then(|| format!("{counted:?} are counted, and {there:?} are there"))
}

fn is_whole(left: &Left, number: usize) {
    let Left {
        directory,
        memory,
        answered,
        is_request,
    } = left;
    let told = format!("kill {number} behind step {answered}, at a request: {is_request}");
    let node = start(memory, directory.path());
    let info = node.store.describe("a").expect("a stream");
    assert_eq!(info.damage, None, "{told}");
    assert_eq!(node.read(0).expect("readable"), PAYLOADS, "{told}");
    comes_to_rest(&node, directory.path(), &told);
    // What was interrupted can be done.
    let end = node.store.describe("a").expect("a stream").sealed_sequence;
    let asked = node.tiers.hydrate("a", 0, Some(end), LocalTier::Tier0);
    let asked = asked.expect("taken");
    let status = || node.tiers.hydration(asked.id).expect("known");
    until(&told, || status().has_ended());
    assert_eq!(status().failed_segments, 0, "{told}: {:?}", status());
    assert_eq!(node.read(0).expect("readable"), PAYLOADS, "{told}");
    comes_to_rest(&node, directory.path(), &told);
    node.stop();
}

/// The start seals and uploads the open segment, too.
fn comes_to_rest(node: &Node, root: &Path, told: &str) {
    let moves = || node.tiers.tier2_status().expect("a Tier 2").moves;
    until(told, || {
        moves().pending_uploads == 0 && node.tiers.coordinator().is_idle()
    });
    let since = Instant::now();
    loop {
        let Some(what) = differs(node, root) else {
            return;
        };
        assert!(since.elapsed() < PATIENCE, "{told}: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn a_kill_at_each_call_of_an_eviction_and_a_hydration_loses_nothing_and_leaves_nothing_half() {
    let left = kills();
    let steps: Vec<usize> = (0..8)
        .map(|step| left.iter().filter(|it| it.answered == step).count())
        .collect();
    let requests = left.iter().filter(|it| it.is_request).count();
    println!("kills by step: {steps:?}, of these at requests: {requests}");
    // A record and a file that goes, or a file and a record.
    assert!(steps.iter().all(|kills| *kills >= 2), "{steps:?}");
    assert!(requests >= 2, "{requests}");
    each(&left, is_whole);
}
