//! `tier1-cache-util` against a real engine, and on the directory that one left.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use support::{Engine, Ran, TIER1, run, wait_for};

fn live(engine: &Engine, arguments: &[&str]) -> Ran {
    let socket = engine.path("admin.sock");
    run(
        TIER1,
        &[arguments, &["--admin-socket", &socket]].concat(),
        "",
    )
}

fn offline(data: &Path, arguments: &[&str]) -> Ran {
    let data = data.display().to_string();
    run(TIER1, &[arguments, &["--directory", &data]].concat(), "")
}

/// Lines as an application writes them.
fn lines(stream: &str, count: u32) -> String {
    let line = |number: u32| {
        format!(
            "{{\"stream\":\"{stream}\",\"order\":{number},\"customer\":\"c-{}\",\"state\":\"paid\",\"total\":{}}}\n",
            number % 97,
            number * 31
        )
    };
    (0..count).map(line).collect()
}

fn is_everywhere(engine: &Engine) -> bool {
    let segments = engine.admin(&["segments", "--json"], "").json();
    let segments = segments.as_array().expect("a list").clone();
    let copies = |segment: &Value| segment["copies"].to_string();
    let sealed: Vec<String> = segments
        .iter()
        .filter(|segment| segment["state"] != "Active")
        .map(copies)
        .collect();
    !sealed.is_empty()
        && sealed
            .iter()
            .all(|it| it.contains("Warm") && it.contains("Cold"))
}

/// Two segments of `orders` and one of `payments`, in all three tiers.
fn written(directory: &Path) -> Engine {
    let engine = Engine::start_with_tier2(directory);
    for (stream, count) in [("orders", 4_000), ("orders", 2_000), ("payments", 3_000)] {
        engine
            .admin(&["append", stream], &lines(stream, count))
            .ok();
        engine.admin(&["seal", "--stream", stream], "").ok();
    }
    wait_for("copies in all tiers", || {
        is_everywhere(&engine).then_some(())
    });
    engine
}

fn everything(engine: &Engine) -> String {
    let read = |stream: &str| engine.admin(&["read", "--raw", stream], "").ok();
    read("orders") + &read("payments")
}

fn warm_files(data: &Path, stream: &str) -> Vec<PathBuf> {
    let folder = data.join("warm/warm").join(stream);
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut files: Vec<PathBuf> = entries.map(|it| it.expect("an entry").path()).collect();
    files.sort();
    files
}

