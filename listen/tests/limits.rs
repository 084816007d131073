//! The limits, held against real sockets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aof2_listen::{
    BODY_LIMIT, Bodies, Connections, HEADER_BYTES, HEADER_LIMIT, PER_PEER, STALL_LIMIT, bodies,
    serve,
};
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

const DEADLINE: Duration = Duration::from_secs(60);
const GET: &[u8] = b"GET /small HTTP/1.1\r\nhost: test\r\n\r\n";

fn router() -> Router {
    Router::new()
        .route("/small", get(async || "ok"))
        .route("/large", get(async || vec![b'x'; 64 << 20]))
        .route("/echo", post(async |body: String| body))
        .layer(from_fn_with_state(
            Bodies::new(|uri| if uri.path() == "/echo" { 1000 } else { 0 }),
            bodies,
        ))
}

/// Both ends of all tests are in this process.
fn have_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).expect("up to the maximum");
}

async fn listen() -> (SocketAddr, Connections) {
    have_descriptors();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let connections = Connections::of_requests("test");
    tokio::spawn(serve(listener, connections.clone(), router()));
    (address, connections)
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("connects")
}

/// From another address of this host.
async fn connect_from(from: &str, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    let from = SocketAddr::new(from.parse().expect("an address"), 0);
    socket.bind(from).expect("bound");
    socket.connect(address).await.expect("connects")
}

/// What comes until the server closes, and how long that took.
async fn end_of(stream: &mut (impl AsyncReadExt + Unpin)) -> (String, Duration) {
    let begun = Instant::now();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer));
    // A reset is an end too.
    let _ = read.await.expect("the server closes in time");
    (
        String::from_utf8_lossy(&answer).into_owned(),
        begun.elapsed(),
    )
}

async fn answers(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> bool {
    if stream.write_all(GET).await.is_err() {
        return false;
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.is_ok() && &answer == b"HTTP/1.1 200"
}

async fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn about(took: Duration, limit: Duration) -> bool {
    took >= limit - Duration::from_secs(1) && took < limit + Duration::from_secs(10)
}

#[tokio::test]
async fn connections_that_say_nothing_or_half_a_header_are_closed_and_so_is_one_that_pauses() {
    let (address, connections) = listen().await;
    let mut silent = connect(address).await;
    let mut half = connect(address).await;
    half.write_all(b"GET /small HTTP/1.1\r\nhost: te")
        .await
        .expect("sent");
    let mut dripping = connect(address).await;
    let dripped = tokio::spawn(async move {
        let begun = Instant::now();
        dripping.write_all(b"GET /small HTTP/1.1\r\n").await?;
        loop {
            // A byte at a time, each well within the limit.
            dripping.write_all(b"a: b\r\n").await?;
            if tokio::time::timeout(Duration::from_millis(500), dripping.read_u8())
                .await
                .is_ok_and(|read| read.is_err())
            {
                return std::io::Result::Ok(begun.elapsed());
            }
        }
    });
    let mut pausing = connect(address).await;
    assert!(answers(&mut pausing).await);
    let ends = tokio::join!(end_of(&mut silent), end_of(&mut half), end_of(&mut pausing));
    for (_, took) in [ends.0, ends.1, ends.2] {
        assert!(about(took, HEADER_LIMIT), "{took:?}");
    }
    let dripped = dripped.await.expect("the task");
    assert!(dripped.map_or(true, |took| about(took, HEADER_LIMIT)));
    wait_for("empty", || connections.usage().open == 0).await;
}

#[tokio::test]
async fn a_header_beyond_its_limit_is_refused_and_one_below_is_not() {
    let (address, _) = listen().await;
    for (bytes, status) in [(HEADER_BYTES - 200, "200"), (HEADER_BYTES + 200, "431")] {
        let mut stream = connect(address).await;
        let filler = "x".repeat(bytes);
        let request = format!(
            "GET /small HTTP/1.1\r\nhost: test\r\nconnection: close\r\nfiller: {filler}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let (answer, _) = end_of(&mut stream).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_peer_has_its_connections_and_another_is_served_whatever_it_holds() {
    let (address, connections) = listen().await;
    let mut held = Vec::new();
    // More hosts than fill the listener; each tries to have more than it may.
    for host in 1..=6 {
        for _ in 0..PER_PEER + 10 {
            held.push(connect_from(&format!("127.0.0.{host}"), address).await);
        }
    }
    wait_for("full", || connections.usage().open == 256).await;
    wait_for("refused", || connections.usage().refused >= 60).await;
    let mut kubelet = connect_from("127.0.1.1", address).await;
    assert!(answers(&mut kubelet).await);
    assert_eq!(connections.usage().open, 256);
    drop((held, kubelet));
    wait_for("empty", || connections.usage().open == 0).await;
}

#[tokio::test]
async fn a_unix_socket_has_the_same_limits_and_its_own_process_is_always_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("bound");
    let connections = Connections::of_requests("unix");
    tokio::spawn(serve(listener, connections.clone(), router()));
    let mut held = Vec::new();
    for _ in 0..2 * PER_PEER {
        let mut stream = UnixStream::connect(&path).await.expect("connects");
        assert!(answers(&mut stream).await);
        held.push(stream);
    }
    assert_eq!(connections.usage().refused, 0);
    let (_, took) = end_of(&mut held[0]).await;
    assert!(took < HEADER_LIMIT + Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn a_body_has_a_size_and_a_time() {
    let (address, _) = listen().await;
    let post = |length: &str| {
        format!("POST /echo HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{length}\r\n\r\n")
    };
    let cases = [
        (post("content-length: 5") + "hello", "200"),
        (post("content-length: 1001"), "413"),
        (
            post("transfer-encoding: chunked") + "7d0\r\n" + &"x".repeat(2000) + "\r\n0\r\n\r\n",
            "413",
        ),
        (
            GET_WITH_BODY.to_owned() + "content-length: 1\r\n\r\nx",
            "413",
        ),
    ];
    for (request, status) in cases {
        let mut stream = connect(address).await;
        stream.write_all(request.as_bytes()).await.expect("sent");
        let (answer, _) = end_of(&mut stream).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
    let mut slow = connect(address).await;
    slow.write_all((post("content-length: 100") + "he").as_bytes())
        .await
        .expect("sent");
    let (answer, took) = end_of(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(about(took, BODY_LIMIT), "{took:?}");
}

const GET_WITH_BODY: &str = "GET /small HTTP/1.1\r\nhost: test\r\nconnection: close\r\n";

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let (address, connections) = listen().await;
    let mut stream = connect(address).await;
    stream
        .write_all(b"GET /large HTTP/1.1\r\nhost: test\r\n\r\n")
        .await
        .expect("sent");
    let begun = Instant::now();
    wait_for("served", || connections.usage().open == 1).await;
    wait_for("let go", || connections.usage().open == 0).await;
    assert!(about(begun.elapsed(), STALL_LIMIT), "{:?}", begun.elapsed());
}
