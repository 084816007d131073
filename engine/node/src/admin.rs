//! The admin API: the same router behind mutual TLS and behind the private socket.
//!
//! Every verb that carries an operator's epoch is refused when a newer one was seen, reading verbs too: what an old operator
//! reads it would act upon.

mod audit;
mod compact;
mod config;
mod error;
mod hydrate;
mod lifecycle;
mod pages;
mod snapshot;
mod storage_report;
mod store;
mod tier1;

use std::sync::Arc;

use aof2_admin_api::path::{self, OPERATOR_EPOCH_HEADER};
use aof2_admin_api::{Dump, EpochReset, ErrorBody, ErrorReason};
use aof2_core::objects::bounds::MAX_INDEX_BYTES;
use aof2_listen::{Bodies, Caller};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};

use crate::epoch::Inadmissible;
use crate::node::Node;
use crate::report;
use error::ApiError;

pub fn router(node: Arc<Node>) -> Router {
    let one_snapshot = format!("{}/{{stream}}/{{id}}", path::SNAPSHOTS);
    Router::new()
        .route(path::DUMP, get(dump))
        .route(path::STREAMS, get(store::streams))
        .route(path::STREAM_CUT, get(store::possible_cut).post(store::cut))
        .route(
            path::STREAM_TRIM,
            get(store::possible_trim).post(store::trim),
        )
        .route(path::SEGMENTS, get(store::segments))
        .route(path::SEGMENT_DELETE, post(store::delete_segment))
        .route(path::SEAL, post(store::seal))
        .route(path::COMPACT, get(compact::status).post(compact::begin))
        .route(path::HYDRATE, get(hydrate::status).post(hydrate::begin))
        .route(
            path::REPORT,
            get(storage_report::report).post(storage_report::report_with),
        )
        .route(path::TIER1, get(tier1::stats))
        .route(path::TIER1_VERIFY, get(tier1::status).post(tier1::verify))
        .route(
            path::TIER1_RECOMPRESS,
            get(tier1::status).post(tier1::recompress),
        )
        .route(path::FLUSH, post(store::flush))
        .route(path::TIER2_PROBE, post(store::tier2_probe))
        .route(path::CONFIG, get(config::effective))
        .route(path::CONFIG_VALIDATE, post(config::validate))
        .route(path::CONFIG_SCHEMA, get(config::schema))
        .route(path::PRE_RESTART, get(lifecycle::pre_restart))
        .route(path::POST_RESTART, get(lifecycle::post_restart))
        .route(
            path::DRAIN,
            get(lifecycle::drain_status).post(lifecycle::drain),
        )
        .route(path::RESUME, post(lifecycle::resume))
        .route(path::PRE_STOP, post(lifecycle::pre_stop))
        .route(path::RESTART, post(lifecycle::restart))
        .route(path::OPERATOR_EPOCH_RESET, post(reset_epoch))
        .route(path::SNAPSHOT, post(snapshot::begin))
        .route(path::SNAPSHOTS, get(snapshot::list))
        .route(&one_snapshot, get(snapshot::status))
        .route(&format!("{one_snapshot}/verify"), post(snapshot::verify))
        .route(&format!("{one_snapshot}/delete"), post(snapshot::delete))
        .route(
            &format!("{}/{{name}}/delete", path::SNAPSHOT_INDEX),
            post(snapshot::delete_index),
        )
        .route(
            &format!("{}/{{name}}", path::SNAPSHOT_INDEX),
            get(snapshot::index)
                .put(snapshot::put_index)
                .layer(DefaultBodyLimit::max(MAX_INDEX_BYTES)),
        )
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(node.clone(), admit_epoch))
        .layer(from_fn(audit::audit))
        .layer(from_fn_with_state(
            Bodies::new(max_body_bytes).answering(refuse_body),
            aof2_listen::bodies,
        ))
        .with_state(node)
}

/// Of a request body: a snapshot's index, a configuration file, or none that is worth more than its name.
fn max_body_bytes(uri: &Uri) -> usize {
    let path = uri.path();
    if path.starts_with(path::SNAPSHOT_INDEX) {
        MAX_INDEX_BYTES
    } else if path == path::CONFIG_VALIDATE {
        config::MAX_FILE_BYTES
    } else if path == path::REPORT {
        config::MAX_RULES_BYTES
    } else {
        0
    }
}

fn refuse_body(status: StatusCode, why: String) -> Response {
    let reason = if status == StatusCode::SERVICE_UNAVAILABLE {
        ErrorReason::NotServing
    } else {
        ErrorReason::BadRequest
    };
    (
        status,
        Json(ErrorBody {
            reason,
            message: why,
        }),
    )
        .into_response()
}

async fn dump(State(node): State<Arc<Node>>) -> Result<Json<Dump>, ApiError> {
    report::dump(&node)
        .await
        .map(Json)
        .map_err(ApiError::internal)
}

/// Who could reset it from outside could bring an old operator back.
async fn reset_epoch(
    State(node): State<Arc<Node>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<EpochReset>, ApiError> {
    if !caller.peer.is_local() {
        return Err(ApiError::bad_request(
            "the operator epoch is reset over the engine's admin socket alone; run `aof2-admin operator-epoch reset` in the pod"
                .to_owned(),
        ));
    }
    let forgotten = tokio::task::spawn_blocking(move || node.epochs.reset())
        .await
        .map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(Json(EpochReset { forgotten }))
}

async fn no_such_path(request: Request) -> ApiError {
    ApiError::new(
        ErrorReason::NotFound,
        format!(
            "path {} does not exist in the admin API",
            request.uri().path()
        ),
    )
}

async fn no_such_method(request: Request) -> ApiError {
    let (method, path) = (request.method(), request.uri().path());
    ApiError::new(
        ErrorReason::BadRequest,
        format!("{path} does not accept {method}; use GET to read and POST to act"),
    )
}

async fn admit_epoch(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let Some(header) = request.headers().get(OPERATOR_EPOCH_HEADER) else {
        // A person on this machine.
        return next.run(request).await;
    };
    let Some(epoch) = header
        .to_str()
        .ok()
        .and_then(|text| text.parse::<u64>().ok())
    else {
        let message = format!("header {OPERATOR_EPOCH_HEADER} = {header:?} is not a number");
        return ApiError::new(ErrorReason::BadRequest, message).into_response();
    };
    match node.epochs.admit(epoch) {
        Ok(()) => next.run(request).await,
        Err(Inadmissible::Ahead) => {
            let message = format!(
                "operator epoch {epoch} is more than a day ahead of this node's clock; correct the Lease's annotation aof2.dev/operator-epoch, or the clock"
            );
            ApiError::new(ErrorReason::BadRequest, message).into_response()
        }
        Err(Inadmissible::Older { highest }) => {
            let message = format!(
                "operator epoch {epoch} is older than {highest}; another operator leads now"
            );
            ApiError::new(ErrorReason::StaleOperatorEpoch, message).into_response()
        }
    }
}
