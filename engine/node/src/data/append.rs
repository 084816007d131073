//! One Append call: requests go to the store as they come, answers leave in the order of the requests.
//!
//! The store answers from its own threads and in whatever order its streams become durable; a queue of one-shot channels, one
//! per request, restores the order. What is on the way in one call is bounded in requests and in bytes: a client that is faster
//! than the disk is held back by HTTP/2's flow control, not by memory. So it is where the disk is behind or the next segment is
//! late for a moment: the call waits, for a refusal in the middle of a pipeline would let the requests behind it overtake.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aof2_core::{AppendError, Appended, Durability, Producer, Store, backoff};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Status, Streaming};

use super::refusal;
use crate::node::Node;
use crate::proto::{self, MAX_MESSAGE_BYTES, Reason, append_response::Outcome};

/// Requests of one call that wait for their answer.
const MAX_REQUESTS_IN_FLIGHT: usize = 4096;
/// Bytes of one call that wait for their answer, in units of [`UNIT_BYTES`].
const MAX_UNITS_IN_FLIGHT: usize = 4 * MAX_MESSAGE_BYTES / UNIT_BYTES;
const UNIT_BYTES: usize = 1024;
/// How long a request waits for what passes by itself in milliseconds, most of the time.
const PATIENCE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A place in the order of answers.
enum Place {
    Answered(proto::AppendResponse),
    Answer(oneshot::Receiver<proto::AppendResponse>),
    /// The call itself failed here.
    Broken(Status),
}

pub fn run(
    node: Arc<Node>,
    store: Store,
    requests: Streaming<proto::AppendRequest>,
) -> impl Stream<Item = Result<proto::AppendResponse, Status>> + Send {
    let (order, places) = mpsc::channel(MAX_REQUESTS_IN_FLIGHT);
    tokio::spawn(admit(node, store, requests, order));
    ReceiverStream::new(places).then(|place| async {
        match place {
            Place::Answered(answer) => Ok(answer),
            Place::Answer(answer) => answer
                .await
                .map_err(|_| Status::unavailable("engine is shutting down; reconnect and resend")),
            Place::Broken(status) => Err(status),
        }
    })
}

async fn admit(
    node: Arc<Node>,
    store: Store,
    mut requests: Streaming<proto::AppendRequest>,
    order: mpsc::Sender<Place>,
) {
    let budget = Arc::new(Semaphore::new(MAX_UNITS_IN_FLIGHT));
    loop {
        let request = match requests.message().await {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(status) => {
                // Nobody may be there to read it: then the connection is gone, and so is the call.
                let _ = order.send(Place::Broken(refusal::of_message(status))).await;
                return;
            }
        };
        node.clients.note_append();
        let held = |payload: &Bytes| payload.len() + size_of::<Bytes>();
        let bytes: usize = request.payloads.iter().map(held).sum();
        let units = (bytes / UNIT_BYTES + 1).min(MAX_UNITS_IN_FLIGHT);
        let Ok(permit) = budget
            .clone()
            .acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX))
            .await
        else {
            return;
        };
        let place = submit_patiently(&store, request, Arc::new(permit)).await;
        if order.send(place).await.is_err() {
            return;
        }
    }
}

/// Refusals of the moment come at once, before anything behind this request was submitted.
async fn submit_patiently(
    store: &Store,
    request: proto::AppendRequest,
    permit: Arc<OwnedSemaphorePermit>,
) -> Place {
    let deadline = Instant::now() + PATIENCE;
    let mut refusals = 0;
    loop {
        let mut answer = submit(store, request.clone(), permit.clone());
        match answer.try_recv() {
            Ok(response) if is_of_the_moment(&response) && Instant::now() < deadline => {
                refusals += 1;
                tokio::time::sleep(backoff::pause_after(refusals, FIRST_PAUSE, LONGEST_PAUSE))
                    .await;
            }
            Ok(response) => return Place::Answered(response),
            Err(_) => return Place::Answer(answer),
        }
    }
}

fn is_of_the_moment(response: &proto::AppendResponse) -> bool {
    match &response.outcome {
        Some(Outcome::Refused(refused)) => {
            matches!(
                refused.reason(),
                Reason::WouldBlockFlush | Reason::WouldBlockRollover
            )
        }
        Some(Outcome::Appended(_)) | None => false,
    }
}

fn submit(
    store: &Store,
    request: proto::AppendRequest,
    permit: Arc<OwnedSemaphorePermit>,
) -> oneshot::Receiver<proto::AppendResponse> {
    let (answer, answered) = oneshot::channel();
    let durability = match request.durability() {
        proto::Durability::Durable => Durability::Durable,
        proto::Durability::Buffered => Durability::Buffered,
    };
    let proto::AppendRequest {
        stream,
        payloads,
        durability: _,
        producer_id,
        producer_seq,
        request_id,
        producer_since,
    } = request;
    let producer = (producer_id != 0).then_some(Producer {
        id: producer_id,
        first_seq: producer_seq,
        since: producer_since,
    });
    let name = stream.clone();
    let request = aof2_core::AppendRequest {
        stream,
        payloads,
        durability,
        producer,
    };
    store.append_with(
        request,
        Box::new(move |result| {
            drop(permit);
            // The client may have gone; the records are kept all the same.
            let _ = answer.send(respond(request_id, name, result));
        }),
    );
    answered
}

fn respond(
    request_id: u64,
    stream: String,
    result: Result<Appended, AppendError>,
) -> proto::AppendResponse {
    let outcome = match result {
        Ok(Appended {
            first_sequence,
            count,
            duplicate,
        }) => Outcome::Appended(proto::Appended {
            stream,
            first_sequence,
            count,
            duplicate,
        }),
        Err(error) => Outcome::Refused(refusal::of_append(&error)),
    };
    proto::AppendResponse {
        request_id,
        outcome: Some(outcome),
    }
}
