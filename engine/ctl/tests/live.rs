//! The tools against a real engine.

mod support;

use std::process::{Child, Command, Stdio};

use support::{ADMIN, Collector, Engine, INSPECT, run, wait_for};

struct Load(Child);

impl Load {
    fn start(engine: &Engine, collector: &Collector, arguments: &[&str]) -> Self {
        let address = collector.address.to_string();
        let all = [&["load", "--collector", &address, "--json"], arguments].concat();
        let child = Command::new(ADMIN)
            .args(engine.with_sockets(&all))
            .stdout(Stdio::null())
            .spawn()
            .expect("load starts");
        Self(child)
    }

    fn end(mut self) -> i32 {
        let status = wait_for("the end of load", || self.0.try_wait().expect("its state"));
        status.code().expect("an exit code")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn records_are_appended_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::start(directory.path());

    let appended = engine.admin(&["append", "orders"], "first\nsecond\n").ok();
    assert_eq!(appended, "orders: 2 records, sequences 0 to 1\n");
    let appended = engine
        .admin(&["append", "orders", "--payload", "third", "--json"], "")
        .json();
    assert_eq!(
        (&appended["records"], &appended["first_sequence"]),
        (&1.into(), &2.into())
    );

    assert_eq!(
        engine.admin(&["read", "orders", "--raw"], "").ok(),
        "first\nsecond\nthird\n"
    );
    assert_eq!(
        engine
            .admin(
                &["read", "orders", "--raw", "--from", "1", "--limit", "1"],
                ""
            )
            .ok(),
        "second\n"
    );
    let lines = engine.admin(&["read", "orders", "--json"], "").ok();
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["sequence"], &last["payload"]),
        (&2.into(), &"third".into())
    );

    let streams = engine.admin(&["streams", "--json"], "").json();
    assert_eq!(
        (&streams[0]["name"], &streams[0]["durable_sequence"]),
        (&"orders".into(), &3.into())
    );
    let table = engine.admin(&["streams"], "").ok();
    assert!(
        table.starts_with("STREAM") && table.lines().nth(1).unwrap().starts_with("orders "),
        "{table}"
    );
}

#[test]
fn an_idempotent_append_that_is_repeated_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::start(directory.path());
    let append = [
        "append",
        "orders",
        "--payload",
        "x",
        "--producer-id",
        "7",
        "--producer-seq",
        "0",
    ];
    assert_eq!(
        engine.admin(&append, "").ok(),
        "orders: 1 records, sequences 0 to 0\n"
    );
    assert_eq!(
        engine.admin(&append, "").ok(),
        "orders: 1 records, sequences 0 to 0, 1 of them already present\n"
    );
}

#[test]
fn a_refused_append_names_reason_and_value() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::start(directory.path());
    let refused = engine.admin(&["append", "Not-A-Name", "--payload", "x"], "");
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(
        refused.stderr.contains("InvalidStreamName") && refused.stderr.contains("Not-A-Name"),
        "{refused:?}"
    );

    let large = "x".repeat(1_048_577) + "\n";
    let refused = engine.admin(&["append", "orders"], &large);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("RecordTooLarge"), "{refused:?}");
    assert!(
        refused.stderr.contains("1048577") && refused.stderr.contains("1048576"),
        "{refused:?}"
    );

    // Others of the same input are stored, and counted.
    let three = format!("ok1\n{large}ok3\n");
    let refused = engine.admin(&["append", "part"], &three);
    assert_eq!(refused.code, 4, "{refused:?}");
    let stored = engine.admin(&["read", "--raw", "part"], "").ok();
    let count = stored.lines().count();
    assert!(
        refused
            .stdout
            .starts_with(&format!("part: {count} records")),
        "{refused:?} {stored}"
    );

    let unknown = engine.admin(&["--json", "read", "nobody"], "");
    assert_eq!(unknown.code, 5, "{unknown:?}");
    let error: serde_json::Value = serde_json::from_str(&unknown.stderr).expect("JSON");
    assert_eq!(error["error"]["kind"], "NotFound");

    let nothing = engine.admin(&["verify"], "");
    assert_eq!(nothing.code, 2, "{nothing:?}");
    assert!(nothing.stderr.contains("nothing to verify"), "{nothing:?}");

    let unknown = engine.admin(&["read", "nobody"], "");
    assert_eq!(unknown.code, 5, "{unknown:?}");
    assert!(unknown.stderr.contains("nobody"), "{unknown:?}");
}

