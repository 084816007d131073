//! The file of one pod: the revision, and the keys of the operator.

use std::collections::BTreeMap;

use aof2_crds::Aof2ClusterSpec;
use toml::{Table, Value};

use super::Revision;
use crate::cluster::build::template::{
    ADMIN_SOCKET_DIRECTORY, CREDENTIALS_DIRECTORY, DATA_DIRECTORY, DATA_SOCKET_DIRECTORY,
    S3_CA_DIRECTORY, S3_CA_FILE, TIER1_DIRECTORY, TLS_DIRECTORY,
};
use crate::names::{ADMIN_PORT, HTTP_PORT};

/// What a pod's file needs to know beside the revision.
#[derive(Clone, Debug)]
pub struct PodFile<'a> {
    pub namespace: &'a str,
    pub cluster: &'a str,
    pub cluster_id: &'a str,
    pub pod: &'a str,
    /// The name that the operator's client certificate carries.
    pub client_name: &'a str,
    pub instance_quota_bytes: u64,
    /// Size of its volume.
    pub capacity_bytes: u64,
}

pub fn render(revision: &Revision, spec: &Aof2ClusterSpec, file: &PodFile<'_>) -> String {
    let mut table = revision.table.clone();
    let mut set = |section: &str, key: &str, value: Value| {
        let entry = table
            .entry(section)
            .or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(entry) = entry {
            entry.insert(key.to_owned(), value);
        }
    };
    let text = |text: &str| Value::String(text.to_owned());
    let bytes = |bytes: u64| Value::Integer(i64::try_from(bytes).unwrap_or(i64::MAX));

    set("operator", "revision", text(&revision.hash));
    set("cluster", "id", text(file.cluster_id));
    set("cluster", "name", text(file.cluster));
    set("cluster", "namespace", text(file.namespace));
    set("node", "name", text(file.pod));
    set(
        "listen",
        "data_socket",
        text(&format!("{DATA_SOCKET_DIRECTORY}/data.sock")),
    );
    set(
        "listen",
        "admin_socket",
        text(&format!("{ADMIN_SOCKET_DIRECTORY}/admin.sock")),
    );
    set(
        "listen",
        "admin_address",
        text(&format!("[::]:{ADMIN_PORT}")),
    );
    set("listen", "http_address", text(&format!("[::]:{HTTP_PORT}")));
    set("tls", "directory", text(TLS_DIRECTORY));
    set("tls", "client_name", text(file.client_name));
    set("storage", "directory", text(DATA_DIRECTORY));
    set("storage", "capacity_bytes", bytes(file.capacity_bytes));
    if spec.storage.tier1.is_some() {
        set("storage", "tier1_directory", text(TIER1_DIRECTORY));
    }
    set(
        "tier0",
        "instance_quota_bytes",
        bytes(file.instance_quota_bytes),
    );
    if let Some(tier2) = &spec.tier2 {
        set(
            "tier2",
            "credentials_directory",
            text(CREDENTIALS_DIRECTORY),
        );
        if tier2.ca_bundle.is_some() {
            set(
                "tier2",
                "ca_file",
                text(&format!("{S3_CA_DIRECTORY}/{S3_CA_FILE}")),
            );
        }
    }
    // Sorted, whatever the map of the toml crate does.
    let ordered: BTreeMap<String, Value> = table.into_iter().collect();
    toml::to_string(&ordered).unwrap_or_default()
}
