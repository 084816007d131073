//! `Aof2Cluster`: what a user asks for. Status is in `status.rs`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ResourceQuantity;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::{Duration, between, outlasts};
use crate::pod_template::PodTemplate;
use crate::quantity::Quantity;
use crate::schema;
use crate::snapshot::Snapshots;
use crate::status::Aof2ClusterStatus;
use crate::tier2::Tier2;

/// Longest name of a cluster: the names made from it (`<name>-active-config`, a pod's revision label) stay within 63.
pub const MAX_NAME_LENGTH: usize = 40;

#[derive(Clone, Debug, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "aof2.dev",
    version = "v1alpha1",
    kind = "Aof2Cluster",
    plural = "aof2clusters",
    shortname = "aof2",
    category = "aof2-all",
    namespaced,
    status = "Aof2ClusterStatus",
    derive = "PartialEq",
    doc = "A tiered append-only log with one engine in each pod, next to the user's containers.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas", description = "Pods that serve"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version.current", description = "Engine version of every pod, or of the pods that are not upgraded yet"),
    printcolumn(name = "Tier0%", type_ = "integer", json_path = ".status.tier0.fullestNode.usedPercent", description = "Use of its Tier 0 share by the fullest pod, in percent, in steps of 5"),
    printcolumn(name = "Tier2", type_ = "string", json_path = ".status.tier2.bytes", priority = 1, description = "Bytes of the segments in the bucket, in powers of two"),
    printcolumn(name = "Config", type_ = "string", json_path = ".status.config.current", priority = 1, description = "Revision of the configuration that every engine runs"),
    printcolumn(name = "Restart-Pending", type_ = "integer", json_path = ".status.config.restartPending", priority = 1, description = "Pods whose engine still uses values from before a change of keys that need a restart"),
    printcolumn(name = "Snapshot", type_ = "string", json_path = ".status.snapshots.state", description = "What is wrong with the snapshots, or else what is known of them"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.summary", description = "What the operator does or waits for; the conditions hold the remedy"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40")
        .message(Message::Expression("'metadata.name ' + self.metadata.name + ' is too long: at most 40 characters are allowed, since object names are made from it'".into())),
    validation = Rule::new("!has(self.spec.snapshots) || !has(self.spec.snapshots.schedules) || self.spec.snapshots.schedules.all(schedule, self.metadata.name.size() + schedule.name.size() + 16 <= 63)")
        .message(Message::Expression("'spec.snapshots.schedules: metadata.name ' + self.metadata.name + ' and the name of a schedule must have at most 47 characters together, since a snapshot is named after both and its slot'".into())),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message(Message::Expression("'metadata.name ' + self.metadata.name + ' must start with a letter and hold only lower-case letters, digits and dashes inside: it becomes part of DNS names'".into()))
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.tier2) == has(oldSelf.tier2)")
        .message("spec.tier2 cannot be added or removed later: segments and claims lie where the cluster was created; make a new cluster")
        .field_path(".tier2"),
    validation = Rule::new("has(self.tier2) || !has(self.snapshots) || !has(self.snapshots.schedules) || size(self.snapshots.schedules) == 0")
        .message("spec.snapshots.schedules needs spec.tier2: a snapshot lies in the bucket")
        .field_path(".snapshots"),
    validation = Rule::new(between("retentionNotice", "0s", "8760h"))
        .message("spec.retentionNotice must lie between 0s and 8760h")
        .field_path(".retentionNotice"),
    // With a file of its own the journal may be smaller: the operator adds that up.
    validation = Rule::new("has(self.configFrom) || !isQuantity(string(self.storage.tier0.size)) || quantity(string(self.storage.tier0.size)).compareTo(quantity('546Mi')) >= 0")
        .message("spec.storage.tier0.size is too small for the journal: 512Mi of journal, 16Mi of a first segment and a reserve of a 32nd need 546Mi. Set a larger size, or a smaller journal.files in a ConfigMap of spec.configFrom")
        .field_path(".storage.tier0.size")
)]
pub struct Aof2ClusterSpec {
    /// Number of pods. The operator removes no pod that owns streams.
    #[schemars(range(min = 1, max = 50))]
    pub replicas: i32,
    /// Semantic version of the engine, the tag of its image. A change starts an upgrade.
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new(r"self.matches('^(0|[1-9][0-9]{0,5})\\.(0|[1-9][0-9]{0,5})\\.(0|[1-9][0-9]{0,5})(-[0-9A-Za-z.-]+)?$')")
            .message("not a semantic version; write for example 0.1.1")
    )]
    pub version: String,
    #[serde(default)]
    pub image: Image,
    #[serde(default)]
    pub operation: Operation,
    /// The user's `aof2.toml`. Without it the engines use their defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_from: Option<ConfigSource>,
    /// How a change of the config is rolled out and judged.
    #[serde(default)]
    pub config_rollout: ConfigRollout,
    #[serde(default)]
    pub upgrade: Upgrade,
    /// Scheduled snapshots, and how often they are verified.
    #[serde(default)]
    pub snapshots: Snapshots,
    /// The bucket. Without it segments stay on the volumes, and sealing them is enough before a pod is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier2: Option<Tier2>,
    pub storage: Storage,
    /// How the Tier 0 budget of the config (`tier0.cluster_max_bytes`) is divided among the pods.
    #[serde(default)]
    pub tier0_budget: Tier0Budget,
    /// How long a config that keeps records for less is announced before it takes effect. 0s = at once.
    #[serde(default = "retention_notice")]
    pub retention_notice: Duration,
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    #[serde(default, skip_serializing_if = "PodTemplate::is_empty")]
    pub pod_template: PodTemplate,
}

