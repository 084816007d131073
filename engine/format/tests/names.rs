//! Names and keys, both directions.

use aof2_format::names::{IndexName, KeyPrefix, ObjectKey, SegmentRef, file};
use aof2_format::{StreamName, VolumeId};
use proptest::prelude::*;

fn stream(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
}

#[test]
fn stream_names_follow_the_rule() {
    for name in ["a", "0", "orders", "orders-eu-1", "a--b", &"x".repeat(63)] {
        assert_eq!(stream(name).as_str(), name);
    }
    for name in [
        "",
        "-a",
        "a-",
        "-",
        "Orders",
        "a_b",
        "a.b",
        "a/b",
        "..",
        "ä",
        "a\0",
        "a\n",
        &"x".repeat(64),
    ] {
        let refusal = StreamName::new(name).unwrap_err().to_string();
        assert!(
            refusal.contains("is invalid") && refusal.contains("1 to 63 lower-case letters"),
            "{refusal}"
        );
    }
}

#[test]
fn a_refused_stream_name_is_not_repeated_at_length() {
    assert!(
        StreamName::new(&"X".repeat(100_000))
            .unwrap_err()
            .to_string()
            .len()
            < 300
    );
}

#[test]
fn files_are_named_as_documented() {
    let segment = SegmentRef {
        base_sequence: 100,
        epoch: 7,
        segment_id: 12,
    };
    let stem = "00000000000000000100-0000000007-00000000000000000012";
    assert_eq!(file::segment(&segment), format!("{stem}.seg"));
    assert_eq!(file::warm(&segment), format!("{stem}.aofz"));
    assert_eq!(file::journal(3), "0000000003.journal");
    assert_eq!(
        file::manifest_chunk(7, 2),
        "0000000007-00000000000000000002.mlog"
    );
    assert_eq!(file::parse_segment(&file::segment(&segment)), Some(segment));
    assert_eq!(file::parse_warm(&file::warm(&segment)), Some(segment));
    assert_eq!(file::parse_journal("0000000003.journal"), Some(3));
    assert_eq!(
        file::parse_manifest_chunk("0000000007-00000000000000000002.mlog"),
        Some((7, 2))
    );
}

#[test]
fn foreign_file_names_are_not_ours() {
    for name in [
        "",
        ".seg",
        "1-2-3.seg",
        "00000000000000000100-0000000007-00000000000000000012.seg.tmp",
        "00000000000000000100-0000000007-0000000000000000001x.seg",
        "00000000000000000100-0000000007.seg",
        "00000000000000000100-0000000007-00000000000000000012-0000000001.seg",
        "99999999999999999999-0000000007-00000000000000000012.seg",
        "00000000000000000100-9999999999-00000000000000000012.seg",
        "+0000000000000000100-0000000007-00000000000000000012.seg",
    ] {
        assert_eq!(file::parse_segment(name), None, "{name}");
    }
    assert_eq!(file::parse_stream_dir("lost+found"), None);
}

