//! The storage report over the admin API: prices of the configuration, rules that are not in use, and what it must not do.

use aof2_admin_api::ErrorReason;
use aof2_admin_api::client::{ClientError, ConfigMode};
use aof2_admin_api::storage::{ClassPrice, MAX_REPORT_BYTES, RetentionForecast};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::*;

/// Sealed and open records in so many streams.
async fn filled(engine: &Engine, streams: usize) {
    let mut client = engine.data().await;
    let requests = |part: u64| {
        let named = (0..streams).map(move |number| {
            let stream = format!("stream-with-a-name-that-is-as-long-as-names-are-{number:05}");
            request(&stream, payload(part, 50))
        });
        named.collect()
    };
    append_all(&mut client, requests(0)).await;
    engine.admin().seal(None).await.expect("sealed");
    append_all(&mut client, requests(1)).await;
}

#[tokio::test]
async fn prices_are_those_of_the_file_and_rules_of_a_request_take_nothing() {
    let home = Home::new();
    let engine = home.start().await;
    filled(&engine, 3).await;
    let admin = engine.admin();
    let report = admin.storage_report(None, None, None).await;
    let report = report.expect("a report");
    assert_eq!(report.total.streams, 3);
    assert_eq!(report.total.records, 6);
    assert_eq!(
        (report.total.hot.objects, report.total.cold.objects),
        (6, 0)
    );
    assert_eq!((report.total.monthly_cost, report.rest), (None, None));
    assert_eq!(report.proposed_rules, None);
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);

    home.write_config(&format!(
        "{SMALL}\n[[retention]]\nstreams = \"*\"\nmax_age = \"100h\"\n[[report.price]]\nclass = \"STANDARD\"\nper_gib_month = 0.023\n"
    ));
    let priced = ClassPrice {
        class: "STANDARD".to_string(),
        per_gib_month: 0.023,
    };
    engine
        .wait_for("prices", async || {
            let report = engine.admin().storage_report(None, Some(1), None).await;
            report.expect("a report").prices == [priced.clone()]
        })
        .await;
    let rules = "[[retention]]\nstreams = \"nobody\"\nmax_bytes = 1048576\n";
    let report = admin.storage_report(None, Some(1), Some(rules)).await;
    let report = report.expect("a report");
    // Without a bucket nothing is in it.
    assert_eq!(report.total.monthly_cost, Some(0.0));
    assert_eq!(
        (report.streams.len(), report.rest.map(|it| it.streams)),
        (1, Some(2))
    );
    assert_eq!(report.rules[0].fitting_streams, 3);
    assert_eq!(report.rules[0].takes.in_7_days.records, 3);
    let proposed = report.proposed_rules.expect("asked for");
    assert_eq!(proposed[0].fitting_streams, 0);
    let shortened = report.shortened.expect("asked for");
    let [nobody] = &shortened[..] else {
        panic!("{shortened:?}");
    };
    assert_eq!(nobody.change.streams, "nobody");
    assert_eq!(nobody.change.from.max_age.as_deref(), Some("100h"));
    assert_eq!(nobody.takes, RetentionForecast::default());
    // In the words of a verdict on the same rules.
    let verdict = admin.config_validate(rules, ConfigMode::User).await;
    let told = verdict.expect("a verdict").shortened_retention;
    assert_eq!(told, Some(vec![nobody.change.clone()]));
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    // Only questions.
    let audit = engine.audit();
    assert!(audit.iter().all(|line| line["verb"] == "seal"), "{audit:?}");

    let config = admin.config().await.expect("the effective file");
    assert!(
        config.contains("[[report.price]]\nclass = \"STANDARD\"\nper_gib_month = 0.023\n"),
        "{config}"
    );
}

#[tokio::test]
async fn a_report_about_many_streams_has_its_bound() {
    let home = Home::new();
    let engine = home.start().await;
    filled(&engine, 700).await;
    let report = engine.admin().storage_report(None, Some(1000), None).await;
    let report = report.expect("a report");
    let bytes = serde_json::to_vec(&report).expect("JSON").len();
    assert!(bytes <= MAX_REPORT_BYTES, "{bytes} bytes");
    let described = report.streams.len() as u64;
    let rest = report.rest.expect("a rest").streams;
    assert_eq!(described + rest, 700);
    assert!(described > 100, "{described} of 700");
    assert_eq!(report.total.records, 1400);
    // Several at once wait for each other, and nothing else does.
    let admin = engine.admin();
    let (one, other, dump) = tokio::join!(
        admin.storage_report(None, Some(0), None),
        admin.storage_report(None, Some(0), None),
        admin.dump(),
    );
    assert_eq!(one.expect("a report").total, other.expect("a report").total);
    dump.expect("a dump");
}

#[tokio::test]
async fn rules_come_in_the_body_of_a_post_and_a_file_is_not_longer_than_it_may_be() {
    let home = Home::new();
    let engine = home.start().await;
    filled(&engine, 1).await;
    let get = "GET /aof2/report?retention=x HTTP/1.1\r\nhost: engine\r\nconnection: close\r\n\r\n";
    let mut socket = UnixStream::connect(&engine.admin_socket)
        .await
        .expect("a socket");
    socket.write_all(get.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    assert!(
        answer.starts_with("HTTP/1.1 400 ")
            && answer.contains("send the rules as the body of a POST"),
        "{answer}"
    );
    for bytes in [17 << 10, 1 << 20] {
        let rules = "#".repeat(bytes);
        let refused = engine
            .admin()
            .storage_report(None, None, Some(&rules))
            .await;
        let Err(ClientError::Refused { status, body, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert!((400..500).contains(&status), "{status}");
        assert_eq!(body.reason, ErrorReason::BadRequest);
        assert!(body.message.contains("limit"), "{}", body.message);
    }
}
