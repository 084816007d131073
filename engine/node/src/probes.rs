//! `/livez`, `/readyz` and `/metrics` on their own plain listener, from the first moment on.
//!
//! Ready means: recovery is done and the data socket answers. Neither Tier 2 nor a drain nor a full disk makes an engine unready,
//! for a sidecar's readiness is its pod's.

use std::sync::Arc;

use aof2_admin_api::path;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::node::{Node, Phase};
use crate::{data, metrics};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route(path::LIVEZ, get(|| async { "ok\n" }))
        .route(path::READYZ, get(readyz))
        .route(path::METRICS, get(scrape))
        .with_state(node)
}

async fn readyz(State(node): State<Arc<Node>>) -> Response {
    match not_ready(&node).await {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

/// Why this engine is not ready; `None` when it is.
pub async fn not_ready(node: &Node) -> Option<String> {
    match &*node.phase() {
        Phase::Recovering(progress) => Some(format!(
            "recovering: {:.0} % of the bytes are replayed",
            progress.fraction() * 100.0
        )),
        Phase::Refused(refusal) => Some(format!("{}: {}", refusal.reason, refusal.message)),
        Phase::Closed => Some("this process ends".to_string()),
        Phase::Serving(_) => {
            let socket = node.config.settings().listen.data_socket;
            if data::answers(&socket).await {
                None
            } else {
                Some(format!(
                    "the data socket {} does not answer",
                    socket.display()
                ))
            }
        }
    }
}

async fn scrape(State(node): State<Arc<Node>>) -> Response {
    match metrics::encode(&node) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("cannot encode metrics: {error}\n"),
        )
            .into_response(),
    }
}
