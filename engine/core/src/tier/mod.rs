//! Sealed bytes go down: Tier 0 -> compressed in Tier 1 -> uploaded to Tier 2. Observe (what is pending), plan (pure), apply (the
//! movers), record (the manifest).
//!
//! Without Tier 2 nothing is compressed: a warm file beside a segment that is never evicted would only cost space. Eviction and
//! hydration come later; every arrow here only adds a copy.

pub mod claim_watch;
pub mod compress;
pub mod mover;
pub mod planner;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod upload;
pub mod warm;

use std::collections::BTreeMap;
use std::sync::Arc;

use claim_watch::ClaimWatch;
use mover::{Mover, MoverSettings, MoverStatus};

use crate::claims::StreamClaims;
use crate::config::Config;
use crate::drain::{Drain, UploadPressure};
use crate::objects::Tier2Health;
use crate::port::Port;

/// What is known about Tier 2 and the way there, for reports; asks nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier2Status {
    pub health: Tier2Health,
    pub mover: MoverStatus,
    /// Requests and steps that were repeated since the process started.
    pub upload_retry_attempts: u64,
    /// Streams whose claim this process has not seen in Tier 2.
    pub unconfirmed_claims: u64,
    /// Claims of anybody that could not be read when they were last looked at, by key, and why.
    pub unreadable_claims: BTreeMap<String, String>,
}

/// Everything that runs between the store and its lower tiers, and the drain, which needs no lower tier.
pub struct Tiers {
    tier2: Option<Tier2Parts>,
    drain: Drain,
}

struct Tier2Parts {
    claims: Arc<StreamClaims>,
    mover: Arc<Mover>,
    watch: ClaimWatch,
}

impl Tiers {
    /// `claims` are those that the store was opened with; `None` = no Tier 2.
    pub fn start(
        port: Arc<dyn Port>,
        claims: Option<Arc<StreamClaims>>,
        config: &Config,
    ) -> std::io::Result<Tiers> {
        let tier2 = match claims {
            None => None,
            Some(claims) => {
                let mover = Arc::new(Mover::start(
                    port.clone(),
                    claims.clone(),
                    settings_of(config),
                )?);
                let watch =
                    ClaimWatch::start(port.clone(), claims.clone(), config.tier2.claim_check)?;
                Some(Tier2Parts {
                    claims,
                    mover,
                    watch,
                })
            }
        };
        let pressure = tier2.as_ref().map(|parts| {
            Arc::new(Pressure {
                claims: parts.claims.clone(),
                mover: parts.mover.clone(),
            }) as Arc<dyn UploadPressure>
        });
        let drain = Drain::start(port, pressure)?;
        Ok(Tiers { tier2, drain })
    }

    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// What snapshots need of the way down; `None` without Tier 2.
    pub(crate) fn uploads(&self) -> Option<(Arc<StreamClaims>, Arc<Mover>)> {
        let parts = self.tier2.as_ref()?;
        Some((parts.claims.clone(), parts.mover.clone()))
    }

    /// `None` without Tier 2.
    pub fn tier2_status(&self) -> Option<Tier2Status> {
        let parts = self.tier2.as_ref()?;
        let health = parts.claims.tier2().health();
        let mover = parts.mover.status();
        Some(Tier2Status {
            upload_retry_attempts: health.retry_attempts + mover.repeated_steps,
            unconfirmed_claims: parts.watch.unconfirmed(),
            unreadable_claims: parts.claims.unreadable(),
            health,
            mover,
        })
    }

    /// Takes over the hot keys.
    pub fn reconfigure(&self, config: &Config) {
        if let Some(parts) = &self.tier2 {
            parts.mover.reconfigure(settings_of(config));
            parts.watch.reconfigure(config.tier2.claim_check);
        }
    }

    /// Ends what runs; before the store is closed.
    pub fn stop(&self) {
        self.drain.stop();
        if let Some(parts) = &self.tier2 {
            parts.claims.tier2().stop();
            parts.mover.stop();
            parts.watch.stop();
        }
    }
}

fn settings_of(config: &Config) -> MoverSettings {
    MoverSettings {
        compression_level: config.tier1.compression_level,
        block_bytes: config.tier1.block_bytes,
        upload_concurrency: config.tier2.upload_concurrency,
        claim_check: config.tier2.claim_check,
    }
}

struct Pressure {
    claims: Arc<StreamClaims>,
    mover: Arc<Mover>,
}

impl UploadPressure for Pressure {
    fn retry_now(&self) {
        self.mover.retry_now();
    }

    fn health(&self) -> Tier2Health {
        self.claims.tier2().health()
    }

    fn failure(&self) -> Option<String> {
        self.mover.status().failure
    }

    fn damage(&self) -> Option<String> {
        self.mover.damage()
    }
}
