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
        if is_same(observed.status.as_ref(), status) {
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

/// As they are stored: a time holds whole seconds there, and more in memory.
fn is_same(stored: Option<&Aof2ClusterStatus>, status: &Aof2ClusterStatus) -> bool {
    let json = |status| serde_json::to_value(status).unwrap_or_default();
    stored.is_some_and(|stored| json(stored) == json(status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aof2_crds::status::CertificateStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    #[test]
    fn a_fraction_of_a_second_is_no_reason_to_write() {
        let ending = |at: &str| {
            let at = Time(at.parse().unwrap());
            let certificate = CertificateStatus {
                name: "engine".into(),
                not_after: at.clone(),
                renew_at: at,
            };
            Aof2ClusterStatus {
                certificates: vec![certificate],
                ..Aof2ClusterStatus::default()
            }
        };
        let stored = ending("2026-09-21T10:00:00Z");
        assert!(is_same(Some(&stored), &ending("2026-09-21T10:00:00.7Z")));
        assert!(!is_same(Some(&stored), &ending("2026-09-21T10:00:01Z")));
        assert!(!is_same(None, &Aof2ClusterStatus::default()));
    }
}
