//! What claims and marks need from an `ObjectStore`: one suite, run on memory, on a folder and over the wire.
//!
//! Not part of the product: the feature `testing` compiles it, for the tests of the crate that holds a store.

#![allow(clippy::disallowed_methods)] // racers of a test, no part of the store

use std::collections::BTreeSet;
use std::sync::Arc;

use aof2_format::names::KeyPrefix;

use super::{Address, ClaimStanding, ClusterName, StreamClaims};
use crate::error::{ClaimError, RolledBack};
use crate::io::{Clock, Rng, SystemClock, SystemRng};
use crate::objects::suite::test_policy;
use crate::objects::{ObjectStore, Tier2};
use crate::port::{Claims, Standing, VolumeIdentity};

pub const CLUSTER: &str = "0192f0aa-0000-7000-8000-000000000001";

/// Of the cluster.
const NAMESPACE: &str = "default";
const NAME: &str = "orders";

pub fn volume(node: &str, volume: u32) -> VolumeIdentity {
    VolumeIdentity {
        cluster_id: CLUSTER.into(),
        node: node.into(),
        node_id: format!("0192f0aa-0000-7000-8000-00000001{volume:04}"),
        volume_id: format!("0192f0aa-0000-7000-8000-00000002{volume:04}"),
    }
}

/// Of a volume that Tier 2 has seen before.
pub fn admitted(mark: u64) -> Standing {
    Standing {
        is_admitted: true,
        mark,
    }
}

/// Of an empty volume.
const NEW: Standing = Standing {
    is_admitted: false,
    mark: 0,
};

/// As another process of `node` would have them.
pub fn claims_of(store: &Arc<dyn ObjectStore>, prefix: &str, node: &str) -> StreamClaims {
    claims_at(
        store,
        prefix,
        node,
        Arc::new(SystemClock),
        Arc::new(SystemRng),
    )
}

/// The same by a clock and random numbers of the test's own.
pub fn claims_at(
    store: &Arc<dyn ObjectStore>,
    prefix: &str,
    node: &str,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
) -> StreamClaims {
    let prefix = KeyPrefix::new(prefix).expect("a prefix");
    let tier2 = Tier2::new(store.clone(), prefix, test_policy(), clock, rng);
    let cluster = ClusterName {
        namespace: NAMESPACE.into(),
        name: NAME.into(),
    };
    StreamClaims::new(
        Arc::new(tier2),
        cluster,
        Address(format!("{node}.orders:7421")),
    )
}

/// Of a cluster of this name, whatever ID it says it has.
fn claims_named(
    store: &Arc<dyn ObjectStore>,
    prefix: &str,
    namespace: &str,
    name: &str,
) -> StreamClaims {
    let of_ours = claims_of(store, prefix, "orders-0");
    let cluster = ClusterName {
        namespace: namespace.into(),
        name: name.into(),
    };
    StreamClaims::new(of_ours.tier2, cluster, of_ours.address)
}

/// Marks of a volume, on any store: the newest wins, nobody leaves one twice, and only the newest two stay.
pub fn marks_keep_their_contract(store: &Arc<dyn ObjectStore>, prefix: &str) {
    let claims = claims_of(store, prefix, "orders-0");
    let (mine, other) = (volume("orders-0", 1), volume("orders-1", 2));
    assert_eq!(claims.check_volume(&mine, admitted(0)), Ok(true));
    claims.leave_mark(&mine, 1).expect("left");
    claims.leave_mark(&mine, 2).expect("left");
    assert_eq!(claims.check_volume(&mine, admitted(2)), Ok(true));
    // One that was about to be left, by a process that ended in between.
    assert_eq!(claims.check_volume(&mine, admitted(3)), Ok(true));
    let older = |local: u64, bucket: u64| {
        let key = format!("{prefix}marks/{}/{bucket:020}", mine.volume_id);
        let proofs = vec![RolledBack::Mark { local, bucket, key }];
        Err(ClaimError::RolledBack { proofs })
    };
    assert_eq!(
        claims.check_volume(&mine, admitted(1)),
        older(1, 2).map(|()| true)
    );
    assert_eq!(claims.check_volume(&other, admitted(0)), Ok(true));

    // Two copies of a volume: one leaves the mark.
    let copy = claims_of(store, prefix, "orders-0");
    assert_eq!(copy.leave_mark(&mine, 2), older(1, 2));

    claims.leave_mark(&other, 1).expect("left");
    for mark in [4, 7, 8] {
        claims.leave_mark(&mine, mark).expect("left");
    }
    assert_eq!(claims.check_volume(&mine, admitted(8)), Ok(true));
    let left = store.list(&format!("{prefix}marks/"), None);
    let of = |id: &str, mark: u64| format!("{prefix}marks/{id}/{mark:020}");
    let mut expected = vec![
        of(&mine.volume_id, 7),
        of(&mine.volume_id, 8),
        of(&other.volume_id, 1),
    ];
    expected.sort();
    assert_eq!(left, Ok(expected));
}

