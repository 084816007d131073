//! What a writer's records hold: readable, different for each, and the same again for the same stream, producer_seq and run.

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// First 8 bytes, little-endian, of the SHA-256 of the stream's name; never 0, which means no producer.
pub fn producer_id(stream: &str) -> u64 {
    let digest = Sha256::digest(stream.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first).max(1)
}

/// `<stream> <producer_seq> <run> ` and filler up to `size` bytes; longer where `size` has no room for the head.
pub fn payload(stream: &str, producer_seq: u64, run: u64, size: usize) -> Bytes {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz012345";
    let mut text = format!("{stream} {producer_seq} {run:016x} ").into_bytes();
    text.reserve(size.saturating_sub(text.len()));
    let mut state = producer_id(stream) ^ producer_seq.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ run;
    while text.len() < size {
        // splitmix64: five bits a letter, twelve letters a step.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^= word >> 31;
        for letter in 0..12.min(size - text.len()) {
            text.push(LETTERS[(word >> (letter * 5) & 31) as usize]);
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_id_comes_from_the_stream_alone() {
        // printf orders-0-a | sha256sum
        let digest = Sha256::digest(b"orders-0-a");
        assert_eq!(producer_id("orders-0-a").to_le_bytes(), digest[..8]);
        assert_ne!(producer_id("orders-0-a"), producer_id("orders-0-b"));
    }

    #[test]
    fn a_payload_is_the_same_again_and_different_from_every_other() {
        let one = payload("orders-0-a", 7, 1, 256);
        assert_eq!(one, payload("orders-0-a", 7, 1, 256));
        assert_eq!(one.len(), 256);
        assert!(one.starts_with(b"orders-0-a 7 0000000000000001 "));
        for other in [
            payload("orders-0-b", 7, 1, 256),
            payload("orders-0-a", 8, 1, 256),
            payload("orders-0-a", 7, 2, 256),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_size_without_room_for_the_head_is_exceeded() {
        assert_eq!(payload("a", 7, 1, 0), "a 7 0000000000000001 ");
    }
}
