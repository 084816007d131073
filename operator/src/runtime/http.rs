//! Probes and metrics, on their own plain listener.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

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
        .route("/readyz", get(ready))
        .route("/metrics", get(encode))
        .layer(from_fn_with_state(Bodies::new(|_| 0), aof2_listen::bodies))
        .with_state(metrics);
    let connections = Connections::of_requests("http");
    Ok(aof2_listen::serve(listener, connections, router))
}

async fn alive() -> (StatusCode, &'static str) {
    (StatusCode::OK, "ok\n")
}

/// A process that waits for the Lease is ready too: it is there to take over. The leader is once it has seen every cluster: before, and where
/// the list cannot be read, nothing is reconciled.
async fn ready(State(metrics): State<Arc<Metrics>>) -> (StatusCode, &'static str) {
    if metrics.leader.get() == 1 && !metrics.is_synced.load(Ordering::Acquire) {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the clusters have not been listed yet\n",
        );
    }
    (StatusCode::OK, "ok\n")
}

async fn encode(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.encode())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_leader_is_ready_once_it_has_seen_every_cluster_and_a_standby_at_once() {
        let metrics = Arc::new(Metrics::default());
        let asked = || ready(State(metrics.clone()));
        assert_eq!(asked().await.0, StatusCode::OK);
        metrics.leader.set(1);
        let (status, why) = asked().await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(why.contains("not been listed"), "{why}");
        metrics.is_synced.store(true, Ordering::Release);
        assert_eq!(asked().await.0, StatusCode::OK);
    }
}
