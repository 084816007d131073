//! A sealed segment that is gone, as clients and people see it.

use std::time::{Duration, Instant};

use aof2_node::proto::log_client::LogClient;
use aof2_node::proto::{READ_ON_FROM, RecordBatch, TailRequest};
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::support::*;

/// Two sealed segments of ten records and one record behind them; the file of the given one is removed.
async fn without_segment(home: &Home, segment: usize) -> Engine {
    let engine = home.start().await;
    let mut client = engine.data().await;
    for index in 0..21 {
        append(&mut client, request("s", payload(index, 50)))
            .await
            .expect("admitted");
        if index == 9 || index == 19 {
            engine.admin().seal(None).await.expect("sealed");
        }
    }
    assert_eq!(engine.terminate().await, Some(0));
    let directory = home.path("data").join("streams/s/segments");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .expect("segments")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "seg"))
        .collect();
    files.sort();
    std::fs::remove_file(&files[segment]).expect("removed");
    home.start().await
}

async fn tail(client: &LogClient<Channel>, from_sequence: u64) -> Streaming<RecordBatch> {
    let request = TailRequest {
        stream: "s".to_owned(),
        from_sequence,
    };
    let batches = client.clone().tail(request).await;
    batches.expect("the call").into_inner()
}

/// Sequences up to the error that ends the call.
async fn to_the_error(mut batches: Streaming<RecordBatch>) -> (Vec<u64>, Status) {
    let mut sequences = Vec::new();
    loop {
        let next = tokio::time::timeout(DEADLINE, batches.next()).await;
        match next.expect("in time").expect("an error before the end") {
            Ok(batch) => sequences.extend(batch.records.iter().map(|record| record.sequence)),
            Err(status) => {
                assert!(batches.next().await.is_none(), "it is told once");
                return (sequences, status);
            }
        }
    }
}

#[tokio::test]
async fn a_tail_ends_with_data_loss_where_it_meets_damage_and_is_served_behind_it() {
    for (segment, from, to) in [(0, 0_u64, 10_u64), (1, 10, 20)] {
        let home = Home::new();
        let engine = without_segment(&home, segment).await;
        let mut client = engine.data().await;
        let (before, status) = to_the_error(tail(&client, 0).await).await;
        assert_eq!(before, (0..from).collect::<Vec<_>>());
        assert_eq!(status.code(), Code::DataLoss);
        let told = format!("segment {}, sequences {from} to {}", segment + 1, to - 1);
        assert!(status.message().contains(&told), "{status}");
        assert!(status.message().contains("restore "), "{status}");
        let on = status.metadata().get(READ_ON_FROM).expect("told");
        assert_eq!(on, &to.to_string());

        let mut behind = tail(&client, to).await;
        let mut seen = to;
        while seen < 21 {
            let batch = behind.next().await.expect("open").expect("served");
            for record in batch.records {
                assert_eq!(record.sequence, seen);
                assert_eq!(record.payload, payload(seen, 50));
                seen += 1;
            }
        }
        append(&mut client, request("s", payload(21, 50)))
            .await
            .expect("appends go on");
        let batch = tokio::time::timeout(DEADLINE, behind.next()).await;
        let records = batch.expect("in time").expect("open").expect("ok").records;
        assert_eq!(records[0].sequence, 21);
    }
}

#[tokio::test]
async fn tails_behind_damage_and_in_front_of_it_leave_the_processor_alone() {
    let home = Home::new();
    let engine = without_segment(&home, 0).await;
    let client = engine.data().await;
    to_the_error(tail(&client, 0).await).await;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut behind = tail(&client, 10).await;
        let mut seen = 10;
        while seen < 21 {
            let batch = behind.next().await.expect("open").expect("served");
            seen += batch.records.len() as u64;
        }
        waiting.push(behind);
    }
    // One that spins takes a hundred ticks in a second. A time to watch, not one to wait for.
    let (begun, before) = (Instant::now(), engine.processor_ticks());
    for batches in &mut waiting {
        let left = Duration::from_secs(1).saturating_sub(begun.elapsed());
        let next = tokio::time::timeout(left, batches.next()).await;
        assert!(next.is_err(), "nothing comes at the end");
    }
    let used = engine.processor_ticks() - before;
    let seconds = begun.elapsed().as_secs_f64();
    assert!(
        (used as f64) < 40.0 * seconds,
        "{used} ticks in {seconds} s"
    );
}

#[tokio::test]
async fn damage_is_in_every_report() {
    let home = Home::new();
    let engine = without_segment(&home, 1).await;
    let admin = engine.admin();
    let streams = admin.streams().await.expect("an answer");
    let damage = streams[0].damage.as_deref().expect("damage");
    assert!(damage.contains("segment 2, sequences 10 to 19: file is missing; restore "));
    let [range] = &streams[0].damaged_ranges[..] else {
        panic!("{streams:?}")
    };
    assert_eq!(
        (range.segment_id, range.from_sequence, range.to_sequence),
        (2, 10, 20)
    );
    let dump = admin.dump().await.expect("an answer");
    assert_eq!(dump.damage["s"], damage);
    assert!(dump.ready, "other streams are served");
    let after = admin.post_restart().await.expect("an answer");
    assert_eq!(
        (after.damaged_streams, after.caught_up),
        (vec!["s".to_owned()], false)
    );
    let (_, metrics) = engine.get("/metrics").await;
    assert!(metrics.contains("aof2_damaged_streams 1\n"), "{metrics}");
    assert!(metrics.contains("aof2_damaged_ranges 1\n"), "{metrics}");
    let lines = engine.log();
    let told = lines
        .lines()
        .filter(|line| line.contains("segment damaged"));
    assert_eq!(told.count(), 1, "{lines}");
}
