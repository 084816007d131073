//! The Secret of the engines' certificate. It is mounted as an optional volume: pods start without it and wait for the files.

use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::Owner;
use crate::{
    names,
    pki::{
        Authority, Issued,
        authority::{BUNDLE_FILE, CERTIFICATE_FILE, KEY_FILE},
    },
};

/// A type never changes, so that writing over a Secret of the same name that somebody else made is refused by the API server.
const SECRET_TYPE: &str = "aof2.dev/engine-tls";

pub fn build(owner: &Owner, issued: &Issued, authority: &Authority) -> Secret {
    let files = [
        (CERTIFICATE_FILE, issued.certificate_pem.as_str()),
        (KEY_FILE, issued.key_pem.as_str()),
        (BUNDLE_FILE, authority.bundle_pem()),
    ];
    Secret {
        metadata: owner.metadata(names::tls_secret(&owner.name)),
        data: Some(
            files
                .into_iter()
                .map(|(name, pem)| (name.to_owned(), ByteString(pem.as_bytes().to_vec())))
                .collect(),
        ),
        type_: Some(SECRET_TYPE.to_owned()),
        ..Secret::default()
    }
}
