//! The app beside the engine: `aof2-admin load`, which appends over the Unix socket and sends every acknowledgement to the
//! collector.

use std::net::SocketAddr;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::engine::DATA_SOCKET;
use crate::environment::Environment;
use crate::kubectl::Output;

/// What stands after the pod's name in the names of its streams.
pub const STREAM_SUFFIXES: [&str; 2] = ["a", "b"];

/// `spec.podTemplate` with a writer that appends `rate` records a second to each stream of its pod.
pub fn pod_template(environment: &Environment, collector: SocketAddr, rate: u32) -> Value {
    json!({"spec": {"containers": [container(environment, collector, rate)]}})
}

fn container(environment: &Environment, collector: SocketAddr, rate: u32) -> Value {
    let mut arguments = vec![
        "load".to_owned(),
        "--socket".to_owned(),
        DATA_SOCKET.to_owned(),
    ];
    for suffix in STREAM_SUFFIXES {
        // Kubernetes expands it; the name of a stream has to be unique in the cluster.
        arguments.extend(["--stream".to_owned(), format!("$(POD_NAME)-{suffix}")]);
    }
    arguments.extend([
        "--rate".to_owned(),
        rate.to_string(),
        "--collector".to_owned(),
        collector.to_string(),
    ]);
    json!({
        "name": "writer",
        "image": environment.engine_image(),
        "command": ["/usr/bin/aof2-admin"],
        "args": arguments,
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
            "runAsUser": 65532, "runAsGroup": 65532, "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    })
}

/// Streams that an app opens besides, in every pod.
const MORE_STREAMS: u32 = 24;
/// Records a second and in all of each; a few minutes' worth.
const MORE_RATE: &str = "5";
const MORE_RECORDS: &str = "1000";

/// `tier0.cluster_max_bytes` just above what a pod uses, and what the engine takes at least. The share of a pod is less than the first blocks
/// of `MORE_STREAMS` streams then.
pub fn tight_budget(used_bytes: u64, replicas: u32) -> u64 {
    ((used_bytes + 65_536) * u64::from(replicas)).max(1 << 20)
}

/// Every pod opens a few more streams and appends to them, until what is returned is dropped. A stream that is new needs room at
/// once, so that a pod without any refuses it at once.
pub fn open_more_streams(cluster: &Cluster, replicas: u32) -> JoinSet<Result<Output>> {
    let mut loads = JoinSet::new();
    for ordinal in 0..replicas {
        let pod = cluster.pod(ordinal);
        let engine = cluster.engine(&pod);
        loads.spawn(async move {
            let names: Vec<String> = (0..MORE_STREAMS)
                .map(|index| format!("{pod}-more-{index}"))
                .collect();
            let mut arguments = vec![
                "load",
                "--socket",
                DATA_SOCKET,
                "--rate",
                MORE_RATE,
                "--count",
                MORE_RECORDS,
            ];
            arguments.extend(names.iter().flat_map(|name| ["--stream", name.as_str()]));
            engine.admin(&arguments, None).await
        });
    }
    loads
}

/// Streams of a cluster with `replicas` pods, with the pod that each lives in.
pub fn streams(cluster: &str, replicas: u32) -> Vec<(String, String)> {
    let pods = (0..replicas).map(|ordinal| format!("{cluster}-{ordinal}"));
    pods.flat_map(|pod| STREAM_SUFFIXES.map(|suffix| (format!("{pod}-{suffix}"), pod.clone())))
        .collect()
}
