//! Names of everything that belongs to a cluster: functions of the cluster's name alone, so that nothing has to be remembered.

use std::collections::BTreeMap;

use aof2_crds::labels;

/// Value of `app.kubernetes.io/name` on what belongs to a cluster.
pub const APP: &str = "aof2";
/// Label and value on the operator's own pods; the chart sets it, whatever the release and the chart are called there.
pub const OPERATOR_LABEL: (&str, &str) = ("aof2.dev/component", "operator");

/// On pods and on the StatefulSet: digest of what the user asked of the pod template (see `build::template`).
pub const TEMPLATE_ANNOTATION: &str = "aof2.dev/template";
/// On pods: the engine version that the template asked for.
pub const VERSION_ANNOTATION: &str = "aof2.dev/version";
/// On pods: `<digest>@<time>` of the last touch by which the kubelet was asked to sync the configuration.
pub const NUDGE_ANNOTATION: &str = "aof2.dev/config-nudge";

pub const ENGINE_CONTAINER: &str = "aof2-engine";
pub use aof2_admin_api::schema::{ADMIN_PORT, HTTP_PORT};

pub fn service(cluster: &str) -> String {
    format!("{cluster}-nodes")
}

pub fn service_account(cluster: &str) -> String {
    format!("{cluster}-aof2")
}

pub fn disruption_budget(cluster: &str) -> String {
    cluster.to_owned()
}

pub fn network_policy(cluster: &str) -> String {
    format!("{cluster}-aof2")
}

pub const TLS_SECRET_ENDING: &str = "-engine-tls";

pub fn tls_secret(cluster: &str) -> String {
    format!("{cluster}{TLS_SECRET_ENDING}")
}

pub fn active_config(cluster: &str) -> String {
    format!("{cluster}-active-config")
}

/// What the StatefulSet is made from.
pub fn kept_spec(cluster: &str) -> String {
    format!("{cluster}-kept-spec")
}

pub fn config_revision(cluster: &str, revision: &str) -> String {
    format!("{cluster}-config-{revision}")
}

/// The snapshot of one slot.
pub fn snapshot(cluster: &str, schedule: &str, slot: &str) -> String {
    format!("{cluster}-{schedule}-{slot}")
}

/// What the engines reported before this revision was tried.
pub fn evidence(cluster: &str, revision: &str) -> String {
    format!("{cluster}-evidence-{revision}")
}

/// What a change of configuration leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredKind {
    Revision,
    Evidence,
}

/// The revision that a name of `config_revision` or `evidence` was made for.
pub fn stored_config(cluster: &str, name: &str) -> Option<(StoredKind, String)> {
    let is_hash =
        |text: &&str| text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let rest = name.strip_prefix(cluster)?;
    let of = |prefix: &str| rest.strip_prefix(prefix).filter(is_hash).map(str::to_owned);
    of("-config-")
        .map(|revision| (StoredKind::Revision, revision))
        .or_else(|| of("-evidence-").map(|revision| (StoredKind::Evidence, revision)))
}

/// Templates of volume claims, in the order in which they are mounted.
pub const CLAIM_TEMPLATES: [&str; 2] = ["tier0", "tier1"];

/// The claim of a pod from one of the [`CLAIM_TEMPLATES`].
pub fn claim(template: &str, pod: &str) -> String {
    format!("{template}-{pod}")
}

/// The pod of this cluster that a claim of ours belongs to.
pub fn pod_of_claim<'a>(cluster: &str, claim: &'a str) -> Option<&'a str> {
    let of = |template: &str| claim.strip_prefix(template)?.strip_prefix('-');
    CLAIM_TEMPLATES
        .iter()
        .find_map(|template| of(template))
        .filter(|pod| ordinal(cluster, pod).is_some())
}

pub fn pod(cluster: &str, ordinal: i32) -> String {
    format!("{cluster}-{ordinal}")
}

/// The first `count` pods, by ordinal.
pub fn pods(cluster: &str, count: i32) -> Vec<String> {
    (0..count).map(|ordinal| pod(cluster, ordinal)).collect()
}

/// Those that a StatefulSet with so many replicas should have, and that are not there.
pub fn missing_pods(cluster: &str, replicas: i32, is_there: impl Fn(&str) -> bool) -> Vec<String> {
    let mut names = pods(cluster, replicas.clamp(0, MAX_ORDINAL));
    names.retain(|name| !is_there(name));
    names
}

/// The file in the active configuration from which a pod reads.
pub fn config_file(pod: &str) -> String {
    format!("{pod}.toml")
}

/// Above it no pod of a cluster has its ordinal: a name with more is a stranger's.
pub const MAX_ORDINAL: i32 = 999;

/// Of a pod of this cluster; `None` for a stranger's name, also for one that Kubernetes would spell in another way.
pub fn ordinal(cluster: &str, pod_name: &str) -> Option<i32> {
    let ordinal = pod_name.strip_prefix(cluster)?.strip_prefix('-')?;
    let ordinal = ordinal.parse().ok()?;
    ((0..=MAX_ORDINAL).contains(&ordinal) && pod(cluster, ordinal) == pod_name).then_some(ordinal)
}

/// The name in the certificate of every engine of the cluster, whatever the pod's address. Made from what the API server alone gives an
/// object: who may write the object, its annotations or its status chooses no name, and no two clusters share one.
pub fn server_name(uid: &str, namespace: &str) -> String {
    format!("{uid}.{namespace}.engine.aof2.dev")
}

/// A cluster ID as the operator mints it: a UUID, lower-case with dashes. Nothing else goes into labels, files and the bucket.
pub fn is_cluster_id(text: &str) -> bool {
    uuid::Uuid::try_parse(text).is_ok_and(|id| id.hyphenated().to_string() == text)
}

/// Labels by which pods are selected; they never change.
pub fn selector(cluster: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (labels::APP_NAME.to_owned(), APP.to_owned()),
        (labels::APP_INSTANCE.to_owned(), cluster.to_owned()),
        (labels::CLUSTER.to_owned(), cluster.to_owned()),
    ])
}

/// Labels of every object of the cluster.
pub fn labels(cluster: &str) -> BTreeMap<String, String> {
    let mut labels = selector(cluster);
    labels.insert(
        labels::APP_MANAGED_BY.to_owned(),
        crate::kube::FIELD_MANAGER.to_owned(),
    );
    labels
}

/// The selector of lists and of `status.selector`.
pub fn label_selector(cluster: &str) -> String {
    format!("{}={cluster}", labels::CLUSTER)
}
