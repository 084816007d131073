//! Whose engine is meant.

use aof2_crds::Aof2Cluster;
use kube::{Resource, ResourceExt};

use crate::names;

/// The name that the engine's certificate has to carry, and the cluster that the engine has to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whose {
    pub server_name: String,
    pub cluster_id: String,
}

impl Whose {
    /// `None`: nobody is to be asked, since the object was never stored or has no identity yet, or none that the operator gave it.
    pub fn of(cluster: &Aof2Cluster) -> Option<Self> {
        let status = cluster.status.as_ref()?;
        names::is_cluster_id(&status.cluster_id).then_some(())?;
        Some(Self {
            server_name: names::server_name(cluster.meta().uid.as_ref()?, &cluster.namespace()?),
            cluster_id: status.cluster_id.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing;

    #[test]
    fn the_certificate_is_named_by_what_no_tenant_writes() {
        let mut cluster = testing::at_rest().cluster;
        let named = Whose::of(&cluster).expect("an identity").server_name;
        assert_eq!(
            named,
            "11111111-2222-3333-4444-555555555555.shop.engine.aof2.dev"
        );
        let status = cluster.status.as_mut().expect("it is at rest");
        status.cluster_id = testing::FRESH_ID.to_owned();
        assert_eq!(Whose::of(&cluster).expect("another").server_name, named);
        for forged in ["*", "", "a.b", "0192F0AA-0000-7000-8000-000000000001"] {
            cluster.status.as_mut().expect("it is at rest").cluster_id = forged.to_owned();
            assert_eq!(Whose::of(&cluster), None, "{forged}");
        }
    }
}
