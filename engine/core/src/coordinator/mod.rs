//! One loop per node: observe, plan (pure), apply (jobs on threads of their own), record (the manifest, and what is remembered of
//! failures). The drain and the snapshots are machines that take their turn in the same loop.
//!
//! Nothing in a turn waits for a disk or a network: a drain keeps its bounds whatever hangs. What has to wait is a job.

mod apply;
mod bell;
mod demand;
pub(crate) mod hydrate;
pub mod hydrations;
pub mod memo;
mod observe;
pub mod plan;
mod recompress;
mod record;
#[cfg(test)]
mod tests;
mod warm_files;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use bell::Bell;
#[cfg(test)]
pub(crate) use demand::LOOK_EVERY;
use demand::Returned;
pub(crate) use observe::{Facts, Tier2Facts};
use observe::{Rooms, Tier1Known};

use crate::admit::{high_mark, hydration_mark};
use crate::claims::StreamClaims;
use crate::dropped::{Dropped, LeftFile};
use crate::error::StoreError;
use crate::fetch::{Closing, Fetch};
use crate::io::sync::{Mutex, MutexGuard, RwLock};
use crate::io::{Disk, ThreadHandle};
use crate::jobs::compress::{CompressOptions, warm_path};
use crate::jobs::drop_warm::{drop_warm, remove};
use crate::jobs::warm::WarmFacts;
use crate::objects::Tier2Health;
use crate::port::{Port, SealedSegment};
use hydrations::{Hydration, Hydrations, LocalTier};
use memo::{FailureKind, Memo, SegmentKey};
use plan::{Limits, Task, plan};

/// Without news the loop looks again after this, against a forgotten ring.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// After a turn a machine rests this many times as long as the turn took: one that has to look at a thousand things takes a fifth of
/// the loop at most, and the jobs go on. Never longer than the loop waits without news: a process that was stopped for an hour in the
/// middle of a turn goes on at once.
const REST: u32 = 4;

/// Between two looks at a Tier 0 that refuses.
const PRESSURE_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub compression_level: i32,
    pub block_bytes: u64,
    pub upload_concurrency: usize,
    /// A claim seen longer ago than this is read again before an upload, and all of them are at this interval.
    pub claim_check: Duration,
    /// 0 = no limit.
    pub tier1_max_bytes: u64,
    /// Segments come back that readers have from a lower tier again and again.
    pub hydrate_on_demand: bool,
}

/// Since the process started, where it is not said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MovesStatus {
    /// Now.
    pub pending_uploads: u64,
    /// Now, uncompressed.
    pub pending_upload_bytes: u64,
    pub compressed_segments: u64,
    pub uploaded_segments: u64,
    /// Compressed.
    pub uploaded_bytes: u64,
    /// Of the warm files on this node, now.
    pub tier1_bytes: u64,
    /// Copies that left Tier 0, and their bytes.
    pub evicted_segments: u64,
    pub evicted_bytes: u64,
    /// Copies that left Tier 1, and their bytes.
    pub evicted_warm_segments: u64,
    pub evicted_warm_bytes: u64,
    /// Copies that came back to Tier 0 or Tier 1, their bytes, and those that did not.
    pub hydrated_segments: u64,
    pub hydrated_bytes: u64,
    pub failed_hydrations: u64,
    /// Segments that wait for it, now: somebody asked for them.
    pub waiting_hydrations: u64,
    /// Of those that came back, the ones that nobody asked for: readers had them again and again.
    pub on_demand_segments: u64,
    /// From when they had room until they were there.
    pub on_demand_millis: u64,
    /// Steps that were begun again after they had failed.
    pub repeated_steps: u64,
    /// Of the segment that has failed most often in a row.
    pub failure: Option<String>,
}

/// A part that takes its turn in the loop.
pub(crate) trait Machine: Send + Sync {
    /// Looks at the facts and acts on them, without waiting for anything. Answers when it has to have a turn again, unless
    /// somebody rings before.
    fn turn(&self, facts: &Facts) -> Option<Instant>;
}

pub struct Coordinator {
    node: Arc<Node>,
    thread: Mutex<Option<ThreadHandle>>,
}

