//! The whole store under a scheduler: appends, checkpoints, a power cut and the recovery behind it, with every thread's turn drawn
//! from a seed. Run twice, the same seed gives the same trace, byte for byte; what is acknowledged is there whatever the order.

use std::fmt::Write;
use std::sync::Arc;

use aof2_core::Store;
use aof2_core::io::{FileClass, SystemThreads, Threads};

use crate::baton::Baton;
use crate::dice::Dice;
use crate::disk::{Faults, RecordingDisk};
use crate::fates;
use crate::model::{Model, Note};
use crate::recording::{Data, Image, Op};
use crate::session::{How, Session, config, options};
use crate::volume::Volume;

const SEEDS: std::ops::Range<u64> = 0..200;
const WRITERS: u64 = 3;
const APPENDS: u64 = 14;

fn open(disk: &RecordingDisk, baton: &Arc<Baton>, dice: &mut Dice) -> Result<Store, String> {
    let mut options = options(disk, config(), dice);
    options.environment.clock = baton.clone();
    Store::open(options).map_err(|error| format!("it does not open: {error:?}"))
}

/// Three callers at once, two of them in one stream; small records, and now and then one that goes straight to its segment.
pub fn append(disk: &RecordingDisk, store: &Store, first_id: u64, dice: &mut Dice) {
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (disk, store, mut dice) = (disk.clone(), store.clone(), dice.fork());
            let body = move || {
                let mut session = Session::new(disk, store, first_id + writer * 1_000);
                let stream = ["a", "b", "a"][writer as usize];
                for _ in 0..APPENDS {
                    let length = match dice.below(12) {
                        0 => 250_000,
                        1 => 40_000,
                        _ => 24 + dice.below(400) as usize,
                    };
                    let how = match dice.below(3) {
                        0 => How::Buffered,
                        _ => How::Durable,
                    };
                    session.append(stream, &[length], how).expect("admitted");
                }
            };
            SystemThreads
                .start(&format!("writer-{writer}"), Box::new(body))
                .expect("a thread")
        })
        .collect();
    for writer in writers {
        writer.join().expect("no panic");
    }
}

/// What was done to the disk and what was noted meanwhile, with the bytes.
pub fn describe(disk: &RecordingDisk, text: &mut String) {
    let recording = disk.recording();
    let mut notes = recording.notes.iter().peekable();
    for (at, op) in recording.ops.iter().enumerate() {
        while let Some((_, note)) = notes.next_if(|(behind, _)| *behind <= at) {
            let _ = writeln!(text, "    {note:?}");
        }
        let _ = write!(text, "{at}: {op}");
        if let Op::Write {
            data: Data::Bytes(bytes),
            ..
        } = op
        {
            let _ = write!(text, " {:016x}", aof2_format::checksum::crc64nvme(bytes));
        }
        text.push('\n');
    }
    for (_, note) in notes {
        let _ = writeln!(text, "    {note:?}");
    }
}

/// One run: its trace, or what was acknowledged and is gone.
fn run(seed: u64, faults: Faults) -> Result<String, String> {
    let (result, turns) = Baton::conduct(seed, |baton| {
        let mut dice = Dice::new(seed);
        let mut text = String::new();
        let disk = RecordingDisk::slow(Image::empty(), faults, &mut dice);
        let store = open(&disk, baton, &mut dice)?;
        append(&disk, &store, 0, &mut dice);
        if dice.one_in(2) {
            store.seal(None).map_err(|error| error.to_string())?;
        }
        append(&disk, &store, 10_000, &mut dice);
        store.close().map_err(|error| error.to_string())?;
        describe(&disk, &mut text);

        // The power goes anywhere in it.
        let recording = disk.recording();
        let changes = dice.below(recording.ops.len() as u64 + 1) as usize;
        let mut volume = Volume::new(&recording.base);
        recording.ops[..changes]
            .iter()
            .for_each(|op| volume.step(op));
        let items = volume.items();
        let fates = fates::draw(&items, &mut dice);
        let _ = writeln!(text, "cut after {changes}: {fates:?}");
        let model = Model::default().after(&recording.notes, changes);

        let disk = RecordingDisk::slow(volume.cut(&items, &fates), faults, &mut dice);
        let store = open(&disk, baton, &mut dice)?;
        let served = Session::new(disk.clone(), store.clone(), 0).served()?;
        model.check(&served)?;
        disk.note(Note::Served(served));
        append(&disk, &store, 20_000, &mut dice);
        store.close().map_err(|error| error.to_string())?;
        describe(&disk, &mut text);
        Ok(text)
    });
    result.map(|text| format!("{}\n{text}", turns.join("\n")))
}

/// Answers how many lines the trace of a run has.
pub fn same_twice(seed: u64, run: impl Fn(u64) -> Result<String, String>) -> usize {
    let first = run(seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let second = run(seed).unwrap_or_else(|error| panic!("seed {seed}, again: {error}"));
    if let Some((at, (one, other))) = first
        .lines()
        .zip(second.lines())
        .enumerate()
        .find(|(_, (one, other))| one != other)
    {
        panic!("seed {seed}: line {at} is\n{one}\nand then\n{other}");
    }
    assert_eq!(first.len(), second.len(), "seed {seed}");
    first.lines().count()
}

/// The one that is asked for, or all.
pub fn seeds(all: std::ops::Range<u64>) -> std::ops::Range<u64> {
    match std::env::var("AOF2_SCHEDULE_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("AOF2_SCHEDULE_SEED is a number");
            seed..seed + 1
        }
        Err(_) => all,
    }
}

#[test]
fn a_seed_gives_the_same_order_of_events_twice_and_nothing_acknowledged_is_lost_in_any() {
    let mut switches = 0;
    for seed in seeds(SEEDS) {
        switches += same_twice(seed, |seed| run(seed, Faults::NONE));
    }
    println!("{switches} lines of traces");
}

#[test]
fn another_seed_gives_another_order_of_events() {
    let [one, other] = [1, 2].map(|seed| run(seed, Faults::NONE).expect("nothing is lost"));
    let turns =
        |trace: &str| -> Vec<String> { trace.lines().take(200).map(str::to_owned).collect() };
    assert_ne!(turns(&one), turns(&other));
}

/// The harness finds what it is there to find, and finds it again with the same seed.
#[test]
fn a_journal_that_is_not_synced_loses_records_under_the_scheduler_too() {
    let faults = Faults {
        omits: |call| call.class == FileClass::Journal,
        ..Faults::NONE
    };
    let found = SEEDS
        .into_iter()
        .find_map(|seed| Some((seed, run(seed, faults).err()?)));
    let (seed, error) = found.expect("one of the seeds loses something");
    assert_eq!(run(seed, faults), Err(error), "seed {seed}");
}
