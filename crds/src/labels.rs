//! Labels and annotations that carry meaning between the operator, its objects and people.

/// On every object and pod of a cluster: the cluster's name.
pub const CLUSTER: &str = "aof2.dev/cluster";
/// On volume claims: the identity minted for the cluster, by which they are adopted.
pub const CLUSTER_ID: &str = "aof2.dev/cluster-id";
/// On an `Aof2Cluster`: `<gate>=<until, RFC 3339>` lets that one gate pass until then. A person sets it; the use is recorded.
pub const OVERRIDE_GATE: &str = "aof2.dev/override-gate";
/// On an `Aof2Cluster`: `<stream>[,<stream>]=<until, RFC 3339>` lets drains go on without these damaged streams until then.
pub const DRAIN_WITHOUT: &str = "aof2.dev/drain-without";
/// On an `Aof2Cluster`: the rejected configuration revision to try again.
pub const RETRY_CONFIG: &str = "aof2.dev/retry-config";
/// On an `Aof2Cluster`: the identity to adopt when its Tier 2 prefix or its volume claims already carry one.
pub const ADOPT_CLUSTER_ID: &str = "aof2.dev/adopt-cluster-id";

/// On an `Aof2Cluster`: IDs of volumes, separated by commas, that a person accepts in place of the ones before: what only those held is lost.
pub const ACCEPT_VOLUME: &str = "aof2.dev/accept-volume";

/// On an `Aof2Snapshot` that a schedule made: the schedule's name, and its slot as in the object's name.
pub const SCHEDULE: &str = "aof2.dev/schedule";
pub const SLOT: &str = "aof2.dev/slot";

pub const APP_NAME: &str = "app.kubernetes.io/name";
pub const APP_INSTANCE: &str = "app.kubernetes.io/instance";
pub const APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
