//! `report`: where the bytes are, and what rules of retention take, those in use and others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aof2_admin_api::ErrorReason;
use aof2_admin_api::storage::{DEFAULT_STREAMS, MAX_STREAMS, StorageReport, TierStorage};
use aof2_core::config::RetentionRule;
use aof2_core::pattern;
use aof2_core::storage_report::{Question, ReportError, Usage, class_of};
use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;

use super::error::{ApiError, serving};
use crate::config::{self, Mode};
use crate::data_plane::DataPlane;
use crate::node::Node;
use crate::storage_report::{Priced, answer};

/// A report without the class of its objects is better than none.
const CLASS_LIMIT: Duration = Duration::from_secs(3);

#[derive(Debug, Deserialize)]
pub struct ReportQuery {
    stream: Option<String>,
    limit: Option<usize>,
    retention: Option<String>,
}

pub async fn report(
    State(node): State<Arc<Node>>,
    Query(query): Query<ReportQuery>,
) -> Result<Json<StorageReport>, ApiError> {
    made(&node, query.question(None)?).await
}

/// Changes nothing.
pub async fn report_with(
    State(node): State<Arc<Node>>,
    Query(query): Query<ReportQuery>,
    rules: String,
) -> Result<Json<StorageReport>, ApiError> {
    let settings = config::parse("aof2.toml", &rules, Mode::User)
        .map_err(|errors| ApiError::bad_request(errors.to_string()))?;
    made(&node, query.question(Some(settings.retention))?).await
}

impl ReportQuery {
    fn question(self, proposed: Option<Vec<RetentionRule>>) -> Result<Question, ApiError> {
        let ReportQuery {
            stream,
            limit,
            retention,
        } = self;
        if retention.is_some() {
            return Err(ApiError::bad_request(
                "query parameter retention is not supported; send the rules as the body of a POST",
            ));
        }
        if let Some(stream) = &stream
            && let Some(rule) = pattern::problem(stream)
        {
            return Err(ApiError::bad_request(format!(
                "query parameter stream = {stream:?} fits no stream; {rule}"
            )));
        }
        let most_streams = limit.unwrap_or(DEFAULT_STREAMS);
        if most_streams > MAX_STREAMS {
            return Err(ApiError::bad_request(format!(
                "query parameter limit = {most_streams} is out of range; allowed: 0 to {MAX_STREAMS}"
            )));
        }
        Ok(Question {
            streams: stream,
            most_streams,
            proposed,
        })
    }
}

async fn made(node: &Arc<Node>, question: Question) -> Result<Json<StorageReport>, ApiError> {
    let plane = serving(node)?;
    let is_of_all = question.streams.is_none();
    let counted = {
        // Each looks at every segment: one after the other, whoever asks.
        let _turn = node.reports.clone().acquire_owned().await;
        let waits = Waits::default();
        let (plane, is_abandoned) = (plane.clone(), waits.flag());
        let counting = node.reading(move || {
            plane.storage_report(&question, &|| is_abandoned.load(Ordering::Relaxed))
        });
        counting.await.map_err(ApiError::internal)??
    };
    let class = class(node, &plane, &counted.total).await;
    let settings = node.config.settings();
    let found = plane.orphan_status().and_then(|orphans| orphans.found);
    let orphans = found.filter(|_| is_of_all).map(|found| TierStorage {
        objects: found.objects,
        bytes: found.bytes,
    });
    let writing = node.reading(move || {
        answer(
            counted,
            &Priced {
                node: &settings.node_name,
                class,
                prices: &settings.report.prices,
                orphans,
            },
        )
    });
    Ok(Json(writing.await.map_err(ApiError::internal)?))
}

/// Of the objects that were counted. A bucket that hangs holds one thread, and no report for longer than the limit.
async fn class(node: &Node, plane: &DataPlane, total: &Usage) -> Result<Option<String>, String> {
    let Some(tier2) = plane.tier2.clone().filter(|_| total.cold.objects > 0) else {
        return Ok(None);
    };
    let no_answer = || {
        let seconds = CLASS_LIMIT.as_secs();
        format!("{} did not answer within {seconds} s", tier2.place())
    };
    let Ok(turn) = node.class_questions.clone().try_acquire_owned() else {
        return Err(no_answer());
    };
    let (asked, total) = (tier2.clone(), total.clone());
    let asking = tokio::task::spawn_blocking(move || {
        let class = class_of(&asked, &total);
        drop(turn);
        class
    });
    match tokio::time::timeout(CLASS_LIMIT, asking).await {
        Ok(Ok(class)) => class,
        Ok(Err(panicked)) => Err(panicked.to_string()),
        Err(_) => Err(no_answer()),
    }
}

/// A request; when it is dropped, nobody waits for its answer.
#[derive(Default)]
struct Waits(Arc<AtomicBool>);

impl Waits {
    fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl From<ReportError> for ApiError {
    fn from(error: ReportError) -> Self {
        let reason = match &error {
            ReportError::NoStream { .. } => ErrorReason::NotFound,
            ReportError::Abandoned => ErrorReason::NotServing,
        };
        ApiError::new(reason, error.to_string())
    }
}
