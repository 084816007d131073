//! The pod: the engine, the user's containers beside it, and what both share.
//!
//! - With containers in `spec.podTemplate.spec` the engine is a native sidecar: an init container that goes on. It starts before the
//!   user's containers and stops after them. Without, it is the only container.
//! - The user's fields stay as they are; what the engine needs is added. Configuration is never part of the template.
//! - The **template digest** covers what the user asked for, not what this version of the operator makes of it: a newer operator
//!   that renders more does not restart pods, its additions ride with the next rollout.

use std::collections::BTreeMap;

use aof2_crds::Aof2ClusterSpec;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::names::{
    self, ADMIN_PORT, ENGINE_CONTAINER, HTTP_PORT, TEMPLATE_ANNOTATION, VERSION_ANNOTATION,
};
use crate::pod_policy::Users;
use crate::quantity::spell_alike;

const USER_ID: i64 = 65532;
/// Cluster Autoscaler keeps a node whose pods have local volumes that are not named here.
const LOCAL_VOLUMES_ANNOTATION: &str =
    "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
const SOCKET_VOLUMES: &str = "aof2-data-socket,aof2-admin-socket";
/// The application and the sidecar share it; a slow application leaves the engine what remains.
const MIN_GRACE_SECONDS: i64 = 60;
/// A replay may take an hour before the kubelet restarts the engine.
const STARTUP_SECONDS: i64 = 3600;

pub const DATA_DIRECTORY: &str = "/var/lib/aof2";
pub const TIER1_DIRECTORY: &str = "/var/lib/aof2-tier1";
pub const DATA_SOCKET_DIRECTORY: &str = "/run/aof2";
pub const ADMIN_SOCKET_DIRECTORY: &str = "/run/aof2-admin";
pub const CONFIG_DIRECTORY: &str = "/etc/aof2/config";
pub const TLS_DIRECTORY: &str = "/etc/aof2/tls";
pub const CREDENTIALS_DIRECTORY: &str = "/etc/aof2/s3-credentials";
pub const S3_CA_DIRECTORY: &str = "/etc/aof2/s3-ca";
pub const S3_CA_FILE: &str = "ca.crt";

pub const DATA_SOCKET_VOLUME: &str = "aof2-data-socket";
/// Volumes, and volume claims, that only the engine mounts.
pub const ENGINE_VOLUMES: [&str; 7] = [
    "tier0",
    "tier1",
    "aof2-admin-socket",
    "aof2-config",
    "aof2-tls",
    "aof2-s3-credentials",
    "aof2-s3-ca",
];

/// What the command line says about every pod.
#[derive(Clone, Copy, Debug)]
pub struct Platform<'a> {
    /// Of clusters without `spec.image.repository`.
    pub repository: &'a str,
    pub users: Users,
}

/// `repository:version` of the engine.
pub fn image(spec: &Aof2ClusterSpec, default_repository: &str) -> String {
    let repository = if spec.image.repository.is_empty() {
        default_repository
    } else {
        &spec.image.repository
    };
    format!("{repository}:{}", spec.version)
}

/// Digest of everything in the spec that a running pod cannot take up; quantities count by their value.
pub fn digest(spec: &Aof2ClusterSpec, default_repository: &str) -> String {
    let tier2 = spec
        .tier2
        .as_ref()
        .map(|tier2| json!({"credentials": tier2.credentials, "caBundle": tier2.ca_bundle}));
    let mut asked = json!({
        "image": image(spec, default_repository),
        "pullPolicy": spec.image.pull_policy,
        "pullSecrets": spec.image.pull_secrets,
        "resources": spec.resources,
        "podTemplate": spec.pod_template,
        "tier1": spec.storage.tier1.is_some(),
        "tier2": tier2,
    });
    spell_alike(&mut asked);
    // Maps of serde_json are ordered, so that the text is canonical.
    hex::encode(&Sha256::digest(asked.to_string())[..5])
}

