//! A chunk of the manifest that was closed for a snapshot, before the next one holds anything.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aof2_core::objects::memory::{Fault, MemoryStore, Verb};
use aof2_core::snapshot::verify::Level;
use aof2_format::names::file;

use crate::common::{durable, eventually, open, read_all};
use crate::support::node;

/// A snapshot of `orders` that came as far as its cut, and the process ended.
fn cut(memory: &Arc<MemoryStore>, folder: &Path) -> PathBuf {
    let node = node(memory.clone(), folder);
    durable(&node.store, "orders", b"a").expect("acknowledged");
    node.store.seal(Some("orders")).expect("sealed");
    eventually("the upload", || {
        let info = node.store.describe("orders").expect("there");
        info.uploaded_sequence == 1
    });
    memory.inject(Verb::PutIfAbsent, Fault::AccessDenied, 1000);
    node.begin("orders", "r1");
    eventually("the reason", || node.begin("orders", "r1").why.is_some());
    node.stop();
    memory.heal();
    let directory = folder
        .join(file::STREAMS_DIR)
        .join("orders")
        .join(file::MANIFEST_DIR);
    let chunks = std::fs::read_dir(&directory).expect("a folder");
    let numbers = chunks.map(|entry| {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a name");
        (
            file::parse_manifest_chunk(&name).expect("a chunk"),
            entry.path(),
        )
    });
    let mut numbers: Vec<_> = numbers.collect();
    numbers.sort();
    assert_eq!(numbers.len(), 2, "{numbers:?}");
    numbers.swap_remove(0).1
}

#[test]
fn what_a_power_cut_tore_behind_the_last_durable_commit_is_no_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let closed = cut(&memory, folder.path());
    let file = OpenOptions::new().write(true).open(&closed).expect("there");
    let end = file.metadata().expect("a length").len();
    file.write_all_at(&[0xA5; 100], end).expect("written");
    let node = node(memory, folder.path());
    assert_eq!(node.store.describe("orders").expect("there").damage, None);
    durable(&node.store, "orders", b"b").expect("acknowledged");
    let status = node.take("orders", "r1");
    assert_eq!(status.uploaded_sequence, 2);
    assert_eq!(
        node.verify("orders", status.snapshot_id, Level::L1).fault,
        None
    );
    node.stop();
    assert_eq!(read_all(&open(folder.path()), "orders").len(), 2);
}

#[test]
fn what_was_durable_before_an_empty_chunk_is_missed_also_when_the_journal_holds_it_no_longer() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let closed = cut(&memory, folder.path());
    // A process with nothing to do with the stream, whose journal is used all round.
    let store = open(folder.path());
    for _ in 0..200 {
        durable(&store, "other", &[7; 100_000]).expect("acknowledged");
    }
    store.close().expect("closes");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&closed)
        .expect("there");
    let last = file.metadata().expect("a length").len() - 1;
    let mut byte = [0];
    file.read_exact_at(&mut byte, last).expect("read");
    file.write_all_at(&[byte[0] ^ 1], last).expect("written");
    for _ in 0..2 {
        let store = open(folder.path());
        let damage = store.describe("orders").expect("there").damage;
        let damage = damage.expect("it is missed");
        assert!(damage.contains("was durable"), "{damage}");
        // Neither does this one make the next one forget.
        for _ in 0..200 {
            durable(&store, "other", &[7; 100_000]).expect("acknowledged");
        }
        store.close().expect("closes");
    }
}
