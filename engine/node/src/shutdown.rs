//! Why this process ends, and how it ends in time.
//!
//! - SIGTERM: a drained engine closes at once. One without a token admits the last words of the clients that are connected, until
//!   they are quiet or the time is up; then it makes everything durable.
//! - The restart verb: the same without waiting for last words.
//! - Poison: nothing can be made durable any more; out, and recover.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clients::Clients;
use crate::data_plane::DataPlane;

/// Connected clients that appended nothing for so long have said their last words.
const QUIET: Duration = Duration::from_secs(2);
/// Upper bound of last words; with [`CLOSE_LIMIT`] well within the pod's grace of 60 s.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(25);
/// Upper bound of making everything durable.
const CLOSE_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    Signal(&'static str),
    RestartVerb,
    Poisoned(String),
}

/// The first reason given stands, except that poison outranks the others.
#[derive(Debug)]
pub struct Shutdown {
    reason: watch::Sender<Option<Reason>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown {
            reason: watch::Sender::new(None),
        }
    }
}

impl Shutdown {
    pub fn request(&self, reason: Reason) {
        self.reason.send_if_modified(|current| {
            let outranks = match (&*current, &reason) {
                (None, _) => true,
                (Some(Reason::Poisoned(_)), _) => false,
                (Some(Reason::Signal(_) | Reason::RestartVerb), Reason::Poisoned(_)) => true,
                (
                    Some(Reason::Signal(_) | Reason::RestartVerb),
                    Reason::Signal(_) | Reason::RestartVerb,
                ) => false,
            };
            if outranks {
                *current = Some(reason);
            }
            outranks
        });
    }

    pub async fn requested(&self) -> Reason {
        let mut watcher = self.reason.subscribe();
        loop {
            if let Some(reason) = watcher.borrow_and_update().clone() {
                return reason;
            }
            if watcher.changed().await.is_err() {
                // The sender lives in the node, which outlives this task.
                std::future::pending::<()>().await;
            }
        }
    }

    pub async fn poisoned(&self) -> String {
        let mut watcher = self.reason.subscribe();
        loop {
            if let Some(Reason::Poisoned(message)) = watcher.borrow_and_update().clone() {
                return message;
            }
            if watcher.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Turns SIGTERM and SIGINT into a request to end.
pub async fn watch_signals(shutdown: &Shutdown) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    shutdown.request(Reason::Signal(name));
    Ok(())
}

/// Waits until connected clients are quiet.
pub async fn last_words(clients: &Clients, plane: &DataPlane) {
    let limit = Instant::now() + LAST_WORDS_LIMIT;
    let mut appends = clients.appends();
    let mut quiet_since = Instant::now();
    while clients.connected() > 0 && plane.store.admission_closed().is_none() {
        let now = Instant::now();
        if clients.appends() != appends {
            appends = clients.appends();
            quiet_since = now;
        }
        if now >= quiet_since + QUIET || now >= limit {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Makes everything durable and lets go of the directory. `Err` says what kept it from doing so.
pub async fn close(plane: DataPlane) -> Result<(), String> {
    let closing =
        tokio::task::spawn_blocking(move || plane.close().map_err(|error| error.to_string()));
    match tokio::time::timeout(CLOSE_LIMIT, closing).await {
        Ok(Ok(closed)) => closed,
        Ok(Err(panicked)) => Err(panicked.to_string()),
        Err(_) => Err(format!(
            "store did not close within {CLOSE_LIMIT:?}; the next start recovers it"
        )),
    }
}
