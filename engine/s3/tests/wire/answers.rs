//! What each answer of a store, and none, leads to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aof2_core::objects::conditional::{Creation, create};
use aof2_core::objects::{
    ObjectError, ObjectStore, Removal, Tier2Reason, Upload, crc64nvme, suite,
};
use aof2_s3::{Checksum, S3Settings};
use bytes::Bytes;

use crate::common::{ACCESS_KEY, SECRET_KEY, server, write_credentials};
use crate::proxy::{Act, Flood, proxied};

fn upload(bytes: impl Into<Bytes>) -> Upload {
    Upload::of_bytes(bytes.into(), "put-1".into())
}

fn same(settings: S3Settings) -> S3Settings {
    settings
}

#[test]
fn each_answer_has_its_reason_for_every_kind_of_request() {
    for (status, code, reason) in [
        (400, "ExpiredToken", Tier2Reason::CredentialsExpired),
        (403, "RequestTimeTooSkewed", Tier2Reason::ClockSkew),
        (403, "InvalidAccessKeyId", Tier2Reason::AccessDenied),
        (403, "AccessDenied", Tier2Reason::AccessDenied),
        (403, "InvalidObjectState", Tier2Reason::ObjectArchived),
        (403, "QuotaExceeded", Tier2Reason::QuotaExceeded),
        (400, "KMS.DisabledException", Tier2Reason::EncryptionKey),
        (301, "PermanentRedirect", Tier2Reason::WrongRegion),
        (503, "SlowDown", Tier2Reason::Unreachable),
    ] {
        let store = proxied(same, move |_| Act::Refuse(status, code)).store;
        let errors = [
            store.put("k", &upload("x")).err(),
            store.get("k").err(),
            // Its answer has no error document: another request asks for it.
            store.head("k").err(),
            store.list("", None).err(),
            store.delete("k").err(),
        ];
        for error in errors {
            let error = error.expect("refused");
            assert_eq!(error.reason(), reason, "{status} {code}: {error}");
        }
    }
}

/// As Kubernetes replaces a Secret: nobody is told.
#[test]
fn keys_that_were_renewed_are_used_by_the_very_request_that_finds_the_old_ones_expired() {
    let folder = tempfile::tempdir().expect("a folder");
    write_credentials(folder.path(), "expired", SECRET_KEY);
    let directory = folder.path().to_owned();
    let with_keys = |settings| S3Settings {
        credentials_directory: directory,
        ..settings
    };
    let good = format!("Credential={ACCESS_KEY}/");
    let proxied = proxied(with_keys, move |request| {
        match request.header("authorization") {
            Some(signed) if signed.contains(&good) => Act::Pass,
            _ => Act::Refuse(400, "ExpiredToken"),
        }
    });
    let error = proxied.store.put("k", &upload("x")).expect_err("expired");
    assert_eq!(error.reason(), Tier2Reason::CredentialsExpired, "{error}");
    assert_eq!(proxied.seen().len(), 1, "the same keys are not tried twice");
    let error = proxied.store.head("k").expect_err("expired");
    assert_eq!(error.reason(), Tier2Reason::CredentialsExpired, "{error}");

    // They were read just now.
    write_credentials(folder.path(), ACCESS_KEY, SECRET_KEY);
    proxied
        .store
        .put("k", &upload("x"))
        .expect("with the new keys");
}

/// Each of them finds the old keys expired, and one of them is the first to have the new ones.
#[test]
fn requests_side_by_side_all_go_on_with_the_keys_that_were_renewed() {
    const REQUESTS: usize = 8;
    let folder = tempfile::tempdir().expect("a folder");
    write_credentials(folder.path(), "expired", SECRET_KEY);
    let directory = folder.path().to_owned();
    let with_keys = |settings| S3Settings {
        credentials_directory: directory,
        ..settings
    };
    let all_are_sent = std::sync::Barrier::new(REQUESTS + 1);
    let all_are_sent = std::sync::Arc::new(all_are_sent);
    let (sent, good) = (all_are_sent.clone(), format!("Credential={ACCESS_KEY}/"));
    let proxied = proxied(with_keys, move |request| {
        match request.header("authorization") {
            Some(signed) if signed.contains(&good) => Act::Pass,
            _ => {
                // Then the keys are renewed, and then they are all refused.
                sent.wait();
                sent.wait();
                Act::Refuse(403, "InvalidAccessKeyId")
            }
        }
    });
    std::thread::scope(|scope| {
        for number in 0..REQUESTS {
            let store = &proxied.store;
            scope.spawn(move || {
                let put = store.put(&number.to_string(), &upload("x"));
                put.expect("with the new keys");
            });
        }
        all_are_sent.wait();
        write_credentials(folder.path(), ACCESS_KEY, SECRET_KEY);
        all_are_sent.wait();
    });
}

