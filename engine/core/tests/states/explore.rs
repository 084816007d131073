//! From recordings to states, and from each state to a store that is opened on it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aof2_core::Config;
use aof2_core::config::MIB;
use parking_lot::Mutex;

use crate::dice::Dice;
use crate::disk::{Faults, RecordingDisk};
use crate::fates;
use crate::model::{Model, Note};
use crate::picks::{by_turning_point, pick_cut, pick_kill, served_at};
use crate::recording::{Data, Image, Op, Recording};
use crate::session::{How, Session, config};
use crate::timeline::Timeline;
use crate::volume::Fate;
use crate::workloads::Workload;

/// Power cuts one after another, without a quiet start in between.
const DEPTH: u64 = 3;
/// Of the records of a session behind a kill; those behind power cuts have numbers below.
const KILLED: u64 = 8;
/// Then the workloads are recorded anew: the store's threads never run twice alike.
const PER_RECORDING: u64 = 2_500;

pub struct Plan {
    pub seed: u64,
    /// `None`: all.
    pub states: Option<u64>,
    pub faults: Faults,
    pub workloads: &'static [Workload],
}

pub struct Failure {
    pub what: String,
    pub image: Image,
    pub model: Model,
}

#[derive(Default)]
pub struct Summary {
    pub states: u64,
    /// States that were the same as an earlier one.
    pub repeated: u64,
    /// Cuts of a recovery.
    pub second_cuts: u64,
    pub failure: Option<Failure>,
    pub elapsed: Duration,
}

struct Source<'a> {
    name: &'static str,
    share: u64,
    recording: &'a Recording,
    timeline: Timeline<'a>,
    /// Where something was promised, soon behind a turning point first.
    promises: Vec<usize>,
}

struct Explorer<'a> {
    faults: Faults,
    seed: u64,
    sources: Vec<Source<'a>>,
    /// The next state to be drawn.
    next: AtomicU64,
    states: AtomicU64,
    repeated: AtomicU64,
    second_cuts: AtomicU64,
    seen: Mutex<HashSet<(u64, u64)>>,
    /// Promises of each source.
    tried: Vec<AtomicU64>,
    stop: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

/// Records every workload and tries states of them, again and again, until there are enough or one is wrong.
pub fn explore(plan: &Plan) -> Summary {
    let started = Instant::now();
    let mut summary = Summary::default();
    let mut dice = Dice::new(plan.seed);
    loop {
        let wanted = plan
            .states
            .map(|states| (states - summary.states).min(PER_RECORDING));
        let round = explore_once(plan, wanted, &mut dice);
        summary.states += round.states;
        summary.repeated += round.repeated;
        summary.second_cuts += round.second_cuts;
        summary.failure = round.failure;
        summary.elapsed = started.elapsed();
        let is_enough = plan.states.is_none_or(|states| summary.states >= states);
        if is_enough || summary.failure.is_some() {
            return summary;
        }
    }
}

/// `wanted`: how many states; `None` = all.
fn explore_once(plan: &Plan, wanted: Option<u64>, dice: &mut Dice) -> Summary {
    let mut recordings = Vec::new();
    for workload in plan.workloads {
        match workload.record(plan.faults, dice) {
            Ok(recording) => recordings.push((workload, recording)),
            Err(error) => panic!("workload {} fails without a cut: {error}", workload.name),
        }
    }
    let sources = recordings
        .iter()
        .map(|(workload, recording)| Source {
            name: workload.name,
            share: workload.share,
            recording,
            timeline: Timeline::new(recording),
            promises: by_turning_point(recording),
        })
        .collect();
    let explorer = Explorer {
        faults: plan.faults,
        seed: dice.next(),
        sources,
        next: AtomicU64::new(0),
        states: AtomicU64::new(0),
        repeated: AtomicU64::new(0),
        second_cuts: AtomicU64::new(0),
        seen: Mutex::new(HashSet::new()),
        tried: plan.workloads.iter().map(|_| AtomicU64::new(0)).collect(),
        stop: AtomicBool::new(false),
        failure: Mutex::new(None),
    };
    let threads = std::thread::available_parallelism().map_or(2, |count| count.get().min(8));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let explorer = &explorer;
            // The name is the one of callers: seeded faults tell the store's threads from them by it.
            let thread = std::thread::Builder::new().name("caller".to_owned());
            let body = move || match wanted {
                Some(states) => explorer.some(states),
                None => explorer.everything(),
            };
            thread
                .spawn_scoped(scope, body)
                .expect("a thread can be started");
        }
    });
    Summary {
        states: explorer.states.into_inner(),
        repeated: explorer.repeated.into_inner(),
        second_cuts: explorer.second_cuts.into_inner(),
        failure: explorer.failure.into_inner(),
        elapsed: Duration::ZERO,
    }
}

