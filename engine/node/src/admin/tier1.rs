//! What lies in Tier 1: looked at, verified, compressed again.

use std::sync::Arc;

use aof2_admin_api::ErrorReason;
use aof2_admin_api::tier1::{Tier1Stats, Tier1Work};
use aof2_core::pattern;
use aof2_core::tier::{LocalKind, LocalRefusal};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::error::{ApiError, blocking, serving};
use crate::node::Node;
use crate::tier1;

#[derive(Debug, Deserialize)]
pub struct Wanted {
    /// A pattern.
    stream: Option<String>,
    level: Option<i32>,
}

#[derive(Debug, Deserialize)]
pub struct OfWork {
    id: Option<u64>,
}

fn checked(stream: Option<String>) -> Result<Option<String>, ApiError> {
    let Some(pattern) = stream else {
        return Ok(None);
    };
    match pattern::problem(&pattern) {
        None => Ok(Some(pattern)),
        Some(problem) => Err(ApiError::bad_request(format!(
            "query parameter stream = {pattern:?} is no pattern of stream names; {problem}"
        ))),
    }
}

pub async fn stats(
    State(node): State<Arc<Node>>,
    Query(Wanted { stream, level: _ }): Query<Wanted>,
) -> Result<Json<Tier1Stats>, ApiError> {
    let streams = checked(stream)?;
    let plane = serving(&node)?;
    let reading = node.reading(move || plane.local().stats(streams.as_deref()));
    let (found, inventory) = reading.await.map_err(ApiError::internal)??;
    Ok(Json(tier1::stats(found, &inventory)))
}

pub async fn verify(
    State(node): State<Arc<Node>>,
    Query(Wanted { stream, level: _ }): Query<Wanted>,
) -> Result<(StatusCode, Json<Tier1Work>), ApiError> {
    begin(&node, LocalKind::Verify, stream).await
}

pub async fn recompress(
    State(node): State<Arc<Node>>,
    Query(Wanted { stream, level }): Query<Wanted>,
) -> Result<(StatusCode, Json<Tier1Work>), ApiError> {
    let configured = serving(&node)?.store.config().tier1.compression_level;
    let level = level.unwrap_or(configured);
    begin(&node, LocalKind::Recompress { level }, stream).await
}

async fn begin(
    node: &Node,
    kind: LocalKind,
    stream: Option<String>,
) -> Result<(StatusCode, Json<Tier1Work>), ApiError> {
    let streams = checked(stream)?;
    let plane = serving(node)?;
    let begun = blocking(move || plane.local().begin(kind, streams.as_deref())).await?;
    Ok((StatusCode::ACCEPTED, Json(tier1::work(&begun))))
}

pub async fn status(
    State(node): State<Arc<Node>>,
    Query(OfWork { id }): Query<OfWork>,
) -> Result<Json<Tier1Work>, ApiError> {
    let missing = "query parameter id is missing; add ?id=<id>, as a POST of this path answers it";
    let id = id.ok_or_else(|| ApiError::bad_request(missing))?;
    let known = serving(&node)?.local().status(id).ok_or_else(|| {
        ApiError::new(
            ErrorReason::NotFound,
            format!("request {id} about the files in Tier 1 is unknown; the engine restarted since, or it ended long ago. Begin it again: it continues where it was"),
        )
    })?;
    Ok(Json(tier1::work(&known)))
}

impl From<LocalRefusal> for ApiError {
    fn from(refusal: LocalRefusal) -> Self {
        let reason = match &refusal {
            LocalRefusal::Level { .. } | LocalRefusal::NoTier2 => ErrorReason::BadRequest,
            LocalRefusal::NoStream { .. } => ErrorReason::NotFound,
            LocalRefusal::Busy { .. } => ErrorReason::Conflict,
            LocalRefusal::Unreadable { .. } => ErrorReason::Internal,
            LocalRefusal::Stopping => ErrorReason::NotServing,
        };
        ApiError::new(reason, refusal.to_string())
    }
}
