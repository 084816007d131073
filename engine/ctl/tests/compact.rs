//! `compact` against a real engine.

mod support;

use support::{Engine, INSPECT, run, wait_for};

/// So many uploaded segments of one record each.
fn segments(engine: &Engine, from: usize, to: usize) {
    for number in from..to {
        engine
            .admin(&["append", "orders"], &format!("record {number}\n"))
            .ok();
        engine.admin(&["seal"], "").ok();
    }
    wait_for("the uploads", || {
        let all = listed(engine);
        let is_uploaded = |it: &serde_json::Value| it["state"] == "Uploaded";
        (all.len() == to && all.iter().all(is_uploaded)).then_some(())
    });
}

fn listed(engine: &Engine) -> Vec<serde_json::Value> {
    let list = engine.admin(&["segments", "list", "orders", "--json"], "");
    list.json().as_array().expect("a list").clone()
}

#[test]
fn small_segments_are_merged_when_somebody_asks_and_the_engine_says_what_it_did() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = Engine::start_with_tier2(directory.path());
    segments(&engine, 0, 3);
    let nothing = engine.admin(&["compact"], "").ok();
    assert_eq!(
        nothing,
        "nothing merged\nno stream has 4 adjacent segments below half of 268435456 bytes that are in Tier 0 and wait for nothing; stream orders has 3 in a row\n"
    );
    segments(&engine, 3, 5);
    let done = engine.admin(&["compact", "orders"], "").ok();
    assert!(
        done.starts_with("5 segments merged to 1, ") && done.contains(" read, "),
        "{done}"
    );
    let all = listed(&engine);
    let of_state = |state: &str| all.iter().filter(|it| it["state"] == state).count();
    assert_eq!(
        (of_state("Uploaded"), of_state("Replaced")),
        (1, 5),
        "{all:?}"
    );
    let again = engine.admin(&["compact", "--json"], "").json();
    assert_eq!(
        (&again["inputs"], &again["has_ended"]),
        (&0.into(), &true.into())
    );
    let unknown = engine.admin(&["compact", "nobody"], "");
    assert_eq!(unknown.code, 5, "{unknown:?}");

    let dump = engine.admin(&["dump"], "").ok();
    assert!(
        dump.contains("off; 5 segments merged to 1 since start, ")
            && dump.contains("5 segments of stream orders\n"),
        "{dump}"
    );
    let inspected = run(INSPECT, &[&engine.data().display().to_string()], "");
    assert!(
        inspected.stdout.contains("merge=merged"),
        "{}",
        inspected.stdout
    );

    engine.kill();
    engine.restart();
    let read = engine.admin(&["read", "orders", "--raw"], "").ok();
    let lines: Vec<&str> = read.lines().collect();
    let expected: Vec<String> = (0..5).map(|number| format!("record {number}")).collect();
    assert_eq!(lines, expected);
}
