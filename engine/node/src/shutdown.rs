//! Why this process ends, and how it ends in time.
//!
//! - SIGTERM during recovery: out at once, as recovery may be ended anywhere and done again.
//! - SIGTERM: a drained engine closes at once. One without a token admits the last words of the clients that are connected, until
//!   they are quiet or the time is up; then it makes everything durable.
//! - A second SIGTERM: no last words, and no wait for requests to Tier 2.
//! - The restart verb: the same without waiting for last words.
//! - Poison: nothing can be made durable any more; out, and recover.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

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
    /// Asked a second time.
    is_hastened: watch::Sender<bool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown {
            reason: watch::Sender::new(None),
            is_hastened: watch::Sender::new(false),
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

    pub fn hasten(&self) {
        self.is_hastened.send_replace(true);
    }

    pub fn is_hastened(&self) -> bool {
        *self.is_hastened.borrow()
    }

    pub async fn hastened(&self) {
        let mut watcher = self.is_hastened.subscribe();
        if watcher.wait_for(|is_hastened| *is_hastened).await.is_err() {
            // As below.
            std::future::pending::<()>().await;
        }
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

/// Turns SIGTERM and SIGINT into a request to end, and the second one into one to end sooner.
pub async fn watch_signals(shutdown: &Shutdown) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    shutdown.request(Reason::Signal(next().await));
    let name = next().await;
    tracing::warn!(
        signal = name,
        "second signal, the engine stops without further waits"
    );
    shutdown.hasten();
    Ok(())
}
