//! A bucket that accepts connections and never answers, and other waits that must not keep a process.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::net::TcpListener;

use crate::support::{Home, SMALL, append, payload, request};

/// Holds every connection, and says nothing.
async fn hanging_bucket() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    format!("http://{address}")
}

fn config(home: &Home, endpoint: &str) -> String {
    let keys = home.path("keys");
    std::fs::create_dir_all(&keys).expect("a folder");
    std::fs::write(keys.join("access_key_id"), "key").expect("a key");
    std::fs::write(keys.join("secret_access_key"), "secret").expect("a key");
    format!(
        "{SMALL}\n[tier2]\nendpoint = {endpoint:?}\nregion = \"us-east-1\"\nbucket = \"b\"\nprefix = \"p/\"\naddressing = \"Path\"\ncredentials_directory = {keys:?}\n"
    )
}

#[tokio::test]
async fn neither_a_start_nor_an_end_nor_another_stream_waits_for_a_bucket_that_hangs() {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = engine.data().await;
    append(&mut client, request("known", "one"))
        .await
        .expect("appended");
    assert_eq!(engine.terminate().await, Some(0));

    home.write_config(&config(&home, &hanging_bucket().await));
    let begun = Instant::now();
    let engine = home.start().await;
    // Three seconds, and a busy machine.
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );

    // The new stream waits for its claim; the one behind it in the same call does not.
    let mut client = engine.data().await;
    let requests = [request("brand-new", "x"), request("known", "two")];
    let requests = requests.into_iter().zip(1..).map(|(request, request_id)| {
        aof2_node::proto::AppendRequest {
            request_id,
            ..request
        }
    });
    let requests: Vec<_> = requests.collect();
    let begun = Instant::now();
    let mut answers = client
        .append(tokio_stream::iter(requests))
        .await
        .expect("the call")
        .into_inner();
    let first = answers.message().await.expect("answered").expect("one");
    assert_eq!(first.request_id, 2);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );

    let begun = Instant::now();
    assert_eq!(engine.terminate().await, Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_signal_during_the_start_ends_it_at_once() {
    let home = Home::new();
    home.write_config(&config(&home, &hanging_bucket().await));
    let engine = home.launch(&[]).await;
    let begun = Instant::now();
    assert_eq!(engine.terminate().await, Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_second_signal_ends_the_wait_for_last_words() {
    let home = Home::new();
    let mut engine = home.start().await;
    let mut client = engine.data().await;
    let appending = tokio::spawn(async move {
        // A client that is never quiet keeps the engine for 25 s.
        for index in 0.. {
            if client
                .append(tokio_stream::iter([request("a", payload(index, 10))]))
                .await
                .is_err()
            {
                return;
            }
        }
    });
    engine.signal(Signal::TERM);
    engine
        .wait_for("shutting down", async || {
            engine.log().contains("shutdown requested")
        })
        .await;
    let begun = Instant::now();
    engine.signal(Signal::TERM);
    assert_eq!(engine.wait().await.code(), Some(0), "{}", engine.log());
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    appending.abort();
}
