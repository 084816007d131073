//! Each thing that can be wrong with `aof2.toml`, and what a person is told about it.

use std::time::Duration;

use aof2_admin_api::report::Reload;
use aof2_node::config::{self, Mode, Settings, Tier2Place, Tls};

const POD: &str = r#"
[operator]
revision = "860510c1"
[cluster]
id = "0192f0aa-0000-7000-8000-000000000001"
name = "orders"
namespace = "default"
[node]
name = "orders-0"
[tls]
directory = "/etc/aof2/tls"
client_name = "operator.aof2.dev"
[tier0]
cluster_max_bytes = 12884901888
instance_quota_bytes = 4294967296
[tier2]
endpoint = "http://s3.local:7070"
region = "us-east-1"
bucket = "aof2"
prefix = "prod/orders/"
addressing = "Path"
claim_check = "3s"
"#;

fn parse(text: &str, mode: Mode) -> Result<Settings, Vec<String>> {
    config::parse("aof2.toml", text, mode).map_err(|errors| errors.messages())
}

/// The only message for a user's file.
fn message(text: &str) -> String {
    let mut messages = parse(text, Mode::User).expect_err("must be refused");
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.remove(0)
}

#[test]
fn a_pods_file_reads_into_typed_settings_with_defaults_for_the_rest() {
    let settings = parse(POD, Mode::Pod).expect("valid");
    assert_eq!(settings.revision, "860510c1");
    assert_eq!(settings.cluster.name, "orders");
    assert_eq!(settings.node_name, "orders-0");
    assert_eq!(settings.tier0.instance_quota_bytes, 4 << 30);
    assert_eq!(
        settings.tls,
        Some(Tls {
            directory: "/etc/aof2/tls".into(),
            client_name: "operator.aof2.dev".to_string()
        })
    );
    let tier2 = settings.tier2.expect("a bucket turns Tier 2 on");
    assert_eq!(tier2.claim_check, Duration::from_secs(3));
    assert_eq!(tier2.max_attempts, 5);
    assert_eq!(
        tier2.place,
        Tier2Place::S3 {
            endpoint: Some("http://s3.local:7070".to_string()),
            region: "us-east-1".to_string(),
            bucket: "aof2".to_string(),
            prefix: "prod/orders/".to_string(),
            is_path_style: true,
            checksum: "CRC64NVME".into(),
            credentials_directory: "/etc/aof2/s3-credentials".into(),
            ca_file: None,
        }
    );
    assert_eq!(settings.append.max_record_bytes, 1 << 20);
    assert_eq!(settings.segment.max_age, Duration::ZERO);
    assert_eq!(
        settings.listen.data_socket.to_str(),
        Some("/run/aof2/data.sock")
    );
}

#[test]
fn without_a_share_the_quota_is_the_whole_budget() {
    let settings = parse("[tier0]\ncluster_max_bytes = 2097152\n", Mode::User).expect("valid");
    assert_eq!(settings.tier0.instance_quota_bytes, 2 << 20);
}

#[test]
fn an_unknown_key_names_file_line_column_and_the_nearest_known_key() {
    assert_eq!(
        message("[append]\n\n[tier0]\n  cluster_max_byte = 1\n"),
        "aof2.toml:4:3: unknown key `tier0.cluster_max_byte`; the nearest known key is `tier0.cluster_max_bytes`"
    );
    assert_eq!(
        message("[segment]\nmax_record_bytes = 5\n"),
        "aof2.toml:2:1: unknown key `segment.max_record_bytes`; the nearest known key is `append.max_record_bytes`"
    );
    assert_eq!(
        message("[log]\ncolour_of_the_logo = \"red\"\n"),
        "aof2.toml:2:1: unknown key `log.colour_of_the_logo`; `aof2-engine config schema` lists the known ones"
    );
    assert_eq!(
        message("[teir1]\nmax_bytes = 5\n"),
        "aof2.toml:1:2: unknown table `[teir1]`; the nearest known table is `[tier1]`"
    );
    assert_eq!(
        message("target_bytes = 5\n"),
        "aof2.toml:1:1: unknown key `target_bytes`; the nearest known key is `segment.target_bytes`"
    );
}

