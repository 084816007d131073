//! The operator, installed as a user installs it: by its Helm chart.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::ListParams;

use crate::environment::{Environment, OPERATOR_VERSION};
use crate::kubectl::Program;
use crate::wait;

/// The chart of this repository.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/aof2-operator")
}

/// An installed operator.
#[derive(Clone, Debug)]
pub struct Operator {
    pub release: String,
    pub namespace: String,
    pub deployment: String,
    /// Its user name at the API server.
    pub identity: String,
    /// Selects its pods.
    pub selector: String,
}

impl Operator {
    /// Installs the chart into the namespace and waits until its pod serves. `values` are further `--set key=value`.
    pub async fn install(
        environment: &Environment,
        client: &kube::Client,
        namespace: &str,
        values: &[&str],
    ) -> Result<Self> {
        apply_crds(environment).await?;
        let release = "aof2-operator";
        let helm = Program::helm(environment);
        let settings = [
            format!(
                "image.repository={}",
                environment.image("aof2-operator", "").trim_end_matches(':')
            ),
            format!("image.tag={OPERATOR_VERSION}"),
            format!(
                "engine.image.repository={}",
                environment.image("aof2-engine", "").trim_end_matches(':')
            ),
        ];
        let chart = chart();
        let chart = chart
            .to_str()
            .context("the path of the chart is not UTF-8")?;
        let mut arguments = vec![
            "upgrade",
            "--install",
            release,
            chart,
            "--namespace",
            namespace,
        ];
        for setting in settings
            .iter()
            .map(String::as_str)
            .chain(values.iter().copied())
        {
            arguments.extend(["--set", setting]);
        }
        helm.run(&arguments).await?;
        let operator = Self::find(client, namespace, release).await?;
        operator.wait_until_it_serves(client).await?;
        Ok(operator)
    }

    pub async fn uninstall(&self, environment: &Environment) -> Result<()> {
        Program::helm(environment)
            .run(&[
                "uninstall",
                &self.release,
                "--namespace",
                &self.namespace,
                "--wait",
            ])
            .await?;
        Ok(())
    }

    async fn find(client: &kube::Client, namespace: &str, release: &str) -> Result<Self> {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        let list = deployments
            .list(&ListParams::default().labels(&format!("app.kubernetes.io/instance={release}")))
            .await?;
        let deployment = list
            .items
            .into_iter()
            .next()
            .context("the chart made no Deployment that carries its release's label")?;
        let name = deployment
            .metadata
            .name
            .context("a Deployment without a name")?;
        let spec = deployment.spec.context("a Deployment without a spec")?;
        let account = spec
            .template
            .spec
            .and_then(|pod| pod.service_account_name)
            .unwrap_or_else(|| "default".to_owned());
        let labels = spec.selector.match_labels.unwrap_or_default();
        Ok(Self {
            release: release.to_owned(),
            namespace: namespace.to_owned(),
            deployment: name,
            identity: format!("system:serviceaccount:{namespace}:{account}"),
            selector: labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect::<Vec<_>>()
                .join(","),
        })
    }

    pub async fn wait_until_it_serves(&self, client: &kube::Client) -> Result<()> {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), &self.namespace);
        wait::until_none(
            "the operator's Deployment",
            Duration::from_secs(60),
            async || {
                let deployment = deployments.get(&self.deployment).await?;
                let wanted = deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1);
                let status = deployment.status.unwrap_or_default();
                let available = status.available_replicas.unwrap_or(0);
                let observed = status.observed_generation >= deployment.metadata.generation;
                Ok((!observed || available < wanted)
                    .then(|| format!("{available} of {wanted} pods available")))
            },
        )
        .await
    }
}

/// What NOTES.txt tells a user: Helm installs CRDs once and never upgrades them.
pub async fn apply_crds(environment: &Environment) -> Result<()> {
    let crds = chart().join("crds");
    let crds = crds
        .to_str()
        .context("the path of the chart is not UTF-8")?;
    let kubectl = Program::kubectl(environment);
    kubectl
        .run(&["apply", "--server-side", "--force-conflicts", "-f", crds])
        .await?;
    wait_established(&kubectl, "aof2clusters.aof2.dev").await
}

/// Until the API server serves the type. `kubectl wait` fails where the new object has no conditions yet.
pub async fn wait_established(kubectl: &Program, crd: &str) -> Result<()> {
    let object = format!("crd/{crd}");
    let condition = r#"jsonpath={.status.conditions[?(@.type=="Established")].status}"#;
    wait::until_none(
        &format!("{crd} to be established"),
        Duration::from_secs(30),
        async || {
            let status = kubectl.run(&["get", &object, "-o", condition]).await?;
            Ok((status.trim() != "True").then(|| format!("Established is `{status}`")))
        },
    )
    .await
}
