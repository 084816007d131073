//! A request body that is read from a `Source` piece by piece, so that an upload takes a few MiB of memory whatever its size.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aof2_core::objects::{Source, read_all};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// Smaller bodies are read at once.
const STREAM_FROM_BYTES: u64 = 4 << 20;
const PIECE_BYTES: u64 = 1 << 20;
/// Pieces that are read ahead.
const AHEAD: usize = 2;

/// Inside the runtime: a large source is read on one of its blocking threads.
pub(crate) fn of_source(source: &Arc<dyn Source>) -> io::Result<ByteStream> {
    if source.size_bytes() < STREAM_FROM_BYTES {
        return Ok(ByteStream::from(read_all(source.as_ref())?));
    }
    let (sender, receiver) = mpsc::channel(AHEAD);
    let left = source.size_bytes();
    let source = source.clone();
    tokio::task::spawn_blocking(move || {
        let mut offset = 0;
        while offset < source.size_bytes() {
            let mut piece = vec![0; PIECE_BYTES.min(source.size_bytes() - offset) as usize];
            let read = source.read_at(offset, &mut piece);
            offset += piece.len() as u64;
            let failed = read.is_err();
            // Nobody listens any more: the request is over.
            if sender
                .blocking_send(read.map(|()| Bytes::from(piece)))
                .is_err()
                || failed
            {
                return;
            }
        }
    });
    Ok(ByteStream::new(SdkBody::from_body_1_x(SourceBody {
        receiver: parking_lot::Mutex::new(receiver),
        left,
    })))
}

struct SourceBody {
    /// The SDK wants bodies that may be shared; this one never is.
    receiver: parking_lot::Mutex<mpsc::Receiver<io::Result<Bytes>>>,
    left: u64,
}

impl Body for SourceBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = self.receiver.get_mut().poll_recv(context);
        polled.map(|piece| match piece {
            Some(Ok(bytes)) => {
                self.left -= bytes.len() as u64;
                Some(Ok(Frame::data(bytes)))
            }
            Some(Err(error)) => Some(Err(error)),
            None if self.left > 0 => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
