//! Probes and metrics, on their own plain listener.

use std::{net::SocketAddr, sync::Arc};

use aof2_listen::{Bodies, Connections};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    middleware::from_fn_with_state,
    response::IntoResponse,
    routing::get,
};

use crate::runtime::metrics::{CONTENT_TYPE, Metrics};

/// Listens before it returns, so that a taken port is an error of the start.
pub async fn serve(
    address: SocketAddr,
    metrics: Arc<Metrics>,
) -> std::io::Result<impl Future<Output = ()>> {
    let listener = aof2_listen::bind(address).await?;
    let router = Router::new()
        .route("/livez", get(alive))
        // A process that waits for the Lease is ready too: it is there to take over.
        .route("/readyz", get(alive))
        .route("/metrics", get(encode))
        .layer(from_fn_with_state(Bodies::new(|_| 0), aof2_listen::bodies))
        .with_state(metrics);
    let connections = Connections::of_requests("http");
    Ok(aof2_listen::serve(
        listener,
        connections,
        async |stream| Some(stream),
        router,
    ))
}

async fn alive() -> (StatusCode, &'static str) {
    (StatusCode::OK, "ok\n")
}

async fn encode(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.encode())
}
