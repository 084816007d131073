//! Messages of the data API against a client that knows no more than the proto: it takes messages of 4 MiB, as most gRPC clients do.

use aof2_node::proto::log_client::LogClient;
use aof2_node::proto::{AppendRequest, ReadRequest, Reason, Record, TailRequest};
use bytes::Bytes;
use prost::Message;
use tokio_stream::StreamExt;
use tonic::transport::Channel;

use crate::support::*;

const MIB: usize = 1 << 20;
/// One record and what a message says about it.
const LARGEST_MESSAGE: usize = MIB + 100;

fn batch(stream: &str, payloads: Vec<Bytes>) -> AppendRequest {
    AppendRequest {
        stream: stream.to_string(),
        payloads,
        producer_id: u64::MAX,
        ..AppendRequest::default()
    }
}

/// Every record, and the size of the largest message.
async fn read(client: &mut LogClient<Channel>, stream: &str) -> (Vec<Record>, usize) {
    let request = ReadRequest {
        stream: stream.to_string(),
        ..ReadRequest::default()
    };
    let mut batches = client.read(request).await.expect("the call").into_inner();
    let (mut records, mut largest) = (Vec::new(), 0);
    while let Some(batch) = batches.next().await {
        let batch = batch.expect("a batch");
        largest = largest.max(batch.encoded_len());
        records.extend(batch.records);
    }
    (records, largest)
}

#[tokio::test]
async fn what_ordinary_requests_store_is_read_and_tailed_by_a_client_with_default_limits() {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = engine.data_with_default_limits().await;
    let large = |bytes| Bytes::from(vec![b'x'; bytes]);
    let streams = [
        (
            "behind",
            vec![vec![large(MIB - 1000)], vec![large(MIB - 100); 7]],
        ),
        ("ten", vec![vec![large(10); 300_000]]),
        ("one", vec![vec![large(1); 200_000]; 2]),
        ("empty", vec![vec![large(0); 400_000]]),
    ];
    for (stream, requests) in streams {
        let mut expected = 0;
        for payloads in requests {
            let count = payloads.len();
            let request = AppendRequest {
                producer_seq: expected as u64,
                ..batch(stream, payloads)
            };
            append(&mut client, request).await.expect("admitted");
            expected += count;
        }
        let (records, largest) = read(&mut client, stream).await;
        assert_eq!(records.len(), expected, "{stream}");
        assert!(largest <= LARGEST_MESSAGE, "{stream}: {largest}");

        let tail = TailRequest {
            stream: stream.to_string(),
            from_sequence: 0,
        };
        let mut batches = client.tail(tail).await.expect("the call").into_inner();
        let mut tailed = 0;
        while tailed < expected {
            let batch = batches.next().await.expect("more").expect("a batch");
            assert!(batch.encoded_len() <= LARGEST_MESSAGE, "{stream}");
            tailed += batch.records.len();
        }
        assert_eq!(tailed, expected, "{stream}");
    }
}

#[tokio::test]
async fn too_many_records_in_one_request_are_refused_by_their_number() {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = engine.data().await;
    let refused = append(&mut client, batch("s", vec![Bytes::new(); 600_000]))
        .await
        .expect_err("over the limit");
    assert_eq!(refused.reason(), Reason::TooManyRecords);
    assert!(
        refused.message.contains("600000") && refused.message.contains("524288"),
        "{}",
        refused.message
    );
}

#[tokio::test]
async fn readers_that_stand_still_cost_a_bounded_amount_of_memory_and_hold_up_nobody() {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = engine.data().await;
    let requests = (0..3000)
        .map(|i| buffered(request("s", payload(i, 10 << 10))))
        .collect();
    append_all(&mut client, requests).await;
    append(&mut client, request("s", "the last one"))
        .await
        .expect("admitted");
    let mut silent = Vec::new();
    for _ in 0..400 {
        let tail = TailRequest {
            stream: "s".to_string(),
            from_sequence: 0,
        };
        silent.push(client.tail(tail).await.expect("the call").into_inner());
    }
    let mut other = engine.data_with_default_limits().await;
    for _ in 0..3 {
        assert_eq!(read(&mut other, "s").await.0.len(), 3001);
    }
    // 400 calls with two batches of 1 MiB each would be 800 MiB.
    let held = engine.anonymous_bytes();
    assert!(held < 250 << 20, "{} MiB", held >> 20);
    drop(silent);
}
