//! A revision: what all pods have in common. Its name is a digest of the parsed keys, so that comments, order and spelling do not
//! matter, and neither does the version of the operator. An engine computes it again of the file that it gets (`aof2_admin_api::revision`).

use aof2_crds::tier2::{Addressing, Checksum, Tier2};
use toml::{Table, Value};

use super::{
    DEFAULT_CLUSTER_MAX_BYTES, DEFAULT_JOURNAL_FILE_BYTES, DEFAULT_JOURNAL_FILES, UserConfig,
};

#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// 8 hex digits.
    pub hash: String,
    pub(super) table: Table,
}

impl Revision {
    /// The user's keys and where Tier 2 is.
    pub fn new(user: &UserConfig, tier2: Option<&Tier2>) -> Self {
        let mut table = user.table.clone();
        if let Some(tier2) = tier2 {
            let addressing = match tier2.addressing {
                Addressing::VirtualHost => "VirtualHost",
                Addressing::Path => "Path",
            };
            // The default is left out: it is no change for clusters that were made before the key.
            let checksum = match tier2.checksum {
                Checksum::Crc64Nvme => None,
                Checksum::Md5 => Some(("checksum", "MD5")),
                Checksum::None => Some(("checksum", "None")),
            };
            let keys = [
                ("endpoint", tier2.endpoint.as_str()),
                ("region", &tier2.region),
                ("bucket", &tier2.bucket),
                ("prefix", &tier2.prefix),
                ("addressing", addressing),
            ];
            let entry = table
                .entry("tier2")
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(entry) = entry {
                let keys = keys.into_iter().chain(checksum);
                entry.extend(
                    keys.map(|(key, value)| (key.to_owned(), Value::String(value.to_owned()))),
                );
            }
        }
        Self::of(table)
    }

    /// From the ConfigMap of a revision that was made before; `None` when it is not what its name says.
    pub fn read(hash: &str, text: &str) -> Option<Self> {
        let revision = Self::of(toml::from_str(text).ok()?);
        (revision.hash == hash).then_some(revision)
    }

    fn of(table: Table) -> Self {
        Self {
            hash: aof2_admin_api::revision::hash(&table),
            table,
        }
    }

    pub fn text(&self) -> String {
        self.table.to_string()
    }

    /// Shared over the pods.
    pub fn cluster_max_bytes(&self) -> u64 {
        self.set_cluster_max_bytes()
            .unwrap_or(DEFAULT_CLUSTER_MAX_BYTES)
    }

    /// `None`: the engine's default, left out or written out.
    pub fn set_cluster_max_bytes(&self) -> Option<u64> {
        let set = self.number("tier0", "cluster_max_bytes");
        set.filter(|bytes| *bytes != DEFAULT_CLUSTER_MAX_BYTES)
    }

    /// `None`: not set, or no limit.
    pub fn set_tier1_max_bytes(&self) -> Option<u64> {
        self.number("tier1", "max_bytes").filter(|bytes| *bytes > 0)
    }

    /// Bytes that each node's journal takes whole at its start.
    pub fn journal_bytes(&self) -> u64 {
        let file_bytes = self.number("journal", "file_bytes");
        let files = self.number("journal", "files");
        file_bytes
            .unwrap_or(DEFAULT_JOURNAL_FILE_BYTES)
            .saturating_mul(files.unwrap_or(DEFAULT_JOURNAL_FILES))
    }

    /// The rules of retention as they are written; `None`: there are none.
    pub fn retention(&self) -> Option<&Value> {
        self.table.get("retention")
    }

    /// The same as a file of their own.
    pub fn retention_text(&self) -> String {
        let rules = self
            .retention()
            .map(|it| ("retention".to_owned(), it.clone()));
        rules.into_iter().collect::<Table>().to_string()
    }

