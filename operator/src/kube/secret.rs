//! Secrets: created, or replaced without having been read.

use std::collections::BTreeMap;

use ::kube::{Api, ResourceExt, api::PostParams};
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{CallError, Door, FIELD_MANAGER};

/// Did a POST make the object?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    New,
    Existed,
}

impl Door {
    /// Creates the Secret of the certificate authority, and never replaces it: engines trust what is in it.
    pub async fn create_authority_secret(
        &self,
        namespace: &str,
        name: &str,
        data: &[(&str, &str)],
    ) -> Result<Created, CallError> {
        let labels = BTreeMap::from([
            (
                "app.kubernetes.io/name".to_owned(),
                "aof2-operator".to_owned(),
            ),
            (
                "app.kubernetes.io/managed-by".to_owned(),
                FIELD_MANAGER.to_owned(),
            ),
        ]);
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        };
        let data = data
            .iter()
            .map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec())))
            .collect();
        self.post(&Secret {
            metadata,
            data: Some(data),
            ..Secret::default()
        })
        .await
    }

    /// Writes a Secret whatever was in it before.
    pub async fn write_secret(&self, secret: &Secret) -> Result<(), CallError> {
        if self.post(secret).await? == Created::New {
            return Ok(());
        }
        let key = Self::key(secret);
        let api: Api<Secret> = self.api(&key);
        // Without a resourceVersion a PUT replaces unconditionally.
        let replaced = self
            .call("replace", &key, async {
                let replaced = api.replace(&secret.name_any(), &params(), secret).await?;
                Ok(replaced.metadata)
            })
            .await?;
        self.metrics.wrote("Secret", "replaced");
        if replaced.deletion_timestamp.is_some() {
            return Err(CallError::Going {
                object: format!("{} {}/{}", key.0, key.1, key.2),
            });
        }
        Ok(())
    }

    async fn post(&self, secret: &Secret) -> Result<Created, CallError> {
        let key = Self::key(secret);
        let api: Api<Secret> = self.api(&key);
        match self
            .call("create", &key, async {
                api.create(&params(), secret).await.map(drop)
            })
            .await
        {
            Ok(()) => {
                self.metrics.wrote("Secret", "created");
                tracing::info!(kind = "Secret", namespace = key.1, name = key.2, "created");
                Ok(Created::New)
            }
            Err(error) if error.is_conflict() => Ok(Created::Existed),
            Err(error) => Err(error),
        }
    }
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}
