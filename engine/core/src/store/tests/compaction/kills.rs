//! A power cut behind each step of a merge, and disks and buckets that fail in one.

use aof2_format::manifest_record::ManifestEvent;

use super::*;
use crate::claims::StreamClaims;
use crate::io::fault::Call;
use crate::jobs::compress::CompressOptions;
use crate::jobs::merge::Way;
use crate::jobs::upload::Warm;
use crate::jobs::{streamed::Streamed, upload};
use crate::objects::memory::{Fault as Outage, Verb};
use crate::testing::copy_directory;

fn way(claims: &StreamClaims) -> Way<'_> {
    Way {
        claims,
        compress: CompressOptions {
            level: 1,
            block_bytes: 4096,
        },
        claim_age: std::time::Duration::from_secs(10),
    }
}

fn commit_of(it: &Merging, segment_id: u64, uploaded: &upload::Uploaded) {
    it.node.commit(
        segment_id,
        ManifestEvent::UploadDone {
            key: uploaded.key.clone(),
            etag: uploaded.etag.clone(),
        },
    );
}

/// What the volume is behind each step, with what the bucket is then.
fn cuts(folder: &Path) -> Vec<(&'static str, tempfile::TempDir, Arc<MemoryStore>)> {
    let memory = Arc::new(MemoryStore::new());
    let it = merging(&memory, folder);
    it.segments(4);
    it.node.append(PAYLOADS[4]);
    let claims = it.node.tiers.coordinator().claims().expect("a Tier 2");
    let ids = it.ids()[..4].to_vec();
    let store = &it.node.store;
    let mut cuts = Vec::new();
    let mut cut = |step: &'static str| {
        let copy = tempfile::tempdir().expect("a folder");
        it.node
            .faults
            .at_one_moment(|| copy_directory(folder, copy.path()));
        cuts.push((step, copy, Arc::new(memory.copy())));
    };
    cut("nothing");
    let merging = store.begin_merge("a", &ids).expect("begun");
    cut("begun");
    let file = store.write_merged(&merging, &|| true).expect("written");
    cut("file");
    let way = way(&claims);
    let bytes = Box::new(store.merged_bytes(&file).expect("mapped"));
    let (streamed, facts) = Streamed::new(&file.segment, bytes, way.compress).expect("compressed");
    let warm = Warm::Streamed(streamed, facts);
    let uploaded = upload::upload(store, &claims, &file.segment, warm, way.claim_age);
    let uploaded = uploaded.expect("uploaded");
    cut("object");
    commit_of(&it, merging.output_id, &uploaded);
    cut("uploaded");
    // The files of the inputs stay, as the power leaves them.
    let kept = tempfile::tempdir().expect("a folder");
    copy_directory(&folder.join("streams/a/segments"), kept.path());
    store
        .commit_merged(merging, file, uploaded.size_bytes)
        .expect("merged");
    cut("merged");
    cut("swapped");
    let (_, with_inputs, _) = &cuts[5];
    copy_directory(kept.path(), &with_inputs.path().join("streams/a/segments"));
    it.stop();
    cuts
}

#[test]
fn behind_a_power_cut_at_any_step_everything_is_read_and_the_merge_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    for (step, cut, memory) in cuts(folder.path()) {
        let it = merging(&memory, cut.path());
        let is_merged = ["merged", "swapped"].contains(&step);
        let sealed = it.ids().len();
        assert_eq!(sealed, if is_merged { 2 } else { 5 }, "{step}");
        it.read_all();
        let info = it.node.store.describe("a").expect("a stream");
        assert_eq!(info.damage, None, "{step}");
        // Nothing of an output that does not count is left, nor of inputs that do not.
        let (hot, _) = files(cut.path());
        let of_segments = it.node.store.segments("a").expect("a stream");
        let mut named: Vec<u64> = of_segments.iter().map(|it| it.segment_id).collect();
        named.sort_unstable();
        let quarantine = cut.path().join("streams/a").join(file::QUARANTINE_DIR);
        assert!(!quarantine.exists(), "{step}");
        let ours = hot.iter().filter(|id| !named.contains(id));
        assert_eq!(ours.count(), 0, "{step}: {hot:?}");
        until("warm files of what was merged are gone", || {
            let (_, warm) = files(cut.path());
            warm.iter().all(|id| named.contains(id))
        });
        until("the upload of the last one", || {
            it.node.store.sealed_segments_pending().is_empty()
                && it.node.store.watermarks()[0].sealed_uploaded == 5
        });
        it.is_uploaded();
        // A snapshot and a drain know nothing of it.
        it.node.verified_snapshot();
        let run = it.merge();
        assert_eq!(run.failures, 0, "{step}: {run:?}");
        let left = if step == "nothing" { 1 } else { 2 };
        assert_eq!(it.ids().len(), left, "{step}");
        it.read_all();
        it.is_uploaded();
        // One that was begun and holds its inputs still goes on under its id: its object is found, and none is left behind.
        let unneeded: Vec<u64> = it
            .node
            .store
            .trimmed_segments("a")
            .expect("a stream")
            .iter()
            .map(|it| it.segment_id)
            .collect();
        let mut known = [it.ids(), unneeded].concat();
        known.sort_unstable();
        assert_eq!(objects(&memory), known, "{step}");
        it.stop();
    }
}

