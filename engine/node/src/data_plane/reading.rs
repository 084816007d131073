//! Verifications that read every byte (L2). One runs at a time, since each takes a core and what the network gives; whoever wants another
//! one waits for it. Nobody's request is held for as long as that takes: the same request again answers how far it is, and then the
//! verdict, once. What nobody asks for any more ends, and so does what hardly gets on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aof2_core::snapshot::verify::{Verdict, VerifyError, Watch};
use aof2_format::StreamName;
use aof2_format::snapshot::SnapshotId;
use parking_lot::Mutex;

/// Longer than an operator pauses between two questions.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);
/// A reading takes this and what its bytes take at `SLOWEST` at most.
const LEAST_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Bytes per second.
const SLOWEST: u64 = 1 << 20;
/// Verdicts that wait to be asked for.
const MAX_KEPT: usize = 1024;

pub type Outcome = Result<Verdict, VerifyError>;

/// What was asked for, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub stream: StreamName,
    pub id: SnapshotId,
    pub request: String,
}

#[derive(Debug, Default)]
pub struct Readings {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: Option<(Asked, Arc<Progress>)>,
    /// Oldest first.
    ended: VecDeque<(Asked, Outcome, Instant)>,
}

#[derive(Debug)]
pub enum Answer {
    Ended(Outcome),
    Running(Arc<Progress>),
    /// For another one.
    Waits(Asked),
    /// The caller reads, watched by this, and says `ended`.
    Begin(Arc<Progress>),
}

impl Readings {
    pub fn ask(&self, asked: &Asked, now: Instant) -> Answer {
        let mut state = self.state.lock();
        let is_kept = |at: Instant| now.saturating_duration_since(at) < FORGOTTEN_AFTER;
        state.ended.retain(|(_, _, at)| is_kept(*at));
        let found = state.ended.iter().position(|(known, _, _)| known == asked);
        if let Some((_, outcome, _)) = found.and_then(|index| state.ended.remove(index)) {
            return Answer::Ended(outcome);
        }
        match &state.running {
            Some((known, progress)) if known == asked => {
                progress.state.lock().asked_at = now;
                Answer::Running(progress.clone())
            }
            Some((other, _)) => Answer::Waits(other.clone()),
            None => {
                let progress = Arc::new(Progress::new(now));
                state.running = Some((asked.clone(), progress.clone()));
                Answer::Begin(progress)
            }
        }
    }

    /// Who was to begin cannot.
    pub fn not_begun(&self) {
        self.state.lock().running = None;
    }

    pub fn ended(&self, outcome: Outcome, now: Instant) {
        let mut state = self.state.lock();
        let Some((asked, _)) = state.running.take() else {
            return;
        };
        if state.ended.len() >= MAX_KEPT {
            state.ended.pop_front();
        }
        state.ended.push_back((asked, outcome, now));
    }
}

/// Of the one that runs.
#[derive(Debug)]
pub struct Progress {
    state: Mutex<Moved>,
}

#[derive(Clone, Copy, Debug)]
struct Moved {
    total_bytes: u64,
    read_bytes: u64,
    began_at: Instant,
    asked_at: Instant,
}

impl Progress {
    fn new(now: Instant) -> Progress {
        Progress {
            state: Mutex::new(Moved {
                total_bytes: 0,
                read_bytes: 0,
                began_at: now,
                asked_at: now,
            }),
        }
    }

    /// Bytes read, and how many there are; (0, 0) before the first.
    pub fn bytes(&self) -> (u64, u64) {
        let moved = *self.state.lock();
        (moved.read_bytes, moved.total_bytes)
    }

    fn note(&self, bytes: u64, now: Instant) -> Result<(), String> {
        let mut moved = self.state.lock();
        moved.read_bytes += bytes;
        let Moved {
            total_bytes,
            read_bytes,
            began_at,
            asked_at,
        } = *moved;
        if now.saturating_duration_since(asked_at) >= FORGOTTEN_AFTER {
            let minutes = FORGOTTEN_AFTER.as_secs() / 60;
            return Err(format!("no request for {minutes} min"));
        }
        let limit = LEAST_LIMIT + Duration::from_secs(total_bytes / SLOWEST);
        if now.saturating_duration_since(began_at) >= limit && read_bytes < total_bytes {
            let seconds = limit.as_secs();
            return Err(format!(
                "{read_bytes} of {total_bytes} bytes read within {seconds} s; look for what slows Tier 2 down"
            ));
        }
        Ok(())
    }
}

impl Watch for Progress {
    fn begins(&self, total_bytes: u64) {
        self.state.lock().total_bytes = total_bytes;
    }

    fn read(&self, bytes: u64) -> Result<(), String> {
        self.note(bytes, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(request: &str) -> Asked {
        Asked {
            stream: StreamName::new("orders").expect("a name"),
            id: SnapshotId::new(1, 1),
            request: request.to_owned(),
        }
    }

    fn begun(readings: &Readings, request: &str, now: Instant) -> Arc<Progress> {
        match readings.ask(&asked(request), now) {
            Answer::Begin(progress) => progress,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_runs_at_a_time_and_its_verdict_is_told_once() {
        let (readings, now) = (Readings::default(), Instant::now());
        let progress = begun(&readings, "a", now);
        progress.begins(100);
        assert_eq!(progress.note(40, now), Ok(()));
        match readings.ask(&asked("a"), now) {
            Answer::Running(progress) => assert_eq!(progress.bytes(), (40, 100)),
            other => panic!("{other:?}"),
        }
        match readings.ask(&asked("b"), now) {
            Answer::Waits(other) => assert_eq!(other, asked("a")),
            other => panic!("{other:?}"),
        }
        readings.ended(Ok(Verdict::default()), now);
        begun(&readings, "b", now);
        let ended = readings.ask(&asked("a"), now);
        assert!(matches!(ended, Answer::Ended(Ok(_))), "{ended:?}");
        let again = readings.ask(&asked("a"), now);
        assert!(matches!(again, Answer::Waits(_)), "{again:?}");
    }

    #[test]
    fn what_nobody_asks_for_ends_and_its_verdict_is_forgotten() {
        let (readings, now) = (Readings::default(), Instant::now());
        let progress = begun(&readings, "a", now);
        progress.begins(u64::MAX);
        let almost = now + FORGOTTEN_AFTER - Duration::from_secs(1);
        assert_eq!(progress.note(1, almost), Ok(()));
        readings.ask(&asked("a"), almost);
        let later = now + FORGOTTEN_AFTER;
        assert_eq!(progress.note(1, later), Ok(()), "it was asked for");
        let why = progress.note(1, almost + FORGOTTEN_AFTER);
        assert!(why.is_err_and(|why| why.contains("no request for 15 min")));
        readings.ended(Ok(Verdict::default()), later);
        begun(&readings, "a", later + FORGOTTEN_AFTER);
    }

    #[test]
    fn one_that_hardly_gets_on_ends() {
        let (readings, now) = (Readings::default(), Instant::now());
        let progress = begun(&readings, "a", now);
        progress.begins(600 << 20);
        let at = |seconds| {
            let now = now + Duration::from_secs(seconds);
            readings.ask(&asked("a"), now);
            progress.note(1 << 20, now)
        };
        assert_eq!(at(1199), Ok(()));
        let why = at(1200).expect_err("too slow");
        assert!(
            why.contains("2097152 of 629145600 bytes read within 1200 s"),
            "{why}"
        );
    }
}
