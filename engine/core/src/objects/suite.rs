//! What every `ObjectStore` has to do. One suite, run on memory, on a folder and over the wire.
//!
//! Not part of the product: the feature `testing` compiles it, for the tests of the crate that holds a store.

#![allow(clippy::disallowed_methods)] // racers of a test, no part of the store

use std::sync::Arc;
use std::time::Duration;

use aof2_format::checksum::crc64nvme;
use aof2_format::names::KeyPrefix;
use bytes::Bytes;

use super::conditional::{Creation, create};
use super::retry::{Retries, RetryPolicy};
use super::{ObjectError, ObjectStore, PutOutcome, Removal, Tier2, Upload};
use crate::io::{SystemClock, SystemRng};

/// Retries that do not wait.
pub fn test_policy() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 4,
        first_pause: Duration::ZERO,
        longest_pause: Duration::ZERO,
        budget_per_minute: 100_000,
    }
}

pub fn test_retries() -> Retries {
    Retries::new(test_policy(), Arc::new(SystemClock), Arc::new(SystemRng))
}

pub fn test_tier2(store: Arc<dyn ObjectStore>) -> Tier2 {
    Tier2::new(
        store,
        KeyPrefix::default(),
        test_policy(),
        Arc::new(SystemClock),
        Arc::new(SystemRng),
    )
}

fn upload(bytes: &str, put_id: &str) -> Upload {
    Upload::of_bytes(Bytes::from(bytes.to_owned()), put_id.to_owned())
}

/// Every clause of the trait's contract. `folder` ends in `/` and is used by nobody else.
pub fn store_keeps_its_contract(store: &dyn ObjectStore, folder: &str) {
    let key = |name: &str| format!("{folder}{name}");

    // Absent.
    assert_eq!(store.get(&key("absent")).expect("get"), None);
    assert_eq!(store.head(&key("absent")).expect("head"), None);
    assert_eq!(store.get_range(&key("absent"), 0, 1).expect("range"), None);
    store
        .delete(&key("absent"))
        .expect("deleting nothing is no error");

    // Created once, never overwritten.
    let first = upload("first body", "put-1");
    let PutOutcome::Created { etag } = store.put_if_absent(&key("once"), &first).expect("put")
    else {
        panic!("the key was free")
    };
    assert_eq!(
        store
            .put_if_absent(&key("once"), &upload("x", "put-2"))
            .expect("put"),
        PutOutcome::PreconditionFailed
    );
    let object = store.get(&key("once")).expect("get").expect("there");
    assert_eq!(object.bytes, Bytes::from_static(b"first body"));
    assert_eq!(object.meta.etag, etag);
    let meta = store.head(&key("once")).expect("head").expect("there");
    assert_eq!(meta, object.meta);
    assert_eq!(
        (meta.size_bytes, meta.crc64nvme),
        (10, Some(crc64nvme(b"first body")))
    );
    assert_eq!(meta.put_id.as_deref(), Some("put-1"));

    // Ranges.
    assert_eq!(
        store
            .get_range(&key("once"), 6, 4)
            .expect("range")
            .expect("there"),
        Bytes::from_static(b"body")
    );
    let beyond = store
        .get_range(&key("once"), 6, 40)
        .expect_err("beyond the end");
    assert!(matches!(beyond, ObjectError::Corrupt { .. }), "{beyond}");

    // Compare and swap.
    let second = upload("second", "put-3");
    assert_eq!(
        store
            .put_if_match(&key("once"), &second, "\"wrong\"")
            .expect("put"),
        PutOutcome::PreconditionFailed
    );
    assert_eq!(
        store
            .put_if_match(&key("gone"), &second, "\"wrong\"")
            .expect("put"),
        PutOutcome::PreconditionFailed
    );
    assert!(matches!(
        store
            .put_if_match(&key("once"), &second, &etag)
            .expect("put"),
        PutOutcome::Created { .. }
    ));
    assert_eq!(
        store
            .put_if_match(&key("once"), &second, &etag)
            .expect("put"),
        PutOutcome::PreconditionFailed
    );
    assert_eq!(
        store.get(&key("once")).expect("get").expect("there").bytes,
        Bytes::from_static(b"second")
    );

    // Unconditional, and empty bodies.
    store
        .put(&key("again"), &upload("1", "put-4"))
        .expect("put");
    store.put(&key("again"), &upload("", "put-5")).expect("put");
    assert_eq!(
        store.get(&key("again")).expect("get").expect("there").bytes,
        Bytes::new()
    );

    // A body that is not what its checksum says is refused and not kept.
    let wrong = Upload {
        crc64nvme: crc64nvme(b"other"),
        ..upload("body", "put-6")
    };
    let refused = store
        .put_if_absent(&key("wrong"), &wrong)
        .expect_err("the checksum differs");
    assert!(matches!(refused, ObjectError::Corrupt { .. }), "{refused}");
    assert_eq!(store.head(&key("wrong")).expect("head"), None);

    // Listing: in order, below the prefix only, after the given key.
    for name in ["list/b", "list/a", "list/c", "list2"] {
        store.put(&key(name), &upload("x", "put-7")).expect("put");
    }
    let listed = store.list(&key("list/"), None).expect("list");
    assert_eq!(listed, [key("list/a"), key("list/b"), key("list/c")]);
    assert_eq!(
        store
            .list(&key("list/"), Some(&key("list/a")))
            .expect("list"),
        [key("list/b"), key("list/c")]
    );
    assert_eq!(
        store.list(&key("nothing/"), None).expect("list"),
        Vec::<String>::new()
    );

    let described = store.list_objects(&key("list/"), Some(&key("list/a")));
    let described = described.expect("list");
    assert!(described.is_last);
    for (listed, name) in described.objects.iter().zip(["list/b", "list/c"]) {
        let meta = store.head(&key(name)).expect("head").expect("there");
        assert_eq!(listed.key, key(name));
        assert_eq!((listed.size_bytes, &listed.etag), (1, &meta.etag));
        assert!(listed.modified_unix_nanos.is_some(), "{listed:?}");
    }
    assert_eq!(described.objects.len(), 2);

    let removal = store.delete(&key("list/b")).expect("delete");
    assert_eq!(removal, Removal::Removed);
    assert_eq!(
        store.list(&key("list/"), None).expect("list"),
        [key("list/a"), key("list/c")]
    );
}

