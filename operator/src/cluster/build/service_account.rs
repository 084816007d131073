//! The pods' identity. It has no token and no rights: engines do not talk to the API server.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::Owner;
use crate::names;

pub fn build(owner: &Owner) -> ServiceAccount {
    ServiceAccount {
        metadata: owner.metadata(names::service_account(&owner.name)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
