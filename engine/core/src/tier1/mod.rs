//! The files of Tier 1 as they lie there, held against what the manifests name: for tools and their reports, with and without a running
//! engine. Nothing of this is on the way of a read or an append.

mod check;
mod inventory;
mod measure;
mod stats;
mod walk;

pub use check::{Finding, FindingKind, FoundSegment, check};
pub use inventory::{Inventory, Leftover, LeftoverKind};
pub use measure::{Measure, MeasureError, measure};
pub use stats::{StreamStats, stats};
pub use walk::{Again, One, Report, Walk, finish, recompress_all, verify_all};
