//! The one door to the API server for everything that changes something there.
//!
//! - Every call has a time limit and is counted.
//! - Objects go by server-side apply under one field manager, and only when they would change (`apply.rs`).
//! - Pods go with the uid and the resourceVersion of a live read as preconditions (`pods.rs`).
//! - Secrets go by POST, and by PUT without having been read: a PATCH would return them (`secret.rs`).
//! - Status goes by PUT under the resourceVersion that was observed (`status.rs`).
//! - The Lease goes by PUT under the resourceVersion that was read (`lease.rs`).

mod apply;
mod claims;
mod covers;
mod error;
mod events;
pub mod lease;
mod pods;
pub mod scope;
mod secret;
mod status;

use std::{collections::HashMap, sync::Arc, time::Duration};

use ::kube::Client;
use jiff::Timestamp;
use parking_lot::Mutex;

pub use apply::Object;
pub use apply::{APPLIED_ANNOTATION, Applied};
pub use error::{CallError, Refusal, Remedy};
pub use events::{Notice, with};
pub use pods::{PodTarget, Removed, named_claim};
pub use secret::Created;
pub use status::{SNAPSHOT_FINALIZER, holds_catalogues, is_same};

use crate::runtime::{client::CALL_TIMEOUT, metrics::Metrics};

/// Owner of our fields in every object that we apply.
pub const FIELD_MANAGER: &str = "aof2-operator";

/// Kind, namespace and name.
type Key = (String, String, String);

/// What was last found to be as desired.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verified {
    digest: String,
    resource_version: String,
}

pub struct Door {
    client: Client,
    /// Of this process, and when it started.
    identity: String,
    started: Timestamp,
    told: Mutex<events::Told>,
    metrics: Arc<Metrics>,
    /// Objects whose live form does not cover the desired one even right after an apply, because the server spells a field in
    /// another way: without this they would be applied for ever.
    settled: Mutex<HashMap<Key, Verified>>,
}

impl Door {
    pub fn new(client: Client, identity: &str, metrics: Arc<Metrics>) -> Self {
        Self {
            client,
            identity: identity.to_owned(),
            started: Timestamp::now(),
            told: Mutex::default(),
            metrics,
            settled: Mutex::default(),
        }
    }

    /// Bounds a call and gives its error an object.
    async fn call<T>(
        &self,
        verb: &'static str,
        key: &Key,
        call: impl Future<Output = Result<T, ::kube::Error>>,
    ) -> Result<T, CallError> {
        bounded(verb, key, CALL_TIMEOUT, call).await
    }
}

/// Bounds a call, also one that only reads, and gives its error an object.
pub async fn bounded<T>(
    verb: &'static str,
    key: &Key,
    limit: Duration,
    call: impl Future<Output = Result<T, ::kube::Error>>,
) -> Result<T, CallError> {
    let object = || format!("{} {}/{}", key.0, key.1, key.2);
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(CallError::from_kube(verb, object(), source)),
        Err(_) => Err(CallError::Timeout {
            verb,
            object: object(),
            limit,
        }),
    }
}
