//! What has to hold before a change, and what a canary has to pass: against the other pods, and against its own past.

mod before;
mod watched;

pub(super) use before::{BEFORE, BEFORE_RETURN, View};
pub(super) use watched::{RATE_WINDOW, UNREADY_LIMIT, Verdict, check, crashed};

/// `0.5/s`
pub(super) fn rate_text(rate: f64) -> String {
    format!("{rate:.1}/s")
}

fn parse_rate(text: &str) -> f64 {
    text.trim_end_matches("/s").parse().unwrap_or_default()
}