/// The `template` of the StatefulSet. `spec.podTemplate` has passed `validate`.
pub fn build(cluster: &str, spec: &Aof2ClusterSpec, platform: Platform<'_>) -> Value {
    let mut pod = spec.pod_template.spec.clone();
    pod.values_mut().for_each(drop_nulls);
    pod.retain(|_, value| !value.is_null());
    share_with(&mut pod, "containers");
    share_with(&mut pod, "initContainers");
    place_engine(&mut pod, engine(spec, platform));

    let volumes = list(&mut pod, "volumes");
    volumes.extend(engine_volumes(cluster, spec));

    let grace = pod
        .get("terminationGracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or_default()
        .max(MIN_GRACE_SECONDS);
    pod.insert("terminationGracePeriodSeconds".into(), grace.into());
    default(
        &mut pod,
        "serviceAccountName",
        names::service_account(cluster).into(),
    );
    default(&mut pod, "automountServiceAccountToken", false.into());
    default(&mut pod, "affinity", spread(cluster));
    if !spec.image.pull_secrets.is_empty() {
        list(&mut pod, "imagePullSecrets").extend(
            spec.image
                .pull_secrets
                .iter()
                .map(|secret| json!({"name": secret.name})),
        );
    }
    let security = pod.entry("securityContext").or_insert_with(|| json!({}));
    if let Value::Object(security) = security {
        default(security, "runAsNonRoot", true.into());
        if platform.users == Users::Fixed {
            default(security, "fsGroup", USER_ID.into());
        }
        // Without it the kubelet walks the whole volume at every start.
        default(security, "fsGroupChangePolicy", "OnRootMismatch".into());
        default(
            security,
            "seccompProfile",
            json!({"type": "RuntimeDefault"}),
        );
    }

    let labels = labels(cluster, spec);
    let mut annotations = spec.pod_template.metadata.annotations.clone();
    annotations.insert(
        TEMPLATE_ANNOTATION.to_owned(),
        digest(spec, platform.repository),
    );
    annotations.insert(VERSION_ANNOTATION.to_owned(), spec.version.clone());
    annotations.insert(
        "kubectl.kubernetes.io/default-container".to_owned(),
        first_container(&pod),
    );
    // Sockets only: a node with this pod may be scaled away. The user's own volumes stay the user's decision.
    annotations
        .entry(LOCAL_VOLUMES_ANNOTATION.to_owned())
        .and_modify(|named| *named = format!("{SOCKET_VOLUMES},{named}"))
        .or_insert_with(|| SOCKET_VOLUMES.to_owned());
    json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": pod})
}

/// Of each pod. Those of the operator win.
pub fn labels(cluster: &str, spec: &Aof2ClusterSpec) -> BTreeMap<String, String> {
    let mut labels = spec.pod_template.metadata.labels.clone();
    labels.extend(names::labels(cluster));
    labels
}

/// For the API server a field that is null is absent; here it must not stand in the place of what is added.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn engine(spec: &Aof2ClusterSpec, platform: Platform<'_>) -> Value {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let probe = |path: &str, period: i64, failures: i64, timeout: i64| {
        json!({
            "httpGet": {"path": path, "port": "http-metrics"},
            "periodSeconds": period, "failureThreshold": failures, "timeoutSeconds": timeout,
        })
    };
    let mut mounts = vec![
        json!({"name": "tier0", "mountPath": DATA_DIRECTORY}),
        json!({"name": DATA_SOCKET_VOLUME, "mountPath": DATA_SOCKET_DIRECTORY}),
        json!({"name": "aof2-admin-socket", "mountPath": ADMIN_SOCKET_DIRECTORY}),
        json!({"name": "aof2-config", "mountPath": CONFIG_DIRECTORY, "readOnly": true}),
        json!({"name": "aof2-tls", "mountPath": TLS_DIRECTORY, "readOnly": true}),
    ];
    if spec.storage.tier1.is_some() {
        mounts.push(json!({"name": "tier1", "mountPath": TIER1_DIRECTORY}));
    }
    if let Some(tier2) = &spec.tier2 {
        mounts.push(json!({"name": "aof2-s3-credentials", "mountPath": CREDENTIALS_DIRECTORY, "readOnly": true}));
        if tier2.ca_bundle.is_some() {
            mounts.push(
                json!({"name": "aof2-s3-ca", "mountPath": S3_CA_DIRECTORY, "readOnly": true}),
            );
        }
    }
    let mut security = json!({
        "runAsNonRoot": true, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    });
    if platform.users == Users::Fixed {
        security["runAsUser"] = USER_ID.into();
        security["runAsGroup"] = USER_ID.into();
    }
    json!({
        "name": ENGINE_CONTAINER,
        "image": image(spec, platform.repository),
        "imagePullPolicy": spec.image.pull_policy.as_str(),
        "args": ["run", "--config", format!("{CONFIG_DIRECTORY}/$(POD_NAME).toml")],
        "env": [field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace")],
        "ports": [
            {"name": "https-admin", "containerPort": ADMIN_PORT, "protocol": "TCP"},
            {"name": "http-metrics", "containerPort": HTTP_PORT, "protocol": "TCP"},
        ],
        "resources": spec.resources,
        "startupProbe": probe("/readyz", 1, STARTUP_SECONDS, 2),
        "readinessProbe": probe("/readyz", 2, 2, 2),
        "livenessProbe": probe("/livez", 10, 6, 5),
        "lifecycle": {"preStop": {"exec": {"command": ["/usr/bin/aof2-admin", "prestop"]}}},
        "securityContext": security,
        "terminationMessagePolicy": "File",
        "volumeMounts": mounts,
    })
}

