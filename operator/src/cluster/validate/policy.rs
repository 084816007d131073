//! A field that only who installed the operator may open.

use serde_json::Value;

use super::SpecError;
use crate::machine::bounded;
use crate::pod_policy::Policy;

impl Policy {
    /// `at` is the whole path below `spec.podTemplate`; `value` is shown, and may be what is allowed.
    pub(super) fn need(
        &self,
        field: &str,
        at: impl Into<String>,
        value: impl AsRef<str>,
        why: &str,
    ) -> Result<(), SpecError> {
        let value = value.as_ref();
        if self.permits(field, value) {
            return Ok(());
        }
        let entry = if value.is_empty() || value == "true" {
            field.to_owned()
        } else {
            format!("{field}={}", bounded(value, 64))
        };
        Err(SpecError::new(
            at,
            shown(value),
            format!(
                "{why}. Remove it, or let the operator's administrator add {entry} to the chart's podTemplates.allow"
            ),
        ))
    }
}

fn shown(value: &str) -> String {
    match value {
        "" => "set".to_owned(),
        value => bounded(value, 64),
    }
}

/// A scalar as a person would write it.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => bounded(&other.to_string(), 64),
    }
}
