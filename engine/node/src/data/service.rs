//! The verbs of the data API.

use std::pin::Pin;
use std::sync::Arc;

use aof2_core::{ReadError, StreamInfo};
use aof2_format::start_sequence::StartReason;
use aof2_listen::Peer;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::budget::Budget;
use super::intake::Source;
use super::{append, read, refusal};
use crate::data_plane::DataPlane;
use crate::node::Node;
use crate::proto;
use crate::telemetry::AUDIT;

/// An answer stays at about 1 MiB.
const STREAMS_PER_ANSWER: usize = 8192;

pub struct DataService {
    node: Arc<Node>,
    plane: DataPlane,
    readers: Budget,
}

impl DataService {
    pub fn new(node: Arc<Node>, plane: DataPlane) -> Self {
        DataService {
            node,
            plane,
            readers: Budget::default(),
        }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl proto::log_server::Log for DataService {
    type AppendStream = Answers<proto::AppendResponse>;
    type ReadStream = Answers<proto::RecordBatch>;
    type TailStream = Answers<proto::RecordBatch>;

    async fn append(
        &self,
        requests: Request<Streaming<proto::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let Some(source) = requests.extensions().get::<Source>().cloned() else {
            return Err(Status::internal("the call came past the limits of memory"));
        };
        let answers = append::run(
            self.node.clone(),
            self.plane.store.clone(),
            source,
            requests.into_inner(),
        );
        Ok(Response::new(Box::pin(answers)))
    }

    async fn read(
        &self,
        request: Request<proto::ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let batches = read::range(
            &self.readers,
            self.plane.store.clone(),
            request.into_inner(),
        )?;
        Ok(Response::new(Box::pin(batches)))
    }

    async fn tail(
        &self,
        request: Request<proto::TailRequest>,
    ) -> Result<Response<Self::TailStream>, Status> {
        let batches = read::tail(
            &self.readers,
            self.plane.store.clone(),
            request.into_inner(),
        )?;
        Ok(Response::new(Box::pin(batches)))
    }

    async fn list_streams(
        &self,
        request: Request<proto::ListStreamsRequest>,
    ) -> Result<Response<proto::ListStreamsResponse>, Status> {
        let proto::ListStreamsRequest { after } = request.into_inner();
        let store = self.plane.store.clone();
        let reading = self.node.reading(move || store.streams()).await;
        let streams = reading.map_err(Status::internal)?;
        Ok(Response::new(page(streams, &after, STREAMS_PER_ANSWER)))
    }

    async fn describe(
        &self,
        request: Request<proto::DescribeRequest>,
    ) -> Result<Response<proto::DescribeResponse>, Status> {
        let proto::DescribeRequest {
            stream,
            producer_id,
        } = request.into_inner();
        let store = self.plane.store.clone();
        // May wait for a sync.
        let reading = self.node.reading(move || {
            let info = store.describe(&stream)?;
            let last = match producer_id {
                0 => None,
                id => store.last_producer_seq(&stream, id)?,
            };
            Ok((info, last, store.producers_forgotten_before(&stream)?))
        });
        let (info, last_producer_seq, producers_forgotten_before) = reading
            .await
            .map_err(Status::internal)?
            .map_err(|error: ReadError| refusal::of_read(&error))?;
        Ok(Response::new(proto::DescribeResponse {
            info: Some(to_proto(info)),
            last_producer_seq,
            producers_forgotten_before,
        }))
    }

    async fn trim(
        &self,
        request: Request<proto::TrimRequest>,
    ) -> Result<Response<proto::TrimResponse>, Status> {
        let peer = request.extensions().get::<Peer>().copied();
        let caller = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        let proto::TrimRequest { stream, before } = request.into_inner();
        let store = self.plane.store.clone();
        // Also where the client goes before it has its answer: it is done all the same.
        let trimming = tokio::task::spawn_blocking(move || {
            let trimmed = store.trim(&stream, before, StartReason::Trim);
            let why = trimmed.as_ref().err().map(ToString::to_string);
            let outcome = if why.is_none() { "done" } else { "refused" };
            let arguments = format!("stream={stream}&before={before}");
            tracing::info!(target: AUDIT, verb = "trim", caller, arguments, outcome, why, "data verb");
            trimmed
        });
        let trim = trimming
            .await
            .map_err(|panicked| Status::internal(panicked.to_string()))?
            .map_err(|error| refusal::of_trim(&error))?;
        Ok(Response::new(proto::TrimResponse {
            first_sequence: trim.first_sequence,
        }))
    }
}

/// `streams` are ordered by name.
fn page(streams: Vec<StreamInfo>, after: &str, limit: usize) -> proto::ListStreamsResponse {
    let mut streams = streams.into_iter().skip_while(|info| *info.name <= *after);
    let page: Vec<proto::StreamInfo> = streams.by_ref().take(limit).map(to_proto).collect();
    let last = page.last().filter(|_| streams.next().is_some());
    let next = last.map_or_else(String::new, |info| info.name.clone());
    proto::ListStreamsResponse {
        streams: page,
        next,
    }
}

fn to_proto(info: StreamInfo) -> proto::StreamInfo {
    proto::StreamInfo {
        name: info.name.to_string(),
        first_sequence: info.first_sequence,
        durable_sequence: info.durable_sequence,
        next_sequence: info.next_sequence,
        sealed_sequence: info.sealed_sequence,
        uploaded_sequence: info.uploaded_sequence,
    }
}

#[cfg(test)]
mod tests {
    use aof2_core::ClaimState;
    use prost::Message;

    use super::*;

    fn stream(name: &str) -> StreamInfo {
        StreamInfo {
            name: name.into(),
            epoch: 1,
            first_sequence: u64::MAX,
            next_sequence: u64::MAX,
            durable_sequence: u64::MAX,
            sealed_sequence: u64::MAX,
            uploaded_sequence: u64::MAX,
            segments: 1,
            bytes: 1,
            damage: None,
            damaged_ranges: Vec::new(),
            claim: ClaimState::Local,
        }
    }

    #[test]
    fn pages_of_streams_lack_none_and_repeat_none() {
        let names = ["a", "b", "c", "d", "e"];
        for limit in 1..7 {
            let (mut listed, mut after) = (Vec::new(), String::new());
            loop {
                let answer = page(names.map(stream).to_vec(), &after, limit);
                listed.extend(answer.streams.into_iter().map(|info| info.name));
                after = answer.next;
                if after.is_empty() {
                    break;
                }
            }
            assert_eq!(listed, names, "{limit}");
        }
    }

    #[test]
    fn an_answer_is_a_message_that_any_client_takes() {
        let name = "n".repeat(63);
        let streams = vec![stream(&name); 2 * STREAMS_PER_ANSWER];
        let answer = page(streams, "", STREAMS_PER_ANSWER);
        assert!(answer.encoded_len() < 2 << 20, "{}", answer.encoded_len());
        assert_eq!(answer.next, name);
    }
}
