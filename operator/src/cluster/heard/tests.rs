use serde_json::json;

use super::*;
use crate::cluster::facts::Observed;
use crate::cluster::plan::plan;
use crate::cluster::testing::at_rest;
use crate::machine::condition;

fn event(reason: &str, at: &str, note: &str) -> Event {
    serde_json::from_value(json!({
        "metadata": {"name": "e"}, "reason": reason, "note": note, "eventTime": null,
        "deprecatedLastTimestamp": format!("2026-09-21T{at}Z"),
    }))
    .unwrap()
}

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "orders-0", "uid": "uid-0"},
        "spec": {"containers": [], "volumes": [
            {"name": "aof2-s3-credentials", "secret": {"secretName": "orders-s3"}},
            {"name": "rules", "configMap": {"name": "app-rules"}},
        ]},
    }))
    .unwrap()
}

/// STATUS and the wait of `orders-0`.
fn shown(mut observed: Observed) -> (String, String) {
    observed.reports.remove("orders-0");
    let status = plan(&observed).status;
    assert_eq!(status.waits.len(), 1, "{:?}", status.waits);
    (status.summary, status.waits[0].message.clone())
}

#[test]
fn a_pod_that_cannot_mount_a_volume_names_what_does_not_exist() {
    let said = |cause: &str| {
        let mut observed = at_rest();
        observed.pods[0].is_ready = false;
        let older = event(
            "FailedMount",
            "09:58:00",
            "MountVolume.SetUp failed for volume \"rules\" : configmap \"old\" not found",
        );
        let newer = format!("MountVolume.SetUp failed for volume {cause}");
        let events = [
            event("Scheduled", "09:59:59", "assigned"),
            event("FailedMount", "09:59:00", &newer),
            older,
        ];
        observed.pods[0].trouble = mount(&pod(), &events);
        shown(observed)
    };
    for (cause, names) in [
        (
            "\"aof2-s3-credentials\" : secret \"orders-s3-tpyo\" not found",
            "Secret orders-s3-tpyo (not found)",
        ),
        (
            "\"aof2-s3-credentials\" : references non-existent secret key: secret_access_key",
            "key secret_access_key of Secret orders-s3 (not found)",
        ),
        (
            "\"rules\" : configmap \"app-rules\" not found",
            "ConfigMap app-rules (not found)",
        ),
        (
            "\"rules\" : references non-existent config key: rules.json",
            "key rules.json of ConfigMap app-rules (not found)",
        ),
    ] {
        let (status, wait) = said(cause);
        assert!(
            status.starts_with("orders-0 waits for ") && status.contains(names),
            "{status}"
        );
        assert!(wait.contains("Create it, or correct"), "{wait}");
    }
    let (status, wait) = said("\"pvc-1\" : rpc error: code = Internal");
    assert!(
        status.contains("orders-0 does not get its volumes (rpc error"),
        "{status}"
    );
    assert!(wait.contains("kubectl describe pod orders-0"), "{wait}");
    assert_eq!(mount(&pod(), &[event("Pulled", "09:59:59", "x")]), None);
}

#[test]
fn a_pod_that_may_not_be_created_is_said_outside_of_a_rollout_too() {
    let refused = event(
        "FailedCreate",
        "09:59:00",
        "create Pod orders-0 in StatefulSet orders failed error: pods \"orders-0\" is forbidden: exceeded quota: tight, requested: pods=1, used: pods=2, limited: pods=2",
    );
    let why = creation("orders-0", std::slice::from_ref(&refused)).unwrap();
    assert!(why.starts_with("exceeded quota: tight"), "{why}");
    let mut observed = at_rest();
    observed.pods.remove(0);
    observed.not_created.insert("orders-0".into(), why);
    let (status, wait) = shown(observed);
    assert!(
        status.starts_with("The StatefulSet does not create orders-0 (exceeded quota: tight"),
        "{status}"
    );
    assert!(
        wait.contains("limited: pods=2") && wait.contains("Raise"),
        "{wait}"
    );
    // A claim that is refused keeps its pod from being created too.
    let claim = event(
        "FailedCreate",
        "09:59:30",
        "create Claim tier0-orders-0 Pod orders-0 in StatefulSet orders failed error: persistentvolumeclaims \"tier0-orders-0\" is forbidden: exceeded quota: disk",
    );
    let both = [claim.clone(), refused.clone()];
    assert_eq!(
        creation("orders-0", &both).as_deref(),
        Some("exceeded quota: disk")
    );
    assert_eq!(creation("orders-1", &both), None);
    let created = event(
        "SuccessfulCreate",
        "09:59:40",
        "create Pod orders-0 in StatefulSet orders successful",
    );
    assert_eq!(creation("orders-0", &[created, claim, refused]), None);
}

#[test]
fn a_pod_that_is_missing_for_a_minute_is_said_without_an_event() {
    let mut observed = at_rest();
    observed.pods.remove(0);
    observed.reports.remove("orders-0");
    let status = plan(&observed).status;
    assert!(status.waits.is_empty(), "{:?}", status.waits);
    assert!(condition::find(&status.conditions, "Ready").unwrap().status == "False");
    observed.cluster.status = Some(status);
    observed.now += SignedDuration::from_secs(60);
    let (status, wait) = shown(observed);
    assert_eq!(status, "The StatefulSet does not create orders-0");
    assert!(
        wait.contains("kubectl describe statefulset orders"),
        "{wait}"
    );
}
