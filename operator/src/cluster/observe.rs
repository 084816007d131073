//! Reads everything that a plan is made from. Live reads, no cache: a plan made from a stale status or pod could act twice.

use std::collections::{BTreeMap, BTreeSet};

use aof2_crds::{Aof2Cluster, Quantity};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetSpec},
    core::v1::Pod,
};
use kube::{Resource, ResourceExt};

use crate::{
    cluster::{
        build::stateful_set::CLAIM_ANNOTATIONS,
        build::template,
        facts::{Answers, ConfigSource, Observed, Read, StatefulSetFacts, Unread},
        heard, isolation, nodes, pod,
        reader::{self, Reader},
        unbound, validate,
    },
    context::{Context, Sight},
    engines::Whose,
    kube::CallError,
    names,
    snapshot::known::Known,
};

/// What could not be read, so far.
#[derive(Default)]
struct Reads(Vec<Unread>);

impl Reads {
    fn take<T: Default>(&mut self, what: Read, read: Result<T, CallError>) -> T {
        read.unwrap_or_else(|error| {
            self.failed(what, error.describe());
            T::default()
        })
    }

    fn failed(&mut self, what: Read, message: String) {
        self.0.push(Unread { what, message });
    }

    fn is_blind(&self) -> bool {
        self.0.iter().any(|unread| unread.what.is_essential())
    }
}

/// `None`: the cluster was deleted, or is being. An error: the cluster itself cannot be read. What else cannot be is in `unread`.
pub async fn observe(
    context: &Context,
    known: &Known,
    namespace: &str,
    name: &str,
) -> Result<Option<Observed>, CallError> {
    let reader = Reader {
        client: &context.reader,
        namespace,
    };
    let Some(cluster) = reader
        .get::<Aof2Cluster>(name)
        .await?
        .filter(|cluster| cluster.meta().deletion_timestamp.is_none())
    else {
        return Ok(None);
    };
    let (stateful_set, pods, claims, config_source, revision_texts, stored_configs, policies) = futures::join!(
        reader.get::<StatefulSet>(name),
        reader.list::<Pod>(name),
        reader.claims(name),
        reader.config_source(&cluster),
        reader.revision_texts(&cluster),
        reader.stored_configs(&cluster),
        reader.network_policies(),
    );
    let mut reads = Reads::default();
    let stateful_set = reads.take(Read::StatefulSet, stateful_set);
    let pods = reads.take(Read::Pods, pods);
    let claims = reads.take(Read::Claims, claims);
    let revision_texts = reads.take(Read::Revisions, revision_texts);
    let stored_configs = reads.take(Read::StoredConfigs, stored_configs);
    let snapshots = reader::snapshots(known, &cluster).unwrap_or_else(|| {
        let why = "the snapshots have not been listed yet".to_owned();
        reads.failed(Read::Snapshots, why);
        Vec::new()
    });
    let policies = reads.take(Read::NetworkPolicies, policies);
    if let ConfigSource::Unreadable { message, .. } = &config_source {
        reads.failed(Read::ConfigSource, message.clone());
    }
    let own_policy = names::network_policy(name);
    let mut labels: Vec<_> = pods.iter().map(|pod| pod.labels().clone()).collect();
    labels.push(template::labels(name, &cluster.spec));
    let is_isolated = isolation::is_isolated(&policies, &own_policy, &labels);
    let kept_spec = match (&stateful_set, reads.is_blind()) {
        (None, false) => {
            let kept = reader.kept_spec(&cluster).await;
            reads.take(Read::StatefulSet, kept)
        }
        (Some(_), _) | (None, true) => None,
    };
    let orphans = pods
        .iter()
        .filter(|pod| is_orphan(pod))
        .map(ResourceExt::name_any)
        .collect();
    let now = Timestamp::now();
    let found = pods;
    let mut pods: Vec<_> = found
        .iter()
        .filter(|pod| is_ours(pod, stateful_set.as_ref()))
        .filter_map(|pod| pod::read(name, pod, now))
        .collect();
    pods.sort_by_key(|pod| pod.ordinal);
    nodes::look_up(context, &mut pods).await;
    for pod in &mut pods {
        unbound::explain(pod, &claims, &cluster.spec);
    }
    heard::explain_mounts(&reader, &found, &mut pods, now).await;
    let not_created = match stateful_set.as_ref().filter(|_| !reads.is_blind()) {
        Some(set) => {
            let missing = missing(name, set, &found);
            heard::explain_missing(&reader, &set.uid().unwrap_or_default(), &missing).await
        }
        None => BTreeMap::new(),
    };
    let addresses = pods.iter().map(|pod| (pod.ordinal, pod.ip));
    let sight = Sight::of(&cluster, addresses.collect());
    context.sights.put(namespace, name, sight);
    let other_claims = match reads.is_blind() {
        true => BTreeMap::new(),
        false => {
            let mounted: BTreeSet<&str> = pods
                .iter()
                .flat_map(|pod| pod.claims.iter().map(String::as_str))
                .filter(|claim| !claims.contains_key(*claim))
                .collect();
            let found = reader.named_claims(mounted).await;
            reads.take(Read::Claims, found)
        }
    };
    let reports = match Whose::of(&cluster) {
        None => BTreeMap::new(),
        Some(whose) => {
            let reachable = pods
                .iter()
                .filter_map(|pod| Some((pod.name.as_str(), pod.ip?)));
            context.engines.reports(&whose, reachable).await
        }
    };
    let stateful_set = stateful_set.as_ref().map(stateful_set_facts);
    let mut observed = Observed {
        now: Timestamp::now(),
        fresh_id: uuid::Uuid::now_v7().to_string(),
        stateful_set,
        kept_spec,
        orphans,
        not_created,
        pods,
        claims,
        other_claims,
        is_isolated,
        unread: reads.0,
        config_source,
        revision_texts,
        stored_configs,
        snapshots,
        rates: BTreeMap::new(),
        reports,
        answers: Answers::default(),
        image_repository: context.settings.image_repository.clone(),
        users: context.settings.users,
        operator_namespace: context.settings.operator_namespace.clone(),
        ca_secret: context.settings.ca_secret.clone(),
        pod_policy: context.settings.pod_policy.clone(),
        credentials_of_others: BTreeSet::new(),
        client_name: context.settings.client_name(),
        epoch: context.settings.epoch,
        cluster,
    };
    if validate::names_secrets(&observed) || observed.kept_spec.is_some() {
        observed.credentials_of_others = reader.credentials_of_others(name).await?;
    }
    Ok(Some(observed))
}

