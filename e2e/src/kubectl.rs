//! The programs a user has: kubectl and helm, run against the test cluster only.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::environment::Environment;

/// What a program said.
#[derive(Clone, Debug)]
pub struct Output {
    pub success: bool,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    kubeconfig: PathBuf,
}

impl Program {
    pub fn kubectl(environment: &Environment) -> Self {
        Self::named("kubectl", environment)
    }

    pub fn helm(environment: &Environment) -> Self {
        Self::named("helm", environment)
    }

    fn named(name: &str, environment: &Environment) -> Self {
        Self {
            path: environment.programs.join(name),
            kubeconfig: environment.kubeconfig.clone(),
        }
    }

    /// Runs it with `input` on standard input; a failure of the program is in the output, not an error.
    pub async fn output(&self, arguments: &[&str], input: Option<&[u8]>) -> Result<Output> {
        let mut child = Command::new(&self.path)
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(if input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.path.display()))?;
        let writer = child
            .stdin
            .take()
            .zip(input.map(<[u8]>::to_vec))
            .map(|(mut stdin, input)| {
                // Beside the reads, or both sides wait for each other once the pipes are full. A program that ends early closes
                // its end, which is its right.
                tokio::spawn(async move {
                    let _ = stdin.write_all(&input).await;
                })
            });
        let output = child.wait_with_output().await?;
        if let Some(writer) = writer {
            writer.abort();
        }
        Ok(Output {
            success: output.status.success(),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs it and returns its standard output; a failure is an error with what it said.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_with(arguments, None).await
    }

    pub async fn run_with(&self, arguments: &[&str], input: Option<&[u8]>) -> Result<String> {
        let output = self.output(arguments, input).await?;
        if !output.success {
            let name = self.path.file_name().unwrap_or_default().to_string_lossy();
            bail!(
                "`{name} {}` failed: {}{}",
                arguments.join(" "),
                output.stderr.trim(),
                output.stdout.trim()
            );
        }
        Ok(output.stdout)
    }
}
