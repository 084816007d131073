//! Probes and metrics, on their own plain listener.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use crate::runtime::metrics::{CONTENT_TYPE, Metrics};

/// Listens before it returns, so that a taken port is an error of the start.
pub async fn serve(
    address: SocketAddr,
    metrics: Arc<Metrics>,
) -> std::io::Result<impl Future<Output = std::io::Result<()>>> {
    let listener = TcpListener::bind(address).await?;
    let router = Router::new()
        .route("/livez", get(alive))
        // A process that waits for the Lease is ready too: it is there to take over.
        .route("/readyz", get(alive))
        .route("/metrics", get(encode))
        .with_state(metrics);
    Ok(axum::serve(listener, router).into_future())
}

async fn alive() -> (StatusCode, &'static str) {
    (StatusCode::OK, "ok\n")
}

async fn encode(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.encode())
}