impl Explorer<'_> {
    /// States drawn from the seed: the n-th one is the same whoever draws it.
    fn some(&self, states: u64) {
        while !self.stop.load(Ordering::Relaxed) && self.states.load(Ordering::Relaxed) < states {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let mut dice = Dice::new(self.seed ^ Dice::new(number).next());
            // Every other one: each promise, with nothing but what was synced. The rest is drawn.
            let source = self.source(number / 2);
            // Every tenth: no power is cut until the process was killed and started again.
            if number % 10 == 9 {
                self.killed(source, number, &mut dice);
                continue;
            }
            let promise = match number.is_multiple_of(2) {
                true => self.promise(source),
                false => None,
            };
            let changes = promise.unwrap_or_else(|| pick_cut(source.recording, &mut dice));
            let volume = source.timeline.at(changes);
            let items = volume.items();
            let fates = match promise {
                Some(_) => vec![Fate::Lost; items.len()],
                None => fates::draw(&items, &mut dice),
            };
            let image = volume.cut(&items, &fates);
            let model = Model::default().after(&source.recording.notes, changes);
            let what = || {
                format!(
                    "workload {}, draw {number}, {}",
                    source.name,
                    told(source.recording, changes, &fates)
                )
            };
            // What follows a promise is for the other draws.
            let depth = if promise.is_some() { DEPTH } else { 1 };
            self.chain(image, model, &what, depth, &mut dice);
        }
    }

    /// The process is killed and started again, once or twice, or its files are copied; then the power is cut. A start finds what was
    /// never synced, and what it serves of that has to be durable.
    fn killed(&self, source: &Source<'_>, number: u64, dice: &mut Dice) {
        let mut what = format!("workload {}, draw {number}", source.name);
        let mut recording = source.recording.clone();
        // What was done before the last start.
        let mut before = 0;
        // It promises nothing until a start serves it.
        let mut is_copy = false;
        for start in 0..1 + dice.below(2) {
            let at = pick_kill(&recording, before, dice);
            let is_copied = dice.one_in(4);
            recording = match is_copied {
                true => recording.copied(at),
                false => recording.killed(at),
            };
            before = recording.ops.len();
            is_copy |= is_copied;
            let how = if is_copied { "copied" } else { "killed" };
            what += &format!(", {how} after {at} changes");
            let model = Model::default().after(&recording.notes, before);
            let kept = recording.clone();
            let disk = RecordingDisk::resumed(recording, self.faults);
            recording = match recover_on(&disk, &model, KILLED + start, dice) {
                Ok(recording) => recording,
                Err(error) => return self.failed(format!("{error}\n  {what}"), &kept, model),
            };
        }
        let changes = match is_copy {
            true => pick_kill(&recording, before, dice).max(served_at(&recording)),
            false => pick_kill(&recording, before, dice),
        };
        let mut volume = crate::volume::Volume::new(&recording.base);
        let ops = &recording.ops[..changes];
        ops.iter().for_each(|op| volume.step(op));
        let items = volume.items();
        // What is not synced is lost, or not.
        let fates = match dice.one_in(2) {
            true => vec![Fate::Lost; items.len()],
            false => fates::draw(&items, dice),
        };
        let image = volume.cut(&items, &fates);
        let model = Model::default().after(&recording.notes, changes);
        let what = || format!("{what}\n  then {}", told(&recording, changes, &fates));
        self.chain(image, model, &what, DEPTH, dice);
    }

    fn failed(&self, what: String, recording: &Recording, model: Model) {
        self.stop.store(true, Ordering::Relaxed);
        let mut volume = crate::volume::Volume::new(&recording.base);
        recording.ops.iter().for_each(|op| volume.step(op));
        let image = volume.cached();
        let failure = Failure { what, image, model };
        self.failure.lock().get_or_insert(failure);
    }

    /// The next one that was not tried.
    fn promise(&self, source: &Source<'_>) -> Option<usize> {
        let at = self
            .sources
            .iter()
            .position(|other| std::ptr::eq(other, source))?;
        let tried = self.tried[at].fetch_add(1, Ordering::Relaxed) as usize;
        source.promises.get(tried).copied()
    }

    /// By share, and spread: the first hundred draws have the workloads as often as their shares say.
    fn source(&self, number: u64) -> &Source<'_> {
        let total: u64 = self.sources.iter().map(|source| source.share).sum();
        let mut at = (number * 61) % total;
        for source in &self.sources {
            if at < source.share {
                return source;
            }
            at -= source.share;
        }
        unreachable!("the rest of a division by the sum")
    }

    fn everything(&self) {
        let points: Vec<(usize, usize)> = self
            .sources
            .iter()
            .enumerate()
            .flat_map(|(at, source)| (0..=source.recording.ops.len()).map(move |cut| (at, cut)))
            .collect();
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some((at, changes)) = points.get(number as usize) else {
                return;
            };
            let source = &self.sources[*at];
            let mut dice = Dice::new(self.seed ^ Dice::new(number).next());
            let volume = source.timeline.at(*changes);
            let items = volume.items();
            let model = Model::default().after(&source.recording.notes, *changes);
            for fates in fates::all(&items, &mut dice) {
                let image = volume.cut(&items, &fates);
                let what = || {
                    let told = told(source.recording, *changes, &fates);
                    format!("workload {}, {told}", source.name)
                };
                self.chain(image, model.clone(), &what, 1, &mut dice);
            }
        }
    }

    /// A state, and the states that a further cut while it is recovered and used leaves.
    fn chain(
        &self,
        image: Image,
        model: Model,
        what: &dyn Fn() -> String,
        depth: u64,
        dice: &mut Dice,
    ) {
        if !self.seen.lock().insert((image.digest(), model.digest())) {
            self.repeated.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.states.fetch_add(1, Ordering::Relaxed);
        let recording = match recover(image.clone(), &model, self.faults, depth, dice) {
            Ok(recording) => recording,
            Err(error) => {
                self.stop.store(true, Ordering::Relaxed);
                self.failure.lock().get_or_insert(Failure {
                    what: format!("{error}\n  {}", what()),
                    image,
                    model,
                });
                return;
            }
        };
        if depth >= DEPTH || self.stop.load(Ordering::Relaxed) {
            return;
        }
        let changes = pick_cut(&recording, dice);
        let mut volume = crate::volume::Volume::new(&recording.base);
        recording.ops[..changes]
            .iter()
            .for_each(|op| volume.step(op));
        let items = volume.items();
        let fates = fates::draw(&items, dice);
        let image = volume.cut(&items, &fates);
        let model = model.after(&recording.notes, changes);
        let what = || format!("{}\n  then {}", what(), told(&recording, changes, &fates));
        self.second_cuts.fetch_add(1, Ordering::Relaxed);
        self.chain(image, model, &what, depth + 1, dice);
    }
}

