//! Read and Tail: the store's reader, which blocks, as a stream of bounded batches.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aof2_core::{Progress, RECORD_BYTES, ReadError, ReadRequest, Reader, Record, Store};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tonic::Status;

use super::budget::{Budget, Call, Share};
use super::refusal;
use crate::proto;

/// Batches that are read ahead of the client.
const BATCHES_AHEAD: usize = 1;
/// A client that takes nothing for so long keeps no segment: what waits for it is copied, within the memory that it counts already, and
/// its reader is opened again when it goes on.
const STILL: Duration = Duration::from_secs(60);

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
    let mut source = Source::new(store, stream, limit, include_staged);
    let reader = source
        .open(from_sequence)
        .map_err(|error| refusal::of_read(&error))?;
    let call = budget.admit()?;
    let (batches, received) = mpsc::channel(BATCHES_AHEAD);
    let budget = budget.clone();
    let ours = call.clone();
    tokio::spawn(async move {
        let ended = copy(&budget, &ours, reader, &batches, &mut source).await;
        // The last batch may wait as long as any other.
        if ended.is_some() && source.is_taken(&batches).await.is_none() {
            source.waiting.unpin();
        }
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
    let source = Source::new(store, stream, 0, false);
    let reader = source
        .open(from_sequence)
        .map_err(|error| refusal::of_read(&error))?;
    let call = budget.admit()?;
    let (batches, received) = mpsc::channel(BATCHES_AHEAD);
    tokio::spawn(follow(
        budget.clone(),
        call.clone(),
        source,
        reader,
        batches,
    ));
    Ok(Taken::new(received, call))
}

/// Copies what there is, waits for more, and so on until the client or the store goes.
async fn follow(
    budget: Budget,
    call: Call,
    mut source: Source,
    mut reader: Reader,
    batches: Batches,
) {
    while let Some(caught_up) = copy(&budget, &call, reader, &batches, &mut source).await {
        reader = caught_up;
        let (wake, woken) = oneshot::channel();
        let callback = Box::new(move |_durable| {
            // The client may have gone in the meantime.
            let _ = wake.send(());
        });
        // Dropped with the call.
        let position = reader.position();
        let waits = source
            .store
            .on_durable_beyond(&source.stream, position, callback);
        let _waits = match waits {
            Ok(waits) => waits,
            Err(error) => {
                let _ = batches.send(Err(refusal::of_read(&error))).await;
                return;
            }
        };
        let mut woken = std::pin::pin!(woken);
        let mut is_still = false;
        let woken = loop {
            tokio::select! {
                woken = &mut woken => break woken,
                () = batches.closed() => return,
                () = tokio::time::sleep(source.still), if !is_still => {
                    is_still = true;
                    source.waiting.unpin();
                }
            }
        };
        let opened = match woken {
            Ok(()) if is_still => source.open(position),
            Ok(()) => Ok(reader),
            Err(_) => Err(ReadError::Closed),
        };
        reader = match opened {
            Ok(reader) => reader,
            Err(error) => {
                let _ = batches.send(Err(refusal::of_read(&error))).await;
                return;
            }
        };
    }
}

/// Sends what the reader has now. Gives the reader back at its end, nothing when the client is gone or was sent an error.
async fn copy(
    budget: &Budget,
    call: &Call,
    mut reader: Reader,
    batches: &Batches,
    source: &mut Source,
) -> Option<Reader> {
    loop {
        // Nothing is read before there is a place for it.
        let place = match source.is_taken(batches).await {
            Some(place) => place.ok()?,
            None => {
                source.waiting.unpin();
                let position = reader.position();
                drop(reader);
                let place = batches.reserve().await.ok()?;
                if source.is_exhausted() {
                    return None;
                }
                reader = match source.open(position) {
                    Ok(reader) => reader,
                    Err(error) => {
                        place.send(Err(refusal::of_read(&error)));
                        return None;
                    }
                };
                place
            }
        };
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
                source.given += records.len() as u64;
                let records = records.into_iter().map(to_proto).collect();
                source.waiting = Batch::new(records);
                let batch = source.waiting.clone();
                place.send(Ok(Held { batch, share }));
            }
            Err(error) => {
                place.send(Err(refusal::of_read(&error)));
                return None;
            }
        }
    }
}

/// What a call reads, and how far it is.
struct Source {
    store: Store,
    stream: String,
    /// 0 = none.
    limit: u64,
    include_staged: bool,
    /// Records that were sent.
    given: u64,
    /// The batch that was sent last: it may wait for the client.
    waiting: Batch,
    still: Duration,
}

impl Source {
    fn new(store: Store, stream: String, limit: u64, include_staged: bool) -> Source {
        Source {
            store,
            stream,
            limit,
            include_staged,
            given: 0,
            waiting: Batch::default(),
            still: STILL,
        }
    }

    fn is_exhausted(&self) -> bool {
        self.limit > 0 && self.given >= self.limit
    }

    /// What is left of it.
    fn open(&self, from_sequence: u64) -> Result<Reader, ReadError> {
        self.store.read(ReadRequest {
            stream: self.stream.clone(),
            from_sequence,
            limit: self.limit.saturating_sub(self.given),
            include_staged: self.include_staged,
        })
    }

