//! `trim` against a real engine.

mod support;

use support::Engine;

const DRY: &str = "stream orders would begin at sequence 120\n\
                   lost: 120 records, sequences 0 to 119; 0 whole segments with 0 B on this node\n\
                   nothing is changed; to give up these records, run `aof2-admin trim orders --before 120 --yes`\n";

#[test]
fn a_trim_is_shown_first_then_done_and_kept_over_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(directory.path());
    let load = |engine: &Engine| {
        let arguments = [
            "load",
            "--stream",
            "orders",
            "--rate",
            "0",
            "--count",
            "200",
            "--collector",
            "-",
        ];
        engine.admin(&arguments, "").ok()
    };
    let list = load(&engine);
    engine.admin(&["seal", "--stream", "orders"], "").ok();
    let trim = ["trim", "orders", "--before", "120"];
    assert_eq!(engine.admin(&trim, "").ok(), DRY);
    let verdict = engine.admin(&["verify"], &list).ok();
    assert!(
        verdict.starts_with("acknowledged 200, read 200"),
        "{verdict}"
    );

    let done = engine.admin(&[&trim[..], &["--yes"]].concat(), "").ok();
    assert!(
        done.starts_with(
            "stream orders begins at sequence 120 now\ntrimmed: 120 records, sequences 0 to 119;"
        ),
        "{done}"
    );
    engine.kill();
    engine.restart();
    let again = engine
        .admin(&[&trim[..], &["--yes", "--json"]].concat(), "")
        .json();
    assert_eq!(
        (&again["first_sequence"], &again["records"]),
        (&120.into(), &0.into())
    );
    let read = engine.admin(&["read", "orders", "--raw"], "").ok();
    assert_eq!(read.lines().count(), 80);
    let below = engine.admin(&["read", "orders", "--from", "5"], "");
    assert_eq!(below.code, 4, "{below:?}");
    assert!(
        below.stderr.contains(
            "stream orders begins at sequence 120, and 5 no longer exists; read from 120"
        ),
        "{below:?}"
    );
    let verdict = engine.admin(&["verify"], &list).ok();
    assert_eq!(
        verdict,
        "acknowledged 200, read 80, lost 0, reordered 0, duplicated 0, unacknowledged 0, trimmed 120\n"
    );

    // A load goes on in a stream that was trimmed, and a file that holds nothing any more goes.
    let more = load(&engine);
    engine.admin(&["seal"], "").ok();
    engine
        .admin(&["trim", "orders", "--before", "400", "--yes"], "")
        .ok();
    let verdict = engine.admin(&["verify"], &(list + &more)).ok();
    assert!(verdict.ends_with(", trimmed 400\n"), "{verdict}");
    support::wait_for("no segment of it", || {
        let segments = engine
            .admin(&["segments", "--stream", "orders", "--json"], "")
            .json();
        let all = segments.as_array().expect("a list");
        let is_sealed = |it: &serde_json::Value| it["state"] != "Active";
        (!all.iter().any(is_sealed)).then_some(())
    });
}

#[test]
fn a_trim_that_cannot_be_done_says_how_far_it_may_go() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::start(directory.path());
    engine.admin(&["append", "orders"], "a\nb\nc\n").ok();
    for more in [&[][..], &["--yes"]] {
        let refused = |before| {
            let trim = [&["trim", "orders", "--before", before], more].concat();
            let refused = engine.admin(&trim, "");
            assert_eq!(refused.code, 4, "{refused:?}");
            refused.stderr
        };
        let told = refused("2");
        assert!(
            told.contains("sealed up to 0, and the next one is 3")
                && told.contains("run `aof2-admin seal --stream orders` first"),
            "{told}"
        );
        let told = refused("9");
        assert!(
            told.contains("its next record is 3; trim before 0 at most"),
            "{told}"
        );
        let unknown = [&["trim", "nobody", "--before", "1"], more].concat();
        assert_eq!(engine.admin(&unknown, "").code, 5);
    }
    assert_eq!(engine.admin(&["trim", "orders"], "").code, 2);
}

#[test]
fn copies_that_are_needed_are_not_deleted_and_objects_of_trimmed_segments_wait_for_their_grace() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::start_with_tier2(directory.path());
    engine.admin(&["append", "orders"], "a\nb\n").ok();
    engine.admin(&["seal"], "").ok();
    let segments = || {
        engine
            .admin(&["segments", "list", "orders", "--json"], "")
            .json()
    };
    support::wait_for("the upload", || {
        (segments()[0]["state"] == "Uploaded").then_some(())
    });
    let delete = |tier| {
        let id = segments()[0]["segment_id"].to_string();
        engine.admin(&["segments", "delete", "--tier", tier, "orders", &id], "")
    };
    let refused = delete("2");
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("is needed by readers: it holds the sequences 0 to 1"),
        "{refused:?}"
    );
    let deleted = delete("1").ok();
    assert!(deleted.contains("in Tier 1 deleted, "), "{deleted}");
    assert_eq!(delete("1").code, 5);
    assert_eq!(
        engine.admin(&["read", "orders", "--raw"], "").ok(),
        "a\nb\n"
    );

    let trim = ["trim", "orders", "--before", "2"];
    let shown = engine.admin(&trim, "").ok();
    assert!(
        shown.contains("in Tier 2: 1 objects, deleted after tier2.delete_grace unless"),
        "{shown}"
    );
    engine.admin(&[&trim[..], &["--yes"]].concat(), "").ok();
    support::wait_for("the grace", || {
        let waits = delete("2").ok();
        waits
            .contains("in Tier 2 waits: grace until 20")
            .then_some(())
    });
    let table = engine.admin(&["segments", "list", "orders"], "").ok();
    let line = table.lines().nth(1).unwrap_or_default();
    assert!(
        line.contains("Trimmed") && line.contains("grace until 20"),
        "{table}"
    );
    let dump = engine.admin(&["dump"], "").ok();
    assert!(
        dump.contains("trimmed objects that wait: 1 for Grace"),
        "{dump}"
    );
}
