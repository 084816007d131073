//! What a pod's spec asks of its node, its cluster and its neighbours. A field that is null counts as absent, and so it is built
//! (`build::template`); what has the wrong type is left to the API server, whose words say more.

use aof2_crds::pod_template::PodTemplate;
use serde_json::{Map, Value};

use super::policy::text;
use super::{SpecError, Surroundings, container, items, security, volume};
use crate::names;

/// Annotations by which a container runtime, a device plugin or an injector gives more than the spec says.
const POWERFUL_ANNOTATIONS: [&str; 9] = [
    "cdi.k8s.io/",
    "io.containerd.",
    "io.katacontainers.",
    "io.kubernetes.cri-o.",
    "k8s.v1.cni.cncf.io/",
    "v1.multus-cni.io/",
    "seccomp.security.alpha.kubernetes.io/",
    "sidecar.istio.io/userVolume",
    "sidecar.istio.io/bootstrapOverride",
];
const PROFILE_ANNOTATIONS: [&str; 3] = [
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
];

pub(super) fn check(template: &PodTemplate, around: &Surroundings<'_>) -> Result<(), SpecError> {
    annotations(template, around)?;
    let spec = &template.spec;
    let policy = around.policy;
    let is_true = |key: &str| spec.get(key) == Some(&Value::Bool(true));
    for (field, why) in [
        ("hostNetwork", "The pod would have its node's network"),
        ("hostPID", "The pod would see its node's processes"),
        ("hostIPC", "The pod would share its node's memory segments"),
        ("hostUsers", "The pod would be forced into its node's users"),
        (
            "shareProcessNamespace",
            "Every container would reach the engine's keys and data",
        ),
    ] {
        if is_true(field) {
            policy.need(field, format!("spec.{field}"), "true", why)?;
        }
    }
    for key in ["serviceAccountName", "serviceAccount"] {
        if let Some(Value::String(name)) = spec.get(key)
            && *name != names::service_account(around.cluster)
        {
            let why = format!(
                "A pod has the rights of its service account; the cluster's own is {}",
                names::service_account(around.cluster)
            );
            policy.need("serviceAccountName", format!("spec.{key}"), name, &why)?;
        }
    }
    for (field, default, why) in [
        ("nodeName", "", "It passes over the scheduler"),
        (
            "schedulerName",
            "default-scheduler",
            "It passes over the scheduler",
        ),
        (
            "runtimeClassName",
            "",
            "It chooses how containers are isolated",
        ),
    ] {
        match spec.get(field) {
            Some(Value::String(value)) if !value.is_empty() && value != default => {
                policy.need(field, format!("spec.{field}"), value, why)?;
            }
            _ => {}
        }
    }
    if let Some(Value::String(class)) = spec.get("priorityClassName")
        && class.starts_with("system-")
    {
        let why = "It displaces the cluster's own pods";
        policy.need("priorityClassName", "spec.priorityClassName", class, why)?;
    }
    for (field, why) in [
        ("priority", "Only a priority class sets it"),
        ("resourceClaims", "It gives devices of the node"),
        (
            "ephemeralContainers",
            "They are for debugging a running pod",
        ),
    ] {
        match spec.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::Array(items)) if items.is_empty() => {}
            Some(_) => policy.need(field, format!("spec.{field}"), "", why)?,
        }
    }
    tolerations(spec, around)?;
    security::pod(spec, policy)?;
    for list in ["containers", "initContainers"] {
        for (index, item) in items(spec, list)?.iter().enumerate() {
            if let Some(fields) = item.as_object() {
                container::check(&format!("spec.{list}[{index}]"), fields, around)?;
            }
        }
    }
    for (index, item) in items(spec, "volumes")?.iter().enumerate() {
        if let Some(fields) = item.as_object() {
            volume::check(&format!("spec.volumes[{index}]"), fields, around)?;
        }
    }
    for (index, secret) in items(spec, "imagePullSecrets")?.iter().enumerate() {
        if let Some(name) = secret["name"].as_str() {
            around.check_secret(&format!("spec.imagePullSecrets[{index}].name"), name)?;
        }
    }
    Ok(())
}

fn annotations(template: &PodTemplate, around: &Surroundings<'_>) -> Result<(), SpecError> {
    for (key, value) in &template.metadata.annotations {
        let at = format!("metadata.annotations[{key}]");
        let is_profile = PROFILE_ANNOTATIONS
            .iter()
            .any(|prefix| key.starts_with(prefix));
        let is_strict = matches!(value.as_str(), "runtime/default" | "docker/default")
            || value.starts_with("localhost/");
        if is_profile {
            if !is_strict && !around.policy.permits("annotations", key) {
                let why = "It lifts the confinement of a container";
                return Err(refused_annotation(at, value, why, key));
            }
            continue;
        }
        let is_powerful = POWERFUL_ANNOTATIONS
            .iter()
            .any(|prefix| key.starts_with(prefix))
            || key
                .split('/')
                .next()
                .is_some_and(|domain| domain.ends_with("nri.io"));
        if is_powerful && !around.policy.permits("annotations", key) {
            let why = "By it the container runtime gives more than the pod's spec says";
            return Err(refused_annotation(at, value, why, key));
        }
    }
    Ok(())
}

fn refused_annotation(at: String, value: &str, why: &str, key: &str) -> SpecError {
    SpecError::new(
        at,
        crate::machine::bounded(value, 64),
        format!(
            "{why}. Remove it, or let the operator's administrator add annotations={key} to the chart's podTemplates.allow"
        ),
    )
}

/// Of every taint, or of the control plane's.
fn tolerations(spec: &Map<String, Value>, around: &Surroundings<'_>) -> Result<(), SpecError> {
    for (index, item) in items(spec, "tolerations")?.iter().enumerate() {
        if !item.is_object() {
            continue;
        }
        let key = item["key"].as_str().unwrap_or_default();
        if key.is_empty() || key.starts_with("node-role.kubernetes.io/") {
            let shown = if key.is_empty() {
                text(item)
            } else {
                key.to_owned()
            };
            let why = "It admits the pod to nodes of the control plane";
            let at = format!("spec.tolerations[{index}]");
            around.policy.need("tolerations", at, &shown, why)?;
        }
    }
    Ok(())
}