#[test]
fn a_wrong_type_names_what_is_expected_and_what_was_found() {
    assert_eq!(
        message("[segment]\ntarget_bytes = \"256MiB\"\n"),
        "aof2.toml:2:16: `segment.target_bytes` must be an integer number of bytes, such as 1048576; found string \"256MiB\""
    );
    assert_eq!(
        message("[checkpoint]\ninterval = 5\n"),
        "aof2.toml:2:12: `checkpoint.interval` must be a duration string, such as \"30s\", \"10m\" or \"250ms\"; found integer 5"
    );
    assert_eq!(
        message("[checkpoint]\ninterval = \"5 seconds\"\n"),
        "aof2.toml:2:12: `checkpoint.interval` must be a duration string, such as \"30s\", \"10m\" or \"250ms\"; \
         found string \"5 seconds\""
    );
    assert_eq!(
        message("[journal]\nfiles = 8.0\n"),
        "aof2.toml:2:9: `journal.files` must be an integer; found float 8.0"
    );
    assert_eq!(
        message("tier0 = 5\n"),
        "aof2.toml:1:1: `tier0` must be a table, `[tier0]`; found integer"
    );
}

#[test]
fn a_value_out_of_range_names_the_value_and_the_allowed_range() {
    assert_eq!(
        message("[segment]\ntarget_bytes = 1024\n"),
        "aof2.toml:2:16: `segment.target_bytes` = 1024 is out of range; allowed: 1048576 (1 MiB) to 4294967296 (4 GiB)"
    );
    assert_eq!(
        message("[tier1]\ncompression_level = -3\n"),
        "aof2.toml:2:21: `tier1.compression_level` = -3 is out of range; allowed: 1 to 19"
    );
    assert_eq!(
        message("[tier2]\nclaim_check = \"2h\"\n"),
        "aof2.toml:2:15: `tier2.claim_check` = 2h is out of range; allowed: 1s to 1h"
    );
    assert_eq!(
        message("[log]\nlevel = \"loud\"\n"),
        "aof2.toml:2:9: `log.level` = \"loud\" is out of range; allowed: \"error\", \"warn\", \"info\", \"debug\", \"trace\""
    );
    assert_eq!(
        message("[segment]\ntarget_bytes = 99999999999999999999999\n"),
        "aof2.toml:2:16: `segment.target_bytes` = 99999999999999999999999 is out of range; allowed: 1048576 (1 MiB) to 4294967296 (4 GiB)"
    );
}

#[test]
fn keys_of_the_operator_are_refused_in_a_users_file_and_name_the_field_to_set() {
    assert_eq!(
        message("[tier2]\nbucket = \"mine\"\n"),
        "aof2.toml:2:1: `tier2.bucket` belongs to the operator; remove it and set `spec.tier2.bucket` of the Aof2Cluster"
    );
    assert_eq!(
        message("[tier0]\ninstance_quota_bytes = 5\n"),
        "aof2.toml:2:1: `tier0.instance_quota_bytes` belongs to the operator; remove it and set `tier0.cluster_max_bytes`"
    );
    assert!(parse("[tier0]\ninstance_quota_bytes = 5\n", Mode::StandAlone).is_ok());
}

#[test]
fn a_pods_file_without_its_identity_is_refused() {
    let messages =
        parse(&POD.replace("name = \"orders-0\"", ""), Mode::Pod).expect_err("no node.name");
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(
        messages[0].starts_with("aof2.toml: `node.name` is missing: the operator writes it"),
        "{messages:?}"
    );
}

