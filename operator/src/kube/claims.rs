//! Asks for larger volumes.

use ::kube::api::{Patch, PatchParams};
use aof2_crds::Quantity;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::json;

use super::{CallError, Door, FIELD_MANAGER};

impl Door {
    /// Raises what this very claim asks for. The API server refuses it where the storage class does not allow it.
    pub async fn expand_claim(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        size: &Quantity,
    ) -> Result<(), CallError> {
        let key = (
            "PersistentVolumeClaim".to_owned(),
            namespace.to_owned(),
            name.to_owned(),
        );
        // With the uid, another claim under the name is a conflict.
        let patch = json!({
            "metadata": {"uid": uid},
            "spec": {"resources": {"requests": {"storage": size}}},
        });
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let api = self.api::<PersistentVolumeClaim>(&key);
        self.call(
            "patch",
            &key,
            api.patch(name, &params, &Patch::Merge(&patch)),
        )
        .await?;
        self.metrics.wrote(&key.0, "expanded");
        tracing::info!(
            namespace,
            claim = name,
            size = size.as_str(),
            "expanding the volume of a claim"
        );
        Ok(())
    }
}
