//! `snapshot delete` against a real engine.

mod support;

use support::Engine;

#[test]
fn a_snapshot_is_deleted_and_what_only_it_named_follows() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::start_with_tier2(directory.path());
    let take = |payloads: &str| {
        engine.admin(&["append", "orders"], payloads).ok();
        let taken = engine
            .admin(&["snapshot", "take", "orders", "--json"], "")
            .json();
        taken[0]["snapshot_id"].as_str().expect("an id").to_owned()
    };
    let delete = |id: &str| engine.admin(&["snapshots", "delete", "orders", id], "");
    let old = take("a\nb\n");
    let newest = delete(&old);
    assert_eq!(newest.code, 4, "{newest:?}");
    assert!(
        newest
            .stderr
            .contains("the newest snapshot of a stream always stays; take a new one first"),
        "{newest:?}"
    );
    engine
        .admin(&["trim", "orders", "--before", "2", "--yes"], "")
        .ok();
    let kept_by = || {
        let segments = engine.admin(&["segments", "list", "orders", "--json"], "");
        segments.json()[0]["kept_by"].clone()
    };
    support::wait_for("the snapshot to keep it", || {
        (kept_by() == format!("snapshot {old}")).then_some(())
    });
    let new = take("c\n");
    let deleted = delete(&old).ok();
    let told = format!("snapshot {old} of stream orders deleted, its catalogue of ");
    assert!(deleted.starts_with(&told), "{deleted}");
    support::wait_for("the object to be queued", || {
        (kept_by() == "queued for the next pass").then_some(())
    });
    let again = delete(&old).ok();
    assert_eq!(
        again,
        format!(
            "snapshot {old} of stream orders has no catalogue in the bucket: it was deleted before\n"
        )
    );
    assert_eq!(delete("1").code, 5);
    assert_eq!(delete("no-number").code, 2);
    let listed = engine.admin(&["snapshots", "list", "--json"], "").json();
    let listed = listed.as_array().expect("a list");
    assert!(
        listed.len() == 1 && listed[0]["snapshot_id"] == *new,
        "{listed:?}"
    );
    engine
        .admin(&["snapshot", "verify", "orders", &new], "")
        .ok();
}