#[test]
fn a_seal_is_seen_in_the_streams_and_in_the_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(directory.path());
    engine.admin(&["append", "orders"], "a\nb\nc\n").ok();
    let sealed = engine
        .admin(&["seal", "--stream", "orders", "--json"], "")
        .json();
    assert_eq!(sealed["streams"]["orders"], 3);
    engine.admin(&["flush"], "").ok();
    let segments = engine
        .admin(&["segments", "--stream", "orders", "--json"], "")
        .json();
    assert_eq!(
        (&segments[0]["records"], &segments[0]["base_sequence"]),
        (&3.into(), &0.into())
    );
    let dump = engine.admin(&["dump"], "").ok();
    assert!(dump.contains("ready") && dump.contains("tier 0"), "{dump}");

    // Recovery brings what only the journal holds into the chunks.
    engine.restart();
    engine.kill();
    let data = engine.data().display().to_string();
    let page = run(INSPECT, &[&data], "").ok();
    let events: Vec<&str> = ["SegmentOpened", "SealSegment"]
        .into_iter()
        .filter(|event| page.contains(event))
        .collect();
    assert_eq!(events, ["SegmentOpened", "SealSegment"], "{page}");
    assert!(page.contains("watermark=3"), "{page}");
}

#[test]
fn a_tail_shows_records_as_they_come() {
    use std::io::BufRead;

    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::start(directory.path());
    engine
        .admin(&["append", "orders", "--payload", "before"], "")
        .ok();
    let arguments = engine.with_sockets(&["tail", "orders", "--from", "0", "--raw"]);
    let mut tail = Command::new(ADMIN)
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(tail.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "before");
    engine
        .admin(&["append", "orders", "--payload", "after"], "")
        .ok();
    assert_eq!(lines.next().unwrap().unwrap(), "after");
    tail.kill().unwrap();
    tail.wait().unwrap();
}

/// As in `aof2-admin tail orders | head -1`.
#[test]
fn a_tail_whose_reader_has_enough_ends_without_an_error() {
    use std::io::{BufRead, Read};

    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::start(directory.path());
    let append = |payload: &str| {
        engine
            .admin(&["append", "orders", "--payload", payload], "")
            .ok()
    };
    append("first");
    let arguments = engine.with_sockets(&["tail", "orders", "--from", "0", "--raw"]);
    let mut tail = Command::new(ADMIN)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(tail.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    drop(lines);
    append("second");
    let status = wait_for("the end of the tail", || tail.try_wait().unwrap());
    let mut said = String::new();
    tail.stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[test]
fn a_load_survives_kills_of_the_engine_and_every_acknowledgement_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(directory.path());
    let collector = Collector::start();
    let load = Load::start(
        &engine,
        &collector,
        &[
            "--stream", "a", "--stream", "b", "--rate", "500", "--count", "1500", "--size", "200",
        ],
    );
    for kill in 1..=3 {
        let target = kill * 400;
        wait_for("acknowledgements", || {
            (collector.count() >= target).then_some(())
        });
        engine.kill();
        engine.restart();
    }
    assert_eq!(load.end(), 0);

    let list = collector.list();
    let verified = engine.admin(&["verify"], &list);
    assert_eq!(verified.code, 0, "{verified:?}");
    let line = verified.stdout.lines().last().unwrap();
    assert!(
        line.contains(", lost 0, reordered 0, duplicated 0, unacknowledged "),
        "{line}"
    );
    let verdict = engine.admin(&["verify", "--json"], &list).json();
    assert_eq!(verdict["acknowledged"], verdict["read"]);
    assert!(verdict["read"].as_u64().unwrap() >= 2500, "{verdict}");
}

#[test]
fn a_second_load_goes_on_where_the_first_was_killed() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::start(directory.path());
    let collector = Collector::start();
    let arguments = [
        "--stream", "a", "--rate", "0", "--count", "100000", "--size", "64",
    ];
    let first = Load::start(&engine, &collector, &arguments);
    wait_for("acknowledgements", || {
        (collector.count() >= 500).then_some(())
    });
    drop(first);
    let second = Load::start(
        &engine,
        &collector,
        &[
            "--stream", "a", "--rate", "0", "--count", "500", "--size", "64",
        ],
    );
    assert_eq!(second.end(), 0);
    let verdict = engine
        .admin(&["verify", "--json"], &collector.list())
        .json();
    assert_eq!(
        (&verdict["lost"], &verdict["duplicated"]),
        (&0.into(), &0.into()),
        "{verdict}"
    );
    assert!(verdict["read"].as_u64().unwrap() >= 900, "{verdict}");
}

