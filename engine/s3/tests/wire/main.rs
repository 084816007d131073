//! The store over the wire, against a real S3 server.

mod answers;
mod common;
mod orphans;
mod proxy;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aof2_core::claims::suite as claims_suite;
use aof2_core::objects::conditional::{Creation, create};
use aof2_core::objects::listing::{self, ListingError};
use aof2_core::objects::{
    ObjectError, ObjectStore, PutOutcome, Source, Tier2Reason, Upload, crc64nvme, probe, suite,
};
use aof2_s3::{S3Settings, S3Store};
use bytes::Bytes;
use common::{ACCESS_KEY, SECRET_KEY, free_address, server, write_credentials};

fn upload(bytes: impl Into<Bytes>, put_id: &str) -> Upload {
    Upload::of_bytes(bytes.into(), put_id.into())
}

#[test]
fn s3_keeps_the_contract_of_a_store() {
    suite::store_keeps_its_contract(&server().store(), "folder/");
}

#[test]
fn claims_keep_their_contract_on_s3() {
    let store: Arc<dyn ObjectStore> = Arc::new(server().store());
    claims_suite::claims_keep_their_contract(&store, "prod/orders/");
}

#[test]
fn marks_of_volumes_keep_their_contract_on_s3() {
    let store: Arc<dyn ObjectStore> = Arc::new(server().store());
    claims_suite::marks_keep_their_contract(&store, "prod/orders/");
}

#[test]
fn of_sixteen_threads_exactly_one_creates_a_key() {
    suite::one_creator_wins(&server().store(), "race/", 16, 10);
}

#[test]
fn the_probe_passes_here() {
    probe::probe(&server().store(), "probe/1", "p").expect("preconditions are honoured");
}

#[test]
fn a_listing_goes_on_over_its_pages() {
    let store = server().store();
    let keys: Vec<String> = (0..1234).map(|n| format!("many/{n:06}")).collect();
    std::thread::scope(|scope| {
        for part in keys.chunks(310) {
            scope.spawn(|| {
                part.iter()
                    .for_each(|key| drop(store.put(key, &upload("x", "p")).expect("put")))
            });
        }
    });
    assert_eq!(store.list("many/", None).expect("listed"), keys);
    assert_eq!(
        store.list("many/", Some(&keys[1100])).expect("listed"),
        keys[1101..]
    );
    let mut found = Vec::new();
    let whole = listing::walk(&store, "many/", |page| {
        found.extend(page);
        Ok::<_, ListingError>(true)
    });
    assert!(whole.expect("listed"));
    assert!(found.iter().map(|it| &it.key).eq(&keys));
    let at = found[0].modified_unix_nanos.expect("S3 names the time");
    let at = UNIX_EPOCH + Duration::from_nanos(at as u64);
    let age = SystemTime::now().duration_since(at).unwrap_or_default();
    assert!(age < Duration::from_secs(300), "{age:?}");
}

/// Bytes that are made when they are read, and that may lie once.
struct Pattern {
    size_bytes: u64,
    fails_at: Option<u64>,
}

impl Source for Pattern {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        if self
            .fails_at
            .is_some_and(|at| (offset..offset + buffer.len() as u64).contains(&at))
        {
            return Err(std::io::Error::other("the disk is gone"));
        }
        for (at, byte) in (offset..).zip(buffer) {
            *byte = (at * 31 % 251) as u8;
        }
        Ok(())
    }
}

#[test]
fn a_large_body_is_streamed_and_its_checksum_kept_by_the_store() {
    let store = server().store();
    let source = Pattern {
        size_bytes: (9 << 20) + 12_345,
        fails_at: None,
    };
    let crc = aof2_core::objects::crc64nvme_of(&source).expect("a checksum");
    let large = Upload {
        crc64nvme: crc,
        source: Arc::new(source),
        put_id: "large".into(),
    };
    assert!(matches!(
        store.put_if_absent("large", &large).expect("put"),
        PutOutcome::Created { .. }
    ));
    let meta = store.head("large").expect("head").expect("there");
    assert_eq!(
        (meta.size_bytes, meta.crc64nvme, meta.put_id.as_deref()),
        ((9 << 20) + 12_345, Some(crc), Some("large"))
    );
    assert_eq!(
        crc64nvme(&store.get("large").expect("get").expect("there").bytes),
        crc
    );
    let mut expected = vec![0; 70_000];
    large
        .source
        .read_at(5_000_000, &mut expected)
        .expect("read");
    assert_eq!(
        store
            .get_range("large", 5_000_000, 70_000)
            .expect("range")
            .expect("there"),
        expected
    );
}

