//! Who gets a turn, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Coordinator, Facts, Machine, REST};
use crate::io::{Clock, Environment};
use crate::tier::testing::{ModelPort, settings, until};

/// Stands still unless somebody moves it.
struct StoppedClock {
    begin: Instant,
    seconds: AtomicU64,
}

impl Clock for StoppedClock {
    fn monotonic(&self) -> Instant {
        self.begin + Duration::from_secs(self.seconds.load(Ordering::SeqCst))
    }

    fn unix_nanos(&self) -> i64 {
        0
    }

    fn sleep(&self, _: Duration) {}
}

/// Counts its turns; each takes so many seconds.
struct Counted {
    clock: Arc<StoppedClock>,
    turn_seconds: u64,
    turns: AtomicU64,
}

impl Machine for Counted {
    fn turn(&self, _: &Facts) -> Option<Instant> {
        self.clock
            .seconds
            .fetch_add(self.turn_seconds, Ordering::SeqCst);
        self.turns.fetch_add(1, Ordering::SeqCst);
        None
    }
}

#[test]
fn a_machine_whose_turn_took_long_rests_while_the_others_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(StoppedClock {
        begin: Instant::now(),
        seconds: AtomicU64::new(0),
    });
    let environment = Environment {
        clock: clock.clone(),
        ..Environment::system()
    };
    let port = ModelPort::within(folder.path(), environment);
    let coordinator = Coordinator::start(port, None, settings()).expect("a thread");
    let machine = |turn_seconds| {
        let machine: Arc<Counted> = Arc::new(Counted {
            clock: clock.clone(),
            turn_seconds,
            turns: AtomicU64::new(0),
        });
        let plugged: Arc<dyn Machine> = machine.clone();
        coordinator.plug(Arc::downgrade(&plugged));
        machine
    };
    let turns = |machine: &Counted| machine.turns.load(Ordering::SeqCst);
    let (slow, quick) = (machine(10), machine(0));
    let twenty_more = || {
        let enough = turns(&quick) + 20;
        until("the quick one has its turns", || {
            coordinator.ring();
            turns(&quick) >= enough
        });
    };
    twenty_more();
    assert_eq!(turns(&slow), 1);
    clock
        .seconds
        .fetch_add(10 * u64::from(REST), Ordering::SeqCst);
    twenty_more();
    assert_eq!(turns(&slow), 2);
}
