//! Which release operates the clusters of a namespace. Two would write against each other, and both would drain.
//!
//! - A Lease in each namespace that has clusters names the release, not the process: an upgrade in place stays the holder.
//! - The holder renews it as it reconciles. A release that was uninstalled stops, and another takes over once the Lease did not change for
//!   its duration on the other's clock.
//! - Operators of one namespace and of all namespaces meet at the same Lease.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::kube::Client;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::lease::{Elector, LeaseSettings};
use crate::args::Scope;
use crate::runtime::client::CALL_TIMEOUT;

/// In the namespace of the clusters.
pub const SCOPE_LEASE: &str = "aof2-operator-scope";

/// Of an operator with one namespace: its clusters are looked at every minute.
const ONE: Periods = Periods {
    lease: Duration::from_secs(240),
    renew: Duration::from_secs(60),
};
/// Of an operator with all: a thousand namespaces cost three writes a second.
const ALL: Periods = Periods {
    lease: Duration::from_secs(900),
    renew: Duration::from_secs(300),
};
/// A refusal is asked about again after this time.
const REFUSED_FOR: Duration = Duration::from_secs(15);

#[derive(Clone, Copy)]
struct Periods {
    lease: Duration,
    /// How old the last renewal may become.
    renew: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    #[error(
        "release {holder} operates namespace {namespace}, so release {own} ignores the clusters there. Uninstall one of the two, or let this one watch another namespace. If {holder} was uninstalled, this release takes over within {} s, or after `kubectl -n {namespace} delete lease {SCOPE_LEASE}`", .takes_over.as_secs()
    )]
    Held {
        namespace: String,
        holder: String,
        own: String,
        takes_over: Duration,
    },
    #[error(
        "Lease {namespace}/{SCOPE_LEASE} cannot be read or written ({message}). The operator retries"
    )]
    Unknown { namespace: String, message: String },
}

/// One namespace.
struct Held {
    elector: Elector,
    /// When the last renewal that succeeded began.
    renewed: Option<Instant>,
    refused: Option<(Instant, ScopeError)>,
}

pub struct Scopes {
    client: Client,
    /// The release: its namespace and the name of its Lease.
    own: String,
    periods: Periods,
    known: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<Held>>>>,
    was_forbidden: AtomicBool,
}

impl Scopes {
    pub fn new(client: Client, own: String, scope: &Scope) -> Self {
        Self {
            client,
            own,
            periods: match scope {
                Scope::Namespace(_) => ONE,
                Scope::All => ALL,
            },
            known: Mutex::default(),
            was_forbidden: AtomicBool::new(false),
        }
    }

    /// Before anything is done in a namespace. An error for what another release operates.
    pub async fn ensure(&self, namespace: &str) -> Result<(), ScopeError> {
        self.ensure_at(namespace, Instant::now()).await
    }

    pub async fn ensure_at(&self, namespace: &str, now: Instant) -> Result<(), ScopeError> {
        let held = self.of(namespace);
        let mut held = held.lock().await;
        let age = held
            .renewed
            .map(|renewed| now.saturating_duration_since(renewed));
        if age.is_some_and(|age| age < self.periods.renew) {
            return Ok(());
        }
        if let Some((since, refused)) = &held.refused
            && now.saturating_duration_since(*since) < REFUSED_FOR
        {
            return Err(refused.clone());
        }
        let message = match timeout(CALL_TIMEOUT, held.elector.try_hold(now)).await {
            Ok(Ok(true)) => {
                held.renewed = Some(now);
                held.refused = None;
                return Ok(());
            }
            Ok(Ok(false)) => {
                let refused = ScopeError::Held {
                    namespace: namespace.to_owned(),
                    holder: held.elector.holder().to_owned(),
                    own: self.own.clone(),
                    takes_over: held.elector.holders_duration(),
                };
                if held.refused.as_ref().map(|it| &it.1) != Some(&refused) {
                    tracing::error!(namespace, "{refused}");
                }
                held.renewed = None;
                held.refused = Some((now, refused.clone()));
                return Err(refused);
            }
            // Rights of an older chart. Two releases are then not told apart, as before.
            Ok(Err(::kube::Error::Api(status))) if status.code == 403 => {
                if !self.was_forbidden.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        namespace,
                        error = status.message,
                        "Leases are forbidden, so a second release that operates the same namespace is not noticed. Upgrade the chart"
                    );
                }
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the API server does not answer".to_owned(),
        };
        // Nobody else may hold it yet.
        let is_safe = age.is_some_and(|age| age < self.periods.lease / 2);
        match is_safe {
            true => Ok(()),
            false => Err(ScopeError::Unknown {
                namespace: namespace.to_owned(),
                message,
            }),
        }
    }

    fn of(&self, namespace: &str) -> Arc<tokio::sync::Mutex<Held>> {
        let mut known = self.known.lock();
        let held = known.entry(namespace.to_owned()).or_insert_with(|| {
            let settings = LeaseSettings {
                lease_duration: self.periods.lease,
                ..LeaseSettings::new(
                    namespace.to_owned(),
                    SCOPE_LEASE.to_owned(),
                    self.own.clone(),
                )
            };
            Arc::new(tokio::sync::Mutex::new(Held {
                elector: Elector::new(self.client.clone(), settings),
                renewed: None,
                refused: None,
            }))
        });
        held.clone()
    }
}
