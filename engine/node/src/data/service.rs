//! The verbs of the data API.

use std::pin::Pin;
use std::sync::Arc;

use aof2_core::{ReadError, StreamInfo};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{append, read, refusal};
use crate::engine::Engine;
use crate::node::Node;
use crate::proto;

pub struct DataService {
    node: Arc<Node>,
    engine: Engine,
}

impl DataService {
    pub fn new(node: Arc<Node>, engine: Engine) -> Self {
        DataService { node, engine }
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
        let answers = append::run(
            self.node.clone(),
            self.engine.store.clone(),
            requests.into_inner(),
        );
        Ok(Response::new(Box::pin(answers)))
    }

    async fn read(
        &self,
        request: Request<proto::ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let batches = read::range(self.engine.store.clone(), request.into_inner())?;
        Ok(Response::new(Box::pin(batches)))
    }

    async fn tail(
        &self,
        request: Request<proto::TailRequest>,
    ) -> Result<Response<Self::TailStream>, Status> {
        let batches = read::tail(self.engine.store.clone(), request.into_inner())?;
        Ok(Response::new(Box::pin(batches)))
    }

    async fn list_streams(
        &self,
        _request: Request<proto::ListStreamsRequest>,
    ) -> Result<Response<proto::ListStreamsResponse>, Status> {
        let streams = self
            .engine
            .store
            .streams()
            .into_iter()
            .map(to_proto)
            .collect();
        Ok(Response::new(proto::ListStreamsResponse { streams }))
    }

    async fn describe(
        &self,
        request: Request<proto::DescribeRequest>,
    ) -> Result<Response<proto::DescribeResponse>, Status> {
        let proto::DescribeRequest {
            stream,
            producer_id,
        } = request.into_inner();
        let info = self
            .engine
            .store
            .describe(&stream)
            .map_err(|error| refusal::of_read(&error))?;
        let store = self.engine.store.clone();
        // May wait for a sync.
        let producers = tokio::task::spawn_blocking(move || {
            let last = match producer_id {
                0 => None,
                id => store.last_producer_seq(&stream, id)?,
            };
            Ok((last, store.producers_forgotten_before(&stream)?))
        });
        let (last_producer_seq, producers_forgotten_before) = producers
            .await
            .map_err(|panicked| Status::internal(panicked.to_string()))?
            .map_err(|error: ReadError| refusal::of_read(&error))?;
        Ok(Response::new(proto::DescribeResponse {
            info: Some(to_proto(info)),
            last_producer_seq,
            producers_forgotten_before,
        }))
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
