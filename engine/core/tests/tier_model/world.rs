//! A node, the bucket, and the model of what they must hold; one operation after the other.

use std::sync::Arc;
use std::time::Duration;

use aof2_core::config::KIB;
use aof2_core::config::RetentionRule;
use aof2_core::deletion::Deletion;
use aof2_core::drain::{DrainPhase, DrainRequest};
use aof2_core::io::Clock;
use aof2_core::objects::Refusal;
use aof2_core::objects::memory::{Fault, MemoryStore, Verb};
use aof2_core::snapshot::SnapshotRequest;
use aof2_core::tier::LocalTier;
use aof2_core::{
    AppendError, AppendRequest, Config, Durability, ReadError, ReadRequest, Reader, StreamInfo,
    TrimError,
};
use aof2_format::start_sequence::StartReason;
use bytes::Bytes;

use crate::baton::Baton;
use crate::bucket::Late;
use crate::check::Checks;
use crate::dice::Dice;
use crate::disk::Lack;
use crate::fates;
use crate::image::Image;
use crate::model::{self, Record, Rule};
use crate::node::{Node, WorldClock, small_config};
use crate::ops::{Op, Share};
use crate::volume::{Fate, Volume};

pub const NAMES: [&str; 2] = ["a", "b"];
/// A clock that stands elsewhere for so long is believed.
const BELIEVED: Duration = Duration::from_secs(24 * 3600 - 60);
const READ_BYTES: usize = 64 << 10;

