//! What is done to a store while the disk records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aof2_core::claims::suite as claims_suite;
use aof2_core::compaction::Compaction;
use aof2_core::config::{KIB, MIB};
use aof2_core::objects::ObjectStore;
use aof2_core::objects::memory::MemoryStore;
use aof2_core::port::{FailureReason, TierRecord};
use aof2_core::snapshot::{SnapshotRequest, Snapshots};
use aof2_core::tier::Tiers;
use aof2_core::{Claims, Config, Store};

use crate::dice::Dice;
use crate::disk::{Faults, RecordingDisk};
use crate::recording::{Image, Recording};
use crate::session::{How, Session, config, options};

pub struct Workload {
    pub name: &'static str,
    /// How many states of 100 are of this one.
    pub share: u64,
    run: Run,
}

enum Run {
    Local {
        config: fn() -> Config,
        run: fn(&mut Session, &mut Dice) -> Result<(), String>,
    },
    /// Opens its store itself.
    Own(fn(&RecordingDisk, &mut Dice) -> Result<(), String>),
}

pub const ALL: &[Workload] = &[
    Workload {
        name: "appends",
        share: 13,
        run: Run::Local {
            config,
            run: appends,
        },
    },
    Workload {
        name: "large",
        share: 14,
        run: Run::Local { config, run: large },
    },
    Workload {
        name: "new-streams",
        share: 12,
        run: Run::Local {
            config,
            run: new_streams,
        },
    },
    Workload {
        name: "rolls",
        share: 14,
        run: Run::Local { config, run: rolls },
    },
    Workload {
        name: "checkpoints",
        share: 14,
        run: Run::Local {
            config: frequent_checkpoints,
            run: checkpoints,
        },
    },
    Workload {
        name: "recycling",
        share: 12,
        run: Run::Local {
            config: late_checkpoints,
            run: recycling,
        },
    },
    Workload {
        name: "chunks",
        share: 7,
        run: Run::Local {
            config,
            run: chunks,
        },
    },
    Workload {
        name: "snapshots",
        share: 7,
        run: Run::Own(snapshots),
    },
    Workload {
        name: "merges",
        share: 7,
        run: Run::Own(merges),
    },
];

fn frequent_checkpoints() -> Config {
    let mut config = config();
    config.checkpoint.journal_bytes = 16 * KIB;
    config
}

/// Only a full journal asks for one.
fn late_checkpoints() -> Config {
    let mut config = config();
    config.checkpoint.journal_bytes = 64 * MIB;
    config.segment.target_bytes = 64 * MIB;
    config
}

impl Workload {
    /// From an empty directory to a store that is closed.
    pub fn record(&self, faults: Faults, dice: &mut Dice) -> Result<Recording, String> {
        let disk = RecordingDisk::slow(Image::empty(), faults, dice);
        match &self.run {
            Run::Local { config, run } => {
                let mut session = Session::open(disk.clone(), config(), 1, dice)?;
                run(&mut session, dice)?;
                session.close()?;
            }
            Run::Own(run) => run(&disk, dice)?,
        }
        Ok(disk.recording())
    }
}

fn appends(session: &mut Session, dice: &mut Dice) -> Result<(), String> {
    let hows = [How::Durable, How::Called, How::Buffered];
    for _ in 0..40 {
        let stream = ["orders", "audit"][dice.below(2) as usize];
        let lengths = [100 + dice.below(1_500) as usize, 24, 700];
        let count = 1 + dice.below(3) as usize;
        session.append(stream, &lengths[..count], hows[dice.below(3) as usize])?;
        if dice.one_in(3) {
            session.settle()?;
        }
    }
    Ok(())
}

/// Over 192 KiB at once goes straight to the segment; buffered records in front of it, too.
fn large(session: &mut Session, dice: &mut Dice) -> Result<(), String> {
    for round in 0..6 {
        let stream = ["bulk", "other"][dice.below(2) as usize];
        session.append(stream, &[200], How::Durable)?;
        if dice.one_in(2) {
            session.append(stream, &[3_000, 5_000], How::Buffered)?;
        }
        let length = (200 << 10) + dice.below(60 << 10) as usize;
        let how = [How::Durable, How::Called][round % 2];
        session.append(stream, &[length], how)?;
        session.append(stream, &[900], How::Called)?;
        session.settle()?;
    }
    Ok(())
}

fn new_streams(session: &mut Session, dice: &mut Dice) -> Result<(), String> {
    let hows = [How::Durable, How::Called, How::Buffered];
    for number in 0..6 {
        let stream = format!("new-{number}");
        session.append(&stream, &[300], hows[dice.below(3) as usize])?;
        session.append(&stream, &[50, 60], How::Durable)?;
    }
    Ok(())
}

fn rolls(session: &mut Session, dice: &mut Dice) -> Result<(), String> {
    for round in 0..12 {
        let stream = ["rolling", "second"][usize::from(dice.one_in(4))];
        let length = (90 << 10) + dice.below(250 << 10) as usize;
        let how = [How::Durable, How::Buffered, How::Called][dice.below(3) as usize];
        session.append(stream, &[length], how)?;
        if round % 5 == 4 {
            session.settle()?;
            session
                .store
                .seal(None)
                .map_err(|error| format!("seal: {error}"))?;
            session.append("rolling", &[80], How::Durable)?;
        }
    }
    Ok(())
}

