//! The real program in front of an API server in memory that holds many clusters and snapshots: its resident memory, and what it asks at rest.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Of each wait.
const LIMIT: Duration = Duration::from_secs(240);
/// Snapshots that are kept of a schedule.
const KEPT: usize = 48;
const AT: &str = "2026-09-21T10:00:00Z";

struct Server {
    clusters: usize,
    /// By path; what the operator wrote.
    objects: Mutex<BTreeMap<String, Value>>,
    version: Mutex<u64>,
    /// By method and what was asked for, watches and the Lease left out.
    calls: Mutex<BTreeMap<String, usize>>,
    called: Notify,
}

fn cluster(n: usize) -> Value {
    json!({
        "apiVersion": "aof2.dev/v1alpha1", "kind": "Aof2Cluster",
        "metadata": {
            "name": format!("team{n:04}"), "namespace": "shop", "uid": format!("0192f0aa-0000-7000-8000-{n:012}"), "generation": 1, "resourceVersion": "1",
            "creationTimestamp": AT,
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x".repeat(2000)},
        },
        "spec": {
            "replicas": 3, "version": "0.1.0",
            "tier2": {"endpoint": "http://s3.test:7070", "region": "us-east-1", "bucket": "aof2", "prefix": format!("prod/team{n:04}/"),
                "addressing": "Path", "credentials": {"secretRef": {"name": format!("team{n:04}-s3")}}},
            "storage": {"tier0": {"size": "20Gi", "accessMode": "ReadWriteOnce"}},
            "snapshots": {"schedules": [{"name": "catalog", "schedule": "0 0 1 1 *"}]},
        },
    })
}

/// As it is after success, with as many streams as status names. About 13 kB.
fn snapshot(n: usize) -> String {
    let (cluster, k) = (n / KEPT, n % KEPT);
    let mut streams = String::new();
    for s in 0..32 {
        let comma = if s == 0 { "" } else { "," };
        let digest = "ab".repeat(32);
        let _ = write!(
            streams,
            r#"{comma}{{"name":"stream-{s:02}","pod":"team{cluster:04}-{}","snapshotID":"0000000100000001","chunkIndex":7,"chunkOffset":4096,"durableSequence":123456,"uploadedSequence":123456,"bytes":4096,"key":"prod/team{cluster:04}/snapshots/stream-{s:02}/0000000100000001.json","digest":"sha256:{digest}"}}"#,
            s % 3
        );
    }
    let slot = format!("202608{:02}t{:02}00z", 1 + k / 24, k % 24);
    format!(
        r#"{{"apiVersion":"aof2.dev/v1alpha1","kind":"Aof2Snapshot","metadata":{{"name":"team{cluster:04}-catalog-{slot}","namespace":"shop","uid":"0192f0bb-0000-7000-8000-{n:012}","resourceVersion":"{}","generation":1,"creationTimestamp":"{AT}","labels":{{"app.kubernetes.io/name":"aof2","aof2.dev/cluster":"team{cluster:04}","aof2.dev/schedule":"catalog","aof2.dev/slot":"{slot}"}}}},"spec":{{"clusterRef":{{"name":"team{cluster:04}"}},"seal":"IfDirty","verify":"L1","activeDeadline":"1h"}},"status":{{"observedGeneration":1,"clusterID":"c","streamsTotal":32,"streamsDone":32,"streams":[{streams}],"indexKey":"prod/team{cluster:04}/snapshots/_index/x.json","timing":{{"startedAt":"{AT}","completedAt":"{AT}","verifiedAt":"{AT}"}},"conditions":[{{"type":"Succeeded","status":"True","reason":"Taken","message":"32 streams in the bucket","lastTransitionTime":"{AT}"}},{{"type":"Verified","status":"True","reason":"ReadBack","message":"32 streams verified at level L1","lastTransitionTime":"{AT}"}}]}}}}"#,
        n + 2
    )
}

