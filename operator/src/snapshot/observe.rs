//! Reads what a snapshot's step is made from.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aof2_admin_api::client::Client as EngineClient;
use aof2_admin_api::{ErrorReason, SnapshotIndex, SnapshotReport};
use aof2_crds::snapshot::MAX_STREAMS;
use aof2_crds::{Aof2Cluster, Aof2Snapshot, labels};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::facts::{
    ClusterFacts, Earlier, EarlierIndex, Facts, IndexFacts, Origin, PodFacts, StreamFacts, Taken,
};
use super::known::{ClusterKey, Key};
use super::schedule::slot_time;
use crate::context::{Context, Sight};
use crate::engines::{Failure, INDEX_BYTES, accept_snapshot, accept_streams};
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
pub async fn live(context: &Context, key: &Key) -> Result<Option<Aof2Snapshot>, CallError> {
    let stored = stored(context, key).await?;
    Ok(stored.filter(|snapshot| snapshot.metadata.deletion_timestamp.is_none()))
}

/// The same, also where it is about to be deleted.
pub async fn stored(context: &Context, key: &Key) -> Result<Option<Aof2Snapshot>, CallError> {
    let namespace = &*key.cluster.namespace;
    let api: Api<Aof2Snapshot> = Api::namespaced(context.reader.clone(), namespace);
    let key = (
        "Aof2Snapshot".to_owned(),
        namespace.to_owned(),
        key.name.as_ref().to_owned(),
    );
    bounded("get", &key, CALL_TIMEOUT, api.get_opt(&key.2)).await
}

/// The cluster and its pods, read live. `None`: there is no such cluster.
pub async fn sight(context: &Context, cluster: &ClusterKey) -> Result<Option<Sight>, CallError> {
    let (namespace, name) = (&*cluster.namespace, &*cluster.name);
    let clusters: Api<Aof2Cluster> = Api::namespaced(context.reader.clone(), namespace);
    let key = (
        "Aof2Cluster".to_owned(),
        namespace.to_owned(),
        name.to_owned(),
    );
    let cluster = bounded("get", &key, CALL_TIMEOUT, clusters.get_opt(name)).await?;
    let Some(cluster) = cluster else {
        return Ok(None);
    };
    let pods: Api<Pod> = Api::namespaced(context.reader.clone(), namespace);
    let selected = ListParams::default().labels(&names::label_selector(name));
    let key = ("Pod".to_owned(), namespace.to_owned(), name.to_owned());
    let pods = bounded("list", &key, CALL_TIMEOUT, pods.list(&selected)).await?;
    let pods = pods
        .items
        .iter()
        .filter_map(|pod| Some((names::ordinal(name, &pod.name_any())?, address(pod))));
    Ok(Some(Sight::of(&cluster, pods.collect())))
}

