//! The typed configuration that the server runs with.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aof2_admin_api::report::Reload;
use aof2_core::config::{OrphanPolicy, RetentionRule};
use aof2_format::names::KeyPrefix;

use super::document::Values;
use super::error::{ConfigError, ConfigErrors, Problem};
use super::keys::{self, KEYS};
use super::price::{self, Price};
use super::value::Value;

/// Identity of an engine that no operator gave one.
const STAND_ALONE_CLUSTER_ID: &str = "00000000-0000-7000-8000-000000000000";

/// A whole configuration, checked. Made from one file, or from flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The operator's hash of the file; empty when it carries none.
    pub revision: String,
    pub cluster: Cluster,
    pub node_name: String,
    pub listen: Listen,
    pub tls: Option<Tls>,
    pub storage: Storage,
    pub append: Append,
    pub segment: Segment,
    pub tier0: Tier0,
    pub tier1: Tier1,
    pub tier2: Option<Tier2>,
    pub retention: Vec<RetentionRule>,
    pub report: Report,
    pub compaction: Compaction,
    pub hydration: Hydration,
    pub journal: Journal,
    pub checkpoint: Checkpoint,
    pub log: Log,
    pub(super) values: Values,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    pub id: String,
    pub name: String,
    pub namespace: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub data_socket: PathBuf,
    pub admin_socket: PathBuf,
    pub admin_address: SocketAddr,
    pub http_address: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub directory: PathBuf,
    pub client_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    pub directory: PathBuf,
    pub tier1_directory: Option<PathBuf>,
    /// Size of the volume; 0 = ask the file system.
    pub capacity_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    pub max_record_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub target_bytes: u64,
    /// Zero = never by age.
    pub max_age: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier0 {
    pub cluster_max_bytes: u64,
    /// This node's share; the whole budget where no operator shares it out.
    pub instance_quota_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier1 {
    /// 0 = no limit.
    pub max_bytes: u64,
    pub compression_level: u32,
    pub block_bytes: u64,
    pub cache_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier2 {
    pub place: Tier2Place,
    pub claim_check: Duration,
    pub upload_concurrency: u32,
    pub delete_grace: Duration,
    pub orphans: OrphanPolicy,
    pub read_concurrency: u32,
    pub read_bytes: u64,
    pub request_timeout: Duration,
    pub max_attempts: u32,
}

/// Where Tier 2 is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tier2Place {
    S3 {
        endpoint: Option<String>,
        region: String,
        bucket: String,
        prefix: String,
        is_path_style: bool,
        /// `CRC64NVME`, `MD5` or `None`.
        checksum: String,
        credentials_directory: PathBuf,
        ca_file: Option<PathBuf>,
    },
    /// A directory in its place, for use without an object store; only by flag.
    Directory { directory: PathBuf, prefix: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One for each storage class at most.
    pub prices: Vec<Price>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compaction {
    pub is_enabled: bool,
    pub min_inputs: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hydration {
    pub is_on_demand: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    pub file_bytes: u64,
    pub files: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub journal_bytes: u64,
    pub interval: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: String,
}

impl Settings {
    /// An engine outside Kubernetes: every default, and names that say so.
    pub fn stand_alone() -> Self {
        Self::from_values(Values::none())
            .expect("the defaults agree with each other, which a test holds")
    }

    pub(super) fn from_values(values: Values) -> Result<Self, ConfigErrors> {
        let errors = conflicts(&values);
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        let text_or = |key: &str, otherwise: &str| {
            text(&values, key).unwrap_or_else(|| otherwise.to_string())
        };
        Ok(Settings {
            revision: text_or("operator.revision", ""),
            cluster: Cluster {
                id: text_or("cluster.id", STAND_ALONE_CLUSTER_ID),
                name: text_or("cluster.name", "stand-alone"),
                namespace: text_or("cluster.namespace", "default"),
            },
            node_name: text_or("node.name", "stand-alone-0"),
            listen: Listen {
                data_socket: path(&values, "listen.data_socket").unwrap_or_default(),
                admin_socket: path(&values, "listen.admin_socket").unwrap_or_default(),
                admin_address: address(&values, "listen.admin_address"),
                http_address: address(&values, "listen.http_address"),
            },
            tls: path(&values, "tls.directory")
                .zip(text(&values, "tls.client_name"))
                .map(|(directory, client_name)| Tls {
                    directory,
                    client_name,
                }),
            storage: Storage {
                directory: path(&values, "storage.directory").unwrap_or_default(),
                tier1_directory: path(&values, "storage.tier1_directory"),
                capacity_bytes: integer(&values, "storage.capacity_bytes"),
            },
            append: Append {
                max_record_bytes: integer(&values, "append.max_record_bytes"),
            },
            segment: Segment {
                target_bytes: integer(&values, "segment.target_bytes"),
                max_age: duration(&values, "segment.max_age"),
            },
            tier0: Tier0 {
                cluster_max_bytes: integer(&values, "tier0.cluster_max_bytes"),
                instance_quota_bytes: match values.get("tier0.instance_quota_bytes") {
                    Some(Value::Integer(quota)) => quota,
                    Some(
                        Value::Duration(_)
                        | Value::Text(_)
                        | Value::Switch(_)
                        | Value::Rules(_)
                        | Value::Prices(_),
                    )
                    | None => integer(&values, "tier0.cluster_max_bytes"),
                },
            },
            tier1: Tier1 {
                max_bytes: integer(&values, "tier1.max_bytes"),
                compression_level: count(&values, "tier1.compression_level"),
                block_bytes: integer(&values, "tier1.block_bytes"),
                cache_bytes: integer(&values, "tier1.cache_bytes"),
            },
            tier2: s3_place(&values).map(|place| Self::tier2_at(&values, place)),
            retention: match values.get("retention") {
                Some(Value::Rules(rules)) => rules,
                Some(
                    Value::Integer(_)
                    | Value::Duration(_)
                    | Value::Text(_)
                    | Value::Switch(_)
                    | Value::Prices(_),
                )
                | None => Vec::new(),
            },
            report: Report {
                prices: price::of(values.get(price::KEY)),
            },
            compaction: Compaction {
                is_enabled: switch(&values, "compaction.enabled"),
                min_inputs: count(&values, "compaction.min_inputs"),
            },
            hydration: Hydration {
                is_on_demand: switch(&values, "hydration.on_demand"),
            },
            journal: Journal {
                file_bytes: integer(&values, "journal.file_bytes"),
                files: count(&values, "journal.files"),
            },
            checkpoint: Checkpoint {
                journal_bytes: integer(&values, "checkpoint.journal_bytes"),
                interval: duration(&values, "checkpoint.interval"),
            },
            log: Log {
                level: text_or("log.level", "info"),
            },
            values,
        })
    }

    /// Puts Tier 2 into a directory. `prefix` is as in S3.
    pub fn use_tier2_directory(&mut self, directory: &Path, prefix: &str) {
        let place = Tier2Place::Directory {
            directory: directory.to_path_buf(),
            prefix: prefix.to_string(),
        };
        self.tier2 = Some(Self::tier2_at(&self.values, place));
    }

    /// Overrides keys, as flags do; checked like values of a file.
    pub fn with(self, overrides: &[(&'static str, Value)]) -> Result<Self, ConfigErrors> {
        let mut values = self.values;
        for (key, value) in overrides {
            let problem = match keys::find(key) {
                Some(spec) if spec.kind.admits(value) => {
                    values.set(spec, value.clone());
                    continue;
                }
                Some(spec) => Problem::OutOfRange {
                    value: value.to_string(),
                    allowed: spec.kind.range(),
                },
                None => Problem::UnknownKey {
                    nearest: super::nearest::nearest_key(key),
                },
            };
            return Err(ConfigErrors(vec![values.error(key, problem)]));
        }
        Self::from_values(values)
    }

    /// These settings with the hot keys of newer ones: what a reload puts in force. An error where the new hot values do not
    /// agree with the old others.
    pub fn with_hot_keys_of(&self, newer: &Settings) -> Result<Self, ConfigErrors> {
        let mut values = self.values.clone();
        for spec in KEYS.iter().filter(|spec| spec.reload == Reload::Hot) {
            values.copy(spec, &newer.values);
        }
        let mut settings = Self::from_values(values)?;
        // Tier 2 in a directory comes from a flag and is in no value.
        if let Some(Tier2 {
            place: Tier2Place::Directory { directory, prefix },
            ..
        }) = &self.tier2
        {
            settings.use_tier2_directory(directory, prefix);
        }
        Ok(settings)
    }

    /// The value in force of a key, in the form a person writes; `None` where it is absent.
    pub fn value(&self, key: &str) -> Option<Value> {
        self.values.get(key)
    }

    fn tier2_at(values: &Values, place: Tier2Place) -> Tier2 {
        Tier2 {
            place,
            claim_check: duration(values, "tier2.claim_check"),
            upload_concurrency: count(values, "tier2.upload_concurrency"),
            delete_grace: duration(values, "tier2.delete_grace"),
            orphans: match text(values, "tier2.orphans").as_deref() {
                Some("Delete") => OrphanPolicy::Delete,
                _ => OrphanPolicy::Report,
            },
            read_concurrency: count(values, "tier2.read_concurrency"),
            read_bytes: integer(values, "tier2.read_bytes"),
            request_timeout: duration(values, "tier2.request_timeout"),
            max_attempts: count(values, "tier2.max_attempts"),
        }
    }
}

fn s3_place(values: &Values) -> Option<Tier2Place> {
    Some(Tier2Place::S3 {
        bucket: text(values, "tier2.bucket")?,
        endpoint: text(values, "tier2.endpoint"),
        region: text(values, "tier2.region").unwrap_or_default(),
        prefix: text(values, "tier2.prefix").unwrap_or_default(),
        is_path_style: text(values, "tier2.addressing").as_deref() == Some("Path"),
        checksum: text(values, "tier2.checksum").unwrap_or_default(),
        credentials_directory: path(values, "tier2.credentials_directory").unwrap_or_default(),
        ca_file: path(values, "tier2.ca_file"),
    })
}

/// Rules that hold between keys.
/// The journal is written in pages of this size (`aof2-core` refuses other files).
const JOURNAL_PAGE_BYTES: u64 = 4096;

fn conflicts(values: &Values) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut refuse =
        |key: &str, message: String| errors.push(values.error(key, Problem::Conflict { message }));
    let (cluster_max, quota) = (
        integer(values, "tier0.cluster_max_bytes"),
        values.get("tier0.instance_quota_bytes"),
    );
    if let Some(Value::Integer(quota)) = quota
        && quota > cluster_max
    {
        refuse(
            "tier0.instance_quota_bytes",
            format!(
                "`tier0.instance_quota_bytes` = {quota} is more than `tier0.cluster_max_bytes` = {cluster_max}; a share cannot exceed the whole"
            ),
        );
    }
    let journal_bytes =
        integer(values, "journal.file_bytes").saturating_mul(integer(values, "journal.files"));
    let file_bytes = integer(values, "journal.file_bytes");
    if !file_bytes.is_multiple_of(JOURNAL_PAGE_BYTES) {
        refuse(
            "journal.file_bytes",
            format!(
                "`journal.file_bytes` = {file_bytes} is not a multiple of {JOURNAL_PAGE_BYTES}; the next one is {}",
                file_bytes.next_multiple_of(JOURNAL_PAGE_BYTES)
            ),
        );
    }
    let checkpoint = integer(values, "checkpoint.journal_bytes");
    if checkpoint > journal_bytes {
        refuse(
            if values.is_given("checkpoint.journal_bytes") {
                "checkpoint.journal_bytes"
            } else {
                "journal.file_bytes"
            },
            format!(
                "`checkpoint.journal_bytes` = {checkpoint} is more than the journal holds, `journal.file_bytes` x `journal.files` = {journal_bytes}; \
                 lower the first or raise the others"
            ),
        );
    }
    if values.is_given("tls.directory") != values.is_given("tls.client_name") {
        let (given, missing) = if values.is_given("tls.directory") {
            ("tls.directory", "tls.client_name")
        } else {
            ("tls.client_name", "tls.directory")
        };
        refuse(
            given,
            format!("`{given}` is set without `{missing}`; mutual TLS needs both"),
        );
    }
    let is_tier2_named = [
        "tier2.endpoint",
        "tier2.region",
        "tier2.bucket",
        "tier2.prefix",
    ];
    if let Some(given) = is_tier2_named.iter().find(|key| values.is_given(key)) {
        for missing in ["tier2.region", "tier2.bucket", "tier2.prefix"]
            .iter()
            .filter(|key| !values.is_given(key))
        {
            refuse(
                given,
                format!(
                    "`{given}` is set without `{missing}`; Tier 2 needs region, bucket and prefix"
                ),
            );
        }
    }
    if let Some(prefix) = text(values, "tier2.prefix")
        && let Err(error) = KeyPrefix::new(&prefix)
    {
        refuse("tier2.prefix", format!("`tier2.prefix`: {error}"));
    }
    errors
}

fn text(values: &Values, key: &str) -> Option<String> {
    match values.get(key) {
        Some(Value::Text(text)) => Some(text),
        Some(
            Value::Integer(_)
            | Value::Duration(_)
            | Value::Switch(_)
            | Value::Rules(_)
            | Value::Prices(_),
        )
        | None => None,
    }
}

fn path(values: &Values, key: &str) -> Option<PathBuf> {
    text(values, key).map(PathBuf::from)
}

fn address(values: &Values, key: &str) -> SocketAddr {
    let checked = text(values, key).and_then(|text| text.parse().ok());
    checked.unwrap_or_else(|| unreachable!("{key} has a checked address or a default that parses"))
}

fn switch(values: &Values, key: &str) -> bool {
    match values.get(key) {
        Some(Value::Switch(value)) => value,
        Some(
            Value::Integer(_)
            | Value::Duration(_)
            | Value::Text(_)
            | Value::Rules(_)
            | Value::Prices(_),
        )
        | None => {
            unreachable!("{key} is a switch with a default")
        }
    }
}

fn integer(values: &Values, key: &str) -> u64 {
    match values.get(key) {
        Some(Value::Integer(value)) => value,
        Some(
            Value::Duration(_)
            | Value::Text(_)
            | Value::Switch(_)
            | Value::Rules(_)
            | Value::Prices(_),
        )
        | None => {
            unreachable!("{key} is an integer with a default")
        }
    }
}

/// For keys whose range lies within `u32`.
fn count(values: &Values, key: &str) -> u32 {
    u32::try_from(integer(values, key)).unwrap_or(u32::MAX)
}

fn duration(values: &Values, key: &str) -> Duration {
    match values.get(key) {
        Some(Value::Duration(value)) => value,
        Some(
            Value::Integer(_)
            | Value::Text(_)
            | Value::Switch(_)
            | Value::Rules(_)
            | Value::Prices(_),
        )
        | None => {
            unreachable!("{key} is a duration with a default")
        }
    }
}
