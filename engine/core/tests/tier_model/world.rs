//! A node, the bucket, and the model of what they must hold; one operation after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aof2_core::config::KIB;
use aof2_core::deletion::Deletion;
use aof2_core::io::Clock;
use aof2_core::objects::memory::MemoryStore;
use aof2_core::snapshot::SnapshotRequest;
use aof2_core::tier::LocalTier;
use aof2_core::{Config, Reader, StreamInfo};

use crate::baton::Baton;
use crate::bucket::Late;
use crate::check::Checks;
use crate::dice::Dice;
use crate::disk::Lack;
use crate::image::Image;
use crate::lacks::inject;
use crate::model;
use crate::node::{Node, WorldClock, small_config};
use crate::ops::Op;
use crate::records::request;
use crate::volume::Fate;

pub const NAMES: [&str; 2] = ["a", "b"];
/// A clock that stands elsewhere for so long is believed.
const BELIEVED: Duration = Duration::from_secs(24 * 3600 - 60);

pub struct World {
    pub clock: Arc<WorldClock>,
    pub begin: Instant,
    pub memory: Arc<MemoryStore>,
    pub config: Config,
    pub dice: Dice,
    pub node: Node,
    pub streams: Vec<model::Stream>,
    pub checks: Checks,
    pub next_id: u64,
    pub requests: u64,
    pub reader: Option<(usize, Reader)>,
    /// Of a process before.
    pub late: Vec<Late>,
    pub is_out: bool,
    pub lack: Option<Lack>,
    /// Since when the wall clock does not stand where it should.
    pub stepped: Option<Duration>,
    pub was_stepped: bool,
    /// A wrong clock may have been believed: nothing is said of ages any more.
    pub is_lost_in_time: bool,
    /// For whoever reads a failure.
    tells: bool,
}

fn config_of(dice: &mut Dice) -> Config {
    let mut config = small_config();
    // A stream at rest has 16 KiB, and another 16 KiB made ahead.
    config.tier0.instance_quota_bytes = match dice.below(3) {
        0 => 0,
        _ => (96 << dice.below(4)) * KIB,
    };
    config.tier1.max_bytes = match dice.below(3) {
        0 => 0,
        _ => (8 << dice.below(4)) * KIB,
    };
    config.tier1.cache_bytes = [0, 8 * KIB, 256 * KIB][dice.below(3) as usize];
    config.tier2.delete_grace = Duration::from_secs([0, 60, 3600][dice.below(3) as usize]);
    config.tier2.upload_concurrency = 1 + dice.below(2) as usize;
    config.manifest.base_after_chunks = 1 + dice.below(3);
    config.compaction.enabled = dice.one_in(3);
    config.compaction.min_inputs = 2 + dice.below(2) as usize;
    config
}

impl World {
    pub fn new(
        seed: u64,
        baton: &Arc<Baton>,
        streams: usize,
        tells: bool,
    ) -> Result<World, String> {
        let mut dice = Dice::new(seed);
        let config = config_of(&mut dice);
        let clock = WorldClock::new(baton.clone());
        let memory = Arc::new(MemoryStore::new());
        let image = Image::empty();
        let node = Node::start(image, 0, &memory, &clock, config.clone(), &mut dice)?;
        Ok(World {
            begin: clock.monotonic(),
            clock,
            memory,
            config,
            dice,
            node,
            streams: NAMES[..streams]
                .iter()
                .map(|name| model::Stream::new(name))
                .collect(),
            checks: Checks::default(),
            next_id: 1,
            requests: 0,
            reader: None,
            late: Vec::new(),
            is_out: false,
            lack: None,
            stepped: None,
            was_stepped: false,
            is_lost_in_time: false,
            tells,
        })
    }

