//! Where the tests run, as `cargo xtask test` or `cargo xtask demo` tells it by environment variables.

use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Who made the cluster, and so what a test may reach of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// `e2e/cluster`: nodes, audit log and pod addresses are within reach.
    Local,
    Kind,
    /// Somebody's cluster: only its API server is within reach.
    Foreign,
}

/// Versions of the engine that exist as images: the one that runs and the one upgraded to.
pub const ENGINE_VERSION: &str = "0.1.0";
pub const NEXT_ENGINE_VERSION: &str = "0.1.1";
pub const OPERATOR_VERSION: &str = "0.1.0";
const VERSITYGW_VERSION: &str = "1.8.0";

#[derive(Clone, Debug)]
pub struct Environment {
    pub kubeconfig: PathBuf,
    /// Folder with kubectl and helm.
    pub programs: PathBuf,
    pub provider: Provider,
    /// The API server's audit log, where it can be read.
    pub audit_log: Option<PathBuf>,
    /// What stands before `/aof2-engine:0.1.0` in the names of our images.
    pub image_prefix: String,
    /// State of the cluster; tests leave their diagnostics in it.
    pub cluster_folder: PathBuf,
}

impl Environment {
    /// Fails in one line that names the command which sets the variables.
    pub fn from_env() -> Result<Self> {
        let provider = match variable("AOF2_E2E_PROVIDER")?.as_str() {
            "local" => Provider::Local,
            "kind" => Provider::Kind,
            "foreign" => Provider::Foreign,
            other => bail!("AOF2_E2E_PROVIDER is `{other}`; known are local, kind and foreign"),
        };
        Ok(Self {
            kubeconfig: variable("AOF2_E2E_KUBECONFIG")?.into(),
            programs: variable("AOF2_E2E_BIN")?.into(),
            provider,
            audit_log: std::env::var_os("AOF2_E2E_AUDIT_LOG")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            image_prefix: variable("AOF2_E2E_IMAGE_PREFIX")?,
            cluster_folder: variable("AOF2_E2E_CLUSTER_DIR")?.into(),
        })
    }

    /// A client for this cluster and no other: the ambient KUBECONFIG is never read.
    pub async fn client(&self) -> Result<kube::Client> {
        let config = kube::config::Kubeconfig::read_from(&self.kubeconfig)
            .with_context(|| format!("cannot read the kubeconfig {}", self.kubeconfig.display()))?;
        let config = kube::Config::from_custom_kubeconfig(
            config,
            &kube::config::KubeConfigOptions::default(),
        )
        .await?;
        Ok(kube::Client::try_from(config)?)
    }

    pub fn image(&self, name: &str, tag: &str) -> String {
        format!("{}/{name}:{tag}", self.image_prefix)
    }

    pub fn engine_image(&self) -> String {
        self.image("aof2-engine", ENGINE_VERSION)
    }

    pub fn s3_image(&self) -> String {
        self.image("versitygw", VERSITYGW_VERSION)
    }

    /// The audit log, or the reason why a test that needs it cannot run here.
    pub fn audit_log(&self) -> Result<&Path> {
        self.audit_log
            .as_deref()
            .context("this cluster's audit log is out of reach (AOF2_E2E_AUDIT_LOG is not set)")
    }

    pub fn has_nodes_within_reach(&self) -> bool {
        self.provider == Provider::Local
    }
}

/// This machine's address as the nodes of the cluster see it: the local end of a route to one of them.
pub fn host_address_towards(node: IpAddr) -> Result<IpAddr> {
    let any: IpAddr = if node.is_ipv4() {
        [0, 0, 0, 0].into()
    } else {
        [0u16; 8].into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Connecting a datagram socket sends nothing; it only picks the route.
    socket
        .connect((node, 9))
        .with_context(|| format!("no route from this machine to node {node}"))?;
    Ok(socket.local_addr()?.ip())
}

fn variable(name: &str) -> Result<String> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Ok(value),
        _ => bail!(
            "{name} is not set: these tests need a cluster; run `cargo xtask test --only e2e`, which brings one up"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_seen_from_a_node_at_the_address_that_routes_to_it() {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        assert_eq!(host_address_towards(loopback).unwrap(), loopback);
    }
}
