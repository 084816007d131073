//! The `:authority` of a request that came over a Unix socket.
//!
//! gRPC libraries put the path of the socket there: percent-encoded (C++, Python, Ruby) or as it is (Java). Neither is an authority
//! as RFC 3986 has it, and `h2` resets such a stream before any service sees it. Nothing here routes by authority, so the characters
//! that it takes offence at are replaced.
//!
//! A replaced value keeps its length: the table of header fields that both ends keep (RFC 7541, section 2.3) counts names and
//! values by their length, and the client's copy has the old value. So later references to the field stay right.

use std::sync::LazyLock;

use http::uri::Authority;

const NAME: &[u8] = b":authority";
/// `:authority` in the static table; by itself it stands for an empty value.
const STATIC_INDEX: u64 = 1;
const EMPTY: u8 = 0x80 | STATIC_INDEX as u8;
const END_OF_STRING: usize = 256;
const LONGEST_CODE: usize = 30;

/// Lengths in bits of the code of each octet and of the end of a string (RFC 7541, appendix B). The code is canonical: the
/// lengths give the codes.
#[rustfmt::skip]
const CODE_LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// Octets in the order of their codes, and per length the first code and the place of its octet.
struct Code {
    octets: Vec<usize>,
    first: [(u32, usize); LONGEST_CODE + 2],
}

static CODE: LazyLock<Code> = LazyLock::new(|| {
    let mut octets: Vec<usize> = (0..CODE_LENGTHS.len()).collect();
    octets.sort_by_key(|octet| (CODE_LENGTHS[*octet], *octet));
    let mut first = [(0, 0); LONGEST_CODE + 2];
    let (mut code, mut place) = (0, 0);
    for (length, first) in first.iter_mut().enumerate().skip(1) {
        *first = (code, place);
        let count = octets[place..]
            .iter()
            .take_while(|octet| usize::from(CODE_LENGTHS[**octet]) == length)
            .count();
        place += count;
        code = (code + count as u32) << 1;
    }
    Code { octets, first }
});

/// The block of header fields with an `:authority` that `h2` takes. `None`: it may stay as it is, or is not a block that this
/// understands; then `h2` judges it.
pub fn tolerate(block: &[u8]) -> Option<Vec<u8>> {
    let mut fields = Cursor { block, at: 0 };
    let mut kept_upto = 0;
    let mut changed = Vec::new();
    while let Some(&first) = block.get(fields.at) {
        let begin = fields.at;
        if first == EMPTY {
            changed.extend_from_slice(&block[kept_upto..begin]);
            kept_upto = begin + 1;
            fields.at += 1;
            continue;
        }
        // Section 6: an indexed field, a change of the table's size, or a literal.
        let index = match first {
            0x80.. => {
                fields.number(7)?;
                continue;
            }
            0x40..0x80 => fields.number(6)?,
            0x20..0x40 => {
                fields.number(5)?;
                continue;
            }
            ..0x20 => fields.number(4)?,
        };
        let is_authority = if index == 0 {
            fields.string()?.is(NAME)
        } else {
            index == STATIC_INDEX
        };
        let value_at = fields.at;
        let value = fields.string()?;
        if !is_authority {
            continue;
        }
        let value = value.decoded()?;
        if let Some(value) = acceptable(&value) {
            changed.extend_from_slice(&block[kept_upto..value_at]);
            write_string(&mut changed, &value);
            kept_upto = fields.at;
        }
    }
    if kept_upto == 0 {
        return None;
    }
    changed.extend_from_slice(&block[kept_upto..]);
    Some(changed)
}

/// As long as the other. `None`: the value is an authority, or empty.
fn acceptable(value: &[u8]) -> Option<Vec<u8>> {
    if value.is_empty() || Authority::try_from(value).is_ok() {
        return None;
    }
    let octets = value.iter().map(|octet| match octet {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' => *octet,
        _ => b'-',
    });
    Some(octets.collect())
}

fn write_string(block: &mut Vec<u8>, octets: &[u8]) {
    let mut left = octets.len();
    if left < 0x7f {
        block.push(left as u8);
    } else {
        block.push(0x7f);
        left -= 0x7f;
        while left >= 0x80 {
            block.push((left % 0x80) as u8 | 0x80);
            left /= 0x80;
        }
        block.push(left as u8);
    }
    block.extend_from_slice(octets);
}

struct Cursor<'a> {
    block: &'a [u8],
    at: usize,
}

/// A string literal as it was sent.
struct Literal<'a> {
    is_huffman: bool,
    octets: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// An integer with a prefix of so many bits (section 5.1).
    fn number(&mut self, prefix: u32) -> Option<u64> {
        let mask = (1 << prefix) - 1;
        let mut number = u64::from(*self.block.get(self.at)? & mask);
        self.at += 1;
        if number < u64::from(mask) {
            return Some(number);
        }
        for shift in [0, 7, 14, 21] {
            let octet = *self.block.get(self.at)?;
            self.at += 1;
            number += u64::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn string(&mut self) -> Option<Literal<'a>> {
        let is_huffman = self.block.get(self.at)? & 0x80 != 0;
        let length = usize::try_from(self.number(7)?).ok()?;
        let octets = self.block.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(Literal { is_huffman, octets })
    }
}

