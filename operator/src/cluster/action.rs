//! What a plan asks for. Every action may be repeated: it changes nothing when it was done already.

use std::net::IpAddr;

use aof2_admin_api::client::DrainBounds;
use aof2_crds::Aof2Snapshot;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};

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
                | Desired::ConfigMap(_),
            )
            | Self::RemoveDisruptionBudget => 0,
            Self::CreateSnapshot(_)
            | Self::RemoveSnapshot { .. }
            | Self::RemoveConfigMap { .. }
            | Self::IssueCertificate => 1,
            Self::Nudge { .. } => 2,
            Self::RestartEngine { .. } | Self::Resume { .. } | Self::StartDrain { .. } => 4,
            Self::RemovePod { .. } => 5,
        }
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
