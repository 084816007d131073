//! A namespace per test, under Pod Security `restricted`, and what is written down when its test fails.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, LogParams, PostParams};
use serde_json::json;

use crate::environment::Environment;
use crate::kubectl::Program;
use crate::wait;

#[derive(Clone)]
pub struct Namespace {
    pub name: String,
    client: kube::Client,
}

impl Namespace {
    /// Makes `<name>`; one that exists is taken as it is.
    pub async fn ensure(client: &kube::Client, name: &str) -> Result<Self> {
        let object: NamespaceObject = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {
                "app.kubernetes.io/part-of": "aof2-e2e",
                "pod-security.kubernetes.io/enforce": "restricted",
            }}
        }))?;
        match Api::<NamespaceObject>::all(client.clone())
            .create(&PostParams::default(), &object)
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot make the namespace {name}"));
            }
        }
        let namespace = Self {
            name: name.to_owned(),
            client: client.clone(),
        };
        namespace.wait_for_its_service_account().await?;
        Ok(namespace)
    }

    /// Makes `<prefix>-<something new>`.
    pub async fn fresh(client: &kube::Client, prefix: &str) -> Result<Self> {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        Self::ensure(
            client,
            &format!("{prefix}-{:06x}", (nanos >> 16) & 0xff_ffff),
        )
        .await
    }

    /// A pod that comes before it is refused.
    async fn wait_for_its_service_account(&self) -> Result<()> {
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
            Api::namespaced(self.client.clone(), &self.name);
        wait::until_none(
            "the default service account",
            Duration::from_secs(30),
            async || {
                Ok(accounts
                    .get_opt("default")
                    .await?
                    .is_none()
                    .then(|| "not there".to_owned()))
            },
        )
        .await
    }

    /// Starts its removal, with everything in it. Volumes go with their claims.
    pub async fn delete(&self) -> Result<()> {
        let params = DeleteParams::background();
        Api::<NamespaceObject>::all(self.client.clone())
            .delete(&self.name, &params)
            .await?;
        Ok(())
    }

    /// Writes down what a person would look at first and returns the file.
    pub async fn write_diagnostics(&self, environment: &Environment) -> Result<PathBuf> {
        let folder = environment.cluster_folder.join("log/e2e");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.txt", self.name));
        std::fs::write(&path, self.diagnostics(environment).await)?;
        Ok(path)
    }

    async fn diagnostics(&self, environment: &Environment) -> String {
        let kubectl = Program::kubectl(environment);
        let mut text = String::new();
        let questions: &[&[&str]] = &[
            &[
                "get",
                "aof2,statefulset,deployment,pod,pvc,pdb,service,configmap,lease",
                "-o",
                "wide",
            ],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &["get", "aof2", "-o", "yaml"],
            &["describe", "pod"],
        ];
        for question in questions {
            let arguments = [&["-n", &self.name], *question].concat();
            let answer = kubectl.output(&arguments, None).await;
            let _ = match answer {
                Ok(output) => writeln!(
                    text,
                    "# kubectl {}\n{}{}",
                    arguments.join(" "),
                    output.stdout,
                    output.stderr
                ),
                Err(error) => writeln!(text, "# kubectl {}\n{error:#}", arguments.join(" ")),
            };
        }
        match self.logs().await {
            Ok(logs) => text.push_str(&logs),
            Err(error) => {
                let _ = writeln!(text, "# logs: {error:#}");
            }
        }
        text
    }

    /// The last lines of every container, of its life before a restart too.
    async fn logs(&self) -> Result<String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.name);
        let mut text = String::new();
        for pod in pods.list(&ListParams::default()).await? {
            let pod_name = pod.metadata.name.unwrap_or_default();
            let spec = pod.spec.unwrap_or_default();
            for container in spec
                .init_containers
                .unwrap_or_default()
                .into_iter()
                .chain(spec.containers)
            {
                for previous in [true, false] {
                    let params = LogParams {
                        container: Some(container.name.clone()),
                        previous,
                        tail_lines: Some(200),
                        timestamps: true,
                        ..LogParams::default()
                    };
                    // A container that never restarted has no life before.
                    if let Ok(log) = pods.logs(&pod_name, &params).await {
                        let life = if previous {
                            " (before its restart)"
                        } else {
                            ""
                        };
                        let _ =
                            writeln!(text, "# log of {pod_name}/{}{life}\n{log}", container.name);
                    }
                }
            }
        }
        Ok(text)
    }
}
