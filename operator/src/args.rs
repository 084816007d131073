//! Command line and environment of the operator.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;

use crate::pod_policy::Allowed;

/// Operates AOF2 clusters: upgrades them pod by pod and keeps every acknowledged record.
#[derive(Clone, Debug, Parser)]
#[command(name = "aof2-operator", version)]
pub struct Args {
    /// Namespace of the operator itself: its Lease and its certificate authority live there.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub namespace: String,

    /// Name of this process in the Lease and in Events.
    #[arg(long, env = "POD_NAME", default_value = "aof2-operator")]
    pub identity: String,

    /// Namespace whose clusters the operator manages; by default its own.
    #[arg(long, env = "AOF2_WATCH_NAMESPACE", conflicts_with = "all_namespaces")]
    pub watch_namespace: Option<String>,

    /// Manage the clusters of every namespace; needs a ClusterRole.
    #[arg(long, env = "AOF2_ALL_NAMESPACES")]
    pub all_namespaces: bool,

    /// Clusters in the operator's own namespace are meant: no warning is given.
    #[arg(long, env = "AOF2_ALLOW_OWN_NAMESPACE")]
    pub allow_own_namespace: bool,

    /// Engine image, without tag, for clusters without `spec.image.repository`; the tag is `spec.version`.
    #[arg(
        long,
        env = "AOF2_IMAGE_REPOSITORY",
        default_value = "aof2.local/aof2-engine"
    )]
    pub image_repository: String,

    /// The platform gives each namespace its users and rejects pods that name their own, as OpenShift does: pods name none.
    #[arg(long, env = "AOF2_ASSIGNED_USERS")]
    pub assigned_users: bool,

    /// What `spec.podTemplate` may ask for beyond an ordinary application: `hostNetwork`, `serviceAccountName=NAME` and so on, by commas.
    #[arg(long, env = "AOF2_ALLOW_IN_PODS", value_delimiter = ',', value_parser = Allowed::parse)]
    pub allow_in_pods: Vec<Allowed>,

    /// Secret, in the operator's namespace, of the certificate authority.
    #[arg(long, env = "AOF2_CA_SECRET", default_value = "aof2-operator-ca")]
    pub ca_secret: String,

    /// Directory where that Secret is mounted as an optional volume. The operator may create the Secret, but never reads it through the API.
    #[arg(long, env = "AOF2_CA_DIRECTORY", default_value = "/etc/aof2/ca")]
    pub ca_directory: PathBuf,

    /// Lease, in the operator's namespace, that elects the leader.
    #[arg(long, env = "AOF2_LEASE_NAME", default_value = "aof2-operator")]
    pub lease_name: String,

    /// Listener of /livez, /readyz and /metrics.
    #[arg(long, env = "AOF2_HTTP_ADDRESS", default_value = "[::]:8080")]
    pub http_address: SocketAddr,

    /// Clusters reconciled at the same time.
    #[arg(long, env = "AOF2_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,

    /// Filter of the log, e.g. `info,aof2_operator=debug`.
    #[arg(long, env = "AOF2_LOG", default_value = "info")]
    pub log: String,

    /// Write the log as JSON lines.
    #[arg(long, env = "AOF2_LOG_JSON")]
    pub log_json: bool,
}

/// Where clusters are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Namespace(String),
    All,
}

impl Args {
    pub fn scope(&self) -> Scope {
        if self.all_namespaces {
            return Scope::All;
        }
        Scope::Namespace(
            self.watch_namespace
                .clone()
                .unwrap_or_else(|| self.namespace.clone()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_its_own_namespace_unless_told_otherwise() {
        let scope = |args: &[&str]| {
            Args::try_parse_from([&["aof2-operator", "--namespace", "storage"], args].concat())
                .map(|args| args.scope())
        };
        assert_eq!(scope(&[]).unwrap(), Scope::Namespace("storage".into()));
        assert_eq!(
            scope(&["--watch-namespace", "orders"]).unwrap(),
            Scope::Namespace("orders".into())
        );
        assert_eq!(scope(&["--all-namespaces"]).unwrap(), Scope::All);
        let both = scope(&["--all-namespaces", "--watch-namespace", "orders"])
            .unwrap_err()
            .to_string();
        assert!(both.contains("cannot be used with"), "{both}");
    }
}
