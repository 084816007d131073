//! Verbs around a restart.

use std::sync::Arc;
use std::time::Duration;

use aof2_admin_api::{DrainStatus, PostRestart, PreRestart};
use aof2_core::drain::DrainRequest;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::error::{ApiError, blocking, serving};
use crate::config::parse_duration;
use crate::data_plane::DataPlane;
use crate::node::Node;
use crate::report;
use crate::shutdown::Reason;

/// Defaults of a drain that names no bounds; the operator's are in its resource.
const TTL: Duration = Duration::from_secs(60);
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(600);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize)]
pub struct DrainQuery {
    ttl: Option<String>,
    upload_timeout: Option<String>,
    drain_timeout: Option<String>,
    /// Names of damaged streams that it does not wait for, with commas between.
    without: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct RestartQuery {
    /// Of the process that is meant, as it says itself; any where there is none.
    process_start: Option<String>,
}

pub async fn pre_restart(State(node): State<Arc<Node>>) -> Result<Json<PreRestart>, ApiError> {
    let report = report::pre_restart(&node).await;
    report.map(Json).map_err(ApiError::internal)
}

pub async fn post_restart(State(node): State<Arc<Node>>) -> Result<Json<PostRestart>, ApiError> {
    let report = report::post_restart(&node).await;
    report.map(Json).map_err(ApiError::internal)
}

pub async fn drain(
    State(node): State<Arc<Node>>,
    Query(DrainQuery {
        ttl,
        upload_timeout,
        drain_timeout,
        without,
    }): Query<DrainQuery>,
) -> Result<(StatusCode, Json<DrainStatus>), ApiError> {
    let request = DrainRequest {
        ttl: duration("ttl", ttl, TTL)?,
        upload_timeout: duration("upload_timeout", upload_timeout, UPLOAD_TIMEOUT)?,
        drain_timeout: duration("drain_timeout", drain_timeout, DRAIN_TIMEOUT)?,
    };
    let plane = serving(&node)?;
    if let Some(names) = without {
        let streams = names.split(',').map(Arc::from).collect();
        let drained = plane.clone();
        let left_out = move || drained.leave_out(streams);
        blocking(left_out).await?;
    }
    let status = of_drain(plane, move |plane| plane.begin_drain(request)).await?;
    Ok((StatusCode::ACCEPTED, status))
}

pub async fn drain_status(State(node): State<Arc<Node>>) -> Result<Json<DrainStatus>, ApiError> {
    of_drain(serving(&node)?, DataPlane::drain_status).await
}

pub async fn resume(State(node): State<Arc<Node>>) -> Result<Json<DrainStatus>, ApiError> {
    of_drain(serving(&node)?, DataPlane::resume).await
}

/// Sealing and uploading go on behind.
pub async fn pre_stop(State(node): State<Arc<Node>>) -> Result<Json<DrainStatus>, ApiError> {
    let told = |plane: &DataPlane| {
        plane.pod_terminates();
        plane.drain_status()
    };
    of_drain(serving(&node)?, told).await
}

/// Each looks at every stream under its lock, which is held while a slow disk is asked for blocks.
async fn of_drain(
    plane: DataPlane,
    verb: impl FnOnce(&DataPlane) -> DrainStatus + Send + 'static,
) -> Result<Json<DrainStatus>, ApiError> {
    blocking(move || Ok::<_, ApiError>(Json(verb(&plane)))).await
}

/// The answer leaves before the process does, most of the time; a caller that sees the connection break may take it as done, or ask
/// again: where it names the process that it means, the next one does not go.
pub async fn restart(
    State(node): State<Arc<Node>>,
    Query(RestartQuery { process_start }): Query<RestartQuery>,
) -> StatusCode {
    let ours = node.process_start.to_string();
    if let Some(meant) = process_start.filter(|meant| *meant != ours) {
        tracing::info!(
            meant,
            ours,
            "restart request ignored, the engine already restarted"
        );
        return StatusCode::OK;
    }
    node.shutdown.request(Reason::RestartVerb);
    StatusCode::ACCEPTED
}

fn duration(name: &str, text: Option<String>, otherwise: Duration) -> Result<Duration, ApiError> {
    let Some(text) = text else {
        return Ok(otherwise);
    };
    parse_duration(&text).ok_or_else(|| {
        ApiError::bad_request(format!(
            "{name} = {text:?} is not a duration; use a value such as \"30s\""
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use super::*;
    use crate::admin::store;
    use crate::config::{self, Mode};
    use crate::data_plane;
    use crate::data_plane::Progress;
    use crate::node::Phase;

    fn serving_node(directory: &std::path::Path) -> Arc<Node> {
        let text = format!(
            "[storage]\ndirectory = {:?}\n[journal]\nfile_bytes = 4194304\nfiles = 3\n[checkpoint]\njournal_bytes = 4194304\n",
            directory.join("data")
        );
        let settings = config::parse("aof2.toml", &text, Mode::StandAlone).expect("valid");
        let plane = data_plane::open(&settings, Arc::<Progress>::default());
        let plane = plane.unwrap_or_else(|failure| panic!("{failure:?}"));
        let node = Arc::new(Node::new("0.0.0", settings));
        node.enter(Phase::Serving(plane));
        node
    }

    /// With the only thread for such work taken, a verb that did it in place would be done at once.
    #[test]
    fn verbs_and_reports_take_no_locks_on_the_threads_that_serve_connections() {
        let folder = tempfile::tempdir().expect("a folder");
        let node = serving_node(folder.path());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (done, is_done) = mpsc::channel::<()>();
            // Ends when the sender is dropped.
            tokio::task::spawn_blocking(move || is_done.recv());
            let query = Query(DrainQuery {
                ttl: None,
                upload_timeout: None,
                drain_timeout: None,
                without: None,
            });
            let mut begun = pin!(drain(State(node.clone()), query));
            let mut status = pin!(drain_status(State(node.clone())));
            let mut resumed = pin!(resume(State(node.clone())));
            let mut told = pin!(pre_stop(State(node.clone())));
            let context = &mut Context::from_waker(Waker::noop());
            assert!(begun.as_mut().poll(context).is_pending());
            assert!(status.as_mut().poll(context).is_pending());
            assert!(resumed.as_mut().poll(context).is_pending());
            assert!(told.as_mut().poll(context).is_pending());
            let of_all = || Query(store::OfStream { stream: None });
            let mut streams = pin!(store::streams(State(node.clone()), Query::default()));
            let mut segments = pin!(store::segments(State(node.clone()), of_all()));
            let mut scraped = pin!(crate::probes::scrape(State(node.clone())));
            assert!(streams.as_mut().poll(context).is_pending());
            assert!(segments.as_mut().poll(context).is_pending());
            assert!(scraped.as_mut().poll(context).is_pending());
            drop(done);
            assert!(streams.await.is_ok());
            assert!(segments.await.is_ok());
            assert_eq!(scraped.await.status(), StatusCode::OK);
            assert!(begun.await.is_ok());
            assert!(status.await.is_ok());
            assert!(resumed.await.is_ok());
            assert!(told.await.is_ok());
        });
    }
}
