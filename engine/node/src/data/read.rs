//! Read and Tail: the store's reader, which blocks, as a stream of bounded batches.

use aof2_core::{ReadError, ReadRequest, Reader, Record, Store};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::refusal;
use crate::proto;

/// Payload bytes of one batch; a single record may be larger.
const BATCH_BYTES: usize = 1024 * 1024;
/// Batches that are read ahead of the client.
const BATCHES_AHEAD: usize = 2;

type Batches = mpsc::Sender<Result<proto::RecordBatch, Status>>;

pub fn range(
    store: Store,
    request: proto::ReadRequest,
) -> Result<impl Stream<Item = Result<proto::RecordBatch, Status>> + Send, Status> {
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
    let (batches, received) = mpsc::channel(BATCHES_AHEAD);
    tokio::spawn(async move {
        let _ = copy(reader, &batches).await;
    });
    Ok(ReceiverStream::new(received))
}

pub fn tail(
    store: Store,
    request: proto::TailRequest,
) -> Result<impl Stream<Item = Result<proto::RecordBatch, Status>> + Send, Status> {
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
    let (batches, received) = mpsc::channel(BATCHES_AHEAD);
    tokio::spawn(follow(store, stream, reader, batches));
    Ok(ReceiverStream::new(received))
}

/// Copies what there is, waits for more, and so on until the client or the store goes.
async fn follow(store: Store, stream: String, mut reader: Reader, batches: Batches) {
    while let Some(caught_up) = copy(reader, &batches).await {
        reader = caught_up;
        let (wake, woken) = oneshot::channel();
        let callback = Box::new(move |_durable| {
            // The client may have gone in the meantime.
            let _ = wake.send(());
        });
        if let Err(error) = store.on_durable_beyond(&stream, reader.position(), callback) {
            let _ = batches.send(Err(refusal::of_read(&error))).await;
            return;
        }
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
async fn copy(mut reader: Reader, batches: &Batches) -> Option<Reader> {
    loop {
        let step = tokio::task::spawn_blocking(move || {
            let batch = reader.next_batch(BATCH_BYTES);
            (reader, batch)
        });
        let batch = match step.await {
            Ok((returned, batch)) => {
                reader = returned;
                batch
            }
            Err(panicked) => {
                let _ = batches
                    .send(Err(Status::internal(panicked.to_string())))
                    .await;
                return None;
            }
        };
        match batch {
            Ok(None) => return Some(reader),
            Ok(Some(records)) => {
                let records = records.into_iter().map(to_proto).collect();
                batches
                    .send(Ok(proto::RecordBatch { records }))
                    .await
                    .ok()?;
            }
            Err(error) => {
                let _ = batches.send(Err(refusal::of_read(&error))).await;
                return None;
            }
        }
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
