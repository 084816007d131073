//! Bounds of what is kept in status.

/// At most the first `limit` characters.
pub fn bounded(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}
