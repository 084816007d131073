//! Bodies of requests: bounded each and together, and in time.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::{BODY_BYTES_IN_ALL, BODY_LIMIT};

const UNIT_BYTES: usize = 1 << 10;
const TOO_LARGE: StatusCode = StatusCode::PAYLOAD_TOO_LARGE;

/// The limits of a listener's bodies. Clones share what is in flight.
#[derive(Clone)]
pub struct Bodies {
    max_bytes: fn(&Uri) -> usize,
    answer: fn(StatusCode, String) -> Response,
    in_all: Arc<Semaphore>,
}

impl Bodies {
    /// `max_bytes`: of a body that is sent to that path, at most [`BODY_BYTES_IN_ALL`].
    pub fn new(max_bytes: fn(&Uri) -> usize) -> Bodies {
        Bodies {
            max_bytes,
            answer: |status, why| (status, format!("{why}\n")).into_response(),
            in_all: Arc::new(Semaphore::new(BODY_BYTES_IN_ALL / UNIT_BYTES)),
        }
    }

    /// How a refusal is answered, where not as plain text.
    #[must_use]
    pub fn answering(self, answer: fn(StatusCode, String) -> Response) -> Bodies {
        Bodies { answer, ..self }
    }
}

/// A layer for [`axum::middleware::from_fn_with_state`]: the router gets bodies that are complete, and counts their bytes until it
/// has answered.
pub async fn bodies(State(limits): State<Bodies>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let max_bytes = (limits.max_bytes)(request.uri()).min(BODY_BYTES_IN_ALL);
    let hint = request.body().size_hint();
    let declared = hint.exact().or(hint.upper());
    let expected = match declared.map(usize::try_from) {
        Some(Ok(declared)) if declared <= max_bytes => declared,
        Some(_) => return (limits.answer)(TOO_LARGE, too_large(max_bytes)),
        None => max_bytes,
    };
    let deadline = Instant::now() + BODY_LIMIT;
    let units = u32::try_from(expected.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
    let held = tokio::time::timeout_at(deadline, limits.in_all.clone().acquire_many_owned(units));
    let Ok(Ok(_held)) = held.await else {
        let why = format!(
            "request bodies of other clients hold all {BODY_BYTES_IN_ALL} bytes of this listener; retry"
        );
        return (limits.answer)(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    let (parts, body) = request.into_parts();
    let body = match tokio::time::timeout_at(deadline, Limited::new(body, max_bytes).collect())
        .await
    {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return (limits.answer)(TOO_LARGE, too_large(max_bytes));
        }
        Ok(Err(error)) => {
            let why = format!("cannot read the request body: {error}");
            return (limits.answer)(StatusCode::BAD_REQUEST, why);
        }
        Err(_) => {
            let why = format!("request body did not arrive within {BODY_LIMIT:?}; send it again");
            return (limits.answer)(StatusCode::REQUEST_TIMEOUT, why);
        }
    };
    next.run(Request::from_parts(parts, Body::from(body))).await
}

fn too_large(max_bytes: usize) -> String {
    if max_bytes == 0 {
        "this path takes no request body".to_owned()
    } else {
        format!("request body exceeds the limit of {max_bytes} bytes for this path; send less")
    }
}
