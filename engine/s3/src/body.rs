//! A request body that is read from a `Source` piece by piece, so that an upload takes a few MiB of memory whatever its size, and that
//! tells the request's pace of each piece that the connection takes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use aof2_core::objects::{Source, read_all};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

use crate::pace::Pace;

/// Smaller bodies are read at once.
const STREAM_FROM_BYTES: u64 = 4 << 20;
const PIECE_BYTES: u64 = 1 << 20;
/// Pieces that are read ahead.
const AHEAD: usize = 2;
/// What the connection is given at a time: small, since a slow line is seen to get on only by it.
const FRAME_BYTES: usize = 64 << 10;

/// What a request sends, as often as it is sent.
#[derive(Clone)]
pub(crate) enum Body {
    Whole(Bytes),
    Streamed(Arc<dyn Source>),
}

impl Body {
    pub fn of(source: &Arc<dyn Source>) -> io::Result<Body> {
        if source.size_bytes() < STREAM_FROM_BYTES {
            return Ok(Body::Whole(read_all(source.as_ref())?));
        }
        Ok(Body::Streamed(source.clone()))
    }

    fn size_bytes(&self) -> u64 {
        match self {
            Body::Whole(bytes) => bytes.len() as u64,
            Body::Streamed(source) => source.size_bytes(),
        }
    }

    /// Inside the runtime: a large source is read on one of its blocking threads.
    pub fn stream(self, pace: Arc<Pace>) -> ByteStream {
        let left = self.size_bytes();
        let (read, receiver) = match self {
            Body::Whole(bytes) => (bytes, None),
            Body::Streamed(source) => (Bytes::new(), Some(parking_lot::Mutex::new(read(source)))),
        };
        ByteStream::new(SdkBody::from_body_1_x(SourceBody {
            read,
            receiver,
            left,
            pace,
        }))
    }
}

fn read(source: Arc<dyn Source>) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
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
    receiver
}

struct SourceBody {
    /// Not given to the connection yet.
    read: Bytes,
    /// The SDK wants bodies that may be shared; this one never is.
    receiver: Option<parking_lot::Mutex<mpsc::Receiver<io::Result<Bytes>>>>,
    left: u64,
    pace: Arc<Pace>,
}

impl http_body::Body for SourceBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.read.is_empty()
            && let Some(receiver) = &mut self.receiver
        {
            match receiver.get_mut().poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(bytes))) => self.read = bytes,
                Poll::Ready(Some(Err(error))) => {
                    self.pace.note_broken(error.to_string());
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => {}
            }
        }
        if self.read.is_empty() {
            let is_short = self.left > 0;
            return Poll::Ready(is_short.then(|| Err(io::ErrorKind::UnexpectedEof.into())));
        }
        let frame_bytes = FRAME_BYTES.min(self.read.len());
        let frame = self.read.split_to(frame_bytes);
        self.left -= frame.len() as u64;
        self.pace.note(frame.len() as u64, Instant::now());
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
