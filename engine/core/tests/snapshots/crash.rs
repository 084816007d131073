//! The process is killed at every step of a snapshot. Its child is this test binary, run again, with a Tier 2 in a folder that kills it
//! when a certain object is to be written, or was.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use aof2_core::objects::directory::DirectoryStore;
use aof2_core::objects::{
    ListedPage, Object, ObjectError, ObjectMeta, ObjectStore, Page, PutOutcome, Removal, Upload,
};
use aof2_core::snapshot::SnapshotPhase;
use aof2_core::snapshot::verify::Level;
use aof2_format::snapshot::RecoveryNotes;
use bytes::Bytes;

use crate::common::{durable, payloads, read_all};
use crate::support::node;

const FOLDER: &str = "AOF2_SNAPSHOT_CRASH_FOLDER";
const KEY: &str = "AOF2_SNAPSHOT_CRASH_KEY";
const WHEN: &str = "AOF2_SNAPSHOT_CRASH_WHEN";

/// A folder as Tier 2 that ends the process at one key.
struct Deadly {
    folder: DirectoryStore,
    key: String,
    when: String,
}

impl Deadly {
    fn write<T>(&self, key: &str, write: impl FnOnce() -> T) -> T {
        let is_it = key.contains(&self.key);
        if is_it && self.when == "before" {
            die();
        }
        let written = write();
        if is_it && self.when == "after" {
            die();
        }
        written
    }
}

fn die() -> ! {
    let me = rustix::process::getpid();
    rustix::process::kill_process(me, rustix::process::Signal::KILL).expect("a signal");
    loop {
        std::thread::park();
    }
}

impl ObjectStore for Deadly {
    fn place(&self) -> String {
        self.folder.place()
    }

    fn put_if_absent(&self, key: &str, upload: &Upload) -> Result<PutOutcome, ObjectError> {
        self.write(key, || self.folder.put_if_absent(key, upload))
    }

    fn put_if_match(
        &self,
        key: &str,
        upload: &Upload,
        etag: &str,
    ) -> Result<PutOutcome, ObjectError> {
        self.write(key, || self.folder.put_if_match(key, upload, etag))
    }

    fn put(&self, key: &str, upload: &Upload) -> Result<String, ObjectError> {
        self.write(key, || self.folder.put(key, upload))
    }

    fn get_within(&self, key: &str, max_bytes: u64) -> Result<Option<Object>, ObjectError> {
        self.folder.get_within(key, max_bytes)
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, ObjectError> {
        self.folder.get_range(key, offset, length)
    }

    fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectError> {
        self.folder.head(key)
    }

    fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<String>, ObjectError> {
        self.folder.list(prefix, start_after)
    }

    fn list_page(&self, prefix: &str, start_after: Option<&str>) -> Result<Page, ObjectError> {
        self.folder.list_page(prefix, start_after)
    }

    fn list_objects(
        &self,
        prefix: &str,
        start_after: Option<&str>,
    ) -> Result<ListedPage, ObjectError> {
        self.folder.list_objects(prefix, start_after)
    }

    fn delete(&self, key: &str) -> Result<Removal, ObjectError> {
        self.folder.delete(key)
    }
}

/// The child; nothing as a test of its own.
#[test]
fn takes_a_snapshot_until_it_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    let objects = Deadly {
        folder: DirectoryStore::open(folder.join("tier2")).expect("a folder"),
        key: std::env::var(KEY).expect("a key"),
        when: std::env::var(WHEN).expect("when"),
    };
    let node = node(Arc::new(objects), &folder.join("data"));
    for record in [b"one", b"two"] {
        durable(&node.store, "orders", record).expect("acknowledged");
    }
    node.finish("orders", "r1");
}

