//! The file of one pod: the revision, the keys of the operator, and the sum of both.

use std::collections::BTreeMap;

use aof2_admin_api::revision::with_sum;
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
    with_sum(&toml::to_string(&ordered).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use aof2_admin_api::revision::{Altered, check};

    use super::*;
    use crate::cluster::config::UserConfig;

    fn file(user: &str, spec: serde_json::Value) -> String {
        let spec: Aof2ClusterSpec = serde_json::from_value(spec).unwrap();
        let revision = Revision::new(&UserConfig::parse(user).unwrap(), spec.tier2.as_ref());
        let pod = PodFile {
            namespace: "prod",
            cluster: "orders",
            cluster_id: "0192f0aa-0000-7000-8000-000000000001",
            pod: "orders-0",
            client_name: "operator.aof2.dev",
            instance_quota_bytes: 4 << 30,
            capacity_bytes: 8 << 30,
        };
        render(&revision, &spec, &pod)
    }

    fn spec(tier2: serde_json::Value) -> serde_json::Value {
        serde_json::json!({
            "replicas": 1, "version": "0.1.0",
            "storage": {"tier0": {"size": "8Gi"}, "tier1": {"size": "8Gi"}},
            "tier2": tier2,
            "podTemplate": {"spec": {"containers": []}},
        })
    }

    /// With every key that a pod gets, and with tables that the user left empty.
    #[test]
    fn an_engine_finds_each_file_as_it_was_written_and_every_line_is_bound() {
        let bucket = serde_json::json!({
            "endpoint": "https://s3.test", "region": "eu", "bucket": "acme", "prefix": "prod/orders/",
            "addressing": "Path", "checksum": "MD5", "credentials": {"secretRef": {"name": "orders-s3"}},
            "caBundle": {"configMapRef": {"name": "ca", "key": "ca.crt"}},
        });
        for user in [
            "",
            "[tier0]\n[tier2]\n[log]\n",
            "[tier0]\ncluster_max_bytes = 17179869184\n[tier2]\nclaim_check = \"5s\"\n",
        ] {
            for tier2 in [serde_json::Value::Null, bucket.clone()] {
                let text = file(user, spec(tier2));
                assert_eq!(check(&text), Ok(()), "{text}");
                // As an engine reads it that knows of no sum, or an older operator writes it.
                let (_, unsummed) = text.split_once('\n').unwrap();
                assert_eq!(check(unsummed), Ok(()), "{unsummed}");
                for (line, _) in text.match_indices('\n') {
                    assert_eq!(check(&text[..line]), Err(Altered::Text), "torn at {line}");
                }
                let other = text.replace("operator.aof2.dev", "somebody.test");
                assert_eq!(check(&other), Err(Altered::Text));
            }
        }
    }
}
