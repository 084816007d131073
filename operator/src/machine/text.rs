//! Texts for people: how long they may be, and phrases that several messages share.
//!
//! A message says what happened, then why, then what to do, one idea per sentence. Its first sentence is what STATUS shows.

use aof2_crds::Duration;
use jiff::Timestamp;

use crate::names::ENGINE_CONTAINER;

/// Longest STATUS of `kubectl get`, in characters.
pub const STATUS_LENGTH: usize = 80;

/// At most the first `limit` characters.
pub fn bounded(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}

/// At most `limit` characters, cut at the end of a word and marked by an ellipsis.
pub fn shortened(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let kept = bounded(text, limit.saturating_sub(1));
    // A single long word, such as a path, is cut inside.
    let words = match kept.rsplit_once(' ') {
        Some((words, _)) if words.chars().count() * 2 >= limit => words,
        _ => &kept,
    };
    format!("{}…", words.trim_end_matches([' ', ',', ';', ':', '(']))
}

/// What STATUS shows of a message: its first sentence. A full stop in parentheses is a server's, and ends no sentence of ours.
pub fn headline(message: &str) -> String {
    let line = message.split('\n').next().unwrap_or_default();
    let mut depth = 0_u32;
    let end = line.char_indices().find(|(at, letter)| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && line[*at..].starts_with(". ")
    });
    let first = end.map_or(line, |(at, _)| &line[..at]);
    shortened(first.trim_end_matches('.'), STATUS_LENGTH)
}

/// A text from somebody else, to be followed by a sentence of ours.
pub fn quoted(text: &str) -> &str {
    text.trim().trim_end_matches('.')
}

/// `1 pod`, `3 pods`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// How long something took, for a person.
pub fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(to.duration_since(from).as_secs()).unwrap_or_default())
}

/// A time of today.
pub fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%SZ").to_string()
}

/// A time of any day.
pub fn date(at: Timestamp) -> String {
    at.strftime("%FT%TZ").to_string()
}

/// Where an engine says what is wrong.
pub fn see_log(pod: &str) -> String {
    format!("Run `kubectl logs {pod} -c {ENGINE_CONTAINER}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_shows_the_first_sentence_of_a_message() {
        assert_eq!(
            headline("Eviction of orders-0 rejected (budget). Run `kubectl get pdb`"),
            "Eviction of orders-0 rejected (budget)"
        );
        assert_eq!(
            headline("Version 0.1.1 waits"),
            "Version 0.1.1 waits",
            "no sentence ends inside a version"
        );
        assert_eq!(headline("orders-0 stopped."), "orders-0 stopped");
        assert_eq!(
            headline("Drain of orders-0 failed (Access Denied. Retry). Next try at 10:02:06Z"),
            "Drain of orders-0 failed (Access Denied. Retry)"
        );
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_at_a_word_with_an_ellipsis() {
        let text = format!(
            "Drain of orders-12 failed ({})",
            "connection refused, ".repeat(9)
        );
        let shown = headline(&text);
        assert!(shown.chars().count() <= STATUS_LENGTH, "{shown}");
        assert_eq!(
            shown,
            "Drain of orders-12 failed (connection refused, connection refused, connection…"
        );
        assert_eq!(shortened("exactly", 7), "exactly");
        assert_eq!(shortened(&"ä".repeat(9), 8), "äääääää…", "one word");
    }
}
