//! Reads what a snapshot's step is made from.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aof2_admin_api::client::Client as EngineClient;
use aof2_admin_api::{ErrorReason, SnapshotReport};
use aof2_crds::cluster::OperationMode;
use aof2_crds::snapshot::SnapshotCondition as Kind;
use aof2_crds::{Aof2Cluster, Aof2Snapshot, labels};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::BY_HAND;
use super::conditions::is;
use super::facts::{ClusterFacts, Facts, IndexFacts, PodFacts, StreamFacts, Taken};
use crate::context::Context;
use crate::engines::{Failure, INDEX_BYTES, Whose, accept_snapshot, accept_streams};
use crate::kube::{CallError, bounded};
use crate::names;
use crate::runtime::client::CALL_TIMEOUT;

/// What was found, and how the engines are reached.
pub struct Observed {
    pub facts: Facts,
    /// By pod, of those that answer.
    pub engines: BTreeMap<String, EngineClient>,
}

/// The snapshot as it is stored: what the watch holds may be older than what was written last. `None`: deleted, or about to be.
pub async fn live(
    context: &Context,
    snapshot: &Aof2Snapshot,
) -> Result<Option<Aof2Snapshot>, CallError> {
    let namespace = snapshot.namespace().unwrap_or_default();
    let api: Api<Aof2Snapshot> = Api::namespaced(context.reader.clone(), &namespace);
    let key = ("Aof2Snapshot".to_owned(), namespace, snapshot.name_any());
    let live = bounded("get", &key, CALL_TIMEOUT, api.get_opt(&key.2)).await?;
    Ok(live.filter(|snapshot| snapshot.metadata.deletion_timestamp.is_none()))
}

pub async fn verify_interval(
    context: &Context,
    snapshot: &Aof2Snapshot,
) -> Result<SignedDuration, CallError> {
    let namespace = snapshot.namespace().unwrap_or_default();
    let name = &snapshot.spec.cluster_ref.name;
    let clusters: Api<Aof2Cluster> = Api::namespaced(context.reader.clone(), &namespace);
    let key = ("Aof2Cluster".to_owned(), namespace, name.clone());
    let cluster = bounded("get", &key, CALL_TIMEOUT, clusters.get_opt(name)).await?;
    let interval = cluster.map(|cluster| cluster.spec.snapshots.verify_interval.as_std());
    Ok(interval
        .and_then(|interval| SignedDuration::try_from(interval).ok())
        .unwrap_or(SignedDuration::from_hours(1)))
}

/// The newest of each schedule, and those made by hand in the last days.
pub async fn is_read_back(context: &Context, snapshot: &Aof2Snapshot) -> Result<bool, CallError> {
    let Some(schedule) = snapshot.labels().get(labels::SCHEDULE) else {
        let age = snapshot
            .creation_timestamp()
            .map(|at| Timestamp::now().duration_since(at.0));
        return Ok(age.is_none_or(|age| age < BY_HAND));
    };
    let selector = format!(
        "{}={},{}={schedule}",
        labels::CLUSTER,
        snapshot.spec.cluster_ref.name,
        labels::SCHEDULE
    );
    let params = ListParams::default().labels(&selector);
    let key = (
        "Aof2Snapshot".to_owned(),
        snapshot.namespace().unwrap_or_default(),
        schedule.clone(),
    );
    let api: Api<Aof2Snapshot> = Api::namespaced(context.reader.clone(), &key.1);
    let list = bounded("list", &key, CALL_TIMEOUT, api.list(&params)).await?;
    let newest = list
        .items
        .iter()
        .filter(|other| {
            other
                .status
                .as_ref()
                .is_some_and(|status| is(status, Kind::Succeeded, "True"))
        })
        .map(ResourceExt::name_any)
        .max();
    Ok(newest.is_none_or(|newest| newest == snapshot.name_any()))
}