#[test]
fn a_running_engine_says_verifies_and_compresses_again_what_is_in_tier_1() {
    let directory = tempfile::tempdir().unwrap();
    let engine = written(directory.path());
    let before = everything(&engine);

    let in_use = offline(&engine.data(), &["verify"]);
    assert_eq!(in_use.code, 4, "{in_use:?}");
    assert!(
        in_use.stderr.contains("in use by a running engine")
            && in_use.stderr.contains("leave --directory out"),
        "{in_use:?}"
    );

    let stats = live(&engine, &["stats", "--json"]).json();
    let orders = &stats["streams"][0];
    assert_eq!(
        (&orders["stream"], &orders["files"]),
        (&"orders".into(), &2.into())
    );
    assert_eq!(
        (
            &orders["cold_files"],
            &orders["hot_files"],
            &orders["last_files"]
        ),
        (&2.into(), &2.into(), &0.into())
    );
    assert_eq!(orders["records"], 6_000);
    let number = |value: &Value| value.as_u64().expect("a number");
    assert!(
        number(&orders["raw_bytes"]) > 2 * number(&orders["bytes"]),
        "{orders}"
    );
    let page = live(&engine, &["stats"]).ok();
    let names: Vec<&str> = page
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(names, ["STREAM", "orders", "payments", "all"]);

    let verified = live(&engine, &["verify"]).ok();
    assert!(
        verified.starts_with("3 files read, ")
            && verified.ends_with(": each decompresses to its segment\n"),
        "{verified}"
    );

    let again = live(&engine, &["recompress", "--level", "19", "--json"]).json();
    assert_eq!(
        (&again["replaced_files"], &again["same_files"]),
        (&3.into(), &0.into())
    );
    assert_eq!(
        (&again["has_ended"], &again["level"]),
        (&true.into(), &19.into())
    );
    assert!(
        number(&again["new_bytes"]) < number(&again["replaced_bytes"]),
        "{again}"
    );
    let again = live(&engine, &["recompress", "--level", "19"]).ok();
    assert_eq!(
        again,
        "0 of 3 files compressed again at level 19; 3 files the same at this level\n"
    );
    // By default at the level of the configuration, which is what they were.
    let back = live(&engine, &["recompress", "--stream", "pay*"]).ok();
    assert!(
        back.starts_with("1 of 1 file compressed again at level 3: "),
        "{back}"
    );
    assert!(back.contains(" now (+"), "{back}");
    let none = live(&engine, &["recompress", "--stream", "nobody"]);
    assert_eq!(none.code, 5, "{none:?}");
    assert!(
        none.stderr.contains("streams with one: orders, payments"),
        "{none:?}"
    );

    assert_eq!(
        live(&engine, &["verify", "--json"]).json()["findings"],
        Value::Null
    );
    assert_eq!(everything(&engine), before);
    let dump = engine.admin(&["dump", "--json"], "").json();
    let stats = live(&engine, &["stats", "--json"]).json();
    let streams = stats["streams"].as_array().expect("a list");
    let bytes: u64 = streams.iter().map(|stream| number(&stream["bytes"])).sum();
    assert_eq!(number(&dump["tier1"]["total_bytes"]), bytes);
    // A snapshot names the objects, which are as they were.
    let taken = engine
        .admin(&["snapshot", "take", "orders", "--json"], "")
        .json();
    let id = taken[0]["snapshot_id"].as_str().expect("an id").to_owned();
    let verified = engine.admin(&["snapshot", "verify", "orders", &id, "--level", "L2"], "");
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[test]
fn a_directory_without_an_engine_is_measured_verified_and_compressed_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = written(directory.path());
    let before = everything(&engine);
    let data = engine.data();
    engine
        .admin(&["append", "telemetry"], &lines("telemetry", 20_000))
        .ok();
    engine.admin(&["seal", "--stream", "telemetry"], "").ok();
    wait_for("copies in all tiers", || {
        is_everywhere(&engine).then_some(())
    });
    // Next to the running engine: it takes no lock.
    let measured = offline(&data, &["train", "telemetry", "--measure", "--json"]).json();
    assert_eq!(measured["is_stored"], false);
    let number = |value: &Value| value.as_u64().expect("a number");
    assert!(
        number(&measured["with_dictionary_bytes"]) > 0 && number(&measured["tried_blocks"]) > 1
    );
    let said = offline(&data, &["train", "telemetry", "--measure"]).ok();
    assert!(said.contains("% saved): a dictionary would"), "{said}");
    let unknown = offline(&data, &["train", "nobody", "--measure"]);
    assert_eq!(unknown.code, 5, "{unknown:?}");

    // What only the journal holds counts, too.
    engine.kill();
    let stats = offline(&data, &["stats", "--json"]).json();
    assert_eq!(stats["streams"][0]["files"], 2);
    assert_eq!(stats["findings"], Value::Null);
    assert_eq!(offline(&data, &["verify"]).code, 0);
    let again = offline(
        &data,
        &["recompress", "--level", "19", "--stream", "orders"],
    )
    .ok();
    assert!(
        again.starts_with("2 of 2 files compressed again at level 19: "),
        "{again}"
    );
    assert_eq!(offline(&data, &["verify"]).code, 0);

    let files = warm_files(&data, "orders");
    let good = std::fs::read(&files[0]).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 0x10;
    std::fs::write(&files[0], &bad).unwrap();
    std::fs::remove_file(&files[1]).unwrap();
    std::fs::write(data.join("warm/warm/orders/notes"), "x").unwrap();
    let found = offline(&data, &["verify"]);
    assert_eq!(found.code, 1, "{found:?}");
    assert!(found.stdout.contains(": 3 findings"), "{found:?}");
    for named in [
        "DAMAGED stream orders, segment 1, sequences 0 to 3999",
        "MISSING stream orders, segment 2, sequences 4000 to 5999",
        "FOREIGN",
        "aof2-admin segments delete orders 1 --tier 1",
    ] {
        assert!(found.stdout.contains(named), "{named}: {found:?}");
    }
    // Nothing is made of it, and the message is the same.
    let again = offline(&data, &["recompress", "--level", "3", "--stream", "orders"]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(
        again.stdout.contains("DAMAGED stream orders, segment 1"),
        "{again:?}"
    );
    assert_eq!(std::fs::read(&files[0]).unwrap(), bad);
    let listed = offline(&data, &["stats", "--json"]);
    assert_eq!(listed.code, 1, "{listed:?}");

    // As the remedy says.
    engine.restart();
    assert_eq!(everything(&engine), before);
    for id in ["1", "2"] {
        engine
            .admin(&["segments", "delete", "orders", id, "--tier", "1"], "")
            .ok();
    }
    std::fs::remove_file(data.join("warm/warm/orders/notes")).unwrap();
    assert_eq!(live(&engine, &["verify"]).code, 0);
    engine.kill();
    assert_eq!(offline(&data, &["verify"]).code, 0);
    engine.restart();
    assert_eq!(everything(&engine), before);
}

#[test]
fn a_compression_that_is_killed_loses_nothing_and_is_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = written(directory.path());
    let before = everything(&engine);
    engine.kill();
    let data = engine.data();
    let name = data.display().to_string();
    let files = || -> Vec<PathBuf> {
        let streams = ["orders", "payments"];
        streams
            .iter()
            .flat_map(|stream| warm_files(&data, stream))
            .collect()
    };
    let length = |path: &PathBuf| std::fs::metadata(path).map_or(0, |it| it.len());
    let is_half = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "tmp");
    let mut killed = 0;
    // How much of which new file there is when the process is killed.
    let moments = [
        (0, 1),
        (0, 4_000),
        (0, 12_000),
        (1, 1),
        (1, 8_000),
        (2, 1),
        (2, 12_000),
    ];
    for (round, (done, bytes)) in (0..).zip(moments.into_iter().cycle().take(21)) {
        let level = if round % 2 == 0 { "19" } else { "1" };
        let old: Vec<u64> = files()
            .iter()
            .filter(|it| !is_half(it))
            .map(length)
            .collect();
        let mut child = Command::new(TIER1)
            .args(["recompress", "--level", level, "--directory", &name])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let deadline = Instant::now() + support::DEADLINE;
        let is_moment = || {
            let now = files();
            let replaced = now.iter().filter(|it| !is_half(it)).map(length).zip(&old);
            let replaced = replaced.filter(|(now, old)| now != *old).count();
            let half = now.iter().find(|it| is_half(it)).map_or(0, length);
            replaced > done || (replaced == done && half >= bytes)
        };
        while !is_moment() && child.try_wait().expect("its state").is_none() {
            assert!(Instant::now() < deadline, "round {round}");
            std::thread::yield_now();
        }
        killed += u32::from(child.try_wait().expect("its state").is_none());
        child.kill().expect("killed");
        child.wait().expect("it ends");
        let verified = offline(&data, &["verify"]);
        assert_eq!(verified.code, 0, "round {round}: {verified:?}");
        assert!(verified.stdout.starts_with("3 files read"), "{verified:?}");
    }
    assert!(killed > 8, "{killed}");
    let done = offline(&data, &["recompress", "--level", "12"]).ok();
    assert!(
        done.contains(" of 3 files compressed again at level 12"),
        "{done}"
    );
    engine.restart();
    assert_eq!(everything(&engine), before);
    let verified = live(&engine, &["verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    let leftovers = |files: Vec<PathBuf>| {
        let mut names = files.into_iter().map(|it| it.display().to_string());
        names.any(|name| name.ends_with(".tmp"))
    };
    wait_for("no leftovers", || {
        (!leftovers(warm_files(&data, "orders"))).then_some(())
    });
}