fn killed(key: &str, when: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("data")).expect("a folder");
    let status = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "crash::takes_a_snapshot_until_it_is_killed"])
        .env(FOLDER, folder.path())
        .env(KEY, key)
        .env(WHEN, when)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the child runs");
    assert_eq!(
        status.signal(),
        Some(9),
        "{when} {key}: it was killed there"
    );

    let objects = Arc::new(DirectoryStore::open(folder.path().join("tier2")).expect("a folder"));
    let node = node(objects.clone(), &folder.path().join("data"));
    let status = node.finish("orders", "r1");
    assert_eq!(
        status.phase,
        SnapshotPhase::Done,
        "{when} {key}: {status:?}"
    );
    assert_eq!((status.durable_sequence, status.uploaded_sequence), (2, 2));
    let verdict = node.verify("orders", status.snapshot_id, Level::L1);
    assert_eq!(verdict.fault, None, "{when} {key}");
    assert_eq!(verdict.digest, status.digest);
    // One request is one object and one marker, whatever happened on the way.
    let catalogues = objects.list("p/snapshots/", None).expect("listed");
    assert_eq!(
        catalogues,
        std::slice::from_ref(&status.key),
        "{when} {key}"
    );
    let listed = node.snapshots.list(Some("orders")).expect("listed");
    assert_eq!(listed.len(), 1, "{when} {key}: {listed:?}");
    let notes = objects.get("p/recovery/orders.json").expect("read");
    let notes = RecoveryNotes::decode(&notes.expect("notes").bytes).expect("notes");
    assert_eq!(
        (notes.snapshot_id, notes.digest),
        (status.snapshot_id, status.digest)
    );
    assert_eq!(
        payloads(&read_all(&node.store, "orders")),
        [b"one".to_vec(), b"two".to_vec()]
    );
    node.stop();

    // And the marker is durable: the next process knows it.
    let node = crate::support::node(objects, &folder.path().join("data"));
    let listed = node.snapshots.list(Some("orders")).expect("listed");
    assert_eq!((listed.len(), listed[0].request.as_str()), (1, "r1"));
    let next = node.take("orders", "r2");
    assert_eq!(next.snapshot_id.n(), status.snapshot_id.n() + 1);
    node.stop();
}

#[test]
fn killed_around_the_upload_of_a_segment_the_repeated_request_comes_to_its_end() {
    killed("/segments/", "before");
    killed("/segments/", "after");
}

#[test]
fn killed_around_the_upload_of_a_manifest_chunk_the_repeated_request_comes_to_its_end() {
    killed("/manifest/", "before");
    killed("/manifest/", "after");
}

#[test]
fn killed_before_the_object_the_repeated_request_makes_it() {
    killed("/snapshots/", "before");
}

#[test]
fn killed_between_object_and_marker_the_repeated_request_adopts_the_object() {
    killed("/snapshots/", "after");
}

#[test]
fn killed_after_the_marker_the_repeated_request_writes_the_recovery_notes() {
    killed("/recovery/", "before");
    killed("/recovery/", "after");
}

#[test]
fn a_catalogue_without_a_marker_is_no_snapshot_until_its_request_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("data")).expect("a folder");
    let status = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "crash::takes_a_snapshot_until_it_is_killed"])
        .env(FOLDER, folder.path())
        .env(KEY, "/snapshots/")
        .env(WHEN, "after")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the child runs");
    assert_eq!(status.signal(), Some(9));
    let objects = Arc::new(DirectoryStore::open(folder.path().join("tier2")).expect("a folder"));
    let node = node(objects.clone(), &folder.path().join("data"));
    let orphan = aof2_format::snapshot::SnapshotId::new(1, 1);
    assert!(node.snapshots.status("orders", orphan).is_err());
    // Another request does not take it over, and does not overwrite it.
    let other = node.take("orders", "r2");
    assert_eq!(other.snapshot_id.n(), 2);
    assert_eq!(objects.list("p/snapshots/", None).expect("listed").len(), 2);
    assert_eq!(node.verify("orders", orphan, Level::L1).fault, None);
    node.stop();
}