struct Node {
    port: Arc<dyn Port>,
    /// `None` without Tier 2: then nothing goes down.
    down: Option<Down>,
    bell: Arc<Bell>,
    machines: RwLock<Vec<Arc<Plugged>>>,
    stopping: AtomicBool,
}

struct Plugged {
    machine: Weak<dyn Machine>,
    /// `None` before its first turn.
    rests_until: Mutex<Option<Instant>>,
}

/// The way down.
struct Down {
    claims: Arc<StreamClaims>,
    settings: RwLock<Settings>,
    state: Mutex<State>,
    /// Copies leave Tier 1 one after the other: two that drop the same one would count it twice. True: what a start finds there was
    /// looked at. It goes before all, so that no file is taken for one that was dropped whose record is not durable yet.
    dropping: Mutex<bool>,
    /// How often uploads were wanted at once.
    hurries: AtomicU64,
    /// Who knows what readers want; empty where nobody reads.
    fetch: OnceLock<Arc<Fetch>>,
    /// Nothing comes back for readers meanwhile.
    is_draining: AtomicBool,
    counters: Counters,
}

#[derive(Default)]
struct State {
    memo: Memo,
    /// Warm files that this process verified itself.
    verified: std::collections::BTreeMap<SegmentKey, WarmFacts>,
    rooms: Rooms,
    hydrations: Hydrations,
    returned: Returned,
}

#[derive(Default)]
struct Counters {
    on_demand_segments: AtomicU64,
    on_demand_millis: AtomicU64,
    hydrated_segments: AtomicU64,
    hydrated_bytes: AtomicU64,
    failed_hydrations: AtomicU64,
    compressed_segments: AtomicU64,
    uploaded_segments: AtomicU64,
    uploaded_bytes: AtomicU64,
    repeated_steps: AtomicU64,
    tier1_bytes: AtomicU64,
    evicted_segments: AtomicU64,
    evicted_bytes: AtomicU64,
    evicted_warm_segments: AtomicU64,
    evicted_warm_bytes: AtomicU64,
}

