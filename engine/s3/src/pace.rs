//! How long a request may take: as long as it gets on. A time limit by size alone makes a slow line begin the same upload again for ever,
//! and none at all waits for ever for a store that hangs.
//!
//! - Without a body: the time-out.
//! - While bytes move: each piece has the time-out, and what lies in buffers between us and the store the time that it needs at
//!   `SLOWEST_BUFFERED`, since it is not seen to arrive.
//! - In all: the time-out, and what the body takes at `SLOWEST`.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Bytes per second below which a body is given up.
const SLOWEST: u64 = 16 << 10;
/// Bytes per second at which buffers are taken to empty.
const SLOWEST_BUFFERED: u64 = 32 << 10;
/// Bytes that the kernels of both sides hold at most of one connection.
const BUFFERS: u64 = 4 << 20;

/// One request. Bytes are told to it as they move.
pub(crate) struct Pace {
    timeout: Duration,
    began: Instant,
    body_bytes: u64,
    moved: Mutex<Moved>,
}

struct Moved {
    bytes: u64,
    at: Instant,
    /// The local file could not be read.
    broken: Option<String>,
}

impl Pace {
    /// `body_bytes`: of the larger one, as far as it is known.
    pub fn new(timeout: Duration, body_bytes: u64, now: Instant) -> Pace {
        Pace {
            timeout,
            began: now,
            body_bytes,
            moved: Mutex::new(Moved {
                bytes: 0,
                at: now,
                broken: None,
            }),
        }
    }

    pub fn note(&self, bytes: u64, now: Instant) {
        let mut moved = self.moved.lock();
        moved.bytes += bytes;
        moved.at = now;
    }

    pub fn note_broken(&self, cause: String) {
        self.moved.lock().broken = Some(cause);
    }

    pub fn broken(&self) -> Option<String> {
        self.moved.lock().broken.clone()
    }

    /// When to give up unless more bytes move.
    pub fn ends_at(&self) -> Instant {
        let moved = self.moved.lock();
        let buffered = time_of(moved.bytes.min(BUFFERS), SLOWEST_BUFFERED);
        let stalls_at = moved.at + self.timeout + buffered;
        let body_bytes = self.body_bytes.max(moved.bytes);
        stalls_at.min(self.began + self.timeout + time_of(body_bytes, SLOWEST))
    }

    /// For people.
    pub fn describe(&self, now: Instant) -> String {
        let moved = self.moved.lock();
        let silent = now.saturating_duration_since(moved.at);
        if moved.bytes == 0 {
            return format!("no answer within {:.1} s", silent.as_secs_f32());
        }
        format!(
            "no answer within {:.1} s of the last byte, {} bytes moved in {:.1} s",
            silent.as_secs_f32(),
            moved.bytes,
            now.saturating_duration_since(self.began).as_secs_f32()
        )
    }
}

fn time_of(bytes: u64, bytes_per_second: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1_000) / bytes_per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);
    const MIB: u64 = 1 << 20;

    /// Ends of a body that moves at `rate`, seen in pieces of 64 KiB; `None` when it was given up.
    fn sent(body_bytes: u64, rate: u64) -> Option<Duration> {
        const PIECE: u64 = 64 << 10;
        let start = Instant::now();
        let pace = Pace::new(TIMEOUT, body_bytes, start);
        let mut now = start;
        let mut left = body_bytes;
        while left > 0 {
            let piece = PIECE.min(left);
            now += time_of(piece, rate);
            if now >= pace.ends_at() {
                return None;
            }
            pace.note(piece, now);
            left -= piece;
        }
        Some(now - start)
    }

    #[test]
    fn a_full_segment_goes_up_at_100_kib_per_second() {
        let took = sent(256 * MIB, 100 << 10).expect("not given up");
        assert!(took > Duration::from_secs(2_600), "{took:?}");
        assert!(sent(256 * MIB, SLOWEST / 2).is_none());
    }

    #[test]
    fn a_request_without_a_body_has_the_time_out() {
        let start = Instant::now();
        let pace = Pace::new(TIMEOUT, 0, start);
        assert_eq!(pace.ends_at(), start + TIMEOUT);
        assert_eq!(pace.describe(start + TIMEOUT), "no answer within 30.0 s");
    }

    #[test]
    fn a_store_that_takes_a_part_and_hangs_is_given_up_in_bounded_time() {
        let start = Instant::now();
        let pace = Pace::new(TIMEOUT, 256 * MIB, start);
        assert_eq!(pace.ends_at(), start + TIMEOUT);
        pace.note(3 * MIB, start);
        assert_eq!(pace.ends_at(), start + TIMEOUT + Duration::from_secs(96));
        pace.note(200 * MIB, start);
        assert_eq!(pace.ends_at(), start + TIMEOUT + Duration::from_secs(128));
    }

    #[test]
    fn a_store_that_takes_a_byte_now_and_then_is_given_up_in_bounded_time() {
        let start = Instant::now();
        let pace = Pace::new(TIMEOUT, MIB, start);
        let mut now = start;
        while now < pace.ends_at() {
            now += Duration::from_secs(29);
            pace.note(1, now);
        }
        assert!(
            now - start < Duration::from_secs(30 + 64 + 29),
            "{:?}",
            now - start
        );
    }
}
