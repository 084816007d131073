//! A small healthy cluster, for tests of the pure parts.

use std::collections::{BTreeMap, BTreeSet};

use aof2_admin_api::{Dump, PostRestart};
use aof2_crds::Aof2Cluster;
use serde_json::json;

use crate::cluster::{
    build::template,
    config::{Revision, UserConfig},
    facts::{Answers, ClaimFacts, ConfigSource, Container, Observed, PodFacts, StatefulSetFacts},
    plan::Shares,
};
use crate::engines::{Answer, Report};
use crate::names;
use crate::pod_policy::{Policy, Users};

pub const FRESH_ID: &str = "0192f0aa-0000-7000-8000-000000000001";
pub const CLUSTER_ID: &str = "0192f0aa-0000-7000-8000-0000000000aa";
pub const NOW: &str = "2026-09-21T10:00:00Z";

pub fn cluster() -> Aof2Cluster {
    serde_json::from_value(json!({
        "apiVersion": "aof2.dev/v1alpha1",
        "kind": "Aof2Cluster",
        "metadata": {"name": "orders", "namespace": "shop", "uid": "11111111-2222-3333-4444-555555555555", "generation": 1, "resourceVersion": "1"},
        "spec": {
            "replicas": 3,
            "version": "0.1.0",
            "storage": {"tier0": {"size": "20Gi", "storageClassName": "local"}},
            "tier2": {
                "endpoint": "https://s3.test", "region": "eu-central-1", "bucket": "acme-aof2", "prefix": "prod/orders/",
                "addressing": "Path", "credentials": {"secretRef": {"name": "orders-s3"}},
            },
            "podTemplate": {"spec": {"containers": [{"name": "writer", "image": "writer:1"}]}},
        },
    }))
    .unwrap()
}

/// A cluster that was never seen before.
pub fn observed() -> Observed {
    Observed {
        now: NOW.parse().unwrap(),
        cluster: cluster(),
        fresh_id: FRESH_ID.to_owned(),
        stateful_set: None,
        kept_spec: None,
        orphans: Vec::new(),
        not_created: BTreeMap::new(),
        pods: Vec::new(),
        claims: BTreeMap::new(),
        other_claims: BTreeMap::new(),
        is_isolated: false,
        unread: Vec::new(),
        config_source: ConfigSource::Unset,
        revision_texts: BTreeMap::new(),
        stored_configs: Vec::new(),
        snapshots: Vec::new(),
        rates: BTreeMap::new(),
        reports: BTreeMap::new(),
        answers: Answers::default(),
        image_repository: "registry.test/aof2-engine".to_owned(),
        users: Users::Fixed,
        operator_namespace: "storage".to_owned(),
        ca_secret: "aof2-operator-ca".to_owned(),
        pod_policy: Policy::default(),
        credentials_of_others: BTreeSet::new(),
        client_name: "operator.storage.aof2.dev".to_owned(),
        epoch: 1_795_400_003,
    }
}

pub fn revision(observed: &Observed) -> Revision {
    Revision::new(&UserConfig::default(), observed.cluster.spec.tier2.as_ref())
}

/// A cluster at rest, with as many pods as its spec says.
pub fn at_rest() -> Observed {
    let mut observed = observed();
    let revision = revision(&observed);
    let digest = template::digest(&observed.cluster.spec, &observed.image_repository);
    let replicas = observed.cluster.spec.replicas;
    observed.stateful_set = Some(StatefulSetFacts {
        is_terminating: false,
        replicas,
        sizes: BTreeMap::from([(
            "tier0".to_owned(),
            observed.cluster.spec.storage.tier0.size.clone(),
        )]),
        template: digest,
        version: "0.1.0".into(),
        created_at: observed.now - jiff::SignedDuration::from_hours(1),
        is_observed: true,
        protects_claims: true,
    });
    let shares = Shares::even(&names::pods("orders", replicas));
    for ordinal in 0..replicas {
        add_pod(
            &mut observed,
            ordinal,
            shares.of(&names::pod("orders", ordinal), revision.cluster_max_bytes()),
        );
    }
    observed.revision_texts = BTreeMap::from([(revision.hash.clone(), revision.text())]);
    let not_after = observed.now + jiff::SignedDuration::from_hours(24 * 80);
    observed.cluster.status = Some(
        serde_json::from_value(json!({
            "clusterID": CLUSTER_ID,
            "config": {"target": revision.hash, "current": revision.hash, "lastGood": revision.hash},
            "certificates": [{"name": "engine", "notAfter": not_after.to_string(), "renewAt": (not_after - jiff::SignedDuration::from_hours(24 * 30)).to_string()}],
        }))
        .unwrap(),
    );
    // What the operator itself would say about it.
    observed.cluster.status = Some(crate::cluster::plan::plan(&observed).status);
    observed
}

pub fn add_pod(observed: &mut Observed, ordinal: i32, quota: u64) {
    let name = names::pod("orders", ordinal);
    let claim = names::claim("tier0", &name);
    observed.claims.insert(
        claim.clone(),
        ClaimFacts {
            uid: format!("claim-{ordinal}"),
            cluster_id: CLUSTER_ID.to_owned(),
            created_at: observed.now - jiff::SignedDuration::from_hours(1),
            is_terminating: false,
            unbound_class: None,
            bytes: Some(20 << 30),
            requested_bytes: Some(20 << 30),
            resize_trouble: None,
        },
    );
    observed.pods.push(PodFacts {
        name: name.clone(),
        ordinal,
        uid: format!("uid-{ordinal}"),
        resource_version: format!("10{ordinal}"),
        ip: Some(format!("10.0.0.{}", ordinal + 1).parse().unwrap()),
        node: "node-1".into(),
        template: template::digest(&observed.cluster.spec, &observed.image_repository),
        version: observed.cluster.spec.version.clone(),
        created_at: observed.now - jiff::SignedDuration::from_hours(1),
        claims: vec![claim],
        deletion: None,
        is_ready: true,
        is_on_lost_node: false,
        node_trouble: None,
        engine: Container {
            is_running: true,
            has_started: true,
            ..Container::default()
        },
        creating_since: None,
        trouble: None,
        nudge: None,
    });
    let dump = dump(observed, &name, quota);
    let post_restart = PostRestart {
        node: name.clone(),
        version: dump.version.clone(),
        process_start: dump.process_start.clone(),
        ready: true,
        replay_progress: 1.0,
        caught_up: true,
        min_reader_version: "0.1.0".into(),
        ..PostRestart::default()
    };
    observed.reports.insert(
        name,
        Report::Answered(Box::new(Answer {
            dump,
            post_restart: Some(post_restart),
        })),
    );
}

fn dump(observed: &Observed, name: &str, quota: u64) -> Dump {
    let mut dump = Dump {
        version: observed.cluster.spec.version.clone(),
        node: name.to_owned(),
        node_id: FRESH_ID.to_owned(),
        volume_id: format!("volume-of-{}", name.replace('-', "")),
        cluster_id: CLUSTER_ID.to_owned(),
        process_start: "2026-09-21T09:00:00Z".into(),
        ready: true,
        ..Dump::default()
    };
    dump.config.revision = revision(observed).hash;
    dump.tier0.instance_quota_bytes = quota;
    dump
}

pub fn answer<'a>(observed: &'a mut Observed, pod: &str) -> &'a mut Answer {
    match observed.reports.get_mut(pod) {
        Some(Report::Answered(answer)) => answer,
        _ => panic!("{pod} does not answer"),
    }
}