#[test]
fn objects_are_keyed_as_documented() {
    let prefix = KeyPrefix::new("prod/orders/").unwrap();
    let stream = stream("orders-eu-1");
    let segment = SegmentRef {
        base_sequence: 100,
        epoch: 7,
        segment_id: 12,
    };
    let keys = [
        (ObjectKey::Cluster, "prod/orders/cluster.json"),
        (
            ObjectKey::Claim {
                stream: stream.clone(),
                epoch: 7,
            },
            "prod/orders/claims/orders-eu-1/00000000000000000007",
        ),
        (
            ObjectKey::Segment {
                stream: stream.clone(),
                segment,
            },
            "prod/orders/segments/orders-eu-1/00000000000000000100-0000000007-00000000000000000012.aofz",
        ),
        (
            ObjectKey::ManifestChunk {
                stream: stream.clone(),
                epoch: 7,
                chunk: 2,
            },
            "prod/orders/manifest/orders-eu-1/0000000007/00000000000000000002.mlog",
        ),
        (
            ObjectKey::Snapshot {
                stream: stream.clone(),
                snapshot_id: 7 << 32 | 3,
            },
            "prod/orders/snapshots/orders-eu-1/30064771075.json",
        ),
        (
            ObjectKey::SnapshotIndex {
                name: IndexName::new("orders-hourly-20261126t0000z").unwrap(),
            },
            "prod/orders/snapshots/_index/orders-hourly-20261126t0000z.json",
        ),
        (
            ObjectKey::Recovery {
                stream: stream.clone(),
            },
            "prod/orders/recovery/orders-eu-1.json",
        ),
        (
            ObjectKey::Mark {
                volume_id: VolumeId([0xCD; 16]),
                mark: 5,
            },
            "prod/orders/marks/cdcdcdcd-cdcd-cdcd-cdcd-cdcdcdcdcdcd/00000000000000000005",
        ),
        (
            ObjectKey::Probe { uuid: [0xAB; 16] },
            "prod/orders/probe/abababab-abab-abab-abab-abababababab",
        ),
    ];
    for (key, text) in &keys {
        assert_eq!(key.to_key(&prefix), *text);
        assert_eq!(ObjectKey::parse(&prefix, text).as_ref(), Some(key));
        assert_eq!(
            ObjectKey::parse(&KeyPrefix::default(), text),
            None,
            "another prefix"
        );
    }
    assert!(
        keys[1]
            .1
            .starts_with(&ObjectKey::claims_prefix(&prefix, &stream))
    );
    assert!(
        keys[1]
            .1
            .starts_with(&ObjectKey::all_claims_prefix(&prefix))
    );
    assert!(
        keys[2]
            .1
            .starts_with(&ObjectKey::segments_prefix(&prefix, &stream))
    );
    for (_, text) in &keys {
        let inside = keys
            .iter()
            .filter(|(_, other)| other.starts_with(&format!("{text}/")))
            .count();
        assert_eq!(inside, 0, "{text} is a path prefix of another key");
    }
}

#[test]
fn foreign_keys_are_not_ours() {
    let prefix = KeyPrefix::default();
    for key in [
        "",
        "cluster.json/",
        "snapshots/_index/Upper.json",
        "snapshots/_index/-x.json",
        "snapshots/_index/..json",
        "claims/orders/7",
        "claims/orders/99999999999999999999",
        "claims/orders/00000000000000000007/x",
        "claims/Orders/00000000000000000007",
        "manifest/orders/0000000007-0000000001/00000000000000000002.mlog",
        "snapshots/orders/007.json",
        "snapshots/orders/-7.json",
        "marks/orders-0/00000000000000000005",
        "marks/cdcdcdcd-cdcd-cdcd-cdcd-cdcdcdcdcdcd/5",
        "marks/CDCDCDCD-cdcd-cdcd-cdcd-cdcdcdcdcdcd/00000000000000000005",
        "probe/ABABABAB-abab-abab-abab-abababababab",
        "segments/../00000000000000000100-0000000007-00000000000000000012.aofz",
    ] {
        assert_eq!(ObjectKey::parse(&prefix, key), None, "{key}");
    }
}

#[test]
fn prefixes_follow_the_grammar() {
    for prefix in ["", "a/", "prod/orders/", "A.b_c-1/"] {
        assert_eq!(KeyPrefix::new(prefix).unwrap().as_str(), prefix);
    }
    for prefix in [
        "/",
        "a",
        "a//",
        "/a/",
        "../",
        "a/./",
        "a b/",
        "ä/",
        &"x/".repeat(300),
        &format!("{}/", "x".repeat(256)),
    ] {
        let refusal = KeyPrefix::new(prefix).unwrap_err().to_string();
        assert!(
            refusal.contains("is invalid") && refusal.contains("each followed by '/'"),
            "{refusal}"
        );
    }
}

proptest! {
    #[test]
    fn arbitrary_names_and_keys_never_panic_and_never_escape(text in "\\PC{0,120}") {
        let _ = StreamName::new(&text);
        let _ = file::parse_segment(&text);
        let _ = file::parse_journal(&text);
        let _ = file::parse_manifest_chunk(&text);
        let prefix = KeyPrefix::default();
        if let Some(key) = ObjectKey::parse(&prefix, &text) {
            prop_assert_eq!(key.to_key(&prefix), text);
        }
    }

    #[test]
    fn segment_names_sort_as_their_sequences(a in any::<(u64, u32, u64)>(), b in any::<(u64, u32, u64)>()) {
        let name = |(base_sequence, epoch, segment_id)| SegmentRef { base_sequence, epoch, segment_id };
        let (a, b) = (name(a), name(b));
        prop_assert_eq!(file::segment(&a).cmp(&file::segment(&b)), a.cmp(&b));
        prop_assert_eq!(file::parse_segment(&file::segment(&a)), Some(a));
    }
}
