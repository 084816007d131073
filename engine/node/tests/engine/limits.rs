//! Clients that hold what they get, and send nothing or too much: the engine serves the others, within its memory.

use std::time::Duration;

use aof2_node::proto::{AppendResponse, DescribeRequest};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::support::{Engine, Home, append, request};

/// More than any of the floods may cost.
const MEMORY_BYTES: usize = 96 << 20;

async fn grows_little(engine: &Engine, before: usize) {
    assert_eq!(get(engine, "/readyz").await.0, 200);
    let grown = engine.anonymous_bytes().saturating_sub(before);
    assert!(grown < MEMORY_BYTES, "{grown} bytes more");
    assert_eq!(get(engine, "/livez").await.0, 200);
}

#[tokio::test]
async fn thousands_of_half_sent_headers_cost_little_and_the_probes_answer() {
    let home = Home::new();
    let engine = home.start().await;
    let before = engine.anonymous_bytes();
    let mut held = Vec::new();
    for index in 0..3000 {
        // From forty hosts: each peer has a limit, and so has the listener.
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        let from = format!("127.0.1.{}:0", 1 + index % 40);
        socket
            .bind(from.parse().expect("an address"))
            .expect("bound");
        let Ok(mut stream) = socket.connect(engine.http).await else {
            continue;
        };
        let half = format!("GET /metrics HTTP/1.1\r\nx: {}", "y".repeat(8000));
        let _ = stream.write_all(half.as_bytes()).await;
        held.push(stream);
        if index % 100 == 0 {
            assert_eq!(get(&engine, "/livez").await.0, 200);
        }
    }
    grows_little(&engine, before).await;
    let open = metric(&engine, "aof2_connections{listener=\"http\"}").await;
    assert!((1..=256).contains(&open), "{open}");
    drop(held);
    assert_eq!(engine.terminate().await, Some(0));
}

#[tokio::test]
async fn connections_to_the_sockets_have_a_limit_and_the_engine_stays_ready() {
    let home = Home::new();
    let engine = home.start().await;
    let before = engine.anonymous_bytes();
    let (mut held, mut sockets) = (Vec::new(), Vec::new());
    for _ in 0..366 {
        held.push(TcpStream::connect(engine.http).await.expect("connects"));
    }
    for _ in 0..100 {
        for socket in [&engine.data_socket, &engine.admin_socket] {
            sockets.push(UnixStream::connect(socket).await.expect("connects"));
        }
    }
    engine
        .wait_for("refused", async || {
            metric(&engine, "aof2_connections_refused_total{listener=\"data\"}").await >= 36
        })
        .await;
    let open = metric(&engine, "aof2_connections{listener=\"data\"}").await;
    assert!(open <= 64, "{open}");
    // Its own check of the data socket takes no place of others.
    assert_eq!(get(&engine, "/readyz").await.0, 200);
    let grown = engine.anonymous_bytes().saturating_sub(before);
    assert!(grown < MEMORY_BYTES, "{grown} bytes more");
    // Idle ones that began nothing are closed.
    engine
        .wait_for("empty", async || {
            metric(&engine, "aof2_connections{listener=\"data\"}").await == 0
        })
        .await;
    drop((held, sockets));
    assert_eq!(engine.terminate().await, Some(0));
}

/// From a host that holds nothing.
async fn get(engine: &Engine, path: &str) -> (u16, String) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    let from = "127.0.0.9:0".parse().expect("an address");
    socket.bind(from).expect("bound");
    let mut stream = socket.connect(engine.http).await.expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nhost: engine\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok());
    (status.expect("a status"), answer)
}

async fn metric(engine: &Engine, line: &str) -> u64 {
    let (_, page) = get(engine, "/metrics").await;
    let value = page.lines().find_map(|it| it.strip_prefix(line));
    let value = value.unwrap_or_else(|| panic!("{line} is not in\n{page}"));
    value.trim().parse().expect("a number")
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).expect("small").to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Headers of a call of Append, its path in `:authority` as gRPC libraries have it.
fn call() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (index, value) in [
        (0x41, &b"tmp%2Fdata.sock"[..]),
        (0x44, b"/aof2.v1.Log/Append"),
        (0x5f, b"application/grpc"),
    ] {
        block.extend_from_slice(&[index, u8::try_from(value.len()).expect("short")]);
        block.extend_from_slice(value);
    }
    block
}