/// Where the engine's image comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.repository) || !self.repository.matches('(@|:[^/]*$)')")
        .message("spec.image.repository takes neither tag nor digest: the tag is spec.version")
        .field_path(".repository")
)]
pub struct Image {
    /// Repository without tag. Empty for the repository set at the installation of the operator.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(
        length(max = 255),
        regex(pattern = r"^([A-Za-z0-9][A-Za-z0-9._:/@-]*)?$")
    )]
    pub repository: String,
    #[serde(default)]
    pub pull_policy: PullPolicy,
    /// Secrets of this namespace that hold the credentials of the registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub pull_secrets: Vec<PullSecret>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    Always,
    #[default]
    IfNotPresent,
    Never,
}

impl PullPolicy {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PullSecret {
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tier0Budget {
    #[serde(default)]
    pub policy: BudgetPolicy,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BudgetPolicy {
    /// Every pod has the same share.
    Equal,
    /// Shares are equal until a pod refuses appends, or its readers wait for Tier 2. Then it gets more, and pods that need less give it. Each
    /// keeps at least a quarter of an equal share.
    #[default]
    Demand,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Operation {
    #[serde(default)]
    pub mode: OperationMode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OperationMode {
    #[default]
    Active,
    /// The operator reports, but changes nothing.
    Paused,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigSource {
    pub config_map_ref: ConfigMapKey,
}

/// A key of a ConfigMap of this namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigMapKey {
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    #[serde(default = "config_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

fn retention_notice() -> Duration {
    Duration::from_mins(24 * 60)
}

fn config_key() -> String {
    "aof2.toml".to_owned()
}

/// A change reaches the canary first, the pod with the highest ordinal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(between("observationWindow", "10s", "168h"))
        .message("spec.configRollout.observationWindow must lie between 10s and 168h")
        .field_path(".observationWindow"),
    validation = Rule::new(between("progressDeadline", "2m", "720h"))
        .message("spec.configRollout.progressDeadline must lie between 2m and 720h: the canary is watched for 1m at least, and needs time to load the change")
        .field_path(".progressDeadline"),
    validation = Rule::new(outlasts("progressDeadline", "observationWindow", "1m"))
        .message(Message::Expression("'spec.configRollout.progressDeadline ' + self.progressDeadline + ' is shorter than what the canary alone needs: observationWindow ' + self.observationWindow + ' plus 1m to load the change. Raise progressDeadline or shorten observationWindow'".into()))
        .field_path(".progressDeadline")
)]
pub struct ConfigRollout {
    #[serde(default)]
    pub canary: Canary,
    /// How long the canary is watched before the other pods get the change. Refused appends are measured over 60 s, the shortest effective
    /// window.
    #[serde(default = "ConfigRollout::observation_window")]
    pub observation_window: Duration,
    /// Limit for the canary, its observation included, and then for each pod that follows. A rollout that exceeds it fails. The time in
    /// which it is held counts.
    #[serde(default = "ConfigRollout::progress_deadline")]
    pub progress_deadline: Duration,
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// The pods that get a change first, those with the highest ordinals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// Number of canaries. Only 1 is allowed, so that a harmful change affects as few streams as possible.
    #[serde(default = "Canary::pods")]
    #[schemars(range(min = 1, max = 1))]
    pub pods: i32,
}

impl Canary {
    fn pods() -> i32 {
        1
    }
}

impl Default for Canary {
    fn default() -> Self {
        Self { pods: Self::pods() }
    }
}

impl ConfigRollout {
    fn observation_window() -> Duration {
        Duration::from_mins(30)
    }

    fn progress_deadline() -> Duration {
        Duration::from_mins(120)
    }
}

impl Default for ConfigRollout {
    fn default() -> Self {
        Self {
            canary: Canary::default(),
            observation_window: Self::observation_window(),
            progress_deadline: Self::progress_deadline(),
            on_failure: OnFailure::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// The operator rolls back every pod.
    #[default]
    Revert,
    /// The canary keeps the change until a person changes `configFrom`.
    Pause,
}

/// How pods are replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upgrade {
    #[serde(default)]
    pub seal: Seal,
    #[serde(default)]
    pub post_restart: PostRestart,
}

/// What happens before a pod is removed. Its segments are sealed and uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(between("uploadTimeout", "1s", "24h"))
        .message("spec.upgrade.seal.uploadTimeout must lie between 1s and 24h")
        .field_path(".uploadTimeout"),
    validation = Rule::new(between("drainTimeout", "1s", "10m"))
        .message("spec.upgrade.seal.drainTimeout must lie between 1s and 10m: appends are refused meanwhile")
        .field_path(".drainTimeout")
)]
pub struct Seal {
    /// Limit for the upload of sealed segments. Appends continue.
    #[serde(default = "Seal::upload_timeout")]
    pub upload_timeout: Duration,
    /// Limit for the upload of the rest. The pod rejects appends in this phase.
    #[serde(default = "Seal::drain_timeout")]
    pub drain_timeout: Duration,
}

impl Seal {
    fn upload_timeout() -> Duration {
        Duration::from_mins(10)
    }

    fn drain_timeout() -> Duration {
        Duration::from_secs(30)
    }
}

impl Default for Seal {
    fn default() -> Self {
        Self {
            upload_timeout: Self::upload_timeout(),
            drain_timeout: Self::drain_timeout(),
        }
    }
}

/// What the new pod must pass before the next one is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(between("soak", "0s", "24h"))
        .message("spec.upgrade.postRestart.soak must be at most 24h")
        .field_path(".soak"),
    validation = Rule::new(between("replayStallTimeout", "10s", "24h"))
        .message("spec.upgrade.postRestart.replayStallTimeout must lie between 10s and 24h")
        .field_path(".replayStallTimeout")
)]
pub struct PostRestart {
    /// How long the new pod must serve without a failed flush.
    #[serde(default = "PostRestart::soak")]
    pub soak: Duration,
    /// Limit for a replay without progress. The rollout then waits for a person.
    #[serde(default = "PostRestart::replay_stall_timeout")]
    pub replay_stall_timeout: Duration,
}

impl PostRestart {
    fn soak() -> Duration {
        Duration::from_secs(30)
    }

