use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::*;

/// An API server that has nothing, and then tells of `object` whoever watches for it.
fn client(plural: &'static str, object: Value) -> Client {
    let answer = move |request: Request| {
        let uri = request.uri();
        let query = uri.query().unwrap_or_default();
        let object = object.clone();
        let labels = object["metadata"]["labels"].as_object();
        let is_selected = !query.contains("labelSelector") || labels.is_some();
        let response: Response = if !query.contains("watch=true") {
            axum::Json(json!({"metadata": {"resourceVersion": "1"}, "items": []})).into_response()
        } else {
            let is_told = uri.path().ends_with(plural) && is_selected;
            let event =
                is_told.then(|| format!("{}\n", json!({"type": "ADDED", "object": object})));
            let events = event.map(|event| Ok::<_, Infallible>(Bytes::from(event)));
            let silence = stream::pending();
            Body::from_stream(stream::iter(events).chain(silence)).into_response()
        };
        std::future::ready(response)
    };
    Client::new(Router::new().fallback(answer), "shop")
}

/// Is the cluster `orders` looked at, and read again, as soon as somebody writes the object?
async fn is_noticed(plural: &'static str, mut object: Value) -> bool {
    object["metadata"]["namespace"] = json!("shop");
    object["metadata"]["resourceVersion"] = json!("2");
    let memory = Arc::new(Memory::default());
    let scope = Scope::Namespace("shop".to_owned());
    let client = client(plural, object);
    let reads = ["aof2-toml".to_owned(), "tier0-orders-0".to_owned()];
    memory
        .touches
        .follow("shop", "orders", BTreeSet::from(reads));
    let mut triggers = triggers(&client, &scope, &memory);
    let told = async {
        let is_orders = |cluster: &ObjectRef<Guarded>| {
            cluster.name == "orders" && cluster.namespace.as_deref() == Some("shop")
        };
        while !triggers.next().await.as_ref().is_some_and(is_orders) {}
    };
    let mark = memory.touches.mark("shop", "orders");
    let told = tokio::time::timeout(Duration::from_millis(500), told).await;
    let is_touched = !mark.is_same(memory.touches.mark("shop", "orders"), false);
    told.is_ok() && is_touched
}

fn named(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

#[tokio::test]
async fn a_network_policy_of_somebody_else_is_noticed_by_every_cluster_that_it_may_isolate() {
    assert!(is_noticed("networkpolicies", named("default-deny")).await);
    let mut copied = named("copied");
    copied["metadata"]["labels"] =
        json!({"app.kubernetes.io/name": "aof2", "aof2.dev/cluster": "carts"});
    assert!(
        is_noticed("networkpolicies", copied).await,
        "labels like ours"
    );
}

#[tokio::test]
async fn what_carries_no_label_is_noticed_by_its_name_or_its_owner() {
    assert!(is_noticed("configmaps", named("aof2-toml")).await);
    assert!(is_noticed("persistentvolumeclaims", named("tier0-orders-0")).await);
    let mut unlabelled = named("orders-0-aof2");
    unlabelled["metadata"]["ownerReferences"] = json!([{"apiVersion": "aof2.dev/v1alpha1", "kind": "Aof2Cluster", "name": "orders", "uid": "u"}]);
    assert!(is_noticed("configmaps", unlabelled).await);
    assert!(!is_noticed("configmaps", named("somebody-elses")).await);
}