impl Literal<'_> {
    fn is(&self, text: &[u8]) -> bool {
        // A code of five bits at least for an octet.
        self.octets.len() <= text.len() && self.decoded().is_some_and(|octets| octets == text)
    }

    fn decoded(&self) -> Option<Vec<u8>> {
        if !self.is_huffman {
            return Some(self.octets.to_vec());
        }
        let mut decoded = Vec::new();
        let (mut code, mut length) = (0_u32, 0_usize);
        for octet in self.octets {
            for bit in (0..8).rev() {
                code = code << 1 | u32::from(octet >> bit & 1);
                length += 1;
                let (first, place) = CODE.first[length];
                let count = CODE.first[length + 1].1 - place;
                let nth = usize::try_from(code.wrapping_sub(first)).ok()?;
                if code >= first && nth < count {
                    let octet = CODE.octets[place + nth];
                    if octet == END_OF_STRING {
                        return None;
                    }
                    decoded.push(octet as u8);
                    (code, length) = (0, 0);
                } else if length == LONGEST_CODE {
                    return None;
                }
            }
        }
        // Padded with ones to a whole octet.
        let is_padding = length < 8 && code == (1 << length) - 1;
        is_padding.then_some(decoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541, C.4.1: `www.example.com`.
    const EXAMPLE: &[u8] = &[
        0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
    ];

    fn literal(first: &[u8], value: &[u8]) -> Vec<u8> {
        let mut block = first.to_vec();
        write_string(&mut block, value);
        block
    }

    fn named() -> Vec<u8> {
        literal(&[0x40], NAME)
    }

    #[test]
    fn an_authority_that_is_a_path_is_replaced_by_one_as_long() {
        let before = [0x83, 0x86, 0x3f, 0xe1, 0x1f];
        let after = literal(&literal(&[0x40], b"te"), b"trailers");
        for first in [vec![0x41], vec![0x01], vec![0x11], named()] {
            for (path, replaced) in [
                (&b"tmp%2Fd.sock"[..], &b"tmp-2Fd.sock"[..]),
                (b"/tmp/d.sock", b"-tmp-d.sock"),
                (b"%2Frun%2Faof2%2Fdata.sock", b"-2Frun-2Faof2-2Fdata.sock"),
                (&[0xff, b' ', b':'], b"---"),
            ] {
                let block = [&before, &literal(&first, path)[..], &after].concat();
                let expected = [&before, &literal(&first, replaced)[..], &after].concat();
                assert_eq!(tolerate(&block), Some(expected));
            }
        }
        let long = [b'%'; 1000];
        let replaced = tolerate(&literal(&[0x41], &long)).expect("replaced");
        assert_eq!(replaced, literal(&[0x41], &[b'-'; 1000]));
    }

    #[test]
    fn a_good_authority_and_other_fields_stay() {
        let mut huffman = vec![0x41];
        huffman.extend_from_slice(EXAMPLE);
        for block in [
            literal(&[0x41], b"localhost"),
            literal(&[0x41], b"localhost:7420"),
            literal(&literal(&[0x40], b"path"), b"%2F"),
            literal(&[0x44], b"/aof2.v1.Log/Append%"),
            huffman,
            vec![0x82, 0x86, 0xbe],
            Vec::new(),
        ] {
            assert_eq!(tolerate(&block), None, "{block:x?}");
        }
    }

    #[test]
    fn a_coded_value_is_read() {
        let octets = &EXAMPLE[1..];
        let is_huffman = true;
        let read = Literal { is_huffman, octets }.decoded();
        assert_eq!(read.as_deref(), Some(&b"www.example.com"[..]));
        // `%2Ftmp%2Fd`, as Go codes it.
        let bits: String = b"%2Ftmp%2Fd".iter().map(|octet| bits_of(*octet)).collect();
        let mut block = vec![0x41, 0x80];
        let padded = format!("{bits}{}", "1".repeat((8 - bits.len() % 8) % 8));
        for octet in padded.as_bytes().chunks(8) {
            let octet = std::str::from_utf8(octet).expect("digits");
            block.push(u8::from_str_radix(octet, 2).expect("an octet"));
            block[1] += 1;
        }
        assert_eq!(
            tolerate(&block),
            Some(literal(&[0x41], b"-2Ftmp-2Fd")),
            "{block:x?}"
        );
    }

    /// From the table of RFC 7541, appendix B.
    fn bits_of(octet: u8) -> &'static str {
        match octet {
            b'%' => "010101",
            b'2' => "00010",
            b'F' => "1100001",
            b't' => "01001",
            b'm' => "101001",
            b'p' => "101011",
            b'd' => "100100",
            other => panic!("{other}"),
        }
    }

    #[test]
    fn an_empty_authority_is_left_out() {
        assert_eq!(tolerate(&[0x83, 0x81, 0x86]), Some(vec![0x83, 0x86]));
    }

    #[test]
    fn whatever_comes_is_no_panic() {
        let mut state = 1_u32;
        for _ in 0..200_000 {
            let mut block = vec![0x41];
            for _ in 0..state % 23 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                block.push((state >> 24) as u8);
            }
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if let Some(changed) = tolerate(&block) {
                assert_eq!(tolerate(&changed), None, "{block:x?}");
            }
            tolerate(&block[1..]);
        }
        for octet in 0..=255 {
            let _ = tolerate(&[octet]);
            let _ = tolerate(&[octet, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        }
    }
}
