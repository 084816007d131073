//! ConfigMaps: one immutable per revision, the active one from which every pod reads its own file, and what the operator keeps for later.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::Owner;
use crate::{cluster::config::Revision, names};

/// Key of the file in a revision.
pub const REVISION_FILE: &str = "aof2.toml";
/// Key of the spec that is kept.
pub const SPEC_FILE: &str = "spec.json";

pub fn revision(owner: &Owner, revision: &Revision) -> ConfigMap {
    ConfigMap {
        metadata: owner.metadata(names::config_revision(&owner.name, &revision.hash)),
        data: Some(BTreeMap::from([(
            REVISION_FILE.to_owned(),
            revision.text(),
        )])),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

/// `files` are named after pods.
pub fn active(owner: &Owner, files: BTreeMap<String, String>) -> ConfigMap {
    ConfigMap {
        metadata: owner.metadata(names::active_config(&owner.name)),
        data: Some(files),
        ..ConfigMap::default()
    }
}

/// What the StatefulSet is made from, to recreate it.
pub fn kept_spec(owner: &Owner, spec: String) -> ConfigMap {
    ConfigMap {
        metadata: owner.metadata(names::kept_spec(&owner.name)),
        data: Some(BTreeMap::from([(SPEC_FILE.to_owned(), spec)])),
        ..ConfigMap::default()
    }
}

/// `dumps` are named after pods: what each engine reported before a change, kept for whoever asks later.
pub fn evidence(owner: &Owner, name: String, dumps: BTreeMap<String, String>) -> ConfigMap {
    ConfigMap {
        metadata: owner.metadata(name),
        data: Some(dumps),
        ..ConfigMap::default()
    }
}
