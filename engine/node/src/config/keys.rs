//! Every key of `aof2.toml`, described once.

use std::time::Duration;

use aof2_admin_api::report::Reload;
use aof2_admin_api::schema::{CLUSTER_MAX_BYTES, Instead, operator_key};

use super::value::{Kind, Value, parse_duration};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
/// As far as a byte budget reaches: TOML's integers are signed.
const MAX_BUDGET_BYTES: u64 = i64::MAX as u64;

/// Who sets a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    User,
    /// Refused in a user's file.
    Operator {
        instead: Instead,
    },
}

/// What holds where a file does not name the key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DefaultValue {
    Integer(u64),
    Text(&'static str),
    Switch(bool),
    /// Absent: either optional, or required in a pod's file ([`KeySpec::is_required_in_pod`]).
    None,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    /// `table.name`.
    pub key: &'static str,
    pub kind: Kind,
    pub default: DefaultValue,
    pub reload: Reload,
    pub owner: Owner,
    pub is_required_in_pod: bool,
    pub doc: &'static str,
}

impl KeySpec {
    pub fn table(&self) -> &'static str {
        self.key
            .split_once('.')
            .map_or(self.key, |(table, _)| table)
    }

    pub fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }

    pub fn unit(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Bytes { .. } => Some("bytes"),
            Kind::Duration { .. } => Some("duration"),
            Kind::Count { .. }
            | Kind::Text { .. }
            | Kind::Uuid
            | Kind::Path
            | Kind::Address
            | Kind::OneOf(_)
            | Kind::Switch
            | Kind::Rules
            | Kind::Prices => None,
        }
    }

    pub fn default_value(&self) -> Option<Value> {
        match (self.default, self.kind) {
            (DefaultValue::None, _) => None,
            (DefaultValue::Integer(v), _) => Some(Value::Integer(v)),
            (DefaultValue::Switch(v), _) => Some(Value::Switch(v)),
            (DefaultValue::Text(v), Kind::Duration { .. }) => {
                parse_duration(v).map(Value::Duration)
            }
            (DefaultValue::Text(v), _) => Some(Value::Text(v.to_string())),
        }
    }
}

/// The key of that name.
pub fn find(key: &str) -> Option<&'static KeySpec> {
    KEYS.iter().find(|spec| spec.key == key)
}

