//! A store whose Tier 2 is a real S3 server: objects that nobody knows are found by two listings and deleted, and no others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aof2_core::claims::suite as claims_suite;
use aof2_core::config::OrphanPolicy;
use aof2_core::deletion::Deletion;
use aof2_core::objects::{ObjectStore, Upload};
use aof2_core::retention::Retention;
use aof2_core::snapshot::Snapshots;
use aof2_core::testing::{options, small_config};
use aof2_core::tier::Tiers;
use aof2_core::{AppendRequest, Claims, Durability, Store};
use bytes::Bytes;

use crate::common::server;

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[test]
fn orphans_are_deleted_from_a_bucket_and_what_a_manifest_names_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let objects: Arc<dyn ObjectStore> = Arc::new(server().store());
    let claims = Arc::new(claims_suite::claims_of(&objects, "p/", "orders-0"));
    let mut config = small_config(folder.path());
    // Of tests: listings follow each other.
    config.tier2.delete_grace = Duration::from_secs(2);
    let mut options = options(config.clone());
    options.claims = Some(claims.clone() as Arc<dyn Claims>);
    let store = Store::open(options).expect("opens");
    let tiers = Tiers::start(Arc::new(store.clone()), Some(claims), &config).expect("threads");
    let retention = Retention::start(store.clone(), &tiers);
    let snapshots = Arc::new(Snapshots::start(store.clone(), &tiers));
    let deletion = Deletion::start(store.clone(), &tiers, snapshots.clone(), &retention);
    for payload in [&b"0"[..], b"1"] {
        let request = AppendRequest {
            stream: "a".to_owned(),
            payloads: vec![Bytes::from_static(payload)],
            durability: Durability::Durable,
            producer: None,
        };
        store.append(request).expect("acknowledged");
        store.seal(Some("a")).expect("sealed");
    }
    let uploaded = || {
        let mark = store.watermarks().remove(0);
        mark.sealed_uploaded == 2
    };
    until("the upload", uploaded);
    let segments = || objects.list("p/segments/a/", None).expect("listed");
    let named = segments();
    assert_eq!(named.len(), 2);
    // Of an id that was given out, and of one that was not.
    let orphan = "p/segments/a/00000000000000000007-0000000001-00000000000000000001.aofz";
    let unknown = "p/segments/a/00000000000000000009-0000000001-00000000000000000099.aofz";
    let upload = Upload::of_bytes(Bytes::from_static(b"late"), "put".into());
    for key in [orphan, unknown] {
        objects.put(key, &upload).expect("put");
    }
    let found = |count: u64| {
        let found = deletion.orphans().expect("a Tier 2").found;
        found.is_some_and(|found| (found.objects, found.bytes) == (count, 4 * count))
    };
    until("it is found", || found(1));
    assert_eq!(segments().len(), 4, "it is counted");
    let mut config = (*store.config()).clone();
    config.tier2.orphans = OrphanPolicy::Delete;
    store.reconfigure(config);
    until("it is gone", || found(0));
    let status = deletion.orphans().expect("a Tier 2");
    assert_eq!((status.deleted.objects, status.deleted.bytes), (1, 4));
    assert_eq!(status.failure, None);
    let mut left = named;
    left.push(unknown.to_owned());
    assert_eq!(segments(), left);
    tiers.stop();
    snapshots.stop();
    deletion.stop();
    retention.stop();
    store.close().expect("closes");
}
