//! `securityContext` of a pod and of a container: never weaker than Pod Security `restricted` in what gives power.

use serde_json::{Map, Value};

use super::SpecError;
use super::policy::text;
use crate::pod_policy::Policy;

/// Those that the kubelet takes for safe (Pod Security Standards).
const SAFE_SYSCTLS: [&str; 11] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_rmem",
];
const SAFE_SELINUX_TYPES: [&str; 5] = [
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];

pub(super) fn pod(spec: &Map<String, Value>, policy: &Policy) -> Result<(), SpecError> {
    let Some(Value::Object(fields)) = spec.get("securityContext") else {
        return Ok(());
    };
    let at = "spec.securityContext";
    common(at, fields, policy)?;
    for (index, sysctl) in list(fields, "sysctls").iter().enumerate() {
        let name = sysctl["name"].as_str().unwrap_or_default();
        if !SAFE_SYSCTLS.contains(&name) {
            let at = format!("{at}.sysctls[{index}].name");
            policy.need("sysctls", at, name, "It changes the node's kernel")?;
        }
    }
    Ok(())
}

pub(super) fn container(
    at: &str,
    container: &Map<String, Value>,
    policy: &Policy,
) -> Result<(), SpecError> {
    let Some(Value::Object(fields)) = container.get("securityContext") else {
        return Ok(());
    };
    let at = format!("{at}.securityContext");
    common(&at, fields, policy)?;
    for (field, why) in [
        ("privileged", "The container would have its node"),
        (
            "allowPrivilegeEscalation",
            "The container could gain rights",
        ),
    ] {
        if fields.get(field) == Some(&Value::Bool(true)) {
            policy.need(field, format!("{at}.{field}"), "true", why)?;
        }
    }
    if let Some(Value::Object(capabilities)) = fields.get("capabilities") {
        for capability in list(capabilities, "add") {
            let name = text(capability);
            if name != "NET_BIND_SERVICE" {
                let at = format!("{at}.capabilities.add");
                let why = "The container would have a part of root's rights";
                policy.need("capabilities", at, &name, why)?;
            }
        }
    }
    match fields.get("procMount") {
        Some(Value::String(mount)) if mount != "Default" => {
            let at = format!("{at}.procMount");
            policy.need("procMount", at, mount, "It uncovers the node's /proc")
        }
        _ => Ok(()),
    }
}

/// What both have.
fn common(at: &str, fields: &Map<String, Value>, policy: &Policy) -> Result<(), SpecError> {
    if fields.get("runAsNonRoot") == Some(&Value::Bool(false)) {
        let why = "Pods of a cluster do not run as root";
        policy.need("runAsNonRoot", format!("{at}.runAsNonRoot"), "false", why)?;
    }
    if fields.get("runAsUser").and_then(Value::as_f64) == Some(0.0) {
        let why = "Pods of a cluster do not run as root";
        policy.need("runAsUser", format!("{at}.runAsUser"), "0", why)?;
    }
    for field in ["seccompProfile", "appArmorProfile"] {
        let Some(Value::Object(profile)) = fields.get(field) else {
            continue;
        };
        match profile.get("type").and_then(Value::as_str) {
            Some("RuntimeDefault" | "Localhost") | None => {}
            Some(other) => {
                let why = "It lifts the confinement of a container";
                policy.need(field, format!("{at}.{field}.type"), other, why)?;
            }
        }
    }
    if let Some(Value::Object(options)) = fields.get("seLinuxOptions") {
        for (option, value) in options {
            let value = text(value);
            let is_safe = match option.as_str() {
                "type" => SAFE_SELINUX_TYPES.contains(&value.as_str()),
                "user" | "role" => value.is_empty(),
                _ => true,
            };
            if !is_safe && value != "null" {
                let at = format!("{at}.seLinuxOptions.{option}");
                let why = "It lifts the confinement of a container";
                policy.need("seLinuxOptions", at, &value, why)?;
            }
        }
    }
    match fields.get("windowsOptions") {
        None | Some(Value::Null) => Ok(()),
        Some(_) => {
            let at = format!("{at}.windowsOptions");
            policy.need("windowsOptions", at, "", "Engines run on Linux")
        }
    }
}

fn list<'a>(fields: &'a Map<String, Value>, key: &str) -> &'a [Value] {
    fields
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}
