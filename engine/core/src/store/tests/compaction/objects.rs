//! Objects of inputs: kept by the catalogues that name them, and by no other.

use super::super::node::snapshot;
use super::*;
use crate::objects::ObjectStore;
use crate::request::SegmentState;
use crate::snapshot::verify::{Level, Unwatched, verify};
use aof2_format::StreamName;
use aof2_format::snapshot::SnapshotId;

struct Whole {
    it: Merging,
    snapshots: Arc<Snapshots>,
    deletion: Deletion,
}

fn whole(memory: &Arc<MemoryStore>, directory: &Path) -> Whole {
    let it = merging(memory, directory);
    let snapshots = Arc::new(Snapshots::start(it.node.store.clone(), &it.node.tiers));
    let deletion = Deletion::start(
        it.node.store.clone(),
        &it.node.tiers,
        snapshots.clone(),
        &it.node.retention,
    );
    Whole {
        it,
        snapshots,
        deletion,
    }
}

impl Whole {
    fn snapshot(&self, request: &str) -> (SnapshotId, String) {
        snapshot(&self.snapshots, request)
    }

    /// Every byte of what it names, by a reader of the bucket alone.
    fn verified(&self, id: SnapshotId) {
        let stream = StreamName::new("a").expect("a name");
        let tier2 = &self.it.node.tier2;
        let verdict = verify(tier2, &stream, id, Level::L2, None, &Unwatched).expect("read");
        assert_eq!(verdict.fault, None, "{verdict:?}");
    }

    fn pass(&self) {
        self.it.node.tiers.coordinator().ring();
    }

    fn stop(self) {
        self.it.node.tiers.stop();
        self.snapshots.stop();
        self.deletion.stop();
        self.it.stop();
    }
}

#[test]
fn inputs_stay_in_the_bucket_as_long_as_a_catalogue_names_them_and_go_then() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let it = whole(&memory, folder.path());
    it.it.segments(4);
    let (before, key) = it.snapshot("before");
    assert_eq!(it.it.merge().outputs, 1);
    let output = it.it.ids()[0];
    let waits = |it: &Whole, objects: u64| {
        it.pass();
        let waiting = it.deletion.status().expect("a Tier 2").waiting;
        waiting
            .get("Snapshot")
            .is_some_and(|waiting| waiting.objects == objects)
    };
    until("the inputs wait for the snapshot", || waits(&it, 4));
    let replaced = it.it.node.store.trimmed_segments("a").expect("a stream");
    assert_eq!(replaced.len(), 4);
    assert!(replaced.iter().all(|it| it.state == SegmentState::Replaced));
    // One that was taken behind the merge names the output, and holds nothing else.
    let (after, _) = it.snapshot("after");
    it.verified(before);
    it.verified(after);
    assert_eq!(objects(&memory), [1, 2, 3, 4, output]);
    memory.delete(&key).expect("deleted");
    until("the inputs are gone", || {
        it.pass();
        objects(&memory) == [output]
    });
    it.verified(after);
    until("nothing waits", || {
        it.pass();
        it.it
            .node
            .store
            .trimmed_segments("a")
            .expect("a stream")
            .is_empty()
    });
    it.it.read_all();
    it.it.is_uploaded();
    it.stop();

    // A start finds them gone, and what is left.
    let it = whole(&memory, folder.path());
    it.it.read_all();
    it.it.is_uploaded();
    it.verified(after);
    it.stop();
}

#[test]
fn an_output_is_merged_again_and_its_object_goes_like_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let it = whole(&memory, folder.path());
    it.it.segments(4);
    assert_eq!(it.it.merge().outputs, 1);
    let first = it.it.ids()[0];
    for payload in &PAYLOADS[4..8] {
        it.it.node.segment(payload);
    }
    let run = it.it.merge();
    assert_eq!((run.inputs, run.outputs), (5, 1), "{run:?}");
    let second = it.it.ids();
    assert_eq!(second.len(), 1);
    assert!(second[0] > first);
    until("the others are gone", || {
        it.pass();
        objects(&memory) == second
    });
    it.it.read_all();
    let (id, _) = it.snapshot("after");
    it.verified(id);
    it.stop();
}