#[test]
fn a_page_of_a_listing_has_a_key_or_is_the_last() {
    let proxied = proxied(same, |request| {
        if request.path.contains("continuation-token=") {
            Act::Answer(
                "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents></ListBucketResult>",
            )
        } else {
            Act::Answer(
                "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>",
            )
        }
    });
    let page = proxied.store.list_page("", None).expect("listed");
    assert_eq!((page.keys, page.is_last), (vec!["a".to_owned()], true));
}

#[test]
fn a_listing_that_broke_off_is_none() {
    for (answer, problem) in [
        (
            "<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>2</KeyCount><Contents><Key>a</Key></Contents></ListBucketResult>",
            "the listing has 1 keys and says that it has 2",
        ),
        (
            "<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
            "the listing does not say whether more keys follow",
        ),
        (
            "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
            "listing is truncated without a continuation token",
        ),
    ] {
        let store = proxied(same, move |_| Act::Answer(answer)).store;
        for error in [
            store.list("", None).err(),
            store.list_page("", None).err(),
            store.list_objects("", None).err(),
        ] {
            let error = error.expect("broken off").to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}

#[test]
fn a_body_is_not_read_beyond_the_limit_of_its_object_or_range() {
    // Announced, not announced, and a store that ignores the range.
    for (announced, is_range) in [(Some(1 << 30), false), (None, false), (Some(1 << 30), true)] {
        let flood = Flood {
            announced,
            ..Flood::default()
        };
        let sends = flood.clone();
        let proxied = proxied(same, move |_| Act::Flood(sends.clone()));
        let error = if is_range {
            proxied.store.get_range("k", 5, 100).map(|_| ())
        } else {
            proxied.store.get_within("k", 1 << 14).map(|_| ())
        };
        let error = error.expect_err("too large").to_string();
        let size = match (announced, is_range) {
            (_, true) => "more came back than the range of 100 bytes",
            (Some(_), false) => "1073741824 bytes, the limit of its kind is 16384",
            (None, false) => "more than 16384 bytes",
        };
        assert!(error.contains("\"k\"") && error.contains(size), "{error}");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !flood.is_over.load(Ordering::SeqCst) {
            assert!(Instant::now() < deadline, "the connection stays open");
            std::thread::yield_now();
        }
        // What the two sockets buffer.
        let sent = flood.sent.load(Ordering::SeqCst);
        assert!(sent < 64 << 20, "{sent} bytes were taken");
    }
}

#[test]
fn an_archived_object_is_named_with_its_storage_class() {
    let is_cold = Arc::new(AtomicBool::new(false));
    let cold = is_cold.clone();
    let store = proxied(same, move |request| {
        match (cold.load(Ordering::Relaxed), request.method.as_str()) {
            (true, "GET") => Act::Refuse(403, "InvalidObjectState"),
            (true, "HEAD") => Act::PassWith("x-amz-storage-class: DEEP_ARCHIVE"),
            _ => Act::Pass,
        }
    })
    .store;
    store.put("k", &upload("x")).expect("put");
    is_cold.store(true, Ordering::Relaxed);
    for error in [
        store.get("k").expect_err("archived"),
        store.get_range("k", 0, 1).expect_err("archived"),
    ] {
        assert_eq!(error.reason(), Tier2Reason::ObjectArchived);
        let text = error.to_string();
        for part in ["\"k\"", "DEEP_ARCHIVE", "restore the object"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

#[test]
fn the_class_of_an_object_is_what_the_store_names_and_standard_where_it_names_none() {
    let is_named = Arc::new(AtomicBool::new(false));
    let named = is_named.clone();
    let store = proxied(same, move |request| {
        match (named.load(Ordering::Relaxed), request.method.as_str()) {
            (true, "HEAD") => Act::PassWith("x-amz-storage-class: GLACIER_IR"),
            _ => Act::Pass,
        }
    })
    .store;
    assert_eq!(store.class("k").expect("asked"), None, "no object");
    store.put("k", &upload("x")).expect("put");
    assert_eq!(
        store.class("k").expect("asked").as_deref(),
        Some("STANDARD")
    );
    is_named.store(true, Ordering::Relaxed);
    assert_eq!(
        store.class("k").expect("asked").as_deref(),
        Some("GLACIER_IR")
    );
}

// --- time

#[test]
fn a_slow_line_is_waited_for_as_long_as_it_gets_on() {
    let quick = |settings| S3Settings {
        request_timeout: Duration::from_secs(1),
        ..settings
    };
    let proxied = proxied(quick, |_| Act::Paced(400 << 10));
    let body = vec![7; 2 << 20];
    let began = Instant::now();
    proxied.store.put("k", &upload(body)).expect("put");
    // More than the time-out and a second for each MiB.
    assert!(began.elapsed() > Duration::from_secs(4));
    assert_eq!(proxied.seen().len(), 1, "at the first try");
}

#[test]
fn a_store_that_hangs_ends_each_kind_of_request_in_bounded_time() {
    let quick = |settings| S3Settings {
        request_timeout: Duration::from_millis(300),
        ..settings
    };
    let store = proxied(quick, |_| Act::Hang).store;
    let began = Instant::now();
    let errors = [
        store.put("k", &upload(vec![7; 64 << 10])).err(),
        store.get("k").err(),
        store.get_range("k", 0, 1 << 20).err(),
        store.head("k").err(),
        store.list("", None).err(),
        store.delete("k").err(),
    ];
    for error in errors {
        let error = error.expect("no answer");
        assert!(matches!(error, ObjectError::Unknown { .. }), "{error}");
    }
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_stop_ends_a_request_that_hangs() {
    let long = |settings| S3Settings {
        request_timeout: Duration::from_secs(300),
        ..settings
    };
    let proxied = proxied(long, |_| Act::Hang);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| proxied.store.put("k", &upload("x")));
        while proxied.seen().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(60), "no request");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        proxied.store.stop();
        let ended = running.join().expect("no panic");
        assert!(
            matches!(ended, Err(ObjectError::Stopping { .. })),
            "{ended:?}"
        );
    });
    let later = proxied.store.head("k");
    assert!(
        matches!(later, Err(ObjectError::Stopping { .. })),
        "{later:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(60));
}

// --- checksums

fn with(checksum: Checksum) -> impl FnOnce(S3Settings) -> S3Settings {
    move |settings| S3Settings {
        checksum,
        ..settings
    }
}

/// A store that knows no checksum header, only `Content-MD5`.
fn old_store(checksum: Checksum, status: u16, code: &'static str) -> crate::proxy::Proxied {
    proxied(with(checksum), move |request| {
        match request.header("x-amz-checksum-crc64nvme") {
            Some(_) => Act::Refuse(status, code),
            None => Act::Pass,
        }
    })
}

#[test]
fn a_store_that_rejects_the_checksum_header_is_told_of_with_header_and_setting() {
    for (status, code) in [
        (501, "NotImplemented"),
        (400, "InvalidRequest"),
        (400, "InvalidArgument"),
    ] {
        let refused = old_store(Checksum::Crc64Nvme, status, code).store;
        let error = refused
            .put_if_absent("k", &upload("x"))
            .expect_err("refused");
        assert_eq!(error.reason(), Tier2Reason::ChecksumRejected, "{error}");
        let text = error.to_string();
        for part in [
            "x-amz-checksum-crc64nvme",
            "set tier2.checksum to MD5 or None",
        ] {
            assert!(text.contains(part), "{text}");
        }
        for checksum in [Checksum::Md5, Checksum::None] {
            let store = old_store(checksum, status, code).store;
            let creation = create(&store, "k", &upload("x"), &suite::test_retries(), 3);
            assert!(
                matches!(creation, Ok(Creation::Ours { .. })),
                "{creation:?}"
            );
        }
    }
}

#[test]
fn with_md5_s3_keeps_the_contract_of_a_store() {
    let settings = server().settings(&server().new_bucket());
    let store = aof2_s3::S3Store::open(with(Checksum::Md5)(settings)).expect("opens");
    suite::store_keeps_its_contract(&store, "folder/");
    // What the store keeps is proven by its ETag.
    store.put("k", &upload("abc")).expect("put");
    let meta = store.head("k").expect("head").expect("there");
    assert_eq!(meta.crc64nvme, Some(crc64nvme(b"abc")));
}

#[test]
fn a_body_that_is_damaged_on_its_way_never_counts_as_created() {
    for checksum in [Checksum::Crc64Nvme, Checksum::Md5, Checksum::None] {
        let proxied = proxied(with(checksum), |request| match request.method.as_str() {
            "PUT" => Act::Damage,
            _ => Act::Pass,
        });
        let created = create(
            &proxied.store,
            "k",
            &upload("mine"),
            &suite::test_retries(),
            2,
        );
        let error = created.expect_err("damaged");
        assert!(
            matches!(error, ObjectError::Corrupt { .. }),
            "{checksum:?}: {error}"
        );
    }
}

#[test]
fn a_delete_that_leaves_the_bytes_as_an_old_version_says_so() {
    let keeps_versions = Arc::new(AtomicBool::new(false));
    let keeps = keeps_versions.clone();
    let store = proxied(same, move |request| {
        match (keeps.load(Ordering::Relaxed), request.method.as_str()) {
            (true, "DELETE") => Act::PassWith("x-amz-delete-marker: true"),
            _ => Act::Pass,
        }
    })
    .store;
    store.put("k", &upload("x")).expect("put");
    assert_eq!(store.delete("k"), Ok(Removal::Removed));
    store.put("k", &upload("x")).expect("put");
    keeps_versions.store(true, Ordering::Relaxed);
    assert_eq!(store.delete("k"), Ok(Removal::KeptAsVersion));
}
