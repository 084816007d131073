//! A node with its snapshots, over any object store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aof2_core::claims::suite as claims_suite;
use aof2_core::io::{Disk, SystemDisk};
use aof2_core::objects::memory::MemoryStore;
use aof2_core::objects::{
    ListedPage, Object, ObjectError, ObjectMeta, ObjectStore, Page, PutOutcome, Removal, Tier2,
    Upload,
};
use aof2_core::snapshot::verify::{Level, Unwatched, Verdict, verify};
use aof2_core::snapshot::{SnapshotPhase, SnapshotRequest, SnapshotStatus, Snapshots};
use aof2_core::tier::Tiers;
use aof2_core::{Claims, Config, Identity, OpenOptions, Store};
use aof2_format::StreamName;
use aof2_format::snapshot::SnapshotId;
use bytes::Bytes;

use crate::common::{CLUSTER, eventually, small_config};

pub struct Node {
    pub store: Store,
    pub tiers: Tiers,
    pub snapshots: Snapshots,
    pub tier2: Arc<Tier2>,
}

pub fn node(objects: Arc<dyn ObjectStore>, directory: &Path) -> Node {
    named_node(objects, directory, "orders-0")
}

pub fn named_node(objects: Arc<dyn ObjectStore>, directory: &Path, name: &str) -> Node {
    node_on(Arc::new(SystemDisk), objects, directory, name)
}

pub fn node_on(
    disk: Arc<dyn Disk>,
    objects: Arc<dyn ObjectStore>,
    directory: &Path,
    name: &str,
) -> Node {
    configured_node(disk, objects, small_config(directory), name)
}

pub fn configured_node(
    disk: Arc<dyn Disk>,
    objects: Arc<dyn ObjectStore>,
    mut config: Config,
    name: &str,
) -> Node {
    let claims = Arc::new(claims_suite::claims_of(&objects, "p/", name));
    let tier2 = claims.tier2().clone();
    config.tier2.claim_check = Duration::from_millis(50);
    let identity = Identity {
        cluster_id: CLUSTER.to_owned(),
        node: name.to_owned(),
    };
    let mut options = OpenOptions::new(config.clone(), identity);
    options.environment.disk = disk;
    options.claims = Some(claims.clone() as Arc<dyn Claims>);
    let store = Store::open(options).expect("the directory opens");
    let tiers =
        Tiers::start(Arc::new(store.clone()), Some(claims), &config).expect("threads start");
    let snapshots = Snapshots::start(store.clone(), &tiers);
    Node {
        store,
        tiers,
        snapshots,
        tier2,
    }
}

pub fn request(stream: &str, request: &str) -> SnapshotRequest {
    SnapshotRequest {
        stream: stream.to_owned(),
        request: request.to_owned(),
        seals: true,
    }
}

impl Node {
    pub fn begin(&self, stream: &str, by: &str) -> SnapshotStatus {
        self.snapshots
            .begin(request(stream, by))
            .expect("the stream exists")
    }

    /// Repeats the request until it is over.
    pub fn finish(&self, stream: &str, by: &str) -> SnapshotStatus {
        let mut status = self.begin(stream, by);
        eventually("the end of the snapshot", || {
            status = self.begin(stream, by);
            status.phase.is_over()
        });
        status
    }

    pub fn take(&self, stream: &str, by: &str) -> SnapshotStatus {
        let status = self.finish(stream, by);
        assert_eq!(status.phase, SnapshotPhase::Done, "{status:?}");
        status
    }

    pub fn verify(&self, stream: &str, id: SnapshotId, level: Level) -> Verdict {
        let stream = StreamName::new(stream).expect("a name");
        verify(&self.tier2, &stream, id, level, None, &Unwatched).expect("Tier 2 answers")
    }

    pub fn stop(self) {
        self.tiers.stop();
        self.snapshots.stop();
        self.store.close().expect("closes");
    }
}

/// Called with verb and key before each call of the store below it.
pub type Before = Box<dyn Fn(&str, &str) + Send + Sync>;

/// A Tier 2 in memory whose answers take their time.
pub struct Delayed {
    pub memory: Arc<MemoryStore>,
    pub before: Before,
}

impl ObjectStore for Delayed {
    fn place(&self) -> String {
        self.memory.place()
    }

    fn put_if_absent(&self, key: &str, upload: &Upload) -> Result<PutOutcome, ObjectError> {
        (self.before)("put", key);
        self.memory.put_if_absent(key, upload)
    }

    fn put_if_match(
        &self,
        key: &str,
        upload: &Upload,
        etag: &str,
    ) -> Result<PutOutcome, ObjectError> {
        (self.before)("put", key);
        self.memory.put_if_match(key, upload, etag)
    }

    fn put(&self, key: &str, upload: &Upload) -> Result<String, ObjectError> {
        (self.before)("put", key);
        self.memory.put(key, upload)
    }

    fn get_within(&self, key: &str, max_bytes: u64) -> Result<Option<Object>, ObjectError> {
        (self.before)("get", key);
        self.memory.get_within(key, max_bytes)
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, ObjectError> {
        (self.before)("get", key);
        self.memory.get_range(key, offset, length)
    }

    fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectError> {
        (self.before)("head", key);
        self.memory.head(key)
    }

    fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<String>, ObjectError> {
        (self.before)("list", prefix);
        self.memory.list(prefix, start_after)
    }

    fn list_page(&self, prefix: &str, start_after: Option<&str>) -> Result<Page, ObjectError> {
        (self.before)("list", prefix);
        self.memory.list_page(prefix, start_after)
    }

    fn list_objects(
        &self,
        prefix: &str,
        start_after: Option<&str>,
    ) -> Result<ListedPage, ObjectError> {
        (self.before)("list", prefix);
        self.memory.list_objects(prefix, start_after)
    }

    fn delete(&self, key: &str) -> Result<Removal, ObjectError> {
        (self.before)("delete", key);
        self.memory.delete(key)
    }
}