/// Everything that claims promise, on any store. `prefix` ends in `/` and is used by nobody else.
pub fn claims_keep_their_contract(store: &Arc<dyn ObjectStore>, prefix: &str) {
    let claims = claims_of(store, prefix, "orders-0");
    let (mine, theirs) = (volume("orders-0", 1), volume("orders-1", 2));

    // The first volume in gets epoch 1; asking again, also from a new process, changes nothing.
    assert_eq!(claims.claim(&mine, "s-1"), Ok(1));
    assert_eq!(claims.claim(&mine, "s-1"), Ok(1));
    assert_eq!(
        claims_of(store, prefix, "orders-0").claim(&mine, "s-1"),
        Ok(1)
    );

    // Any other node is told who owns it and where.
    let others = claims_of(store, prefix, "orders-1");
    let refused = others.claim(&theirs, "s-1").expect_err("owned");
    let expected = ClaimError::NotOwner {
        stream: "s-1".into(),
        owner: "orders-0".into(),
        address: "orders-0.orders:7421".into(),
    };
    assert_eq!(refused, expected);

    // A stream whose name begins like another's is another stream.
    assert_eq!(others.claim(&theirs, "s-10"), Ok(1));
    assert_eq!(others.claim(&theirs, "s"), Ok(1));

    // Confirming.
    assert_eq!(claims.confirm(&mine, "s-1", 1), Ok(ClaimStanding::Held));
    let superseded = ClaimStanding::Superseded {
        from: 1,
        to: 1,
        owner: "orders-1".into(),
    };
    assert_eq!(claims.confirm(&mine, "s-10", 1), Ok(superseded));
    // A stream that was local before Tier 2 was configured is claimed at the epoch it has.
    assert_eq!(
        claims.confirm(&mine, "local-before", 1),
        Ok(ClaimStanding::Held)
    );
    assert!(matches!(
        others.claim(&theirs, "local-before"),
        Err(ClaimError::NotOwner { .. })
    ));

    // The highest epoch owns: what a hand-over will write.
    others.put_claim(&theirs, "s-1", 2).expect("written");
    let superseded = ClaimStanding::Superseded {
        from: 1,
        to: 2,
        owner: "orders-1".into(),
    };
    assert_eq!(claims.confirm(&mine, "s-1", 1), Ok(superseded));
    assert_eq!(others.claim(&theirs, "s-1"), Ok(2));
    assert!(matches!(
        claims.claim(&mine, "s-1"),
        Err(ClaimError::NotOwner { .. })
    ));

    // A lost volume: same node name, another volume, and streams are owned.
    assert_eq!(claims.claim(&mine, "s-2"), Ok(1));
    assert_eq!(
        claims_of(store, prefix, "orders-0").check_volume(&mine, admitted(0)),
        Ok(true)
    );
    let lost = claims_of(store, prefix, "orders-0")
        .check_volume(&volume("orders-0", 3), NEW)
        .expect_err("lost");
    let expected: Vec<String> = ["local-before", "s-2"].map(str::to_owned).into();
    assert_eq!(lost, ClaimError::VolumeLost { streams: expected });
    assert_eq!(
        claims_of(store, prefix, "orders-2").check_volume(&volume("orders-2", 4), NEW),
        Ok(true)
    );
    // Found late, at the first append, where Tier 2 was down at the start.
    let late = claims_of(store, prefix, "orders-0")
        .claim(&volume("orders-0", 3), "s-2")
        .expect_err("lost");
    assert_eq!(
        late,
        ClaimError::VolumeLost {
            streams: vec!["s-2".into()]
        }
    );

    // A state of a volume that is older than its newest mark is refused; each mark has one maker.
    claims.leave_mark(&mine, 1).expect("left");
    claims.leave_mark(&mine, 2).expect("left");
    let another_process = claims_of(store, prefix, "orders-0");
    assert_eq!(another_process.check_volume(&mine, admitted(2)), Ok(true));
    assert!(another_process.leave_mark(&mine, 2).is_err());
    match another_process.check_volume(&mine, admitted(1)) {
        Err(ClaimError::RolledBack { proofs }) => assert!(
            matches!(
                proofs[..],
                [RolledBack::Mark {
                    local: 1,
                    bucket: 2,
                    ..
                }]
            ),
            "{proofs:?}"
        ),
        other => panic!("{other:?}"),
    }

    // The prefix belongs to one cluster.
    let foreign = VolumeIdentity {
        cluster_id: "0192f0aa-0000-7000-8000-00000000beef".into(),
        ..volume("orders-0", 5)
    };
    let in_use = claims_of(store, prefix, "orders-0")
        .check_volume(&foreign, NEW)
        .expect_err("in use");
    assert_eq!(in_use, in_use_by_orders());
    let in_use = claims_of(store, prefix, "orders-0")
        .claim(&foreign, "fresh")
        .expect_err("in use");
    assert_eq!(in_use, in_use_by_orders());

    // And to one name in one namespace: the id alone, which everybody may read in a status, adopts nothing.
    for (namespace, name) in [("shop", "mine"), ("mine", "orders"), ("", "")] {
        let thief = claims_named(store, prefix, namespace, name);
        let refused = thief
            .check_volume(&volume("orders-0", 9), NEW)
            .expect_err("another cluster");
        assert_eq!(refused, in_use_by_orders(), "{namespace}/{name}");
    }

    claim_races_have_one_winner(store, prefix);
}

