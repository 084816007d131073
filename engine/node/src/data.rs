//! The data API: gRPC on the Unix socket that the pod's containers share.

mod append;
mod authority;
mod budget;
mod calls;
mod frames;
mod framing;
mod intake;
mod order;
mod question;
mod read;
mod refusal;
mod service;
mod socket;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::{Endpoint, Server, Uri};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::util::MapRequestLayer;

use crate::data_plane::DataPlane;
use crate::node::Node;
use crate::proto::log_server::LogServer;
use crate::proto::{DESCRIPTORS, MAX_MESSAGE_BYTES};

/// How long a probe waits for the socket's answer.
const CHECK_LIMIT: Duration = Duration::from_secs(1);

const STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// Of all its calls: one that waits for memory holds up no other of its connection.
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * calls::MAX_CALLS_PER_CONNECTION;

/// Serves until the process ends.
pub async fn serve(
    node: Arc<Node>,
    plane: DataPlane,
    listener: UnixListener,
) -> Result<(), ServeError> {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let log = LogServer::new(service::DataService::new(node.clone(), plane))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    health_reporter
        .set_serving::<LogServer<service::DataService>>()
        .await;
    Server::builder()
        .max_concurrent_streams(calls::MAX_CALLS_PER_CONNECTION)
        .http2_max_header_list_size(u32::try_from(aof2_listen::HEADER_BYTES).ok())
        .layer(calls::CallLimit::default())
        .layer(MapRequestLayer::new(question::limit))
        .layer(intake::Intake::default())
        // What a connection may hold that no call has taken. A socket of this machine fills it again at once.
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_service(health)
        .add_service(reflection().build_v1()?)
        // What older libraries and tools ask for, grpcio's among them.
        .add_service(reflection().build_v1alpha()?)
        .add_service(log)
        .serve_with_incoming(socket::incoming(node, listener))
        .await?;
    Ok(())
}

/// Why the data API is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("invalid description of the data API")]
    Descriptors(#[from] tonic_reflection::server::Error),
    #[error("data socket failed")]
    Transport(#[from] tonic::transport::Error),
}

/// Whether the socket answers a health check.
pub async fn answers(socket: &Path) -> bool {
    let check = async {
        let socket = socket.to_path_buf();
        // The address is never used: the connector dials the socket.
        let channel = Endpoint::from_static("http://engine.invalid")
            .connect_with_connector(tower::service_fn(move |_: Uri| {
                let socket = socket.clone();
                async move { UnixStream::connect(socket).await.map(TokioIo::new) }
            }))
            .await
            .ok()?;
        let request = HealthCheckRequest {
            service: "aof2.v1.Log".to_string(),
        };
        let answer = HealthClient::new(channel)
            .check(request)
            .await
            .ok()?
            .into_inner();
        Some(answer.status() == tonic_health::pb::health_check_response::ServingStatus::Serving)
    };
    matches!(
        tokio::time::timeout(CHECK_LIMIT, check).await,
        Ok(Some(true))
    )
}
