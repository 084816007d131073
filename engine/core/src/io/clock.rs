use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub trait Clock: Send + Sync {
    fn monotonic(&self) -> Instant;
    /// For what is stored.
    fn unix_nanos(&self) -> i64;
    /// For what another machine compares with its own clock.
    fn wall_unix_nanos(&self) -> i64 {
        self.unix_nanos()
    }
    fn sleep(&self, duration: Duration);
}

/// A clock whose stored times never step back: where the wall clock does, they stay until it has caught up. Intervals are the
/// monotonic clock's and go on.
pub(crate) struct SteadyClock {
    inner: Arc<dyn Clock>,
    newest: AtomicI64,
}

impl SteadyClock {
    pub fn new(inner: Arc<dyn Clock>) -> SteadyClock {
        SteadyClock {
            inner,
            newest: AtomicI64::new(i64::MIN),
        }
    }

    /// A process before stored this time.
    pub fn note(&self, unix_nanos: i64) {
        self.newest.fetch_max(unix_nanos, Ordering::AcqRel);
    }
}

impl Clock for SteadyClock {
    fn monotonic(&self) -> Instant {
        self.inner.monotonic()
    }

    fn unix_nanos(&self) -> i64 {
        let now = self.inner.unix_nanos();
        self.newest.fetch_max(now, Ordering::AcqRel).max(now)
    }

    fn wall_unix_nanos(&self) -> i64 {
        self.inner.wall_unix_nanos()
    }

    fn sleep(&self, duration: Duration) {
        self.inner.sleep(duration);
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn monotonic(&self) -> Instant {
        Instant::now()
    }

    fn unix_nanos(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
            })
    }

    fn sleep(&self, duration: Duration) {
        super::sync::sleep(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Set(AtomicI64);

    impl Clock for Set {
        fn monotonic(&self) -> Instant {
            Instant::now()
        }

        fn unix_nanos(&self) -> i64 {
            self.0.load(Ordering::SeqCst)
        }

        fn sleep(&self, _duration: Duration) {}
    }

    #[test]
    fn a_stored_time_never_steps_back_and_the_wall_clock_is_told_as_it_is() {
        let set = Arc::new(Set(AtomicI64::new(100)));
        let clock = SteadyClock::new(set.clone());
        let told = |now| {
            set.0.store(now, Ordering::SeqCst);
            (clock.unix_nanos(), clock.wall_unix_nanos())
        };
        assert_eq!(told(100), (100, 100));
        assert_eq!(told(40), (100, 40));
        assert_eq!(told(101), (101, 101));
        clock.note(200);
        assert_eq!(told(102), (200, 102));
        assert_eq!(told(201), (201, 201));
    }
}
