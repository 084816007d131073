//! The process that is killed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aof2_core::config::MIB;
use aof2_core::io::fault::FaultDisk;
use aof2_core::io::{Disk, FileClass, SystemDisk};
use aof2_core::{AppendRequest, Config, Durability, Identity, OpenOptions, Producer, Store};
use bytes::Bytes;

use crate::Dice;
use crate::model::{Ack, CLUSTER};
use crate::trace::{self, Trace, TraceDisk};

const DIRECTORY: &str = "AOF2_CRASH_DIRECTORY";
const SEED: &str = "AOF2_CRASH_CHILD_SEED";
const QUIET_AFTER: &str = "AOF2_CRASH_QUIET_AFTER";
const WITHOUT: &str = "AOF2_CRASH_WITHOUT";
const WORKLOAD: &str = "AOF2_CRASH_WORKLOAD";

/// A class of syncs that the child leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    Journal,
    Checkpoint,
}

impl Without {
    fn as_str(self) -> &'static str {
        match self {
            Without::Journal => "journal",
            Without::Checkpoint => "checkpoint",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workload {
    /// Several streams and writers, buffered and durable, small and large, seals, new streams.
    #[default]
    Everything,
    /// One new stream after the other, one record each.
    NewStreams,
    /// As many bytes through the journal as it takes to use its files again.
    ManyBytes,
}

impl Workload {
    fn as_str(self) -> &'static str {
        match self {
            Workload::Everything => "everything",
            Workload::NewStreams => "new streams",
            Workload::ManyBytes => "many bytes",
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub seed: u64,
    /// Writers stop after this many acknowledgements, and the process waits.
    pub quiet_after: Option<u64>,
    pub without: Option<Without>,
    pub workload: Workload,
    /// Where every sync is written down.
    pub trace: Option<PathBuf>,
}

impl Plan {
    pub fn to_env(&self, directory: &Path) -> Vec<(&'static str, String)> {
        let mut env = vec![
            (DIRECTORY, directory.display().to_string()),
            (SEED, self.seed.to_string()),
            (WORKLOAD, self.workload.as_str().to_owned()),
        ];
        env.extend(
            self.trace
                .as_ref()
                .map(|path| (trace::FILE, path.display().to_string())),
        );
        env.extend(
            self.quiet_after
                .map(|count| (QUIET_AFTER, count.to_string())),
        );
        env.extend(
            self.without
                .map(|without| (WITHOUT, without.as_str().to_owned())),
        );
        env
    }
}

pub fn config(directory: &Path) -> Config {
    let mut config = Config::new(directory);
    config.journal.file_bytes = 4 * MIB;
    config.journal.files = 3;
    config.segment.target_bytes = MIB;
    config.checkpoint.journal_bytes = 3 * MIB;
    config.checkpoint.interval = Duration::from_secs(1);
    config
}

/// Deterministic, so that any record can be checked by itself.
pub fn payload(stream: &str, producer: u64, producer_seq: u64) -> Vec<u8> {
    let mut hash = producer.wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ producer_seq.wrapping_mul(0xD1B5_4A32_D192_ED03);
    for byte in stream.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
    }
    let length = match producer {
        BULK => 250_000 + hash % 20_000,
        WIDE => 40_000 + hash % 20_000,
        _ => hash % 2_000,
    };
    let mut bytes = format!("{stream}/{producer}/{producer_seq}/").into_bytes();
    let mut pattern = [0; 256];
    for (index, byte) in pattern.iter_mut().enumerate() {
        *byte = (hash.rotate_left(index as u32 * 7) as u8) ^ index as u8;
    }
    while (bytes.len() as u64) < length {
        pattern[0] = pattern[0].wrapping_add(1);
        bytes.extend_from_slice(&pattern);
    }
    bytes
}

const BUFFERED: u64 = 100;
const BULK: u64 = 200;
const WIDE: u64 = 300;

/// Run by the parent only; by itself it has nothing to do.
#[test]
fn writes_until_it_is_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let trace = std::env::var_os(trace::FILE).map(|path| Trace::open(Path::new(&path)));
    let system: Arc<dyn Disk> = match trace.clone() {
        Some(trace) => Arc::new(TraceDisk { trace }),
        None => Arc::new(SystemDisk),
    };
    let (disk, faults) = FaultDisk::new(system);
    match std::env::var(WITHOUT).as_deref() {
        Ok("journal") => faults.skip_syncs(FileClass::Journal),
        Ok("checkpoint") => faults.skip_syncs(FileClass::Segment),
        Ok(other) => panic!("{WITHOUT}={other}"),
        Err(_) => {}
    }
    let mut options = OpenOptions::new(
        config(Path::new(&directory)),
        Identity {
            cluster_id: CLUSTER.to_owned(),
            node: "crash-0".to_owned(),
        },
    );
    options.environment.disk = disk;
    let store = Store::open(options).unwrap();
    store.on_poison(Box::new(|_| leave()));
    let budget = AtomicU64::new(number(QUIET_AFTER).unwrap_or(u64::MAX));
    let run = Run {
        store: &store,
        budget: &budget,
        trace: trace.as_deref(),
    };
    let seed = number(SEED).unwrap_or(0);
    std::thread::scope(|scope| match std::env::var(WORKLOAD).as_deref() {
        Ok("new streams") => run.new_streams(seed),
        Ok("many bytes") => {
            for writer in 0..4u64 {
                scope.spawn(move || run.durable(&format!("wide{writer}"), WIDE));
            }
        }
        _ => {
            for writer in 0..6u64 {
                scope.spawn(move || run.durable(&format!("s{}", writer % 3), writer + 1));
            }
            scope.spawn(move || run.buffered("s0"));
            scope.spawn(move || run.durable("bulk", BULK));
            scope.spawn(move || run.new_streams(seed));
            scope.spawn(move || run.seals(seed));
        }
    });
    // Quiet: the parent kills.
    std::thread::sleep(Duration::from_secs(60));
}

#[derive(Clone, Copy)]
struct Run<'a> {
    store: &'a Store,
    budget: &'a AtomicU64,
    trace: Option<&'a Trace>,
}

