//! The known key that a person most probably meant.

use super::keys::KEYS;

/// The nearest known key, or nothing where none is near enough to be worth a suggestion.
pub fn nearest_key(unknown: &str) -> Option<&'static str> {
    let leaf = leaf_of(unknown);
    // The right name in the wrong table is nearer than any spelling mistake.
    if let Some(spec) = KEYS.iter().find(|spec| leaf_of(spec.key) == leaf) {
        return Some(spec.key);
    }
    let (distance, key) = KEYS
        .iter()
        .map(|spec| (edit_distance(unknown, spec.key), spec.key))
        .min()?;
    (distance <= (unknown.chars().count() / 3).max(2)).then_some(key)
}

/// The nearest known table.
pub fn nearest_table(unknown: &str) -> Option<&'static str> {
    let (distance, table) = KEYS
        .iter()
        .map(|spec| spec.table())
        .map(|table| (edit_distance(unknown, table), table))
        .min()?;
    (distance <= (unknown.chars().count() / 3).max(2)).then_some(table)
}

/// Whether a person who wrote one probably meant the other.
pub fn is_near(unknown: &str, known: &str) -> bool {
    edit_distance(unknown, known) <= (unknown.chars().count() / 3).max(2)
}

fn leaf_of(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// Levenshtein distance over characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_edits() {
        for (a, b, distance) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("a", "a", 0),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a} -> {b}");
        }
    }

    #[test]
    fn a_spelling_mistake_finds_its_key_and_nonsense_finds_none() {
        assert_eq!(
            nearest_key("tier0.cluster_max_byte"),
            Some("tier0.cluster_max_bytes")
        );
        assert_eq!(
            nearest_key("segmnt.target_bytes"),
            Some("segment.target_bytes")
        );
        assert_eq!(
            nearest_key("tier0.max_record_bytes"),
            Some("append.max_record_bytes")
        );
        assert_eq!(nearest_key("bananas"), None);
        assert_eq!(nearest_table("tier9"), Some("tier0"));
    }
}
