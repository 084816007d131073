//! What a person sees: one line per step, each with the seconds since the program started, so that a log tells where time went.

use std::fmt::Display;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

static STARTED: OnceLock<Instant> = OnceLock::new();

/// Starts the clock that `say` prints. Called first thing in `main`.
pub fn start_clock() {
    STARTED.get_or_init(Instant::now);
}

pub fn say(line: impl Display) {
    let elapsed = STARTED.get_or_init(Instant::now).elapsed();
    eprintln!("[{:7.1}s] {line}", elapsed.as_secs_f64());
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
