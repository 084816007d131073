//! The data API's client over its Unix socket.

use std::error::Error as _;
use std::path::{Path, PathBuf};

use aof2_node::proto::log_client::LogClient;
use aof2_node::proto::{self, MAX_MESSAGE_BYTES, READ_ON_FROM, Reason, RecordBatch, Refused};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::exit::{Failure, of_status};

pub type Client = LogClient<Channel>;

/// Connects when the first request is made, and again after a lost connection: the socket's file is a new one then.
pub fn client(socket: &Path) -> Client {
    let socket: PathBuf = socket.to_path_buf();
    // The address is never looked up: the connector knows the socket.
    let channel = Endpoint::from_static("http://engine.invalid").connect_with_connector_lazy(
        tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        }),
    );
    LogClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A status of the data socket as a failure; names the socket where nobody answers.
pub fn failure(socket: &Path, verb: &str, status: &tonic::Status) -> Failure {
    match of_status(verb, status) {
        // What the engine answered came over the socket. Only a failed transport has a cause.
        Failure::Unavailable(message) if status.source().is_none() => Failure::Unavailable(message),
        Failure::Unavailable(message) => Failure::Unavailable(format!(
            "{message}; data socket {} exists only while the engine serves",
            socket.display()
        )),
        other => other,
    }
}

/// The reason's name as the documentation spells it, e.g. `WouldBlockAdmission`.
pub fn reason_name(reason: Reason) -> String {
    reason
        .as_str_name()
        .split('_')
        .map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            first.to_owned() + &rest.to_lowercase()
        })
        .collect()
}

/// A refused append: who may be asked again is unavailable now, the rest is refused.
pub fn refused(refused: &Refused) -> Failure {
    // The message of `NotOwner` has owner and address.
    Failure::Refused(format!(
        "{}: {}",
        reason_name(refused.reason()),
        refused.message
    ))
}

/// Reads from `from` to the durable end, batch by batch.
pub async fn read(
    client: &mut Client,
    request: proto::ReadRequest,
    mut on_batch: impl FnMut(RecordBatch) -> Result<(), Failure>,
) -> Result<(), ReadFailure> {
    let mut batches = client.read(request).await?.into_inner();
    while let Some(batch) = batches.message().await? {
        on_batch(batch).map_err(ReadFailure::Here)?;
    }
    Ok(())
}

/// Of a read that ended at damage, or below the start of its stream: the first sequence behind that is served.
pub fn read_on_from(status: &tonic::Status) -> Option<u64> {
    let told = status.metadata().get(READ_ON_FROM)?;
    told.to_str().ok()?.parse().ok()
}

/// Where a read failed.
#[derive(Debug)]
pub enum ReadFailure {
    Engine(tonic::Status),
    /// On our side of the socket.
    Here(Failure),
}

impl From<tonic::Status> for ReadFailure {
    fn from(status: tonic::Status) -> Self {
        ReadFailure::Engine(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_spelled_as_documented() {
        assert_eq!(
            reason_name(Reason::WouldBlockAdmission),
            "WouldBlockAdmission"
        );
        assert_eq!(reason_name(Reason::NotOwner), "NotOwner");
    }

    #[tokio::test]
    async fn only_a_socket_that_does_not_answer_is_named() {
        let socket = Path::new("/nowhere/data.sock");
        let answered = tonic::Status::unavailable("segment 1 of stream a cannot be read");
        assert!(!text(failure(socket, "read a", &answered)).contains("data.sock"));
        let described = client(socket)
            .describe(proto::DescribeRequest::default())
            .await;
        let status = described.expect_err("no socket");
        assert!(text(failure(socket, "describe", &status)).contains("data.sock"));
    }

    fn text(failure: Failure) -> String {
        format!("{failure:?}")
    }
}
