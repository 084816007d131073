//! What every part of this process shares.

use std::sync::Arc;

use aof2_admin_api::Refusal;
use aof2_listen::{Connections, Usage};
use arc_swap::ArcSwap;
use parking_lot::Mutex;

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
            listeners: Mutex::default(),
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

    /// The engine, while there is one that serves.
    pub fn plane(&self) -> Option<DataPlane> {
        match &**self.phase.load() {
            Phase::Serving(plane) => Some(plane.clone()),
            Phase::Recovering(_) | Phase::Refused(_) | Phase::Closed => None,
        }
    }
}
