//! Reads what a snapshot's step is made from.

use std::collections::BTreeMap;

use aof2_admin_api::SnapshotReport;
use aof2_admin_api::client::Client as EngineClient;
use aof2_crds::cluster::OperationMode;
use aof2_crds::{Aof2Cluster, Aof2Snapshot};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::facts::{ClusterFacts, Facts, PodFacts, StreamFacts};
use crate::cluster::{names, pod};
use crate::kube::{CallError, bounded};
use crate::runtime::{client::CALL_TIMEOUT, context::Context};

/// What was found, and how the engines are reached.
pub struct Observed {
    pub facts: Facts,
    /// By pod, of those that answer.
    pub engines: BTreeMap<String, EngineClient>,
}

pub async fn observe(
    context: &Context,
    snapshot: &Aof2Snapshot,
    is_verification_due: bool,
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
    };
    let mut engines = BTreeMap::new();
    let Some(cluster) = cluster else {
        return Ok(Observed { facts, engines });
    };
    let cluster_id = cluster
        .status
        .as_ref()
        .map(|status| status.cluster_id.clone())
        .unwrap_or_default();
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
    let now = Timestamp::now();
    let found: Vec<_> = pods
        .items
        .iter()
        .filter_map(|found| pod::read(name, found, now))
        .collect();
    let asked = (0..cluster.spec.replicas).map(async |ordinal| {
        let pod = names::pod(name, ordinal);
        let ip = found
            .iter()
            .find(|found| found.ordinal == ordinal)
            .and_then(|found| found.ip);
        let Some(ip) = ip else {
            let facts = PodFacts {
                name: pod,
                streams: Err("there is no such pod, or it has no address".to_owned()),
            };
            return (facts, None);
        };
        let client = match context.engines.client_of(&cluster_id, ip) {
            Ok(client) => client,
            Err(failure) => {
                let facts = PodFacts {
                    name: pod,
                    streams: Err(failure.message),
                };
                return (facts, None);
            }
        };
        let streams = streams(&client, &snapshot.uid().unwrap_or_default())
            .await
            .map_err(|error| error.to_string());
        let client = streams.is_ok().then_some(client);
        (PodFacts { name: pod, streams }, client)
    });
    for (pod, client) in futures::future::join_all(asked).await {
        engines.extend(client.map(|client| (pod.name.clone(), client)));
        facts.pods.push(pod);
    }
    Ok(Observed { facts, engines })
}

async fn streams(
    client: &EngineClient,
    request: &str,
) -> Result<Vec<StreamFacts>, aof2_admin_api::client::ClientError> {
    let (streams, reports) = futures::try_join!(client.streams(), client.snapshots(None))?;
    let mut of_request: BTreeMap<String, SnapshotReport> = reports
        .into_iter()
        .filter(|report| report.request == request)
        .map(|report| (report.stream.clone(), report))
        .collect();
    Ok(streams
        .into_iter()
        .map(|stream| StreamFacts {
            report: of_request.remove(&stream.name),
            name: stream.name,
        })
        .collect())
}