/// Asks the engines. A cluster that is not there has none.
pub async fn observe(
    context: &Context,
    snapshot: &Aof2Snapshot,
    sight: Option<&Sight>,
    is_verification_due: bool,
    has_succeeded: bool,
) -> Observed {
    let name = &snapshot.spec.cluster_ref.name;
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
        earlier: None,
        origin: origin(snapshot, sight),
    };
    let mut engines = BTreeMap::new();
    let Some(sight) = sight else {
        if has_succeeded {
            let why = format!("Aof2Cluster {name} does not exist");
            facts.index = Some(IndexFacts::Unknown(why));
        }
        return Observed { facts, engines };
    };
    facts.cluster = Some(ClusterFacts {
        cluster_id: sight.cluster_id.clone(),
        has_tier2: sight.has_tier2,
        is_paused: sight.is_paused,
        verify_interval: sight.verify_interval,
    });
    let whose = &sight.whose;
    let addresses = &sight.pods;
    // A pod that is to go and still owns streams belongs to it.
    let there = addresses.keys().map(|ordinal| ordinal + 1).max();
    let count = there.unwrap_or_default().max(sight.replicas);
    let asked = (0..count).map(async |ordinal| {
        let pod = names::pod(name, ordinal);
        let Some(ip) = addresses.get(&ordinal).copied().flatten() else {
            let facts = PodFacts {
                name: pod,
                streams: Err("the pod is missing or has no address".to_owned()),
            };
            return (facts, None);
        };
        let client = match whose {
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
    let status = snapshot.status.as_ref();
    if has_succeeded {
        facts.index = Some(index(&engines, &facts.name).await);
    } else if status.is_none_or(|status| status.cluster_id.is_empty()) {
        facts.earlier = Some(earlier(&engines, snapshot).await);
    }
    Observed { facts, engines }
}

fn address(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()
}

/// Set by the backup tool that most clusters are restored with.
const RESTORED: &str = "velero.io/restore-name";

fn origin(snapshot: &Aof2Snapshot, sight: Option<&Sight>) -> Origin {
    let labels = snapshot.labels();
    let cluster = &snapshot.spec.cluster_ref.name;
    let of_slot = labels
        .get(labels::SCHEDULE)
        .zip(labels.get(labels::SLOT))
        .filter(|(schedule, slot)| {
            snapshot.spec.streams.is_empty()
                && names::snapshot(cluster, schedule, slot) == snapshot.name_any()
        });
    let deadlines = sight.map(|sight| &sight.starting_deadlines);
    Origin {
        slot: of_slot.and_then(|(_, slot)| slot_time(slot)),
        starting_deadline: of_slot
            .and_then(|(schedule, _)| deadlines?.get(schedule))
            .copied(),
        is_restored: labels.contains_key(RESTORED),
    }
}

/// What the bucket holds under the snapshot's name already.
async fn earlier(engines: &BTreeMap<String, EngineClient>, snapshot: &Aof2Snapshot) -> Earlier {
    match read_index(engines, &snapshot.name_any()).await {
        Ok(index) => {
            let total = index.streams.len();
            let reports = index.streams.into_values().take(MAX_STREAMS);
            match reports.map(accept_snapshot).collect::<Result<Vec<_>, _>>() {
                Err(why) => Earlier::Unknown(why),
                Ok(streams) => Earlier::Found(Box::new(EarlierIndex {
                    cluster_id: index.cluster_id,
                    is_ours: streams
                        .first()
                        .is_some_and(|report| snapshot.uid().as_ref() == Some(&report.request)),
                    completed_at: index.completed_at.parse().ok(),
                    total,
                    streams,
                })),
            }
        }
        Err(NoIndex::Missing(_)) => Earlier::Nothing,
        Err(NoIndex::Unknown(why)) => Earlier::Unknown(why),
    }
}

async fn index(engines: &BTreeMap<String, EngineClient>, name: &str) -> IndexFacts {
    match read_index(engines, name).await {
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
            IndexFacts::Found(taken.collect())
        }
        Err(NoIndex::Missing(why)) => IndexFacts::Missing(why),
        Err(NoIndex::Unknown(why)) => IndexFacts::Unknown(why),
    }
}

enum NoIndex {
    Missing(String),
    Unknown(String),
}

/// From any engine.
async fn read_index(
    engines: &BTreeMap<String, EngineClient>,
    name: &str,
) -> Result<SnapshotIndex, NoIndex> {
    let mut why = "no engine answers".to_owned();
    for engine in engines.values() {
        let engine = engine.clone().with_answer_limit(INDEX_BYTES);
        match engine.snapshot_index(name).await {
            Ok(index) => return Ok(index),
            Err(error) => match error.refusal() {
                Some(body) if body.reason == ErrorReason::NotFound => {
                    return Err(NoIndex::Missing(body.message.clone()));
                }
                Some(_) | None => why = error.to_string(),
            },
        }
    }
    Err(NoIndex::Unknown(why))
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
