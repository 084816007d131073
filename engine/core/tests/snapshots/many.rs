//! A thousand streams in one snapshot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aof2_core::objects::memory::MemoryStore;
use aof2_core::snapshot::SnapshotPhase;
use aof2_core::snapshot::verify::Level;

use crate::common::durable;
use crate::support::node;

const STREAMS: usize = 1000;
/// For all of them; a hundred times what it took, so that only a stall fails.
const DEADLINE: Duration = Duration::from_secs(300);

#[test]
fn a_thousand_streams_are_snapshotted_while_appends_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(memory.clone(), folder.path());
    let names: Vec<String> = (0..STREAMS).map(|index| format!("s-{index:04}")).collect();
    std::thread::scope(|scope| {
        for part in names.chunks(STREAMS / 16 + 1) {
            let store = &node.store;
            scope.spawn(move || {
                for name in part {
                    durable(store, name, name.as_bytes()).expect("acknowledged");
                }
            });
        }
    });
    let stop = AtomicBool::new(false);
    let (appends, slowest_micros) = (AtomicU64::new(0), AtomicU64::new(0));
    let took = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let at = Instant::now();
                durable(&node.store, "s-0000", b"meanwhile").expect("acknowledged");
                appends.fetch_add(1, Ordering::Relaxed);
                slowest_micros.fetch_max(at.elapsed().as_micros() as u64, Ordering::Relaxed);
            }
        });
        let began = Instant::now();
        for name in &names {
            node.begin(name, "slot-1");
        }
        let begun = began.elapsed();
        while node.snapshots.counts().running > 0 {
            assert!(began.elapsed() < DEADLINE, "{:?}", node.snapshots.counts());
            std::thread::sleep(Duration::from_millis(20));
        }
        let took = began.elapsed();
        stop.store(true, Ordering::Relaxed);
        (begun, took)
    });
    println!(
        "{STREAMS} streams: begun in {:.2?}, done in {:.2?}; meanwhile {} appends, the slowest took {} ms",
        took.0,
        took.1,
        appends.load(Ordering::Relaxed),
        slowest_micros.load(Ordering::Relaxed) / 1000
    );
    assert_eq!(node.snapshots.counts().done, STREAMS as u64);
    let listed = node.snapshots.list(None).expect("listed");
    assert_eq!(listed.len(), STREAMS);
    let began = Instant::now();
    for status in &listed {
        assert_eq!(status.phase, SnapshotPhase::Done);
        let verdict = node.verify(&status.stream, status.snapshot_id, Level::L1);
        assert_eq!(verdict.fault, None, "{}", status.stream);
        assert!(status.uploaded_sequence >= 1);
    }
    println!("verified with L1 in {:.2?}", began.elapsed());
    node.stop();
}
