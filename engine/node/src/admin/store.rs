//! Verbs on streams and tiers.

use std::sync::Arc;

use aof2_admin_api::ErrorReason;
use aof2_admin_api::report::{SegmentReport, StreamReport, StreamVerbReport, Tier2Report};
use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;

use super::error::{ApiError, blocking, serving};
use crate::data_plane::tier2_reason;
use crate::node::Node;
use crate::report;

#[derive(Debug, Deserialize)]
pub struct OfStream {
    pub stream: Option<String>,
}

pub async fn streams(State(node): State<Arc<Node>>) -> Result<Json<Vec<StreamReport>>, ApiError> {
    let store = serving(&node)?.store;
    let reading = node.reading(move || report::streams(&store)).await;
    reading.map(Json).map_err(ApiError::internal)
}

pub async fn segments(
    State(node): State<Arc<Node>>,
    Query(OfStream { stream }): Query<OfStream>,
) -> Result<Json<Vec<SegmentReport>>, ApiError> {
    let store = serving(&node)?.store;
    let reading = node.reading(move || report::segments(&store, stream.as_deref()));
    Ok(Json(reading.await.map_err(ApiError::internal)??))
}

pub async fn seal(
    State(node): State<Arc<Node>>,
    Query(OfStream { stream }): Query<OfStream>,
) -> Result<Json<StreamVerbReport>, ApiError> {
    let plane = serving(&node)?;
    let streams = blocking(move || plane.seal(stream.as_deref())).await?;
    Ok(Json(StreamVerbReport { streams }))
}

pub async fn flush(State(node): State<Arc<Node>>) -> Result<Json<StreamVerbReport>, ApiError> {
    let plane = serving(&node)?;
    let streams = blocking(move || plane.store.flush()).await?;
    Ok(Json(StreamVerbReport { streams }))
}

/// The verdict is in the report: a store that fails the probe is an answer, not an error of this verb.
pub async fn tier2_probe(State(node): State<Arc<Node>>) -> Result<Json<Tier2Report>, ApiError> {
    let plane = serving(&node)?;
    let Some(tier2) = plane.tier2.clone() else {
        return Err(ApiError::new(
            ErrorReason::NotFound,
            "this engine has no Tier 2; set spec.tier2 of the Aof2Cluster",
        ));
    };
    blocking(move || {
        let verdict = tier2.probe();
        let mut report = report::tier2(&plane).unwrap_or_default();
        if let Err(error) = verdict {
            report.reason = Some(tier2_reason(error.reason()));
            report.message = Some(error.to_string());
        }
        Ok::<_, ApiError>(Json(report))
    })
    .await
}
