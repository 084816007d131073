//! Read and Tail: the store's reader, which blocks, as a stream of bounded batches.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aof2_core::{Progress, RECORD_BYTES, ReadError, ReadRequest, Reader, Record, Store};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tonic::Status;

use super::budget::{Budget, Call, Share};
use super::refusal;
use crate::proto;

/// Batches that are read ahead of the client.
const BATCHES_AHEAD: usize = 1;

type Batches = mpsc::Sender<Result<Held, Status>>;

pub fn range(
    budget: &Budget,
    store: Store,
    request: proto::ReadRequest,
) -> Result<impl Stream<Item = Result<proto::RecordBatch, Status>> + Send + use<>, Status> {
    let proto::ReadRequest {
        stream,
        from_sequence,
        limit,
        include_staged,
    } = request;
    let reader = store
        .read(ReadRequest {
            stream,
            from_sequence,
            limit,
            include_staged,
        })
        .map_err(|error| refusal::of_read(&error))?;
    let call = budget.admit()?;
    let (batches, received) = mpsc::channel(BATCHES_AHEAD);
    let budget = budget.clone();
    let ours = call.clone();
    tokio::spawn(async move {
        let _ = copy(&budget, &ours, reader, &batches).await;
    });
    Ok(Taken::new(received, call))
}

pub fn tail(
    budget: &Budget,
    store: Store,
    request: proto::TailRequest,
) -> Result<impl Stream<Item = Result<proto::RecordBatch, Status>> + Send + use<>, Status> {
    let proto::TailRequest {
        stream,
        from_sequence,
    } = request;
    let reader = store
        .read(ReadRequest {
            stream: stream.clone(),
            from_sequence,
            limit: 0,
            include_staged: false,
        })
        .map_err(|error| refusal::of_read(&error))?;
    let call = budget.admit()?;
    let (batches, received) = mpsc::channel(BATCHES_AHEAD);
    tokio::spawn(follow(
        budget.clone(),
        call.clone(),
        store,
        stream,
        reader,
        batches,
    ));
    Ok(Taken::new(received, call))
}

/// Copies what there is, waits for more, and so on until the client or the store goes.
async fn follow(
    budget: Budget,
    call: Call,
    store: Store,
    stream: String,
    mut reader: Reader,
    batches: Batches,
) {
    while let Some(caught_up) = copy(&budget, &call, reader, &batches).await {
        reader = caught_up;
        let (wake, woken) = oneshot::channel();
        let callback = Box::new(move |_durable| {
            // The client may have gone in the meantime.
            let _ = wake.send(());
        });
        // Dropped with the call.
        let _waits = match store.on_durable_beyond(&stream, reader.position(), callback) {
            Ok(waits) => waits,
            Err(error) => {
                let _ = batches.send(Err(refusal::of_read(&error))).await;
                return;
            }
        };
        tokio::select! {
            woken = woken => if woken.is_err() {
                let _ = batches.send(Err(refusal::of_read(&ReadError::Closed))).await;
                return;
            },
            () = batches.closed() => return,
        }
    }
}

/// Sends what the reader has now. Gives the reader back at its end, nothing when the client is gone or was sent an error.
async fn copy(
    budget: &Budget,
    call: &Call,
    mut reader: Reader,
    batches: &Batches,
) -> Option<Reader> {
    loop {
        // Nothing is read before there is a place for it.
        let place = batches.reserve().await.ok()?;
        let mut share = tokio::select! {
            share = budget.share(call) => share?,
            () = batches.closed() => return None,
        };
        let step = budget.step().await?;
        let max_bytes = share.bytes();
        let reading = tokio::task::spawn_blocking(move || {
            let batch = reader.poll_batch(max_bytes);
            drop(step);
            (reader, batch)
        });
        let batch = match reading.await {
            Ok((returned, batch)) => {
                reader = returned;
                batch
            }
            Err(panicked) => {
                place.send(Err(Status::internal(panicked.to_string())));
                return None;
            }
        };
        match batch {
            Ok(Progress::End) => return Some(reader),
            Ok(Progress::Waits(pending)) => {
                // No thread and no share of the memory waits for Tier 2.
                drop((place, share));
                let (wake, woken) = oneshot::channel();
                let _waits = pending.on_arrival(Box::new(move || {
                    // The client may have gone in the meantime.
                    let _ = wake.send(());
                }));
                tokio::select! {
                    _ = woken => {}
                    () = batches.closed() => return None,
                }
            }
            Ok(Progress::Records(records)) => {
                let bytes = records
                    .iter()
                    .map(|record| record.payload.len() + RECORD_BYTES);
                share.keep(bytes.sum());
                let records = records.into_iter().map(to_proto).collect();
                place.send(Ok(Held {
                    batch: proto::RecordBatch { records },
                    share,
                }));
            }
            Err(error) => {
                place.send(Err(refusal::of_read(&error)));
                return None;
            }
        }
    }
}

/// A batch that is on its way, and its share of the memory.
struct Held {
    batch: proto::RecordBatch,
    share: Share,
}

/// The batches of a call as the transport takes them. The one that it took last counts until it asks for another: until then its
/// bytes wait for the client.
struct Taken {
    received: mpsc::Receiver<Result<Held, Status>>,
    in_hand: Option<Share>,
    _call: Call,
}

impl Taken {
    fn new(received: mpsc::Receiver<Result<Held, Status>>, call: Call) -> Taken {
        Taken {
            received,
            in_hand: None,
            _call: call,
        }
    }
}

impl Stream for Taken {
    type Item = Result<proto::RecordBatch, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.in_hand = None;
        let taken = ready!(self.received.poll_recv(context));
        Poll::Ready(taken.map(|held| {
            let Held { batch, share } = held?;
            self.in_hand = Some(share);
            Ok(batch)
        }))
    }
}

fn to_proto(record: Record) -> proto::Record {
    let Record {
        sequence,
        payload,
        producer_id,
        producer_seq,
        appended_unix_nanos,
    } = record;
    proto::Record {
        sequence,
        payload,
        producer_id,
        producer_seq,
        appended_unix_nanos,
    }
}
