//! Whole reconciles against an API server that fails calls: what depends on a call waits for it, and nothing else does; and nothing is
//! written twice.

mod operator;
mod rest;
mod scope;
mod server;

use axum::http::Method;
use serde_json::json;

use super::{memory::Memory, reconcile, testing};
use crate::context::Context;
use crate::runtime::telemetry::testing::{Lines, alone};
use crate::snapshot::known::Known;
use operator::{Operator, fault};
use server::{Fault, Server};

const CLUSTER: &str = "/apis/aof2.dev/v1alpha1/namespaces/shop/aof2clusters/orders";
const SERVICE_ACCOUNT: &str = "/api/v1/namespaces/shop/serviceaccounts/orders-aof2";
const SET: &str = "/apis/apps/v1/namespaces/shop/statefulsets/orders";
const SECRET: &str = "/api/v1/namespaces/shop/secrets/orders-engine-tls";

#[tokio::test]
async fn without_a_fault_everything_is_made_and_then_nothing_is_written() {
    let operator = Operator::new(Vec::new());
    operator.look(3).await;
    for path in [SERVICE_ACCOUNT, SET, SECRET] {
        assert!(operator.is_there(path), "{path}");
    }
    operator.ensure_quiet("no fault").await;
}

impl Operator {
    /// Another ConfigMap than the one before, which is not there either.
    fn point_at(&self, config_map: &str) {
        let mut server = self.server.lock();
        let mut cluster = server.objects[CLUSTER].clone();
        cluster["spec"]["configFrom"] = json!({"configMapRef": {"name": config_map}});
        server.put(CLUSTER, cluster);
        // As its watch does.
        self.memory.touches.touch("shop", "orders");
    }

    fn events(&self) -> Vec<serde_json::Value> {
        let server = self.server.lock();
        let events = server.objects.iter();
        events
            .filter(|(path, _)| path.contains("/events.k8s.io/v1/"))
            .map(|(_, event)| event.clone())
            .collect()
    }
}

#[tokio::test]
async fn two_messages_of_one_reason_are_two_events_and_each_says_what_it_is_about() {
    let operator = Operator::new(Vec::new());
    operator.look(4).await;
    for map in ["first", "second"] {
        operator.point_at(map);
        operator.look(2).await;
    }
    let missing: Vec<_> = operator
        .events()
        .into_iter()
        .filter(|event| event["reason"] == "ConfigMapMissing")
        .collect();
    for map in ["first", "second"] {
        let about: Vec<_> = missing
            .iter()
            .filter(|event| event["note"].as_str().unwrap().contains(map))
            .collect();
        assert_eq!(about.len(), 1, "{missing:?}");
        let event = about[0];
        assert_eq!(event["type"], "Warning");
        assert_eq!(event["regarding"]["name"], "orders");
        assert!(event["eventTime"].is_string() && event["series"].is_null());
        assert!(event["reportingController"].is_string() && event["action"].is_string());
    }
    for event in operator.events() {
        let note = event["note"].as_str().unwrap();
        let is_missing = event["reason"] == "ConfigMapMissing";
        assert_eq!(event["type"] == "Warning", is_missing, "{note}");
    }
}

#[tokio::test]
async fn a_cluster_that_goes_to_and_fro_writes_few_events() {
    let operator = Operator::new(Vec::new());
    operator.look(4).await;
    for _ in 0..40 {
        for map in ["first", "second"] {
            operator.point_at(map);
            operator.look(1).await;
        }
    }
    let written = operator.events().len() + operator.count(Method::PATCH, "/events/");
    assert!(written < 15, "{written}");
}

#[test]
fn every_notice_and_change_of_status_has_one_line_and_rest_has_none() {
    let test = "cluster::tests::every_notice_and_change_of_status_has_one_line_and_rest_has_none";
    alone(test, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(the_log_of_a_cluster());
    });
}