/// Calls that are begun and never go on, opened and reset, with headers that never end: without regard to what the engine
/// announces.
#[tokio::test]
async fn floods_of_streams_cost_little_and_other_clients_are_served() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let home = Home::new();
    let engine = home.start().await;
    let before = engine.anonymous_bytes();
    let mut held = Vec::new();
    for connection in 0..48 {
        let mut stream = UnixStream::connect(&engine.data_socket)
            .await
            .expect("connects");
        let mut flood = [PREFACE, &frame(4, 0, 0, &[])].concat();
        for call_of_this in 0..500 {
            let id = 1 + 2 * call_of_this;
            match connection % 4 {
                // Begun, and left open.
                0 => flood.extend(frame(1, 4, id, &call())),
                1 => {
                    flood.extend(frame(1, 4, id, &call()));
                    // RST_STREAM, CANCEL.
                    flood.extend(frame(3, 0, id, &[0, 0, 0, 8]));
                }
                // A body that is announced as 8 MiB and never comes.
                2 => {
                    flood.extend(frame(1, 4, id, &call()));
                    flood.extend(frame(0, 0, id, &[0, 0, 0x80, 0, 0, 1, 2, 3]));
                }
                _ => flood.extend(frame(1, 0, id, &call())),
            }
        }
        // The engine may close at any byte.
        let sent = tokio::time::timeout(Duration::from_secs(5), stream.write_all(&flood));
        let _ = sent.await;
        held.push(stream);
    }
    grows_little(&engine, before).await;
    drop(held);
    engine
        .wait_for("served again", async || {
            let mut client = engine.data().await;
            let call = client.append(tokio_stream::iter([request("a", "x")])).await;
            call.is_ok()
        })
        .await;
    assert_eq!(engine.terminate().await, Some(0));
}

/// Of every verb but Append: a question is small, and one that is not, or that does not end, costs nothing that lasts.
#[tokio::test]
async fn questions_that_are_large_and_do_not_end_cost_little() {
    let home = Home::new();
    let engine = home.start().await;
    let before = engine.anonymous_bytes();
    let question = DescribeRequest {
        stream: "n".repeat(3 << 20),
        producer_id: 0,
    };
    let mut calls = tokio::task::JoinSet::new();
    let paths = [
        "/aof2.v1.Log/Describe",
        "/aof2.v1.Log/Tail",
        CHECK,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ];
    for index in 0..60 {
        let channel = engine.channel().await;
        let requests = futures::stream::iter([question.clone()]).chain(futures::stream::pending());
        calls.spawn(ask(channel, paths[index % paths.len()], requests));
    }
    let mut refused = 0;
    let mut most = 0;
    let deadline = tokio::time::Instant::now() + crate::support::DEADLINE;
    while let Ok(Some(answer)) = tokio::time::timeout_at(deadline, calls.join_next()).await {
        match answer.expect("the call") {
            Err(refusal) => assert!(refusal.message().contains("16384 bytes"), "{refusal}"),
            // Reflection ends its call without a word.
            Ok(answer) => assert!(answer.is_none(), "{answer:?}"),
        }
        refused += 1;
        most = most.max(engine.anonymous_bytes().saturating_sub(before));
    }
    most = most.max(engine.anonymous_bytes().saturating_sub(before));
    assert_eq!(refused, 60);
    assert!(most < MEMORY_BYTES, "{most} bytes more");
    assert_eq!(engine.terminate().await, Some(0));
}

