//! What a plan asks for. Every action may be repeated: it changes nothing when it was done already.

use std::net::IpAddr;

use aof2_admin_api::client::DrainBounds;
use aof2_crds::{Aof2Snapshot, Quantity};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};

use sha2::{Digest, Sha256};

use crate::{cluster::build::stateful_set::StatefulSet, kube::PodTarget, rollout::RemoveBy};

#[derive(Clone, Debug)]
pub enum Action {
    Apply(Desired),
    RemoveDisruptionBudget,
    /// A new key and certificate for the engines, written over the old one.
    IssueCertificate,
    /// Makes the kubelet of the pod sync its volumes.
    Nudge {
        target: PodTarget,
        value: String,
    },
    /// Of the engine's container alone; the pod stays.
    RestartEngine {
        pod: String,
        ip: IpAddr,
        /// Of the process that is meant.
        process_start: String,
    },
    /// Asks for a larger volume.
    ExpandClaim {
        name: String,
        uid: String,
        size: Quantity,
    },
    CreateSnapshot(Box<Aof2Snapshot>),
    RemoveSnapshot {
        namespace: String,
        name: String,
        uid: String,
    },
    /// Of a revision or evidence that nobody needs any more.
    RemoveConfigMap {
        name: String,
    },
    StartDrain {
        pod: String,
        ip: IpAddr,
        bounds: DrainBounds,
        /// Damaged streams that it does not wait for.
        without: Vec<String>,
    },
    Resume {
        pod: String,
        ip: IpAddr,
    },
    RemovePod {
        target: PodTarget,
        resource_version: String,
        by: RemoveBy,
    },
}

#[derive(Clone, Debug)]
pub enum Desired {
    ServiceAccount(Box<ServiceAccount>),
    Service(Box<Service>),
    NetworkPolicy(Box<NetworkPolicy>),
    DisruptionBudget(Box<PodDisruptionBudget>),
    ConfigMap(Box<ConfigMap>),
    /// Of what a StatefulSet is recreated from: no pod reads it.
    KeptSpec(Box<ConfigMap>),
    StatefulSet(Box<StatefulSet>),
}

impl Action {
    /// The order in which actions are done: what pods read comes before pods, and what ends a pod comes last.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Apply(Desired::StatefulSet(_)) => 3,
            Self::Apply(
                Desired::ServiceAccount(_)
                | Desired::Service(_)
                | Desired::NetworkPolicy(_)
                | Desired::DisruptionBudget(_)
                | Desired::ConfigMap(_)
                | Desired::KeptSpec(_),
            )
            | Self::RemoveDisruptionBudget => 0,
            Self::CreateSnapshot(_)
            | Self::RemoveSnapshot { .. }
            | Self::RemoveConfigMap { .. }
            | Self::ExpandClaim { .. }
            | Self::IssueCertificate => 1,
            Self::Nudge { .. } => 2,
            Self::RestartEngine { .. } | Self::Resume { .. } | Self::StartDrain { .. } => 4,
            Self::RemovePod { .. } => 5,
        }
    }
}

impl Action {
    /// What is to be done, in a text: another wish is another text.
    pub fn id(&self) -> String {
        match self {
            Self::Apply(desired) => desired.id(),
            Self::CreateSnapshot(snapshot) => {
                format!(
                    "create {}",
                    snapshot.metadata.name.as_deref().unwrap_or_default()
                )
            }
            // Neither an address nor a version of the object: they change while the wish stays.
            Self::RemovePod { target, .. } => format!("remove pod {}", target.uid),
            Self::StartDrain { pod, without, .. } => {
                format!("drain {pod} without {}", without.join(","))
            }
            Self::Resume { pod, .. } => format!("resume {pod}"),
            Self::RestartEngine {
                pod, process_start, ..
            } => format!("restart {pod} {process_start}"),
            Self::Nudge { target, .. } => format!("nudge {}", target.uid),
            Self::RemoveSnapshot { uid, .. } => format!("remove snapshot {uid}"),
            Self::RemoveConfigMap { name } => format!("remove ConfigMap {name}"),
            Self::ExpandClaim { uid, size, .. } => format!("expand claim {uid} to {size}"),
            Self::RemoveDisruptionBudget => "remove the DisruptionBudget".to_owned(),
            Self::IssueCertificate => "issue the certificate".to_owned(),
        }
    }

    /// Of what this action is a part for others.
    pub fn role(&self) -> Role {
        match self {
            Self::Apply(Desired::ConfigMap(_) | Desired::ServiceAccount(_)) => Role::PodsNeedIt,
            Self::Apply(Desired::StatefulSet(_)) => Role::MakesPods,
            Self::StartDrain { .. } | Self::RestartEngine { .. } | Self::RemovePod { .. } => {
                Role::TakesPods
            }
            Self::Apply(
                Desired::Service(_)
                | Desired::NetworkPolicy(_)
                | Desired::DisruptionBudget(_)
                | Desired::KeptSpec(_),
            )
            | Self::RemoveDisruptionBudget
            | Self::IssueCertificate
            | Self::Nudge { .. }
            | Self::ExpandClaim { .. }
            | Self::CreateSnapshot(_)
            | Self::RemoveSnapshot { .. }
            | Self::RemoveConfigMap { .. }
            | Self::Resume { .. } => Role::Alone,
        }
    }
}

/// Which actions rest on which: each role on the ones before it, and what stands alone on none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A pod that is made now would not start without it.
    PodsNeedIt,
    MakesPods,
    /// The pod, or its engine, comes back by what was written before.
    TakesPods,
    Alone,
}

impl Desired {
    fn id(&self) -> String {
        let (kind, text) = match self {
            Self::ServiceAccount(object) => ("ServiceAccount", serde_json::to_string(object)),
            Self::Service(object) => ("Service", serde_json::to_string(object)),
            Self::NetworkPolicy(object) => ("NetworkPolicy", serde_json::to_string(object)),
            Self::DisruptionBudget(object) => ("DisruptionBudget", serde_json::to_string(object)),
            Self::ConfigMap(object) | Self::KeptSpec(object) => {
                ("ConfigMap", serde_json::to_string(object))
            }
            Self::StatefulSet(object) => ("StatefulSet", serde_json::to_string(object)),
        };
        let digest = hex::encode(&Sha256::digest(text.unwrap_or_default())[..8]);
        format!("apply {kind} {digest}")
    }
}

macro_rules! from_object {
    ($($kind:ident => $variant:ident),+) => {
        $(impl From<$kind> for Desired {
            fn from(object: $kind) -> Self {
                Self::$variant(Box::new(object))
            }
        })+
    };
}

from_object!(
    ServiceAccount => ServiceAccount, Service => Service, NetworkPolicy => NetworkPolicy,
    PodDisruptionBudget => DisruptionBudget, ConfigMap => ConfigMap, StatefulSet => StatefulSet
);