async fn the_log_of_a_cluster() {
    let lines = Lines::default();
    let log = lines.capture("info", true);
    let operator = Operator::new(Vec::new());
    operator.look(4).await;
    assert!(lines.take().contains("STATUS: "));
    operator.look(20).await;
    assert_eq!(lines.take(), "", "at rest");

    operator.point_at("first");
    operator.look(4).await;
    drop(log);
    let text = lines.take();
    let lines: Vec<&str> = text.lines().collect();
    let about = |words: &str| -> Vec<&str> {
        let found = lines.iter().filter(|line| line.contains(words));
        found.copied().collect()
    };
    let notices = about("\"reason\":\"ConfigMapMissing\"");
    assert_eq!(notices.len(), 1, "{text}");
    let notice: serde_json::Value = serde_json::from_str(notices[0]).expect("JSON");
    let fields = &notice["fields"];
    assert_eq!(
        (&fields["namespace"], &fields["cluster"], &fields["gate"]),
        (&json!("shop"), &json!("orders"), &json!("Config"))
    );
    for field in ["namespace", "cluster", "gate", "reason", "message"] {
        let name = format!("\"{field}\":");
        assert_eq!(notices[0].matches(&name).count(), 1, "{}", notices[0]);
    }
    assert_eq!(about("STATUS: ").len(), 1, "{text}");
}