fn format_version(directory: &Path) -> u16 {
    let bytes = std::fs::read(directory.join(file::VOLUME)).expect("there");
    let stored = aof2_format::volume::VolumeIdentity::decode(&bytes).expect("whole");
    stored.format_version
}

/// It would serve inputs whose files are gone, and take the file of an output for a segment that takes records.
#[test]
fn an_engine_that_knows_no_merges_refuses_the_volume_from_before_the_first_record_of_one_on() {
    let folder = tempfile::tempdir().expect("a folder");
    for (step, cut, memory) in cuts(folder.path()) {
        let expected = u16::from(step != "nothing");
        assert_eq!(format_version(cut.path()), expected, "{step}");
        // A mark that is left behind it keeps it.
        merging(&memory, cut.path()).stop();
        assert_eq!(format_version(cut.path()), expected, "{step}");
    }
    // Where the volume cannot say so, nothing is begun.
    let folder = tempfile::tempdir().expect("a folder");
    let it = local(folder.path());
    for payload in &PAYLOADS[..4] {
        it.segment(payload);
    }
    let full = Fault::of(Call::Write)
        .path("volume.json")
        .how(crate::io::fault::How::Fails(libc::ENOSPC));
    it.faults.add(full);
    let run = merge(&it.compaction);
    assert_eq!((run.inputs, run.failures), (0, 1), "{run:?}");
    assert_eq!(format_version(folder.path()), 0);
    assert_eq!(kinds(&it.store), Vec::<&str>::new());
    assert_eq!(merge(&it.compaction).inputs, 4);
    assert_eq!(format_version(folder.path()), 1);
    it.stop();
}

/// What lies under the key of an upload whose answer was lost is deleted where its bytes are those of the output, and stays otherwise.
#[test]
fn what_is_no_output_under_the_key_of_one_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, cut, memory) = cuts(folder.path()).remove(3);
    let it = merging(&memory, cut.path());
    let output = recorded(&it.node.store).last().expect("begun").0;
    let of_output = |key: &String| {
        let name = key.rsplit('/').next().and_then(file::parse_warm);
        name.is_some_and(|name| name.segment_id == output)
    };
    let key = memory.keys().into_iter().find(of_output);
    let key = key.expect("the object of the output");
    memory.damage(&key, aof2_format::warm::HEADER_BYTES + 4);
    let damaged = memory.bytes_of(&key);
    it.node.store.give_up_merge("a", output).expect("given up");
    let snapshots = Arc::new(Snapshots::start(it.node.store.clone(), &it.node.tiers));
    let deletion = Deletion::start(
        it.node.store.clone(),
        &it.node.tiers,
        snapshots.clone(),
        &it.node.retention,
    );
    until("it is found", || {
        it.node.tiers.coordinator().ring();
        let waiting = deletion.status().expect("a Tier 2").waiting;
        waiting.contains_key("Foreign")
    });
    assert_eq!(memory.bytes_of(&key), damaged);
    // The verb says so.
    let refused = deletion.delete_object(&it.node.store, "a", output);
    let told = refused.expect_err("needed").to_string();
    assert!(told.contains("another object under its key"), "{told}");
    it.node.tiers.stop();
    snapshots.stop();
    deletion.stop();
    it.stop();
}

#[test]
fn a_begun_merge_keeps_its_id_over_a_restart_and_finds_its_own_object() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut found = cuts(folder.path());
    let (_, cut, memory) = found.remove(3);
    let before = objects(&memory);
    let output = *before.last().expect("an object");
    // Only the four are there to be merged: what was open is sealed by the start, and younger than the merge.
    let it = merging(&memory, cut.path());
    let run = it.merge();
    assert_eq!((run.outputs, run.failures), (1, 0), "{run:?}");
    assert_eq!(it.ids()[0], output);
    let of_output: Vec<&str> = recorded(&it.node.store)
        .iter()
        .filter(|(id, _)| *id == output)
        .map(|(_, event)| match event {
            Recorded::Begun(_) => "begun",
            Recorded::Merged(..) => "merged",
            Recorded::Failed { .. } | Recorded::GivenUp => "failed",
        })
        .collect();
    assert_eq!(of_output, ["begun", "merged"], "begun once");
    it.read_all();
    it.stop();
}