#[test]
fn a_large_body_that_differs_from_its_checksum_is_refused() {
    let store = server().store();
    let wrong = Upload {
        crc64nvme: 1,
        source: Arc::new(Pattern {
            size_bytes: 6 << 20,
            fails_at: None,
        }),
        put_id: "wrong".into(),
    };
    let error = store.put_if_absent("wrong", &wrong).expect_err("refused");
    assert!(matches!(error, ObjectError::Corrupt { .. }), "{error}");
    assert_eq!(store.head("wrong").expect("head"), None);
}

#[test]
fn a_source_that_breaks_off_leaves_no_object() {
    let store = server().store();
    let source = Pattern {
        size_bytes: 6 << 20,
        fails_at: Some(5 << 20),
    };
    let broken = Upload {
        crc64nvme: 1,
        source: Arc::new(source),
        put_id: "broken".into(),
    };
    store
        .put_if_absent("broken", &broken)
        .expect_err("ended early");
    assert_eq!(store.head("broken").expect("head"), None);
}

// --- the result table on the wire

#[test]
fn a_create_met_by_our_own_object_is_ours_and_by_anothers_is_taken() {
    let store = server().store();
    let mine = upload("mine", "a");
    for _ in 0..2 {
        let creation = create(&store, "k", &mine, &suite::test_retries(), 3).expect("an outcome");
        assert!(matches!(creation, Creation::Ours { .. }), "{creation:?}");
    }
    let rival = create(
        &store,
        "k",
        &upload("other", "b"),
        &suite::test_retries(),
        3,
    )
    .expect("an outcome");
    assert!(matches!(rival, Creation::Taken(_)), "{rival:?}");
    assert_eq!(
        store.get("k").expect("get").expect("there").bytes,
        Bytes::from_static(b"mine")
    );
}

/// Forwards to the server and, while told to, cuts the connection instead of passing an answer on.
fn lossy_proxy(target: String, lost_answers: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let mut left = lost_answers;
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let mut upstream = std::net::TcpStream::connect(target.trim_start_matches("http://"))
                .expect("the server");
            let loses = left > 0;
            left = left.saturating_sub(1);
            let (mut from_client, mut to_server) = (
                client.try_clone().expect("clone"),
                upstream.try_clone().expect("clone"),
            );
            std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(read) = upstream.read(&mut buffer) {
                    if read == 0 || loses || client.write_all(&buffer[..read]).is_err() {
                        let _ = client.shutdown(std::net::Shutdown::Both);
                        return;
                    }
                }
            });
        }
    });
    endpoint
}

#[test]
fn an_answer_lost_on_the_wire_is_unknown_and_then_found_to_be_ours() {
    let bucket = server().new_bucket();
    let endpoint = lossy_proxy(server().endpoint.clone(), 1);
    let store = S3Store::open(S3Settings {
        endpoint: Some(endpoint),
        ..server().settings(&bucket)
    })
    .expect("opens");
    let mine = upload("mine", "a");
    let error = store
        .put_if_absent("k", &mine)
        .expect_err("the answer is lost");
    assert!(matches!(error, ObjectError::Unknown { .. }), "{error}");
    assert_eq!(
        store.get("k").expect("get").expect("it landed").bytes,
        Bytes::from_static(b"mine")
    );

    let endpoint = lossy_proxy(server().endpoint.clone(), 1);
    let store = S3Store::open(S3Settings {
        endpoint: Some(endpoint),
        ..server().settings(&bucket)
    })
    .expect("opens");
    let creation = create(
        &store,
        "k2",
        &upload("mine", "b"),
        &suite::test_retries(),
        3,
    )
    .expect("an outcome");
    assert!(matches!(creation, Creation::Ours { .. }), "{creation:?}");
}

#[test]
fn a_server_that_never_answers_is_unknown_after_the_time_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let settings = S3Settings {
        endpoint: Some(endpoint),
        request_timeout: Duration::from_millis(300),
        ..server().settings("b")
    };
    let error = S3Store::open(settings)
        .expect("opens")
        .put_if_absent("k", &upload("x", "a"))
        .expect_err("no answer");
    assert!(matches!(error, ObjectError::Unknown { .. }), "{error}");
    assert!(
        error.to_string().contains("no answer within 0.3 s"),
        "{error}"
    );
}

// --- bad input, and what is said

#[test]
fn a_missing_bucket_is_named_with_its_remedy() {
    let store = S3Store::open(server().settings("no-such-bucket")).expect("opens");
    for error in [
        store
            .put_if_absent("k", &upload("x", "a"))
            .expect_err("no bucket"),
        store.list("", None).expect_err("no bucket"),
    ] {
        assert_eq!(error.reason(), Tier2Reason::BucketMissing, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("bucket no-such-bucket") && text.contains(&server().endpoint),
            "{text}"
        );
        assert!(
            text.contains("create it or correct spec.tier2.bucket"),
            "{text}"
        );
    }
}

