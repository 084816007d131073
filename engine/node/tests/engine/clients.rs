//! Stock gRPC libraries of other languages, with the samples of docs/guide/clients.md as they stand.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::support::Home;

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Where they are, made once. `None`, said aloud, where Python, Go or their registries are missing; CI has them.
async fn prepared() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    let made = Command::new(clients().join("prepare.sh"))
        .arg(&folder)
        .output()
        .await
        .expect("bash");
    if made.status.success() {
        return Some(folder);
    }
    let why = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("skipped: clients of other languages are not here: {why}");
    None
}

async fn output(command: &mut Command) -> String {
    let output = command.output().await.expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}\n{errors}");
    text
}

#[tokio::test]
async fn stock_libraries_of_python_and_go_append_and_read_over_the_unix_socket() {
    let Some(folder) = prepared().await else {
        return;
    };
    let home = Home::new();
    let engine = home.start().await;
    let python = || {
        let mut command = Command::new(folder.join("python/bin/python"));
        command.env("PYTHONPATH", folder.join("python"));
        command
    };
    let arguments = ["one", "two", "three"];
    let expected = "0 one\n1 two\n2 three\n";
    let text = output(
        python()
            .arg(clients().join("sample.py"))
            .arg(&engine.data_socket)
            .arg("from-python")
            .args(arguments),
    )
    .await;
    assert_eq!(text, expected);
    let text = output(
        Command::new(folder.join("go/client"))
            .arg(&engine.data_socket)
            .arg("from-go")
            .args(arguments),
    )
    .await;
    assert_eq!(text, expected);
    let text = output(
        python()
            .arg(clients().join("reflect.py"))
            .arg(&engine.data_socket),
    )
    .await;
    let services = "aof2.v1.Log grpc.health.v1.Health grpc.reflection";
    assert!(text.contains(&format!("v1alpha {services}")), "{text}");
    assert!(text.contains(&format!("\nv1 {services}")), "{text}");
    assert_eq!(engine.terminate().await, Some(0));
}

#[test]
fn the_samples_of_the_page_are_those_that_are_run() {
    let page = clients().join("../../../docs/guide/clients.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let mut compared = 0;
    for part in page.split("<!-- sample: ").skip(1) {
        let (path, rest) = part.split_once(" -->\n```").expect("a block");
        let (_, code) = rest.split_once('\n').expect("a language");
        let (code, _) = code.split_once("```").expect("an end");
        let file = clients().join("../../..").join(path);
        let file = std::fs::read_to_string(file).expect("the program");
        assert_eq!(file, code, "{path} is not what the page shows");
        compared += 1;
    }
    assert_eq!(compared, 3);
}