/// An output has one key for as long as it is not given up.
#[test]
fn a_merge_whose_key_another_object_has_is_given_up_and_begun_under_another_id() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, cut, memory) = cuts(folder.path()).remove(3);
    let it = merging(&memory, cut.path());
    let begun = recorded(&it.node.store).last().expect("begun").0;
    let keys = memory.keys();
    let of_output = |key: &&String| {
        let name = key.rsplit('/').next().and_then(file::parse_warm);
        name.is_some_and(|name| name.segment_id == begun)
    };
    let key = keys.iter().find(of_output).expect("the object");
    memory.damage(key, aof2_format::warm::HEADER_BYTES + 4);
    let damaged = memory.bytes_of(key);
    let run = it.merge();
    assert_eq!((run.outputs, run.failures), (0, 1), "{run:?}");
    let failure = run.failure.expect("told");
    assert!(failure.contains(key.as_str()), "{failure}");
    assert_eq!(kinds(&it.node.store), ["begun", "failed", "given up"]);
    let run = it.merge();
    assert_eq!((run.outputs, run.failures), (1, 0), "{run:?}");
    assert!(it.ids()[0] > begun);
    assert_eq!(memory.bytes_of(key), damaged);
    it.read_all();
    it.stop();
}

/// As an engine with other settings uploaded it, before it was killed.
#[test]
fn an_output_whose_object_is_of_another_life_has_the_length_of_that_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let it = merging(&memory, folder.path());
    let text: String = (0..20_000).map(|number| format!("{number} ")).collect();
    let text: &'static [u8] = text.leak().as_bytes();
    for part in text.chunks(text.len() / 3) {
        it.node.segment(part);
    }
    let ids = it.ids();
    let merging = it.node.store.begin_merge("a", &ids).expect("begun");
    let file = it.node.store.write_merged(&merging, &|| true);
    let file = file.expect("written");
    let bytes = Box::new(it.node.store.merged_bytes(&file).expect("mapped"));
    let claims = it.node.tiers.coordinator().claims().expect("a Tier 2");
    let way = way(&claims);
    let (streamed, facts) = Streamed::new(&file.segment, bytes, way.compress).expect("compressed");
    let earlier_bytes = facts.size_bytes;
    let warm = Warm::Streamed(streamed, facts);
    upload::upload(&it.node.store, &claims, &file.segment, warm, way.claim_age).expect("uploaded");
    it.node.store.discard_merged(&file);
    drop(merging);
    let run = it.merge();
    assert_eq!((run.outputs, run.failures), (1, 0), "{run:?}");
    let segments = it.node.store.segments("a").expect("a stream");
    assert_eq!(
        segments[0].segment_id,
        *objects(&memory).last().expect("an object")
    );
    assert_eq!(segments[0].compressed_bytes, Some(earlier_bytes));
    it.stop();
}

#[test]
fn a_merge_that_is_not_to_be_done_any_more_is_given_up_and_its_object_goes() {
    for step in [1, 2, 3, 4] {
        let folder = tempfile::tempdir().expect("a folder");
        let (name, cut, memory) = cuts(folder.path()).remove(step);
        let it = merging(&memory, cut.path());
        let store = it.node.store.clone();
        let output = recorded(&store).last().expect("begun").0;
        let snapshots = Arc::new(Snapshots::start(store.clone(), &it.node.tiers));
        let deletion = Deletion::start(
            store.clone(),
            &it.node.tiers,
            snapshots.clone(),
            &it.node.retention,
        );
        // A pass that nobody asked for, where none is wanted.
        let unwanted = Compaction::start_with(store.clone(), &it.node.tiers, AT_ONCE);
        until("it is given up", || unwanted.status().end.is_some());
        unwanted.stop();
        assert_eq!(kinds(&store).last(), Some(&"given up"), "{name}");
        until("its object is gone", || {
            it.node.tiers.coordinator().ring();
            let left = store.trimmed_segments("a").expect("a stream");
            !objects(&memory).contains(&output) && left.is_empty()
        });
        it.read_all();
        assert_eq!(it.ids().len(), 5, "{name}");
        // Its id is never used again.
        let run = it.merge();
        assert_eq!(run.outputs, 1, "{run:?}");
        assert!(it.ids()[0] > output, "{name}");
        it.node.tiers.stop();
        snapshots.stop();
        deletion.stop();
        it.stop();
    }
}

