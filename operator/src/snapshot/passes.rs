//! When each snapshot was read back last. Remembered in memory alone: a new process reads all of them back once.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use super::known::Known;

use crate::machine::Pause;

/// After a pass that could not say.
const PAUSE: Pause = Pause::new(SignedDuration::from_secs(5), SignedDuration::from_mins(10));
/// A requeue may come a moment before its time.
const EARLY: SignedDuration = SignedDuration::from_millis(500);

/// How reading a snapshot back went.
#[derive(Clone, Copy, Default)]
pub struct Pass {
    /// When it was read back last.
    pub at: Option<Timestamp>,
    /// Times since then that nobody could say.
    pub failures: u32,
}

impl Pass {
    /// A bucket that is slow is not read from the beginning all the time.
    pub fn pause(self, interval: SignedDuration) -> SignedDuration {
        PAUSE.after(self.failures.saturating_sub(1)).min(interval)
    }

    /// How long until it is read back again; `None`: now.
    pub fn left(self, interval: SignedDuration, now: Timestamp) -> Option<SignedDuration> {
        let passed = now.duration_since(self.at?);
        (passed < interval - EARLY).then(|| interval - passed)
    }

    /// After the engines were asked at `now`.
    pub fn asked(self, is_known: bool, now: Timestamp) -> Self {
        match is_known {
            true => Self {
                at: Some(now),
                failures: 0,
            },
            false => Self {
                failures: self.failures.saturating_add(1),
                ..self
            },
        }
    }
}

/// By uid.
#[derive(Default)]
pub struct Passes(Mutex<Passed>);

#[derive(Default)]
struct Passed {
    by_uid: HashMap<String, Pass>,
    /// How many there may be before what nobody asks for any more is looked for.
    enough: usize,
}

impl Passes {
    pub fn get(&self, uid: &str) -> Pass {
        let passed = self.0.lock();
        passed.by_uid.get(uid).copied().unwrap_or_default()
    }

    /// What nobody has to look at any more goes, from time to time.
    pub fn put(&self, uid: String, pass: Pass, known: &Known, now: Timestamp) {
        let mut passed = self.0.lock();
        passed.by_uid.insert(uid, pass);
        if passed.by_uid.len() > passed.enough.max(64) {
            let wanted = known.wanted(now);
            passed.by_uid.retain(|uid, _| wanted.contains(uid.as_str()));
            passed.enough = passed.by_uid.len() * 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_nobody_could_answer_is_tried_again_later_each_time_and_within_the_interval() {
        let pause = |failures, interval| {
            let pass = Pass { at: None, failures };
            pass.pause(SignedDuration::from_secs(interval)).as_secs()
        };
        let pauses = [1, 2, 3, 7, 8, u32::MAX].map(|failures| pause(failures, 3600));
        assert_eq!(pauses, [5, 10, 20, 320, 600, 600]);
        assert_eq!(pause(8, 30), 30);
    }

    #[test]
    fn it_is_read_back_after_each_interval_and_a_moment_early_is_on_time() {
        let at = |milli| Timestamp::from_millisecond(milli).unwrap();
        let interval = SignedDuration::from_secs(60);
        assert_eq!(Pass::default().left(interval, at(0)), None);
        let pass = Pass::default().asked(true, at(0));
        let left = |milli| pass.left(interval, at(milli)).map(|left| left.as_secs());
        assert_eq!(
            [left(20_000), left(59_400), left(59_500)],
            [Some(40), Some(0), None]
        );
        let unknown = pass.asked(false, at(60_000));
        assert_eq!((unknown.at, unknown.failures), (Some(at(0)), 1));
    }
}
