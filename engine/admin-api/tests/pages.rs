//! Lists in pages, of engines that know them, of those that do not, and of others.

use std::sync::Arc;
use std::time::Duration;

use aof2_admin_api::client::{Client, ClientError};
use aof2_admin_api::{SnapshotReport, StreamReport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc};

const PAGE_BYTES: u32 = 16 * 1024;
const LIST_BYTES: u32 = 256 * 1024;

/// What a page says of the next one, and its body.
type Page = (Option<String>, String);

/// Answers each request by its path and query; tells what it was asked.
struct Server {
    client: Client,
    asked: mpsc::UnboundedReceiver<String>,
    _directory: tempfile::TempDir,
}

fn server(answer: impl Fn(&str) -> Page + Send + 'static) -> Server {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let (tell, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let mut buffer = [0; 1024];
                let n = stream.read(&mut buffer).await.expect("a request");
                request.extend_from_slice(&buffer[..n]);
            }
            let request = String::from_utf8(request).expect("text");
            let target = request.split(' ').nth(1).expect("a target").to_owned();
            let (next, body) = answer(&target);
            let next = next.map_or_else(String::new, |next| format!("aof2-next: {next}\r\n"));
            let head = format!(
                "HTTP/1.1 200 OK\r\n{next}content-length: {}\r\n\r\n",
                body.len()
            );
            let _ = tell.send(target);
            // Who was told enough does not read on.
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(body.as_bytes()).await;
        }
    });
    Server {
        client: Client::unix(&socket)
            .with_answer_limit(LIST_BYTES)
            .with_answer_budget(Arc::new(Semaphore::new(LIST_BYTES as usize)))
            .with_pages(PAGE_BYTES),
        asked,
        _directory: directory,
    }
}

fn stream(name: &str) -> String {
    let stream = StreamReport {
        name: name.to_owned(),
        ..StreamReport::default()
    };
    serde_json::to_string(&stream).expect("JSON")
}

fn after(target: &str) -> u64 {
    let (_, after) = target.split_once("after=s").unwrap_or(("", "0"));
    after.parse().expect("a number")
}

fn name(number: u64) -> String {
    format!("s{number:06}")
}

fn list(names: impl Iterator<Item = String>) -> String {
    let entries: Vec<String> = names.map(|name| stream(&name)).collect();
    format!("[{}]", entries.join(","))
}

fn error_of<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> String {
    answer.expect_err("left").to_string()
}

#[tokio::test]
async fn pages_are_asked_one_after_the_other_to_the_end() {
    let mut server = server(|target| {
        let from = after(target) + 1;
        let next = if from < 21 {
            name(from + 9)
        } else {
            String::new()
        };
        (Some(next), list((from..from + 10).map(name)))
    });
    let streams = server.client.streams().await.expect("a list");
    let expected: Vec<String> = (1..=30).map(name).collect();
    let names: Vec<&str> = streams.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, expected);
    for query in ["", "&after=s000010", "&after=s000020"] {
        let asked = server.asked.recv().await.expect("a request");
        assert_eq!(asked, format!("/aof2/streams?page_bytes=16384{query}"));
    }
}

/// An engine of before takes no notice of the parameters.
#[tokio::test]
async fn the_whole_list_of_an_engine_that_knows_no_pages_is_taken_as_before() {
    let mut old = server(|_| (None, list((1..=500).rev().map(name))));
    let streams = old.client.streams().await.expect("a list");
    assert_eq!(streams.len(), 500);
    assert_eq!(streams[0].name, name(500), "in its order");
    old.asked.recv().await.expect("a request");
    assert!(old.asked.try_recv().is_err(), "asked once");
    let larger = server(|_| (None, "x".repeat(LIST_BYTES as usize + 1)));
    let error = error_of(larger.client.streams().await);
    assert!(error.contains("more than 262144 bytes"), "{error}");
}

#[tokio::test]
async fn a_client_that_asks_for_no_pages_reads_whatever_comes() {
    let engine = server(|target| {
        assert_eq!(target, "/aof2/streams");
        (None, list((1..=3).map(name)))
    });
    let socket = engine._directory.path().join("admin.sock");
    assert_eq!(
        Client::unix(socket).streams().await.expect("a list").len(),
        3
    );
}

#[tokio::test]
async fn a_page_that_is_larger_than_asked_for_is_not_read() {
    let engine = server(|_| (Some(String::new()), "x".repeat(PAGE_BYTES as usize + 1)));
    let error = error_of(engine.client.streams().await);
    assert!(error.contains("more than 16384 bytes"), "{error}");
    let error = error_of(engine.client.snapshot_index("x").await);
    assert!(error.contains("more than 16384 bytes"), "{error}");
}

