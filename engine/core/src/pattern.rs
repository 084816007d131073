//! Names of streams with `*` for any characters.

use aof2_format::names::MAX_STREAM_NAME_BYTES;

/// A name with a star on either side of each of its characters is no use to anybody.
pub const MAX_BYTES: usize = 2 * MAX_STREAM_NAME_BYTES;

/// Why no stream can have a name that fits, with what to write.
pub fn problem(pattern: &str) -> Option<&'static str> {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-*".contains(&byte);
    if !pattern.bytes().all(is_allowed) {
        return Some("use lower-case letters, digits, hyphens and `*`");
    }
    let letters = pattern.bytes().filter(|byte| *byte != b'*').count();
    if pattern.is_empty() || letters > MAX_STREAM_NAME_BYTES {
        return Some("use 1 to 63 characters");
    }
    if pattern.starts_with('-') || pattern.ends_with('-') {
        return Some("names begin and end with a letter or a digit");
    }
    None
}

pub fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut next) = (0, 0);
    // Behind the last star, and where what it stands for ends.
    let mut star: Option<(usize, usize)> = None;
    while next < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, next));
            }
            Some(byte) if *byte == name[next] => {
                at += 1;
                next += 1;
            }
            Some(_) | None => match &mut star {
                Some((behind, end)) => {
                    *end += 1;
                    (at, next) = (*behind, *end);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Every name that fits `inner` fits `outer`. `false` may also mean that this is not seen: a star of `inner` has to meet one of `outer`.
pub fn contains(outer: &str, inner: &str) -> bool {
    fits(outer, inner)
}

/// Some string fits both.
pub fn overlap(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    // Of what is left of both, from the end on: row by row.
    let mut behind = vec![false; other.len() + 1];
    for at in (0..=one.len()).rev() {
        let mut row = vec![false; other.len() + 1];
        for to in (0..=other.len()).rev() {
            row[to] = match (one.get(at), other.get(to)) {
                (None, None) => true,
                (Some(b'*'), None) => behind[to],
                (Some(b'*'), Some(_)) => behind[to] || row[to + 1],
                (None, Some(b'*')) => row[to + 1],
                (Some(_), Some(b'*')) => row[to + 1] || behind[to],
                (Some(a), Some(b)) => a == b && behind[to + 1],
                (None, Some(_)) | (Some(_), None) => false,
            };
        }
        behind = row;
    }
    behind[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_also_none() {
        for (pattern, name, is_fit) in [
            ("*", "a", true),
            ("orders-*", "orders-0", true),
            ("orders-*", "orders-", true),
            ("orders-*", "orders", false),
            ("*-0", "a-0-0", true),
            ("*-0", "a-0-1", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "acb", false),
            ("a", "ab", false),
            ("ab", "a", false),
            ("a**", "a", true),
        ] {
            assert_eq!(fits(pattern, name), is_fit, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_that_no_name_fits_are_known() {
        for pattern in ["", "Orders", "a.b", "-a", "a-", "a b", &"a".repeat(64)] {
            assert!(problem(pattern).is_some(), "{pattern}");
        }
        for pattern in ["*", "a", "a-*", "*-a", &"a".repeat(63)] {
            assert_eq!(problem(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn patterns_overlap_where_a_name_can_fit_both() {
        for (one, other, is_overlap) in [
            ("*", "a", true),
            ("a-*", "*-b", true),
            ("a-*", "b-*", false),
            ("a*b", "ab", true),
            ("a*b", "a", false),
            ("*a*", "bbb", false),
            ("*a*", "*b", true),
            ("ab", "ab", true),
            ("ab", "abc", false),
            ("a*c", "*b*", true),
        ] {
            assert_eq!(overlap(one, other), is_overlap, "{one} {other}");
            assert_eq!(overlap(other, one), is_overlap, "{other} {one}");
        }
    }

    #[test]
    fn a_pattern_contains_another_where_its_stars_take_the_others() {
        for (outer, inner, is_inside) in [
            ("*", "a-*", true),
            ("a*", "a-*", true),
            ("a-*", "a*", false),
            ("a*b", "a*x*b", true),
            ("a", "*", false),
            ("*b", "a-b", true),
        ] {
            assert_eq!(contains(outer, inner), is_inside, "{outer} {inner}");
        }
    }
}
