//! What comes before the first request of an admin client.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Certificates;

/// `None` where there is nobody to answer: without certificates, or after a handshake that failed. The listener limits its time.
pub async fn handshake(
    certificates: Arc<Certificates>,
    stream: TcpStream,
) -> Option<TlsStream<TcpStream>> {
    let config = certificates.current()?;
    let peer = stream.peer_addr().ok();
    match TlsAcceptor::from(config).accept(stream).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::info!(?peer, %error, "TLS handshake of the admin API failed");
            None
        }
    }
}
