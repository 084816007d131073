//! The same for the threads of the tiers, and for files that they make.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aof2_core::claims::StreamClaims;
use aof2_core::claims::suite as claims_suite;
use aof2_core::drain::DrainRequest;
use aof2_core::io::fault::{Call, Fault, Faults, How};
use aof2_core::objects::ObjectStore;
use aof2_core::objects::memory::MemoryStore;
use aof2_core::snapshot::{SnapshotRequest, Snapshots};
use aof2_core::tier::Tiers;
use aof2_core::{Claims, Store};

use super::{in_time, options_with_faults};
use crate::common::{durable, eventually};

struct Node {
    store: Store,
    faults: Arc<Faults>,
    claims: Arc<StreamClaims>,
}

fn node(directory: &Path) -> Node {
    let objects: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let claims = Arc::new(claims_suite::claims_of(&objects, "p/", "orders-0"));
    let (mut options, faults) = options_with_faults(directory);
    options.claims = Some(claims.clone() as Arc<dyn Claims>);
    let store = Store::open(options).expect("the directory opens");
    Node {
        store,
        faults,
        claims,
    }
}

impl Node {
    fn start(&self) -> std::io::Result<(Tiers, Snapshots)> {
        let tiers = Tiers::start(
            Arc::new(self.store.clone()),
            Some(self.claims.clone()),
            &self.store.config(),
        )?;
        let snapshots = Snapshots::start(self.store.clone(), &tiers);
        Ok((tiers, snapshots))
    }
}

/// Everything that makes the tiers start threads and files, until the store is poisoned. Answers why it is.
fn use_tiers_until_poisoned(directory: &Path, add: impl FnOnce(&Faults)) -> String {
    let node = node(directory);
    add(&node.faults);
    if let Ok((tiers, snapshots)) = node.start() {
        let _ = durable(&node.store, "s", &[1; 1000]);
        // It may be poisoned by now.
        let _ = node.store.seal(None);
        let _ = snapshots.begin(SnapshotRequest {
            stream: "s".into(),
            request: "one".into(),
            seals: false,
        });
        let limit = Duration::from_secs(60);
        tiers.drain().begin(DrainRequest {
            ttl: limit,
            upload_timeout: limit,
            drain_timeout: limit,
        });
        eventually("the poison", || node.store.failure().is_some());
        in_time("the tiers", move || {
            node.claims.tier2().stop();
            tiers.stop();
            snapshots.stop();
        });
    }
    let why = node.store.failure().expect("it is poisoned");
    let store = node.store.clone();
    in_time("the store", move || store.close()).expect_err("poisoned");
    why
}

#[test]
fn a_thread_of_the_tiers_that_cannot_be_started_poisons_the_store() {
    for name in [
        "coordinator",
        "claims",
        "compress",
        "upload",
        "drain-seal",
        "snapshot",
    ] {
        let directory = tempfile::tempdir().expect("a folder");
        let why = use_tiers_until_poisoned(directory.path(), |faults| faults.refuse_thread(name));
        let told = format!("cannot start thread aof2-{name}: ");
        assert!(why.starts_with(&told), "{name}: {why}");
    }
}

#[test]
fn a_panic_in_a_thread_of_the_tiers_poisons_the_store() {
    let directory = tempfile::tempdir().expect("a folder");
    let why = use_tiers_until_poisoned(directory.path(), |faults| {
        faults.add(Fault::of(Call::Write).path("/warm/").how(How::Panics));
    });
    assert!(why.starts_with("thread aof2-compress panicked: "), "{why}");
}

#[test]
fn a_failed_write_out_of_a_warm_file_poisons_the_store() {
    for call in [Call::Sync, Call::Close, Call::SyncDirectory] {
        let directory = tempfile::tempdir().expect("a folder");
        let why = use_tiers_until_poisoned(directory.path(), |faults| {
            faults.add(Fault::of(call).path("/warm").how(How::Fails(28)));
        });
        assert!(why.contains("/warm"), "{call:?}: {why}");
    }
}
