//! Certificates of the admin API: one authority per operator, a server certificate per cluster, a client certificate per process.
//!
//! The authority's key lives in a Secret of the operator's namespace. The operator creates that Secret and never reads it through the
//! API: it is mounted into the operator's pods as an optional volume. Who creates it (201) goes on with the copy in memory, who comes
//! second (409) waits for the kubelet to mount it. So RBAC grants `create` and `update` on Secrets and nothing that returns one.

pub mod authority;
pub mod certificate;
pub mod source;

pub use authority::{Authority, Issued};
pub use source::obtain;

/// Why a certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("generate a key")]
    GenerateKey(#[source] rcgen::Error),
    #[error("{name:?} is not the DNS name of one host; the authority signs for no other")]
    Name { name: String },
    #[error("sign the certificate of {subject}")]
    Sign {
        subject: String,
        source: rcgen::Error,
    },
    #[error(
        "the certificate authority in {place} cannot be read ({message}). Delete the Secret and restart the operator to create a new authority"
    )]
    ReadAuthority { place: String, message: String },
    #[error("read {path}")]
    ReadFile {
        path: String,
        source: std::io::Error,
    },
    #[error("TLS settings for {subject}")]
    Tls {
        subject: String,
        source: rustls::Error,
    },
}
