//! Who is connected to a listener, and who may be.
//!
//! Where a listener is full, a peer that has fewer connections than another takes the place of the oldest one of the peer that has
//! most: a few hosts that hold everything they get do not lock out the kubelet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{IN_ALL, PER_PEER, Peer};

/// Of the process's descriptors, the part that connections may take.
const SHARE_OF_DESCRIPTORS: usize = 4;
/// A listener that rejects says so at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Connections of all listeners of this process.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Of one listener. Clones share it.
#[derive(Clone)]
pub struct Connections(Arc<Listener>);

struct Listener {
    name: &'static str,
    displaces: bool,
    table: Mutex<Table>,
    refused: AtomicU64,
    logged: Mutex<Option<Instant>>,
}

/// Why a connection is closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    PeerHasMost,
    Full,
}

/// Counts of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub listener: &'static str,
    pub open: usize,
    /// Closed since start because of a limit.
    pub refused: u64,
}

/// The right to one connection, for as long as it lives.
pub struct Slot {
    listener: Arc<Listener>,
    id: u64,
    displaced: watch::Receiver<bool>,
}

impl Connections {
    /// Of a listener whose requests are short: one that is full lets go of connections.
    pub fn of_requests(name: &'static str) -> Connections {
        Connections::new(name, true)
    }

    /// Of a listener whose connections live as long as their clients: one that is full keeps those that it has.
    pub fn of_sessions(name: &'static str) -> Connections {
        Connections::new(name, false)
    }

    fn new(name: &'static str, displaces: bool) -> Connections {
        Connections(Arc::new(Listener {
            name,
            displaces,
            table: Mutex::default(),
            refused: AtomicU64::new(0),
            logged: Mutex::new(None),
        }))
    }

    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Whether a peer that connected may stay. A refusal is counted and logged.
    pub fn admit(&self, peer: Peer) -> Result<Slot, Refused> {
        let room = descriptors_for_connections().saturating_sub(OPEN.load(Ordering::Relaxed));
        let (displaced, watcher) = watch::channel(false);
        let admitted = self
            .0
            .table
            .lock()
            .admit(peer, room, self.0.displaces, displaced);
        match admitted {
            Ok(id) => {
                OPEN.fetch_add(1, Ordering::Relaxed);
                Ok(Slot {
                    listener: self.0.clone(),
                    id,
                    displaced: watcher,
                })
            }
            Err(refused) => {
                self.0.refused.fetch_add(1, Ordering::Relaxed);
                self.log(peer, refused);
                Err(refused)
            }
        }
    }

    pub fn usage(&self) -> Usage {
        Usage {
            listener: self.0.name,
            open: self.0.table.lock().open.len(),
            refused: self.0.refused.load(Ordering::Relaxed),
        }
    }

    fn log(&self, peer: Peer, refused: Refused) {
        let mut logged = self.0.logged.lock();
        if logged.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            return;
        }
        *logged = Some(Instant::now());
        let total = self.0.refused.load(Ordering::Relaxed);
        let listener = self.0.name;
        match refused {
            Refused::PeerHasMost => {
                tracing::warn!(
                    listener,
                    ?peer,
                    limit = PER_PEER,
                    total,
                    "connection rejected, its peer has as many as one may have"
                );
            }
            Refused::Full => {
                tracing::warn!(
                    listener,
                    ?peer,
                    limit = IN_ALL,
                    total,
                    "connection rejected, the listener has as many as it may have"
                );
            }
        }
    }
}

impl Slot {
    /// Resolves when another peer takes this place.
    pub async fn displaced(&self) {
        let mut displaced = self.displaced.clone();
        if displaced.wait_for(|displaced| *displaced).await.is_err() {
            // The sender is in the table for as long as this slot is.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
        self.listener.table.lock().remove(self.id);
    }
}

/// The limit is read each time: the store raises it when it opens.
fn descriptors_for_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let limit = limit
        .current
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX);
    (limit / SHARE_OF_DESCRIPTORS).max(1)
}

#[derive(Default)]
struct Table {
    next: u64,
    open: BTreeMap<u64, Open>,
    of_peer: BTreeMap<Peer, usize>,
}

struct Open {
    peer: Peer,
    displaced: watch::Sender<bool>,
}

