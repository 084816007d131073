//! `compact`: small segments are merged now.

use std::sync::Arc;

use aof2_admin_api::ErrorReason;
use aof2_admin_api::report::CompactionRunReport;
use aof2_core::compaction::{CompactionRefusal, CompactionRun};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::error::{ApiError, serving};
use crate::node::Node;

#[derive(Debug, Deserialize)]
pub struct CompactQuery {
    stream: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct StatusQuery {
    id: Option<u64>,
}

pub async fn begin(
    State(node): State<Arc<Node>>,
    Query(CompactQuery { stream }): Query<CompactQuery>,
) -> Result<(StatusCode, Json<CompactionRunReport>), ApiError> {
    let asked = serving(&node)?.compact(stream.as_deref())?;
    Ok((StatusCode::ACCEPTED, Json(report(asked))))
}

pub async fn status(
    State(node): State<Arc<Node>>,
    Query(StatusQuery { id }): Query<StatusQuery>,
) -> Result<Json<CompactionRunReport>, ApiError> {
    let missing = "query parameter id is missing; add ?id=<id>, as a POST of this path answers it";
    let id = id.ok_or_else(|| ApiError::bad_request(missing))?;
    let known = serving(&node)?.compaction_run(id).ok_or_else(|| {
        ApiError::new(
            ErrorReason::NotFound,
            format!("compaction {id} is unknown; the engine restarted since, or it ended long ago. `aof2-admin segments` shows which segments there are"),
        )
    })?;
    Ok(Json(report(known)))
}

fn report(run: CompactionRun) -> CompactionRunReport {
    let CompactionRun {
        id,
        stream,
        has_ended,
        inputs,
        outputs,
        read_bytes,
        written_bytes,
        failures,
        failure,
        end,
    } = run;
    CompactionRunReport {
        id,
        stream: stream.map(|stream| stream.to_string()),
        has_ended,
        inputs,
        outputs,
        read_bytes,
        written_bytes,
        failures,
        failure,
        end,
    }
}

impl From<CompactionRefusal> for ApiError {
    fn from(refusal: CompactionRefusal) -> Self {
        let reason = match &refusal {
            CompactionRefusal::UnknownStream { .. } => ErrorReason::NotFound,
            CompactionRefusal::Busy => ErrorReason::Conflict,
        };
        ApiError::new(reason, refusal.to_string())
    }
}