fn in_use_by_orders() -> ClaimError {
    ClaimError::PrefixInUse {
        cluster_id: CLUSTER.into(),
        owner: format!("{NAMESPACE}/{NAME}"),
    }
}

fn claim_races_have_one_winner(store: &Arc<dyn ObjectStore>, prefix: &str) {
    let streams: Vec<String> = (0..4).map(|n| format!("raced-{n}")).collect();
    let nodes = 8;
    let won: Vec<(String, u32)> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..nodes)
            .map(|node| {
                let streams = &streams;
                scope.spawn(move || {
                    let name = format!("racer-{node}");
                    let claims = claims_of(store, prefix, &name);
                    let volume = volume(&name, 100 + node);
                    let wins = |stream: &&String| match claims.claim(&volume, stream) {
                        Ok(epoch) => {
                            assert_eq!(epoch, 1);
                            true
                        }
                        Err(ClaimError::NotOwner { .. }) => false,
                        Err(other) => panic!("{other}"),
                    };
                    streams
                        .iter()
                        .filter(wins)
                        .map(|stream| (stream.clone(), node))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        racers
            .into_iter()
            .flat_map(|racer| racer.join().expect("no panic"))
            .collect()
    });
    let owned: BTreeSet<&String> = won.iter().map(|(stream, _)| stream).collect();
    assert_eq!(
        (won.len(), owned.len()),
        (streams.len(), streams.len()),
        "each stream has one owner: {won:?}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::directory::DirectoryStore;
    use crate::objects::memory::MemoryStore;

    #[test]
    fn marks_keep_their_contract_in_memory_and_in_a_directory() {
        marks_keep_their_contract(
            &(Arc::new(MemoryStore::new()) as Arc<dyn ObjectStore>),
            "prod/orders/",
        );
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn ObjectStore> =
            Arc::new(DirectoryStore::open(folder.path()).expect("opens"));
        marks_keep_their_contract(&store, "prod/orders/");
    }

    #[test]
    fn claims_keep_their_contract_in_memory() {
        claims_keep_their_contract(
            &(Arc::new(MemoryStore::new()) as Arc<dyn ObjectStore>),
            "prod/orders/",
        );
    }

    #[test]
    fn claims_keep_their_contract_in_a_directory() {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn ObjectStore> =
            Arc::new(DirectoryStore::open(folder.path()).expect("opens"));
        claims_keep_their_contract(&store, "prod/orders/");
    }
}