#[test]
fn a_load_with_an_end_gives_up_where_the_engine_stays_away() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(directory.path());
    engine.kill();
    let load = ["load", "--stream", "a", "--rate", "0", "--count", "5"];
    let ran = engine.admin(&[&load[..], &["--give-up", "1s"]].concat(), "");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(
        ran.stderr.contains("stream a has no acknowledgement for ")
            && ran
                .stderr
                .contains("after 0 records (engine does not answer)"),
        "{ran:?}"
    );
}

#[test]
fn a_load_without_a_collector_prints_the_list_that_verify_reads() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::start(directory.path());
    let load = [
        "load",
        "--stream",
        "a",
        "--rate",
        "0",
        "--count",
        "300",
        "--collector",
        "-",
    ];
    let ran = engine.admin(&load, "");
    assert!(
        ran.stderr.contains("300 records counted in 1 streams"),
        "{ran:?}"
    );
    let list = ran.ok();
    assert_eq!(list.lines().count(), 300);
    assert_eq!(
        engine.admin(&["verify"], &list).ok(),
        "acknowledged 300, read 300, lost 0, reordered 0, duplicated 0, unacknowledged 0\n"
    );
    let never_held = list.lines().last().unwrap().replace(":299,", ":7000,");
    let verified = engine.admin(&["verify"], &(list + &never_held));
    assert_eq!(verified.code, 1, "{verified:?}");
    assert!(verified.stdout.contains("lost 1"), "{verified:?}");
}

#[test]
fn a_load_waits_for_its_collector_and_counts_nothing_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::start(directory.path());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap().to_string();
    let all = [
        "load",
        "--collector",
        &address,
        "--stream",
        "a",
        "--rate",
        "0",
        "--in-flight",
        "8",
    ];
    let arguments = engine.with_sockets(&all);
    // Accepts connections and confirms nothing.
    let load = Load(
        Command::new(ADMIN)
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let records = || {
        let streams = engine.admin(&["streams", "--json"], "").json();
        streams[0]["durable_sequence"].as_u64().unwrap_or(0)
    };
    wait_for("a full window", || (records() == 8).then_some(()));
    let (_first, _) = port.accept().unwrap();
    assert_eq!(records(), 8, "nothing is sent beyond the window");
    drop(load);
}

#[test]
fn an_engine_that_forgets_is_found_out() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(directory.path());
    let collector = Collector::start();
    let load = Load::start(
        &engine,
        &collector,
        &["--stream", "a", "--rate", "0", "--count", "50"],
    );
    assert_eq!(load.end(), 0);

    engine.kill();
    std::fs::remove_dir_all(engine.data()).unwrap();
    engine.restart();
    let verified = engine.admin(&["verify"], &collector.list());
    assert_eq!(verified.code, 1, "{verified:?}");
    let line = verified.stdout.lines().last().unwrap();
    assert_eq!(
        line,
        "acknowledged 50, read 0, lost 50, reordered 0, duplicated 0, unacknowledged 0"
    );

    // Written again by another process, the same numbers at the same sequences are other records.
    let load = Load::start(
        &engine,
        &collector,
        &["--stream", "a", "--rate", "0", "--count", "50"],
    );
    assert_eq!(load.end(), 0);
    let verdict = engine.admin(&["verify", "--json"], &collector.list());
    assert_eq!(verdict.code, 1, "{verdict:?}");
    let verdict: serde_json::Value = serde_json::from_str(&verdict.stdout).unwrap();
    assert_eq!(
        (&verdict["acknowledged"], &verdict["lost"]),
        (&100.into(), &50.into()),
        "{verdict}"
    );
}

