//! The Kubernetes API of AOF2: the only definition of the custom resources, from which the CRD is generated.
//!
//! Rules that hold for every type here, and that `tests/schema.rs` walks the generated schema for:
//! every string has a maximal length (or is a date, or comes from an enum), every list and map a maximal size, every integer bounds;
//! no reference names a namespace; status holds no figure that moves by itself. A field that no code reads is not in the schema.
//!
//! Types that status is made of are read by operators of other versions too, so their enums read an unknown name as `Unknown`
//! and their schema does not list the names.

pub mod cluster;
pub mod condition;
pub mod crd;
pub mod duration;
pub mod labels;
mod names;
pub mod pod_template;
pub mod quantity;
pub mod rollout;
mod schema;
pub mod snapshot;
pub mod status;
pub mod tier2;

pub use cluster::{Aof2Cluster, Aof2ClusterSpec};
pub use condition::{ConditionReason, ConditionType, Gate, WaitReason};
pub use duration::Duration;
pub use quantity::Quantity;
pub use rollout::{Baseline, Held, ReplayProgress, Rollout, RolloutKind, RolloutPod, RolloutStep};
pub use schema::MAX_INTEGER;
pub use snapshot::{Aof2Snapshot, Aof2SnapshotSpec, Aof2SnapshotStatus};
pub use status::Aof2ClusterStatus;

pub const GROUP: &str = "aof2.dev";
pub const VERSION: &str = "v1alpha1";
