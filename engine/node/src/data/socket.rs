//! Connections of the data socket, limited and counted: the way out waits for those that are there.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aof2_listen::{Accept, Connections, Peer, Slot};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use super::frames::Frames;
use crate::clients::ConnectionGuard;
use crate::node::Node;

/// Out of descriptors, most of the time: the next attempt needs others to be closed first.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Connections that may stay; it never ends.
pub fn incoming(
    node: Arc<Node>,
    listener: UnixListener,
) -> impl Stream<Item = std::io::Result<Connection>> {
    let connections = node.listening(Connections::of_sessions("data"));
    futures::stream::unfold(
        (node, listener, connections),
        async |(node, listener, connections)| {
            loop {
                let (stream, peer) = match Accept::accept(&listener).await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(listener = "data", %error, "cannot accept a connection");
                        tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                        continue;
                    }
                };
                let Ok(slot) = connections.admit(peer) else {
                    continue;
                };
                let connection = Connection {
                    peer,
                    stream: Frames::new(stream),
                    _slot: slot,
                    _guard: (peer != Peer::Ourselves).then(|| node.clients.connect()),
                };
                return Some((Ok(connection), (node, listener, connections)));
            }
        },
    )
}

pub struct Connection {
    peer: Peer,
    stream: Frames<UnixStream>,
    _slot: Slot,
    _guard: Option<ConnectionGuard>,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(self.stream.stream()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(self.stream.stream()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(self.stream.stream()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(self.stream.stream()).poll_shutdown(cx)
    }
}
