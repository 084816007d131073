//! A container beside the engine.

use serde_json::{Map, Value};

use super::policy::text;
use super::{SpecError, Surroundings, items, security};
use crate::cluster::build::template::ENGINE_VOLUMES;

pub(super) fn check(
    at: &str,
    container: &Map<String, Value>,
    around: &Surroundings<'_>,
) -> Result<(), SpecError> {
    let policy = around.policy;
    security::container(at, container, policy)?;
    for (index, port) in list(container, "ports").iter().enumerate() {
        if let Some(port) = port["hostPort"].as_f64().filter(|port| *port != 0.0) {
            let at = format!("{at}.ports[{index}].hostPort");
            policy.need(
                "hostPort",
                at,
                port.to_string(),
                "It takes a port of the node",
            )?;
        }
        if let Some(ip) = port["hostIP"].as_str().filter(|ip| !ip.is_empty()) {
            let at = format!("{at}.ports[{index}].hostIP");
            policy.need("hostPort", at, ip, "It takes a port of the node")?;
        }
    }
    for (index, variable) in list(container, "env").iter().enumerate() {
        if let Some(name) = variable["valueFrom"]["secretKeyRef"]["name"].as_str() {
            let at = format!("{at}.env[{index}].valueFrom.secretKeyRef.name");
            around.check_secret(&at, name)?;
        }
    }
    for (index, source) in list(container, "envFrom").iter().enumerate() {
        if let Some(name) = source["secretRef"]["name"].as_str() {
            around.check_secret(&format!("{at}.envFrom[{index}].secretRef.name"), name)?;
        }
    }
    for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
        if mount["mountPropagation"] == "Bidirectional" {
            let at = format!("{at}.volumeMounts[{index}].mountPropagation");
            let why = "Mounts of the container would appear on its node";
            policy.need("mountPropagation", at, "Bidirectional", why)?;
        }
    }
    for (index, device) in items(container, "volumeDevices")?.iter().enumerate() {
        let name = device["name"].as_str().unwrap_or_default();
        if ENGINE_VOLUMES.contains(&name) {
            return Err(SpecError::new(
                format!("{at}.volumeDevices[{index}].name"),
                name,
                "Only the engine uses this volume; choose another name",
            ));
        }
    }
    if !list(&resources(container), "claims").is_empty() {
        let at = format!("{at}.resources.claims");
        policy.need("resourceClaims", at, "", "It gives devices of the node")?;
    }
    hosts(at, container, around)
}

fn resources(container: &Map<String, Value>) -> Map<String, Value> {
    match container.get("resources") {
        Some(Value::Object(resources)) => resources.clone(),
        _ => Map::new(),
    }
}

/// A probe or hook with a host of its own makes the kubelet call it, from the node's network.
fn hosts(
    at: &str,
    container: &Map<String, Value>,
    around: &Surroundings<'_>,
) -> Result<(), SpecError> {
    let probes = ["startupProbe", "readinessProbe", "livenessProbe"]
        .map(|probe| (probe.to_owned(), container.get(probe)));
    let hooks = ["postStart", "preStop"].map(|hook| {
        let lifecycle = container.get("lifecycle");
        (
            format!("lifecycle.{hook}"),
            lifecycle.and_then(|hooks| hooks.get(hook)),
        )
    });
    for (name, handler) in probes.into_iter().chain(hooks) {
        for kind in ["httpGet", "tcpSocket"] {
            let host = handler.and_then(|handler| handler[kind].get("host"));
            if let Some(host) = host.filter(|host| !host.is_null() && *host != "") {
                let at = format!("{at}.{name}.{kind}.host");
                let why = "The kubelet would call that host from its node";
                around.policy.need("host", at, text(host), why)?;
            }
        }
    }
    Ok(())
}

/// Of any other type: the API server says what is wrong.
fn list<'a>(fields: &'a Map<String, Value>, key: &str) -> &'a [Value] {
    fields
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}
