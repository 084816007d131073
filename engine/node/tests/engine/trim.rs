//! A stream whose start moves, by the data API and by a rule of the configuration.

use aof2_node::proto::log_client::LogClient;
use aof2_node::proto::{READ_ON_FROM, ReadRequest, TailRequest, TrimRequest};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::support::*;

async fn trim(client: &mut LogClient<Channel>, stream: &str, before: u64) -> Result<u64, Status> {
    let request = TrimRequest {
        stream: stream.to_string(),
        before,
    };
    let answer = client.trim(request).await?;
    Ok(answer.into_inner().first_sequence)
}

/// Ten sealed records, and one behind them.
async fn eleven(engine: &Engine) -> LogClient<Channel> {
    let mut client = engine.data().await;
    for index in 0..11 {
        if index == 10 {
            engine.admin().seal(None).await.expect("sealed");
        }
        append(&mut client, request("s", payload(index, 50)))
            .await
            .expect("admitted");
    }
    client
}

#[tokio::test]
async fn a_trim_is_idempotent_durable_audited_and_counted() {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = eleven(&engine).await;
    assert_eq!(trim(&mut client, "s", 4).await.expect("trimmed"), 4);
    assert_eq!(trim(&mut client, "s", 2).await.expect("nothing"), 4);
    for (stream, before, code, told) in [
        ("s", 11, Code::FailedPrecondition, "trim before 10 at most"),
        ("s", 12, Code::OutOfRange, "trim before 10 at most"),
        ("t", 0, Code::NotFound, "stream t does not exist"),
    ] {
        let refused = trim(&mut client, stream, before)
            .await
            .expect_err("refused");
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(told), "{refused}");
    }
    let lines: Vec<String> = engine
        .audit()
        .iter()
        .filter(|line| line["verb"] == "trim")
        .map(|line| format!("{} {}", line["arguments"], line["outcome"]))
        .collect();
    assert_eq!(
        lines,
        [
            r#""stream=s&before=4" "done""#,
            r#""stream=s&before=2" "done""#,
            r#""stream=s&before=11" "refused""#,
            r#""stream=s&before=12" "refused""#,
            r#""stream=t&before=0" "refused""#,
        ]
    );
    let (_, metrics) = engine.get("/metrics").await;
    for line in [
        r#"aof2_trimmed_records_total{reason="trim"} 4"#,
        r#"aof2_trimmed_records_total{reason="retention"} 0"#,
        "aof2_retention_suspended 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    engine.kill_and_wait().await;

    let engine = home.start().await;
    let mut client = engine.data().await;
    let read = client
        .read(ReadRequest {
            stream: "s".to_string(),
            from_sequence: 3,
            ..ReadRequest::default()
        })
        .await;
    let mut batches = read.expect("the call").into_inner();
    let below = batches.message().await.expect_err("trimmed");
    let tail = TailRequest {
        stream: "s".to_string(),
        from_sequence: 0,
    };
    let mut batches = client.tail(tail).await.expect("the call").into_inner();
    let also = batches.message().await.expect_err("trimmed");
    for status in [below, also] {
        assert_eq!(status.code(), Code::OutOfRange, "{status}");
        let on = status.metadata().get(READ_ON_FROM).expect("told");
        assert_eq!(on, "4");
    }
    let streams = engine.admin().streams().await.expect("streams");
    assert_eq!(
        (streams[0].first_sequence, streams[0].next_sequence),
        (4, 11)
    );
}

#[tokio::test]
async fn a_rule_of_the_configuration_takes_what_is_too_old_and_is_shown() {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = eleven(&engine).await;
    let none = engine.admin().dump().await.expect("dump").retention;
    assert!(none.expect("it serves").rules.is_empty());
    home.write_config(&format!(
        "{SMALL}\n[[retention]]\nstreams = \"nobody-*\"\nmax_bytes = 1048576\n[[retention]]\nstreams = \"s\"\nmax_age = \"1s\"\n"
    ));
    engine
        .wait_for("retention", async || {
            let streams = engine.admin().streams().await.expect("streams");
            streams[0].first_sequence == 10
        })
        .await;
    assert_eq!(trim(&mut client, "s", 0).await.expect("nothing"), 10);
    let report = engine.admin().dump().await.expect("dump").retention;
    let report = report.expect("it serves");
    let rules: Vec<_> = report
        .rules
        .iter()
        .map(|rule| {
            (
                rule.streams.as_str(),
                rule.max_age_seconds,
                rule.max_bytes,
                rule.fitting_streams,
            )
        })
        .collect();
    assert_eq!(
        rules,
        [
            ("nobody-*", None, Some(1 << 20), Some(0)),
            ("s", Some(1), None, Some(1))
        ]
    );
    assert_eq!(report.suspended, None);
    let warned = engine.lines_about("no stream of this node fits this rule of retention");
    assert_eq!(warned.len(), 1, "once: {warned:?}");
    let (_, metrics) = engine.get("/metrics").await;
    let counted = r#"aof2_trimmed_records_total{reason="retention"} 10"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn objects_of_trimmed_segments_leave_the_bucket_also_over_kills() {
    let home = Home::new();
    home.write_config(&format!("{SMALL}\n[tier2]\ndelete_grace = \"0s\"\n"));
    let tier2 = home.path("tier2");
    let arguments = ["--tier2-directory", tier2.to_str().expect("a path")];
    let objects = || {
        let directory = tier2.join("aof2/segments/s");
        let entries = std::fs::read_dir(directory).map(Iterator::count);
        entries.unwrap_or_default()
    };
    let mut next = 0;
    for round in 0..4 {
        let engine = home.start_with(&arguments).await;
        let mut client = engine.data().await;
        for _ in 0..3 {
            append(&mut client, request("s", payload(next, 50)))
                .await
                .expect("admitted");
            engine.admin().seal(None).await.expect("sealed");
            next += 1;
        }
        engine
            .wait_for("uploads", async || {
                let dump = engine.admin().dump().await.expect("dump");
                dump.tier2.expect("a Tier 2").pending_uploads == 0
            })
            .await;
        trim(&mut client, "s", next - 1).await.expect("trimmed");
        if round < 3 {
            engine.kill_and_wait().await;
            continue;
        }
        engine.wait_for("one object", async || objects() == 1).await;
        engine
            .wait_for("nothing waits", async || {
                let dump = engine.admin().dump().await.expect("dump");
                let deletion = dump.tier2.expect("a Tier 2").deletion;
                let deletion = deletion.expect("it deletes");
                deletion.waiting.is_empty() && deletion.deleted_objects > 0
            })
            .await;
        let (_, metrics) = engine.get("/metrics").await;
        assert!(
            metrics.contains("aof2_tier2_deletion_failed 0"),
            "{metrics}"
        );
        let last = read_from(&mut client, next - 1).await;
        assert_eq!(last, 1);
    }
}

async fn read_from(client: &mut LogClient<Channel>, from_sequence: u64) -> usize {
    let request = ReadRequest {
        stream: "s".to_string(),
        from_sequence,
        ..ReadRequest::default()
    };
    let mut batches = client.read(request).await.expect("the call").into_inner();
    let mut records = 0;
    while let Some(batch) = batches.message().await.expect("readable") {
        records += batch.records.len();
    }
    records
}
