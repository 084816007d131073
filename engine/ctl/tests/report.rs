//! `report` against a real engine, and the guide's page about it.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use support::{ADMIN, Engine, run, wait_for};

/// Sealed and uploaded records of two streams, one of them with an open segment.
fn filled(directory: &Path) -> Engine {
    let engine = Engine::start_with_tier2(directory);
    for (stream, records) in [("orders-a", 400), ("audit", 100)] {
        let count = records.to_string();
        let load = [
            "load",
            "--stream",
            stream,
            "--rate",
            "0",
            "--count",
            &count,
            "--collector",
            "-",
        ];
        engine.admin(&load, "").ok();
    }
    engine.admin(&["seal"], "").ok();
    engine.admin(&["append", "orders-a"], "open\n").ok();
    wait_for("the uploads", || {
        (report(&engine, &[])["total"]["cold"]["objects"] == 2).then_some(())
    });
    engine
}

fn report(engine: &Engine, more: &[&str]) -> Value {
    engine
        .admin(&[&["report", "--json"], more].concat(), "")
        .json()
}

#[test]
fn a_report_counts_what_segments_and_dump_show() {
    let directory = tempfile::tempdir().unwrap();
    let engine = filled(directory.path());
    let told = report(&engine, &[]);
    let segments = engine.admin(&["segments", "--json"], "").json();
    let segments = segments.as_array().expect("a list");
    let sum = |field: &str| -> u64 {
        let values = segments.iter().filter_map(|it| it[field].as_u64());
        values.sum()
    };
    let total = &told["total"];
    assert_eq!(total["streams"], 2);
    assert_eq!(total["records"], sum("records"));
    assert_eq!(total["readable_bytes"], sum("bytes"));
    assert_eq!(total["cold"]["bytes"], sum("compressed_bytes"));
    assert_eq!(total["warm"], total["cold"]);
    let dump = engine.admin(&["dump", "--json"], "").json();
    assert_eq!(total["hot"]["bytes"], dump["tier0"]["total_bytes"]);
    assert_eq!(total["hot"]["objects"], 3);
    let ratio = total["compression"]["ratio"].as_f64().expect("a ratio");
    assert!(ratio > 1.0, "{ratio}");
    // Records of some seconds measure no day, and a folder in the place of a bucket has no classes.
    for unmeasured in ["growth", "monthly_cost"] {
        assert!(total.get(unmeasured).is_none(), "{unmeasured}: {total}");
    }
    assert!(total["classes"][0].get("class").is_none(), "{total}");
    let warnings = told["warnings"].to_string();
    assert!(
        warnings.contains("storage class of the objects is unknown")
            && warnings.contains("names no storage class of "),
        "{warnings}"
    );
    assert_eq!(told["streams"][0]["name"], "orders-a");

    let page = engine.admin(&["report", "--limit", "1"], "").ok();
    for part in [
        "streams      2 with 501 records, ",
        "class unknown\n",
        "growth       not measured, that takes an hour of records\n",
        "\norders-a ",
        "\n1 others ",
        "\nWARNING: storage class of the objects is unknown: ",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let one = report(&engine, &["--stream", "aud*", "--limit", "0"]);
    assert_eq!(one["total"]["records"], 100);
    assert_eq!(one["streams"], Value::Array(Vec::new()));
    assert_eq!(one["rest"]["records"], 100);
}

#[test]
fn rules_that_are_not_in_use_are_counted_and_take_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let engine = filled(directory.path());
    let rules = "[[retention]]\nstreams = \"nobody-*\"\nmax_bytes = 1048576\n\n[[retention]]\nstreams = \"orders-*\"\nmax_age = \"100h\"\n";
    let told = engine
        .admin(&["report", "--json", "--retention", "-"], rules)
        .json();
    let proposed = &told["proposed_rules"];
    assert_eq!(proposed[0]["fitting_streams"], 0);
    assert_eq!(proposed[1]["fitting_streams"], 1);
    // Nothing is 100 hours old now, and all is in a week.
    assert_eq!(proposed[1]["now"]["segments"], 0);
    assert_eq!(proposed[1]["in_7_days"]["records"], 400);
    assert_eq!(proposed[1]["in_30_days"], proposed[1]["in_7_days"]);
    let orders = &told["streams"][0];
    assert_eq!(orders["name"], "orders-a");
    let cold_bytes = &orders["proposed_retention"]["in_7_days"]["cold_bytes"];
    assert_eq!(*cold_bytes, orders["cold"]["bytes"]);
    assert_eq!(told["total"]["retention"]["in_30_days"]["segments"], 0);
    let warnings = told["warnings"].to_string();
    assert!(
        warnings.contains("proposed retention rule \\\"nobody-*\\\" fits no stream of this node"),
        "{warnings}"
    );
    let file = engine.path("rules.toml");
    std::fs::write(&file, rules).unwrap();
    let page = engine.admin(&["report", "--retention", &file], "").ok();
    assert!(
        page.contains("the rules of the file would take, of what is stored and sealed now:\n")
            && page.contains("(400 records in 1 segments)"),
        "{page}"
    );
    let streams = engine.admin(&["streams", "--json"], "").json();
    assert_eq!(streams[1]["first_sequence"], 0);
}