#[tokio::test]
async fn health_checks_that_do_not_end_have_a_limit_of_their_own() {
    let home = Home::new();
    let engine = home.start().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let channel = engine.channel().await;
        for _ in 0..350 {
            calls.spawn(ask(channel.clone(), CHECK, futures::stream::pending()));
        }
    }
    for _ in 2048..2100 {
        let refused = tokio::time::timeout(crate::support::DEADLINE, calls.join_next()).await;
        let refused = refused.expect("in time").expect("one").expect("the call");
        let refused = refused.expect_err("one too many");
        assert!(refused.message().starts_with("2048 calls"), "{refused}");
    }
    let mut client = engine.data().await;
    append(&mut client, request("a", "x"))
        .await
        .expect("served");
    assert_eq!(get(&engine, "/readyz").await.0, 200);
    drop(calls);
    assert_eq!(engine.terminate().await, Some(0));
}

const CHECK: &str = "/grpc.health.v1.Health/Check";

/// Any verb, with requests that need not be its own.
async fn ask(
    channel: tonic::transport::Channel,
    path: &'static str,
    requests: impl futures::Stream<Item = DescribeRequest> + Send + 'static,
) -> Result<Option<AppendResponse>, tonic::Status> {
    let codec = tonic_prost::ProstCodec::<DescribeRequest, AppendResponse>::default();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("connected");
    let path = http::uri::PathAndQuery::from_static(path);
    let requests = tonic::Request::new(requests);
    let answers = client.streaming(requests, path, codec).await;
    answers?.into_inner().message().await
}

/// What a client of many calls in good faith does.
#[tokio::test]
async fn a_call_beyond_the_limit_of_a_client_is_refused_by_name() {
    use aof2_node::proto::{AppendRequest, TailRequest};
    let home = Home::new();
    let engine = home.start().await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(engine.data().await);
    }
    append(&mut clients[0], request("a", "x"))
        .await
        .expect("served");
    let (mut held, mut refused) = (Vec::new(), Vec::new());
    let (open, _) = tokio::sync::watch::channel(());
    for index in 0..2100 {
        let client = &mut clients[index / 400];
        // They go on until the sender goes.
        let mut open = open.subscribe();
        let requests = futures::stream::once(async move {
            let _ = open.changed().await;
            AppendRequest::default()
        });
        match client.append(requests).await {
            Ok(call) => held.push(call),
            Err(status) => refused.push(status),
        }
    }
    assert_eq!(held.len(), 2048, "{:?}", refused.first());
    let why = "2048 calls are open by this client (the limit); end some of them and retry";
    assert!(refused.iter().all(|status| status.message() == why));
    let tail = TailRequest {
        stream: "a".to_string(),
        from_sequence: 0,
    };
    let refused = clients[5].tail(tail.clone()).await.expect_err("full");
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert_eq!(get(&engine, "/readyz").await.0, 200);
    drop((open, held));
    engine
        .wait_for("room again", async || {
            engine.data().await.tail(tail.clone()).await.is_ok()
        })
        .await;
    assert_eq!(engine.terminate().await, Some(0));
}

/// Each call holds a whole request that is refused for want of room, and sends the next.
#[tokio::test]
async fn calls_of_full_messages_share_the_memory_of_the_node() {
    use aof2_node::proto::{AppendRequest, MAX_MESSAGE_BYTES};
    let home = Home::new();
    home.write_config(&format!(
        "{}[tier0]\ncluster_max_bytes = 8388608\n",
        crate::support::SMALL
    ));
    let engine = home.start().await;
    let before = engine.anonymous_bytes();
    let part = crate::support::payload(1, MAX_MESSAGE_BYTES / 9);
    let full = AppendRequest {
        stream: "full".to_string(),
        payloads: vec![part; 8],
        ..AppendRequest::default()
    };
    let mut calls = tokio::task::JoinSet::new();
    // Many calls of few connections, as the libraries of some languages make them.
    let connections = [engine.data().await, engine.data().await];
    for index in 0..80 {
        let (mut client, full) = (connections[index % 2].clone(), full.clone());
        calls.spawn(async move {
            let requests = tokio_stream::iter(vec![full; 3]);
            let mut answers = client
                .append(requests)
                .await
                .expect("the call")
                .into_inner();
            let mut count = 0;
            while let Some(answer) = answers.message().await.expect("an answer") {
                assert!(answer.outcome.is_some());
                count += 1;
            }
            count
        });
    }
    let mut most = 0;
    while !calls.is_empty() {
        most = most.max(engine.anonymous_bytes().saturating_sub(before));
        let joined = tokio::time::timeout(Duration::from_millis(5), calls.join_next()).await;
        if let Ok(Some(count)) = joined {
            assert_eq!(count.expect("the call"), 3);
        }
    }
    // The budget, one request beyond it, and what is on its way between socket and call.
    assert!(most < 128 << 20, "{most} bytes more");
    assert_eq!(engine.terminate().await, Some(0));
}

