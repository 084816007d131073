//! What a person sees: one line per step, each with the seconds since the program started, so that a log tells where time went.

use std::fmt::Display;
use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

static STARTED: OnceLock<Instant> = OnceLock::new();
/// What stands in the last line of the terminal.
static PROGRESS: Mutex<Option<String>> = Mutex::new(None);
/// To the beginning of the line, and nothing in it.
const CLEAR: &str = "\r\x1b[K";

/// Starts the clock that `say` prints. Called first thing in `main`.
pub fn start_clock() {
    STARTED.get_or_init(Instant::now);
}

pub fn say(line: impl Display) {
    let elapsed = STARTED.get_or_init(Instant::now).elapsed();
    let line = format!("[{:7.1}s] {line}", elapsed.as_secs_f64());
    let shown = PROGRESS.lock().unwrap_or_else(PoisonError::into_inner);
    match &*shown {
        Some(progress) => eprint!("{CLEAR}{line}\n{progress}"),
        None => eprintln!("{line}"),
    }
}

/// Shows the last line of a terminal, instead of the one before; `None` takes it away. Lines that are said come above it.
pub fn progress(line: Option<String>) {
    let mut shown = PROGRESS.lock().unwrap_or_else(PoisonError::into_inner);
    if *shown == line {
        return;
    }
    eprint!("{CLEAR}{}", line.as_deref().unwrap_or_default());
    *shown = line;
}

/// Whether somebody watches, rather than a file.
pub fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// A headline between the parts of a long run.
pub fn section(title: impl Display) {
    eprintln!();
    say(format_args!("== {title} =="));
}

/// Announces `what`, does it, and says how long it took.
pub fn timed<T, E>(what: impl Display, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let begun = Instant::now();
    say(format_args!("{what} ..."));
    let result = work();
    let verdict = if result.is_ok() { "done" } else { "FAILED" };
    say(format_args!(
        "{what}: {verdict} in {}",
        seconds(begun.elapsed())
    ));
    result
}

pub fn seconds(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}
