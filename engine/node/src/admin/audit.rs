//! Who changed what: one line in the log for every verb of the admin API that changes something, done or refused.

use std::borrow::Cow;

use aof2_admin_api::path::{self, OPERATOR_EPOCH_HEADER};
use aof2_listen::Caller;
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::{ApiError, Refused};
use crate::telemetry::AUDIT;

/// Of the arguments that a line shows.
const MAX_ARGUMENT_BYTES: usize = 512;

/// Logs a request and its outcome, unless it only reads.
pub async fn audit(request: Request, next: Next) -> Response {
    let Some(verb) = verb_of(request.method(), request.uri().path()).map(Cow::into_owned) else {
        return next.run(request).await;
    };
    let arguments = shortened(request.uri().query().unwrap_or_default()).into_owned();
    let epoch = request.headers().get(OPERATOR_EPOCH_HEADER);
    let operator_epoch =
        epoch.map(|it| shortened(&String::from_utf8_lossy(it.as_bytes())).into_owned());
    let caller = request
        .extensions()
        .get::<Caller>()
        .map(ToString::to_string);
    // Also where the client goes before it has its answer: the verb is done all the same.
    let answered = tokio::spawn(next.run(request));
    let response = match answered.await {
        Ok(response) => response,
        Err(panicked) => ApiError::internal(panicked.to_string()).into_response(),
    };
    let refused = response.extensions().get::<Refused>();
    let outcome = match refused {
        None if response.status().is_success() => "done".to_owned(),
        Some(refused) => refused.reason.to_string(),
        None => response.status().to_string(),
    };
    tracing::info!(
        target: AUDIT,
        verb,
        caller = caller.as_deref().unwrap_or("unknown"),
        operator_epoch,
        arguments,
        outcome,
        why = refused.map(|it| it.message.as_str()),
        "admin verb"
    );
    response
}

/// `None` where nothing changes.
fn verb_of<'a>(method: &Method, path: &'a str) -> Option<Cow<'a, str>> {
    let is_question = path == path::CONFIG_VALIDATE
        || path == path::REPORT
        || (path.starts_with(path::SNAPSHOTS) && path.ends_with("/verify"));
    if method.is_safe() || (*method == Method::POST && is_question) {
        return None;
    }
    let path = shortened(path.strip_prefix("/aof2/").unwrap_or(path));
    Some(match *method {
        Method::POST => path,
        _ => format!("{method} {path}").into(),
    })
}

fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_ARGUMENT_BYTES {
        return text.into();
    }
    let end = text.floor_char_boundary(MAX_ARGUMENT_BYTES);
    format!("{}... ({} bytes)", &text[..end], text.len()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_has_a_verb_and_what_reads_has_none() {
        for (method, path, verb) in [
            (Method::POST, "/aof2/seal", Some("seal")),
            (
                Method::POST,
                "/aof2/lifecycle/drain",
                Some("lifecycle/drain"),
            ),
            (Method::GET, "/aof2/lifecycle/drain", None),
            (
                Method::PUT,
                "/aof2/snapshots/_index/x",
                Some("PUT snapshots/_index/x"),
            ),
            (
                Method::PUT,
                "/aof2/snapshots/_index/verify",
                Some("PUT snapshots/_index/verify"),
            ),
            (Method::POST, "/aof2/config:validate", None),
            (Method::POST, "/aof2/report", None),
            (Method::POST, "/aof2/snapshots/a/1/verify", None),
            (Method::DELETE, "/elsewhere", Some("DELETE /elsewhere")),
        ] {
            assert_eq!(verb_of(&method, path).as_deref(), verb, "{method} {path}");
        }
    }

    #[test]
    fn a_line_has_an_end() {
        let text = "ä".repeat(1_000);
        let shown = shortened(&text);
        assert!(shown.ends_with("... (2000 bytes)") && shown.len() < 600);
    }
}
