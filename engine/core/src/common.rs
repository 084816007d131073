//! What every part of an open store uses and none of them owns.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::admit::Space;
use crate::config::Config;
use crate::io::{Clock, Disk, Rng};
use crate::metrics::Counters;
use crate::pace::{Pacer, Staging};
use crate::poison::Poison;
use crate::volume::VolumeIds;

pub(crate) struct Common {
    pub config: Arc<ArcSwap<Config>>,
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub ids: VolumeIds,
    pub poison: Arc<Poison>,
    pub space: Space,
    pub counters: Arc<Counters>,
    pub staging: Staging,
    pub pacer: Pacer,
}