impl Server {
    fn answer(&self, method: &Method, path: &str, query: &str, body: Value) -> (u16, String) {
        let parameter = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .filter(|(key, _)| *key == name)
                .map(|(_, value)| value)
                .next()
        };
        let plural = path.rsplit('/').next().unwrap_or_default();
        if *method == Method::GET && path.matches('/').count() <= 4 {
            // A list of every namespace.
            let from: usize = parameter("continue")
                .and_then(|at| at.parse().ok())
                .unwrap_or_default();
            let limit: usize = parameter("limit")
                .and_then(|at| at.parse().ok())
                .unwrap_or(usize::MAX);
            let (total, item): (usize, &dyn Fn(usize) -> String) = match plural {
                "aof2clusters" => (self.clusters, &|n| self.cluster(n).to_string()),
                "aof2snapshots" => (self.clusters * KEPT, &snapshot),
                _ => (0, &|_| String::new()),
            };
            let to = total.min(from.saturating_add(limit));
            let more = if to < total {
                to.to_string()
            } else {
                String::new()
            };
            let items: Vec<String> = (from..to).map(item).collect();
            return (
                200,
                format!(
                    r#"{{"apiVersion":"v1","kind":"List","metadata":{{"resourceVersion":"1","continue":"{more}"}},"items":[{}]}}"#,
                    items.join(",")
                ),
            );
        }
        let mut objects = self.objects.lock();
        let missing = || {
            (404, json!({"kind": "Status", "metadata": {}, "status": "Failure", "code": 404, "reason": "NotFound", "message": "not found"}).to_string())
        };
        let mut put = |path: &str, mut object: Value| {
            let mut version = self.version.lock();
            *version += 1;
            let metadata = &mut object["metadata"];
            if metadata["uid"].is_null() {
                metadata["uid"] = format!("uid-{version}").into();
            }
            metadata["resourceVersion"] = version.to_string().into();
            objects.insert(path.to_owned(), object.clone());
            object.to_string()
        };
        match *method {
            Method::GET => {
                if let Some(found) = objects.get(path) {
                    return (200, found.to_string());
                }
                if let Some(n) = path.split("/aof2clusters/team").nth(1) {
                    drop(objects);
                    return n
                        .parse()
                        .map_or_else(|_| missing(), |n| (200, self.cluster(n).to_string()));
                }
                match path
                    .split("/namespaces/")
                    .nth(1)
                    .unwrap_or_default()
                    .matches('/')
                    .count()
                {
                    1 => (
                        200,
                        json!({"metadata": {"resourceVersion": "1"}, "items": []}).to_string(),
                    ),
                    _ => missing(),
                }
            }
            Method::PUT if path.ends_with("/status") => {
                let path = path.trim_end_matches("/status");
                (200, put(path, body))
            }
            Method::POST => {
                let name = body["metadata"]["name"]
                    .as_str()
                    .unwrap_or("generated")
                    .to_owned();
                (201, put(&format!("{path}/{name}"), body))
            }
            _ => (200, put(path, body)),
        }
    }

    fn cluster(&self, n: usize) -> Value {
        let path = format!("/apis/aof2.dev/v1alpha1/namespaces/shop/aof2clusters/team{n:04}");
        self.objects
            .lock()
            .get(&path)
            .cloned()
            .unwrap_or_else(|| cluster(n))
    }
}

async fn answer(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let json = [(header::CONTENT_TYPE, "application/json")];
    if query.contains("watch=true") || query.contains("watch=1") {
        // Nothing ever happens.
        let silence = futures::stream::pending::<Result<Bytes, Infallible>>();
        return (json, Body::from_stream(silence)).into_response();
    }
    if !path.contains("/leases") {
        let kind = path
            .split('/')
            .filter(|part| !part.starts_with("team"))
            .collect::<Vec<_>>();
        let what = format!("{} {}", parts.method, kind.join("/"));
        *server.calls.lock().entry(what).or_default() += 1;
        server.called.notify_one();
    }
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (code, text) = server.answer(&parts.method, path, query, body);
    (StatusCode::from_u16(code).expect("a code"), json, text).into_response()
}

