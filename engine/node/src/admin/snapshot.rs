//! Verbs about snapshots.

use std::sync::Arc;

use aof2_admin_api::path::NEXT_HEADER;
use aof2_admin_api::{
    ErrorReason, SegmentDeleteNote, SnapshotDeleteReport, SnapshotIndex, SnapshotIndexDeleteReport,
    SnapshotIndexReport, SnapshotLevel, SnapshotReport, SnapshotVerdict,
};
use aof2_core::deletion::{SnapshotDeleted, delete_index as delete_index_of};
use aof2_core::objects::{ObjectError, Tier2};
use aof2_core::snapshot::index::{IndexError, read_index, read_index_part};
use aof2_core::snapshot::verify::VerifyError;
use aof2_core::snapshot::{LookupError, SnapshotRequest};
use aof2_format::StreamName;
use aof2_format::names::IndexName;
use aof2_format::snapshot::{MAX_REQUEST_BYTES, SnapshotId};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::error::{ApiError, blocking, serving};
use super::pages::{IndexPart, PageQuery};
use crate::data_plane::{AskError, Asked, DataPlane};
use crate::node::Node;

#[derive(Debug, Deserialize)]
pub struct BeginQuery {
    stream: Option<String>,
    request: Option<String>,
    seal: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct ListQuery {
    stream: Option<String>,
    /// Those of one request alone, at most one per stream: all that are kept are too many for one answer.
    request: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct VerifyQuery {
    level: Option<String>,
    /// What the catalogue's bytes should give.
    digest: Option<String>,
    /// Who asks for L2, which goes on between two questions.
    request: Option<String>,
}

pub async fn begin(
    State(node): State<Arc<Node>>,
    Query(BeginQuery {
        stream,
        request,
        seal,
    }): Query<BeginQuery>,
) -> Result<(StatusCode, Json<SnapshotReport>), ApiError> {
    let Some(stream) = stream else {
        return Err(ApiError::bad_request(
            "query parameter stream is missing; add ?stream=<name>",
        ));
    };
    let request = request_name(request)?;
    let seals = match seal.as_deref() {
        None | Some("IfDirty") => true,
        Some("Never") => false,
        Some(other) => {
            return Err(ApiError::bad_request(format!(
                "seal {other:?} is invalid; use \"IfDirty\" or \"Never\""
            )));
        }
    };
    let plane = serving(&node)?;
    let request = SnapshotRequest {
        stream,
        request,
        seals,
    };
    let report = blocking(move || plane.begin_snapshot(request)).await?;
    Ok((StatusCode::ACCEPTED, Json(report)))
}

pub async fn list(
    State(node): State<Arc<Node>>,
    Query(ListQuery { stream, request }): Query<ListQuery>,
    Query(page): Query<PageQuery>,
) -> Result<Response, ApiError> {
    let plane = serving(&node)?;
    let listed = blocking(move || plane.snapshots(stream.as_deref(), request.as_deref())).await?;
    Ok(page.of(listed))
}

pub async fn status(
    State(node): State<Arc<Node>>,
    Path((stream, id)): Path<(String, String)>,
) -> Result<Json<SnapshotReport>, ApiError> {
    let (stream, id) = named(&stream, &id)?;
    let plane = serving(&node)?;
    blocking(move || plane.snapshot_status(stream.as_str(), id))
        .await
        .map(Json)
}

pub async fn verify(
    State(node): State<Arc<Node>>,
    Path((stream, id)): Path<(String, String)>,
    Query(VerifyQuery {
        level,
        digest,
        request,
    }): Query<VerifyQuery>,
) -> Result<(StatusCode, Json<SnapshotVerdict>), ApiError> {
    let (stream, id) = named(&stream, &id)?;
    let level = match level.as_deref() {
        None | Some("L0") => SnapshotLevel::L0,
        Some("L1") => SnapshotLevel::L1,
        Some("L2") => SnapshotLevel::L2,
        Some(other) => {
            return Err(ApiError::bad_request(format!(
                "level {other:?} is invalid; use \"L0\", \"L1\" or \"L2\""
            )));
        }
    };
    let request = request_name(request)?;
    let plane = serving(&node)?;
    let tier2 = tier2_of(&plane)?;
    if level == SnapshotLevel::L2 {
        let asked = Asked {
            stream,
            id,
            request,
        };
        let verdict = plane.read_snapshot(&tier2, asked, digest)?;
        let status = match &verdict.running {
            Some(_) => StatusCode::ACCEPTED,
            None => StatusCode::OK,
        };
        return Ok((status, Json(verdict)));
    }
    let verdict =
        blocking(move || plane.verify_snapshot(&tier2, (&stream, id), level, digest.as_deref()));
    Ok((StatusCode::OK, Json(verdict.await?)))
}

pub async fn delete(
    State(node): State<Arc<Node>>,
    Path((stream, id)): Path<(String, String)>,
) -> Result<Json<SnapshotDeleteReport>, ApiError> {
    let (stream, id) = named(&stream, &id)?;
    let plane = serving(&node)?;
    let of_stream = stream.clone();
    let deleted = blocking(move || plane.delete_snapshot(of_stream.as_str(), id)).await?;
    let (bytes, waits_for, note) = told(deleted);
    Ok(Json(SnapshotDeleteReport {
        stream: stream.to_string(),
        snapshot_id: id.to_string(),
        bytes,
        waits_for,
        note,
    }))
}

pub async fn delete_index(
    State(node): State<Arc<Node>>,
    Path(name): Path<String>,
) -> Result<Json<SnapshotIndexDeleteReport>, ApiError> {
    let name =
        IndexName::new(&name).map_err(|refused| ApiError::bad_request(refused.to_string()))?;
    let tier2 = tier2_of(&serving(&node)?)?;
    let (key, deleted) = blocking(move || delete_index_of(&tier2, &name)).await?;
    let (_, _, note) = told(deleted);
    Ok(Json(SnapshotIndexDeleteReport { key, note }))
}

fn told(deleted: SnapshotDeleted) -> (u64, Option<String>, Option<SegmentDeleteNote>) {
    match deleted {
        SnapshotDeleted::Deleted { bytes } => (bytes, None, None),
        SnapshotDeleted::KeptAsVersion => (0, None, Some(SegmentDeleteNote::KeptAsVersion)),
        SnapshotDeleted::Missing => (0, None, Some(SegmentDeleteNote::Missing)),
        SnapshotDeleted::Waits { why } => (0, Some(why), None),
    }
}

/// The list that one snapshot's operator wrote, byte for byte; 404 where the bucket has none.
pub async fn index(
    State(node): State<Arc<Node>>,
    Path(name): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<Response, ApiError> {
    let name =
        IndexName::new(&name).map_err(|refused| ApiError::bad_request(refused.to_string()))?;
    let plane = serving(&node)?;
    let tier2 = tier2_of(&plane)?;
    let part = page.part()?;
    let Some(IndexPart { from, bytes }) = part else {
        let bytes = blocking(move || read_index(&tier2, &name)).await?;
        return Ok(([(CONTENT_TYPE, "application/json")], bytes).into_response());
    };
    let (part, whole) =
        blocking(move || read_index_part(&tier2, &name, from, bytes as u64)).await?;
    let end = from + part.len() as u64;
    let next = if end < whole {
        end.to_string()
    } else {
        String::new()
    };
    let headers = [
        (CONTENT_TYPE, "application/json".to_owned()),
        (HeaderName::from_static(NEXT_HEADER), next),
    ];
    Ok((headers, part).into_response())
}

/// The list is kept byte for byte as it came.
pub async fn put_index(
    State(node): State<Arc<Node>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<SnapshotIndexReport>, ApiError> {
    let checked =
        IndexName::new(&name).map_err(|refused| ApiError::bad_request(refused.to_string()))?;
    let index: SnapshotIndex = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("body is not a snapshot index: {error}")))?;
    if index.name != name {
        return Err(ApiError::bad_request(format!(
            "index is named {:?}, but its path says {name:?}",
            index.name
        )));
    }
    let plane = serving(&node)?;
    let ours = &plane.store.identity().cluster_id;
    if index.cluster_id != *ours {
        return Err(ApiError::bad_request(format!(
            "index belongs to cluster {:?}, but this engine to {ours:?}",
            index.cluster_id
        )));
    }
    let tier2 = tier2_of(&plane)?;
    blocking(move || DataPlane::put_snapshot_index(&tier2, &checked, &index, body))
        .await
        .map(Json)
}

/// Who does not say who asks wants a new one each time.
fn request_name(request: Option<String>) -> Result<String, ApiError> {
    let request = request
        .filter(|request| !request.is_empty())
        .unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    if request.len() > MAX_REQUEST_BYTES {
        return Err(ApiError::bad_request(format!(
            "request name of {} bytes exceeds the limit of {MAX_REQUEST_BYTES}; use a shorter one",
            request.len()
        )));
    }
    Ok(request)
}

fn named(stream: &str, id: &str) -> Result<(StreamName, SnapshotId), ApiError> {
    let stream =
        StreamName::new(stream).map_err(|refused| ApiError::bad_request(refused.to_string()))?;
    let id = id
        .parse()
        .map_err(|error: aof2_format::Damage| ApiError::bad_request(error.to_string()))?;
    Ok((stream, id))
}

fn tier2_of(plane: &DataPlane) -> Result<Arc<Tier2>, ApiError> {
    plane.tier2.clone().ok_or_else(|| {
        ApiError::new(
            ErrorReason::NotFound,
            "this engine has no Tier 2 for snapshots; set spec.tier2 of the Aof2Cluster",
        )
    })
}

/// Nothing was learned about the objects.
impl From<ObjectError> for ApiError {
    fn from(error: ObjectError) -> Self {
        ApiError::new(ErrorReason::Tier2Unreachable, error.to_string())
    }
}

impl From<VerifyError> for ApiError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Tier2(error) => error.into(),
            VerifyError::Ended { .. } => {
                ApiError::new(ErrorReason::Tier2Unreachable, error.to_string())
            }
        }
    }
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Lookup(error) => error.into(),
            AskError::Verify(error) => error.into(),
        }
    }
}

impl From<LookupError> for ApiError {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Store(error) => error.into(),
            LookupError::Tier2(error) => error.into(),
            LookupError::Unknown { .. } | LookupError::Deleted { .. } => {
                ApiError::new(ErrorReason::NotFound, error.to_string())
            }
            LookupError::Undecodable { .. } => {
                ApiError::new(ErrorReason::Internal, error.to_string())
            }
        }
    }
}

impl From<IndexError> for ApiError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Tier2(error) => error.into(),
            IndexError::Missing { .. } => ApiError::new(ErrorReason::NotFound, error.to_string()),
            IndexError::Taken { .. } => ApiError::new(ErrorReason::Conflict, error.to_string()),
        }
    }
}
