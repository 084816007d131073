//! The CRD as it is written to `generated/` and into the chart.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::cluster::Aof2Cluster;

const HEADER: &str =
    "# Generated from crds/src by `cargo run -p aof2-crds --bin crdgen`; edit the types there.\n";

/// A file of `generated/`, and what it must hold.
pub struct CrdFile {
    pub name: &'static str,
    pub yaml: String,
}

pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![Aof2Cluster::crd()]
}

/// Every CRD, rendered.
pub fn files() -> Result<Vec<CrdFile>, serde_saphyr::ser::Error> {
    let yaml = serde_saphyr::to_string(&Aof2Cluster::crd())?;
    Ok(vec![CrdFile {
        name: "aof2clusters.yaml",
        yaml: format!("{HEADER}{yaml}"),
    }])
}