    /// The place of the batch that waits, when the client has taken it; `None`: it stands still.
    async fn is_taken<'a>(
        &self,
        batches: &'a Batches,
    ) -> Option<Result<mpsc::Permit<'a, Result<Held, Status>>, mpsc::error::SendError<()>>> {
        tokio::time::timeout(self.still, batches.reserve())
            .await
            .ok()
    }
}

/// A batch that is on its way, and its share of the memory.
struct Held {
    batch: Batch,
    share: Share,
}

/// Until it is taken.
#[derive(Clone, Default)]
struct Batch(Arc<Mutex<Option<proto::RecordBatch>>>);

impl Batch {
    fn new(records: Vec<proto::Record>) -> Batch {
        let batch = proto::RecordBatch { records };
        Batch(Arc::new(Mutex::new(Some(batch))))
    }

    fn take(&self) -> proto::RecordBatch {
        self.0.lock().take().unwrap_or_default()
    }

    /// Its records are copied out of the maps and blocks that they lie in.
    fn unpin(&self) {
        let mut batch = self.0.lock();
        for record in batch.iter_mut().flat_map(|batch| &mut batch.records) {
            record.payload = Bytes::copy_from_slice(&record.payload);
        }
    }
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
            Ok(batch.take())
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use aof2_core::testing::{options, small_config};
    use aof2_core::{AppendRequest, Durability};

    use super::*;

    const RECORDS: u64 = 40;

    /// Some batches of a sealed segment.
    fn sealed(folder: &std::path::Path) -> Store {
        let store = Store::open(options(small_config(folder))).expect("opens");
        for record in 0..RECORDS {
            let request = AppendRequest {
                stream: "orders".to_owned(),
                payloads: vec![Bytes::from(vec![record as u8; 60_000])],
                durability: Durability::Durable,
                producer: None,
            };
            store.append(request).expect("acknowledged");
        }
        store.seal(None).expect("sealed");
        store
    }

    /// Nothing else holds what they lie in.
    fn are_copies(batch: &Batch) -> bool {
        let batch = batch.0.lock();
        let records = &batch.as_ref().expect("it waits").records;
        assert!(!records.is_empty());
        records.iter().all(|record| record.payload.is_unique())
    }

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds() {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_stands_still_keeps_no_segment_and_gets_its_records_when_it_goes_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = sealed(folder.path());
        let budget = Budget::default();
        let call = budget.admit().expect("admitted");
        // One that goes on at once; two that stand still before each batch, and one of these has a limit.
        for (still, limit) in [(STILL, 0), (Duration::ZERO, 0), (Duration::ZERO, 25)] {
            let (batches, mut received) = mpsc::channel(BATCHES_AHEAD);
            let mut source = Source::new(store.clone(), "orders".to_owned(), limit, false);
            source.still = still;
            let reader = source.open(0).expect("a stream");
            let (budget, call) = (budget.clone(), call.clone());
            let reading = tokio::spawn(async move {
                copy(&budget, &call, reader, &batches, &mut source).await;
            });
            let end = if limit == 0 { RECORDS } else { limit };
            let mut next = 0;
            while next < end {
                until("a batch waits", || {
                    received.len() == 1 || reading.is_finished()
                })
                .await;
                let held = received.recv().await.expect("more").expect("no error");
                if still == STILL {
                    assert!(!are_copies(&held.batch), "it lies in the segment");
                }
                for record in held.batch.take().records {
                    assert_eq!(record.sequence, next);
                    assert!(record.payload.iter().all(|byte| u64::from(*byte) == next));
                    next += 1;
                }
            }
            assert_eq!(next, end);
            assert!(received.recv().await.is_none(), "it ends at {end}");
            reading.await.expect("no panic");
        }
        store.close().expect("closes");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_batch_that_waits_too_long_is_copied_out_of_its_segment() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = sealed(folder.path());
        let budget = Budget::default();
        let call = budget.admit().expect("admitted");
        let (batches, mut received) = mpsc::channel(BATCHES_AHEAD);
        let mut source = Source::new(store.clone(), "orders".to_owned(), 0, false);
        source.still = Duration::from_millis(1);
        let mut reader = source.open(0).expect("a stream");
        let Ok(Progress::Records(records)) = reader.poll_batch(1 << 20) else {
            panic!("records");
        };
        source.given = records.len() as u64;
        source.waiting = Batch::new(records.into_iter().map(to_proto).collect());
        let first = source.waiting.clone();
        assert!(!are_copies(&first), "it lies in the segment");
        let share = budget.share(&call).await.expect("a share");
        let held = Held {
            batch: first.clone(),
            share,
        };
        assert!(batches.send(Ok(held)).await.is_ok());
        let reading = tokio::spawn(async move {
            copy(&budget, &call, reader, &batches, &mut source).await;
        });
        until("it is copied", || are_copies(&first)).await;
        let mut next = 0;
        while let Some(held) = received.recv().await {
            for record in held.expect("no error").batch.take().records {
                assert_eq!(record.sequence, next);
                next += 1;
            }
        }
        assert_eq!(next, RECORDS);
        reading.await.expect("no panic");
        store.close().expect("closes");
    }
}