pub struct World {
    pub clock: Arc<WorldClock>,
    begin: std::time::Instant,
    pub memory: Arc<MemoryStore>,
    pub config: Config,
    dice: Dice,
    pub node: Node,
    pub streams: Vec<model::Stream>,
    pub checks: Checks,
    next_id: u64,
    requests: u64,
    reader: Option<(usize, Reader)>,
    /// Of a process before.
    late: Vec<Late>,
    is_out: bool,
    lack: Option<Lack>,
    /// Since when the wall clock does not stand where it should.
    stepped: Option<Duration>,
    pub was_stepped: bool,
    /// A wrong clock may have been believed: nothing is said of ages any more.
    pub is_lost_in_time: bool,
    /// What was done, for whoever reads a failure.
    pub told: Option<Vec<String>>,
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
        let node = Node::start(image, &memory, &clock, config.clone(), &mut dice)?;
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
            told: tells.then(Vec::new),
        })
    }

    pub fn now(&self) -> Duration {
        self.clock.monotonic().duration_since(self.begin)
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        let now = self.now();
        if let Some(told) = &mut self.told {
            let line = format!("{now:?}: {}", what());
            eprintln!("{line}");
            told.push(line);
        }
    }

    fn is_powerless(&self) -> bool {
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

    fn behind(&mut self, op: &Op) -> Result<(), String> {
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

    fn perform(&mut self, op: &Op) -> Result<(), String> {
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

    /// What was sent before the power went.
    fn late_arrive(&mut self) {
        for late in std::mem::take(&mut self.late) {
            let key = late.arrive(&self.memory);
            self.checks.came_late.insert(key);
        }
    }

    fn lack_of(&mut self, lack: Option<Lack>) {
        self.lack = lack;
        self.node.disk.set_lack(lack);
    }

    pub fn heal(&mut self) {
        self.memory.heal();
        self.checks.has_faults = false;
        self.is_out = false;
        self.node.bucket.set_latency(Duration::ZERO);
        self.lack_of(None);
    }

    // --- records

    fn append(&mut self, stream: usize, sizes: &[u32], is_durable: bool) -> Result<(), String> {
        let (at, is_dated) = (self.now(), self.stepped.is_none());
        let batch: Vec<Record> = (self.next_id..)
            .zip(sizes)
            .map(|(id, length)| Record {
                id,
                length: *length,
                at,
                is_dated,
            })
            .collect();
        self.next_id += batch.len() as u64;
        let name = NAMES[stream];
        let request = AppendRequest {
            stream: name.to_owned(),
            payloads: batch.iter().map(|it| model::payload(name, it)).collect(),
            durability: match is_durable {
                true => Durability::Durable,
                false => Durability::Buffered,
            },
            producer: None,
        };
        let first = self.streams[stream].next();
        self.streams[stream].attempt(&batch);
        let appended = self.node.store.append(request);
        self.tell(|| format!("  {appended:?}"));
        if self.is_powerless() {
            // Whatever was answered came too late to be heard.
            return Ok(());
        }
        let known = &mut self.streams[stream];
        match appended {
            Ok(done) if done.first_sequence == first && done.count as usize == batch.len() => {
                if is_durable {
                    known.durable = known.next();
                }
                Ok(())
            }
            Ok(done) => Err(format!("{name}: {done:?} where {first} is next")),
            Err(
                AppendError::WouldBlock { .. }
                | AppendError::DiskFull { .. }
                | AppendError::ClaimPending { .. },
            ) => {
                known.take_back(batch.len());
                Ok(())
            }
            Err(error) => Err(format!("{name} refuses an append: {error:?}")),
        }
    }

    fn pieces(&mut self, stream: usize, count: u64) -> Result<(), String> {
        for _ in 0..count {
            if self.is_powerless() {
                break;
            }
            let size = 1 + self.dice.below(600) as u32;
            self.append(stream, &[size], true)?;
            let sealed = self.node.store.seal(Some(NAMES[stream]));
            self.tell(|| format!("  {sealed:?}"));
        }
        Ok(())
    }

    /// Whoever waits asks again as long as something else goes before.
    fn merge(&mut self, stream: Option<usize>, waits: bool) {
        let name = stream.map(|stream| NAMES[stream]);
        let mut asked = self.node.compaction.ask(name);
        for _ in 0..if waits { 8 } else { 0 } {
            self.clock.sleep(Duration::from_secs(1));
            let Ok(before) = &asked else { break };
            let Some(run) = self.node.compaction.run(before.id) else {
                break;
            };
            if self.is_powerless() || run.outputs > 0 {
                asked = Ok(run);
                break;
            }
            if run.has_ended {
                asked = self.node.compaction.ask(name);
            }
        }
        self.tell(|| format!("  {asked:?}"));
    }

    /// Reads up to `limit` records, 0 = all, and compares them.
    pub fn read(&mut self, stream: usize, from: u64, limit: u64) -> Result<u64, String> {
        let Ok(mut reader) = self.node.store.read(request(stream, from, limit)) else {
            // Nothing was ever acknowledged.
            return match self.streams[stream].durable {
                0 => Ok(0),
                durable => Err(format!("{}: gone, with {durable} records", NAMES[stream])),
            };
        };
        let mut next = from;
        loop {
            match self.read_from(stream, &mut reader, READ_BYTES)? {
                Some(position) if position > next => next = position,
                Some(_) | None => break,
            }
        }
        let durable = self.streams[stream].durable;
        let end = match limit {
            0 => durable,
            limit => durable.min(from + limit),
        };
        let may_end_early = self.is_powerless() || self.may_fail_to_read();
        if next < end && !may_end_early && next >= self.start(stream)? {
            return Err(format!(
                "{}: read from {from} ends at {next} of {end}",
                NAMES[stream]
            ));
        }
        Ok(next)
    }

    fn may_fail_to_read(&self) -> bool {
        self.is_out || self.memory_may_fail() || self.lack.is_some()
    }

    /// Faults that were injected may not be met yet.
    fn memory_may_fail(&self) -> bool {
        self.checks.has_faults
    }

    /// The next batch of a reader, compared. Answers where the reader is, `None` where it gets no further.
    fn read_from(
        &mut self,
        stream: usize,
        reader: &mut Reader,
        bytes: usize,
    ) -> Result<Option<u64>, String> {
        let from = reader.position();
        match reader.next_batch(bytes) {
            Ok(Some(records)) => {
                let found: Vec<(u64, Bytes)> = records
                    .into_iter()
                    .map(|record| (record.sequence, record.payload))
                    .collect();
                self.streams[stream].check(from, &found)?;
                Ok(Some(reader.position()))
            }
            Ok(None) => Ok(None),
            Err(ReadError::Trimmed { first, .. }) if first > from => {
                self.begins(stream)?;
                let start = self.streams[stream].start;
                match first <= start {
                    true => Ok(None),
                    false => Err(format!(
                        "{}: a reader at {from} is told of {first}, and it begins at {start}",
                        NAMES[stream]
                    )),
                }
            }
            Err(_) if self.is_powerless() => Ok(None),
            Err(ReadError::Unavailable { .. } | ReadError::WouldBlock { .. })
                if self.may_fail_to_read() =>
            {
                Ok(None)
            }
            Err(ReadError::Disk { source, .. })
                if self.lack.is_some() && source.raw_os_error() == Some(24) =>
            {
                Ok(None)
            }
            Err(error) => Err(format!("{}: read at {from}: {error:?}", NAMES[stream])),
        }
    }

    fn read_below(&mut self, stream: usize) -> Result<(), String> {
        let start = self.start(stream)?;
        if start == 0 || self.is_powerless() {
            return Ok(());
        }
        let reader = self.node.store.read(request(stream, start - 1, 1));
        let found = reader.and_then(|mut reader| reader.next_batch(READ_BYTES));
        match found {
            Err(ReadError::Trimmed { first, .. }) if first >= start => Ok(()),
            other => Err(format!(
                "{}: begins at {start}, and a read before it gives {other:?}",
                NAMES[stream]
            )),
        }
    }

    fn read_beyond(&mut self, stream: usize) -> Result<(), String> {
        let next = self.streams[stream].next();
        let Ok(mut reader) = self.node.store.read(request(stream, next + 3, 0)) else {
            return Ok(());
        };
        match reader.next_batch(READ_BYTES) {
            Ok(None) => Ok(()),
            _ if self.is_powerless() => Ok(()),
            other => Err(format!("{}: {other:?} beyond the end", NAMES[stream])),
        }
    }

    fn tail(&mut self, stream: usize) -> Result<(), String> {
        let next = self.streams[stream].next();
        if next == 0 {
            return Ok(());
        }
        let store = &self.node.store;
        let waited = store.wait_durable_beyond(NAMES[stream], next - 1, Duration::from_secs(1));
        match waited {
            Ok(durable) if durable <= next => Ok(()),
            _ if self.is_powerless() => Ok(()),
            Err(ReadError::UnknownStream { .. }) => Ok(()),
            other => Err(format!("{}: {other:?} records of {next}", NAMES[stream])),
        }
    }

    fn read_on(&mut self, bytes: usize) -> Result<(), String> {
        let Some((stream, mut reader)) = self.reader.take() else {
            return Ok(());
        };
        let goes_on = self.read_from(stream, &mut reader, bytes)?;
        self.tell(|| format!("  {goes_on:?}"));
        self.reader = goes_on.map(|_| (stream, reader));
        Ok(())
    }

    // --- what goes

    fn trim(&mut self, stream: usize, before: Share) -> Result<(), String> {
        let known = &mut self.streams[stream];
        let before = before.of(known.next() + 1);
        let last = known.trimmed;
        if before <= known.next() {
            known.trimmed = last.max(before);
        }
        let (sealed, next) = (known.sealed, known.next());
        let trimmed = self
            .node
            .store
            .trim(NAMES[stream], before, StartReason::Trim);
        self.tell(|| format!("  before {before}: {trimmed:?}"));
        if self.is_powerless() {
            return Ok(());
        }
        match trimmed {
            Ok(trim) => {
                let start = self.start(stream)?;
                match start >= before && trim.first_sequence <= start {
                    true => Ok(()),
                    false => Err(format!(
                        "{}: trimmed before {before}, {trim:?}, and begins at {start}",
                        NAMES[stream]
                    )),
                }
            }
            Err(error) => {
                self.streams[stream].trimmed = last;
                let is_meant = match &error {
                    TrimError::BeyondEnd { .. } => before > next,
                    TrimError::NotSealed { .. } => before > sealed,
                    TrimError::Store(_) => self.lack.is_some() || next == 0,
                    TrimError::NotServed(_) => false,
                };
                match is_meant {
                    true => Ok(()),
                    false => Err(format!("{}: {error:?}", NAMES[stream])),
                }
            }
        }
    }

    fn retain(&mut self, stream: usize, max_age: Option<Duration>, max_bytes: Option<u64>) {
        let now = self.now();
        let known = &mut self.streams[stream];
        known.last_rule = (known.rule, now);
        known.rule = Rule { max_age, max_bytes };
        self.config.retention = self
            .streams
            .iter()
            .map(|stream| RetentionRule {
                streams: stream.name.to_owned(),
                max_age: stream.rule.max_age,
                max_bytes: stream.rule.max_bytes,
            })
            .collect();
        self.node.store.reconfigure(self.config.clone());
    }

    fn step_clock(&mut self, seconds: i64) {
        self.stepped = match seconds {
            0 => None,
            _ => self.stepped.or(Some(self.now())),
        };
        self.was_stepped |= seconds != 0;
        self.clock.set_step(seconds * 1_000_000_000);
    }

    fn segment(&self, stream: usize, which: Share) -> Option<u64> {
        let segments = self.node.store.segments(NAMES[stream]).ok()?;
        let trimmed = self.node.store.trimmed_segments(NAMES[stream]).ok()?;
        let all: Vec<u64> = segments
            .iter()
            .chain(&trimmed)
            .map(|segment| segment.segment_id)
            .collect();
        all.get(which.index(all.len())).copied()
    }

    // --- what must hold

    fn info(&self, stream: usize) -> Option<StreamInfo> {
        self.node.store.describe(NAMES[stream]).ok()
    }

    /// Where the stream begins now, which has to be where it may.
    pub fn start(&mut self, stream: usize) -> Result<u64, String> {
        self.begins(stream)?;
        Ok(self.streams[stream].start)
    }

    fn begins(&mut self, stream: usize) -> Result<(), String> {
        let (Some(info), now) = (self.info(stream), self.now()) else {
            return Ok(());
        };
        if self.is_lost_in_time {
            self.streams[stream].start = info.first_sequence;
            return Ok(());
        }
        self.streams[stream].begins_at(info.first_sequence, now)
    }

    fn check(&mut self) -> Result<(), String> {
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

    fn drain(&mut self) -> Result<(), String> {
        let limit = Duration::from_secs(60);
        let drain = self.node.tiers.drain();
        drain.begin(DrainRequest {
            ttl: limit * 10,
            upload_timeout: limit,
            drain_timeout: limit,
        });
        let mut is_drained = false;
        for _ in 0..20 {
            self.clock.sleep(Duration::from_secs(1));
            let phase = drain.status().phase;
            is_drained = phase == DrainPhase::Drained;
            if is_drained || phase == DrainPhase::Open {
                break;
            }
        }
        let marks = self.node.store.watermarks();
        let behind = marks.iter().find(|it| it.acked != it.sealed_uploaded);
        let is_wrong = is_drained && behind.is_some() && !self.is_powerless();
        drain.resume();
        match behind {
            Some(mark) if is_wrong => Err(format!("drained, and {mark:?}")),
            _ => Ok(()),
        }
    }

    // --- processes

    fn restart(&mut self) -> Result<(), String> {
        self.reader = None;
        let stopped = self.node.stop();
        if let (Err(error), false, true) = (&stopped, self.is_powerless(), self.lack.is_none()) {
            return Err(error.clone());
        }
        if !self.is_powerless() && stopped.is_ok() {
            for known in &mut self.streams {
                known.durable = known.next();
            }
        }
        if !self.is_powerless() {
            self.node.power.go(self.node.disk.volume());
        }
        self.power_on(Some(Fate::Kept))
    }

    /// The next process, on what is left. Without a fate it is drawn what of the rest is.
    fn power_on(&mut self, fate: Option<Fate>) -> Result<(), String> {
        self.reader = None;
        let checked = self.checks.deletions(&self.node);
        // It is over, and does nothing any more that counts.
        let _ = self.node.stop();
        checked?;
        let Some(cut) = self.node.power.take_cut() else {
            return Err("the power did not go".to_owned());
        };
        let image = self.left_of(&cut.volume, fate);
        self.memory = cut.bucket;
        self.late.extend(self.node.bucket.take_late());
        if self.dice.one_in(2) {
            self.late_arrive();
        }
        self.memory.set_unreachable(self.is_out);
        self.checks.process_ended();
        if self.lack == Some(Lack::Descriptors) {
            self.lack = None;
        }
        let has_reading = image_has_reading(&image);
        if self.stepped.is_some() && !has_reading {
            // Nothing would tell that it is wrong.
            self.step_clock(0);
        }
        let config = self.config.clone();
        self.node = Node::start(image, &self.memory, &self.clock, config, &mut self.dice)?;
        self.node.disk.set_lack(self.lack);
        for stream in 0..self.streams.len() {
            let end = self.info(stream).map_or(0, |info| info.next_sequence);
            self.streams[stream].recovered(end)?;
            let start = self.start(stream)?;
            self.read(stream, start, 0)?;
        }
        Ok(())
    }

    fn left_of(&mut self, volume: &Volume, fate: Option<Fate>) -> Image {
        let items = volume.items();
        let fates = match fate {
            Some(fate) => vec![fate; items.len()],
            None => fates::draw(&items, &mut self.dice),
        };
        volume.cut(&items, &fates)
    }
}

fn image_has_reading(image: &Image) -> bool {
    use crate::image::{Node, ROOT_INODE};
    match &image.nodes[ROOT_INODE] {
        Node::Directory(entries) => entries.contains_key("clock.json"),
        Node::File(_) => false,
    }
}

fn request(stream: usize, from_sequence: u64, limit: u64) -> ReadRequest {
    ReadRequest {
        stream: NAMES[stream].to_owned(),
        from_sequence,
        limit,
        include_staged: false,
    }
}

/// Some answers of the bucket that are none, or not those of a bucket that works.
fn inject(memory: &MemoryStore, kind: u64, times: usize) {
    let verbs = [
        Verb::PutIfAbsent,
        Verb::Put,
        Verb::Get,
        Verb::GetRange,
        Verb::Head,
        Verb::List,
        Verb::Delete,
    ];
    let faults = [
        Fault::Unreachable,
        Fault::LostResponse,
        Fault::ServerError,
        Fault::Throttled,
        Fault::Conflict,
        Fault::AccessDenied,
        Fault::BucketMissing,
        Fault::Refused(Refusal::Other),
        Fault::TruncatedBody,
    ];
    let verb = verbs[(kind % verbs.len() as u64) as usize];
    let fault = faults[(kind / 64 % faults.len() as u64) as usize];
    // What a store keeps that takes no damaged bodies is what it was sent.
    let is_write = matches!(verb, Verb::PutIfAbsent | Verb::Put);
    if fault == Fault::TruncatedBody && is_write {
        return;
    }
    // A read that is cut whenever it is tried finds a damaged object.
    let times = match fault {
        Fault::TruncatedBody => 1,
        _ => times,
    };
    memory.inject(verb, fault, times);
}
