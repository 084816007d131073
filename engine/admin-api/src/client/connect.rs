//! A connection for one request.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{ClientError, Target};

pub(super) enum Connection {
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Unix(socket) => write!(f, "{}", socket.display()),
            Target::Tls {
                address,
                server_name,
                tls: _,
            } => write!(f, "{address} ({})", server_name.to_str()),
        }
    }
}

pub(super) async fn connect(target: &Target) -> Result<TokioIo<Connection>, ClientError> {
    let unreachable = |source| ClientError::Unreachable {
        target: target.to_string(),
        source,
    };
    match target {
        Target::Unix(socket) => {
            let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
            Ok(TokioIo::new(Connection::Unix(stream)))
        }
        Target::Tls {
            address,
            server_name,
            tls,
        } => {
            let stream = TcpStream::connect(address).await.map_err(unreachable)?;
            // Small requests in one round trip each; a failure costs latency only.
            let _ = stream.set_nodelay(true);
            let connector = TlsConnector::from(tls.clone());
            let stream = connector
                .connect(server_name.clone(), stream)
                .await
                .map_err(|source| ClientError::Tls {
                    target: target.to_string(),
                    source,
                })?;
            Ok(TokioIo::new(Connection::Tls(Box::new(stream))))
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Connection::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Connection::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Connection::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Connection::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Connection::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Connection::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Connection::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Connection::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
