//! The real program in front of an API server in memory that holds many clusters and snapshots: its resident memory, and what it asks at rest.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};

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

    fn total(&self) -> usize {
        self.calls.lock().values().sum()
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
    }
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (code, text) = server.answer(&parts.method, path, query, body);
    (StatusCode::from_u16(code).expect("a code"), json, text).into_response()
}

struct Operator {
    child: Child,
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
        let child = Command::new(env!("CARGO_BIN_EXE_aof2-operator"))
            .args([
                "--namespace",
                "aof2",
                "--all-namespaces",
                "--http-address",
                "127.0.0.1:0",
            ])
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
    async fn settle(&self, quiet: Duration, limit: Duration) {
        let began = Instant::now();
        let (mut total, mut since) = (0, Instant::now());
        while total == 0 || since.elapsed() < quiet {
            assert!(
                began.elapsed() < limit,
                "it does not come to rest: {:#?}",
                self.server.calls.lock()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = self.server.total();
            if now != total {
                (total, since) = (now, Instant::now());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_grows_by_little_for_each_cluster_and_snapshot() {
    let of = async |clusters| {
        let operator = Operator::start(clusters).await;
        operator
            .settle(Duration::from_secs(4), Duration::from_secs(120))
            .await;
        operator.memory()
    };
    let (few, many) = (of(1).await, of(81).await);
    println!(
        "MiB resident, and at most: {few:?} for 1 cluster, {many:?} for 81 with {KEPT} snapshots each"
    );
    // 80 clusters and 3,840 snapshots, of which the lists alone have 50 MB.
    assert!(many.0 <= few.0 + 14, "{few:?} {many:?}");
    assert!(many.1 <= few.1 + 30, "{few:?} {many:?}");
}

/// `cargo test -p aof2-operator --test scale -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn a_thousand_clusters_with_48_snapshots_each_stay_within_120_mib_and_ask_nothing_at_rest() {
    let count =
        std::env::var("AOF2_SCALE_CLUSTERS").map_or(1000, |count| count.parse().expect("a number"));
    let operator = Operator::start(count).await;
    operator
        .settle(Duration::from_secs(80), Duration::from_secs(560))
        .await;
    println!(
        "after the start: {:?} MiB, {:#?}",
        operator.memory(),
        operator.server.calls.lock()
    );
    operator.server.calls.lock().clear();
    tokio::time::sleep(Duration::from_secs(90)).await;
    let asked = operator.server.calls.lock().clone();
    let (now, most) = operator.memory();
    println!("at rest: {now} MiB, at most {most}, asked in 90 s: {asked:?}");
    assert_eq!(asked, BTreeMap::new(), "reads at rest");
    assert!(most <= 120, "{most} MiB");
}
