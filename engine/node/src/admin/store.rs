//! Verbs on streams and tiers.

use std::sync::Arc;

use aof2_admin_api::report::{
    SegmentDeleteReport, SegmentReport, StreamCutReport, StreamTrimReport, StreamVerbReport,
    Tier2Report,
};
use aof2_admin_api::{ErrorReason, SegmentDeleteNote};
use aof2_core::deletion::CopyDeletion;
use aof2_core::{Store, Trim};
use aof2_format::cut::StreamCut;
use aof2_format::start_sequence::StartReason;
use axum::Json;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::error::{ApiError, blocking, serving};
use super::pages::PageQuery;
use crate::data_plane::tier2_reason;
use crate::node::Node;
use crate::report;

#[derive(Debug, Deserialize)]
pub struct OfStream {
    pub stream: Option<String>,
}

pub async fn streams(
    State(node): State<Arc<Node>>,
    Query(page): Query<PageQuery>,
) -> Result<Response, ApiError> {
    let store = serving(&node)?.store;
    let reading = node.reading(move || report::streams(&store)).await;
    let streams = reading.map_err(ApiError::internal)?;
    Ok(page.of(streams))
}

pub async fn segments(
    State(node): State<Arc<Node>>,
    Query(OfStream { stream }): Query<OfStream>,
) -> Result<Json<Vec<SegmentReport>>, ApiError> {
    let plane = serving(&node)?;
    let reading = node.reading(move || report::segments(&plane, stream.as_deref()));
    Ok(Json(reading.await.map_err(ApiError::internal)??))
}

#[derive(Debug, Deserialize)]
pub struct CutQuery {
    stream: Option<String>,
    at: Option<u64>,
}

fn named(stream: Option<String>) -> Result<String, ApiError> {
    let missing = "query parameter stream is missing; add ?stream=<name>";
    stream.ok_or_else(|| ApiError::bad_request(missing))
}

fn cut_report(store: &Store, stream: &str, cut: StreamCut, is_accepted: bool) -> StreamCutReport {
    let StreamCut {
        first_lost,
        next_sequence,
        lost_bytes,
        damage,
        ..
    } = cut;
    StreamCutReport {
        stream: stream.to_owned(),
        damage,
        first_lost,
        next_sequence,
        lost_bytes,
        quarantine: store.quarantine_of(stream),
        is_accepted,
    }
}

pub async fn possible_cut(
    State(node): State<Arc<Node>>,
    Query(CutQuery { stream, at: _ }): Query<CutQuery>,
) -> Result<Json<StreamCutReport>, ApiError> {
    let stream = named(stream)?;
    let store = serving(&node)?.store;
    blocking(move || {
        let cut = store.possible_cut(&stream)?;
        Ok::<_, ApiError>(Json(cut_report(&store, &stream, cut, false)))
    })
    .await
}

pub async fn cut(
    State(node): State<Arc<Node>>,
    Query(CutQuery { stream, at }): Query<CutQuery>,
) -> Result<Json<StreamCutReport>, ApiError> {
    let stream = named(stream)?;
    let Some(at) = at else {
        return Err(ApiError::bad_request(
            "query parameter at is missing; add &at=<first lost sequence>, as a GET of this path answers it",
        ));
    };
    let store = serving(&node)?.store;
    blocking(move || {
        let cut = store.cut(&stream, at)?;
        Ok::<_, ApiError>(Json(cut_report(&store, &stream, cut, true)))
    })
    .await
}

#[derive(Debug, Deserialize)]
pub struct TrimQuery {
    stream: Option<String>,
    before: Option<u64>,
}

impl TrimQuery {
    fn checked(self) -> Result<(String, u64), ApiError> {
        let stream = named(self.stream)?;
        let missing =
            "query parameter before is missing; add &before=<first sequence that is kept>";
        let before = self.before.ok_or_else(|| ApiError::bad_request(missing))?;
        Ok((stream, before))
    }
}

fn trim_report(trim: Trim, is_done: bool) -> StreamTrimReport {
    let Trim {
        stream,
        first_sequence,
        records,
        segments,
        node_bytes,
        objects,
        sealed_sequence,
    } = trim;
    StreamTrimReport {
        stream,
        first_sequence,
        records,
        segments,
        node_bytes,
        objects,
        sealed_sequence,
        is_done,
    }
}

pub async fn possible_trim(
    State(node): State<Arc<Node>>,
    Query(query): Query<TrimQuery>,
) -> Result<Json<StreamTrimReport>, ApiError> {
    let (stream, before) = query.checked()?;
    let store = serving(&node)?.store;
    blocking(move || {
        let trim = store.possible_trim(&stream, before)?;
        Ok::<_, ApiError>(Json(trim_report(trim, false)))
    })
    .await
}

pub async fn trim(
    State(node): State<Arc<Node>>,
    Query(query): Query<TrimQuery>,
) -> Result<Json<StreamTrimReport>, ApiError> {
    let (stream, before) = query.checked()?;
    let store = serving(&node)?.store;
    blocking(move || {
        let trim = store.trim(&stream, before, StartReason::Trim)?;
        Ok::<_, ApiError>(Json(trim_report(trim, true)))
    })
    .await
}

#[derive(Debug, Deserialize)]
pub struct DeleteQuery {
    stream: Option<String>,
    segment: Option<u64>,
    tier: Option<u8>,
}

pub async fn delete_segment(
    State(node): State<Arc<Node>>,
    Query(DeleteQuery {
        stream,
        segment,
        tier,
    }): Query<DeleteQuery>,
) -> Result<Json<SegmentDeleteReport>, ApiError> {
    let stream = named(stream)?;
    let missing = "query parameter segment is missing; add &segment=<id>";
    let segment_id = segment.ok_or_else(|| ApiError::bad_request(missing))?;
    let Some(tier @ 1..=2) = tier else {
        return Err(ApiError::bad_request(
            "query parameter tier names no tier with a copy that can be deleted; use &tier=1 or &tier=2",
        ));
    };
    let plane = serving(&node)?;
    blocking(move || {
        let deleted = plane.delete_copy(&stream, segment_id, tier)?;
        let (bytes, waits_for, note) = match deleted {
            CopyDeletion::Deleted { bytes } => (bytes, None, None),
            CopyDeletion::KeptAsVersion => (0, None, Some(SegmentDeleteNote::KeptAsVersion)),
            CopyDeletion::Missing => (0, None, Some(SegmentDeleteNote::Missing)),
            CopyDeletion::Waits { why } => (0, Some(why), None),
        };
        Ok::<_, ApiError>(Json(SegmentDeleteReport {
            stream,
            segment_id,
            tier,
            bytes,
            waits_for,
            note,
        }))
    })
    .await
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
