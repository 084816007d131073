//! The data API: append, read, tail, describe.

use aof2_node::proto::Refused;
use aof2_node::proto::log_client::LogClient;
use aof2_node::proto::{
    AppendRequest, DescribeRequest, ListStreamsRequest, MAX_MESSAGE_BYTES, ReadRequest, Reason,
    TailRequest,
};
use tokio_stream::StreamExt;
use tonic::transport::Channel;

use crate::support::{
    DEADLINE, Home, append, append_all, buffered, outcome, payload, read_all, request,
};

#[tokio::test]
async fn appended_records_are_read_back_in_order_with_their_sequences() {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = engine.data().await;
    let requests: Vec<AppendRequest> = (0..100)
        .map(|i| request("orders", payload(i, 100)))
        .collect();
    let answers = append_all(&mut client, requests).await;
    for (i, answer) in (0_u64..).zip(answers) {
        let appended = outcome(answer).expect("admitted");
        assert_eq!(
            (
                appended.stream.as_str(),
                appended.first_sequence,
                appended.count
            ),
            ("orders", i, 1)
        );
    }
    let records = read_all(&mut client, "orders").await;
    assert_eq!(records.len(), 100);
    for (i, record) in (0_u64..).zip(records) {
        assert_eq!((record.sequence, record.payload), (i, payload(i, 100)));
        assert!(record.appended_unix_nanos > 0);
    }
}

#[tokio::test]
async fn each_request_is_answered_once_and_those_of_a_stream_in_their_order() {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = engine.data().await;
    let requests: Vec<AppendRequest> = (0..300_u64)
        .map(|i| {
            let request = match i % 3 {
                0 => request(&format!("stream-{}", i % 7), payload(i, 64)),
                1 => buffered(request("buffered", payload(i, 64))),
                _ => request("Not A Name", payload(i, 64)),
            };
            AppendRequest {
                request_id: i,
                ..request
            }
        })
        .collect();
    let answers = append_all(&mut client, requests).await;
    let mut ids: Vec<u64> = answers.iter().map(|answer| answer.request_id).collect();
    let stream_of = |id: u64| match id % 3 {
        0 => id % 7,
        other => 10 + other,
    };
    for stream in 0..20 {
        let of_stream = ids.iter().filter(|id| stream_of(**id) == stream);
        assert!(of_stream.is_sorted(), "{ids:?}");
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..300).collect::<Vec<_>>());
    for answer in answers {
        let is_refused = answer.request_id % 3 == 2;
        assert_eq!(outcome(answer).is_err(), is_refused);
    }
}

#[tokio::test]
async fn a_batch_is_one_append_and_a_range_is_read_up_to_its_limit() {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = engine.data().await;
    let batch = AppendRequest {
        stream: "batches".to_string(),
        payloads: (0..10).map(|i| payload(i, 10)).collect(),
        ..AppendRequest::default()
    };
    let appended = append(&mut client, batch.clone()).await.expect("admitted");
    assert_eq!((appended.first_sequence, appended.count), (0, 10));
    assert_eq!(
        append(&mut client, batch)
            .await
            .expect("admitted")
            .first_sequence,
        10
    );
    let range = ReadRequest {
        stream: "batches".to_string(),
        from_sequence: 7,
        limit: 5,
        include_staged: false,
    };
    let mut batches = client.read(range).await.expect("the call").into_inner();
    let mut sequences = Vec::new();
    while let Some(batch) = batches.next().await {
        sequences.extend(
            batch
                .expect("a batch")
                .records
                .iter()
                .map(|record| record.sequence),
        );
    }
    assert_eq!(sequences, [7, 8, 9, 10, 11]);
}

