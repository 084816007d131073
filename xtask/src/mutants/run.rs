//! Runs one selection of tests in the broken copy.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::list::{Selection, Target};
use crate::cargo::cargo;
use crate::command::last_lines;

pub struct Runner {
    pub tree: PathBuf,
    pub target: PathBuf,
    pub limit: Duration,
}

pub enum Outcome {
    Passed,
    Failed { tests: Vec<String> },
    TimedOut,
    NotBuilt { said: String },
    NothingSelected,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Passed => f.write_str("passes"),
            Outcome::Failed { tests } => write!(f, "fails ({})", tests.join(", ")),
            Outcome::TimedOut => f.write_str("hangs"),
            Outcome::NotBuilt { said } => write!(f, "does not build: {said}"),
            Outcome::NothingSelected => f.write_str("selects no test"),
        }
    }
}

impl Runner {
    pub fn run(&self, selection: &Selection) -> Result<Outcome> {
        let built = self.command(selection, &["--no-run"]).output();
        let built = built.context("cannot start cargo")?;
        if !built.status.success() {
            let said = last_lines(&String::from_utf8_lossy(&built.stderr));
            return Ok(Outcome::NotBuilt { said });
        }
        // The time limit is for the tests, not for the compiler.
        let (is_over, said) = self.to_end(self.command(selection, &["--", selection.filter]))?;
        let Some(is_success) = is_over else {
            return Ok(Outcome::TimedOut);
        };
        Ok(outcome(is_success, &said))
    }

    fn command(&self, selection: &Selection, more: &[&str]) -> Command {
        let mut command = cargo();
        command
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            .args(["test", "--quiet", "-p", selection.package]);
        match selection.target {
            Target::Lib => command.arg("--lib"),
            Target::Test(name) => command.args(["--test", name]),
        };
        let more = more.iter().filter(|word| !word.is_empty());
        command.args(more).stdin(Stdio::null());
        command
    }

    /// Whether it ended well, if it ended in time, and what it said.
    fn to_end(&self, mut command: Command) -> Result<(Option<bool>, String)> {
        // A group of its own: tests that are ended leave no children behind.
        let mut child = command
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start cargo")?;
        let mut output = child.stdout.take().context("cargo has no output")?;
        let reading = std::thread::spawn(move || {
            let mut said = Vec::new();
            // What was read until the pipe broke counts.
            let _ = output.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status.success());
            }
            if begun.elapsed() > self.limit {
                if let Some(group) = rustix::process::Pid::from_raw(child.id() as i32) {
                    rustix::process::kill_process_group(group, rustix::process::Signal::KILL)?;
                }
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let said = reading.join().unwrap_or_default();
        Ok((status, said))
    }
}

fn outcome(is_success: bool, said: &str) -> Outcome {
    let is_any = said.lines().any(|line| {
        line.strip_prefix("running ")
            .is_some_and(|rest| !rest.starts_with("0 "))
    });
    if !is_any {
        return Outcome::NothingSelected;
    }
    if is_success {
        return Outcome::Passed;
    }
    let tests = said.lines().filter_map(|line| {
        let name = line.strip_prefix("---- ")?.strip_suffix(" stdout ----")?;
        Some(name.to_owned())
    });
    Outcome::Failed {
        tests: tests.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_that_failed_is_named() {
        let said = "\nrunning 2 tests\n.F\nfailures:\n\n---- a::b stdout ----\n\nthread panicked\n";
        let Outcome::Failed { tests } = outcome(false, said) else {
            panic!("it failed")
        };
        assert_eq!(tests, ["a::b"]);
        assert!(matches!(outcome(true, said), Outcome::Passed));
    }

    #[test]
    fn a_selection_without_a_test_has_not_passed() {
        let said = "\nrunning 0 tests\n\ntest result: ok. 0 passed\n";
        assert!(matches!(outcome(true, said), Outcome::NothingSelected));
    }

    #[test]
    fn a_selection_that_hangs_is_ended_with_its_children() {
        let runner = Runner {
            tree: "/".into(),
            target: "/".into(),
            limit: Duration::from_millis(200),
        };
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "echo running 1 test; sleep 600 & sleep 600"]);
        let begun = Instant::now();
        let (is_over, said) = runner.to_end(shell).expect("it runs");
        assert_eq!((is_over, said.as_str()), (None, "running 1 test\n"));
        // The reader ended, too: nobody holds the pipe.
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
