use crate::common::*;
use aof2_core::{AppendError, OpenError, ReadError, ReadRequest, Remedy};

#[test]
fn a_directory_of_another_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    match try_open(small_config(directory.path())) {
        Err(error @ OpenError::Locked { .. }) => {
            assert!(error.to_string().contains("another process has locked"))
        }
        other => panic!("{:?}", other.err()),
    }
    drop(store);
    let mut other_node = options(small_config(directory.path()));
    other_node.identity.node = "orders-1".to_owned();
    match aof2_core::Store::open(other_node) {
        Err(error @ OpenError::ForeignDirectory { field: "node", .. }) => {
            assert!(
                error
                    .to_string()
                    .contains("\"orders-0\", but this node is \"orders-1\""),
                "{error}"
            );
        }
        other => panic!("{:?}", other.err()),
    }
    let mut other_cluster = options(small_config(directory.path()));
    other_cluster.identity.cluster_id = "0192f0aa-1c2d-7e3f-8a4b-000000000000".to_owned();
    assert!(matches!(
        aof2_core::Store::open(other_cluster),
        Err(OpenError::ForeignDirectory {
            field: "cluster",
            ..
        })
    ));
    let mut config = small_config(directory.path());
    config.segment.target_bytes = 1000;
    assert!(matches!(
        try_open(config),
        Err(OpenError::Config {
            key: "segment.target_bytes",
            ..
        })
    ));
}

/// Answers what the test tells it to.
struct ScriptedClaims {
    answers: std::sync::Mutex<Vec<Result<u64, aof2_core::error::ClaimError>>>,
    volume: Result<bool, aof2_core::error::ClaimError>,
}

impl aof2_core::Claims for ScriptedClaims {
    fn check_volume(
        &self,
        _volume: &aof2_core::VolumeIdentity,
        _standing: aof2_core::port::Standing,
    ) -> Result<bool, aof2_core::error::ClaimError> {
        self.volume.clone()
    }

    fn check_streams(
        &self,
        _volume: &aof2_core::VolumeIdentity,
        _streams: &[aof2_core::port::LocalStream],
    ) -> Result<(), aof2_core::error::ClaimError> {
        Ok(())
    }

    fn leave_mark(
        &self,
        _volume: &aof2_core::VolumeIdentity,
        _mark: u64,
    ) -> Result<(), aof2_core::error::ClaimError> {
        Ok(())
    }

    fn find(
        &self,
        _volume: &aof2_core::VolumeIdentity,
        _stream: &str,
    ) -> Result<Option<u64>, aof2_core::error::ClaimError> {
        Ok(None)
    }

    fn claim(
        &self,
        _volume: &aof2_core::VolumeIdentity,
        _stream: &str,
    ) -> Result<u64, aof2_core::error::ClaimError> {
        self.answers.lock().unwrap().remove(0)
    }
}

#[test]
fn a_first_append_waits_for_its_claim_and_is_refused_where_another_owns_the_stream() {
    use aof2_core::error::ClaimError;

    let directory = tempfile::tempdir().unwrap();
    let mut options = options(small_config(directory.path()));
    let pending = ClaimError::Pending {
        message: "Tier 2 does not answer".into(),
    };
    let owned = ClaimError::NotOwner {
        stream: "s".into(),
        owner: "orders-1".into(),
        address: "orders-1.orders".into(),
    };
    options.claims = Some(std::sync::Arc::new(ScriptedClaims {
        answers: std::sync::Mutex::new(vec![Err(pending), Err(owned), Ok(7)]),
        volume: Ok(true),
    }));
    let store = aof2_core::Store::open(options).unwrap();
    let refused = durable(&store, "s", b"x").unwrap_err();
    assert!(
        matches!(refused, AppendError::ClaimPending { .. }),
        "{refused}"
    );
    assert_eq!(refused.remedy(), Remedy::Retry);
    assert!(
        store.streams().is_empty(),
        "an unclaimed stream does not exist"
    );
    let refused = durable(&store, "s", b"x").unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("orders-1 owns stream s; send appends to orders-1.orders"),
        "{refused}"
    );
    assert_eq!(durable(&store, "s", b"x").unwrap().first_sequence, 0);
    assert_eq!(store.describe("s").unwrap().epoch, 7);
    store.supersede("s", 9);
    let refused = durable(&store, "s", b"x").unwrap_err();
    assert!(
        refused.to_string().contains("epoch 9 supersedes 7"),
        "{refused}"
    );
    let request = ReadRequest {
        stream: "s".into(),
        from_sequence: 0,
        limit: 0,
        include_staged: false,
    };
    assert!(matches!(
        store.read(request).unwrap().next_batch(10),
        Err(ReadError::Superseded { from: 7, to: 9, .. })
    ));
}

#[test]
fn a_lost_volume_is_refused_and_leaves_no_identity_behind() {
    use aof2_core::error::ClaimError;

    let directory = tempfile::tempdir().unwrap();
    let mut lost = options(small_config(directory.path()));
    lost.claims = Some(std::sync::Arc::new(ScriptedClaims {
        answers: std::sync::Mutex::new(Vec::new()),
        volume: Err(ClaimError::VolumeLost {
            streams: vec!["orders-eu".into()],
        }),
    }));
    let refused = aof2_core::Store::open(lost).err().unwrap();
    assert!(matches!(refused, OpenError::VolumeLost { .. }), "{refused}");
    assert!(refused.to_string().contains("orders-eu"), "{refused}");
    assert!(!directory.path().join("volume.json").exists());
}
