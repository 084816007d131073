//! The engine of one pod, asked as an on-call asks it: `kubectl exec ... aof2-admin`.

use anyhow::{Context, Result, bail};
use aof2_admin_api::{Dump, StreamReport};

use crate::kubectl::{Output, Program};
use crate::pods::ENGINE_CONTAINER;

pub const DATA_SOCKET: &str = "/run/aof2/data.sock";

#[derive(Clone, Debug)]
pub struct Engine {
    kubectl: Program,
    namespace: String,
    pub pod: String,
}

impl Engine {
    pub fn new(kubectl: &Program, namespace: &str, pod: &str) -> Self {
        Self {
            kubectl: kubectl.clone(),
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
        }
    }

    /// Runs `aof2-admin` in the engine's container; its failure is in the output.
    pub async fn admin(&self, arguments: &[&str], input: Option<&[u8]>) -> Result<Output> {
        let mut command = vec!["-n", &self.namespace, "exec"];
        if input.is_some() {
            command.push("-i");
        }
        command.extend([
            &self.pod,
            "-c",
            ENGINE_CONTAINER,
            "--",
            "/usr/bin/aof2-admin",
        ]);
        command.extend(arguments);
        self.kubectl.output(&command, input).await
    }

    pub async fn dump(&self) -> Result<Dump> {
        self.json(&["dump", "--json"]).await
    }

    pub async fn streams(&self) -> Result<Vec<StreamReport>> {
        self.json(&["streams", "--json"]).await
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let output = self.admin(arguments, None).await?;
        if !output.success {
            bail!(
                "aof2-admin {} in {} failed: {}",
                arguments.join(" "),
                self.pod,
                output.stderr.trim()
            );
        }
        serde_json::from_str(&output.stdout).with_context(|| {
            format!(
                "aof2-admin {} in {} answered {}",
                arguments.join(" "),
                self.pod,
                output.stdout.trim()
            )
        })
    }
}
