//! Everything that runs between the store and its lower tiers: the coordinator, and the drain, which needs no lower tier.
//!
//! Sealed bytes go down: Tier 0 -> compressed in Tier 1 -> uploaded to Tier 2. Without Tier 2 nothing is compressed: a warm file
//! beside a segment that is never evicted would only cost space. Copies that Tier 2 has leave Tier 0 and Tier 1 again where a budget is
//! full, and `fetch` reads what is not in Tier 0.

mod hydrate;
mod local;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::claims::StreamClaims;
use crate::config::Config;
use crate::coordinator::{Coordinator, MovesStatus, Settings};
use crate::drain::Drain;
use crate::fetch::{self, Fetch, FetchStatus};
use crate::jobs::check_claims;
use crate::objects::Tier2Health;
use crate::port::Port;

pub use crate::residency::Objects;
pub use hydrate::{HydrateRefusal, Hydration, LocalTier};
pub use local::{LocalKind, LocalRefusal, LocalStatus, LocalWork};

/// What is known about Tier 2 and the way there, for reports; asks nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier2Status {
    pub health: Tier2Health,
    pub moves: MovesStatus,
    /// Requests and steps that were repeated since the process started.
    pub upload_retry_attempts: u64,
    /// Streams whose claim this process has not seen in Tier 2.
    pub unconfirmed_claims: u64,
    /// Of the segments of this node's streams. `None`: that they are this node's is not confirmed yet.
    pub objects: Option<Objects>,
    /// Claims of anybody that could not be read when they were last looked at, by key, and why.
    pub unreadable_claims: BTreeMap<String, String>,
}

pub struct Tiers {
    port: Arc<dyn Port>,
    coordinator: Arc<Coordinator>,
    drain: Drain,
    fetch: Arc<Fetch>,
    local: Arc<LocalWork>,
}

impl Tiers {
    /// `claims` are those that the store was opened with; `None` = no Tier 2.
    pub fn start(
        port: Arc<dyn Port>,
        claims: Option<Arc<StreamClaims>>,
        config: &Config,
    ) -> std::io::Result<Tiers> {
        let tier2 = claims.as_ref().map(|claims| claims.tier2().clone());
        let settings = fetch::Settings {
            cache_bytes: config.tier1.cache_bytes,
            concurrency: config.tier2.read_concurrency,
            bytes_in_flight: config.tier2.read_bytes,
        };
        let environment = port.environment();
        let fetch = Fetch::start(environment, tier2, port.tier1_directory(), settings)?;
        port.read_below_with(fetch.clone());
        let coordinator = Coordinator::start(port.clone(), claims, settings_of(config))?;
        let coordinator = Arc::new(coordinator);
        coordinator.serve_demand_of(fetch.clone());
        let drain = Drain::start(port.clone(), coordinator.clone());
        let local = LocalWork::new(port.clone(), coordinator.clone());
        Ok(Tiers {
            port,
            coordinator,
            drain,
            fetch,
            local,
        })
    }

    /// What is read of the tiers below Tier 0.
    pub fn fetch_status(&self) -> FetchStatus {
        self.fetch.status()
    }

    /// What readers had again of late.
    #[cfg(test)]
    pub(crate) fn fetch_demand(&self) -> Vec<crate::fetch::Demanded> {
        self.fetch.demanded()
    }

    /// Segments that come back because readers had them again and again, and are not back yet.
    pub fn waiting_on_demand(&self) -> u64 {
        self.coordinator.waiting_on_demand()
    }

    /// What is asked of the files in Tier 1.
    pub fn local(&self) -> &Arc<LocalWork> {
        &self.local
    }

    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    pub(crate) fn coordinator(&self) -> &Arc<Coordinator> {
        &self.coordinator
    }

    /// `None` without Tier 2.
    pub fn tier2_status(&self) -> Option<Tier2Status> {
        let claims = self.coordinator.claims()?;
        let health = claims.tier2().health();
        let moves = self.coordinator.moves();
        Some(Tier2Status {
            upload_retry_attempts: health.retry_attempts + moves.repeated_steps,
            unconfirmed_claims: check_claims::unconfirmed(&*self.port, &claims),
            objects: self
                .port
                .objects(&|stream, epoch| claims.is_confirmed(stream, epoch)),
            unreadable_claims: claims.unreadable(),
            health,
            moves,
        })
    }

    /// Takes over the hot keys.
    pub fn reconfigure(&self, config: &Config) {
        self.coordinator.reconfigure(settings_of(config));
    }

    /// Ends what runs; before the store is closed. Admission stays as it is.
    pub fn stop(&self) {
        self.local.stop();
        self.coordinator.stop();
        self.fetch.stop();
    }
}

impl Drop for Tiers {
    fn drop(&mut self) {
        self.stop();
    }
}

fn settings_of(config: &Config) -> Settings {
    Settings {
        compression_level: config.tier1.compression_level,
        block_bytes: config.tier1.block_bytes,
        upload_concurrency: config.tier2.upload_concurrency,
        claim_check: config.tier2.claim_check,
        tier1_max_bytes: config.tier1.max_bytes,
        hydrate_on_demand: config.hydration.on_demand,
    }
}