#[tokio::test]
async fn pages_without_an_end_are_left_after_the_bytes_of_one_list() {
    let mut engine = server(|target| {
        let from = after(target) + 1;
        (Some(name(from + 59)), list((from..from + 60).map(name)))
    });
    let error = error_of(engine.client.streams().await);
    assert!(error.contains("more than 262144 bytes"), "{error}");
    let mut pages = 0;
    while engine.asked.try_recv().is_ok() {
        pages += 1;
    }
    let page = list((1..=60).map(name)).len();
    assert_eq!(pages, LIST_BYTES as usize / page + 1);
}

#[tokio::test]
async fn small_pages_without_an_end_are_left_when_the_time_of_one_answer_is_over() {
    let engine = server(|target| {
        let next = after(target) + 1;
        std::thread::sleep(Duration::from_millis(1));
        (Some(name(next)), list(std::iter::once(name(next))))
    });
    let client = engine
        .client
        .clone()
        .with_timeout(Duration::from_millis(100));
    let error = client.streams().await.expect_err("left");
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn a_page_that_does_not_go_on_is_refused() {
    let one = || list([name(1), name(2)].into_iter());
    type Answer = Box<dyn Fn(&str) -> Page + Send>;
    let cases: [(&str, Answer); 7] = [
        // Its cursor again and again.
        ("once more", Box::new(move |_| (Some(name(2)), one()))),
        ("elsewhere", Box::new(move |_| (Some(name(1)), one()))),
        ("elsewhere", Box::new(|_| (Some(name(1)), "[]".into()))),
        (
            "elsewhere",
            Box::new(|_| (Some("\u{fc}".into()), list(std::iter::once(name(1))))),
        ),
        (
            "out of their order",
            Box::new(|_| (Some(name(1)), list([name(2), name(1)].into_iter()))),
        ),
        (
            "does not say",
            Box::new(move |target| match after(target) {
                0 => (Some(name(2)), one()),
                _ => (None, list(std::iter::once(name(3)))),
            }),
        ),
        // An end that is none.
        (
            "elsewhere",
            Box::new(move |target| match after(target) {
                0 => (Some(name(2)), one()),
                _ => (Some(name(2)), "[]".into()),
            }),
        ),
    ];
    for (why, answer) in cases {
        let error = error_of(server(answer).client.streams().await);
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[tokio::test]
async fn more_entries_than_a_node_can_have_are_refused_however_few_bytes_they_take() {
    let tiny = r#"{"stream":"s","snapshot_id":"","phase":"Done"}"#;
    let body = format!("[{}]", vec![tiny; 17_000].join(","));
    let engine = server(move |_| (None, body.clone()));
    let client = engine.client.clone().with_answer_limit(8 << 20);
    let client = client.with_answer_budget(Arc::new(Semaphore::new(8 << 20)));
    let error = error_of(client.snapshots(None, Some("r")).await);
    assert!(error.contains("more than 16384 entries"), "{error}");
}

#[tokio::test]
async fn an_index_is_read_in_parts_with_the_room_of_a_whole_one() {
    let report = |stream: &str| SnapshotReport {
        stream: stream.to_owned(),
        ..SnapshotReport::default()
    };
    let index = aof2_admin_api::SnapshotIndex {
        name: "nightly".into(),
        streams: (0..300).map(|it| (name(it), report(&name(it)))).collect(),
        ..aof2_admin_api::SnapshotIndex::default()
    };
    let text = serde_json::to_string(&index).expect("JSON");
    let whole = text.clone();
    let server = server(move |target| {
        let (_, from) = target.split_once("after=").unwrap_or(("", "0"));
        let from: usize = from.parse().expect("a number");
        let end = whole.len().min(from + PAGE_BYTES as usize);
        let next = if end < whole.len() {
            end.to_string()
        } else {
            String::new()
        };
        (Some(next), whole[from..end].to_owned())
    });
    assert!(text.len() > 2 * PAGE_BYTES as usize);
    // Two at a time: neither waits for what the other one holds.
    let (one, other) = tokio::join!(
        server.client.snapshot_index("nightly"),
        server.client.snapshot_index("nightly")
    );
    assert_eq!(one.expect("an index"), index);
    assert_eq!(other.expect("an index"), index);
}

#[tokio::test]
async fn an_index_without_an_end_is_left() {
    let engine = server(|target| {
        let (_, from) = target.split_once("after=").unwrap_or(("", "0"));
        let from: usize = from.parse().expect("a number");
        (Some((from + 16_000).to_string()), " ".repeat(16_000))
    });
    let error = error_of(engine.client.snapshot_index("nightly").await);
    assert!(error.contains("more than 262144 bytes"), "{error}");
    for answer in [("0", "{}"), ("5", "{}"), ("0", "")] {
        let engine = server(move |_| (Some(answer.0.into()), answer.1.into()));
        let error = error_of(engine.client.snapshot_index("nightly").await);
        assert!(error.contains("elsewhere"), "{error}");
    }
}
