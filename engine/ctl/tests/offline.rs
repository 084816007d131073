//! What the tools say when there is no engine, or no need for one.

mod support;

use support::{ADMIN, INSPECT, TIER1, run};

#[test]
fn an_engine_that_is_not_there_is_unavailable_and_its_socket_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock").display().to_string();
    let dump = run(ADMIN, &["dump", "--admin-socket", &socket], "");
    assert_eq!(dump.code, 3, "{dump:?}");
    assert!(
        dump.stderr.contains(&socket) && dump.stderr.contains("check that the engine runs"),
        "{dump:?}"
    );

    let append = run(
        ADMIN,
        &["append", "orders", "--payload", "x", "--socket", &socket],
        "",
    );
    assert_eq!(append.code, 3, "{append:?}");
    assert!(
        append.stderr.contains(&socket) && append.stderr.contains("append to orders"),
        "{append:?}"
    );
}

#[test]
fn a_prestop_hook_never_fails() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock").display().to_string();
    let hook = run(ADMIN, &["prestop", "--admin-socket", &socket], "");
    assert_eq!(hook.code, 0, "{hook:?}");
    assert!(hook.stderr.contains("cannot reach the engine"), "{hook:?}");
}

#[test]
fn a_wrong_command_line_is_usage() {
    for arguments in [
        &["frobnicate"][..],
        &["append"],
        &["load", "--stream", "a", "--rate", "fast"],
        &["load", "--stream", "Not A Name", "--rate", "1"],
        &["dump", "--url", "https://127.0.0.1:7421"],
        &["dump", "--timeout", "soon"],
        &[],
    ] {
        let refused = run(ADMIN, arguments, "");
        assert_eq!(refused.code, 2, "{arguments:?}: {refused:?}");
    }
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["recompress", "--level", "20"],
        &["stats", "--stream", "Not A Name"],
        &["recompress", "--directory", "/tmp"],
        &["train", "orders"],
        &["train", "orders", "--measure"],
        &["stats", "--tier1-directory", "/tmp"],
        &["stats", "--directory", "/tmp"],
        &["verify", "--directory", "/nonexistent"],
    ] {
        let refused = run(TIER1, arguments, "");
        assert_eq!(refused.code, 2, "{arguments:?}: {refused:?}");
    }
    assert_eq!(run(INSPECT, &[], "").code, 2);
    assert_eq!(run(INSPECT, &["/nonexistent"], "").code, 2);
}

#[test]
fn the_version_is_the_package_s() {
    let expected = env!("CARGO_PKG_VERSION");
    assert_eq!(
        run(ADMIN, &["--version"], "").ok(),
        format!("aof2-admin {expected}\n")
    );
    assert_eq!(
        run(INSPECT, &["--version"], "").ok(),
        format!("manifest-inspect {expected}\n")
    );
    assert_eq!(
        run(TIER1, &["--version"], "").ok(),
        format!("tier1-cache-util {expected}\n")
    );
}

#[test]
fn a_configuration_is_checked_with_file_line_and_nearest_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("aof2.toml");
    let name = file.display().to_string();

    std::fs::write(&file, "[segment]\ntarget_bytes = 1048576\n").unwrap();
    assert_eq!(
        run(ADMIN, &["config", "check", &name], "").ok(),
        format!("{name}: valid\n")
    );

    std::fs::write(&file, "[segment]\ntarget_byte = 1048576\n").unwrap();
    let unknown = run(ADMIN, &["config", "check", &name], "");
    assert_eq!(unknown.code, 1, "{unknown:?}");
    assert!(
        unknown
            .stdout
            .starts_with(&format!("{name}:2:1: unknown key")),
        "{unknown:?}"
    );
    assert!(
        unknown.stdout.contains("`segment.target_bytes`"),
        "{unknown:?}"
    );

    std::fs::write(
        &file,
        "[tier2]\nbucket = \"x\"\n[segment]\ntarget_bytes = \"big\"\n",
    )
    .unwrap();
    let verdict = run(ADMIN, &["config", "check", &name, "--json"], "");
    assert_eq!(verdict.code, 1, "{verdict:?}");
    let verdict: serde_json::Value = serde_json::from_str(&verdict.stdout).unwrap();
    let errors: Vec<(u64, &str, &str)> = verdict["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| {
            let text = |field: &str| error[field].as_str().unwrap();
            (error["line"].as_u64().unwrap(), text("key"), text("reason"))
        })
        .collect();
    assert_eq!(
        errors,
        [
            (2, "tier2.bucket", "OperatorOwnedKey"),
            (4, "segment.target_bytes", "WrongType")
        ]
    );

    let missing = run(ADMIN, &["config", "check", "/nonexistent/aof2.toml"], "");
    assert_eq!(missing.code, 2, "{missing:?}");
    assert!(
        missing
            .stderr
            .contains("/nonexistent/aof2.toml: cannot be read"),
        "{missing:?}"
    );
}

#[test]
fn a_list_that_is_none_is_refused_before_an_engine_is_asked() {
    let verify = run(ADMIN, &["verify"], "{\"stream\":\"a\"}\n");
    assert_eq!(verify.code, 2, "{verify:?}");
    assert!(verify.stderr.contains("line 1"), "{verify:?}");
}
