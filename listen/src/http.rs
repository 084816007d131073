//! A router behind a listener, with the limits of this crate.

use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
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

/// Serves HTTP/1.1 until the process ends. `secure` is what comes before the first request, a TLS handshake or nothing; `None`
/// ends the connection.
pub async fn serve<L, I, F>(
    listener: L,
    connections: Connections,
    secure: impl Fn(L::Stream) -> F,
    router: Router,
) where
    L: Accept,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Option<I>> + Send + 'static,
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
                if let Ok(Some(stream)) = tokio::time::timeout(HEADER_LIMIT, secured).await {
                    requests(stream, router).await;
                }
            };
            tokio::select! {
                () = served => {}
                () = slot.displaced() => {}
            }
        });
    }
}

async fn requests(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let service = TowerToHyperService::new(router);
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