impl Table {
    /// `room`: how many more the process may open.
    fn admit(
        &mut self,
        peer: Peer,
        room: usize,
        displaces: bool,
        displaced: watch::Sender<bool>,
    ) -> Result<u64, Refused> {
        if peer != Peer::Ourselves {
            let ours = self.of_peer.get(&peer).copied().unwrap_or(0);
            if ours >= PER_PEER {
                return Err(Refused::PeerHasMost);
            }
            if self.counted() >= IN_ALL || room == 0 {
                let victim = displaces.then(|| self.victim_for(ours)).flatten();
                let id = victim.ok_or(Refused::Full)?;
                if let Some(victim) = self.remove(id) {
                    victim.displaced.send_replace(true);
                }
            }
        }
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Open { peer, displaced });
        *self.of_peer.entry(peer).or_default() += 1;
        Ok(id)
    }

    fn counted(&self) -> usize {
        let ourselves = self.of_peer.get(&Peer::Ourselves).copied().unwrap_or(0);
        self.open.len() - ourselves
    }

    /// The oldest connection of the peer with most, if that is still better off without it than one with `ours` and one more.
    fn victim_for(&self, ours: usize) -> Option<u64> {
        let others = self
            .of_peer
            .iter()
            .filter(|(peer, _)| **peer != Peer::Ourselves);
        let (most, count) = others.max_by_key(|(_, count)| **count)?;
        if *count <= ours + 1 {
            return None;
        }
        let oldest = self.open.iter().find(|(_, open)| open.peer == *most);
        oldest.map(|(id, _)| *id)
    }

    fn remove(&mut self, id: u64) -> Option<Open> {
        let open = self.open.remove(&id)?;
        if let Some(count) = self.of_peer.get_mut(&open.peer) {
            *count -= 1;
            if *count == 0 {
                self.of_peer.remove(&open.peer);
            }
        }
        Some(open)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const MUCH: usize = usize::MAX;

    fn host(last: u8) -> Peer {
        Peer::Address(Ipv4Addr::new(10, 0, 0, last).into())
    }

    fn admit(table: &mut Table, peer: Peer, room: usize, displaces: bool) -> Result<u64, Refused> {
        table.admit(peer, room, displaces, watch::Sender::new(false))
    }

    fn fill(table: &mut Table) {
        for last in 0..4 {
            for _ in 0..PER_PEER {
                admit(table, host(last), MUCH, true).expect("room");
            }
        }
    }

    #[test]
    fn a_peer_has_so_many_and_no_more_until_one_goes() {
        let mut table = Table::default();
        let ids: Vec<u64> = (0..PER_PEER)
            .map(|_| admit(&mut table, host(1), MUCH, true).expect("room"))
            .collect();
        let refused = admit(&mut table, host(1), MUCH, true);
        assert_eq!(refused, Err(Refused::PeerHasMost));
        admit(&mut table, host(2), MUCH, true).expect("another");
        table.remove(ids[7]);
        admit(&mut table, host(1), MUCH, true).expect("its place");
        let refused = admit(&mut table, host(1), MUCH, true);
        assert_eq!(refused, Err(Refused::PeerHasMost));
    }

    #[test]
    fn in_a_full_listener_a_peer_with_fewer_takes_the_oldest_of_the_one_with_most() {
        let mut table = Table::default();
        fill(&mut table);
        let (displaced, watcher) = watch::channel(false);
        table.open.values_mut().next_back().expect("one").displaced = displaced;
        let most = host(3);
        assert_eq!(table.open.len(), IN_ALL);
        for count in 1..=51 {
            admit(&mut table, host(9), MUCH, true).expect("a place of another");
            assert_eq!(table.of_peer[&host(9)], count);
            assert_eq!(table.open.len(), IN_ALL);
        }
        // Shared evenly: nobody is better off than the others by more than one.
        assert_eq!(
            admit(&mut table, host(9), MUCH, true),
            Err(Refused::Full),
            "{:?}",
            table.of_peer
        );
        assert!(!*watcher.borrow(), "the youngest of {most:?} stays");
    }

    #[test]
    fn who_is_displaced_hears_of_it() {
        let mut table = Table::default();
        let (displaced, watcher) = watch::channel(false);
        table
            .admit(host(1), MUCH, true, displaced)
            .expect("the first");
        admit(&mut table, host(1), MUCH, true).expect("room");
        admit(&mut table, host(2), 0, true).expect("the place of the first");
        assert!(*watcher.borrow());
        assert_eq!(table.open.len(), 2);
    }

    #[test]
    fn sessions_are_kept_and_a_newcomer_is_refused() {
        let mut table = Table::default();
        fill(&mut table);
        assert_eq!(admit(&mut table, host(9), MUCH, false), Err(Refused::Full));
    }

    #[test]
    fn descriptors_that_files_need_are_not_taken() {
        let mut table = Table::default();
        assert_eq!(admit(&mut table, host(1), 0, true), Err(Refused::Full));
        for _ in 0..3 {
            admit(&mut table, host(1), 1, true).expect("room");
        }
        admit(&mut table, host(2), 0, true).expect("the place of another");
        assert_eq!(table.of_peer[&host(1)], 2);
    }

    #[test]
    fn this_process_always_reaches_its_own_sockets_and_takes_no_place() {
        let mut table = Table::default();
        for _ in 0..2 * PER_PEER {
            admit(&mut table, Peer::Ourselves, 0, false).expect("always");
        }
        fill(&mut table);
        assert_eq!(table.counted(), IN_ALL);
        admit(&mut table, Peer::Ourselves, 0, false).expect("always");
        admit(&mut table, host(9), MUCH, true).expect("a place of another peer");
        assert_eq!(table.of_peer[&Peer::Ourselves], 2 * PER_PEER + 1);
    }
}