#[test]
fn what_cannot_be_reported_is_refused_with_value_and_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::start(directory.path());
    engine.admin(&["append", "orders"], "a\n").ok();
    for (arguments, input, code, told) in [
        (
            &["--stream", "payments"][..],
            "",
            5,
            "no stream of this node fits \"payments\"; `aof2-admin streams` lists the streams of this node",
        ),
        (
            &["--stream", "Orders"],
            "",
            2,
            "query parameter stream = \"Orders\" fits no stream; use lower-case letters",
        ),
        (
            &["--limit", "1001"],
            "",
            2,
            "query parameter limit = 1001 is out of range; allowed: 0 to 1000",
        ),
        (
            &["--retention", "/nonexistent/rules.toml"],
            "",
            2,
            "cannot read /nonexistent/rules.toml: No such file",
        ),
        (
            &["--retention", "-"],
            "[[retention]]\nstreams = \"a\"\nmaxage = \"1h\"\n",
            2,
            "unknown key `retention.maxage`; the nearest known key is `retention.max_age`",
        ),
        (
            &["--retention", "-"],
            "[cluster]\nname = \"x\"\n",
            2,
            "`cluster.name` belongs to the operator",
        ),
    ] {
        let refused = engine.admin(&[&["report"], arguments].concat(), input);
        assert_eq!(refused.code, code, "{refused:?}");
        assert!(refused.stderr.contains(told), "{told}: {refused:?}");
    }
    let long = "#".repeat(17 * 1024);
    let refused = engine.admin(&["report", "--retention", "-"], &long);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("limit 16384"), "{refused:?}");
    let empty = engine
        .admin(&["report", "--json", "--retention", "-"], "")
        .json();
    let warnings = empty["warnings"].to_string();
    assert!(warnings.contains("everything would be kept"), "{warnings}");
}

/// Each block by a shell, as in `e2e/tests/cluster/guide.rs`, with the engine of this test behind `kubectl exec`.
#[test]
fn the_commands_of_the_guide_work() {
    let directory = tempfile::tempdir().unwrap();
    let engine = filled(directory.path());
    engine.admin(&["append", "audit-1"], "a\n").ok();
    let programs = directory.path().join("bin");
    std::fs::create_dir(&programs).unwrap();
    let kubectl = programs.join("kubectl");
    let sockets = engine.with_sockets(&[]).join(" ");
    let script = format!(
        "#!/bin/sh\n\
         [ \"$1 $2 $3 $4 $5 $6 $7 $8 $9\" = '-n aof2 exec -i orders-0 -c aof2-engine -- /usr/bin/aof2-admin' ] || exit 90\n\
         shift 9\nexec {ADMIN} \"$@\" {sockets}\n"
    );
    std::fs::write(&kubectl, script).unwrap();
    std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/storage-report.md");
    let page = std::fs::read_to_string(page).unwrap();
    let blocks: Vec<&str> = page
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("```")?.0))
        .collect();
    let path = std::env::var("PATH").unwrap();
    let mut shown = Vec::new();
    for block in &blocks {
        let path = format!("PATH={}:{path}", programs.display());
        let script = format!("cd {}\n{block}", directory.path().display());
        let ran = run(
            "env",
            &[&path, "bash", "-euo", "pipefail", "-c", &script],
            "",
        );
        assert_eq!(ran.code, 0, "{block}\n{ran:?}");
        shown.push(ran.stdout);
    }
    let parts = [
        "streams      3 with 502 records",
        "orders-a ",
        "the rules of the file would take",
    ];
    assert_eq!(shown.len(), parts.len(), "{shown:?}");
    for (shown, part) in shown.iter().zip(parts) {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