fn engine_volumes(cluster: &str, spec: &Aof2ClusterSpec) -> Vec<Value> {
    let mut volumes = vec![
        json!({"name": DATA_SOCKET_VOLUME, "emptyDir": {}}),
        json!({"name": "aof2-admin-socket", "emptyDir": {}}),
        json!({"name": "aof2-config", "configMap": {"name": names::active_config(cluster)}}),
        json!({"name": "aof2-tls", "secret": {"secretName": names::tls_secret(cluster), "optional": true, "defaultMode": 0o440}}),
    ];
    if let Some(tier2) = &spec.tier2 {
        volumes.push(json!({"name": "aof2-s3-credentials", "secret": {"secretName": tier2.credentials.secret_ref.name, "defaultMode": 0o440}}));
        if let Some(bundle) = &tier2.ca_bundle {
            let reference = &bundle.config_map_ref;
            volumes.push(json!({
                "name": "aof2-s3-ca",
                "configMap": {"name": reference.name, "items": [{"key": reference.key, "path": S3_CA_FILE}]},
            }));
        }
    }
    volumes
}

fn place_engine(pod: &mut Map<String, Value>, mut engine: Value) {
    if list(pod, "containers").is_empty() {
        list(pod, "containers").push(engine);
    } else {
        engine["restartPolicy"] = "Always".into();
        list(pod, "initContainers").insert(0, engine);
    }
}

/// The data socket, and what Pod Security `restricted` asks for unless the user said something else.
fn share_with(pod: &mut Map<String, Value>, which: &str) {
    if !pod.contains_key(which) {
        return;
    }
    for container in list(pod, which).iter_mut().filter_map(Value::as_object_mut) {
        let mounts = list(container, "volumeMounts");
        if !mounts
            .iter()
            .any(|mount| mount["name"] == DATA_SOCKET_VOLUME)
        {
            mounts.push(json!({"name": DATA_SOCKET_VOLUME, "mountPath": DATA_SOCKET_DIRECTORY}));
        }
        if let Value::Object(security) = container
            .entry("securityContext")
            .or_insert_with(|| json!({}))
        {
            default(security, "allowPrivilegeEscalation", false.into());
            default(security, "capabilities", json!({"drop": ["ALL"]}));
        }
    }
}

/// Pods of one cluster on different nodes, where there are some.
fn spread(cluster: &str) -> Value {
    json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100,
        "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": names::selector(cluster)}},
    }]}})
}

fn first_container(pod: &Map<String, Value>) -> String {
    pod.get("containers")
        .and_then(|containers| containers[0]["name"].as_str())
        .unwrap_or(ENGINE_CONTAINER)
        .to_owned()
}

fn default(fields: &mut Map<String, Value>, key: &str, value: Value) {
    fields.entry(key).or_insert(value);
}

/// The list under `key`; anything else there is replaced, which `validate` has ruled out.
fn list<'a>(fields: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    let entry = fields
        .entry(key)
        .or_insert_with(|| Value::Array(Vec::new()));
    if !entry.is_array() {
        *entry = Value::Array(Vec::new());
    }
    match entry {
        Value::Array(items) => items,
        _ => unreachable!("made an array above"),
    }
}