    fn replay_stall_timeout() -> Duration {
        Duration::from_mins(15)
    }
}

impl Default for PostRestart {
    fn default() -> Self {
        Self {
            soak: Self::soak(),
            replay_stall_timeout: Self::replay_stall_timeout(),
        }
    }
}

/// The engine's volumes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.tier1) == has(oldSelf.tier1)")
        .message("spec.storage.tier1 can be neither added nor removed: a StatefulSet keeps the volume claims it was created with; make a new cluster")
)]
pub struct Storage {
    pub tier0: Volume,
    /// Volume for warm files. Without it they are on Tier 0's volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier1: Option<Volume>,
    #[serde(default)]
    pub pvc_retention: PvcRetention,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
        .message("spec.storage: storageClassName is immutable, since a volume stays in its class; make a new cluster"),
    validation = Rule::new("self.accessMode == oldSelf.accessMode")
        .message("spec.storage: accessMode is immutable, since a claim keeps its own; make a new cluster")
)]
pub struct Volume {
    /// May grow: the claims are expanded where their storage class allows it. Pods that are added later start with the size at creation, and
    /// are expanded at once.
    #[x_kube(
        validation = Rule::new("type(self) == string ? (!isQuantity(self) || quantity(self).compareTo(quantity('64Mi')) >= 0) : self >= 67108864")
            .message("spec.storage: a volume needs at least 64Mi"),
        validation = Rule::new("type(self) != string || !isQuantity(self) || quantity(self).compareTo(quantity('8Ei')) < 0")
            .message(Message::Expression("'spec.storage: a volume of ' + string(self) + ' is not possible: the size must be below 8Ei'".into())),
        validation = Rule::new("!isQuantity(string(self)) || !isQuantity(string(oldSelf)) || quantity(string(self)).compareTo(quantity(string(oldSelf))) >= 0")
            .message(Message::Expression("'spec.storage: a volume cannot shrink from ' + string(oldSelf) + ' to ' + string(self) + '; set at least ' + string(oldSelf)".into()))
    )]
    pub size: Quantity,
    /// Storage class. Without it the default class is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    #[serde(default)]
    pub access_mode: AccessMode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessMode {
    ReadWriteOnce,
    /// No second pod can mount the volume, not even on the same node. Needs a CSI driver.
    #[default]
    ReadWriteOncePod,
}

impl AccessMode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadWriteOncePod => "ReadWriteOncePod",
        }
    }
}

/// What happens to volume claims, at any time until the cluster is deleted. Claims of scaled-down pods always stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PvcRetention {
    #[serde(default)]
    pub when_deleted: WhenDeleted,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WhenDeleted {
    #[default]
    Retain,
    Delete,
}

/// Requests and limits of the engine's container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Resources {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::resource_list")]
    pub requests: BTreeMap<String, ResourceQuantity>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::resource_list")]
    pub limits: BTreeMap<String, ResourceQuantity>,
}

impl Resources {
    pub fn is_empty(&self) -> bool {
        let Self { requests, limits } = self;
        requests.is_empty() && limits.is_empty()
    }
}
