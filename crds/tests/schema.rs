//! The generated CRD keeps the rules that `lib.rs` states, and the files that are made from it are not stale.

use std::fs;
use std::path::Path;

use aof2_crds::crd;
use serde_json::Value;

const MAX_CRD_BYTES: usize = 200 * 1024;

fn schema() -> Value {
    let crd = serde_json::to_value(crd::aof2_cluster()).expect("a CRD is JSON");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Calls `visit` for every schema below `schema`, with its path.
fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            walk(property, &format!("{path}.{name}"), visit);
        }
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            walk(&schema[key], &format!("{path}{suffix}"), visit);
        }
    }
}

/// What a value may grow to without a bound.
fn unbounded(schema: &Value) -> Option<&'static str> {
    let has = |key: &str| !schema[key].is_null();
    if schema["x-kubernetes-int-or-string"] == true {
        return (!has("maxLength") || !has("pattern"))
            .then_some("a quantity without maxLength and pattern");
    }
    match schema["type"].as_str() {
        Some("string") if has("enum") || schema["format"] == "date-time" => None,
        Some("string") => (!has("maxLength")).then_some("a string without maxLength"),
        Some("array") => (!has("maxItems")).then_some("a list without maxItems"),
        Some("integer") => {
            (!has("minimum") || !has("maximum")).then_some("an integer without bounds")
        }
        Some("object") if has("additionalProperties") => {
            (!has("maxProperties")).then_some("a map without maxProperties")
        }
        Some("object" | "boolean") => None,
        _ => Some("a schema without type"),
    }
}

#[test]
fn every_string_list_map_and_integer_is_bounded() {
    let mut found = Vec::new();
    walk(&schema(), "", &mut |path, schema| {
        // What Kubernetes itself bounds.
        if matches!(path, ".apiVersion" | ".kind") {
            return;
        }
        if let Some(problem) = unbounded(schema) {
            found.push(format!("{path}: {problem}"));
        }
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_walk_finds_what_is_unbounded() {
    let bad = serde_json::json!({"type": "object", "properties": {
        "name": {"type": "string"},
        "list": {"type": "array", "maxItems": 3, "items": {"type": "integer", "minimum": 0}},
        "map": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 3}},
    }});
    let mut found = Vec::new();
    walk(&bad, "", &mut |path, schema| {
        found.extend(unbounded(schema).map(|_| path.to_owned()))
    });
    assert_eq!(found, [".list[]", ".map", ".name"]);
}

#[test]
fn no_reference_names_a_namespace() {
    walk(&schema(), "", &mut |path, _| {
        assert!(
            !path.to_ascii_lowercase().ends_with(".namespace"),
            "{path}: references stay within the object's namespace"
        );
    });
}

#[test]
fn only_the_pod_spec_takes_unknown_fields() {
    let mut open = Vec::new();
    walk(&schema(), "", &mut |path, schema| {
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            open.push(path.to_owned());
        }
    });
    assert_eq!(open, [".spec.podTemplate.spec"]);
}

#[test]
fn every_rule_has_a_message_and_one_over_several_fields_names_them() {
    let mut rules = 0;
    walk(&schema(), "", &mut |path, schema| {
        for rule in schema["x-kubernetes-validations"]
            .as_array()
            .into_iter()
            .flatten()
        {
            rules += 1;
            let message = rule["message"]
                .as_str()
                .or(rule["messageExpression"].as_str())
                .unwrap_or_default();
            // On a single value the API server names field and value itself.
            let is_single = schema["type"] == "string";
            let names_field = message.contains("spec.") || message.contains("metadata.name");
            assert!(
                !message.is_empty() && (is_single || names_field),
                "{path}: {rule}"
            );
        }
    });
    assert!(rules >= 15, "{rules} rules");
}

#[test]
fn the_crd_stays_small() {
    for file in crd::files().expect("CRDs can be written as YAML") {
        assert!(
            file.yaml.len() < MAX_CRD_BYTES,
            "{} has {} bytes",
            file.name,
            file.yaml.len()
        );
    }
}

#[test]
fn the_generated_file_and_the_charts_copy_are_not_stale() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in [
        crate_dir.join("generated"),
        crate_dir.join("../charts/aof2-operator/crds"),
    ] {
        let expected = crd::files().expect("CRDs can be written as YAML");
        for file in &expected {
            let path = folder.join(file.name);
            let found = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                found == file.yaml,
                "{} is stale: run `cargo run -p aof2-crds --bin crdgen`",
                path.display()
            );
        }
        let count = fs::read_dir(&folder)
            .expect("the folder is in the repository")
            .count();
        assert_eq!(
            count,
            expected.len(),
            "{} holds other files",
            folder.display()
        );
    }
}

#[test]
fn kubectl_shows_what_an_on_call_asks_first() {
    let crd = serde_json::to_value(crd::aof2_cluster()).expect("a CRD is JSON");
    let version = &crd["spec"]["versions"][0];
    let columns: Vec<&str> = version["additionalPrinterColumns"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|column| column["name"].as_str())
        .collect();
    assert_eq!(
        columns,
        [
            "Ready",
            "Version",
            "Tier0%",
            "Tier2",
            "Config",
            "Restart-Pending",
            "Snapshot",
            "Status",
            "Age"
        ]
    );
    assert_eq!(
        crd["spec"]["names"]["shortNames"],
        serde_json::json!(["aof2"])
    );
    assert_eq!(
        crd["spec"]["names"]["categories"],
        serde_json::json!(["aof2-all"])
    );
    assert_eq!(
        version["subresources"]["scale"]["labelSelectorPath"],
        ".status.selector"
    );
    assert!(version["subresources"]["status"].is_object());
}
