//! What somebody asks of the files in Tier 1 while the engine runs: all of them read and verified, or compressed again. One request at a
//! time, on a thread of its own; how far it is can be asked. Lost with the process, which leaves each file whole.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;

use crate::coordinator::Coordinator;
use crate::io::sync::{Condvar, Mutex};
use crate::jobs::recompress::{LEVELS, Watch};
use crate::pattern;
use crate::port::{Port, SealedSegment};
use crate::tier1::{self, Inventory, LeftoverKind, Report, StreamStats, Walk};

/// Requests that can be asked about.
const KEPT: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalKind {
    Verify,
    /// At this level of zstd.
    Recompress {
        level: i32,
    },
}

impl LocalKind {
    fn name(self) -> &'static str {
        match self {
            LocalKind::Verify => "verification",
            LocalKind::Recompress { .. } => "compression",
        }
    }
}

/// How far a request has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalStatus {
    /// In this process.
    pub id: u64,
    pub kind: LocalKind,
    pub report: Report,
    pub has_ended: bool,
}

/// Why nothing is begun.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LocalRefusal {
    #[error("zstd level {level} is out of range; use {} to {}", LEVELS.start(), LEVELS.end())]
    Level { level: i32 },
    #[error(
        "engine has no Tier 2: it compresses nothing, and its files in Tier 1 are not replaced"
    )]
    NoTier2,
    #[error(
        "pattern {pattern:?} fits no stream with a copy in Tier 1; streams with one: {streams}"
    )]
    NoStream { pattern: String, streams: String },
    #[error("{kind} {id} of the files in Tier 1 is under way; retry when it is done")]
    Busy { kind: &'static str, id: u64 },
    #[error("cannot list Tier 1: {cause}")]
    Unreadable { cause: String },
    #[error("engine is shutting down")]
    Stopping,
}

pub struct LocalWork {
    port: Arc<dyn Port>,
    coordinator: Arc<Coordinator>,
    state: Mutex<State>,
    /// A request has ended.
    changed: Condvar,
    stopping: AtomicBool,
}

#[derive(Default)]
struct State {
    last_id: u64,
    works: VecDeque<LocalStatus>,
}

impl State {
    fn under_way(&self) -> Option<&LocalStatus> {
        self.works.iter().find(|work| !work.has_ended)
    }
}

impl LocalWork {
    pub(super) fn new(port: Arc<dyn Port>, coordinator: Arc<Coordinator>) -> Arc<LocalWork> {
        Arc::new(LocalWork {
            port,
            coordinator,
            state: Mutex::default(),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
        })
    }

    /// What lies there, by header and index of each file. Blocks on the disk.
    pub fn stats(
        &self,
        streams: Option<&str>,
    ) -> Result<(Vec<StreamStats>, Inventory), LocalRefusal> {
        let inventory = self.inventory(streams)?;
        let disk = &*self.port.environment().disk;
        Ok((tier1::stats(disk, &inventory), inventory))
    }

    /// Begins; `streams` is a pattern.
    pub fn begin(
        self: &Arc<Self>,
        kind: LocalKind,
        streams: Option<&str>,
    ) -> Result<LocalStatus, LocalRefusal> {
        if let LocalKind::Recompress { level } = kind {
            if !LEVELS.contains(&level) {
                return Err(LocalRefusal::Level { level });
            }
            if !self.coordinator.has_tier2() {
                return Err(LocalRefusal::NoTier2);
            }
        }
        let inventory = self.inventory(streams)?;
        let status = {
            let mut state = self.state.lock();
            // Under the lock: whoever stops it waits for what is under way.
            if self.stopping.load(Ordering::Acquire) {
                return Err(LocalRefusal::Stopping);
            }
            if let Some(busy) = state.under_way() {
                return Err(LocalRefusal::Busy {
                    kind: busy.kind.name(),
                    id: busy.id,
                });
            }
            state.last_id += 1;
            let status = LocalStatus {
                id: state.last_id,
                kind,
                report: Report {
                    files: inventory.named.len() as u64,
                    bytes: inventory.named_bytes(),
                    ..Report::default()
                },
                has_ended: false,
            };
            if state.works.len() >= KEPT {
                state.works.pop_front();
            }
            state.works.push_back(status.clone());
            status
        };
        let run = Run {
            work: self.clone(),
            id: status.id,
        };
        let environment = self.port.environment();
        let started = environment.spawn_in_background("tier1", move || run.go(kind, &inventory));
        // Where it cannot be started, the run was dropped, and has ended with that.
        drop(started);
        Ok(status)
    }

