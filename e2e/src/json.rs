//! Objects as the API server prints them, read without our own types: what those would not notice is noticed here.

use serde_json::Value;

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
}

/// The condition is there and has this status: True, False or Unknown.
pub fn is(object: &Value, kind: &str, status: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == status)
}

/// Its message, while it is False.
pub fn refusal<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    condition(object, kind)
        .filter(|condition| condition["status"] == "False")
        .map(|condition| text(&condition["message"]))
}
