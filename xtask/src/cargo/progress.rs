//! What a build shows: one line with how far it is. What cargo and the compiler print goes to a file, whose end an error repeats.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::last_lines;
use crate::console::{self, say};

/// How often a log, which keeps every line, gets one.
const LINE_EVERY: Duration = Duration::from_secs(20);
/// What cargo writes when another one holds the target folder: the one thing to know at once.
const IS_BLOCKED: &str = "Blocking waiting for file lock";

/// Of cargo's own progress bar: units of work, about one per crate, those that need no work included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Units {
    done: u32,
    total: u32,
}

/// Runs a build and answers its standard output, which is for programs. `log` gets everything else.
pub fn run(command: &mut Command, what: &str, log: &Path) -> Result<String> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    let before = last_duration(log);
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    say(format_args!(
        "{what}: {}; its log is {}",
        match before {
            Some(seconds) => format!("took {seconds} s the last time"),
            None => "the first time in this target folder, minutes".to_owned(),
        },
        log.display()
    ));
    // A bar for a terminal that is not there, in a form that can be read.
    let mut child = command
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "80")
        .env("CARGO_TERM_COLOR", "never")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let mut messages = child.stdout.take().context("a build without output")?;
    let told = child.stderr.take().context("a build without errors")?;
    let begun = Instant::now();
    let (text, followed) = std::thread::scope(|scope| {
        let (bar, shown) = mpsc::channel();
        let following = scope.spawn(move || follow(told, file, what, bar));
        scope.spawn(move || show(&shown, what, begun));
        let mut text = String::new();
        let read = messages.read_to_string(&mut text);
        (read.map(|_| text), following.join())
    });
    let status = child.wait()?;
    match followed {
        Ok(followed) => followed.with_context(|| format!("cannot write {}", log.display()))?,
        Err(_) => bail!("the thread that follows {what} panicked"),
    }
    if !status.success() {
        let said = fs::read_to_string(log).unwrap_or_default();
        bail!(
            "{what} ended with {status}; the end of {}:\n{}",
            log.display(),
            last_lines(&said)
        );
    }
    let seconds = begun.elapsed().as_secs();
    fs::write(duration_file(log), seconds.to_string())?;
    say(format_args!("{what}: done in {seconds} s"));
    Ok(text?)
}

fn duration_file(log: &Path) -> PathBuf {
    log.with_extension("seconds")
}

/// Seconds of the last build with this log that ended well.
pub fn last_duration(log: &Path) -> Option<u64> {
    let text = fs::read_to_string(duration_file(log)).ok()?;
    text.trim().parse().ok()
}

/// Keeps lines, and tells how far the bar between them is.
fn follow(
    mut told: impl Read,
    mut log: impl Write,
    what: &str,
    bar: Sender<Units>,
) -> std::io::Result<()> {
    let mut buffer = [0; 8192];
    let mut open = Vec::new();
    loop {
        let length = told.read(&mut buffer)?;
        for byte in &buffer[..length] {
            if !matches!(byte, b'\n' | b'\r') {
                open.push(*byte);
                continue;
            }
            let line = String::from_utf8_lossy(&open).into_owned();
            open.clear();
            if let Some(units) = units(&line) {
                // Nobody shows it any more: the build is over.
                let _ = bar.send(units);
            } else if !line.trim().is_empty() {
                if line.contains(IS_BLOCKED) {
                    say(format_args!("{what}: {}", line.trim()));
                }
                writeln!(log, "{line}")?;
            }
        }
        if length == 0 {
            return log.write_all(&open);
        }
    }
}

/// Shows it until nothing more comes: in a terminal's last line, else in a line now and then, also while one crate takes long.
fn show(bar: &Receiver<Units>, what: &str, begun: Instant) {
    let is_terminal = console::is_terminal();
    let mut shown = Instant::now();
    let mut last = None;
    loop {
        match bar.recv_timeout(Duration::from_secs(1)) {
            Ok(units) => last = Some(units),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return console::progress(None),
        }
        let Some(Units { done, total }) = last else {
            continue;
        };
        let seconds = begun.elapsed().as_secs();
        let text = format!("{what}: {done} of {total} crates, {seconds} s");
        if is_terminal {
            console::progress(Some(text));
        } else if shown.elapsed() >= LINE_EVERY {
            shown = Instant::now();
            say(text);
        }
    }
}

/// `    Building [=====>   ] 123/680: tokio, h2(build)`
fn units(line: &str) -> Option<Units> {
    let (_, rest) = line
        .trim_start()
        .strip_prefix("Building [")?
        .split_once("] ")?;
    let (done, rest) = rest.split_once('/')?;
    let digits = rest.find(|letter: char| !letter.is_ascii_digit());
    let total = &rest[..digits.unwrap_or(rest.len())];
    Some(Units {
        done: done.trim().parse().ok()?,
        total: total.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_s_bar_is_read_and_other_lines_are_not() {
        let bar = "    Building [=====>            ] 123/680: tokio, h2(build)";
        assert_eq!(
            units(bar),
            Some(Units {
                done: 123,
                total: 680
            })
        );
        assert_eq!(units("   Compiling tokio v1.54.1"), None);
        assert_eq!(units("    Building [=====>  "), None);
    }

    fn shell(script: &str, log: &Path) -> Result<String> {
        run(Command::new("sh").args(["-c", script]), "the build", log)
    }

    #[test]
    fn lines_go_to_the_log_and_the_bar_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("logs/build.log");
        let script = r"printf '   Compiling a v1\n    Building [=> ] 1/2: a\r   Compiling b v1\n' >&2; echo '{}'";
        assert_eq!(shell(script, &log).unwrap(), "{}\n");
        assert_eq!(
            fs::read_to_string(&log).unwrap(),
            "   Compiling a v1\n   Compiling b v1\n"
        );
        assert_eq!(last_duration(&log), Some(0));
    }

    #[test]
    fn a_build_that_fails_names_its_log_and_repeats_the_end_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("build.log");
        let script = "seq 1 100 >&2; echo 'error: no such type' >&2; exit 101";
        let error = shell(script, &log).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!(
                "the build ended with exit status: 101; the end of {}:",
                log.display()
            )),
            "{error}"
        );
        assert!(error.ends_with("100\nerror: no such type"), "{error}");
        assert!(!error.contains("\n50\n"), "{error}");
        assert_eq!(last_duration(&log), None);
    }
}
