use super::*;
use crate::cluster::facts::TroubleKind;
use aof2_crds::labels;
use serde_json::{Value, json};

fn pod(status: Value) -> PodFacts {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "orders-2", "labels": {labels::CLUSTER: "orders"}, "annotations": {VERSION_ANNOTATION: "0.1.0"}},
        "status": status,
    }))
    .unwrap();
    read("orders", &pod, "2026-09-21T10:00:00Z".parse().unwrap()).unwrap()
}

#[test]
fn the_engine_is_found_as_a_sidecar_and_as_the_main_container() {
    let running = json!([{"name": ENGINE_CONTAINER, "image": "e:1", "imageID": "", "ready": true, "restartCount": 2, "state": {"running": {}}}]);
    for list in ["initContainerStatuses", "containerStatuses"] {
        let facts = pod(json!({list: running}));
        assert_eq!(
            (
                facts.engine.is_running,
                facts.engine.restarts,
                facts.ordinal
            ),
            (true, 2, 2)
        );
    }
}

#[test]
fn an_image_that_cannot_be_pulled_is_told_from_a_start() {
    let waiting = |reason: &str, message: &str| {
        pod(json!({"containerStatuses": [{"name": ENGINE_CONTAINER, "image": "e:9", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": message}}}]}))
        .trouble
    };
    assert_eq!(waiting("ContainerCreating", ""), None);
    let trouble = waiting("ErrImagePull", "e:9: not found").unwrap();
    assert_eq!(trouble.kind, TroubleKind::ImagePull);
    assert_eq!(trouble.message, "orders-2 cannot pull e:9 (e:9: not found)");
    // The kubelet goes to and fro between the two.
    assert_eq!(
        waiting(
            "ImagePullBackOff",
            "Back-off pulling image \"e:9\": ErrImagePull: e:9: not found"
        )
        .unwrap(),
        trouble
    );
}

#[test]
fn a_crash_loop_says_how_the_engine_ended() {
    let trouble = pod(json!({"initContainerStatuses": [{"name": ENGINE_CONTAINER, "image": "e:1", "imageID": "", "ready": false, "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container"}},
        "lastState": {"terminated": {"exitCode": 2, "message": "{\"reason\":\"UnknownKey\",\"message\":\"unknown key `x`\"}\n"}}}]}))
    .trouble
    .unwrap();
    assert_eq!(trouble.kind, TroubleKind::CrashLoop);
    assert_eq!(
        trouble.message,
        "aof2-engine of orders-2 crashes with exit code 2 (UnknownKey: unknown key `x`)"
    );
}

#[test]
fn a_crash_loop_stays_one_between_two_crashes_and_ends_when_the_container_serves() {
    let ended = |code: i32, at: &str| json!({"terminated": {"exitCode": code, "startedAt": "2026-09-21T09:58:00Z", "finishedAt": at}});
    let recent = ended(2, "2026-09-21T09:58:01Z");
    let read = |name: &str, restarts: i32, ready: bool, state: Value, last: &Value| {
        pod(json!({"containerStatuses": [{"name": name, "image": "e:1", "imageID": "", "ready": ready, "restartCount": restarts,
            "state": state, "lastState": last}]}))
        .trouble
    };
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let running = json!({"running": {"startedAt": "2026-09-21T09:59:50Z"}});
    let shown = read(ENGINE_CONTAINER, 1, false, waiting, &recent);
    assert_eq!(
        shown.as_ref().map(|it| it.kind),
        Some(TroubleKind::CrashLoop)
    );
    for state in [
        running.clone(),
        recent.clone(),
        json!({"waiting": {"reason": "ContainerCreating"}}),
    ] {
        assert_eq!(
            read(ENGINE_CONTAINER, 2, false, state.clone(), &recent),
            shown,
            "{state}"
        );
    }
    // One restart is none, and so is a container that served for longer than before, or for long.
    assert_eq!(
        read(ENGINE_CONTAINER, 1, false, running.clone(), &recent),
        None
    );
    let longer = json!({"running": {"startedAt": "2026-09-21T09:58:58Z"}});
    assert_eq!(read(ENGINE_CONTAINER, 7, true, longer, &recent), None);
    let long_ago = json!({"running": {"startedAt": "2026-09-21T09:40:00Z"}});
    assert_eq!(read(ENGINE_CONTAINER, 7, false, long_ago, &recent), None);
    let served = json!({"terminated": {"exitCode": 137, "startedAt": "2026-09-01T09:00:00Z", "finishedAt": "2026-09-21T09:59:00Z"}});
    assert_eq!(
        read(ENGINE_CONTAINER, 7, false, running.clone(), &served),
        None
    );
    // An engine that the operator restarted twice does not crash; an application that ends again and again does.
    let clean = ended(0, "2026-09-21T09:58:30Z");
    assert_eq!(
        read(ENGINE_CONTAINER, 2, false, running.clone(), &clean),
        None
    );
    assert!(read("writer", 2, false, running, &clean).is_some());
}

#[test]
fn a_container_that_is_ready_between_two_crashes_moves_nothing() {
    let status = |ready: bool, state: Value| {
        let ended = json!({"terminated": {"exitCode": 4, "startedAt": "2026-09-21T09:57:00Z", "finishedAt": "2026-09-21T09:57:30Z"}});
        let facts = pod(json!({
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            "containerStatuses": [{"name": "shipper", "image": "s:1", "imageID": "", "ready": ready, "restartCount": 5, "state": state, "lastState": ended}],
        }));
        (facts.is_ready, facts.trouble)
    };
    let waiting = status(false, json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    assert!(!waiting.0 && waiting.1.is_some(), "{waiting:?}");
    let runs_since = |at: &str| json!({"running": {"startedAt": format!("2026-09-21T{at}Z")}});
    assert_eq!(status(true, runs_since("09:59:55")), waiting);
    // It ran for 30 s before the crash, and may take a minute to show that it differs now.
    assert_eq!(status(true, runs_since("09:58:31")), waiting);
    assert_eq!(status(true, runs_since("09:58:29")), (true, None));
}

#[test]
fn a_sidecar_that_ended_again_is_named_with_its_reason_and_its_code() {
    let ended = |restarts: i32, end: Value, deleted: Value| {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "orders-2", "deletionTimestamp": deleted},
            "status": {"initContainerStatuses": [{"name": "shipper", "image": "s:1", "imageID": "", "ready": false, "restartCount": restarts,
                "state": {"terminated": end}}]},
        }))
        .unwrap();
        super::read("orders", &pod, "2026-09-21T10:00:00Z".parse().unwrap())
            .unwrap()
            .trouble
    };
    let killed = json!({"exitCode": 137, "reason": "OOMKilled"});
    let trouble = ended(1, killed.clone(), Value::Null).unwrap();
    assert_eq!(
        (
            trouble.kind,
            trouble.container.as_str(),
            trouble.message.as_str()
        ),
        (
            TroubleKind::OutOfMemory,
            "shipper",
            "shipper of orders-2 crashes with exit code 137 (OOMKilled)"
        )
    );
    let failed = json!({"exitCode": 3, "reason": "Error"});
    let trouble = ended(4, failed, Value::Null).unwrap();
    assert_eq!(
        (trouble.kind, trouble.message.as_str()),
        (
            TroubleKind::CrashLoop,
            "shipper of orders-2 crashes with exit code 3"
        )
    );
    assert_eq!(
        ended(0, killed.clone(), Value::Null),
        None,
        "once is no loop"
    );
    assert_eq!(ended(1, json!({"exitCode": 0}), Value::Null), None);
    assert_eq!(ended(1, killed, json!("2026-09-21T10:00:30Z")), None);
}

