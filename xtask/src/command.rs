//! Running other programs. An error names the program, its arguments and the last lines it wrote.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How much of a failed program's output is worth repeating.
const REPEATED_LINES: usize = 25;

/// Runs a program whose output the user should see as it comes.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs a program for its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let finished = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !finished.status.success() {
        let said = String::from_utf8_lossy(&finished.stderr);
        let said = if said.trim().is_empty() {
            String::from_utf8_lossy(&finished.stdout)
        } else {
            said
        };
        bail!(
            "{} ended with {}: {}",
            shown(command),
            finished.status,
            last_lines(&said)
        );
    }
    Ok(String::from_utf8_lossy(&finished.stdout).into_owned())
}

/// Whether a program runs and is content.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Asks again and again until the answer is yes; an error says what was waited for and where to look.
pub fn wait_until(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + limit;
    while !is_so() {
        if Instant::now() >= end {
            bail!("{what}: not so after {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Where `program` is, if the PATH has it.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// The PATH with `folder` in front.
pub fn search_path(folder: &Path) -> String {
    format!(
        "{}:{}",
        folder.display(),
        std::env::var("PATH").unwrap_or_default()
    )
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    let line = words.join(" ");
    match line.char_indices().nth(200) {
        Some((end, _)) => format!("`{}...`", &line[..end]),
        None => format!("`{line}`"),
    }
}

pub fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(REPEATED_LINES)..].join("\n")
}
