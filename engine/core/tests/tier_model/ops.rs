//! What is done to a node, drawn from a seed. Places are shares of what is there when it is done, so that one may be left out.

use std::time::Duration;

use crate::dice::Dice;

#[derive(Clone, Debug)]
pub enum Op {
    Append {
        stream: usize,
        sizes: Vec<u32>,
        is_durable: bool,
    },
    Seal {
        stream: usize,
    },
    Flush,
    /// Lets time pass.
    Wait(Duration),
    /// As if the machine had been stopped for so long.
    Skip(Duration),
    /// With everything healed, until nothing is left to do.
    Settle,
    Read {
        stream: usize,
        from: Share,
        limit: u64,
    },
    ReadBelow {
        stream: usize,
    },
    ReadBeyond {
        stream: usize,
    },
    Tail {
        stream: usize,
    },
    /// A reader that stays, and goes on later.
    OpenReader {
        stream: usize,
        from: Share,
    },
    ReadOn {
        bytes: usize,
    },
    Trim {
        stream: usize,
        before: Share,
    },
    Retain {
        stream: usize,
        max_age: Option<Duration>,
        max_bytes: Option<u64>,
    },
    /// The wall clock steps, or is set back where it should be.
    Step {
        seconds: i64,
    },
    Hydrate {
        stream: usize,
        from: Share,
        to: Share,
        is_hot: bool,
    },
    Evict {
        stream: usize,
        segment: Share,
    },
    DeleteWarm {
        stream: usize,
        segment: Share,
    },
    DeleteObject {
        stream: usize,
        segment: Share,
    },
    Snapshot {
        stream: usize,
    },
    /// So many segments of a record each, one behind the other.
    Pieces {
        stream: usize,
        count: u64,
    },
    /// Asks for small segments to be merged.
    Merge {
        /// None: of all streams.
        stream: Option<usize>,
        /// Nothing else happens until that has ended.
        waits: bool,
    },
    Outage,
    Fault {
        kind: u64,
        times: u64,
    },
    Slow(Duration),
    Full {
        left_bytes: u64,
    },
    NoDescriptors,
    Heal,
    Drain,
    Restart,
    /// The process ends; what it wrote stays.
    Kill,
    /// The power goes after so many steps, and what is not durable with it, by chance.
    Cut {
        after: u64,
    },
}

/// Of 65,536.
#[derive(Clone, Copy, Debug)]
pub struct Share(pub u64);

impl Share {
    pub fn of(self, many: u64) -> u64 {
        (self.0 * (many + 1)) >> 16
    }

    pub fn index(self, many: usize) -> usize {
        ((self.0 * many as u64) >> 16) as usize
    }
}

fn share(dice: &mut Dice) -> Share {
    Share(dice.below(1 << 16))
}

/// A record is small, about as large as a block, larger than the journal takes, or a good part of a segment.
fn size(dice: &mut Dice) -> u32 {
    let size = match dice.below(24) {
        0 => 0,
        1 | 2 => 4_000 + dice.below(300),
        3 | 4 => 8_000 + dice.below(9_000),
        5 => 60_000 + dice.below(10_000),
        6 if dice.one_in(6) => 190_000 + dice.below(20_000),
        6 if dice.one_in(6) => 500_000 + dice.below(400_000),
        _ => 1 + dice.below(600),
    };
    size as u32
}

/// What a sequence is about: what belongs together meets more often where the rest is rare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    Anything,
    Time,
    Copies,
    Lacks,
    Crashes,
}

impl Theme {
    pub fn draw(dice: &mut Dice) -> Theme {
        match dice.below(7) {
            0 => Theme::Time,
            1 => Theme::Copies,
            2 => Theme::Lacks,
            3 => Theme::Crashes,
            _ => Theme::Anything,
        }
    }