#[test]
fn a_load_that_sees_its_engine_forget_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(directory.path());
    let collector = Collector::start();
    let load = Load::start(
        &engine,
        &collector,
        &["--stream", "a", "--rate", "200", "--count", "300"],
    );
    wait_for("acknowledgements", || {
        (collector.count() >= 50).then_some(())
    });
    engine.kill();
    std::fs::remove_dir_all(engine.data()).unwrap();
    engine.restart();
    assert_eq!(load.end(), 1, "a setback is a negative finding");
    assert_eq!(engine.admin(&["verify"], &collector.list()).code, 1);
}

#[test]
fn a_snapshot_is_taken_listed_shown_verified_and_seen_in_the_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::start_with_tier2(directory.path());
    for stream in ["orders", "returns"] {
        engine.admin(&["append", stream, "--payload", "x"], "").ok();
    }
    let table = engine.admin(&["snapshot", "take", "--all"], "").ok();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(
        lines[0].starts_with("STREAM")
            && lines[1].starts_with("orders")
            && lines[1].contains("Done"),
        "{table}"
    );
    let take = ["snapshot", "take", "orders", "--request", "me", "--json"];
    let taken = engine.admin(&take, "").json();
    let id = taken[0]["snapshot_id"].as_str().unwrap();
    assert_eq!(engine.admin(&take, "").json()[0], taken[0], "asked again");
    let listed = engine
        .admin(&["snapshot", "list", "--stream", "orders", "--json"], "")
        .json();
    assert_eq!(
        (
            listed[0]["snapshot_id"].as_str(),
            listed.as_array().unwrap().len()
        ),
        (Some(id), 2)
    );
    let page = engine.admin(&["snapshot", "show", "orders", id], "").ok();
    assert!(
        page.contains("request        me") && page.contains(".json ("),
        "{page}"
    );
    let verify = ["snapshot", "verify", "orders", id, "--level", "L1"];
    let page = engine.admin(&verify, "").ok();
    assert!(page.contains("verified          yes"), "{page}");
    let read_all = ["snapshot", "verify", "orders", id, "--level", "L2"];
    let page = engine.admin(&read_all, "").ok();
    assert!(page.contains("verified          yes"), "{page}");
    assert!(page.contains("segments read"), "{page}");

    let data = engine.data().display().to_string();
    let inspected = run(INSPECT, &[&data, "--stream", "orders"], "").ok();
    assert!(
        inspected.contains("SnapshotMarker") && inspected.contains("epoch 1 number"),
        "{inspected}"
    );
    let notes = run(INSPECT, &[&data, "--stream", "orders", "--json"], "").ok();
    assert!(notes.contains("\"request\": \"me\""), "{notes}");

    let key = taken[0]["key"].as_str().unwrap();
    std::fs::remove_file(format!("{}/{key}", engine.path("tier2"))).expect("deleted");
    let gone = engine.admin(&verify, "");
    assert_eq!(gone.code, 1, "{gone:?}");
    assert!(
        gone.stdout.contains("ObjectMissing") && gone.stdout.contains(key),
        "{gone:?}"
    );
    let nobody = engine.admin(&["snapshot", "take", "nobody"], "");
    assert_eq!(nobody.code, 5, "{nobody:?}");
    let no_id = engine.admin(&["snapshot", "show", "orders", "seven"], "");
    assert_eq!(no_id.code, 2, "{no_id:?}");
}

#[test]
fn a_snapshot_without_tier_2_fails_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(directory.path());
    engine
        .admin(&["append", "orders", "--payload", "x"], "")
        .ok();
    let refused = engine.admin(&["snapshot", "take", "orders"], "");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stdout.contains("NoTier2") && refused.stdout.contains("set spec.tier2"),
        "{refused:?}"
    );
    engine.kill();
    let unavailable = engine.admin(&["snapshot", "list"], "");
    assert_eq!(unavailable.code, 3, "{unavailable:?}");
}