const fn bytes(min: u64, max: u64) -> Kind {
    Kind::Bytes { min, max }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

const fn seconds(min: u64, max: u64) -> Kind {
    Kind::Duration {
        min: Duration::from_secs(min),
        max: Duration::from_secs(max),
    }
}

const fn text(max_bytes: usize) -> Kind {
    Kind::Text { max_bytes }
}

const fn user(
    key: &'static str,
    kind: Kind,
    default: DefaultValue,
    reload: Reload,
    doc: &'static str,
) -> KeySpec {
    KeySpec {
        key,
        kind,
        default,
        reload,
        owner: Owner::User,
        is_required_in_pod: false,
        doc,
    }
}

const fn operator(
    key: &'static str,
    kind: Kind,
    default: DefaultValue,
    doc: &'static str,
) -> KeySpec {
    let instead = operator_key(key).expect("a key of the operator stands in OPERATOR_KEYS");
    KeySpec {
        key,
        kind,
        default,
        reload: Reload::Restart,
        owner: Owner::Operator { instead },
        is_required_in_pod: false,
        doc,
    }
}

const fn required(spec: KeySpec) -> KeySpec {
    KeySpec {
        is_required_in_pod: true,
        ..spec
    }
}

const fn hot(spec: KeySpec) -> KeySpec {
    KeySpec {
        reload: Reload::Hot,
        ..spec
    }
}

use DefaultValue::{Integer, None as NoDefault, Switch, Text};
use Reload::{Hot, Restart};

/// Ordered by table, as the effective file prints them.
#[rustfmt::skip]
pub const KEYS: &[KeySpec] = &[
    required(hot(operator("operator.revision", text(64), NoDefault, "Revision of the configuration, set by the operator."))),
    required(operator("cluster.id", Kind::Uuid, NoDefault, "UUID of the cluster, minted by the operator.")),
    required(operator("cluster.name", text(63), NoDefault, "Name of the cluster.")),
    required(operator("cluster.namespace", text(63), NoDefault, "Namespace of the cluster.")),
    required(operator("node.name", text(253), NoDefault, "Name of this node: its pod.")),
    operator("listen.data_socket", Kind::Path, Text("/run/aof2/data.sock"), "Unix socket of the data API, mode 0660."),
    operator("listen.admin_socket", Kind::Path, Text("/run/aof2-admin/admin.sock"), "Private Unix socket of the admin API."),
    operator("listen.admin_address", Kind::Address, Text("127.0.0.1:7421"), "Admin API over mutual TLS; served where [tls] is set."),
    operator("listen.http_address", Kind::Address, Text("127.0.0.1:7422"), "Probes and metrics, plain HTTP."),
    operator("tls.directory", Kind::Path, NoDefault, "Directory with tls.crt, tls.key and ca.crt; reloaded when its content changes."),
    operator("tls.client_name", text(253), NoDefault, "DNS name that a client certificate must have."),
    operator("storage.directory", Kind::Path, Text("/var/lib/aof2"), "Data directory: journal, Tier 0, manifest."),
    operator("storage.tier1_directory", Kind::Path, NoDefault, "Directory of Tier 1; on the data directory's volume when absent."),
    hot(operator("storage.capacity_bytes", bytes(0, MAX_BUDGET_BYTES), Integer(0), "Size of the volume; 0 = as the file system reports.")),
    user("append.max_record_bytes", bytes(1, 7 * MIB), Integer(MIB), Hot, "Maximum size of a record in an append."),
    user("segment.target_bytes", bytes(MIB, 4 * GIB), Integer(256 * MIB), Hot, "Size at which a segment rolls."),
    user("segment.max_age", seconds(0, 366 * 86_400), Text("0s"), Hot, "Age at which a segment rolls; 0s = never by age."),
    user("tier0.cluster_max_bytes", bytes(MIB, MAX_BUDGET_BYTES), Integer(CLUSTER_MAX_BYTES), Hot, "Budget of Tier 0 over all pods of the cluster."),
    hot(operator("tier0.instance_quota_bytes", bytes(1, MAX_BUDGET_BYTES), NoDefault, "This pod's share: tier0.cluster_max_bytes / spec.replicas.")),
    user("tier1.max_bytes", bytes(0, MAX_BUDGET_BYTES), Integer(0), Hot, "Budget of Tier 1 on this node; 0 = no limit."),
    user("tier1.compression_level", count(1, 19), Integer(3), Hot, "zstd level of warm files."),
    user("tier1.block_bytes", bytes(4 * KIB, MIB), Integer(64 * KIB), Restart, "Bytes of a segment per independent zstd frame."),
    user("tier1.cache_bytes", bytes(MIB, 64 * GIB), Integer(32 * MIB), Restart, "Memory for blocks read from Tier 1 and Tier 2."),
    operator("tier2.endpoint", text(2048), NoDefault, "URL of the S3 endpoint."),
    operator("tier2.region", text(64), NoDefault, "Region of the bucket."),
    operator("tier2.bucket", text(63), NoDefault, "Bucket; its presence turns Tier 2 on."),
    operator("tier2.prefix", text(512), NoDefault, "Prefix of every object of the cluster; ends with `/`."),
    operator("tier2.addressing", Kind::OneOf(&["VirtualHost", "Path"]), Text("VirtualHost"), "How the bucket is addressed."),
    operator("tier2.checksum", Kind::OneOf(&["CRC64NVME", "MD5", "None"]), Text("CRC64NVME"), "Checksum that is sent with each object; None reads each object back."),
    operator("tier2.credentials_directory", Kind::Path, Text("/etc/aof2/s3-credentials"), "Directory with access_key_id, secret_access_key and optionally session_token."),
    operator("tier2.ca_file", Kind::Path, NoDefault, "CA bundle of the endpoint; the system's when absent."),
    user("tier2.claim_check", seconds(1, 3_600), Text("10s"), Hot, "Interval between checks of stream ownership."),
    user("tier2.upload_concurrency", count(1, 64), Integer(2), Hot, "Maximum number of concurrent uploads."),
    user("tier2.delete_grace", seconds(0, 8_784 * 3_600), Text("24h"), Hot, "Time that an object of trimmed records stays once the bucket has the manifest that gives it up; 0s is for tests."),
    user("tier2.orphans", Kind::OneOf(&["Report", "Delete"]), Text("Report"), Hot, "Objects of segments that no manifest and no catalogue names: Report counts them, Delete deletes them."),
    user("tier2.read_concurrency", count(1, 64), Integer(8), Restart, "Maximum number of concurrent reads from Tier 2."),
    user("tier2.read_bytes", bytes(MIB, GIB), Integer(16 * MIB), Restart, "Bytes that concurrent reads from Tier 2 may bring at a time."),
    user("tier2.request_timeout", seconds(1, 3_600), Text("30s"), Restart, "Timeout of one request to Tier 2."),
    user("tier2.max_attempts", count(1, 100), Integer(5), Restart, "Attempts of an upload before it counts as failed."),
    user("retention", Kind::Rules, NoDefault, Hot, "Rules of retention: tables with streams, max_age and max_bytes; the first whose pattern fits a stream counts."),
    user("report.price", Kind::Prices, NoDefault, Hot, "Prices for the storage report: tables with class and per_gib_month, what a GiB in that storage class of the bucket costs for a month."),
    user("compaction.enabled", Kind::Switch, Switch(false), Hot, "Merge small sealed segments."),
    user("compaction.min_inputs", count(2, 1_024), Integer(4), Hot, "Adjacent segments below half of segment.target_bytes that are merged, at least."),
    user("hydration.on_demand", Kind::Switch, Switch(true), Hot, "Bring segments back that readers have from Tier 1 or Tier 2 again and again, where there is room."),
    user("journal.file_bytes", bytes(4 * MIB, 4 * GIB), Integer(64 * MIB), Restart, "Size of a prezeroed journal file; a multiple of 4096."),
    user("journal.files", count(2, 1_024), Integer(8), Restart, "Number of journal files."),
    user("checkpoint.journal_bytes", bytes(MIB, 1_024 * GIB), Integer(256 * MIB), Hot, "Journal bytes after which a checkpoint runs."),
    user("checkpoint.interval", seconds(1, 3_600), Text("5s"), Hot, "Time after which a checkpoint runs."),
    user("log.level", Kind::OneOf(&["error", "warn", "info", "debug", "trace"]), Text("info"), Hot, "Log level on stderr."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aof2_admin_api::schema::{OPERATOR_KEYS, SHARED_TABLES};

    use super::*;

    #[test]
    fn the_keys_of_the_operator_are_those_that_it_refuses_before_an_engine_runs() {
        let is_operators = |spec: &&KeySpec| matches!(spec.owner, Owner::Operator { .. });
        let here: Vec<&str> = KEYS
            .iter()
            .filter(is_operators)
            .map(|spec| spec.key)
            .collect();
        let known: Vec<&str> = OPERATOR_KEYS.iter().map(|(key, _)| *key).collect();
        assert_eq!(here, known);
        let tables = |is_theirs: bool| -> BTreeSet<&str> {
            let theirs = KEYS.iter().filter(|spec| is_operators(spec) == is_theirs);
            theirs.map(KeySpec::table).collect()
        };
        let both: Vec<&str> = tables(true).intersection(&tables(false)).copied().collect();
        assert_eq!(both, SHARED_TABLES);
        for (_, instead) in OPERATOR_KEYS {
            if let Instead::Key(key) = instead {
                assert!(
                    KEYS.iter()
                        .any(|spec| spec.key == *key && spec.owner == Owner::User)
                );
            }
        }
    }

    #[test]
    fn every_default_lies_in_its_own_range() {
        for spec in KEYS {
            match (spec.default, spec.default_value()) {
                (NoDefault, value) => assert_eq!(value, None, "{}", spec.key),
                (Integer(_) | Text(_) | Switch(_), Some(value)) => {
                    assert!(spec.kind.admits(&value), "{} = {value}", spec.key)
                }
                (Integer(_) | Text(_) | Switch(_), None) => {
                    panic!("default of {} does not parse", spec.key)
                }
            }
        }
    }

    #[test]
    fn keys_are_unique_and_grouped_by_table() {
        let mut tables: Vec<&str> = Vec::new();
        for (i, spec) in KEYS.iter().enumerate() {
            assert!(
                KEYS[..i].iter().all(|other| other.key != spec.key),
                "{} twice",
                spec.key
            );
            if tables.last() != Some(&spec.table()) {
                assert!(
                    !tables.contains(&spec.table()),
                    "[{}] is in two places",
                    spec.table()
                );
                tables.push(spec.table());
            }
        }
    }
}
