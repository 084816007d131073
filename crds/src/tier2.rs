//! Where sealed segments go: an S3-compatible bucket.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.bucket == oldSelf.bucket")
        .message("spec.tier2.bucket is immutable: sealed segments stay in the bucket they were uploaded to; make a new cluster")
        .field_path(".bucket"),
    validation = Rule::new("self.prefix == oldSelf.prefix")
        .message("spec.tier2.prefix is immutable: sealed segments stay under the prefix they were uploaded to; make a new cluster")
        .field_path(".prefix"),
    validation = Rule::new("self.addressing != 'VirtualHost' || !self.endpoint.matches('^https?://([0-9.]+|[[].*)(:[0-9]+)?$')")
        .message("spec.tier2.addressing: VirtualHost puts the bucket before a host name, and spec.tier2.endpoint is an IP address; set addressing: Path")
        .field_path(".addressing"),
    validation = Rule::new("self.addressing != 'VirtualHost' || !self.endpoint.startsWith('https://') || !self.bucket.contains('.')")
        .message("spec.tier2.addressing: a bucket with dots does not match the endpoint's TLS certificate under VirtualHost; set addressing: Path")
        .field_path(".addressing"),
    validation = Rule::new("!has(self.caBundle) || self.endpoint.startsWith('https://')")
        .message("spec.tier2.caBundle has no use with an http:// endpoint; set an https:// endpoint or remove caBundle")
        .field_path(".caBundle")
)]
pub struct Tier2 {
    /// URL of the object store with scheme, host and optional port, without a path.
    #[schemars(length(max = 253))]
    #[x_kube(
        validation = Rule::new(r"self.matches('^https?://([A-Za-z0-9.-]+|\\[[0-9A-Fa-f:]+\\])(:[0-9]{1,5})?$')")
            .message("not a scheme and a host; write https://host or http://host:port, without a path")
    )]
    pub endpoint: String,
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub region: String,
    /// Bucket, which must exist.
    #[schemars(
        length(min = 3, max = 63),
        regex(pattern = r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$")
    )]
    pub bucket: String,
    /// Prefix of every object of this cluster, ending in a slash. Only one cluster may use a prefix.
    #[schemars(length(max = 200))]
    #[x_kube(
        validation = Rule::new(r"self.matches('^([A-Za-z0-9_][A-Za-z0-9_.=-]*/)+$')")
            .message("not a prefix of keys; write names of letters, digits and _.=- that each end in a slash, such as prod/orders/")
    )]
    pub prefix: String,
    #[serde(default)]
    pub addressing: Addressing,
    /// Checksum that the engine sends with each object. MD5 and None are for stores that do not know CRC64NVME; with None the engine
    /// reads each object back and compares it.
    #[serde(default)]
    pub checksum: Checksum,
    pub credentials: Credentials,
    /// Certificate authorities for the endpoint's certificate, instead of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
}

/// Where a request names the bucket, in the host name or as the first part of the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Addressing {
    #[default]
    VirtualHost,
    Path,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Checksum {
    #[default]
    #[serde(rename = "CRC64NVME")]
    Crc64Nvme,
    #[serde(rename = "MD5")]
    Md5,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    pub secret_ref: SecretReference,
}

/// A Secret of this namespace. Only the kubelet reads it, for the engine; the operator never does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretReference {
    /// Secret with the keys `access_key_id`, `secret_access_key` and, optionally, `session_token`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaBundle {
    pub config_map_ref: CaBundleReference,
}

/// A key of a ConfigMap of this namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaBundleReference {
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    #[serde(default = "ca_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

fn ca_key() -> String {
    "ca.crt".to_owned()
}