    fn number(&self, table: &str, key: &str) -> Option<u64> {
        let value = self.table.get(table)?.get(key)?.as_integer()?;
        u64::try_from(value).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tier2() -> Tier2 {
        serde_json::from_value(serde_json::json!({
            "endpoint": "https://s3.test", "region": "eu", "bucket": "acme", "prefix": "prod/orders/",
            "addressing": "Path", "credentials": {"secretRef": {"name": "orders-s3"}},
        }))
        .unwrap()
    }

    fn revision(text: &str) -> Revision {
        Revision::new(&UserConfig::parse(text).unwrap(), None)
    }

    #[test]
    fn comments_order_and_spelling_do_not_change_a_revision() {
        let one = revision("[tier0]\ncluster_max_bytes = 12_000_000\n[log]\nlevel = \"info\"\n");
        let other = revision(
            "# why\nlog = { level = 'info' }\n[tier0]\n  cluster_max_bytes = 12000000 # bytes\n",
        );
        assert_eq!(one.hash, other.hash);
    }

    #[test]
    fn values_types_and_tier_2_do() {
        let base = revision("[log]\nlevel = \"info\"");
        assert_ne!(base.hash, revision("[log]\nlevel = \"debug\"").hash);
        assert_ne!(revision("[a]\nb = 1").hash, revision("[a]\nb = \"1\"").hash);
        assert_ne!(revision("[a]\nb = 1").hash, revision("[a]\nb = 1.0").hash);
        assert_ne!(
            base.hash,
            Revision::new(
                &UserConfig::parse("[log]\nlevel = \"info\"").unwrap(),
                Some(&tier2())
            )
            .hash
        );
        let moved = Tier2 {
            endpoint: "https://other.test".into(),
            ..tier2()
        };
        assert_ne!(
            Revision::new(&UserConfig::default(), Some(&tier2())).hash,
            Revision::new(&UserConfig::default(), Some(&moved)).hash
        );
    }

    #[test]
    fn rules_of_retention_are_read_back_from_a_file_of_their_own() {
        let text =
            "[tier0]\ncluster_max_bytes = 9\n[[retention]]\nstreams = \"a\"\nmax_age = \"1h\"\n";
        let whole = revision(text);
        let alone = revision(&whole.retention_text());
        assert_eq!(alone.retention(), whole.retention());
        assert_eq!(alone.set_cluster_max_bytes(), None);
        assert_eq!(revision("[log]\nlevel = \"info\"").retention_text(), "");
    }

    #[test]
    fn credentials_are_not_part_of_a_revision() {
        let mut other = tier2();
        other.credentials.secret_ref.name = "rotated".into();
        assert_eq!(
            Revision::new(&UserConfig::default(), Some(&tier2())),
            Revision::new(&UserConfig::default(), Some(&other))
        );
    }

    /// Computed once by `hashlib.sha256` over the canonical form: a change here would re-roll every cluster of every user.
    #[test]
    fn names_of_revisions_are_the_same_in_every_version_of_the_operator() {
        assert_eq!(revision("").hash, "44136fa3");
        assert_eq!(
            revision("[log]\nlevel = \"info\"\n[tier0]\ncluster_max_bytes = 17179869184").hash,
            "aeec05d9"
        );
    }

    #[test]
    fn a_revision_reads_back_from_its_own_text_only() {
        let made = Revision::new(
            &UserConfig::parse("[tier0]\ncluster_max_bytes = 30\n[tier2]\nclaim_check = \"5s\"")
                .unwrap(),
            Some(&tier2()),
        );
        assert_eq!(Revision::read(&made.hash, &made.text()), Some(made.clone()));
        assert_eq!(
            Revision::read(&made.hash, "[tier0]\ncluster_max_bytes = 31"),
            None
        );
    }

    #[test]
    fn the_budget_is_the_users_or_the_engines_default() {
        let budget = revision("[tier0]\ncluster_max_bytes = 100").cluster_max_bytes();
        assert_eq!(budget, 100);
        assert_eq!(revision("").cluster_max_bytes(), 12 << 30);
    }
}