/// A cut in words: what was left of the changes that were not synced, and the last of all changes, with what was noted behind them.
fn told(recording: &Recording, changes: usize, fates: &[Fate]) -> String {
    const LAST: usize = 40;
    let Recording { ops, notes, .. } = recording;
    let mut text = format!(
        "cut after {changes} of {} changes, left of the unsynced: {fates:?}",
        ops.len()
    );
    let skipped = changes.saturating_sub(LAST);
    for (at, op) in ops.iter().enumerate().take(changes).skip(skipped) {
        text += &format!("\n    {at}: {op}");
        for (_, note) in notes.iter().filter(|(behind, _)| *behind == at + 1) {
            text += &format!("\n        {note:?}");
        }
    }
    text
}

/// The size and number of journal files may be others at each start.
fn some_config(dice: &mut Dice) -> Config {
    let mut config = config();
    if dice.one_in(4) {
        config.journal.file_bytes = [4, 5][dice.below(2) as usize] * MIB;
        config.journal.files = [2, 3][dice.below(2) as usize];
    }
    config
}

/// Bytes behind a torn write must never become valid: recovery keeps them aside, zeroes them and syncs that before it serves.
fn torn_bytes_are_zeroed(ops: &[Op]) -> Result<(), String> {
    let kept_aside = |op: &Op| matches!(op, Op::Create { name, .. } if name.ends_with(".torn.tmp"));
    for (at, _) in ops.iter().enumerate().filter(|(_, op)| kept_aside(op)) {
        let zeroed = ops[at..]
            .iter()
            .enumerate()
            .find_map(|(behind, op)| match op {
                Op::Write {
                    inode,
                    data: Data::Zeroes(_),
                    offset: _,
                } => Some((*inode, at + behind)),
                _ => None,
            });
        let is_done = zeroed.is_some_and(|(zeroed, when)| {
            ops.iter().any(|op| match op {
                Op::Sync { inode, begun, .. } => *inode == zeroed && *begun > when,
                Op::SyncVolume { begun } => *begun > when,
                // Nothing else was in it.
                Op::Unlink { inode, .. } => *inode == zeroed,
                _ => false,
            })
        });
        if !is_done {
            return Err("torn bytes are served over before they are zeroed and synced".to_owned());
        }
    }
    Ok(())
}

