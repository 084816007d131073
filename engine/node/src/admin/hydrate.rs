//! `hydrate`: copies come back to Tier 0 or Tier 1.

use std::sync::Arc;

use aof2_admin_api::ErrorReason;
use aof2_admin_api::report::HydrationReport;
use aof2_core::tier::{HydrateRefusal, Hydration, LocalTier};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::error::{ApiError, blocking, serving};
use crate::node::Node;

#[derive(Debug, Deserialize)]
pub struct HydrateQuery {
    stream: Option<String>,
    from: Option<u64>,
    to: Option<u64>,
    tier: Option<u8>,
}

#[derive(Debug, Deserialize)]
pub struct StatusQuery {
    id: Option<u64>,
}

pub async fn begin(
    State(node): State<Arc<Node>>,
    Query(HydrateQuery {
        stream,
        from,
        to,
        tier,
    }): Query<HydrateQuery>,
) -> Result<(StatusCode, Json<HydrationReport>), ApiError> {
    let missing = "query parameter stream is missing; add ?stream=<name>";
    let stream = stream.ok_or_else(|| ApiError::bad_request(missing))?;
    let tier = match tier {
        None | Some(1) => LocalTier::Tier1,
        Some(0) => LocalTier::Tier0,
        Some(other) => {
            return Err(ApiError::bad_request(format!(
                "query parameter tier is {other}; set 0 or 1"
            )));
        }
    };
    let plane = serving(&node)?;
    let asked = blocking(move || plane.hydrate(&stream, from.unwrap_or(0), to, tier)).await?;
    Ok((StatusCode::ACCEPTED, Json(report(asked))))
}

pub async fn status(
    State(node): State<Arc<Node>>,
    Query(StatusQuery { id }): Query<StatusQuery>,
) -> Result<Json<HydrationReport>, ApiError> {
    let missing = "query parameter id is missing; add ?id=<id>, as a POST of this path answers it";
    let id = id.ok_or_else(|| ApiError::bad_request(missing))?;
    let plane = serving(&node)?;
    let known = plane.hydration(id).ok_or_else(|| {
        ApiError::new(
            ErrorReason::NotFound,
            format!("hydration {id} is unknown; the engine restarted since, or it ended long ago. `aof2-admin segments` shows which copies there are"),
        )
    })?;
    Ok(Json(report(known)))
}

fn report(hydration: Hydration) -> HydrationReport {
    let Hydration {
        id,
        segments,
        bytes,
        done_segments,
        done_bytes,
        failed_segments,
        failure,
    } = hydration;
    HydrationReport {
        id,
        segments,
        bytes,
        done_segments,
        done_bytes,
        failed_segments,
        failure,
    }
}

impl From<HydrateRefusal> for ApiError {
    fn from(refusal: HydrateRefusal) -> Self {
        let reason = match &refusal {
            HydrateRefusal::UnknownStream { .. } => ErrorReason::NotFound,
            HydrateRefusal::NoTier2 | HydrateRefusal::NothingThere { .. } => {
                ErrorReason::BadRequest
            }
            HydrateRefusal::TooLarge { .. } | HydrateRefusal::Busy => ErrorReason::Conflict,
        };
        ApiError::new(reason, refusal.to_string())
    }
}
