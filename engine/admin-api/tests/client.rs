//! How the client tells apart what can go wrong.

use std::sync::Arc;
use std::time::Duration;

use aof2_admin_api::ErrorReason;
use aof2_admin_api::client::{Client, ClientError, DrainBounds};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// A server that answers one request with `answer` (or never), and tells what it was asked.
fn server(
    directory: &tempfile::TempDir,
    answer: Option<&'static str>,
) -> (Client, JoinHandle<(String, bool)>) {
    let socket = directory.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = Vec::new();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut buffer = [0; 1024];
            let n = stream.read(&mut buffer).await.expect("a request");
            assert!(n > 0, "the request ends early");
            request.extend_from_slice(&buffer[..n]);
        }
        let Some(answer) = answer else {
            std::future::pending::<()>().await;
            unreachable!()
        };
        stream.write_all(answer.as_bytes()).await.expect("sent");
        // A client that keeps no connection closes its end.
        let closed = matches!(stream.read(&mut [0; 1]).await, Ok(0));
        (String::from_utf8(request).expect("text"), closed)
    });
    (Client::unix(socket), asked)
}

#[tokio::test]
async fn a_request_carries_verb_parameters_and_epoch_and_leaves_no_connection() {
    let directory = tempfile::tempdir().expect("a directory");
    let body = r#"{"phase":"Uploading"}"#;
    let answer = "HTTP/1.1 202 Accepted\r\ncontent-length: 21\r\n\r\n{\"phase\":\"Uploading\"}";
    assert_eq!(body.len(), 21);
    let (client, asked) = server(&directory, Some(answer));
    let bounds = DrainBounds {
        ttl: Some(Duration::from_secs(60)),
        drain_timeout: Some(Duration::from_millis(1500)),
        ..DrainBounds::default()
    };
    let status = client
        .with_operator_epoch(42)
        .drain(bounds)
        .await
        .expect("an answer");
    assert_eq!(status.phase, aof2_admin_api::DrainPhase::Uploading);
    let (request, closed) = asked.await.expect("the server");
    assert!(
        request.starts_with(
            "POST /aof2/lifecycle/drain?ttl=60000ms&drain_timeout=1500ms HTTP/1.1\r\n"
        ),
        "{request}"
    );
    assert!(request.contains("aof2-operator-epoch: 42\r\n"), "{request}");
    assert!(closed);
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let directory = tempfile::tempdir().expect("a directory");
    let error = Client::unix(directory.path().join("nowhere.sock"))
        .dump()
        .await
        .expect_err("nobody");
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("nowhere.sock"), "{error}");
}

#[tokio::test]
async fn no_answer_in_time_is_a_timeout_that_names_verb_and_limit() {
    let directory = tempfile::tempdir().expect("a directory");
    let (client, server) = server(&directory, None);
    let error = client
        .with_timeout(Duration::from_millis(50))
        .dump()
        .await
        .expect_err("silence");
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
    assert!(
        error
            .to_string()
            .ends_with("did not answer GET /aof2/dump within 50ms"),
        "{error}"
    );
    server.abort();
}

#[tokio::test]
async fn a_refusal_keeps_status_reason_and_message() {
    let directory = tempfile::tempdir().expect("a directory");
    let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 41\r\n\r\n{\"reason\":\"NotServing\",\"message\":\"later\"} ";
    let (client, _server) = server(&directory, Some(answer));
    let error = client.flush().await.expect_err("refused");
    let body = error.refusal().expect("a refusal");
    assert_eq!(
        (&body.reason, body.message.as_str()),
        (&ErrorReason::NotServing, "later")
    );
    assert!(
        error
            .to_string()
            .ends_with("refused POST /aof2/flush with 503: later"),
        "{error}"
    );
}

#[tokio::test]
async fn an_answer_that_is_no_dump_cannot_be_decoded() {
    let directory = tempfile::tempdir().expect("a directory");
    let (client, _server) = server(
        &directory,
        Some("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"),
    );
    let error = client.dump().await.expect_err("no JSON");
    assert!(matches!(error, ClientError::Decode { .. }), "{error}");
}

#[tokio::test]
async fn a_connection_that_breaks_is_told_from_a_refusal() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let _ = stream.read(&mut [0; 1024]).await.expect("a request");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nhalf")
            .await
            .expect("sent");
    });
    let error = Client::unix(socket)
        .dump()
        .await
        .expect_err("half an answer");
    assert!(matches!(error, ClientError::Broken { .. }), "{error}");
    assert!(error.refusal().is_none());
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_not_read_and_the_budget_is_shared() {
    let budget = Arc::new(Semaphore::new(1024));
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 67108864\r\n\r\n";
    let flood: &'static str = Box::leak(format!("{head}{}", "x".repeat(1 << 20)).into_boxed_str());
    let directory = tempfile::tempdir().expect("a directory");
    let (client, _server) = server(&directory, Some(flood));
    let client = client
        .with_answer_limit(1024)
        .with_answer_budget(budget.clone());
    let error = client.config().await.expect_err("a flood");
    assert!(
        matches!(error, ClientError::TooLarge { limit: 1024, .. }),
        "{error}"
    );
    assert_eq!(budget.available_permits(), 1024, "it is given back");

    // While the budget is in use, no answer is read: it waits in its socket, and that is not the engine's time.
    let taken = budget.clone().try_acquire_many_owned(1023).expect("free");
    let directory = tempfile::tempdir().expect("a directory");
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (client, _server) = server(&directory, Some(answer));
    let client = client
        .with_answer_limit(1024)
        .with_answer_budget(budget.clone())
        .with_timeout(Duration::from_millis(300));
    let mut asking = tokio::spawn(async move { client.config().await });
    let waiting = tokio::time::timeout(Duration::from_millis(600), &mut asking).await;
    assert!(waiting.is_err(), "{waiting:?}");
    drop(taken);
    assert_eq!(asking.await.expect("a task").expect("an answer"), "ok");
}

#[tokio::test]
async fn an_engine_that_does_not_answer_holds_no_budget() {
    let budget = Arc::new(Semaphore::new(1024));
    let directory = tempfile::tempdir().expect("a directory");
    let (client, _server) = server(&directory, None);
    let client = client
        .with_answer_limit(1024)
        .with_answer_budget(budget.clone())
        .with_timeout(Duration::from_secs(60));
    let hanging = tokio::spawn(async move { client.config().await });
    let directory = tempfile::tempdir().expect("a directory");
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (client, _server) = server(&directory, Some(answer));
    let client = client.with_answer_limit(1024).with_answer_budget(budget);
    let limit = Duration::from_secs(20);
    let answer = tokio::time::timeout(limit, client.config()).await;
    assert_eq!(answer.expect("in time").expect("an answer"), "ok");
    hanging.abort();
}
