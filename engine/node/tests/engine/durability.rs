//! What was acknowledged is there after the process ended, however it ended.

use std::collections::BTreeMap;

use aof2_node::proto::{AppendRequest, Reason};
use tokio_stream::StreamExt;

use crate::support::{
    DEADLINE, Engine, Home, append, buffered, outcome, payload, read_all, request,
};

#[tokio::test]
async fn every_acknowledged_record_survives_a_kill_in_the_middle_of_appends() {
    let home = Home::new();
    let mut acknowledged: BTreeMap<(String, u64), bytes::Bytes> = BTreeMap::new();
    let mut next = 0_u64;
    for _round in 0..5 {
        let mut engine = home.start().await;
        let mut client = engine.data().await;
        let (sender, receiver) = tokio::sync::mpsc::channel::<AppendRequest>(64);
        let first = next;
        tokio::spawn(async move {
            for i in first.. {
                let request = AppendRequest {
                    request_id: i,
                    ..request(&format!("s{}", i % 3), payload(i, 200))
                };
                if sender.send(request).await.is_err() {
                    return;
                }
            }
        });
        let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let mut answers = client
            .append(requests)
            .await
            .expect("the call")
            .into_inner();
        let mut received = 0;
        // Killed while answers are still coming: the call ends by error.
        while let Some(Ok(answer)) = answers.next().await {
            let id = answer.request_id;
            next = next.max(id + 1);
            let appended = outcome(answer).expect("admitted");
            acknowledged.insert((appended.stream, appended.first_sequence), payload(id, 200));
            received += 1;
            if received == 200 {
                engine.kill();
            }
        }
        assert!(received >= 200);
        engine.kill_and_wait().await;
        next += 10_000;
    }
    let engine = home.start().await;
    let mut client = engine.data().await;
    let mut found = BTreeMap::new();
    for stream in ["s0", "s1", "s2"] {
        for record in read_all(&mut client, stream).await {
            found.insert((stream.to_string(), record.sequence), record.payload);
        }
    }
    assert!(acknowledged.len() >= 1_000);
    for (place, payload) in &acknowledged {
        assert_eq!(
            found.get(place),
            Some(payload),
            "{place:?} was acknowledged"
        );
    }
}

#[tokio::test]
async fn sigterm_makes_even_buffered_records_durable_and_exits_0() {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = engine.data().await;
    for i in 0..500 {
        append(&mut client, buffered(request("orders", payload(i, 100))))
            .await
            .expect("admitted");
    }
    drop(client);
    assert_eq!(engine.terminate().await, Some(0));
    let engine = home.start().await;
    assert_eq!(
        read_all(&mut engine.data().await, "orders").await.len(),
        500
    );
}

#[tokio::test]
async fn sigterm_admits_the_last_words_of_a_connected_client_until_it_is_quiet() {
    let home = Home::new();
    let mut engine = home.start().await;
    let mut client = engine.data().await;
    append(&mut client, request("orders", payload(0, 10)))
        .await
        .expect("admitted");
    engine.signal(rustix::process::Signal::TERM);
    engine
        .wait_for("shutdown requested", async || {
            engine.log().contains("shutdown requested")
        })
        .await;
    let mut admitted = 1_u64;
    for i in 1..20 {
        append(&mut client, request("orders", payload(i, 10)))
            .await
            .expect("last words are admitted");
        admitted += 1;
    }
    // Silence: the engine ends though the connection is still open.
    assert_eq!(engine.wait().await.code(), Some(0), "{}", engine.log());
    let engine = home.start().await;
    assert_eq!(
        read_all(&mut engine.data().await, "orders").await.len() as u64,
        admitted
    );
}

#[tokio::test]
async fn the_restart_verb_syncs_and_exits_0_at_once_with_clients_connected() {
    let home = Home::new();
    let mut engine = home.start().await;
    let mut client = engine.data().await;
    for i in 0..100 {
        append(&mut client, buffered(request("orders", payload(i, 100))))
            .await
            .expect("admitted");
    }
    engine.admin().restart(None).await.expect("accepted");
    assert_eq!(engine.wait().await.code(), Some(0), "{}", engine.log());
    let engine = home.start().await;
    assert_eq!(
        read_all(&mut engine.data().await, "orders").await.len(),
        100
    );
}

#[tokio::test]
async fn a_client_that_keeps_sending_is_refused_as_draining_in_the_end_and_loses_nothing_acknowledged()
 {
    let home = Home::new();
    let mut engine = home.start().await;
    let mut client = engine.data().await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<AppendRequest>(16);
    tokio::spawn(async move {
        for i in 0.. {
            if sender
                .send(request("orders", payload(i, 100)))
                .await
                .is_err()
            {
                return;
            }
        }
    });
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut answers = client
        .append(requests)
        .await
        .expect("the call")
        .into_inner();
    let mut admitted = 0_u64;
    let mut refusals = 0_u64;
    while let Some(Ok(answer)) = tokio::time::timeout(DEADLINE, answers.next())
        .await
        .expect("an answer or the end")
    {
        match outcome(answer) {
            Ok(_) => admitted += 1,
            Err(refused) => {
                assert_eq!(
                    (refused.reason(), refused.retryable),
                    (Reason::Draining, true),
                    "{}",
                    refused.message
                );
                refusals += 1;
            }
        }
        if admitted == 100 && refusals == 0 {
            engine.admin().restart(None).await.expect("accepted");
        }
    }
    assert_eq!(engine.wait().await.code(), Some(0), "{}", engine.log());
    let engine = home.start().await;
    let records = read_all(&mut engine.data().await, "orders").await;
    assert!(
        records.len() as u64 >= admitted,
        "{} of {admitted}",
        records.len()
    );
}

#[tokio::test]
async fn a_restart_of_the_process_before_is_answered_as_done_and_the_next_process_stays() {
    let home = Home::new();
    let mut engine = home.start().await;
    let start_of = async |engine: &Engine| engine.admin().dump().await.expect("dump").process_start;
    let first = start_of(&engine).await;
    engine
        .admin()
        .restart(Some(&first))
        .await
        .expect("accepted");
    assert_eq!(engine.wait().await.code(), Some(0), "{}", engine.log());

    let mut engine = home.start().await;
    let second = start_of(&engine).await;
    assert_ne!(first, second);
    // The answer to the first request was lost: its sender asks again.
    engine.admin().restart(Some(&first)).await.expect("done");
    engine
        .wait_for("told that it is done already", async || {
            engine.log().contains("already restarted")
        })
        .await;
    append(&mut engine.data().await, request("orders", payload(0, 100)))
        .await
        .expect("it serves");
    assert_eq!(start_of(&engine).await, second);
    engine
        .admin()
        .restart(Some(&second))
        .await
        .expect("accepted");
    assert_eq!(engine.wait().await.code(), Some(0), "{}", engine.log());
}