impl Run<'_> {
    fn may_go_on(&self) -> bool {
        self.budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }

    /// The next number of a producer, from what the store holds.
    fn next(&self, stream: &str, producer: u64) -> u64 {
        self.store
            .last_producer_seq(stream, producer)
            .ok()
            .flatten()
            .map_or(0, |last| last + 1)
    }

    fn append(&self, stream: &str, producer: u64, producer_seq: u64, durability: Durability) {
        let request = AppendRequest {
            stream: stream.to_owned(),
            payloads: vec![Bytes::from(payload(stream, producer, producer_seq))],
            durability,
            producer: Some(Producer {
                id: producer,
                first_seq: producer_seq,
                since: 0,
            }),
        };
        match self.store.append(request) {
            Ok(appended) if durability == Durability::Durable => {
                let ack = Ack {
                    stream: stream.to_owned(),
                    sequence: appended.first_sequence,
                    producer,
                    producer_seq,
                };
                let line = ack.line();
                let tell = || {
                    let mut out = std::io::stdout().lock();
                    out.write_all(line.as_bytes()).and_then(|()| out.flush())
                };
                match self.trace {
                    Some(trace) => trace.around(line.trim_end(), tell).unwrap(),
                    None => tell().unwrap(),
                }
            }
            Ok(_) => {}
            // The power is cut.
            Err(aof2_core::AppendError::Poisoned { .. }) => leave(),
            Err(error) => panic!("{error}"),
        }
    }

    fn durable(&self, stream: &str, producer: u64) {
        let mut next = self.next(stream, producer);
        while self.may_go_on() {
            self.append(stream, producer, next, Durability::Durable);
            next += 1;
        }
    }

    fn buffered(&self, stream: &str) {
        let mut next = self.next(stream, BUFFERED);
        while self.may_go_on() {
            for _ in 0..20 {
                self.append(stream, BUFFERED, next, Durability::Buffered);
                next += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn new_streams(&self, seed: u64) {
        let mut dice = Dice::new(seed);
        for index in 0.. {
            if !self.may_go_on() {
                return;
            }
            let stream = format!("n{:08x}-{index}", dice.roll(u64::from(u32::MAX)));
            self.append(&stream, 1, 0, Durability::Durable);
            std::thread::sleep(Duration::from_millis(10 + dice.roll(60)));
        }
    }

    fn seals(&self, seed: u64) {
        let mut dice = Dice::new(seed ^ 1);
        while self.may_go_on() {
            std::thread::sleep(Duration::from_millis(5 + dice.roll(40)));
            if self.store.seal(Some("s1")).is_err() && self.store.poisoned().is_some() {
                return;
            }
        }
    }
}

/// What the engine does when its store is poisoned.
#[allow(clippy::disallowed_methods)] // the child is a process of its own
fn leave() -> ! {
    std::process::exit(74)
}
