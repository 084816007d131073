//! The pages of `docs/guide`: the commands that they tell a user to type, typed.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::environment::Environment;
use crate::kubectl::Output;

/// How the pages name their namespace; that of the operator, `aof2-system`, follows it. A test has made its own already.
const NAMESPACE: [(&str, &str); 3] = [
    ("-n aof2", "-n "),
    ("watch.namespace=aof2", "watch.namespace="),
    ("create namespace aof2", "get namespace "),
];

/// Commands of one page, block by block, in their order.
pub struct Page {
    pub blocks: Vec<String>,
}

impl Page {
    pub fn read(name: &str) -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../docs/guide")
            .join(name);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let blocks = blocks(&text);
        ensure!(!blocks.is_empty(), "{name} has no block of commands");
        Ok(Self { blocks })
    }
}

/// Runs one block with a shell in `folder`, as a user of this cluster who works in another namespace than the page's.
pub async fn run(
    environment: &Environment,
    folder: &Path,
    namespace: &str,
    block: &str,
) -> Result<Output> {
    let script = NAMESPACE
        .iter()
        .fold(block.to_owned(), |script, (page, here)| {
            script.replace(page, &format!("{here}{namespace}"))
        });
    let path = std::env::var("PATH").unwrap_or_default();
    let output = tokio::process::Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(folder)
        .env("KUBECONFIG", &environment.kubeconfig)
        .env("PATH", format!("{}:{path}", environment.programs.display()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot start bash")?;
    let output = Output {
        success: output.status.success(),
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    ensure!(
        output.success,
        "the page says\n{block}\nand it ends with {:?}: {}{}",
        output.code,
        output.stdout,
        output.stderr
    );
    Ok(output)
}

/// Blocks that are marked as shell: ```` ```sh ````. What is marked otherwise shows output or a file.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut current: Option<Vec<&str>> = None;
    for line in text.lines() {
        match (&mut current, line.trim_start()) {
            (None, "```sh") => current = Some(Vec::new()),
            (Some(lines), "```") => {
                blocks.push(lines.join("\n"));
                current = None;
            }
            (Some(lines), _) => lines.push(line),
            (None, _) => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blocks_marked_as_shell_are_commands() {
        let text = "a\n```sh\nkubectl get pods \\\n  -n aof2\n```\n```\noutput\n```\n```yaml\nx: 1\n```\n```sh\ntrue\n```\n";
        assert_eq!(blocks(text), ["kubectl get pods \\\n  -n aof2", "true"]);
    }
}