#[test]
fn a_pods_file_that_somebody_changed_is_refused_before_its_keys_are_looked_at() {
    let other_bucket = POD.replace("bucket = \"aof2\"", "bucket = \"mine\"");
    let errors = config::parse("aof2.toml", &other_bucket, Mode::Pod).expect_err("another bucket");
    let hash = "860510c1";
    assert_eq!(
        errors.messages(),
        [format!(
            "aof2.toml: `operator.revision` = {hash} is not the config in this file, which is fc5cdd60; \
             restore the file that the operator wrote"
        )]
    );
    let termination = serde_json::to_value(errors.termination()).expect("JSON");
    assert_eq!(
        (&termination["reason"], &termination["key"]),
        (&"ConfigAltered".into(), &"operator.revision".into())
    );
    // With a value that no engine takes: what is wrong is still that the file is another one.
    let messages = parse(&POD.replace("\"3s\"", "\"3 weeks\""), Mode::Pod).expect_err("changed");
    assert!(messages[0].contains("operator.revision"), "{messages:?}");
    let torn = &POD[..POD.len() - 20];
    assert!(parse(torn, Mode::Pod).is_err());
    assert!(parse(&other_bucket, Mode::StandAlone).is_ok());
}

#[test]
fn the_first_line_of_a_pods_file_binds_the_pods_own_keys_too() {
    let written = aof2_admin_api::revision::with_sum(POD);
    assert!(parse(&written, Mode::Pod).is_ok());
    let other = written.replace("operator.aof2.dev", "somebody.test");
    assert_eq!(
        parse(&other, Mode::Pod).expect_err("another operator"),
        [
            "aof2.toml: differs from the sum in its first line; restore the file that the operator wrote"
        ]
    );
}

#[test]
fn a_pods_file_without_a_revision_is_refused() {
    let text = POD.replace("revision = ", "# revision = ");
    let messages = parse(&text, Mode::Pod).expect_err("no revision");
    assert!(
        messages[0]
            .starts_with("aof2.toml: `operator.revision` is missing: the operator writes it"),
        "{messages:?}"
    );
}

#[test]
fn every_error_is_reported_in_the_order_of_the_lines() {
    let messages = parse(
        "[log]\nlevel = 1\nlevl = 2\n[append]\nmax_record_bytes = 0\n",
        Mode::User,
    )
    .expect_err("three");
    let lines: Vec<&str> = messages
        .iter()
        .map(|message| message.split(": ").next().unwrap_or(""))
        .collect();
    assert_eq!(lines, ["aof2.toml:2:9", "aof2.toml:3:1", "aof2.toml:5:20"]);
}

#[test]
fn text_that_is_not_toml_names_its_place() {
    let message = message("[log\nlevel = \"info\"\n");
    assert!(
        message.starts_with("aof2.toml:1:5: is not valid TOML: "),
        "{message}"
    );
    let twice = config::parse(
        "aof2.toml",
        "[log]\nlevel = \"info\"\nlevel = \"warn\"\n",
        Mode::User,
    )
    .expect_err("twice");
    assert!(
        twice.messages()[0].starts_with("aof2.toml:3:1: is not valid TOML: duplicate key"),
        "{twice}"
    );
}

#[test]
fn a_file_over_the_limit_is_refused() {
    let message = message(&"# filler\n".repeat(2_000));
    assert_eq!(
        message,
        "aof2.toml: has 18000 bytes, limit 16384; remove comments"
    );
}

#[test]
fn rules_between_keys_name_both_values() {
    let over = POD.replace(
        "instance_quota_bytes = 4294967296",
        "instance_quota_bytes = 99999999999",
    );
    assert_eq!(
        parse(&over, Mode::Pod).expect_err("share over whole"),
        [
            "aof2.toml:15:24: `tier0.instance_quota_bytes` = 99999999999 is more than `tier0.cluster_max_bytes` = 12884901888; \
          a share cannot exceed the whole"
        ]
    );
    assert_eq!(
        message("[checkpoint]\njournal_bytes = 1073741824\n"),
        "aof2.toml:2:17: `checkpoint.journal_bytes` = 1073741824 is more than the journal holds, \
         `journal.file_bytes` x `journal.files` = 536870912; lower the first or raise the others"
    );
    let no_region = POD.replace("region = \"us-east-1\"\n", "");
    assert_eq!(
        parse(&no_region, Mode::StandAlone).expect_err("no region"),
        [
            "aof2.toml:17:12: `tier2.endpoint` is set without `tier2.region`; Tier 2 needs region, bucket and prefix"
        ]
    );
    let no_slash = POD.replace("prod/orders/", "prod/orders");
    let messages = parse(&no_slash, Mode::StandAlone).expect_err("no slash");
    assert!(
        messages[0].starts_with(
            "aof2.toml:20:10: `tier2.prefix`: Tier 2 prefix \"prod/orders\" is invalid"
        ),
        "{messages:?}"
    );
    let half_tls = POD.replace("client_name = \"operator.aof2.dev\"\n", "");
    assert_eq!(
        parse(&half_tls, Mode::Pod).expect_err("half of [tls]"),
        [
            "aof2.toml:11:13: `tls.directory` is set without `tls.client_name`; mutual TLS needs both"
        ]
    );
}

