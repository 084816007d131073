//! What the API server cannot refuse for us: fields of `spec.podTemplate` that the engine needs for itself, and those that would give
//! whoever may create an `Aof2Cluster` more than a pod of their own (`policy.rs`).

mod container;
mod pod;
mod policy;
mod security;
mod volume;

use std::collections::BTreeSet;

use aof2_crds::labels;
use kube::ResourceExt;
use serde_json::{Map, Value};

use crate::cluster::build::template::{DATA_SOCKET_VOLUME, ENGINE_VOLUMES};
use crate::cluster::facts::Observed;
use crate::names::{self, ENGINE_CONTAINER};
use crate::pod_policy::Policy;

/// A field, its value, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}. {remedy}")]
pub struct SpecError {
    /// Whole path.
    pub field: String,
    pub value: String,
    pub remedy: String,
}

impl SpecError {
    /// `field` is below `spec.podTemplate`.
    fn new(
        field: impl Into<String>,
        value: impl std::fmt::Display,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            field: format!("spec.podTemplate.{}", field.into()),
            value: value.to_string(),
            remedy: remedy.into(),
        }
    }
}

/// What a template is judged against besides itself.
struct Surroundings<'a> {
    policy: &'a Policy,
    cluster: &'a str,
    /// The certificate authority's, where it is in the cluster's namespace.
    ca_secret: Option<&'a str>,
    credentials_of_others: &'a BTreeSet<String>,
}

impl Surroundings<'_> {
    /// `at` is below `spec.podTemplate`.
    fn check_secret(&self, at: &str, name: &str) -> Result<(), SpecError> {
        match self.whose_secret(name) {
            Some(whose) => self.policy.need("secret", at, name, whose),
            None if self.credentials_of_others.contains(name) => {
                let why = "The Secret holds another cluster's credentials for its bucket";
                self.policy.need("secret", at, name, why)
            }
            None => Ok(()),
        }
    }

    /// By its name, since Secrets are never read.
    fn whose_secret(&self, name: &str) -> Option<&'static str> {
        if self.ca_secret == Some(name) {
            return Some("The Secret holds the key of the operator's certificate authority");
        }
        if name.ends_with(names::TLS_SECRET_ENDING) {
            return Some("The Secret holds the key of a cluster's engines");
        }
        name.starts_with("sh.helm.release.")
            .then_some("The Secret holds a Helm release with its values")
    }

    fn check_claim(&self, at: &str, name: &str) -> Result<(), SpecError> {
        let is_ordinal =
            |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
        let is_engines = ["tier0-", "tier1-"].iter().any(|prefix| {
            let pod = name.strip_prefix(prefix);
            pod.and_then(|pod| pod.rsplit_once('-'))
                .is_some_and(|(_, ordinal)| is_ordinal(ordinal))
        });
        if !is_engines {
            return Ok(());
        }
        let why = "The claim is the volume of an engine";
        self.policy.need("persistentVolumeClaim", at, name, why)
    }
}

/// Secrets that the engine itself is given: the kubelet would show it any of the namespace's.
fn engine_secrets(observed: &Observed, around: &Surroundings<'_>) -> Result<(), SpecError> {
    let spec = &observed.cluster.spec;
    let credentials = spec.tier2.iter().map(|tier2| {
        (
            "spec.tier2.credentials.secretRef.name".to_owned(),
            &tier2.credentials.secret_ref.name,
        )
    });
    let pulls = spec
        .image
        .pull_secrets
        .iter()
        .enumerate()
        .map(|(index, secret)| {
            (
                format!("spec.image.pullSecrets[{index}].name"),
                &secret.name,
            )
        });
    for (field, name) in credentials.chain(pulls) {
        if let Some(whose) = around.whose_secret(name) {
            around
                .policy
                .need("secret", "", name, whose)
                .map_err(|error| SpecError { field, ..error })?;
        }
    }
    Ok(())
}

/// Does the template name Secrets, so that those of other clusters have to be known?
pub fn names_secrets(observed: &Observed) -> bool {
    let template = serde_json::to_string(&observed.cluster.spec.pod_template.spec);
    template.is_ok_and(|text| text.contains("\"secret"))
}

pub fn validate(observed: &Observed) -> Result<(), SpecError> {
    let is_operators = observed.cluster.namespace().as_ref() == Some(&observed.operator_namespace);
    let around = Surroundings {
        policy: &observed.pod_policy,
        cluster: &observed.cluster.name_any(),
        ca_secret: is_operators.then_some(&observed.ca_secret),
        credentials_of_others: &observed.credentials_of_others,
    };
    own(observed)?;
    engine_secrets(observed, &around)?;
    pod::check(&observed.cluster.spec.pod_template, &around)
}

/// What the engine needs for itself.
fn own(observed: &Observed) -> Result<(), SpecError> {
    let template = &observed.cluster.spec.pod_template;
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
    // The operator raises it where it is short, so that the API server does not see what stands here.
    let grace = template.spec.get("terminationGracePeriodSeconds");
    if let Some(grace) = grace.filter(|grace| !grace.is_null() && grace.as_u64().is_none()) {
        return Err(SpecError::new(
            "spec.terminationGracePeriodSeconds",
            grace,
            "Set a whole number of seconds, without quotation marks",
        ));
    }
    match template.spec.get("restartPolicy") {
        None | Some(Value::Null) => Ok(()),
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
            field: error.field.replacen(
                "spec.podTemplate",
                &format!("spec.podTemplate.{field}"),
                1,
            ),
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
mod tests;
