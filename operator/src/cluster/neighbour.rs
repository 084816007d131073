//! Another `Aof2Cluster` of the namespace, as far as one cluster has to know of another: whatever else is in it, however deep, is passed
//! over.

use std::borrow::Cow;

use aof2_crds::{Aof2Cluster, tier2::Credentials};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, core::NamespaceResourceScope};
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
pub struct Neighbour {
    metadata: Named,
    #[serde(default)]
    pub spec: Option<Spec>,
}

/// The name alone: `managedFields` is as deep as the spec.
#[derive(Clone, Debug)]
struct Named(ObjectMeta);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Name {
            name: Option<String>,
        }
        let Name { name } = Name::deserialize(deserializer)?;
        Ok(Self(ObjectMeta {
            name,
            ..ObjectMeta::default()
        }))
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct Spec {
    #[serde(default)]
    pub tier2: Option<Tier2>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Tier2 {
    pub credentials: Credentials,
}

impl Resource for Neighbour {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        Aof2Cluster::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Aof2Cluster::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Aof2Cluster::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Aof2Cluster::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata.0
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata.0
    }
}