    fn has(self, op: &Op) -> bool {
        let theme = match op {
            Op::Retain { .. } | Op::Step { .. } | Op::Skip(_) => Theme::Time,
            Op::Hydrate { .. }
            | Op::Evict { .. }
            | Op::DeleteWarm { .. }
            | Op::DeleteObject { .. }
            | Op::Snapshot { .. }
            | Op::Merge { .. }
            | Op::Trim { .. } => Theme::Copies,
            Op::Full { .. } | Op::NoDescriptors | Op::Outage | Op::Fault { .. } => Theme::Lacks,
            Op::Kill | Op::Cut { .. } | Op::Restart => Theme::Crashes,
            _ => return true,
        };
        // A clock is missed by the process after.
        theme == self || self == Theme::Time && matches!(op, Op::Restart)
    }
}

/// One for a world of so many streams.
pub fn draw(dice: &mut Dice, streams: u64, theme: Theme) -> Op {
    loop {
        let op = any(dice, streams);
        if theme == Theme::Anything || theme.has(&op) || dice.one_in(5) {
            return op;
        }
    }
}

fn any(dice: &mut Dice, streams: u64) -> Op {
    let stream = dice.below(streams) as usize;
    let seconds = Duration::from_secs;
    match dice.below(136) {
        0..=27 => {
            let count = 1 + dice.below(4);
            Op::Append {
                stream,
                sizes: (0..count).map(|_| size(dice)).collect(),
                is_durable: !dice.one_in(4),
            }
        }
        28..=39 => Op::Seal { stream },
        40 => Op::Flush,
        41..=46 => Op::Wait(Duration::from_millis(1 + dice.below(3_000))),
        47..=49 => Op::Wait(seconds(5 + dice.below(40))),
        50 => Op::Skip(seconds([30, 600, 3_700, 90_000][dice.below(4) as usize])),
        51..=54 => Op::Settle,
        55..=61 => Op::Read {
            stream,
            from: share(dice),
            limit: dice.below(5),
        },
        62 => Op::ReadBelow { stream },
        63 => Op::ReadBeyond { stream },
        64 => Op::Tail { stream },
        65..=66 => Op::OpenReader {
            stream,
            from: share(dice),
        },
        67..=69 => Op::ReadOn {
            bytes: 1 << dice.below(16),
        },
        70..=74 => Op::Trim {
            stream,
            before: share(dice),
        },
        75..=77 => Op::Retain {
            stream,
            max_age: dice.one_in(2).then(|| seconds(40 + dice.below(4_000))),
            max_bytes: dice.one_in(3).then(|| dice.below(40_000)),
        },
        78 => Op::Step {
            seconds: [0, 400_000, 31_536_000, -400_000, -31_536_000][dice.below(5) as usize],
        },
        79..=83 => Op::Hydrate {
            stream,
            from: share(dice),
            to: share(dice),
            is_hot: dice.one_in(2),
        },
        84..=86 => Op::Evict {
            stream,
            segment: share(dice),
        },
        87 => Op::DeleteWarm {
            stream,
            segment: share(dice),
        },
        88 => Op::DeleteObject {
            stream,
            segment: share(dice),
        },
        89..=92 => Op::Snapshot { stream },
        93..=94 => Op::Outage,
        95..=98 => Op::Fault {
            kind: dice.next(),
            times: 1 + dice.below(6),
        },
        99 => Op::Slow(Duration::from_millis(20 << dice.below(9))),
        100..=101 => Op::Full {
            left_bytes: [0, 3 << 10, 40 << 10, 5 << 20][dice.below(4) as usize],
        },
        102 => Op::NoDescriptors,
        103..=105 => Op::Heal,
        106 => Op::Drain,
        107..=109 => Op::Restart,
        110..=112 => Op::Kill,
        113..=117 => Op::Pieces {
            stream,
            count: 2 + dice.below(4),
        },
        118..=127 => Op::Merge {
            stream: dice.one_in(2).then_some(stream),
            waits: dice.one_in(2),
        },
        _ => Op::Cut {
            after: 1 << dice.below(10),
        },
    }
}
