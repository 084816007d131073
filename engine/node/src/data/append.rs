//! One Append call: requests go to the store as they come, answers leave as their streams have them.
//!
//! What is on the way in one call is bounded in requests and in bytes, and so is what is on the way in all calls (`intake`): a
//! client that is faster than the disk is held back by HTTP/2's flow control, not by memory. So it is where the disk is behind or
//! the next segment is late for a moment: the stream waits, for a refusal in the middle of a pipeline would let the requests behind
//! it overtake. Only the stream: what a request of another one finds is its own.
//!
//! No thread of the runtime waits for the disk: where the store might, a thread for blocking work asks it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aof2_core::{
    AppendCallback, AppendError, Appended, Busy, Durability, Producer, Store, backoff,
};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::intake::{Held, Source};
use super::order::{Answers, Entry, Place};
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

/// Given back when the request is answered.
type Counted = Arc<(Held, OwnedSemaphorePermit)>;

pub fn run(
    node: Arc<Node>,
    store: Store,
    source: Source,
    requests: Streaming<proto::AppendRequest>,
) -> impl Stream<Item = Result<proto::AppendResponse, Status>> + Send {
    let (order, entries) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        // What waits here goes with its call.
        let call = order.clone();
        tokio::select! {
            () = call.closed() => {}
            () = admit(node, store, source, requests, order) => {}
        }
    });
    Answers::new(entries)
}

async fn admit(
    node: Arc<Node>,
    store: Store,
    source: Source,
    mut requests: Streaming<proto::AppendRequest>,
    order: mpsc::UnboundedSender<Entry>,
) {
    let budget = Arc::new(Semaphore::new(MAX_UNITS_IN_FLIGHT));
    let seats = Arc::new(Semaphore::new(MAX_REQUESTS_IN_FLIGHT));
    let mut lagging: HashMap<String, Lagging> = HashMap::new();
    loop {
        let Ok(seat) = seats.clone().acquire_owned().await else {
            return;
        };
        let request = match requests.message().await {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(status) => {
                // Nobody may be there to read it: then the connection is gone, and so is the call.
                let _ = order.send(Entry::Broken(refusal::of_message(status)));
                return;
            }
        };
        node.clients.note_append();
        let received = source.take_counted();
        if let Some(again) = source.again() {
            requests = again;
        }
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
        let counted = Arc::new((received, permit));
        let stream = request.stream.clone();
        let is_lagging = lagging.get(&stream).is_some_and(Lagging::has_any);
        // Taken for another one, an unknown durability might promise less than was asked for.
        let place = if proto::Durability::try_from(request.durability).is_err() {
            Ok(Place::Answered(unknown_durability(&request)))
        } else if is_lagging {
            Err(request)
        } else {
            submit_at_once(&store, request, &counted)
        };
        let place = match place {
            Ok(place) => place,
            Err(request) => {
                lagging.retain(|name, lagging| *name == stream || lagging.has_any());
                let behind = lagging
                    .entry(stream.clone())
                    .or_insert_with(|| Lagging::of(store.clone()));
                behind.push(request, counted)
            }
        };
        let entry = Entry::Request {
            stream,
            place,
            seat,
        };
        if order.send(entry).is_err() {
            return;
        }
    }
}

fn unknown_durability(request: &proto::AppendRequest) -> proto::AppendResponse {
    let message = format!(
        "durability {} for stream {:?} is unknown; use 0 (DURABLE) or 1 (BUFFERED)",
        request.durability, request.stream
    );
    let refused = proto::Refused {
        reason: Reason::InvalidArgument.into(),
        message,
        ..proto::Refused::default()
    };
    proto::AppendResponse {
        request_id: request.request_id,
        outcome: Some(Outcome::Refused(refused)),
    }
}

/// Gives back a request that has to wait.
fn submit_at_once(
    store: &Store,
    request: proto::AppendRequest,
    counted: &Counted,
) -> Result<Place, proto::AppendRequest> {
    let (append, on_done, mut answer) = prepare(request.clone(), counted.clone());
    if store.try_append_with(append, on_done).is_err() {
        return Err(request);
    }
    match answer.try_recv() {
        Ok(response) if is_of_the_moment(&response) => Err(request),
        Ok(response) => Ok(Place::Answered(response)),
        Err(_) => Ok(Place::Answer(answer)),
    }
}

/// Requests of one stream that wait for their turn, behind one that waits for the disk or for room.
struct Lagging {
    jobs: mpsc::UnboundedSender<Job>,
    waiting: Arc<AtomicUsize>,
}

struct Job {
    request: proto::AppendRequest,
    counted: Counted,
    place: oneshot::Sender<Place>,
}

impl Lagging {
    fn of(store: Store) -> Lagging {
        let (jobs, received) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        tokio::spawn(work_off(store, received, waiting.clone()));
        Lagging { jobs, waiting }
    }

    fn has_any(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    fn push(&self, request: proto::AppendRequest, counted: Counted) -> Place {
        let (place, placed) = oneshot::channel();
        self.waiting.fetch_add(1, Ordering::AcqRel);
        // It ends with its sender alone.
        let _ = self.jobs.send(Job {
            request,
            counted,
            place,
        });
        Place::Late(placed)
    }
}

async fn work_off(store: Store, mut jobs: mpsc::UnboundedReceiver<Job>, waiting: Arc<AtomicUsize>) {
    while let Some(job) = jobs.recv().await {
        let Job {
            request,
            counted,
            mut place,
        } = job;
        let placed = tokio::select! {
            () = place.closed() => None,
            placed = submit_patiently(&store, request, counted) => Some(placed),
        };
        // The next request of this stream finds it behind this one.
        waiting.fetch_sub(1, Ordering::AcqRel);
        if let Some(placed) = placed {
            let _ = place.send(placed);
        }
    }
}

/// Refusals of the moment come at once, before anything behind this request was submitted.
async fn submit_patiently(store: &Store, request: proto::AppendRequest, counted: Counted) -> Place {
    let deadline = Instant::now() + PATIENCE;
    let mut refusals = 0;
    loop {
        let (append, on_done, mut answer) = prepare(request.clone(), counted.clone());
        if let Err(Busy { request, on_done }) = store.try_append_with(append, on_done) {
            let store = store.clone();
            let waits = move || store.append_with(request, on_done);
            if tokio::task::spawn_blocking(waits).await.is_err() {
                // The runtime ends: nobody answers.
                return Place::Answer(answer);
            }
        }
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

type Prepared = (
    aof2_core::AppendRequest,
    AppendCallback,
    oneshot::Receiver<proto::AppendResponse>,
);

fn prepare(request: proto::AppendRequest, counted: Counted) -> Prepared {
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
    let on_done = Box::new(move |result| {
        drop(counted);
        // The client may have gone; the records are kept all the same.
        let _ = answer.send(respond(request_id, name, result));
    });
    (request, on_done, answered)
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
