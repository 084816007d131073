//! Running one test program: its output as it comes, its counts, and an end to it when it hangs.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cargo::TestProgram;
use crate::console::{say, seconds};

pub struct Run<'a> {
    pub test: &'a TestProgram,
    pub arguments: &'a [String],
    pub environment: &'a [(&'a str, String)],
    pub limit: Duration,
}

/// What a test program says about itself at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u32,
    pub failed: u32,
    pub ignored: u32,
    /// Of those that the program calls passed: they could not run here and said so.
    pub skipped: u32,
}

impl Run<'_> {
    /// Runs it; a program that ended badly without saying so counts as one failure.
    pub fn to_end(&self) -> Result<Counts> {
        let begun = Instant::now();
        let mut child = Command::new(&self.test.executable)
            .args(self.arguments)
            .current_dir(&self.test.folder)
            .env("CARGO_MANIFEST_DIR", &self.test.folder)
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.test.executable.display()))?;
        let output = child
            .stdout
            .take()
            .context("a test program without output")?;
        let (report, reported) = mpsc::channel();
        std::thread::spawn(move || report.send(echo_and_count(output)));

        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if begun.elapsed() > self.limit {
                say(format_args!(
                    "{} runs for {} and is ended",
                    self.test.target,
                    seconds(begun.elapsed())
                ));
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        // A process that the test left behind may still hold the pipe; that is no reason to wait for it.
        let mut counts = reported
            .recv_timeout(Duration::from_secs(10))
            .unwrap_or_default();
        if !status.is_some_and(|status| status.success()) && counts.failed == 0 {
            counts.failed = 1;
        }
        Ok(counts)
    }
}

fn echo_and_count(output: impl Read) -> Counts {
    let mut counts = Counts::default();
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { continue }; // not UTF-8: for nobody to count
        println!("{line}");
        if let Some(found) = result_line(&line) {
            counts.passed += found.passed;
            counts.failed += found.failed;
            counts.ignored += found.ignored;
        }
    }
    counts
}

/// `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`
fn result_line(line: &str) -> Option<Counts> {
    let (_, result) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = Counts::default();
    for part in result.split("; ") {
        if let Some((Ok(number), what)) = part
            .split_once(' ')
            .map(|(number, what)| (number.parse(), what))
        {
            match what {
                "passed" => counts.passed = number,
                "failed" => counts.failed = number,
                "ignored" => counts.ignored = number,
                _ => {}
            }
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn shell(script: &str, limit: Duration) -> Counts {
        let test = TestProgram {
            package: "p".into(),
            target: "t".into(),
            is_integration: false,
            executable: "/bin/sh".into(),
            folder: PathBuf::from("/"),
        };
        let arguments = ["-c".to_owned(), script.to_owned()];
        Run {
            test: &test,
            arguments: &arguments,
            environment: &[],
            limit,
        }
        .to_end()
        .unwrap()
    }

    #[test]
    fn counts_are_read_from_the_result_line() {
        let line = "test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.01s";
        assert_eq!(
            result_line(line),
            Some(Counts {
                passed: 5,
                failed: 2,
                ignored: 1,
                skipped: 0,
            })
        );
        assert_eq!(result_line("running 5 tests"), None);
    }

    #[test]
    fn a_program_that_dies_without_a_word_counts_as_a_failure() {
        assert_eq!(shell("exit 3", Duration::from_secs(60)).failed, 1);
        assert_eq!(shell("exit 0", Duration::from_secs(60)).failed, 0);
    }

    #[test]
    fn a_program_that_hangs_is_ended_and_counts_as_a_failure() {
        assert_eq!(shell("exec sleep 60", Duration::from_millis(200)).failed, 1);
    }
}