/// Opens the store on a state, holds it against the model, goes on appending. Answers what happened to the disk meanwhile.
pub fn recover(
    image: Image,
    model: &Model,
    faults: Faults,
    depth: u64,
    dice: &mut Dice,
) -> Result<Recording, String> {
    recover_on(&RecordingDisk::new(image, faults), model, depth, dice)
}

fn recover_on(
    disk: &RecordingDisk,
    model: &Model,
    depth: u64,
    dice: &mut Dice,
) -> Result<Recording, String> {
    let mut session = Session::open(disk.clone(), some_config(dice), depth << 32, dice)?;
    torn_bytes_are_zeroed(&disk.recording().ops)?;
    let served = session.served()?;
    model.check(&served)?;
    disk.note(Note::Served(served.clone()));
    let mut names: Vec<String> = served.keys().cloned().collect();
    names.push("late".to_owned());
    let first = dice.below(names.len() as u64) as usize;
    let appends = 1 + dice.below(3) as usize;
    for name in names.iter().cycle().skip(first).take(appends) {
        let lengths = [30 + dice.below(3_000) as usize, 70];
        let how = [How::Durable, How::Called, How::Buffered][dice.below(3) as usize];
        session.append(name, &lengths[..1 + dice.below(2) as usize], how)?;
        // What is recovered can be gone on with, and is there again.
        session.append(name, &[100], How::Durable)?;
    }
    session.settle()?;
    let now = session.served()?;
    let after = model.after(&disk.recording().notes, disk.changes());
    after.check(&now)?;
    session.close()?;
    Ok(disk.recording())
}
