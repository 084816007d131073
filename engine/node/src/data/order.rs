//! The answers of one Append call: of each stream in the order of its requests, and no stream waits for another.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_stream::Stream;
use tonic::Status;

use crate::proto::AppendResponse;

/// An answer, or where it comes from.
#[derive(Debug)]
pub enum Place {
    Answered(AppendResponse),
    Answer(oneshot::Receiver<AppendResponse>),
    /// The request was not submitted yet.
    Late(oneshot::Receiver<Place>),
}

/// In the order of the requests.
#[derive(Debug)]
pub enum Entry {
    Request {
        stream: String,
        place: Place,
        /// Counts it among the requests of its call until it is answered.
        seat: OwnedSemaphorePermit,
    },
    /// The call itself failed here.
    Broken(Status),
}

type Answer = Result<AppendResponse, Status>;
type Next = Pin<Box<dyn Future<Output = (String, Answer)> + Send>>;

pub struct Answers {
    entries: mpsc::UnboundedReceiver<Entry>,
    /// The oldest request of each stream.
    oldest: FuturesUnordered<Next>,
    /// Of each stream that has an oldest one, those behind it.
    behind: HashMap<String, VecDeque<(Place, OwnedSemaphorePermit)>>,
    broken: Option<Status>,
    is_complete: bool,
}

impl Answers {
    pub fn new(entries: mpsc::UnboundedReceiver<Entry>) -> Answers {
        Answers {
            entries,
            oldest: FuturesUnordered::new(),
            behind: HashMap::new(),
            broken: None,
            is_complete: false,
        }
    }

    fn enter(
        &mut self,
        stream: String,
        place: Place,
        seat: OwnedSemaphorePermit,
    ) -> Option<Answer> {
        if let Some(behind) = self.behind.get_mut(&stream) {
            behind.push_back((place, seat));
            return None;
        }
        if let Place::Answered(answer) = place {
            return Some(Ok(answer));
        }
        self.behind.insert(stream.clone(), VecDeque::new());
        self.oldest.push(Box::pin(answer(stream, place, seat)));
        None
    }

    fn advance(&mut self, stream: String) {
        let next = self.behind.get_mut(&stream).and_then(VecDeque::pop_front);
        match next {
            Some((place, seat)) => self.oldest.push(Box::pin(answer(stream, place, seat))),
            None => {
                self.behind.remove(&stream);
            }
        }
    }
}

async fn answer(stream: String, place: Place, _seat: OwnedSemaphorePermit) -> (String, Answer) {
    let place = match place {
        Place::Late(place) => place.await.ok(),
        Place::Answered(_) | Place::Answer(_) => Some(place),
    };
    let answer = match place {
        Some(Place::Answered(answer)) => Some(answer),
        Some(Place::Answer(answer)) => answer.await.ok(),
        Some(Place::Late(_)) | None => None,
    };
    let gone = || Status::unavailable("engine is shutting down; reconnect and resend");
    (stream, answer.ok_or_else(gone))
}

impl Stream for Answers {
    type Item = Answer;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Answer>> {
        while !self.is_complete {
            match self.entries.poll_recv(context) {
                Poll::Ready(Some(Entry::Request {
                    stream,
                    place,
                    seat,
                })) => {
                    if let Some(answer) = self.enter(stream, place, seat) {
                        return Poll::Ready(Some(answer));
                    }
                }
                Poll::Ready(Some(Entry::Broken(status))) => self.broken = Some(status),
                Poll::Ready(None) => self.is_complete = true,
                Poll::Pending => break,
            }
        }
        match Pin::new(&mut self.oldest).poll_next(context) {
            Poll::Ready(Some((stream, answer))) => {
                self.advance(stream);
                Poll::Ready(Some(answer))
            }
            Poll::Ready(None) if self.is_complete => Poll::Ready(self.broken.take().map(Err)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;
    use tokio_stream::StreamExt;

    use super::*;

    fn answer_of(request_id: u64) -> AppendResponse {
        AppendResponse {
            request_id,
            outcome: None,
        }
    }

    #[tokio::test]
    async fn a_stream_keeps_its_order_and_waits_for_no_other() {
        let (order, entries) = mpsc::unbounded_channel();
        let seats = Arc::new(Semaphore::new(10));
        let mut answers = Answers::new(entries);
        let enter = |stream: &str, place| {
            let stream = stream.to_owned();
            let seat = seats.clone().try_acquire_owned().expect("a seat");
            let entry = Entry::Request {
                stream,
                place,
                seat,
            };
            order.send(entry).expect("there");
        };
        let (slow, place) = oneshot::channel();
        enter("slow", Place::Late(place));
        enter("slow", Place::Answered(answer_of(2)));
        let (quick, place) = oneshot::channel();
        enter("quick", Place::Answer(place));
        enter("done", Place::Answered(answer_of(4)));
        assert_eq!(seats.available_permits(), 6);
        let mut next = async || {
            answers
                .next()
                .await
                .expect("one")
                .expect("answered")
                .request_id
        };
        assert_eq!(next().await, 4);
        quick.send(answer_of(3)).expect("there");
        assert_eq!(next().await, 3);
        assert_eq!(seats.available_permits(), 8);
        slow.send(Place::Answered(answer_of(1))).expect("there");
        assert_eq!(next().await, 1);
        assert_eq!(next().await, 2);
        order
            .send(Entry::Broken(Status::out_of_range("too large")))
            .expect("there");
        drop(order);
        let broken = answers.next().await.expect("one").expect_err("broken");
        assert_eq!(broken.message(), "too large");
        assert!(answers.next().await.is_none());
        assert_eq!(seats.available_permits(), 10);
    }
}
