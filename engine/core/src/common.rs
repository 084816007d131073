//! What every part of an open store uses and none of them owns.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::admit::Space;
use crate::below::LowerTiers;
use crate::config::Config;
use crate::io::Environment;
use crate::metrics::Counters;
use crate::pace::{Pacer, Staging};
use crate::poison::Poison;
use crate::segment::maps::Maps;
use crate::volume::VolumeIds;

pub(crate) struct Common {
    pub config: Arc<ArcSwap<Config>>,
    pub env: Environment,
    pub ids: VolumeIds,
    pub poison: Arc<Poison>,
    pub space: Space,
    pub counters: Arc<Counters>,
    pub staging: Staging,
    pub pacer: Pacer,
    pub maps: Maps,
    /// Chunks of manifests go there with snapshots.
    pub has_tier2: bool,
    /// Who reads what Tier 0 does not have. `None` before the tiers are started.
    pub lower_tiers: ArcSwapOption<Lower>,
}

pub(crate) struct Lower(pub Arc<dyn LowerTiers>);
