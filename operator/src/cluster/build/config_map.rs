//! Two kinds of ConfigMap: one immutable per revision, and the active one from which every pod reads its own file.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::Owner;
use crate::{cluster::config::Revision, names};

/// Key of the file in a revision.
pub const REVISION_FILE: &str = "aof2.toml";

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

/// `dumps` are named after pods: what each engine reported before a change, kept for whoever asks later.
pub fn evidence(owner: &Owner, name: String, dumps: BTreeMap<String, String>) -> ConfigMap {
    ConfigMap {
        metadata: owner.metadata(name),
        data: Some(dumps),
        ..ConfigMap::default()
    }
}