/// A pod that somebody labelled like ours is no pod of ours.
fn is_ours(pod: &Pod, stateful_set: Option<&StatefulSet>) -> bool {
    let Some(uid) = stateful_set.and_then(ResourceExt::uid) else {
        return false;
    };
    pod.owner_references().iter().any(|owner| owner.uid == uid)
}

/// Names of its pods that are not there.
fn missing(cluster: &str, set: &StatefulSet, found: &[Pod]) -> Vec<String> {
    let replicas = set
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    names::missing_pods(cluster, replicas, |name| {
        found.iter().any(|pod| pod.name_any() == name)
    })
}

/// Its StatefulSet was deleted without it.
fn is_orphan(pod: &Pod) -> bool {
    let is_owned = pod
        .owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true));
    !is_owned && pod.metadata.deletion_timestamp.is_none()
}

fn stateful_set_facts(stateful_set: &StatefulSet) -> StatefulSetFacts {
    let spec = stateful_set.spec.as_ref();
    let template = spec
        .and_then(|spec| spec.template.metadata.as_ref())
        .and_then(|metadata| metadata.annotations.as_ref());
    let annotation = |key: &str| {
        template
            .and_then(|annotations| annotations.get(key))
            .cloned()
            .unwrap_or_default()
    };
    StatefulSetFacts {
        is_terminating: stateful_set.metadata.deletion_timestamp.is_some(),
        replicas: spec.and_then(|spec| spec.replicas).unwrap_or(1),
        sizes: spec.map(claim_sizes).unwrap_or_default(),
        template: annotation(names::TEMPLATE_ANNOTATION),
        version: annotation(names::VERSION_ANNOTATION),
        created_at: stateful_set
            .creation_timestamp()
            .map_or(Timestamp::UNIX_EPOCH, |at| at.0),
        is_observed: stateful_set
            .status
            .as_ref()
            .and_then(|status| status.observed_generation)
            .is_some_and(|generation| generation > 0),
        protects_claims: spec
            .iter()
            .flat_map(|spec| spec.volume_claim_templates.iter().flatten())
            .any(|claim| claim.annotations().contains_key(CLAIM_ANNOTATIONS[0].0)),
    }
}

fn claim_sizes(spec: &StatefulSetSpec) -> BTreeMap<String, Quantity> {
    let templates = spec.volume_claim_templates.iter().flatten();
    templates
        .filter_map(|claim| {
            let resources = claim.spec.as_ref()?.resources.as_ref()?;
            let size = resources.requests.as_ref()?.get("storage")?;
            Some((claim.metadata.name.clone()?, size.0.parse().ok()?))
        })
        .collect()
}