/// What a call has received and answered is not kept for as long as it is open.
#[tokio::test]
async fn calls_that_stay_open_behind_a_full_message_hold_little() {
    use aof2_node::proto::{AppendRequest, MAX_MESSAGE_BYTES};
    let home = Home::new();
    let engine = home.start().await;
    let before = engine.anonymous_bytes();
    let full = AppendRequest {
        // Refused for its name: nothing of it is staged.
        stream: "No".to_string(),
        payloads: vec![crate::support::payload(1, MAX_MESSAGE_BYTES / 9); 8],
        ..AppendRequest::default()
    };
    let client = engine.data().await;
    let mut open = Vec::new();
    for _ in 0..40 {
        let mut client = client.clone();
        let (requests, received) = tokio::sync::mpsc::channel(1);
        requests.send(full.clone()).await.expect("room");
        let received = tokio_stream::wrappers::ReceiverStream::new(received);
        let mut answers = client
            .append(received)
            .await
            .expect("the call")
            .into_inner();
        let answer = answers.message().await.expect("an answer");
        assert!(answer.expect("an answer").outcome.is_some());
        open.push((requests, answers));
    }
    let held = engine.anonymous_bytes().saturating_sub(before);
    assert!(held < 64 << 20, "{held} bytes more");
    // They are served as before, with large and small requests behind each other.
    let small = AppendRequest {
        payloads: vec![bytes::Bytes::from_static(b"small")],
        ..full.clone()
    };
    for (requests, answers) in &mut open {
        for request in [&small, &full, &small] {
            requests.send(request.clone()).await.expect("room");
        }
        for _ in 0..3 {
            let answer = answers.message().await.expect("an answer");
            assert!(answer.expect("an answer").outcome.is_some());
        }
    }
    drop(open);
    assert_eq!(engine.terminate().await, Some(0));
}

/// The rest of a request that never comes costs its call, and what others need is given back.
#[tokio::test]
async fn a_request_that_stops_in_the_middle_holds_up_nobody() {
    let home = Home::new();
    let engine = home.start().await;
    let mut held = Vec::new();
    // More than the budget, each half a request.
    for _ in 0..60 {
        let mut stream = UnixStream::connect(&engine.data_socket)
            .await
            .expect("connects");
        let mut half = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            &frame(4, 0, 0, &[])[..],
        ]
        .concat();
        half.extend(frame(1, 4, 1, &call()));
        // A message of 8,000,000 bytes, of which a window's worth comes.
        half.extend(frame(0, 0, 1, &[0, 0, 0x7a, 0x12, 0]));
        for _ in 0..3 {
            half.extend(frame(0, 0, 1, &[1; 16 << 10]));
        }
        let sent = tokio::time::timeout(Duration::from_secs(5), stream.write_all(&half));
        let _ = sent.await;
        held.push(stream);
    }
    let mut client = engine.data().await;
    let large = crate::support::payload(1, 1 << 20);
    let appended = tokio::time::timeout(
        crate::support::DEADLINE,
        append(&mut client, request("a", large)),
    );
    appended.await.expect("in time").expect("served");
    drop(held);
    assert_eq!(engine.terminate().await, Some(0));
}
