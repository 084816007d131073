//! The CRD as it is written to `generated/` and into the chart.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::CustomResourceExt;

use crate::cluster::Aof2Cluster;
use crate::snapshot::Aof2Snapshot;

const HEADER: &str =
    "# Generated from crds/src by `cargo run -p aof2-crds --bin crdgen`; edit the types there.\n";

/// A file of `generated/`, and what it must hold.
pub struct CrdFile {
    pub name: &'static str,
    pub yaml: String,
}

/// `Aof2Cluster`'s CRD.
pub fn aof2_cluster() -> CustomResourceDefinition {
    with_bounded_name(Aof2Cluster::crd())
}

/// `Aof2Snapshot`'s CRD.
pub fn aof2_snapshot() -> CustomResourceDefinition {
    with_bounded_name(Aof2Snapshot::crd())
}

fn with_bounded_name(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let schema = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut());
        if let Some(schema) = schema {
            bound_name(schema);
        }
    }
    crd
}

/// Rules about the name are priced by its longest value, which the API server takes from here, and only if all of these are typed.
/// The bound is that of a label; the rules then say what a cluster's name may be.
fn bound_name(schema: &mut JSONSchemaProps) {
    let text = |max_length| JSONSchemaProps {
        type_: Some("string".to_owned()),
        max_length,
        ..JSONSchemaProps::default()
    };
    let names = ["name", "generateName"].map(|field| (field.to_owned(), text(Some(63))));
    let metadata = JSONSchemaProps {
        type_: Some("object".to_owned()),
        properties: Some(BTreeMap::from(names)),
        ..JSONSchemaProps::default()
    };
    let properties = schema.properties.get_or_insert_default();
    properties.insert("apiVersion".to_owned(), text(None));
    properties.insert("kind".to_owned(), text(None));
    properties.insert("metadata".to_owned(), metadata);
}

/// Every CRD, rendered.
pub fn files() -> Result<Vec<CrdFile>, serde_saphyr::ser::Error> {
    [
        ("aof2clusters.yaml", aof2_cluster()),
        ("aof2snapshots.yaml", aof2_snapshot()),
    ]
    .into_iter()
    .map(|(name, crd)| {
        let yaml = serde_saphyr::to_string(&crd)?;
        Ok(CrdFile {
            name,
            yaml: format!("{HEADER}{yaml}"),
        })
    })
    .collect()
}
