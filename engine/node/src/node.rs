//! What every part of this process shares.

use std::sync::Arc;

use aof2_admin_api::Refusal;
use aof2_listen::{Connections, Usage};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::clients::Clients;
use crate::config::Settings;
use crate::data_plane::{DataPlane, Progress};
use crate::epoch::Epochs;
use crate::in_force::InForce;
use crate::shutdown::Shutdown;

pub struct Node {
    pub version: &'static str,
    pub process_start: jiff::Timestamp,
    pub config: InForce,
    pub epochs: Epochs,
    pub shutdown: Shutdown,
    pub clients: Clients,
    phase: ArcSwap<Phase>,
    listeners: Mutex<Vec<Connections>>,
    readings: Arc<Semaphore>,
    /// Storage reports that are counted at a time.
    pub reports: Arc<Semaphore>,
    /// Threads that ask the bucket for the class of objects.
    pub class_questions: Arc<Semaphore>,
}

/// Threads that ask the store for reports at a time.
const MAX_READINGS: usize = 16;

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
            listeners: Mutex::default(),
            readings: Arc::new(Semaphore::new(MAX_READINGS)),
            reports: Arc::new(Semaphore::new(1)),
            class_questions: Arc::new(Semaphore::new(1)),
        }
    }

    pub fn phase(&self) -> Arc<Phase> {
        self.phase.load_full()
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.store(Arc::new(phase));
    }

    /// Counts the connections of a listener among this node's.
    pub fn listening(&self, connections: Connections) -> Connections {
        self.listeners.lock().push(connections.clone());
        connections
    }

    /// Of each listener.
    pub fn connections(&self) -> Vec<Usage> {
        self.listeners
            .lock()
            .iter()
            .map(Connections::usage)
            .collect()
    }

    /// Asks the store what may take a stream's lock, which is held while a slow disk is asked for blocks: never on a thread of the
    /// runtime, and never with more than a few threads, so that others find one. `Err` says what failed.
    pub async fn reading<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let place = self.readings.clone().acquire_owned().await;
        let reading = tokio::task::spawn_blocking(move || {
            let answer = read();
            drop(place);
            answer
        });
        reading.await.map_err(|panicked| panicked.to_string())
    }

    /// The engine, while there is one that serves.
    pub fn plane(&self) -> Option<DataPlane> {
        match &**self.phase.load() {
            Phase::Serving(plane) => Some(plane.clone()),
            Phase::Recovering(_) | Phase::Refused(_) | Phase::Closed => None,
        }
    }
}
