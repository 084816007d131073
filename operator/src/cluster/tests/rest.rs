//! What is read: nothing at rest, and of pods that do not serve what no watch tells.

use super::*;

#[tokio::test]
async fn nodes_are_asked_about_pods_that_do_not_serve_and_without_that_right_pods_have_to_do() {
    let look_up = async |operator: &Operator, is_ready: bool| {
        let mut pods = testing::at_rest().pods;
        pods.truncate(1);
        pods[0].is_ready = is_ready;
        crate::cluster::nodes::look_up(&operator.context, &mut pods).await;
        (pods[0].is_on_lost_node, pods[0].node_trouble.clone())
    };
    let operator = Operator::new(Vec::new());
    assert_eq!(look_up(&operator, true).await, (false, None));
    assert_eq!(operator.count(Method::GET, "/nodes/"), 0, "it serves");
    let (is_lost, what) = look_up(&operator, false).await;
    assert!(is_lost && what.is_some(), "{what:?}");
    let ready = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    operator.server.lock().put("/api/v1/nodes/node-1", ready);
    assert_eq!(look_up(&operator, false).await, (false, None));
    for code in [403, 500] {
        operator.server.lock().faults = vec![fault(Method::GET, "/nodes/", code, "no")];
        assert_eq!(look_up(&operator, false).await, (false, None), "{code}");
    }
}

#[tokio::test]
async fn what_the_controller_was_answered_about_a_missing_pod_is_read_from_its_event() {
    let operator = Operator::new(Vec::new());
    operator.look(4).await;
    let note = "create Pod orders-1 in StatefulSet orders failed error: pods \"orders-1\" is forbidden: exceeded quota: tight, requested: pods=1, used: pods=2, limited: pods=2";
    let event = json!({"metadata": {"name": "e", "namespace": "shop"}, "reason": "FailedCreate", "note": note, "eventTime": null});
    operator.create_pods();
    {
        let mut server = operator.server.lock();
        server
            .objects
            .remove("/api/v1/namespaces/shop/pods/orders-1");
        server.put("/apis/events.k8s.io/v1/namespaces/shop/events/e", event);
    }
    operator.look(2).await;
    let status = operator.status();
    let summary = status["summary"].as_str().unwrap_or_default();
    assert!(
        summary.contains("does not create orders-1 (exceeded quota: tight"),
        "{summary}"
    );
    operator.look(4).await;
    operator.server.lock().calls.clear();
    operator.look(1).await;
    assert!(
        operator.count(Method::GET, "/events") > 0,
        "no watch tells of Events"
    );
    // Without the right to read Events, pods that are missing have to do.
    let operator = Operator::new(vec![fault(Method::GET, "/events", 403, "no")]);
    operator.look(4).await;
    assert!(operator.is_there(SET));
}

#[tokio::test]
async fn a_cluster_at_rest_is_polled_without_a_read_and_a_change_is_read_at_once() {
    let operator = Operator::new(Vec::new());
    operator.look(4).await;
    operator.server.lock().calls.clear();
    operator.look(20).await;
    let calls = operator.server.lock().calls.clone();
    assert_eq!(calls, [], "at rest");
    // A watch tells of what belongs to it; of another cluster nothing is read.
    operator.memory.touches.touch("shop", "carts");
    operator.look(1).await;
    assert_eq!(operator.server.lock().calls, [], "of another cluster");
    operator.server.lock().objects.remove(SERVICE_ACCOUNT);
    operator.memory.touches.touch("shop", "orders");
    operator.look(1).await;
    assert!(operator.is_there(SERVICE_ACCOUNT));
    // And so does a watch that was interrupted, of everything.
    operator.look(4).await;
    operator.server.lock().objects.remove(SERVICE_ACCOUNT);
    operator.memory.touches.touch_all();
    operator.look(1).await;
    assert!(operator.is_there(SERVICE_ACCOUNT));
}
