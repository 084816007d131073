//! What comes before the first request of an admin client.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Certificates;
use super::verifier::dns_names;

/// With the client's name. `None` where there is nobody to answer: without certificates, or after a handshake that failed. The listener limits its time.
pub async fn handshake(
    certificates: Arc<Certificates>,
    stream: TcpStream,
) -> Option<(TlsStream<TcpStream>, Option<Arc<str>>)> {
    let config = certificates.current()?;
    let peer = stream.peer_addr().ok();
    match TlsAcceptor::from(config).accept(stream).await {
        Ok(stream) => {
            let (_, session) = stream.get_ref();
            let certificate = session.peer_certificates().and_then(<[_]>::first);
            let name = certificate.map(|it| Arc::from(dns_names(it).join(",")));
            Some((stream, name))
        }
        Err(error) => {
            tracing::info!(?peer, %error, "TLS handshake of the admin API failed");
            None
        }
    }
}