impl Coordinator {
    /// `claims` are those that the store was opened with; `None` = no Tier 2.
    pub fn start(
        port: Arc<dyn Port>,
        claims: Option<Arc<StreamClaims>>,
        settings: Settings,
    ) -> std::io::Result<Coordinator> {
        let down = claims.map(|claims| Down {
            claims,
            settings: RwLock::new(settings),
            state: Mutex::default(),
            dropping: Mutex::default(),
            hurries: AtomicU64::new(0),
            fetch: OnceLock::new(),
            is_draining: AtomicBool::new(false),
            counters: Counters::default(),
        });
        let node = Arc::new(Node {
            port: port.clone(),
            down,
            bell: Arc::default(),
            machines: RwLock::default(),
            stopping: AtomicBool::new(false),
        });
        let bell = node.bell.clone();
        port.on_sealed(Arc::new(move |_| bell.ring()));
        port.on_pressure(now_and_then(&node));
        let run = node.clone();
        let thread = port.environment().spawn("coordinator", move || run.run())?;
        Ok(Coordinator {
            node,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// From here on segments come back that readers have through this again and again, where the settings say so.
    pub(crate) fn serve_demand_of(&self, fetch: Arc<Fetch>) {
        if let Some(down) = &self.node.down {
            // There is one in a process.
            let _ = down.fetch.set(fetch);
        }
    }

    /// While a drain runs, nothing comes back for readers.
    pub(crate) fn note_draining(&self, is_draining: bool) {
        if let Some(down) = &self.node.down {
            down.is_draining.store(is_draining, Ordering::Release);
        }
    }

    /// From here on the machine takes its turns, for as long as somebody else holds it.
    pub(crate) fn plug(&self, machine: Weak<dyn Machine>) {
        self.node.machines.write().push(Arc::new(Plugged {
            machine,
            rests_until: Mutex::default(),
        }));
        self.node.bell.ring();
    }

    /// Something happened that one of its machines waits for. Waits for nothing.
    pub(crate) fn ring(&self) {
        self.node.bell.ring();
    }

    /// No job of the tiers is under way.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.node.is_idle()
    }

    pub fn has_tier2(&self) -> bool {
        self.node.down.is_some()
    }

    /// `None` without Tier 2.
    pub fn claims(&self) -> Option<Arc<StreamClaims>> {
        Some(self.node.down.as_ref()?.claims.clone())
    }

    pub fn reconfigure(&self, settings: Settings) {
        if let Some(down) = &self.node.down {
            *down.settings.write() = settings;
        }
        self.node.bell.ring();
    }

    /// Forgets how long failed steps were to wait: a drain wants them now.
    pub fn retry_now(&self) {
        if let Some(down) = &self.node.down {
            down.hurries.fetch_add(1, Ordering::AcqRel);
            down.claims.tier2().end_rests();
            down.state.lock().memo.failed.clear();
        }
        self.node.bell.ring();
    }

    /// `None` without Tier 2.
    pub fn health(&self) -> Option<Tier2Health> {
        Some(self.node.down.as_ref()?.claims.tier2().health())
    }

    /// A copy in Tier 1 of a segment that nobody reads any more, or that Tier 2 has.
    pub(crate) fn drop_warm(
        &self,
        stream: &str,
        segment_id: u64,
        bytes: u64,
    ) -> Result<Dropped, StoreError> {
        let port = &*self.node.port;
        match &self.node.down {
            Some(down) => down.drop_warm(port, stream, segment_id, bytes),
            // Tier 2 was taken away, and its warm files were left.
            None => drop_warm(port, stream, segment_id, bytes),
        }
    }

    /// What such a drop left, of a segment that nobody needs: nobody makes its copy again.
    pub(crate) fn remove_left_warm(&self, file: &LeftFile) -> Dropped {
        let port = &*self.node.port;
        match &self.node.down {
            Some(down) => down.remove_left(port, &file.path),
            None => remove(port, &file.path),
        }
    }

    /// A step of this segment is under way.
    pub(crate) fn is_moving(&self, stream: &Arc<str>, segment_id: u64) -> bool {
        let down = self.node.down.as_ref();
        let key = (stream.clone(), segment_id);
        down.is_some_and(|down| down.state.lock().memo.under_way.contains_key(&key))
    }

    /// The file of a copy in Tier 1 that the manifest has dropped together with its segment. What fails is left to the next start.
    pub(crate) fn remove_warm_file(&self, segment: &SealedSegment) {
        let tier1 = self.node.port.tier1_directory();
        let Some((path, bytes)) = warm_path(&tier1, segment).zip(segment.copies.warm) else {
            return;
        };
        let map = None;
        let dropped = self.remove_left_warm(&LeftFile { path, bytes, map });
        dropped.warn(&segment.stream, segment.segment_id);
    }

    /// As the settings are now.
    pub(crate) fn compress_options(&self) -> Option<CompressOptions> {
        Some(self.node.down.as_ref()?.compress_options())
    }

    /// All zero without Tier 2.
    /// Segments that somebody asked for and that are not back yet.
    pub fn waiting_hydrations(&self) -> u64 {
        let down = self.node.down.as_ref();
        down.map_or(0, |down| down.state.lock().hydrations.waiting())
    }

    /// Segments that come back because readers had them again and again, and are not back yet.
    pub fn waiting_on_demand(&self) -> u64 {
        let down = self.node.down.as_ref();
        let down = down.filter(|down| down.serves_demand());
        down.map_or(0, |down| down.state.lock().returned.waiting())
    }

    pub fn moves(&self) -> MovesStatus {
        let Some(down) = &self.node.down else {
            return MovesStatus::default();
        };
        let pending = self.node.port.pending();
        let waiting_hydrations = self.waiting_hydrations();
        let Counters {
            on_demand_segments,
            on_demand_millis,
            hydrated_segments,
            hydrated_bytes,
            failed_hydrations,
            compressed_segments,
            uploaded_segments,
            uploaded_bytes,
            repeated_steps,
            tier1_bytes,
            evicted_segments,
            evicted_bytes,
            evicted_warm_segments,
            evicted_warm_bytes,
        } = &down.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MovesStatus {
            pending_uploads: pending.len() as u64,
            pending_upload_bytes: pending.iter().map(|segment| segment.bytes).sum(),
            compressed_segments: read(compressed_segments),
            uploaded_segments: read(uploaded_segments),
            uploaded_bytes: read(uploaded_bytes),
            tier1_bytes: read(tier1_bytes),
            repeated_steps: read(repeated_steps),
            evicted_segments: read(evicted_segments),
            evicted_bytes: read(evicted_bytes),
            evicted_warm_segments: read(evicted_warm_segments),
            evicted_warm_bytes: read(evicted_warm_bytes),
            hydrated_segments: read(hydrated_segments),
            hydrated_bytes: read(hydrated_bytes),
            failed_hydrations: read(failed_hydrations),
            waiting_hydrations,
            on_demand_segments: read(on_demand_segments),
            on_demand_millis: read(on_demand_millis),
            failure: self.failure(),
        }
    }

    /// Brings copies of these segments back, in this order; each with the bytes that it takes there at most. `there` are those
    /// that stay meanwhile. `None`: too many wait, or there is no Tier 2 where they could be.
    pub fn hydrate(
        &self,
        tier: LocalTier,
        segments: Vec<(SegmentKey, u64)>,
        there: Vec<SegmentKey>,
    ) -> Option<Hydration> {
        let down = self.node.down.as_ref()?;
        let asked = down.state.lock().hydrations.ask(tier, segments, there);
        self.node.bell.ring();
        asked
    }

    /// `None`: not known, or forgotten since.
    pub fn hydration(&self, id: u64) -> Option<Hydration> {
        let down = self.node.down.as_ref()?;
        down.state.lock().hydrations.status(id)
    }

    /// Bytes that may come back to a tier, if everything goes that may and is not among `there`; `None`: no budget limits them.
    pub fn room_to_hydrate(&self, tier: LocalTier, there: &BTreeSet<SegmentKey>) -> Option<u64> {
        let down = self.node.down.as_ref()?;
        let goes = |stream: &Arc<str>, id: u64| !there.contains(&(stream.clone(), id));
        let (used_bytes, budget_bytes, upto_bytes, evictable_bytes) = match tier {
            LocalTier::Tier0 => {
                let (used, quota) = self.node.port.tier0_budget();
                let open = self.node.port.open_bytes();
                let ahead = open.iter().map(|open| open.ahead_bytes).sum();
                let upto = hydration_mark(quota, ahead);
                let hot = self.node.port.hot_copies();
                let going = hot.iter().filter(|it| goes(&it.stream, it.segment_id));
                (used, quota, upto, going.map(|hot| hot.bytes).sum::<u64>())
            }
            LocalTier::Tier1 => {
                let warm = self.node.port.warm_copies();
                let going = warm.iter().filter(|it| goes(&it.stream, it.segment_id));
                let max_bytes = down.settings.read().tier1_max_bytes;
                (
                    down.counters.tier1_bytes.load(Ordering::Relaxed),
                    max_bytes,
                    high_mark(max_bytes),
                    going.map(|warm| warm.bytes).sum(),
                )
            }
        };
        (budget_bytes > 0)
            .then(|| upto_bytes.saturating_sub(used_bytes.saturating_sub(evictable_bytes)))
    }

    /// Of the segment that has failed most often in a row.
    pub fn failure(&self) -> Option<String> {
        let state = self.node.down.as_ref()?.state.lock();
        state.memo.worst().map(|failed| failed.message.clone())
    }

    /// What keeps a stream that is not among these from being uploaded until somebody repairs it.
    pub fn damage(&self, left_out: &[Arc<str>]) -> Option<String> {
        self.failure_of(FailureKind::Damage, left_out)
    }

    /// What a step lacks of the volume.
    pub fn lack_of_space(&self) -> Option<String> {
        self.failure_of(FailureKind::DiskFull, &[])
    }

    fn failure_of(&self, wanted: FailureKind, left_out: &[Arc<str>]) -> Option<String> {
        let failures = self.node.down.as_ref()?.state.lock().memo.failures();
        let mut matching = failures
            .into_iter()
            .filter(|(stream, (kind, _))| *kind == wanted && !left_out.contains(stream));
        matching.next().map(|(_, (_, message))| message)
    }

    /// Starts nothing more and waits for the jobs that run. No retry of theirs is waited for.
    pub fn stop(&self) {
        if let Some(down) = &self.node.down {
            down.claims.tier2().stop();
        }
        self.node.stopping.store(true, Ordering::Release);
        self.node.bell.ring();
        if let Some(thread) = self.thread.lock().take() {
            // A panic was reported by the thread itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Rings, and not for each of many appends that are refused: a turn looks at every segment then.
fn now_and_then(node: &Arc<Node>) -> Box<dyn Fn() + Send + Sync> {
    let bell = node.bell.clone();
    let clock = node.port.environment().clock.clone();
    let rung: Mutex<Option<Instant>> = Mutex::default();
    Box::new(move || {
        let now = clock.monotonic();
        let mut rung = rung.lock();
        if rung.is_none_or(|at| now.saturating_duration_since(at) >= PRESSURE_PAUSE) {
            *rung = Some(now);
            bell.ring();
        }
    })
}

impl Down {
    /// Held by whoever removes or replaces a file in Tier 1: readers keep it open no longer.
    fn closed(&self, path: &Path) -> Option<Closing<'_>> {
        Some(self.fetch.get()?.close_file(path))
    }

    /// Held by whoever drops or replaces copies in Tier 1. The first one looks at what a start finds there.
    fn dropping(&self, port: &dyn Port) -> MutexGuard<'_, bool> {
        let mut is_looked_at = self.dropping.lock();
        if !*is_looked_at {
            let found = warm_files::look(port);
            let counted = &self.counters.tier1_bytes;
            counted.fetch_add(found, Ordering::Relaxed);
            *is_looked_at = true;
        }
        is_looked_at
    }
}

impl Node {
    fn run(self: Arc<Self>) {
        if let Some(down) = &self.down {
            // Before the first step, so that none is counted twice.
            drop(down.dropping(&*self.port));
        }
        while !self.stopping.load(Ordering::Acquire) {
            let next = self.turn();
            let now = self.port.environment().clock.monotonic();
            let wait = next.map_or(LONGEST_WAIT, |at| {
                at.saturating_duration_since(now).min(LONGEST_WAIT)
            });
            self.bell.wait(wait);
        }
        while !self.is_idle() {
            self.bell.wait(LONGEST_WAIT);
        }
    }

    /// Answers when there has to be another one, unless it rings before.
    fn turn(self: &Arc<Self>) -> Option<Instant> {
        let now = self.port.environment().clock.monotonic();
        if let Some(fetch) = self.down.as_ref().and_then(|down| down.fetch.get()) {
            fetch.close_idle_files();
        }
        let mut next = None;
        let tier2 = self.down.as_ref().map(|down| {
            // Asked first: a step that ends while `pending` is read is planned again only from a newer reading.
            let (before, rooms, is_hydrating, is_demand_due) = {
                let state = down.state.lock();
                let is_hydrating = may_hydrate(now, &state).is_some_and(|at| at <= now);
                let is_demand_due = down.is_demand_due(now, &state);
                (state.memo.clone(), state.rooms, is_hydrating, is_demand_due)
            };
            let demand = is_demand_due.then(|| down.demand(&*self.port, now));
            let is_demanded = demand.as_ref().is_some_and(|it| !it.candidates.is_empty());
            let tier1 = Tier1Known {
                used_bytes: down.counters.tier1_bytes.load(Ordering::Relaxed),
                max_bytes: down.settings.read().tier1_max_bytes,
                rooms,
                is_hydrating: is_hydrating || is_demanded,
            };
            let facts = observe::tier2(&*self.port, &down.claims, &before, tier1);
            self.port.note_held(observe::held(&facts));
            let mut state = down.state.lock();
            let is_pending = |key: &SegmentKey| facts.pending.contains_key(key);
            state.memo.failed.retain(|key, _| is_pending(key));
            state.verified.retain(|key, _| is_pending(key));
            let memo = Memo {
                failed: state.memo.failed.clone(),
                ..before
            };
            let limits = limits(down, &facts);
            let plan = plan(now, facts.pending.values(), &memo, limits, &facts.tiers);
            next = plan.next;
            let is_at_rest = plan.start.is_empty();
            for task in plan.start {
                self.start(task, &facts, &mut state);
            }
            let (task, later) = next_hydration(now, &mut state, &facts);
            next = later.into_iter().chain(next).min();
            let task = match (task, demand) {
                // The way down goes first, and what somebody asked for.
                (None, Some(demand)) if is_at_rest => {
                    next_on_demand(now, &mut state, &facts, &demand)
                }
                (task, _) => task,
            };
            if let Some(task) = task {
                self.start(task, &facts, &mut state);
            }
            drop(state);
            facts
        });
        let facts = Facts { now, tier2 };
        let machines = self.machines.read().clone();
        for plugged in &machines {
            next = self.turn_of(plugged, &facts).into_iter().chain(next).min();
        }
        next
    }

    fn turn_of(&self, plugged: &Plugged, facts: &Facts) -> Option<Instant> {
        let machine = plugged.machine.upgrade()?;
        let mut rests_until = plugged.rests_until.lock();
        if let Some(until) = rests_until.filter(|until| *until > facts.now) {
            return Some(until);
        }
        let begun = self.port.environment().clock.monotonic();
        let next = machine.turn(facts);
        let ended = self.port.environment().clock.monotonic();
        let took = ended.saturating_duration_since(begun);
        *rests_until = Some(ended + (took * REST).min(LONGEST_WAIT));
        next
    }

    fn is_idle(&self) -> bool {
        let down = self.down.as_ref();
        down.is_none_or(|down| down.state.lock().memo.is_idle())
    }
}

/// When the copy in front may come back; `None`: none waits, or one is under way, or its room is being made.
fn may_hydrate(now: Instant, state: &State) -> Option<Instant> {
    state.hydrations.front()?;
    state.memo.evict.may_begin(now)?;
    state.memo.hydrate.may_begin(now)
}

/// One at a time, the way down first: it has jobs of its own.
fn next_hydration(
    now: Instant,
    state: &mut State,
    facts: &Tier2Facts,
) -> (Option<Task>, Option<Instant>) {
    let Some(at) = may_hydrate(now, state) else {
        return (None, None);
    };
    // Not before Tier 2 is asked again: every request is refused until then.
    let at = facts.rests_until.map_or(at, |until| until.max(at));
    if at > now {
        return (None, Some(at));
    }
    if !state.hydrations.begin() {
        return (None, Some(now));
    }
    let Some(wish) = state.hydrations.front() else {
        return (None, None);
    };
    let is_wanted = |key: &SegmentKey| state.hydrations.is_wanted(key);
    let victims = plan::hydrate::victims(wish, &facts.tiers, is_wanted);
    (Some(Task::Hydrate(wish.clone(), victims)), None)
}

/// One at a time, and only while Tier 2 answers.
fn next_on_demand(
    now: Instant,
    state: &mut State,
    facts: &Tier2Facts,
    demand: &plan::demand::Demand,
) -> Option<Task> {
    let may_begin = state.hydrations.front().is_none()
        && state.memo.hydrate.may_begin(now) == Some(now)
        && facts.health.reason.is_none()
        && facts.rests_until.is_none();
    if !may_begin {
        return None;
    }
    let picked = plan::demand::pick(now, demand, &facts.tiers);
    state.returned.note_look(now, picked.waiting);
    let (wish, victims) = picked.next?;
    Some(Task::Hydrate(wish, Some(victims)))
}

fn limits(down: &Down, facts: &Tier2Facts) -> Limits {
    let settings = *down.settings.read();
    Limits {
        uploads: settings.upload_concurrency,
        tier2_answers: facts.health.reason.is_none(),
        tier2_not_before: facts.rests_until,
        claim_check: settings.claim_check.max(Duration::from_millis(10)),
    }
}

fn file_bytes(disk: &dyn Disk, path: &Path) -> u64 {
    disk.open_read(path)
        .and_then(|file| file.len())
        .unwrap_or(0)
}
