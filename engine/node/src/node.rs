//! What every part of this process shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aof2_admin_api::Refusal;
use arc_swap::ArcSwap;

use crate::config::Settings;
use crate::data_plane::DataPlane;
use crate::epoch::Epochs;
use crate::reload::InForce;
use crate::shutdown::Shutdown;

pub struct Node {
    pub version: &'static str,
    pub process_start: jiff::Timestamp,
    pub config: InForce,
    pub epochs: Epochs,
    pub shutdown: Shutdown,
    pub clients: Clients,
    phase: ArcSwap<Phase>,
}

/// How far this process has come.
pub enum Phase {
    Recovering(Arc<Progress>),
    /// The data is refused: probes and the admin API only.
    Refused(Refusal),
    Serving(DataPlane),
    /// On the way out.
    Closed,
}

impl Node {
    pub fn new(version: &'static str, settings: Settings) -> Self {
        Node {
            version,
            process_start: jiff::Timestamp::now(),
            config: InForce::new(settings),
            epochs: Epochs::default(),
            shutdown: Shutdown::default(),
            clients: Clients::default(),
            phase: ArcSwap::from_pointee(Phase::Recovering(Arc::default())),
        }
    }

    pub fn phase(&self) -> Arc<Phase> {
        self.phase.load_full()
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.store(Arc::new(phase));
    }

    /// The engine, while there is one that serves.
    pub fn plane(&self) -> Option<DataPlane> {
        match &**self.phase.load() {
            Phase::Serving(plane) => Some(plane.clone()),
            Phase::Recovering(_) | Phase::Refused(_) | Phase::Closed => None,
        }
    }
}

/// Bytes that recovery has read, and has to read.
#[derive(Debug, Default)]
pub struct Progress {
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
}

impl Progress {
    pub fn set(&self, done_bytes: u64, total_bytes: u64) {
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
        self.done_bytes.store(done_bytes, Ordering::Relaxed);
    }

    pub fn done_bytes(&self) -> u64 {
        self.done_bytes.load(Ordering::Relaxed)
    }

    /// 0.0..=1.0; below 1.0 until recovery is over, whatever the bytes say.
    pub fn fraction(&self) -> f64 {
        let total = self.total_bytes.load(Ordering::Relaxed);
        if total == 0 {
            0.0
        } else {
            (self.done_bytes() as f64 / total as f64).min(0.99)
        }
    }
}

/// Clients of the data socket, as far as the way out has to know them.
#[derive(Debug, Default)]
pub struct Clients {
    connected: Arc<AtomicU64>,
    appends: AtomicU64,
}

/// One connection; counts down when dropped.
#[derive(Debug)]
pub struct ConnectionGuard(Arc<AtomicU64>);

impl Clients {
    pub fn connect(&self) -> ConnectionGuard {
        self.connected.fetch_add(1, Ordering::Relaxed);
        ConnectionGuard(self.connected.clone())
    }

    pub fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    pub fn note_append(&self) {
        self.appends.fetch_add(1, Ordering::Relaxed);
    }

    /// Append requests received since the start.
    pub fn appends(&self) -> u64 {
        self.appends.load(Ordering::Relaxed)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
