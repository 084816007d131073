//! A router behind a listener, with the limits of this crate.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::stall::Stalling;
use crate::{Connections, HEADER_BYTES, HEADER_LIMIT, Peer};

/// Out of descriptors, most of the time: the next attempt needs others to be closed first.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// A listener, and who its clients are.
pub trait Accept: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, address) = TcpListener::accept(self).await?;
        Ok((stream, Peer::of_address(address)))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = UnixListener::accept(self).await?;
        let peer = Peer::of_unix(&stream);
        Ok((stream, peer))
    }
}

/// Who sends a request; an extension of each.
#[derive(Clone, Debug)]
pub struct Caller {
    pub peer: Peer,
    /// As its certificate has it; `None` where it has none.
    pub name: Option<Arc<str>>,
}

impl fmt::Display for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(formatter, "{name} ({})", self.peer),
            None => write!(formatter, "{}", self.peer),
        }
    }
}

/// Serves HTTP/1.1 to clients without a name until the process ends.
pub async fn serve<L: Accept>(listener: L, connections: Connections, router: Router) {
    let secure = async |stream| Some((stream, None));
    serve_named(listener, connections, secure, router).await;
}

/// Serves HTTP/1.1 until the process ends. `secure` is what comes before the first request, such as a TLS handshake, and the client's
/// name; `None` ends the connection.
pub async fn serve_named<L, I, F>(
    listener: L,
    connections: Connections,
    secure: impl Fn(L::Stream) -> F,
    router: Router,
) where
    L: Accept,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Option<(I, Option<Arc<str>>)>> + Send + 'static,
{
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                let listener = connections.name();
                tracing::warn!(listener, %error, "cannot accept a connection");
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                continue;
            }
        };
        let Ok(slot) = connections.admit(peer) else {
            continue;
        };
        let (secured, router) = (secure(stream), router.clone());
        tokio::spawn(async move {
            let served = async {
                if let Ok(Some((stream, name))) = tokio::time::timeout(HEADER_LIMIT, secured).await
                {
                    requests(stream, Caller { peer, name }, router).await;
                }
            };
            tokio::select! {
                () = served => {}
                () = slot.displaced() => {}
            }
        });
    }
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    caller: Caller,
    router: Router,
) {
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        router.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also ends connections on which no further request comes.
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(Stalling::new(stream)), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}
