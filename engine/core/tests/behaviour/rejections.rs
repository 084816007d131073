use crate::common::*;
use aof2_core::config::MIB;
use aof2_core::{AppendError, Durability, ReadError, ReadRequest, Remedy, WouldBlockKind};

#[test]
fn refusals_name_the_object_the_value_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let cases: Vec<(AppendError, &str, Remedy)> = vec![
        (
            durable(&store, "Not Allowed", b"x").unwrap_err(),
            "\"Not Allowed\" is invalid; use 1 to 63 lower-case",
            Remedy::Fix,
        ),
        (
            store
                .append(request("s", &[], Durability::Durable))
                .unwrap_err(),
            "holds no record",
            Remedy::Fix,
        ),
        (
            durable(&store, "s", &vec![0; MIB as usize + 1]).unwrap_err(),
            "record of 1048577 bytes exceeds append.max_record_bytes = 1048576",
            Remedy::Fix,
        ),
        (
            {
                store.close_admission("upgrade to 0.1.1");
                let refused = durable(&store, "s", b"x").unwrap_err();
                store.open_admission();
                refused
            },
            "(upgrade to 0.1.1)",
            Remedy::Retry,
        ),
    ];
    for (error, text, remedy) in cases {
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.remedy(), remedy, "{error}");
    }
    durable(&store, "s", b"admitted again").unwrap();
    assert!(matches!(
        store.read(ReadRequest {
            stream: "nobody".into(),
            from_sequence: 0,
            limit: 0,
            include_staged: false
        }),
        Err(ReadError::UnknownStream { .. })
    ));
    assert!(
        store.streams().iter().all(|stream| &*stream.name == "s"),
        "a refused name leaves no stream"
    );
}

#[test]
fn the_quota_of_tier_0_refuses_typed_and_resumes_when_it_is_raised() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = small_config(directory.path());
    config.tier0.instance_quota_bytes = 3 * MIB;
    let store = try_open(config.clone()).unwrap();
    let payload = vec![1u8; 100_000];
    let refused = (0..100)
        .find_map(|_| durable(&store, "s", &payload).err())
        .expect("the quota is met");
    match &refused {
        AppendError::WouldBlock {
            kind: WouldBlockKind::Admission,
            message,
            ..
        } => {
            assert!(
                message.contains("tier0.instance_quota_bytes is 3145728"),
                "{message}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(store.metrics().would_block[&WouldBlockKind::Admission] > 0);
    assert!(store.metrics().tier0_total_bytes <= 3 * MIB);
    config.tier0.instance_quota_bytes = 30 * MIB;
    store.reconfigure(config.clone());
    durable(&store, "s", &payload).unwrap();
    config.tier0.instance_quota_bytes = MIB;
    store.reconfigure(config);
    assert!(
        durable(&store, "s", b"x").is_err(),
        "a lowered quota holds at once"
    );
}
