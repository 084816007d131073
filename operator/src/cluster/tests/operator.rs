//! An operator in front of that API server.

use axum::http::Method;
use serde_json::json;

use super::*;

pub struct Operator {
    pub server: Server,
    pub context: Context,
    pub memory: Memory,
}

impl Operator {
    pub fn new(faults: Vec<Fault>) -> Self {
        let server = Server::default();
        let cluster = serde_json::to_value(testing::cluster()).expect("JSON");
        server.lock().put(CLUSTER, cluster);
        server.lock().faults = faults;
        Self {
            context: server::context(&server),
            server,
            memory: Memory {
                snapshots: std::sync::Arc::new(Known::without_any()),
                ..Memory::default()
            },
        }
    }

    pub async fn look(&self, times: usize) {
        for _ in 0..times {
            let _ = reconcile(&self.context, &self.memory, "shop", "orders").await;
        }
    }

    /// As the StatefulSet's controller does, and a kubelet that runs them.
    pub fn create_pods(&self) {
        let mut server = self.server.lock();
        let mut set = server.objects[SET].clone();
        let uid = set["metadata"]["uid"].clone();
        set["status"] = json!({"replicas": 3, "observedGeneration": 1});
        server.put(SET, set);
        for ordinal in 0..3 {
            let name = format!("orders-{ordinal}");
            let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "orders", "uid": uid, "controller": true});
            let pod = json!({"metadata": {"name": name, "namespace": "shop", "ownerReferences": [owner]},
                "spec": {"containers": [], "nodeName": "node-1"},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
            server.put(&format!("/api/v1/namespaces/shop/pods/{name}"), pod);
        }
        drop(server);
        self.memory.touches.touch("shop", "orders");
    }

    pub fn count(&self, method: Method, part: &str) -> usize {
        self.server.lock().count(&method, part)
    }

    pub fn is_there(&self, path: &str) -> bool {
        self.server.lock().objects.contains_key(path)
    }

    pub fn status(&self) -> serde_json::Value {
        self.server.lock().objects[CLUSTER]["status"].clone()
    }

    /// What is written in 20 looks once everything was said: nothing but tries of what fails, and those with pauses.
    pub async fn ensure_quiet(&self, what: &str) {
        self.look(8).await;
        self.server.lock().calls.clear();
        let before = self.status();
        self.look(20).await;
        assert_eq!(self.count(Method::PUT, "/status"), 0, "{what}: status");
        assert_eq!(self.count(Method::POST, "/events"), 0, "{what}: events");
        assert_eq!(self.status(), before, "{what}");
        let writes: Vec<_> = self
            .server
            .lock()
            .calls
            .iter()
            .filter(|(method, path)| *method != Method::GET && !path.ends_with("/events"))
            .cloned()
            .collect();
        assert!(writes.len() <= 8, "{what}: {writes:?}");
    }
}

pub fn fault(method: Method, path: &'static str, code: u16, message: &'static str) -> Fault {
    Fault {
        method,
        path,
        code,
        message,
    }
}