pub async fn observe(
    context: &Context,
    snapshot: &Aof2Snapshot,
    is_verification_due: bool,
    has_succeeded: bool,
) -> Result<Observed, CallError> {
    let namespace = snapshot.namespace().unwrap_or_default();
    let name = &snapshot.spec.cluster_ref.name;
    let clusters: Api<Aof2Cluster> = Api::namespaced(context.reader.clone(), &namespace);
    let key = ("Aof2Cluster".to_owned(), namespace.clone(), name.clone());
    let cluster = bounded("get", &key, CALL_TIMEOUT, clusters.get_opt(name)).await?;
    let mut facts = Facts {
        name: snapshot.name_any(),
        spec: snapshot.spec.clone(),
        created_at: snapshot
            .creation_timestamp()
            .map_or(Timestamp::UNIX_EPOCH, |at| at.0),
        generation: snapshot.metadata.generation.unwrap_or_default(),
        cluster: None,
        pods: Vec::new(),
        is_verification_due,
        index: None,
    };
    let mut engines = BTreeMap::new();
    let Some(cluster) = cluster else {
        if has_succeeded {
            let why = format!("Aof2Cluster {name} does not exist");
            facts.index = Some(IndexFacts::Unknown(why));
        }
        return Ok(Observed { facts, engines });
    };
    let cluster_id = cluster
        .status
        .as_ref()
        .map(|status| status.cluster_id.clone())
        .unwrap_or_default();
    let whose = Whose::of(&cluster);
    let verify_interval = cluster.spec.snapshots.verify_interval.as_std();
    facts.cluster = Some(ClusterFacts {
        cluster_id: cluster_id.clone(),
        has_tier2: cluster.spec.tier2.is_some(),
        is_paused: cluster.spec.operation.mode == OperationMode::Paused,
        verify_interval: SignedDuration::try_from(verify_interval).unwrap_or(SignedDuration::MAX),
    });
    let pods: Api<Pod> = Api::namespaced(context.reader.clone(), &namespace);
    let selected = ListParams::default().labels(&names::label_selector(name));
    let key = ("Pod".to_owned(), namespace.clone(), name.clone());
    let pods = bounded("list", &key, CALL_TIMEOUT, pods.list(&selected)).await?;
    let addresses: BTreeMap<i32, Option<IpAddr>> = pods
        .items
        .iter()
        .filter_map(|pod| Some((names::ordinal(name, &pod.name_any())?, address(pod))))
        .collect();
    // A pod that is to go and still owns streams belongs to it.
    let there = addresses.keys().map(|ordinal| ordinal + 1).max();
    let count = there.unwrap_or_default().max(cluster.spec.replicas);
    let asked = (0..count).map(async |ordinal| {
        let pod = names::pod(name, ordinal);
        let Some(ip) = addresses.get(&ordinal).copied().flatten() else {
            let facts = PodFacts {
                name: pod,
                streams: Err("the pod is missing or has no address".to_owned()),
            };
            return (facts, None);
        };
        let client = match &whose {
            Some(whose) => context.engines.client_of(whose, &pod, ip).await,
            None => Err(Failure {
                may_be_certificate: false,
                message: "the cluster has no identity yet".to_owned(),
            }),
        };
        let client = match client {
            Ok(client) => client,
            Err(failure) => {
                let facts = PodFacts {
                    name: pod,
                    streams: Err(failure.message),
                };
                return (facts, None);
            }
        };
        let streams = streams(&client, &snapshot.uid().unwrap_or_default()).await;
        let client = streams.is_ok().then_some(client);
        (PodFacts { name: pod, streams }, client)
    });
    for (pod, client) in futures::future::join_all(asked).await {
        engines.extend(client.map(|client| (pod.name.clone(), client)));
        facts.pods.push(pod);
    }
    if has_succeeded {
        facts.index = Some(index(&engines, &facts.name).await);
    }
    Ok(Observed { facts, engines })
}

fn address(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()
}

/// From any engine.
async fn index(engines: &BTreeMap<String, EngineClient>, name: &str) -> IndexFacts {
    let mut why = "no engine answers".to_owned();
    for engine in engines.values() {
        let engine = engine.clone().with_answer_limit(INDEX_BYTES);
        match engine.snapshot_index(name).await {
            Ok(index) => {
                let taken = index.streams.into_iter().map(|(stream, report)| {
                    let SnapshotReport {
                        snapshot_id,
                        digest,
                        ..
                    } = report;
                    let taken = Taken {
                        snapshot_id,
                        digest,
                    };
                    (stream, taken)
                });
                return IndexFacts::Found(taken.collect());
            }
            Err(error) => match error.refusal() {
                Some(body) if body.reason == ErrorReason::NotFound => {
                    return IndexFacts::Missing(body.message.clone());
                }
                Some(_) | None => why = error.to_string(),
            },
        }
    }
    IndexFacts::Unknown(why)
}

async fn streams(client: &EngineClient, request: &str) -> Result<Vec<StreamFacts>, String> {
    let (streams, reports) =
        futures::try_join!(client.streams(), client.snapshots(None, Some(request)))
            .map_err(|error| error.to_string())?;
    let mut of_request: BTreeMap<String, SnapshotReport> = reports
        .into_iter()
        .filter(|report| report.request == request)
        .map(|report| accept_snapshot(report).map(|report| (report.stream.clone(), report)))
        .collect::<Result<_, _>>()?;
    Ok(accept_streams(streams)?
        .into_iter()
        .map(|stream| StreamFacts {
            report: of_request.remove(&stream.name),
            name: stream.name,
        })
        .collect())
}