#[test]
fn the_running_engine_says_what_it_would_make_of_a_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::start(directory.path());
    let file = directory.path().join("new.toml");
    let name = file.display().to_string();
    std::fs::write(
        &file,
        "[tier0]\ncluster_max_bytes = 123456789\n[journal]\nfiles = 9\n",
    )
    .unwrap();
    let page = engine.admin(&["config", "validate", &name], "").ok();
    let row = |key: &str| {
        page.lines()
            .find(|line| line.starts_with(key))
            .unwrap_or("")
    };
    assert!(
        row("tier0.cluster_max_bytes").ends_with("at once"),
        "{page}"
    );
    assert!(row("journal.files").ends_with("with a restart"), "{page}");
    std::fs::write(&file, "[tier0]\ncluster_max_byte = 1\n").unwrap();
    let refused = engine.admin(&["config", "validate", &name], "");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stdout.contains("tier0.cluster_max_bytes"),
        "{refused:?}"
    );
    let schema = engine.admin(&["config", "schema"], "").json();
    assert!(schema.to_string().contains("cluster_max_bytes"));
}

/// Flips a byte of this payload wherever it lies below the directory: in the segment and in the journal.
fn damage(directory: &std::path::Path, payload: &[u8]) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damage(&path, payload);
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        let found = bytes
            .windows(payload.len())
            .position(|part| part == payload);
        if let Some(at) = found {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

#[test]
fn a_damaged_stream_is_named_by_the_drain_and_cut_and_is_drained_then() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = Engine::start_with_tier2(directory.path());
    for payload in ["first one", "second one", "third one"] {
        engine
            .admin(&["append", "orders", "--payload", payload], "")
            .ok();
    }
    engine.kill();
    damage(&engine.data(), b"second one");
    engine.restart();
    let drain = ["drain", "--wait", "--upload-timeout", "1s", "--ttl", "60s"];
    let refused = engine.admin(&drain, "");
    assert_eq!(refused.code, 1, "{refused:?}");
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains("aof2-admin streams cut orders"), "{said}");

    let shown = engine.admin(&["streams", "cut", "orders"], "").ok();
    assert!(
        shown.contains("lost: from sequence 1 on, at most "),
        "{shown}"
    );
    assert!(
        shown.contains("`aof2-admin streams cut orders --at 1 --yes`"),
        "{shown}"
    );
    let report = engine
        .admin(&["streams", "cut", "orders", "--json"], "")
        .json();
    assert_eq!(report["is_accepted"], false);
    let next = report["next_sequence"].as_u64().unwrap();
    assert!(next >= 3, "{report}");
    for (arguments, code) in [
        (&["streams", "cut", "orders", "--yes"][..], 2),
        (&["streams", "cut", "orders", "--at", "0", "--yes"], 4),
        (&["streams", "cut", "other", "--at", "1", "--yes"], 5),
    ] {
        assert_eq!(engine.admin(arguments, "").code, code, "{arguments:?}");
    }
    let done = engine.admin(&["streams", "cut", "orders", "--at", "1", "--yes"], "");
    let text = done.ok();
    assert!(text.contains("the engine restarts"), "{text}");
    engine.ended();
    engine.restart();

    let append = ["append", "orders", "--payload", "fourth one", "--json"];
    engine.admin(&append, "").ok();
    let read = engine.admin(&["read", "orders", "--raw"], "").ok();
    assert_eq!(read, "first one\nfourth one\n");
    let behind = engine
        .admin(
            &["read", "orders", "--from", &next.to_string(), "--raw"],
            "",
        )
        .ok();
    assert_eq!(behind, "fourth one\n");
    engine.admin(&drain, "").ok();
    engine.restart();
    let page = run(INSPECT, &[&engine.data().display().to_string()], "").ok();
    assert!(page.contains("first_lost=1"), "{page}");
    let read = engine.admin(&["read", "orders", "--raw"], "").ok();
    assert_eq!(read, "first one\nfourth one\n");
}