struct Operator {
    child: Child,
    /// Where its metrics are.
    http: SocketAddr,
    server: Arc<Server>,
    _directory: tempfile::TempDir,
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Operator {
    async fn start(clusters: usize) -> Self {
        let server = Arc::new(Server {
            clusters,
            objects: Mutex::default(),
            version: Mutex::new(1_000_000),
            calls: Mutex::default(),
            called: Notify::new(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let directory = tempfile::tempdir().expect("a directory");
        let kubeconfig = directory.path().join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "test", "user": {"token": "test"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        std::fs::write(&kubeconfig, config.to_string()).expect("written");
        // The operator takes it at once.
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let http = free.local_addr().expect("an address");
        drop(free);
        let child = Command::new(env!("CARGO_BIN_EXE_aof2-operator"))
            .args(["--namespace", "aof2", "--all-namespaces"])
            .arg("--http-address")
            .arg(http.to_string())
            .arg("--ca-directory")
            .arg(directory.path().join("ca"))
            .args(["--log", "warn"])
            .env("KUBECONFIG", &kubeconfig)
            .stderr(match std::env::var_os("AOF2_SCALE_LOG") {
                Some(_) => Stdio::inherit(),
                None => Stdio::null(),
            })
            .spawn()
            .expect("the operator");
        Self {
            child,
            http,
            server,
            _directory: directory,
        }
    }

    /// In MiB: now, and at most.
    fn memory(&self) -> (u64, u64) {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).expect("it runs");
        let of = |key: &str| {
            let line = text
                .lines()
                .find(|line| line.starts_with(key))
                .expect("a line");
            let number: u64 = line
                .split_whitespace()
                .nth(1)
                .and_then(|it| it.parse().ok())
                .expect("kB");
            number / 1024
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    /// Until nothing was asked for so long.
    async fn settle(&self, quiet: Duration) {
        let settled = async {
            self.server.called.notified().await;
            while timeout(quiet, self.server.called.notified()).await.is_ok() {}
        };
        let calls = &self.server.calls;
        let settled = timeout(LIMIT, settled).await;
        assert!(settled.is_ok(), "no rest: {:#?}", calls.lock());
    }

    /// Until so many clusters more were looked at.
    async fn looks(&self, more: u64) {
        let wanted = self.reconciles().await + more;
        let looked = async {
            let mut pause = tokio::time::interval(Duration::from_millis(500));
            while self.reconciles().await < wanted {
                pause.tick().await;
            }
        };
        let looked = timeout(LIMIT, looked).await;
        assert!(looked.is_ok(), "clusters at rest are not looked at");
    }

    async fn reconciles(&self) -> u64 {
        let mut stream = TcpStream::connect(self.http).await.expect("it listens");
        let request = "GET /metrics HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("asked");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("metrics");
        let lines = text
            .lines()
            .filter(|line| line.starts_with("aof2_operator_reconciles_total{"));
        let counts = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        counts.sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clusters_with_48_snapshots_each_stay_within_120_mib_and_ask_nothing_at_rest() {
    const CLUSTERS: usize = 1000;
    let operator = Operator::start(CLUSTERS).await;
    operator.settle(Duration::from_secs(5)).await;
    let started = operator.memory();
    operator.server.calls.lock().clear();
    // Each is looked at once a minute, or more often while its pods do not come.
    operator.looks(CLUSTERS as u64).await;
    let asked = operator.server.calls.lock().clone();
    let (now, most) = operator.memory();
    println!("after the start {started:?} MiB; at rest {now} MiB, at most {most}");
    assert_eq!(asked, BTreeMap::new(), "reads at rest");
    assert!(most <= 120, "{most} MiB");
}
