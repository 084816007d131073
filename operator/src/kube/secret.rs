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

    /// Writes a Secret whatever was in it before, as long as it is of the same type: a namesake that somebody made for another purpose is
    /// refused as `Foreign`.
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
            .await;
        let replaced = match replaced {
            // Of another type, which cannot change: another's.
            Err(error) if error.code() == Some(422) => {
                return Err(CallError::Foreign {
                    object: format!("Secret {}/{}", key.1, key.2),
                });
            }
            other => other?,
        };
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::{Json, Router, extract::Request, http::StatusCode};
    use serde_json::{Value, json};

    use super::*;
    use crate::runtime::metrics::Metrics;

    /// As an API server that has a Secret of this name and another type: types are immutable.
    async fn refuse(request: Request) -> (StatusCode, Json<Value>) {
        let code = match request.method().as_str() {
            "POST" => 409,
            _ => 422,
        };
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": "Invalid",
            "message": "Secret \"search-engine-tls\" is invalid: type: Invalid value: \"aof2.dev/engine-tls\": field is immutable",
        });
        let code = StatusCode::from_u16(code).expect("a status");
        (code, Json(status))
    }

    #[tokio::test]
    async fn a_namesake_of_another_type_is_named_and_not_overwritten() {
        let client = ::kube::Client::new(Router::new().fallback(refuse), "shop");
        let door = Door::new(client, "test", Arc::new(Metrics::default()));
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some("search-engine-tls".to_owned()),
                namespace: Some("shop".to_owned()),
                ..ObjectMeta::default()
            },
            ..Secret::default()
        };
        let error = door.write_secret(&secret).await.expect_err("another's");
        assert!(matches!(error, CallError::Foreign { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("Secret shop/search-engine-tls") && text.contains("delete it"),
            "{text}"
        );
    }
}
