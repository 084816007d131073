//! Messages of all calls but Append: each is a question, a name and a few numbers.
//!
//! What reads them would take as much as an Append call may send, and keep it for as long as the call is open. How many a call sends is
//! its own affair: a client of reflection keeps one open for as long as it runs.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::framing::Framing;
use super::intake::APPEND;

/// Of a message. The longest name of a stream takes 255.
const MAX_BYTES: usize = 16 << 10;

pub fn limit(request: Request<Body>) -> Request<Body> {
    if request.uri().path() == APPEND {
        return request;
    }
    request.map(|body| {
        Body::new(Questions {
            body,
            framing: Framing::default(),
        })
    })
}

struct Questions {
    body: Body,
    framing: Framing,
}

/// A message is refused by its header, before it is here.
fn check(framing: &mut Framing, mut bytes: &[u8]) -> Result<(), Status> {
    while !bytes.is_empty() {
        let part = framing.next(bytes);
        if part.length.is_some_and(|length| length > MAX_BYTES) {
            return Err(Status::resource_exhausted(format!(
                "a request of this call exceeds {MAX_BYTES} bytes (the limit of all verbs but Append); send less"
            )));
        }
        bytes = &bytes[part.bytes..];
    }
    Ok(())
}

impl HttpBody for Questions {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(bytes) = frame.data_ref()
            && let Err(refused) = check(&mut self.framing, bytes)
        {
            return Poll::Ready(Some(Err(refused)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let header = u32::try_from(length).expect("a length").to_be_bytes();
        [&[0][..], &header, &vec![7; length]].concat()
    }

    #[test]
    fn a_call_asks_as_often_as_it_likes_and_each_time_little() {
        let many = message(60).repeat(3 * MAX_BYTES / 60);
        let longest = [message(MAX_BYTES), message(0)].concat();
        let large = [message(3), message(MAX_BYTES + 1)].concat();
        for step in [1, 4, 1000, usize::MAX] {
            for (sent, is_refused) in [(&many, false), (&longest, false), (&large, true)] {
                let mut framing = Framing::default();
                let mut pieces = sent.chunks(step.min(sent.len()));
                let checked = pieces.try_for_each(|piece| check(&mut framing, piece));
                assert_eq!(checked.is_err(), is_refused, "{} by {step}", sent.len());
            }
        }
    }
}
