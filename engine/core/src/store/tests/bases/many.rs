//! A start after many snapshots.

use std::sync::Arc;

use aof2_format::manifest_record::{ManifestEvent, ReasonCode};
use aof2_format::snapshot::{NOTE_SCHEMA_ID, SnapshotId, SnapshotNote};

use super::*;
use crate::io::SystemDisk;
use crate::io::fault::{Call, FaultDisk};
use crate::store::Store;

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
