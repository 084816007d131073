//! Who is connected to the data socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
