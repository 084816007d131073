//! Connections with the handshake behind them, for axum.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Certificates;

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Connections whose handshake is done and that are not served yet.
const BACKLOG: usize = 64;
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Handshakes run in parallel: a slow client delays no other.
pub struct TlsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
}

impl TlsListener {
    pub fn new(listener: TcpListener, certificates: Arc<Certificates>) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let (accepted, ready) = mpsc::channel(BACKLOG);
        tokio::spawn(accept(listener, certificates, accepted));
        Ok(TlsListener { address, ready })
    }
}

async fn accept(
    listener: TcpListener,
    certificates: Arc<Certificates>,
    accepted: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                // Out of descriptors, most of the time: the next attempt needs others to be closed first.
                tracing::warn!(%error, "cannot accept an admin API connection");
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                continue;
            }
        };
        // Without certificates nothing can be answered; the client tries again.
        let Some(config) = certificates.current() else {
            continue;
        };
        let accepted = accepted.clone();
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE_LIMIT, TlsAcceptor::from(config).accept(stream))
                .await
            {
                Ok(Ok(stream)) => {
                    let _ = accepted.send((stream, peer)).await;
                }
                Ok(Err(error)) => {
                    tracing::info!(%peer, %error, "TLS handshake of the admin API failed")
                }
                Err(_) => tracing::debug!(%peer, "TLS handshake of the admin API timed out"),
            }
        });
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The accepting task ends with the process only.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(self.address)
    }
}
