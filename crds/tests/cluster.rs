//! What users write and what earlier operators wrote can be read.

use aof2_crds::cluster::{AccessMode, OperationMode};
use aof2_crds::rollout::RolloutStep;
use aof2_crds::{Aof2Cluster, Aof2ClusterStatus, Duration, Gate, WaitReason};
use serde_json::{Value, json};

const SAMPLE: &str = include_str!("../../config/samples/orders.yaml");

fn minimal() -> Value {
    json!({
        "apiVersion": "aof2.dev/v1alpha1", "kind": "Aof2Cluster", "metadata": {"name": "orders"},
        "spec": {"replicas": 3, "version": "0.1.0", "storage": {"tier0": {"size": "20Gi"}}},
    })
}

/// Every field of `written` is in `read`, so nothing of it was dropped as unknown.
fn contains(read: &Value, written: &Value, path: &str) {
    match (read, written) {
        (Value::Object(read), Value::Object(written)) => {
            for (key, value) in written {
                let found = read
                    .get(key)
                    .unwrap_or_else(|| panic!("{path}.{key} is not part of the type"));
                contains(found, value, &format!("{path}.{key}"));
            }
        }
        _ => assert_eq!(read, written, "{path}"),
    }
}

#[test]
fn a_minimal_cluster_gets_the_documented_defaults() {
    let cluster: Aof2Cluster = serde_json::from_value(minimal()).unwrap();
    let spec = cluster.spec;
    assert_eq!(spec.operation.mode, OperationMode::Active);
    assert_eq!(spec.upgrade.seal.upload_timeout, Duration::from_mins(10));
    assert_eq!(spec.upgrade.seal.drain_timeout, Duration::from_secs(30));
    assert_eq!(spec.upgrade.post_restart.soak, Duration::from_secs(30));
    assert_eq!(
        spec.upgrade.post_restart.replay_stall_timeout,
        Duration::from_mins(15)
    );
    assert_eq!(spec.storage.tier0.access_mode, AccessMode::ReadWriteOncePod);
    assert_eq!(spec.storage.tier0.size.bytes(), 20 << 30);
    assert_eq!((spec.tier2, spec.config_from), (None, None));
}

#[test]
fn the_sample_is_made_of_known_fields() {
    let cluster = SAMPLE.split("\n---\n").next().unwrap_or_default();
    let written: Value = serde_saphyr::from_str(cluster).unwrap();
    let read: Aof2Cluster = serde_json::from_value(written.clone()).unwrap();
    contains(&serde_json::to_value(read).unwrap(), &written, "");
}

#[test]
fn the_pod_spec_keeps_fields_that_this_version_does_not_know() {
    let mut written = minimal();
    written["spec"]["podTemplate"] =
        json!({"spec": {"containers": [{"name": "app", "newField": 7}]}});
    let cluster: Aof2Cluster = serde_json::from_value(written).unwrap();
    let back = serde_json::to_value(cluster).unwrap();
    assert_eq!(
        back["spec"]["podTemplate"]["spec"]["containers"][0]["newField"],
        7
    );
}

#[test]
fn status_of_a_newer_operator_reads_with_unknown_names() {
    let status: Aof2ClusterStatus = serde_json::from_value(json!({
        "newField": {"a": 1},
        "waits": [{"gate": "MoonPhase", "reason": "NotFull", "since": "2026-01-01T00:00:00Z", "message": "wait"}],
        "rollout": {"kind": "Version", "from": "0.1.0", "to": "0.2.0", "revision": "a", "step": "Dancing",
            "startedAt": "2026-01-01T00:00:00Z", "since": "2026-01-01T00:00:00Z"},
    }))
    .unwrap();
    assert_eq!(
        (status.waits[0].gate, status.waits[0].reason),
        (Gate::Unknown, WaitReason::Unknown)
    );
    assert_eq!(status.rollout.unwrap().step, RolloutStep::Unknown);
}

#[test]
fn names_are_spelled_as_in_rust() {
    for gate in Gate::ALL {
        assert_eq!(Gate::from_name(gate.as_str()), Some(*gate));
        assert_eq!(serde_json::to_value(gate).unwrap(), gate.as_str());
    }
    assert_eq!(Gate::from_name("Unknown"), None);
}
