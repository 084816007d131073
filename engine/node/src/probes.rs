//! `/livez`, `/readyz` and `/metrics` on their own plain listener, from the first moment on.
//!
//! Alive means: the store, once it is open, is neither poisoned nor without one of its threads. Ready means: that, recovery is done
//! and the data socket answers. Neither Tier 2 nor a drain nor a full disk makes an engine unready,
//! for a sidecar's readiness is its pod's.

use std::sync::Arc;

use aof2_admin_api::path;
use aof2_listen::Bodies;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::node::{Node, Phase};
use crate::{data, metrics};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route(path::LIVEZ, get(livez))
        .route(path::READYZ, get(readyz))
        .route(path::METRICS, get(scrape))
        .layer(from_fn_with_state(Bodies::new(|_| 0), aof2_listen::bodies))
        .with_state(node)
}

async fn livez(State(node): State<Arc<Node>>) -> Response {
    answer(not_alive(&node))
}

async fn readyz(State(node): State<Arc<Node>>) -> Response {
    answer(not_ready(&node).await)
}

fn answer(trouble: Option<String>) -> Response {
    match trouble {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

/// Why only a new process can go on; `None` as long as this one may.
fn not_alive(node: &Node) -> Option<String> {
    match &*node.phase() {
        Phase::Serving(plane) => plane.store.failure(),
        Phase::Recovering(_) | Phase::Refused(_) | Phase::Closed => None,
    }
}

/// Why this engine is not ready; `None` when it is.
pub async fn not_ready(node: &Node) -> Option<String> {
    match &*node.phase() {
        Phase::Recovering(progress) => Some(format!(
            "recovering, {:.0} % of the bytes replayed",
            progress.fraction() * 100.0
        )),
        Phase::Refused(refusal) => Some(format!("{}: {}", refusal.reason, refusal.message)),
        Phase::Closed => Some("engine is shutting down".to_string()),
        Phase::Serving(plane) => {
            if let Some(failure) = plane.store.failure() {
                return Some(failure);
            }
            let socket = node.config.settings().listen.data_socket;
            if data::answers(&socket).await {
                None
            } else {
                Some(format!("data socket {} does not answer", socket.display()))
            }
        }
    }
}

pub async fn scrape(State(node): State<Arc<Node>>) -> Response {
    let read = node.clone();
    let encoded = node.reading(move || metrics::encode(&read).map_err(|error| error.to_string()));
    match encoded.await.and_then(|encoded| encoded) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("cannot encode metrics: {error}\n"),
        )
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Mode};
    use crate::data_plane;
    use crate::data_plane::Progress;

    /// The listeners answer on: it is the store that is asked.
    #[tokio::test]
    async fn an_engine_without_one_of_its_threads_is_neither_alive_nor_ready() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!(
            "[storage]\ndirectory = {:?}\n[journal]\nfile_bytes = 4194304\nfiles = 3\n[checkpoint]\njournal_bytes = 4194304\n",
            folder.path().join("data")
        );
        let settings = config::parse("aof2.toml", &text, Mode::StandAlone).expect("valid");
        let plane = data_plane::open(&settings, Arc::<Progress>::default());
        let plane = plane.unwrap_or_else(|failure| panic!("{failure:?}"));
        let node = Node::new("0.0.0", settings);
        node.enter(Phase::Serving(plane.clone()));
        assert_eq!(not_alive(&node), None);

        let panics = || panic!("an invariant does not hold");
        let thread = plane.store.environment().spawn("test", panics);
        thread.expect("starts").join().expect("the panic is caught");
        let why = "thread aof2-test panicked: an invariant does not hold";
        assert_eq!(not_alive(&node).as_deref(), Some(why));
        assert_eq!(not_ready(&node).await.as_deref(), Some(why));
    }
}
