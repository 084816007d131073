//! The app beside the engine: `aof2-admin load`, which appends over the Unix socket and sends every acknowledgement to the
//! collector.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::engine::DATA_SOCKET;
use crate::environment::Environment;

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

/// Streams of a cluster with `replicas` pods, with the pod that each lives in.
pub fn streams(cluster: &str, replicas: u32) -> Vec<(String, String)> {
    let pods = (0..replicas).map(|ordinal| format!("{cluster}-{ordinal}"));
    pods.flat_map(|pod| STREAM_SUFFIXES.map(|suffix| (format!("{pod}-{suffix}"), pod.clone())))
        .collect()
}
