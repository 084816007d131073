//! What the API server cannot refuse for us: fields of `spec.podTemplate` that the engine needs for itself.

use aof2_crds::{Aof2ClusterSpec, labels};
use serde_json::{Map, Value};

use crate::cluster::build::template::{DATA_SOCKET_VOLUME, ENGINE_VOLUMES};
use crate::names::ENGINE_CONTAINER;

/// A field, its value, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec.podTemplate.{field} is {value}. {remedy}")]
pub struct SpecError {
    pub field: String,
    pub value: String,
    pub remedy: String,
}

impl SpecError {
    fn new(
        field: impl Into<String>,
        value: impl std::fmt::Display,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            value: value.to_string(),
            remedy: remedy.into(),
        }
    }
}

pub fn validate(spec: &Aof2ClusterSpec) -> Result<(), SpecError> {
    let template = &spec.pod_template;
    for key in template
        .metadata
        .labels
        .keys()
        .chain(template.metadata.annotations.keys())
    {
        let is_ours = key.starts_with("aof2.dev/")
            || [
                labels::APP_NAME,
                labels::APP_INSTANCE,
                labels::APP_MANAGED_BY,
            ]
            .contains(&key.as_str());
        if is_ours {
            return Err(SpecError::new(
                "metadata",
                key,
                "The operator owns this name; choose another",
            ));
        }
    }
    for list in ["containers", "initContainers"] {
        for (index, container) in items(&template.spec, list)?.iter().enumerate() {
            check_container(&format!("spec.{list}[{index}]"), container)?;
        }
    }
    for (index, volume) in items(&template.spec, "volumes")?.iter().enumerate() {
        let name = volume["name"].as_str().unwrap_or_default();
        if ENGINE_VOLUMES.contains(&name) || name == DATA_SOCKET_VOLUME {
            return Err(SpecError::new(
                format!("spec.volumes[{index}].name"),
                name,
                "The operator owns this volume; choose another name",
            ));
        }
    }
    items(&template.spec, "imagePullSecrets")?;
    match template.spec.get("restartPolicy") {
        None => Ok(()),
        Some(policy) if policy == "Always" => Ok(()),
        Some(policy) => Err(SpecError::new(
            "spec.restartPolicy",
            policy,
            "Pods of a cluster always restart; remove it",
        )),
    }
}

fn check_container(field: &str, container: &Value) -> Result<(), SpecError> {
    let Some(container) = container.as_object() else {
        return Err(SpecError::new(field, container, "Set a container"));
    };
    let name = container
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if name == ENGINE_CONTAINER {
        return Err(SpecError::new(
            format!("{field}.name"),
            name,
            "The operator adds the engine itself; choose another name",
        ));
    }
    for (index, mount) in items(container, "volumeMounts")
        .map_err(|error| SpecError {
            field: format!("{field}.{}", error.field),
            ..error
        })?
        .iter()
        .enumerate()
    {
        let name = mount["name"].as_str().unwrap_or_default();
        if ENGINE_VOLUMES.contains(&name) {
            let remedy = format!(
                "Only the engine mounts this volume; use the socket in volume {DATA_SOCKET_VOLUME} instead"
            );
            return Err(SpecError::new(
                format!("{field}.volumeMounts[{index}].name"),
                name,
                remedy,
            ));
        }
    }
    Ok(())
}

fn items<'a>(fields: &'a Map<String, Value>, key: &str) -> Result<&'a [Value], SpecError> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(SpecError::new(key, other, "Set a list")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(template: Value) -> Result<(), String> {
        let spec = serde_json::from_value(json!({
            "replicas": 1, "version": "0.1.0", "storage": {"tier0": {"size": "1Gi"}}, "podTemplate": template,
        }))
        .unwrap();
        validate(&spec).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_engine_needs_for_itself_is_refused_with_field_value_and_remedy() {
        for (template, words) in [
            (
                json!({"metadata": {"labels": {"aof2.dev/cluster": "x"}}}),
                ["metadata", "aof2.dev/cluster", "choose another"],
            ),
            (
                json!({"spec": {"containers": [{"name": "aof2-engine"}]}}),
                [
                    "spec.containers[0].name",
                    "aof2-engine",
                    "adds the engine itself",
                ],
            ),
            (
                json!({"spec": {"containers": {"name": "x"}}}),
                ["containers", "{\"name\":\"x\"}", "a list"],
            ),
            (
                json!({"spec": {"initContainers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "tier0"}]}]}}),
                [
                    "spec.initContainers[1].volumeMounts[0].name",
                    "tier0",
                    "aof2-data-socket",
                ],
            ),
            (
                json!({"spec": {"volumes": [{"name": "aof2-tls"}]}}),
                ["spec.volumes[0].name", "aof2-tls", "another name"],
            ),
            (
                json!({"spec": {"restartPolicy": "Never"}}),
                ["spec.restartPolicy", "Never", "remove it"],
            ),
        ] {
            let error = check(template).unwrap_err();
            for word in words {
                assert!(error.contains(word), "{error} lacks {word}");
            }
        }
    }

    #[test]
    fn an_ordinary_application_is_taken() {
        let template = json!({"metadata": {"labels": {"team": "shop"}}, "spec": {
            "containers": [{"name": "app", "volumeMounts": [{"name": "aof2-data-socket", "mountPath": "/sock"}, {"name": "tmp", "mountPath": "/tmp"}]}],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        }});
        assert_eq!(check(template), Ok(()));
    }
}
