//! An API server in memory: objects by path, and which calls it fails. No controller runs behind it, so no pod ever comes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::{Json, Router};
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::args::Scope;
use crate::context::{Context, Settings};
use crate::engines::EngineClient;
use crate::kube::{Door, scope::Scopes};
use crate::pki::Authority;
use crate::runtime::metrics::Metrics;

/// A call that fails: its method, a part of its path, the code and the server's words.
#[derive(Clone)]
pub struct Fault {
    pub method: Method,
    pub path: &'static str,
    pub code: u16,
    pub message: &'static str,
}

#[derive(Default)]
pub struct Store {
    pub objects: BTreeMap<String, Value>,
    pub faults: Vec<Fault>,
    /// Method and path of everything that was asked.
    pub calls: Vec<(Method, String)>,
    version: u64,
}

pub type Server = Arc<Mutex<Store>>;

impl Store {
    pub fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        let known = self.objects.get(path);
        let uid = known
            .and_then(|known| known["metadata"]["uid"].as_str())
            .map_or_else(|| format!("uid-{}", self.version), str::to_owned);
        let metadata = &mut object["metadata"];
        metadata["uid"]
            .is_null()
            .then(|| metadata["uid"] = uid.into());
        metadata["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    pub fn count(&self, method: &Method, part: &str) -> usize {
        self.calls
            .iter()
            .filter(|(asked, path)| asked == method && path.contains(part))
            .count()
    }

    fn answer(&mut self, method: &Method, path: &str, query: &str, body: Value) -> (u16, Value) {
        self.calls.push((method.clone(), path.to_owned()));
        let fault = self
            .faults
            .iter()
            .find(|fault| fault.method == *method && path.contains(fault.path));
        if let Some(fault) = fault {
            return (fault.code, status(fault.code, fault.message));
        }
        let is_dry = query.contains("dryRun=All");
        match *method {
            Method::GET => match self.objects.get(path) {
                Some(object) => (200, object.clone()),
                None if is_list(path) => (200, self.list(path)),
                None => (404, status(404, "not found")),
            },
            Method::PATCH if is_dry => (200, body),
            Method::PATCH => (200, self.put(path, body)),
            Method::PUT if path.ends_with("/status") => {
                let path = path.trim_end_matches("/status");
                let Some(mut object) = self.objects.get(path).cloned() else {
                    return (404, status(404, "not found"));
                };
                let seen = &body["metadata"]["resourceVersion"];
                if object["metadata"]["resourceVersion"] != *seen {
                    return (409, status(409, "conflict"));
                }
                object["status"] = body["status"].clone();
                (200, self.put(path, object))
            }
            Method::POST => {
                let name = body["metadata"]["name"].as_str().unwrap_or("generated");
                let path = format!("{path}/{name}");
                match self.objects.contains_key(&path) {
                    true => (409, status(409, "already exists")),
                    false => (201, self.put(&path, body)),
                }
            }
            Method::DELETE => {
                self.objects.remove(path);
                (
                    200,
                    json!({"kind": "Status", "status": "Success", "metadata": {}, "code": 200, "message": "", "reason": ""}),
                )
            }
            _ => (200, self.put(path, body)),
        }
    }

    fn list(&self, path: &str) -> Value {
        let prefix = format!("{path}/");
        let items: Vec<&Value> = self
            .objects
            .iter()
            .filter(|(object, _)| object.starts_with(&prefix))
            .map(|(_, object)| object)
            .collect();
        json!({"metadata": {}, "items": items})
    }
}

/// `.../namespaces/<namespace>/<plural>`
fn is_list(path: &str) -> bool {
    let after = path.split("/namespaces/").nth(1).unwrap_or_default();
    after.split('/').count() == 2
}

fn status(code: u16, message: &str) -> Value {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "Test",
    };
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason, "message": message})
}

async fn answer(State(server): State<Server>, request: Request) -> (StatusCode, Json<Value>) {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let query = parts.uri.query().unwrap_or_default();
    let (code, answer) = server
        .lock()
        .answer(&parts.method, parts.uri.path(), query, body);
    let code = StatusCode::from_u16(code).expect("a code");
    (code, Json(answer))
}

pub fn client(server: &Server) -> Client {
    let router = Router::new().fallback(answer).with_state(server.clone());
    Client::new(router, "shop")
}

/// An operator in front of it.
pub fn context(server: &Server) -> Context {
    let client = client(server);
    let metrics = Arc::new(Metrics::default());
    let now = jiff::Timestamp::now();
    let authority = Arc::new(Authority::generate("storage", now).expect("an authority"));
    let settings = Settings {
        ca_secret: "aof2-operator-ca".to_owned(),
        pod_policy: Default::default(),
        operator_namespace: "storage".into(),
        allows_own_namespace: false,
        image_repository: "registry.test/aof2-engine".into(),
        users: Default::default(),
        epoch: 1,
    };
    Context {
        door: Door::new(client.clone(), "test", metrics.clone()),
        scopes: Scopes::new(
            client.clone(),
            "storage/aof2-operator".to_owned(),
            &Scope::All,
        ),
        reader: client,
        engines: EngineClient::new(authority.clone(), settings.client_name(), 1),
        authority,
        metrics,
        settings,
        sights: Default::default(),
    }
}
