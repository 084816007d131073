//! A cluster that somebody else runs. Only ever the one that `AOF2_KUBECONFIG` names.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::{Cluster, Provider};
use crate::places;

pub fn find(name: &str) -> Result<Cluster> {
    let kubeconfig =
        PathBuf::from(std::env::var_os("AOF2_KUBECONFIG").context("AOF2_KUBECONFIG is not set")?);
    if !kubeconfig.is_file() {
        bail!(
            "AOF2_KUBECONFIG names {}, which is no file",
            kubeconfig.display()
        );
    }
    let registry = std::env::var("AOF2_REGISTRY").unwrap_or_default();
    let registry = registry.trim_end_matches('/');
    if registry.is_empty() {
        bail!(
            "AOF2_KUBECONFIG is set and AOF2_REGISTRY is not; set it to a registry, such as host:5000/aof2, that takes pushes \
             from here and that the cluster's nodes pull from"
        );
    }
    let folder = places::clusters()?.join(format!("foreign-{name}"));
    std::fs::create_dir_all(&folder)?;
    Ok(Cluster {
        name: name.to_owned(),
        provider: Provider::Foreign,
        kubeconfig,
        image_prefix: registry.to_owned(),
        audit_log: None,
        folder,
    })
}