#[test]
fn a_readiness_probe_that_fails_names_its_container() {
    let trouble = |name: &str, started_at: &str, started: bool| {
        pod(json!({"containerStatuses": [
            {"name": "main", "image": "m:1", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {"startedAt": "2026-09-21T09:00:00Z"}}},
            {"name": name, "image": "w:1", "imageID": "", "ready": false, "restartCount": 0, "started": started,
                "state": {"running": {"startedAt": started_at}}},
        ]}))
        .trouble
    };
    let found = trouble("writer", "2026-09-21T09:59:00Z", true).unwrap();
    assert_eq!(
        (found.kind, found.message.as_str()),
        (
            TroubleKind::Unready,
            "writer of orders-2 runs but is not ready (its readiness probe fails)"
        )
    );
    assert_eq!(
        trouble("writer", "2026-09-21T09:59:01Z", true),
        None,
        "it starts"
    );
    assert_eq!(
        trouble("writer", "2026-09-21T09:00:00Z", false),
        None,
        "it starts"
    );
    assert_eq!(
        trouble(ENGINE_CONTAINER, "2026-09-21T09:00:00Z", true),
        None
    );
}

#[test]
fn a_pod_of_a_node_that_stopped_reporting_is_on_a_lost_node() {
    assert!(pod(json!({"reason": "NodeLost"})).is_on_lost_node);
    assert!(pod(json!({"conditions": [{"type": "Ready", "status": "Unknown"}]})).is_on_lost_node);
    assert!(!pod(json!({"conditions": [{"type": "Ready", "status": "False"}]})).is_on_lost_node);
}

#[test]
fn a_pod_that_waits_for_a_missing_secret_names_it_within_a_minute() {
    let read = |scheduled: &str, optional: bool| {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "orders-2"},
            "spec": {"containers": [], "volumes": [{"name": "s3", "secret": {"secretName": "orders-s3", "optional": optional}}]},
            "status": {
                "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": scheduled}],
                "containerStatuses": [{"name": ENGINE_CONTAINER, "image": "e:1", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"waiting": {"reason": "ContainerCreating"}}}],
            },
        }))
        .unwrap();
        super::read("orders", &pod, "2026-09-21T10:01:00Z".parse().unwrap())
            .unwrap()
            .trouble
    };
    assert_eq!(read("2026-09-21T10:00:20Z", false), None);
    let trouble = read("2026-09-21T10:00:10Z", false).unwrap();
    assert!(
        trouble.message.contains("orders-2") && trouble.message.contains("Secret orders-s3"),
        "{trouble:?}"
    );
    assert!(
        !read("2026-09-21T10:00:10Z", true)
            .unwrap()
            .message
            .contains("orders-s3")
    );
}
