//! Schemas of types that are Kubernetes' own, without their long descriptions and with the bounds that they lack.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Largest bound of an integer: the API server reads bounds as doubles, and refuses a CRD whose bound is beyond what an int64
/// holds, as the double nearest to `i64::MAX` is.
pub const MAX_INTEGER: i64 = (1 << 53) - 1;

/// RFC 3339; the API server bounds its length by the format.
pub fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

/// Resource names to amounts, as in a container's `requests`.
pub fn resource_list(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 8,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "maxLength": 32,
            "pattern": r"^[0-9]+(\.[0-9]+)?([numkMGTP]|[KMGTP]i)?$",
        },
    })
}

/// Labels or annotations that the user gives to pods.
pub fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 63},
        "x-kubernetes-validations": [reserved_keys("labels")],
    })
}

pub fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 4096},
        "x-kubernetes-validations": [reserved_keys("annotations")],
    })
}

fn reserved_keys(field: &str) -> serde_json::Value {
    serde_json::json!({
        "rule": "self.all(k, !k.startsWith('aof2.dev/') && !k.startsWith('app.kubernetes.io/'))",
        "message": format!(
            "spec.podTemplate.metadata.{field}: keys under aof2.dev/ and app.kubernetes.io/ are the operator's; choose another prefix"
        ),
    })
}

/// Any object: the pod's spec, checked by a dry run of the StatefulSet and not here.
pub fn open_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// `metav1.Condition`, at most one per type.
pub fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {"type": "string", "maxLength": 63},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                "reason": {"type": "string", "maxLength": 63},
                "message": {"type": "string", "maxLength": 2048},
                "lastTransitionTime": {"type": "string", "format": "date-time"},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0, "maximum": MAX_INTEGER},
            },
        },
    })
}