#[test]
fn changes_carry_key_both_values_and_reload_class_but_not_the_revision() {
    let from = parse(POD, Mode::Pod).expect("valid");
    let text = POD
        .replace("860510c1", "77ab10de")
        .replace(
            "instance_quota_bytes = 4294967296",
            "instance_quota_bytes = 3221225472",
        )
        .replace("\"3s\"", "\"3s\"\nmax_attempts = 7");
    let to = parse(&text, Mode::StandAlone).expect("valid");
    let changes: Vec<(String, String, String, Reload)> = config::changes(&from, &to)
        .into_iter()
        .map(|c| (c.key, c.from, c.to, c.reload))
        .collect();
    assert_eq!(
        changes,
        [
            (
                "tier0.instance_quota_bytes".to_string(),
                "4294967296".to_string(),
                "3221225472".to_string(),
                Reload::Hot
            ),
            (
                "tier2.max_attempts".to_string(),
                "5".to_string(),
                "7".to_string(),
                Reload::Restart
            ),
        ]
    );
    assert!(config::changes(&from, &from).is_empty());
}

#[test]
fn the_effective_file_reads_back_to_the_same_values() {
    let settings = parse(POD, Mode::Pod).expect("valid");
    let effective = settings.to_toml();
    let again = config::parse("effective", &effective, Mode::StandAlone)
        .expect("the effective file is valid");
    assert_eq!(config::changes(&settings, &again), []);
    assert_eq!(again.revision, settings.revision);
    assert!(
        effective.contains("[segment]\ntarget_bytes = 268435456\n"),
        "defaults are in it:\n{effective}"
    );
}

#[test]
fn the_schema_says_for_each_key_whether_it_is_hot_and_whose_it_is() {
    let schema = config::schema("1.2.3");
    let entry = |key: &str| {
        let keys = schema["keys"].as_array().expect("a list");
        keys.iter()
            .find(|entry| entry["key"] == key)
            .unwrap_or_else(|| panic!("{key} is missing"))
            .clone()
    };
    assert_eq!(schema["version"], "1.2.3");
    let quota = entry("tier0.instance_quota_bytes");
    assert_eq!(
        (quota["reload"].as_str(), quota["owner"].as_str()),
        (Some("Hot"), Some("Operator"))
    );
    let target = entry("segment.target_bytes");
    assert_eq!(
        (
            target["default"].as_str(),
            target["min"].as_str(),
            target["max"].as_str()
        ),
        (Some("268435456"), Some("1048576"), Some("4294967296"))
    );
    assert_eq!(entry("tier2.bucket")["crField"], "spec.tier2.bucket");
    assert_eq!(entry("tier1.block_bytes")["reload"], "Restart");
}

#[test]
fn the_termination_message_is_one_line_of_json_with_reason_and_key() {
    let errors = config::parse("aof2.toml", "[log]\nlevl = \"info\"\n", Mode::User)
        .expect_err("unknown key");
    let line = serde_json::to_string(&errors.termination()).unwrap();
    assert!(!line.contains('\n'));
    let json: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(json["reason"], "UnknownKey");
    assert_eq!(json["key"], "log.levl");
    assert_eq!(
        json["message"],
        "aof2.toml:2:1: unknown key `log.levl`; the nearest known key is `log.level`"
    );
}