#[test]
fn wrong_credentials_are_told_without_showing_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let bucket = server().new_bucket();
    for (access_key, secret_key) in [
        (ACCESS_KEY, "wrong-secret-value"),
        ("unknown-access-key", SECRET_KEY),
    ] {
        write_credentials(folder.path(), access_key, secret_key);
        let settings = S3Settings {
            credentials_directory: folder.path().to_owned(),
            ..server().settings(&bucket)
        };
        let store = S3Store::open(settings).expect("opens");
        let error = store
            .put_if_absent("k", &upload("x", "a"))
            .expect_err("refused");
        assert_eq!(error.reason(), Tier2Reason::AccessDenied, "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains("correct the credentials"), "{text}");
        assert!(
            !text.contains(secret_key) && !text.contains(access_key),
            "{text}"
        );
    }
}

#[test]
fn credentials_that_were_corrected_are_taken_up_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    write_credentials(folder.path(), ACCESS_KEY, "wrong");
    let bucket = server().new_bucket();
    let settings = S3Settings {
        credentials_directory: folder.path().to_owned(),
        ..server().settings(&bucket)
    };
    let store = S3Store::open(settings).expect("opens");
    assert_eq!(
        store.head("k").expect_err("refused").reason(),
        Tier2Reason::AccessDenied
    );
    write_credentials(folder.path(), ACCESS_KEY, SECRET_KEY);
    assert_eq!(store.head("k").expect("head"), None);
}

#[test]
fn missing_credentials_name_the_directory_and_the_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = S3Settings {
        credentials_directory: folder.path().to_owned(),
        ..server().settings("b")
    };
    let error = S3Store::open(settings)
        .expect("opens")
        .head("k")
        .expect_err("no keys");
    assert_eq!(error.reason(), Tier2Reason::AccessDenied);
    let text = error.to_string();
    assert!(
        text.contains("holds no access_key_id") && text.contains(&*folder.path().to_string_lossy()),
        "{text}"
    );
}

#[test]
fn an_endpoint_that_is_down_is_unreachable_and_named() {
    let endpoint = format!("http://{}", free_address());
    let settings = S3Settings {
        endpoint: Some(endpoint.clone()),
        ..server().settings("b")
    };
    let error = S3Store::open(settings)
        .expect("opens")
        .put_if_absent("k", &upload("x", "a"))
        .expect_err("down");
    assert!(
        matches!(error, ObjectError::Unreachable { .. }),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains(&endpoint) && text.contains("check the endpoint"),
        "{text}"
    );
    assert!(text.to_lowercase().contains("refused"), "{text}");
}

#[test]
fn an_endpoint_whose_name_does_not_resolve_is_unreachable() {
    let settings = S3Settings {
        endpoint: Some("http://no-such-host.invalid:9".into()),
        ..server().settings("b")
    };
    let error = S3Store::open(settings)
        .expect("opens")
        .head("k")
        .expect_err("no such name");
    assert!(
        matches!(error, ObjectError::Unreachable { .. }),
        "{error:?}"
    );
}

#[test]
fn settings_that_cannot_work_are_refused_before_any_request() {
    let refusal =
        |settings: S3Settings| S3Store::open(settings).err().expect("refused").to_string();
    let good = server().settings("b");
    let text = refusal(S3Settings {
        endpoint: Some("s3.example.com".into()),
        ..good.clone()
    });
    assert!(text.contains("has no scheme"), "{text}");
    assert!(
        refusal(S3Settings {
            bucket: String::new(),
            ..good.clone()
        })
        .contains("bucket is empty")
    );
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ca.crt");
    let secure = S3Settings {
        endpoint: Some("https://127.0.0.1:1".into()),
        ca_file: Some(path.clone()),
        ..good
    };
    assert!(refusal(secure.clone()).contains("ca.crt ("));
    std::fs::write(&path, "not a certificate").expect("written");
    assert!(refusal(secure).contains("no certificate"));
}

#[test]
fn a_key_that_lies_below_an_object_is_refused_and_not_repeated() {
    let store = server().store();
    store.put("a", &upload("x", "p")).expect("put");
    let error = store
        .put_if_absent("a/b", &upload("x", "p"))
        .expect_err("versitygw keeps keys as files");
    assert!(matches!(error, ObjectError::Refused { .. }), "{error}");
}
