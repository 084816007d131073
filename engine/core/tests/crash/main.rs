//! Kills and power cuts, checked against a model that knows nothing of the store.
//!
//! A child process (this test binary, run again) appends to several streams with several writers and prints every
//! acknowledgement. The parent kills it, or cuts the power of the file system below it, and opens a copy of what is left. The
//! harness is itself tested: with a class of syncs taken out it has to find a loss.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // no part of the store

mod child;
mod model;
mod power;
mod torn;
mod trace;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use aof2_core::testing::copy_directory;
use rustix::process::{Pid, Signal};

use crate::child::Plan;
use crate::model::{Ack, Model};

/// Small deterministic generator; the seed is printed with every failure.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed ^ 0x9E37_79B9_7F4A_7C15)
    }

    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// A running child and its acknowledgements.
pub struct Writer {
    process: Child,
    acks: mpsc::Receiver<Ack>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    pub fn start(directory: &Path, plan: &Plan) -> Writer {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child::writes_until_it_is_killed",
                "--nocapture",
                "--test-threads=1",
            ])
            .envs(plan.to_env(directory))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = process.stdout.take().unwrap();
        let (told, acks) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            // A line that was cut off by the kill was not told to anybody.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(ack) = Ack::parse(&line)
                    && told.send(ack).is_err()
                {
                    return;
                }
            }
        });
        Writer {
            process,
            acks,
            reader: Some(reader),
        }
    }

    /// Waits for an acknowledgement, and notes it.
    pub fn wait_for_ack(&mut self, model: &mut Model, patience: Duration) -> Option<Ack> {
        let ack = self.acks.recv_timeout(patience).ok()?;
        model.acknowledge(ack.clone());
        Some(ack)
    }

    pub fn note_acks_for(&mut self, model: &mut Model, time: Duration) {
        let deadline = Instant::now() + time;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match self.acks.recv_timeout(left) {
                Ok(ack) => model.acknowledge(ack),
                Err(_) => return,
            }
        }
    }

    /// True when no acknowledgement came for a while: the writers have stopped.
    pub fn wait_until_quiet(&mut self, model: &mut Model) -> bool {
        let mut seen = 0;
        while self
            .wait_for_ack(
                model,
                Duration::from_millis(if seen == 0 { 5_000 } else { 40 }),
            )
            .is_some()
        {
            seen += 1;
        }
        seen > 0
    }

    /// SIGSTOP, and waits until no thread of it runs, nor any call that it made to the kernel.
    pub fn stop(&self) {
        let Ok(id) = i32::try_from(self.process.id()) else {
            unreachable!("process ids are small")
        };
        let pid = Pid::from_raw(id).unwrap();
        rustix::process::kill_process(pid, Signal::STOP).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_stopped(id) {
            assert!(Instant::now() < deadline, "process {id} does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGKILL, unless it ended by itself; everything that it had printed counts.
    pub fn kill(mut self, model: &mut Model) {
        // It may have exited because the disk went away.
        let _ = self.process.kill();
        self.process.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        for ack in self.acks.try_iter() {
            model.acknowledge(ack);
        }
    }
}

/// Whether each of its threads is stopped or gone.
fn is_stopped(id: i32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
    threads.flatten().all(|thread| {
        let Ok(stat) = std::fs::read_to_string(thread.path().join("stat")) else {
            // It ended between the list and the question.
            return true;
        };
        // The state stands behind the name, which is in brackets and may hold anything.
        let state = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.chars().next());
        matches!(state, Some('T' | 'Z' | 'X'))
    })
}

/// Opens a copy, so that the next writer starts from the crash itself, and holds it against the model.
pub fn check_copy(directory: &Path, model: &mut Model) -> Result<(), String> {
    // In memory where that is to be had: a copy needs no durability.
    let scratch = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let copy = scratch.path().join("copy");
    copy_directory(directory, &copy);
    model.check(&copy)
}

#[test]
fn no_kill_loses_reorders_or_repeats_an_acknowledged_record() {
    const KILLS: u64 = 200;
    const KILLS_PER_DIRECTORY: u64 = 10;
    let seed = std::env::var("AOF2_CRASH_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_261_125);
    let mut dice = Dice::new(seed);
    let (mut in_flight, mut torn_tails, mut acknowledged) = (0, 0, 0);
    for first in (0..KILLS).step_by(KILLS_PER_DIRECTORY as usize) {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let mut model = Model::default();
        for kill in first..first + KILLS_PER_DIRECTORY {
            let is_quiet = kill % 2 == 1;
            let plan = Plan {
                seed: dice.roll(u64::MAX),
                quiet_after: is_quiet.then(|| 20 + dice.roll(200)),
                ..Plan::default()
            };
            let mut writer = Writer::start(&data, &plan);
            if is_quiet {
                assert!(
                    writer.wait_until_quiet(&mut model),
                    "kill {kill} of seed {seed}: the child wrote nothing"
                );
            } else {
                assert!(
                    writer
                        .wait_for_ack(&mut model, Duration::from_secs(10))
                        .is_some(),
                    "kill {kill} of seed {seed}"
                );
                writer.note_acks_for(&mut model, Duration::from_millis(dice.roll(60)));
                in_flight += 1;
            }
            writer.kill(&mut model);
            if kill % 4 == 3 {
                torn_tails += torn::tear_tails(&data, &mut dice);
            }
            if let Err(violation) = check_copy(&data, &mut model) {
                panic!("kill {kill} of seed {seed}: {violation}");
            }
        }
        acknowledged += model.acknowledged();
    }
    println!(
        "{KILLS} kills, {in_flight} with appends in flight, {torn_tails} torn tails, {acknowledged} acknowledged records, 0 lost"
    );
    assert!(in_flight >= KILLS / 2);
    assert!(torn_tails >= 20, "{torn_tails} torn tails");
    assert!(acknowledged > 5_000);
}
