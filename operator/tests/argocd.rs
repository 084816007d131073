//! The health script of the guide, run as Argo CD runs it (Lua 5.1, the object as `obj`), on what the operator says about clusters.

use mlua::{Lua, LuaSerdeExt, Table};
use serde_json::{Value, json};

const GUIDE: &str = include_str!("../../docs/guide/gitops.md");

/// Of the block below its key, without the indentation.
fn script() -> String {
    let key = "resource.customizations.health.aof2.dev_Aof2Cluster: |\n";
    let (_, block) = GUIDE.split_once(key).expect("the script");
    let lines = block.lines().take_while(|line| *line != "```");
    lines
        .map(|line| line.strip_prefix("    ").unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n")
}

fn health(object: &Value) -> (String, String) {
    let lua = Lua::new();
    let object = lua.to_value(object).expect("a table");
    lua.globals().set("obj", object).expect("set");
    let health: Table = lua.load(script()).eval().expect("it runs");
    let text = |key: &str| health.get::<String>(key).expect("a text");
    (text("status"), text("message"))
}

/// As the operator writes them: `Type=Status/Reason`.
fn cluster(conditions: &[&str]) -> Value {
    let condition = |text: &&str| {
        let (kind, rest) = text.split_once('=').expect("a type");
        let (status, reason) = rest.split_once('/').expect("a reason");
        json!({"type": kind, "status": status, "reason": reason, "message": format!("about {kind}")})
    };
    json!({
        "metadata": {"name": "orders", "generation": 3},
        "status": {
            "observedGeneration": 3,
            "summary": "the summary",
            "conditions": conditions.iter().map(condition).collect::<Vec<_>>(),
        },
    })
}

#[test]
fn argo_cd_sees_what_a_person_has_to_do() {
    let cases: [(&[&str], &str, &str); 10] = [
        (
            &["Ready=True/Serving", "Healthy=True/Healthy"],
            "Healthy",
            "the summary",
        ),
        (
            &["Ready=False/Starting", "Healthy=Unknown/Starting"],
            "Progressing",
            "the summary",
        ),
        (&["Ready=False/PodsNotReady"], "Degraded", "about Ready"),
        (
            &["Ready=True/Serving", "Reconciling=True/RollingOut"],
            "Progressing",
            "about Reconciling",
        ),
        (
            &["Ready=True/Serving", "Reconciling=True/Paused"],
            "Suspended",
            "the summary",
        ),
        // A config that does not parse, and a ConfigMap that is missing, while every pod serves.
        (
            &[
                "Ready=True/Serving",
                "Healthy=True/Healthy",
                "Stalled=True/ConfigInvalid",
            ],
            "Degraded",
            "about Stalled",
        ),
        (
            &["Ready=True/Serving", "Stalled=True/ConfigMapMissing"],
            "Degraded",
            "about Stalled",
        ),
        (
            &["SpecValid=False/InvalidAnnotation", "Ready=True/Serving"],
            "Degraded",
            "about SpecValid",
        ),
        (
            &["Ready=True/Serving", "Healthy=False/Tier2Refused"],
            "Degraded",
            "about Healthy",
        ),
        (
            &[
                "Ready=True/Serving",
                "SnapshotsVerified=False/VerificationFailed",
            ],
            "Degraded",
            "about SnapshotsVerified",
        ),
    ];
    for (conditions, status, message) in cases {
        let found = health(&cluster(conditions));
        assert_eq!(found, (status.into(), message.into()), "{conditions:?}");
    }
}

#[test]
fn what_the_operator_has_not_seen_yet_is_in_progress() {
    let mut changed = cluster(&["Ready=True/Serving"]);
    changed["metadata"]["generation"] = json!(4);
    assert_eq!(health(&changed).0, "Progressing");
    let new = json!({"metadata": {"name": "orders", "generation": 1}});
    assert_eq!(health(&new).0, "Progressing");
}
