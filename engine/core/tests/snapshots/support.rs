//! A node with its snapshots, over any object store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aof2_core::io::{Disk, SystemDisk};
use aof2_core::snapshot::verify::{Level, Verdict, verify};
use aof2_core::snapshot::{SnapshotPhase, SnapshotRequest, SnapshotStatus, Snapshots};
use aof2_core::store::claim::{Address, ClusterName};
use aof2_core::store::{ObjectStore, StreamClaims, Tier2, suite};
use aof2_core::tier::Tiers;
use aof2_core::{Claims, Identity, OpenOptions, Store};
use aof2_format::StreamName;
use aof2_format::names::KeyPrefix;
use aof2_format::snapshot::SnapshotId;

use crate::common::{CLUSTER, eventually, small_config};

pub struct Node {
    pub store: Store,
    pub tiers: Tiers,
    pub snapshots: Snapshots,
    pub tier2: Arc<Tier2>,
}

pub fn prefix() -> KeyPrefix {
    KeyPrefix::new("p/").expect("a prefix")
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
    let tier2 = Arc::new(Tier2::new(
        objects,
        prefix(),
        suite::test_policy(),
        Arc::new(aof2_core::io::SystemClock),
        Arc::new(aof2_core::io::SystemRng),
    ));
    let cluster = ClusterName {
        namespace: "default".into(),
        name: "orders".into(),
    };
    let address = Address(format!("{name}.orders"));
    let claims = Arc::new(StreamClaims::new(tier2.clone(), cluster, address));
    let mut config = small_config(directory);
    config.tier2.claim_check = Duration::from_millis(50);
    let identity = Identity {
        cluster_id: CLUSTER.to_owned(),
        node: name.to_owned(),
    };
    let mut options = OpenOptions::new(config.clone(), identity);
    options.disk = disk;
    options.claims = Some(claims.clone() as Arc<dyn Claims>);
    let store = Store::open(options).expect("the directory opens");
    let tiers =
        Tiers::start(Arc::new(store.clone()), Some(claims), &config).expect("threads start");
    let snapshots = Snapshots::start(store.clone(), &tiers).expect("a thread starts");
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
        verify(&self.tier2, &stream, id, level, None).expect("Tier 2 answers")
    }

    pub fn stop(self) {
        self.tiers.stop();
        self.snapshots.stop();
        self.store.close().expect("closes");
    }
}