#[tokio::test]
async fn tail_delivers_what_is_there_and_then_what_comes() {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = engine.data().await;
    for i in 0..3 {
        append(&mut client, request("tailed", payload(i, 20)))
            .await
            .expect("admitted");
    }
    let tail = TailRequest {
        stream: "tailed".to_string(),
        from_sequence: 1,
    };
    let mut batches = client
        .clone()
        .tail(tail)
        .await
        .expect("the call")
        .into_inner();
    let mut seen = Vec::new();
    for i in 3..50_u64 {
        append(&mut client, request("tailed", payload(i, 20)))
            .await
            .expect("admitted");
        while seen.last() != Some(&i) {
            let batch = tokio::time::timeout(DEADLINE, batches.next())
                .await
                .expect("in time")
                .expect("open")
                .expect("ok");
            seen.extend(batch.records.iter().map(|record| record.sequence));
        }
    }
    assert_eq!(seen, (1..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_producer_that_resends_gets_the_sequences_of_then_and_one_that_skips_is_told_what_is_next()
 {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = engine.data().await;
    let produced = |seq: u64| AppendRequest {
        producer_id: 42,
        producer_seq: seq,
        ..request("produced", payload(seq, 30))
    };
    for seq in 0..5 {
        assert!(
            !append(&mut client, produced(seq))
                .await
                .expect("admitted")
                .duplicate
        );
    }
    let again = append(&mut client, produced(2)).await.expect("admitted");
    assert_eq!((again.first_sequence, again.duplicate), (2, true));
    let refused = append(&mut client, produced(9)).await.expect_err("a gap");
    assert_eq!(
        (
            refused.reason(),
            refused.next_producer_seq,
            refused.retryable
        ),
        (Reason::SequenceGap, 5, false)
    );

    let describe = DescribeRequest {
        stream: "produced".to_string(),
        producer_id: 42,
    };
    let described = client
        .describe(describe)
        .await
        .expect("the call")
        .into_inner();
    assert_eq!(described.last_producer_seq, Some(4));
    assert_eq!(described.info.expect("info").next_sequence, 5);
    let other = DescribeRequest {
        stream: "produced".to_string(),
        producer_id: 7,
    };
    assert_eq!(
        client
            .describe(other)
            .await
            .expect("the call")
            .into_inner()
            .last_producer_seq,
        None
    );
}

#[tokio::test]
async fn streams_are_listed_by_name_with_their_counts() {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = engine.data().await;
    for (stream, records) in [("b", 2), ("a", 1), ("c", 3)] {
        for i in 0..records {
            append(&mut client, request(stream, payload(i, 10)))
                .await
                .expect("admitted");
        }
    }
    let listed = client
        .list_streams(ListStreamsRequest::default())
        .await
        .expect("the call")
        .into_inner()
        .streams;
    let counts: Vec<(&str, u64)> = listed
        .iter()
        .map(|stream| (stream.name.as_str(), stream.durable_sequence))
        .collect();
    assert_eq!(counts, [("a", 1), ("b", 2), ("c", 3)]);
}

#[tokio::test]
async fn bad_requests_are_refused_by_value_and_remedy_and_leave_the_call_open() {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = engine.data().await;

    let refused = append(&mut client, request("Orders/2", payload(0, 10)))
        .await
        .expect_err("a bad name");
    assert_eq!(
        (refused.reason(), refused.retryable),
        (Reason::InvalidStreamName, false)
    );
    assert!(
        refused
            .message
            .contains("stream name \"Orders/2\" is invalid; use "),
        "{}",
        refused.message
    );

    let refused = append(&mut client, request("orders", payload(0, (1 << 20) + 1)))
        .await
        .expect_err("too large");
    assert_eq!(
        (refused.reason(), refused.retryable),
        (Reason::RecordTooLarge, false)
    );
    assert!(
        refused.message.contains("1048577 bytes")
            && refused
                .message
                .contains("append.max_record_bytes = 1048576"),
        "{}",
        refused.message
    );

    let empty = AppendRequest {
        stream: "orders".to_string(),
        ..AppendRequest::default()
    };
    let refused = append(&mut client, empty).await.expect_err("nothing in it");
    assert_eq!(refused.reason(), Reason::EmptyBatch);

    let unknown = AppendRequest {
        durability: 2,
        ..request("orders", "x")
    };
    let refused = append(&mut client, unknown).await.expect_err("unknown");
    assert_eq!(
        (refused.reason(), refused.message.as_str()),
        (
            Reason::InvalidArgument,
            "durability 2 for stream \"orders\" is unknown; use 0 (DURABLE) or 1 (BUFFERED)"
        )
    );

    let answers = append_all(
        &mut client,
        vec![
            request("Bad Name", "x"),
            request("orders", "good"),
            request("orders", payload(0, 2 << 20)),
        ],
    )
    .await;
    let admitted: Vec<bool> = answers
        .into_iter()
        .map(|answer| outcome(answer).is_ok())
        .collect();
    assert_eq!(admitted, [false, true, false]);
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_with_its_size_and_the_limit() {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = engine.data().await;
    let payloads = (0..10).map(|i| payload(i, 1 << 20)).collect();
    let batch = AppendRequest {
        stream: "orders".to_string(),
        payloads,
        ..AppendRequest::default()
    };
    let mut answers = client
        .append(tokio_stream::iter([batch]))
        .await
        .expect("the call")
        .into_inner();
    let status = answers
        .next()
        .await
        .expect("an end")
        .expect_err("over the limit");
    assert_eq!(status.code(), tonic::Code::OutOfRange);
    assert!(
        status.message().contains(&MAX_MESSAGE_BYTES.to_string())
            && status.message().ends_with("send smaller batches"),
        "{status}"
    );
    append(&mut client, request("orders", "a new call works"))
        .await
        .expect("admitted");
}

#[tokio::test]
async fn reading_an_unknown_stream_says_so() {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = engine.data().await;
    let read = ReadRequest {
        stream: "nowhere".to_string(),
        ..ReadRequest::default()
    };
    let status = client.read(read).await.expect_err("unknown");
    assert_eq!(
        (status.code(), status.message()),
        (
            tonic::Code::NotFound,
            "stream nowhere does not exist on this node; `aof2-admin streams` lists its streams"
        )
    );
    let tail = TailRequest {
        stream: "nowhere".to_string(),
        from_sequence: 0,
    };
    assert_eq!(
        client.tail(tail).await.expect_err("unknown").code(),
        tonic::Code::NotFound
    );
    let describe = DescribeRequest {
        stream: "nowhere".to_string(),
        producer_id: 1,
    };
    assert_eq!(
        client.describe(describe).await.expect_err("unknown").code(),
        tonic::Code::NotFound
    );
}

/// Appends records of `size` bytes until one is refused.
async fn append_until_refused(
    client: &mut LogClient<Channel>,
    size: usize,
    admitted: &mut u64,
) -> Refused {
    loop {
        match append(client, request("orders", payload(*admitted, size))).await {
            Ok(_) => *admitted += 1,
            Err(refused) => return refused,
        }
        assert!(
            *admitted < 64,
            "admitted {admitted} records of {size} bytes"
        );
    }
}

#[tokio::test]
async fn a_client_that_is_faster_than_segments_roll_is_held_back_and_not_refused() {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = engine.data().await;
    // 40 segments of 1 MiB, buffered and pipelined.
    let requests = (0..80)
        .map(|i| buffered(request("orders", payload(i, 1 << 19))))
        .collect();
    let answers = append_all(&mut client, requests).await;
    let sequences: Vec<u64> = answers
        .into_iter()
        .map(|answer| outcome(answer).expect("admitted").first_sequence)
        .collect();
    assert_eq!(sequences, (0..80).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_volume_refuses_by_value_and_admits_again_once_it_has_grown() {
    let home = Home::new();
    let capacity = |bytes: u64| {
        home.write_config(&format!(
            "{}\n[storage]\ncapacity_bytes = {bytes}\n",
            crate::support::SMALL
        ))
    };
    capacity(24 << 20);
    let engine = home.start().await;
    let mut client = engine.data().await;
    let mut admitted = 0;
    let refused = append_until_refused(&mut client, 1 << 20, &mut admitted).await;
    assert!(admitted > 0, "{}", refused.message);
    assert_eq!(
        (refused.reason(), refused.retryable),
        (Reason::DiskFull, true)
    );
    assert!(
        refused.message.contains("volume is full") && refused.message.contains("reserve"),
        "{}",
        refused.message
    );
    assert_eq!(read_all(&mut client, "orders").await.len() as u64, admitted);
    assert_eq!(
        engine.get("/readyz").await.0,
        200,
        "a full disk does not make it unready"
    );
    capacity(64 << 20);
    engine
        .wait_for("admitting again", async || {
            let mut client = client.clone();
            append(&mut client, request("orders", payload(0, 1 << 19)))
                .await
                .is_ok()
        })
        .await;
}

#[tokio::test]
async fn the_quota_of_tier_0_refuses_as_admission_and_a_higher_one_admits_again() {
    let home = Home::new();
    let quota = |bytes: u64| {
        home.write_config(&format!(
            "{}\n[tier0]\ninstance_quota_bytes = {bytes}\n",
            crate::support::SMALL
        ))
    };
    quota(4 << 20);
    let engine = home.start().await;
    let mut client = engine.data().await;
    let mut admitted = 0;
    let refused = append_until_refused(&mut client, 1 << 19, &mut admitted).await;
    assert_eq!(
        (refused.reason(), refused.retryable),
        (Reason::WouldBlockAdmission, true)
    );
    let (_, metrics) = engine.get("/metrics").await;
    assert!(
        metrics.contains("aof2_would_block_total{kind=\"Admission\"} 1"),
        "{metrics}"
    );
    quota(64 << 20);
    engine
        .wait_for("admitting again", async || {
            let mut client = client.clone();
            append(&mut client, request("orders", payload(0, 1 << 19)))
                .await
                .is_ok()
        })
        .await;
}