    /// `None`: unknown, or forgotten since.
    pub fn status(&self, id: u64) -> Option<LocalStatus> {
        let state = self.state.lock();
        state.works.iter().find(|work| work.id == id).cloned()
    }

    /// Begins nothing more and waits for what runs, which ends with the block it is at.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let mut state = self.state.lock();
        while state.under_way().is_some() {
            self.changed.wait(&mut state);
        }
    }

    /// What an engine is at work on is none of a person's business.
    fn inventory(&self, streams: Option<&str>) -> Result<Inventory, LocalRefusal> {
        let take = || {
            let disk = &*self.port.environment().disk;
            let segments = self.port.ever_sealed();
            Inventory::take(disk, &self.port.tier1_directory(), &segments).map_err(|error| {
                LocalRefusal::Unreadable {
                    cause: error.to_string(),
                }
            })
        };
        let mut inventory = take()?;
        if !inventory.leftovers.is_empty() || !inventory.foreign.is_empty() {
            // A segment may have been sealed, and its file made, between the two lists that were compared.
            let again = take()?;
            let stays = |path: &Path| again.foreign.iter().any(|(other, _)| other == path);
            inventory.foreign.retain(|(path, _)| stays(path));
            inventory.leftovers.retain(|leftover| {
                leftover.kind == LeftoverKind::Dropped && again.leftovers.contains(leftover)
            });
        }
        let Some(wanted) = streams else {
            return Ok(inventory);
        };
        let names = inventory.streams();
        if !names.iter().any(|name| pattern::fits(wanted, name)) {
            return Err(LocalRefusal::NoStream {
                pattern: wanted.to_owned(),
                streams: match names.is_empty() {
                    true => "none".to_owned(),
                    false => names.join(", "),
                },
            });
        }
        Ok(inventory.of_streams(|name| pattern::fits(wanted, name)))
    }
}

/// One request's thread; one that panics is over, too.
struct Run {
    work: Arc<LocalWork>,
    id: u64,
}

impl Run {
    fn go(self, kind: LocalKind, inventory: &Inventory) {
        let work = &self.work;
        let port = &*work.port;
        let report = match kind {
            LocalKind::Verify => tier1::verify_all(&*port.environment().disk, inventory, &self),
            LocalKind::Recompress { level } => {
                let is_stopping = || work.stopping.load(Ordering::Acquire);
                tier1::recompress_all(inventory, &self, &mut |segment, path, on_read| {
                    let watch = Watch {
                        is_stopping: &is_stopping,
                        on_read,
                    };
                    work.coordinator.recompress(segment, path, level, watch)
                })
            }
        };
        tracing::info!(
            id = self.id,
            files = report.done_files,
            replaced = report.replaced_files,
            findings = report.findings.len(),
            failure = report.failure,
            "{} of the files in Tier 1 ended",
            kind.name()
        );
        self.end(|status| status.report = report);
    }

    fn end(&self, change: impl FnOnce(&mut LocalStatus)) {
        let mut state = self.work.state.lock();
        let known = state.works.iter_mut().find(|work| work.id == self.id);
        if let Some(status) = known.filter(|status| !status.has_ended) {
            change(status);
            status.has_ended = true;
        }
        self.work.changed.notify_all();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.end(|status| {
            let failure = "thread ended without a result".to_owned();
            status.report.failure = Some(failure);
        });
    }
}

impl Walk for Run {
    fn now(&self, segment: &SealedSegment) -> Option<SealedSegment> {
        let port = &self.work.port;
        port.sealed_segment(&segment.stream, segment.segment_id)
    }

    fn is_stopping(&self) -> bool {
        self.work.stopping.load(Ordering::Acquire)
    }

    fn note(&self, report: &Report) {
        let mut state = self.work.state.lock();
        let known = state.works.iter_mut().find(|work| work.id == self.id);
        if let Some(status) = known {
            status.report = report.clone();
        }
    }
}