#[tokio::test]
async fn an_action_that_fails_for_ever_is_said_once_and_tried_with_pauses() {
    for (method, path) in [
        (Method::PATCH, "/serviceaccounts/"),
        (Method::PATCH, "/services/"),
        (Method::PATCH, "/networkpolicies/"),
        (Method::PATCH, "/configmaps/"),
        (Method::PATCH, "/poddisruptionbudgets/"),
        (Method::PATCH, "/statefulsets/"),
        (Method::POST, "/secrets"),
        (Method::GET, "/serviceaccounts/"),
        (Method::GET, "/services/"),
    ] {
        for (code, message) in [
            (403, "exceeded quota: pods, requested: count=1"),
            (422, "spec is invalid"),
            (500, "etcdserver: leader changed"),
            (429, "too many requests"),
        ] {
            let operator = Operator::new(vec![fault(method.clone(), path, code, message)]);
            let what = format!("{method} {path} {code}");
            operator.ensure_quiet(&what).await;
            let status = operator.status().to_string();
            assert!(status.contains(message), "{what}: {status}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_said_once() {
    for path in [
        "/statefulsets",
        "/pods",
        "/persistentvolumeclaims",
        "/aof2snapshots",
    ] {
        for code in [403, 500, 503] {
            let operator = Operator::new(Vec::new());
            operator.look(4).await;
            operator.server.lock().faults = vec![fault(Method::GET, path, code, "no answer")];
            operator.ensure_quiet(&format!("GET {path} {code}")).await;
        }
    }
}

#[tokio::test]
async fn a_foreign_object_is_named_once_and_what_does_not_rest_on_it_goes_on() {
    let operator = Operator::new(Vec::new());
    let foreign = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "orders-aof2", "namespace": "shop"}});
    operator.server.lock().put(SERVICE_ACCOUNT, foreign);
    operator.ensure_quiet("foreign").await;
    let status = operator.status();
    assert!(
        status["summary"]
            .as_str()
            .unwrap()
            .contains("ServiceAccount shop/orders-aof2 exists"),
        "{status}"
    );
    assert!(operator.is_there(SECRET), "certificates go on");
    assert!(!operator.is_there(SET), "a pod would not start");

    operator.server.lock().objects.remove(SERVICE_ACCOUNT);
    tokio::time::timeout(std::time::Duration::from_secs(90), async {
        while !operator.is_there(SET) {
            operator.look(1).await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("it goes on by itself");
    assert!(!operator.status().to_string().contains("ApplyFailed"));
}

#[tokio::test]
async fn an_object_that_is_being_deleted_is_not_written_to_and_said() {
    let operator = Operator::new(Vec::new());
    operator.look(4).await;
    {
        let mut server = operator.server.lock();
        let mut account = server.objects[SERVICE_ACCOUNT].clone();
        account["metadata"]["deletionTimestamp"] = json!("2026-09-21T10:00:00Z");
        account["metadata"]["finalizers"] = json!(["example.com/keep"]);
        server.put(SERVICE_ACCOUNT, account);
    }
    operator.memory.touches.touch("shop", "orders");
    operator.ensure_quiet("going").await;
    let status = operator.status().to_string();
    assert!(status.contains("is being deleted"), "{status}");
    assert_eq!(operator.count(Method::PATCH, "/serviceaccounts/"), 0);
}

#[tokio::test]
async fn a_template_that_the_server_cannot_type_is_an_invalid_spec_and_stops_nothing_else() {
    let message = "failed to create typed patch object: duplicate entries for key [name=\"A\"]";
    let operator = Operator::new(Vec::new());
    operator.look(4).await;
    {
        let mut server = operator.server.lock();
        let mut cluster = server.objects[CLUSTER].clone();
        cluster["spec"]["version"] = json!("0.1.1");
        cluster["status"]["certificates"][0]["renewAt"] = json!("2020-01-01T00:00:00Z");
        server.put(CLUSTER, cluster);
        server.faults = vec![fault(Method::PATCH, "/statefulsets/", 500, message)];
    }
    operator.memory.touches.touch("shop", "orders");
    operator.look(4).await;
    let status = operator.status();
    let spec_valid = status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|condition| condition["type"] == "SpecValid")
        .unwrap();
    assert_eq!(spec_valid["status"], "False");
    assert!(
        spec_valid["message"].as_str().unwrap().contains(message),
        "{spec_valid}"
    );
    assert!(
        status["certificates"][0]["renewAt"].as_str().unwrap() > "2021",
        "the certificate is renewed"
    );
    operator.ensure_quiet("typed").await;
}

#[tokio::test]
async fn a_deleted_stateful_set_is_recreated_as_it_was() {
    let operator = Operator::new(Vec::new());
    operator.look(4).await;
    let set = |operator: &Operator| operator.server.lock().objects.get(SET).cloned();
    let before = set(&operator).expect("a StatefulSet");
    {
        let mut store = operator.server.lock();
        let mut cluster = store.objects[CLUSTER].clone();
        cluster["spec"]["replicas"] = json!(1);
        cluster["spec"]["version"] = json!("0.1.1");
        cluster["spec"]["operation"] = json!({"mode": "Paused"});
        store.put(CLUSTER, cluster);
        store.objects.remove(SET);
    }
    operator.memory.touches.touch("shop", "orders");
    operator.look(3).await;
    assert_eq!(set(&operator), None, "paused");
    {
        let mut store = operator.server.lock();
        let mut cluster = store.objects[CLUSTER].clone();
        cluster["spec"]["operation"] = json!({"mode": "Active"});
        store.put(CLUSTER, cluster);
    }
    operator.memory.touches.touch("shop", "orders");
    // What it was made from cannot be read: nothing is made from the spec of today.
    operator.server.lock().faults = vec![fault(Method::GET, "/orders-kept-spec", 500, "etcd")];
    operator.look(3).await;
    assert_eq!(set(&operator), None, "unknown");
    operator.server.lock().faults.clear();
    operator.look(1).await;
    let after = set(&operator).expect("a StatefulSet");
    assert_eq!(after["spec"], before["spec"]);
}

/// The longest names that the API server takes: 40 for a cluster, 7 more for its schedule, 63 for a namespace.
#[tokio::test]
async fn every_object_of_the_longest_names_is_one_that_kubernetes_takes_and_a_failure_stops_no_other()
 {
    let (namespace, name, schedule) = ("n".repeat(63), "c".repeat(40), "s".repeat(7));
    let mut cluster = serde_json::to_value(testing::cluster()).expect("JSON");
    cluster["metadata"]["name"] = json!(name);
    cluster["metadata"]["namespace"] = json!(namespace);
    cluster["spec"]["replicas"] = json!(50);
    cluster["spec"]["snapshots"] =
        json!({"schedules": [{"name": schedule, "schedule": "* * * * *"}]});
    let path = format!("/apis/aof2.dev/v1alpha1/namespaces/{namespace}/aof2clusters/{name}");
    let operator = Operator::new(vec![fault(Method::POST, "/aof2snapshots", 422, "too long")]);
    operator.server.lock().put(&path, cluster);
    let look = async || {
        for _ in 0..4 {
            let Operator {
                context, memory, ..
            } = &operator;
            let _ = reconcile(context, memory, &namespace, &name).await;
        }
    };
    look().await;
    {
        let mut server = operator.server.lock();
        let set = format!("/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}");
        assert!(
            server.objects.contains_key(&set),
            "a snapshot that cannot be created holds up no pod"
        );
        server.faults.clear();
        // A slot has passed since.
        let mut cluster = server.objects[&path].clone();
        cluster["status"]["snapshots"]["schedules"][0]["lastSlot"] = json!("2026-09-21T10:00:00Z");
        server.put(&path, cluster);
    }
    operator.memory.touches.touch(&namespace, &name);
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while operator.count(Method::POST, "/aof2snapshots") < 2 {
            look().await;
            operator.memory.touches.touch(&namespace, &name);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("a snapshot is created");
    let server = operator.server.lock();
    let ours = server
        .objects
        .iter()
        .filter(|(path, _)| path.contains(&namespace));
    let mut kinds = std::collections::BTreeSet::new();
    for (path, object) in ours {
        let kind = path.rsplit('/').nth(1).unwrap_or_default();
        kinds.insert(kind.to_owned());
        ensure_takeable(kind, object);
    }
    let expected = [
        "aof2clusters",
        "aof2snapshots",
        "configmaps",
        "events",
        "networkpolicies",
        "poddisruptionbudgets",
        "secrets",
        "serviceaccounts",
        "services",
        "statefulsets",
    ];
    assert_eq!(
        kinds.iter().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
    // What Kubernetes makes from them: pods, their host names and labels, revisions, claims.
    let pod = crate::names::pod(&name, crate::names::MAX_ORDINAL);
    for made in [
        pod.clone(),
        format!("{name}-5d4f8c7b9f"),
        crate::names::claim("tier0", &pod),
    ] {
        assert!(made.len() <= 63, "{made}");
    }
    let certificate = crate::names::server_name(&uuid::Uuid::nil().to_string(), &namespace);
    assert!(certificate.len() <= 253 && certificate.split('.').all(|label| label.len() <= 63));
}

/// Names, label values and names of ports within what the API server takes, in the whole object.
fn ensure_takeable(kind: &str, object: &serde_json::Value) {
    let longest = if kind == "events" { 253 } else { 63 };
    let mut open = vec![(String::new(), object)];
    while let Some((key, value)) = open.pop() {
        match value {
            serde_json::Value::Object(fields) => {
                let is_labels = key.ends_with("labels") || key.ends_with("matchLabels");
                for (field, value) in fields {
                    if let Some(text) = value.as_str().filter(|_| is_labels) {
                        assert!(text.len() <= 63, "{kind}: label {field}={text}");
                    }
                    if let Some(text) = value.as_str().filter(|_| field == "name") {
                        let longest = if key.ends_with("ports") { 15 } else { longest };
                        assert!(text.len() <= longest, "{kind}: {key}.{field} {text}");
                    }
                    open.push((format!("{key}.{field}"), value));
                }
            }
            serde_json::Value::Array(items) => {
                open.extend(items.iter().map(|item| (key.clone(), item)));
            }
            _ => {}
        }
    }
}