#[test]
fn a_disk_that_refuses_is_recorded_once_and_nothing_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let it = merging(&memory, folder.path());
    it.segments(4);
    let before = it.node.store.metrics().tier0_total_bytes;
    for _ in 0..3 {
        let full = Fault::of(Call::Allocate)
            .path("/segments/")
            .how(crate::io::fault::How::Fails(libc::ENOSPC));
        it.node.faults.add(full);
        let run = it.merge();
        assert_eq!((run.inputs, run.failures), (0, 1), "{run:?}");
        let failure = run.failure.expect("told");
        assert!(failure.contains("no room for"), "{failure}");
        assert_eq!(it.node.store.metrics().tier0_total_bytes, before);
        assert_eq!(files(folder.path()).0, [1, 2, 3, 4]);
    }
    assert_eq!(kinds(&it.node.store), ["begun", "failed"]);
    it.read_all();
    let run = it.merge();
    assert_eq!((run.inputs, run.failures), (4, 0), "{run:?}");
    assert_eq!(kinds(&it.node.store), ["begun", "failed", "merged"]);
    it.read_all();
    it.stop();
}

#[test]
fn an_outage_of_tier_2_leaves_the_inputs_as_they_are_and_is_recorded_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let it = merging(&memory, folder.path());
    it.segments(4);
    memory.inject(Verb::PutIfAbsent, Outage::Unreachable, 1_000);
    let run = it.merge();
    assert_eq!((run.inputs, run.failures), (0, 1), "{run:?}");
    assert_eq!(files(folder.path()).0, [1, 2, 3, 4]);
    assert_eq!(objects(&memory), [1, 2, 3, 4]);
    it.read_all();
    it.is_uploaded();
    // While it lasts nothing is tried, and whoever asks is told.
    memory.set_unreachable(true);
    let health = || it.node.tiers.tier2_status().expect("a Tier 2").health;
    until("it is noticed", || health().reason.is_some());
    let run = it.merge();
    assert_eq!(run.failures, 0, "{run:?}");
    let told = run.end.expect("a reason");
    assert!(
        told.starts_with("Tier 2 does not take the output ("),
        "{told}"
    );
    memory.heal();
    until("it is merged", || it.merge().outputs == 1);
    assert_eq!(kinds(&it.node.store), ["begun", "failed", "merged"]);
    it.read_all();
    it.is_uploaded();
    it.stop();
}

#[test]
fn damage_of_an_input_is_reported_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let it = local(folder.path());
    for payload in PAYLOADS {
        it.segment(payload);
    }
    let damaged = folder.path().join("streams/a/segments");
    let mut names: Vec<PathBuf> = std::fs::read_dir(&damaged)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    names.sort();
    let mut bytes = std::fs::read(&names[2]).expect("there");
    bytes[4096 + 75] ^= 1;
    std::fs::write(&names[2], bytes).expect("written");
    let run = merge(&it.compaction);
    assert_eq!(
        (run.failures, run.outputs, run.inputs),
        (1, 1, 5),
        "{run:?}"
    );
    let failure = run.failure.expect("told");
    assert!(failure.contains("segment 3 cannot be merged"), "{failure}");
    let info = it.store.describe("a").expect("a stream");
    assert_eq!(info.damaged_ranges.len(), 1, "{info:?}");
    assert_eq!(info.damaged_ranges[0].segment_id, 3);
    // Those before it are two, and stay.
    assert_eq!(it.count(), 4);
    let recorded = kinds(&it.store);
    assert_eq!(recorded, ["begun", "failed", "given up", "begun", "merged"]);
    assert_eq!(merge(&it.compaction).failures, 0, "it is not tried again");
    it.stop();
}

/// The swap is not durable where the journal fails: the next start decides.
#[test]
fn a_swap_whose_record_is_in_doubt_takes_no_file_away() {
    use crate::io::FileClass;
    let folder = tempfile::tempdir().expect("a folder");
    {
        let it = local(folder.path());
        for payload in &PAYLOADS[..4] {
            it.segment(payload);
        }
        let ids: Vec<u64> = files(folder.path()).0;
        let merging = it.store.begin_merge("a", &ids).expect("begun");
        let file = it.store.write_merged(&merging, &|| true).expect("written");
        it.faults.fail_sync(FileClass::Journal, 0);
        let error = it
            .store
            .commit_merged(merging, file, 0)
            .expect_err("poisoned");
        assert!(error.to_string().contains("poisoned"), "{error}");
        assert_eq!(files(folder.path()).0.len(), 5, "inputs and output");
        it.tiers.stop();
        it.compaction.stop();
        it.store.close().expect_err("poisoned");
    }
    let it = local(folder.path());
    assert_eq!(it.read(), PAYLOADS[..4]);
    let left = files(folder.path()).0.len();
    assert_eq!(left, it.count(), "the start removed the others");
    it.stop();
}
