//! Verbs about the configuration.

use std::sync::Arc;

use aof2_admin_api::report::ConfigVerdict;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::error::ApiError;
use crate::config::{self, Mode, Owner, keys};
use crate::node::Node;

/// What a ConfigMap can hold.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// Of a file with rules of retention: as long as a file may be, and some, so that a longer one is refused in words.
pub const MAX_RULES_BYTES: usize = 4 * config::MAX_FILE_BYTES;

#[derive(Debug, Deserialize)]
pub struct ValidateQuery {
    mode: Option<String>,
}

pub async fn effective(State(node): State<Arc<Node>>) -> Response {
    (
        [(header::CONTENT_TYPE, "application/toml")],
        node.config.settings().to_toml(),
    )
        .into_response()
}

pub async fn schema(State(node): State<Arc<Node>>) -> Json<serde_json::Value> {
    Json(config::schema(node.version))
}

pub async fn validate(
    State(node): State<Arc<Node>>,
    Query(ValidateQuery { mode }): Query<ValidateQuery>,
    text: String,
) -> Result<Json<ConfigVerdict>, ApiError> {
    let mode = match mode.as_deref() {
        None | Some("user") => Mode::User,
        Some("pod") => Mode::Pod,
        Some(other) => {
            return Err(ApiError::bad_request(format!(
                "mode {other:?} is invalid; use \"user\" or \"pod\""
            )));
        }
    };
    let verdict = match config::parse("aof2.toml", &text, mode) {
        Ok(settings) => {
            let in_force = node.config.settings();
            let mut changes = config::changes(&in_force, &settings);
            if mode == Mode::User {
                // A user's file does not speak of the operator's keys: their absence is no change.
                changes.retain(|change| {
                    keys::find(&change.key).is_some_and(|spec| spec.owner == Owner::User)
                });
            }
            ConfigVerdict {
                valid: true,
                errors: Vec::new(),
                changes,
                shortened_retention: Some(config::shortened_retention(&in_force, &settings)),
            }
        }
        Err(errors) => ConfigVerdict {
            valid: false,
            errors: errors.messages(),
            ..ConfigVerdict::default()
        },
    };
    Ok(Json(verdict))
}
