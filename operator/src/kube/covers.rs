//! Does the live object say everything that the desired one says?
//!
//! The live one has more: defaults, status, fields of others. It may spell a quantity in another way. Lists of named things
//! (containers, ports, volumes) are compared by name, since others may add some; other lists one to one.

use serde_json::Value;

use crate::quantity::nano;

/// Fields that the server manages although they are in what we send.
const IGNORED: [&str; 2] = ["creationTimestamp", "status"];

pub fn covers(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired.iter().all(|(key, wanted)| {
            IGNORED.contains(&key.as_str())
                || match live.get(key) {
                    Some(have) => covers(have, wanted),
                    None => is_empty(wanted),
                }
        }),
        (Value::Array(live), Value::Array(desired)) => {
            match desired.iter().map(name).collect::<Option<Vec<_>>>() {
                Some(names) if !names.is_empty() => {
                    desired.iter().zip(names).all(|(wanted, wanted_name)| {
                        live.iter()
                            .any(|have| name(have) == Some(wanted_name) && covers(have, wanted))
                    })
                }
                _ => {
                    live.len() == desired.len()
                        && live
                            .iter()
                            .zip(desired)
                            .all(|(have, wanted)| covers(have, wanted))
                }
            }
        }
        (live, desired) => live == desired || same_quantity(live, desired),
    }
}

fn name(item: &Value) -> Option<&str> {
    item.get("name")
        .or_else(|| item.get("metadata")?.get("name"))?
        .as_str()
}

/// The server drops what is empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn same_quantity(live: &Value, desired: &Value) -> bool {
    matches!((nano(live), nano(desired)), (Some(live), Some(desired)) if live == desired)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_and_fields_of_others_do_not_matter() {
        let desired = json!({"spec": {"replicas": 3, "ports": [{"name": "a", "port": 1}]}});
        let live = json!({"spec": {"replicas": 3, "ports": [{"name": "z", "port": 9}, {"name": "a", "port": 1, "protocol": "TCP"}]}, "status": {}});
        assert!(covers(&live, &desired));
    }

    #[test]
    fn a_field_that_somebody_changed_or_removed_is_seen() {
        let desired =
            json!({"spec": {"replicas": 3, "list": [1, 2], "ports": [{"name": "a", "port": 1}]}});
        for live in [
            json!({"spec": {"replicas": 2, "list": [1, 2], "ports": [{"name": "a", "port": 1}]}}),
            json!({"spec": {"list": [1, 2], "ports": [{"name": "a", "port": 1}]}}),
            json!({"spec": {"replicas": 3, "list": [1], "ports": [{"name": "a", "port": 1}]}}),
            json!({"spec": {"replicas": 3, "list": [1, 2], "ports": [{"name": "a", "port": 2}]}}),
            json!({"spec": {"replicas": 3, "list": [1, 2], "ports": []}}),
        ] {
            assert!(!covers(&live, &desired), "{live}");
        }
    }

    #[test]
    fn quantities_are_compared_by_amount() {
        for (live, desired) in [
            (json!("1Gi"), json!("1024Mi")),
            (json!("1"), json!("1000m")),
            (json!("1"), json!(1)),
            (json!("1500m"), json!("1.5")),
        ] {
            assert!(covers(&live, &desired), "{live} {desired}");
        }
        for (live, desired) in [
            (json!("1Gi"), json!("1G")),
            (json!("a"), json!("b")),
            (json!("1Gi"), json!("2Gi")),
        ] {
            assert!(!covers(&live, &desired), "{live} {desired}");
        }
    }

    #[test]
    fn what_is_empty_may_be_missing() {
        assert!(covers(
            &json!({}),
            &json!({"securityContext": {}, "list": []})
        ));
        assert!(!covers(&json!({}), &json!({"flag": false})));
    }
}
