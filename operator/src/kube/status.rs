//! Status of a cluster: written by PUT under the resourceVersion that was observed, so that two writers cannot interleave.

use ::kube::{Api, ResourceExt, api::PostParams};
use aof2_crds::{Aof2Cluster, Aof2ClusterStatus};

use super::{CallError, Door, FIELD_MANAGER};

impl Door {
    /// Writes when something differs; returns the resourceVersion that the next write has to carry.
    pub async fn write_status(
        &self,
        observed: &Aof2Cluster,
        status: &Aof2ClusterStatus,
    ) -> Result<Option<Aof2Cluster>, CallError> {
        if observed.status.as_ref() == Some(status) {
            return Ok(None);
        }
        let key = (
            "Aof2Cluster".to_owned(),
            observed.namespace().unwrap_or_default(),
            observed.name_any(),
        );
        let api: Api<Aof2Cluster> = self.api(&key);
        let mut body = observed.clone();
        body.metadata.managed_fields = None;
        body.status = Some(status.clone());
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let written = self
            .call(
                "write the status of",
                &key,
                api.replace_status(&key.2, &params, &body),
            )
            .await?;
        self.metrics.wrote("Aof2Cluster", "status");
        Ok(Some(written))
    }
}
