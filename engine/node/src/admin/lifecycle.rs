//! Verbs around a restart.

use std::sync::Arc;
use std::time::Duration;

use aof2_admin_api::{DrainStatus, PostRestart, PreRestart};
use aof2_core::drain::DrainRequest;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::error::{ApiError, serving};
use crate::config::parse_duration;
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
}

pub async fn pre_restart(State(node): State<Arc<Node>>) -> Json<PreRestart> {
    Json(report::pre_restart(&node).await)
}

pub async fn post_restart(State(node): State<Arc<Node>>) -> Json<PostRestart> {
    Json(report::post_restart(&node).await)
}

pub async fn drain(
    State(node): State<Arc<Node>>,
    Query(DrainQuery {
        ttl,
        upload_timeout,
        drain_timeout,
    }): Query<DrainQuery>,
) -> Result<(StatusCode, Json<DrainStatus>), ApiError> {
    let request = DrainRequest {
        ttl: duration("ttl", ttl, TTL)?,
        upload_timeout: duration("upload_timeout", upload_timeout, UPLOAD_TIMEOUT)?,
        drain_timeout: duration("drain_timeout", drain_timeout, DRAIN_TIMEOUT)?,
    };
    let engine = serving(&node)?;
    Ok((StatusCode::ACCEPTED, Json(engine.begin_drain(request))))
}

pub async fn drain_status(State(node): State<Arc<Node>>) -> Result<Json<DrainStatus>, ApiError> {
    Ok(Json(serving(&node)?.drain_status()))
}

pub async fn resume(State(node): State<Arc<Node>>) -> Result<Json<DrainStatus>, ApiError> {
    Ok(Json(serving(&node)?.resume()))
}

/// Answers at once; sealing and uploading go on behind.
pub async fn pre_stop(State(node): State<Arc<Node>>) -> Result<Json<DrainStatus>, ApiError> {
    let engine = serving(&node)?;
    engine.pod_terminates();
    Ok(Json(engine.drain_status()))
}

/// The answer leaves before the process does, most of the time; a caller that sees the connection break may take it as done.
pub async fn restart(State(node): State<Arc<Node>>) -> StatusCode {
    node.shutdown.request(Reason::RestartVerb);
    StatusCode::ACCEPTED
}

fn duration(name: &str, text: Option<String>, otherwise: Duration) -> Result<Duration, ApiError> {
    let Some(text) = text else {
        return Ok(otherwise);
    };
    parse_duration(&text).ok_or_else(|| {
        ApiError::bad_request(format!("{name} = {text:?} is no duration, such as \"30s\""))
    })
}