fn checkpoints(session: &mut Session, dice: &mut Dice) -> Result<(), String> {
    for _ in 0..30 {
        let stream = ["a", "b", "c"][dice.below(3) as usize];
        let how = [How::Durable, How::Buffered, How::Called][dice.below(3) as usize];
        session.append(stream, &[200 + dice.below(9_000) as usize], how)?;
    }
    Ok(())
}

/// Fills each journal file twice.
fn recycling(session: &mut Session, dice: &mut Dice) -> Result<(), String> {
    for round in 0..90 {
        let stream = ["cycle", "small"][usize::from(round % 8 == 7)];
        let length = match stream {
            "cycle" => 186 << 10,
            _ => 64 + dice.below(500) as usize,
        };
        let how = [How::Durable, How::Called][round % 2];
        session.append(stream, &[length], how)?;
        session.settle()?;
    }
    Ok(())
}

/// Fills a manifest chunk, so that another follows.
fn chunks(session: &mut Session, dice: &mut Dice) -> Result<(), String> {
    let sealed = |session: &Session| session.store.seal(Some("ledger"));
    session.append("ledger", &[500], How::Durable)?;
    sealed(session).map_err(|error| format!("seal: {error}"))?;
    let commit = |store: &Store| {
        let record = TierRecord::UploadFailed {
            key: "k".repeat(1_000),
            reason: FailureReason::Transient,
        };
        store.commit_manifest("ledger", 1, record)
    };
    // Side by side, so that one round of the journal takes many.
    std::thread::scope(|scope| {
        let store = &session.store;
        let threads: Vec<_> = (0..24)
            .map(|_| scope.spawn(move || (0..45).try_for_each(|_| commit(store))))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .map_err(|_| "a thread panicked".to_owned())?
                .map_err(|error| format!("commit: {error}"))
        })
    })?;
    for _ in 0..4 {
        session.append("ledger", &[300], How::Called)?;
        if dice.one_in(2) {
            commit(&session.store).map_err(|error| format!("commit: {error}"))?;
        }
        sealed(session).map_err(|error| format!("seal: {error}"))?;
    }
    session.append("ledger", &[300], How::Durable)
}

/// Each snapshot closes a chunk, and its marker is the first record of the next.
fn snapshots(disk: &RecordingDisk, dice: &mut Dice) -> Result<(), String> {
    let objects: Arc<dyn ObjectStore> = Arc::new(MemoryStore::default());
    let claims = Arc::new(claims_suite::claims_of(&objects, "p/", "orders-0"));
    let mut options = options(disk, config(), dice);
    options.claims = Some(claims.clone() as Arc<dyn Claims>);
    let store = Store::open(options).map_err(|error| error.to_string())?;
    let mut session = Session::new(disk.clone(), store, 1);
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let tiers = Tiers::start(Arc::new(session.store.clone()), Some(claims), &config())
        .map_err(|error| told(&error))?;
    let snapshots = Snapshots::start(session.store.clone(), &tiers);
    for number in 0..3 {
        session.append("orders", &[400], How::Durable)?;
        session.append("orders", &[500, 600], How::Buffered)?;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let request = SnapshotRequest {
                stream: "orders".to_owned(),
                request: format!("r{number}"),
                seals: true,
            };
            let status = snapshots.begin(request).map_err(|error| told(&error))?;
            if status.phase.is_over() {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("the snapshot does not end: {status:?}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    session.append("orders", &[700], How::Called)?;
    session.settle()?;
    tiers.stop();
    snapshots.stop();
    session.close()
}

/// Small segments of two streams become one each, that one is an input again, and appends go on meanwhile.
fn merges(disk: &RecordingDisk, dice: &mut Dice) -> Result<(), String> {
    let options = options(disk, config(), dice);
    let store = Store::open(options).map_err(|error| error.to_string())?;
    let mut session = Session::new(disk.clone(), store, 1);
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let tiers = Tiers::start(Arc::new(session.store.clone()), None, &config())
        .map_err(|error| told(&error))?;
    let compaction = Compaction::start(session.store.clone(), &tiers);
    let mut merged = 0;
    for _ in 0..2 {
        for _ in 0..4 {
            for stream in ["many", "few"] {
                let length = 200 + dice.below(6_000) as usize;
                session.append(stream, &[length, 24], How::Durable)?;
            }
            let sealed = session.store.seal(None);
            sealed.map_err(|error| format!("seal: {error}"))?;
        }
        let asked = compaction.ask(None).map_err(|error| told(&error))?;
        session.append("many", &[900], How::Called)?;
        let deadline = Instant::now() + Duration::from_secs(60);
        let run = loop {
            let run = compaction.run(asked.id).ok_or("it is forgotten")?;
            if run.has_ended {
                break run;
            }
            if Instant::now() > deadline {
                return Err(format!("the pass does not end: {run:?}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        merged += run.outputs;
        session.append("few", &[80], How::Buffered)?;
        session.settle()?;
    }
    if merged < 3 {
        return Err(format!("{merged} merges are too few to show anything"));
    }
    tiers.stop();
    compaction.stop();
    session.close()
}