    pub fn now(&self) -> Duration {
        self.clock.monotonic().duration_since(self.begin)
    }

    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.tells {
            eprintln!("{:?}: {}", self.now(), what());
        }
    }

    pub fn is_powerless(&self) -> bool {
        self.node.power.is_out()
    }

    pub fn is_clock_right(&self) -> bool {
        self.stepped.is_none() && !self.is_lost_in_time
    }

    /// The operation, and what must hold behind it.
    pub fn apply(&mut self, op: &Op) -> Result<(), String> {
        self.tell(|| format!("{op:?}"));
        if self.dice.one_in(3) {
            self.late_arrive();
        }
        self.perform(op)?;
        self.behind(op)
    }

    pub fn behind(&mut self, op: &Op) -> Result<(), String> {
        if self
            .stepped
            .is_some_and(|since| self.now() - since > BELIEVED)
        {
            self.is_lost_in_time = true;
        }
        if self.is_powerless() {
            self.tell(|| format!("the power went in {op:?}"));
            self.power_on(None)?;
        }
        self.check()
    }

    pub fn perform(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Append {
                stream,
                sizes,
                is_durable,
            } => self.append(*stream, sizes, *is_durable),
            Op::Seal { stream } => {
                let sealed = self.node.store.seal(Some(NAMES[*stream]));
                self.tell(|| format!("  {sealed:?}"));
                Ok(())
            }
            Op::Flush => {
                let flushed = self.node.store.flush();
                self.tell(|| format!("  {flushed:?}"));
                Ok(())
            }
            Op::Wait(time) => {
                self.clock.sleep(*time);
                Ok(())
            }
            Op::Skip(time) => {
                self.clock.skip(*time);
                Ok(())
            }
            Op::Settle => self.settle(),
            Op::Read {
                stream,
                from,
                limit,
            } => {
                let known = &self.streams[*stream];
                let from = known.start + from.of(known.next() - known.start);
                self.read(*stream, from, *limit).map(drop)
            }
            Op::ReadBelow { stream } => self.read_below(*stream),
            Op::ReadBeyond { stream } => self.read_beyond(*stream),
            Op::Tail { stream } => self.tail(*stream),
            Op::OpenReader { stream, from } => {
                let known = &self.streams[*stream];
                let from = known.start + from.of(known.next() - known.start);
                let reader = self.node.store.read(request(*stream, from, 0));
                self.reader = reader.ok().map(|reader| (*stream, reader));
                Ok(())
            }
            Op::ReadOn { bytes } => self.read_on(*bytes),
            Op::Trim { stream, before } => self.trim(*stream, *before),
            Op::Retain {
                stream,
                max_age,
                max_bytes,
            } => {
                self.retain(*stream, *max_age, *max_bytes);
                Ok(())
            }
            Op::Step { seconds } => {
                self.step_clock(*seconds);
                Ok(())
            }
            Op::Hydrate {
                stream,
                from,
                to,
                is_hot,
            } => {
                let next = self.streams[*stream].next();
                let (from, to) = (from.of(next), to.of(next));
                let tier = match is_hot {
                    true => LocalTier::Tier0,
                    false => LocalTier::Tier1,
                };
                let tiers = &self.node.tiers;
                let asked = tiers.hydrate(NAMES[*stream], from.min(to), Some(from.max(to)), tier);
                self.tell(|| format!("  {asked:?}"));
                if let Ok(hydration) = asked {
                    self.checks.hydrations.push(hydration.id);
                }
                Ok(())
            }
            Op::Evict { stream, segment } => {
                if let Some(id) = self.segment(*stream, *segment) {
                    let evicted = self.node.store.evict_hot(NAMES[*stream], id);
                    self.tell(|| format!("  segment {id}: {evicted:?}"));
                }
                Ok(())
            }
            Op::DeleteWarm { stream, segment } => {
                if let Some(id) = self.segment(*stream, *segment) {
                    let Node { tiers, store, .. } = &self.node;
                    let deleted = Deletion::delete_warm(tiers, store, NAMES[*stream], id);
                    self.tell(|| format!("  segment {id}: {deleted:?}"));
                }
                Ok(())
            }
            Op::DeleteObject { stream, segment } => {
                if let Some(id) = self.segment(*stream, *segment) {
                    let Node {
                        deletion, store, ..
                    } = &self.node;
                    let deleted = deletion.delete_object(store, NAMES[*stream], id);
                    self.tell(|| format!("  segment {id}: {deleted:?}"));
                }
                Ok(())
            }
            Op::Snapshot { stream } => {
                self.requests += 1;
                let request = SnapshotRequest {
                    stream: NAMES[*stream].to_owned(),
                    request: format!("r{}", self.requests),
                    seals: true,
                };
                let begun = self.node.snapshots.begin(request);
                self.tell(|| format!("  {begun:?}"));
                if let Ok(status) = begun {
                    let durable = self.streams[*stream].durable;
                    self.checks.begun(*stream, status.snapshot_id.0, durable);
                }
                Ok(())
            }
            Op::Pieces { stream, count } => self.pieces(*stream, *count),
            Op::Merge { stream, waits } => {
                self.merge(*stream, *waits);
                Ok(())
            }
            Op::Outage => {
                self.is_out = true;
                self.memory.set_unreachable(true);
                Ok(())
            }
            Op::Fault { kind, times } => {
                self.checks.has_faults = true;
                inject(&self.memory, *kind, *times as usize);
                Ok(())
            }
            Op::Slow(latency) => {
                self.node.bucket.set_latency(*latency);
                Ok(())
            }
            Op::Full { left_bytes } => {
                self.lack_of(Some(Lack::Space {
                    left_bytes: *left_bytes,
                }));
                Ok(())
            }
            Op::NoDescriptors => {
                self.lack_of(Some(Lack::Descriptors));
                Ok(())
            }
            Op::Heal => {
                self.heal();
                Ok(())
            }
            Op::Drain => self.drain(),
            Op::Restart => self.restart(),
            Op::Kill => {
                self.node.power.go(self.node.disk.volume());
                self.power_on(Some(Fate::Kept))
            }
            Op::Cut { after } => {
                self.node.power.cut_after(*after);
                Ok(())
            }
        }
    }

    pub fn info(&self, stream: usize) -> Option<StreamInfo> {
        self.node.store.describe(NAMES[stream]).ok()
    }

    /// Where the stream begins now, which has to be where it may.
    pub fn start(&mut self, stream: usize) -> Result<u64, String> {
        self.begins(stream)?;
        Ok(self.streams[stream].start)
    }

    pub fn begins(&mut self, stream: usize) -> Result<(), String> {
        let (Some(info), now) = (self.info(stream), self.now()) else {
            return Ok(());
        };
        if self.is_lost_in_time {
            self.streams[stream].start = info.first_sequence;
            return Ok(());
        }
        self.streams[stream].begins_at(info.first_sequence, now)
    }

    pub fn check(&mut self) -> Result<(), String> {
        if let Some(failure) = self.node.store.failure() {
            return Err(format!("the store serves nobody: {failure}"));
        }
        for (stream, name) in NAMES.iter().enumerate().take(self.streams.len()) {
            let Some(info) = self.info(stream) else {
                if self.streams[stream].durable > 0 {
                    return Err(format!("stream {name} is gone"));
                }
                continue;
            };
            if let Some(damage) = info.damage {
                return Err(format!("{} is damaged: {damage}", info.name));
            }
            self.begins(stream)?;
            let known = &mut self.streams[stream];
            let next = known.next();
            known.told(
                info.first_sequence,
                info.durable_sequence,
                info.sealed_sequence,
                info.uploaded_sequence,
            )?;
            if info.next_sequence != next {
                return Err(format!(
                    "{}: {} is the next sequence where {next} is",
                    info.name, info.next_sequence
                ));
            }
        }
        crate::check::step(self)
    }
}