/// `threads` race for one key, `rounds` times: exactly one wins each round, and its bytes are what is there.
pub fn one_creator_wins(store: &dyn ObjectStore, folder: &str, threads: usize, rounds: usize) {
    for round in 0..rounds {
        let key = format!("{folder}race-{round}");
        let winners: Vec<usize> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..threads)
                .map(|racer| {
                    let key = &key;
                    scope.spawn(move || {
                        let body =
                            upload(&format!("racer {racer}"), &format!("put-{round}-{racer}"));
                        match create(store, key, &body, &test_retries(), 10).expect("an outcome") {
                            Creation::Ours { .. } => Some(racer),
                            Creation::Taken(_) => None,
                        }
                    })
                })
                .collect();
            racers
                .into_iter()
                .filter_map(|racer| racer.join().expect("no panic"))
                .collect()
        });
        assert_eq!(winners.len(), 1, "round {round}: winners {winners:?}");
        let object = store.get(&key).expect("get").expect("there");
        assert_eq!(
            object.bytes,
            Bytes::from(format!("racer {}", winners[0])),
            "round {round}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::directory::DirectoryStore;
    use crate::objects::memory::MemoryStore;

    #[test]
    fn memory_keeps_the_contract_of_a_store() {
        store_keeps_its_contract(&MemoryStore::new(), "folder/");
    }

    #[test]
    fn a_directory_keeps_the_contract_of_a_store() {
        let folder = tempfile::tempdir().expect("a folder");
        store_keeps_its_contract(
            &DirectoryStore::open(folder.path()).expect("opens"),
            "folder/",
        );
    }

    #[test]
    fn one_creator_wins_in_memory() {
        one_creator_wins(&MemoryStore::new(), "r/", 16, 20);
    }

    #[test]
    fn one_creator_wins_in_a_directory() {
        let folder = tempfile::tempdir().expect("a folder");
        one_creator_wins(
            &DirectoryStore::open(folder.path()).expect("opens"),
            "r/",
            16,
            20,
        );
    }

    /// The suite must be able to fail: a store that ignores preconditions, with the probe taken out of the way, has many winners.
    #[test]
    #[should_panic(expected = "winners")]
    fn the_race_notices_a_store_without_preconditions() {
        let store = MemoryStore::new();
        store.ignore_preconditions();
        one_creator_wins(&store, "r/", 4, 5);
    }
}
