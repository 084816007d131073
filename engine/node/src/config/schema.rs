//! The table of keys as JSON, for `GET /aof2/config/schema` and `aof2-engine config schema`.

use aof2_admin_api::report::Reload;
use aof2_admin_api::schema::Instead;
use serde_json::{Map, Value as Json, json};

use super::keys::{KEYS, KeySpec, Owner};
use super::value::{Kind, format_duration};

/// `{"version": .., "keys": [{"key", "type", "default", "min", "max", "values", "reload", "owner", "crField", "doc"}]}`.
pub fn schema(version: &str) -> Json {
    json!({ "version": version, "keys": KEYS.iter().map(describe).collect::<Vec<_>>() })
}

fn describe(spec: &KeySpec) -> Json {
    let mut entry = Map::new();
    let mut put = |name: &str, value: Json| entry.insert(name.to_string(), value);
    put("key", json!(spec.key));
    put("type", json!(spec.kind.name()));
    if let Some(unit) = spec.unit() {
        put("unit", json!(unit));
    }
    if let Some(default) = spec.default_value() {
        put("default", json!(default.to_string()));
    }
    match spec.kind {
        Kind::Bytes { min, max } | Kind::Count { min, max } => {
            put("min", json!(min.to_string()));
            put("max", json!(max.to_string()));
        }
        Kind::Duration { min, max } => {
            put("min", json!(format_duration(min)));
            put("max", json!(format_duration(max)));
        }
        Kind::Text { max_bytes } => {
            put("maxBytes", json!(max_bytes));
        }
        Kind::OneOf(values) => {
            put("values", json!(values));
        }
        Kind::Uuid | Kind::Path | Kind::Address | Kind::Switch | Kind::Rules | Kind::Prices => {}
    }
    let reload = match spec.reload {
        Reload::Hot => "Hot",
        Reload::Restart => "Restart",
        Reload::Unknown => "Unknown",
    };
    put("reload", json!(reload));
    match spec.owner {
        Owner::User => {
            put("owner", json!("User"));
        }
        Owner::Operator { instead } => {
            put("owner", json!("Operator"));
            if let Instead::Field(field) = instead {
                put("crField", json!(field));
            }
        }
    }
    put("doc", json!(spec.doc));
    Json::Object(entry)
}

#[cfg(test)]
mod tests {
    use aof2_admin_api::schema::{ADMIN_PORT, ConfigOwner, ConfigSchema, HTTP_PORT};

    use super::*;

    #[test]
    fn what_is_told_is_what_a_client_reads() {
        let told = schema("1.2.3");
        let read: ConfigSchema = serde_json::from_value(told.clone()).expect("a schema");
        assert_eq!(serde_json::to_value(&read).expect("JSON"), told);
        let region = read.key("tier2.region").expect("a key");
        assert_eq!(region.owner, ConfigOwner::Operator);
        assert_eq!(region.cr_field.as_deref(), Some("spec.tier2.region"));
    }

    #[test]
    fn ports_are_those_that_an_operator_opens() {
        let read: ConfigSchema = serde_json::from_value(schema("1")).expect("a schema");
        for (key, port) in [
            ("listen.admin_address", ADMIN_PORT),
            ("listen.http_address", HTTP_PORT),
        ] {
            let default = read.key(key).and_then(|key| key.default.clone());
            assert_eq!(default, Some(format!("127.0.0.1:{port}")), "{key}");
        }
    }
}
