//! The engine of one pod, asked as an on-call asks it: `kubectl exec ... aof2-admin`.

use anyhow::{Context, Result, bail};
use aof2_admin_api::{Dump, StreamReport};

use crate::kubectl::{Output, Program};
use crate::pods::ENGINE_CONTAINER;

pub const DATA_SOCKET: &str = "/run/aof2/data.sock";
const DATA_DIRECTORY: &str = "/var/lib/aof2";

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
        self.exec("/usr/bin/aof2-admin", arguments, input).await
    }

    /// Manifest records of one stream in its data directory, read beside the running engine: those of the last seconds may still
    /// be in the journal alone.
    pub async fn manifest_records(&self, stream: &str) -> Result<Vec<serde_json::Value>> {
        let arguments = [DATA_DIRECTORY, "--stream", stream, "--json"];
        let output = self
            .exec("/usr/bin/manifest-inspect", &arguments, None)
            .await?;
        let chunks: Vec<serde_json::Value> = serde_json::from_str(&output.stdout)
            .with_context(|| format!("manifest-inspect in {}: {}", self.pod, output.stderr))?;
        Ok(chunks
            .iter()
            .flat_map(|chunk| chunk["records"].as_array().cloned().unwrap_or_default())
            .collect())
    }

    async fn exec(
        &self,
        program: &str,
        arguments: &[&str],
        input: Option<&[u8]>,
    ) -> Result<Output> {
        let mut command = vec!["-n", &self.namespace, "exec"];
        if input.is_some() {
            command.push("-i");
        }
        command.extend([&self.pod, "-c", ENGINE_CONTAINER, "--", program]);
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
