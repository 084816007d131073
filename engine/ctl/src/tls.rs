//! The client's side of mutual TLS, for `--url`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::exit::Failure;

pub fn config(directory: &Path) -> Result<Arc<rustls::ClientConfig>, Failure> {
    let unreadable = |file: &str, error: &dyn std::fmt::Display| {
        Failure::Usage(format!(
            "{}: {error}; --tls-directory needs tls.crt, tls.key and ca.crt",
            directory.join(file).display()
        ))
    };
    let certificates = |file: &str| -> Result<Vec<CertificateDer<'static>>, Failure> {
        CertificateDer::pem_file_iter(directory.join(file))
            .and_then(Iterator::collect)
            .map_err(|error| unreadable(file, &error))
    };
    let key = PrivateKeyDer::from_pem_file(directory.join("tls.key"))
        .map_err(|error| unreadable("tls.key", &error))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates("ca.crt")? {
        roots
            .add(certificate)
            .map_err(|error| unreadable("ca.crt", &error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = certificates("tls.crt")?;
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| {
            builder
                .with_root_certificates(roots)
                .with_client_auth_cert(chain, key)
        })
        .map_err(|error| unreadable("tls.crt", &error))?;
    Ok(Arc::new(config))
}

/// `https://ADDRESS:PORT`.
pub fn address(url: &str) -> Result<SocketAddr, Failure> {
    let refusal =
        |why: &str| Failure::Usage(format!("--url {url}: {why}; write https://ADDRESS:PORT"));
    let place = url
        .strip_prefix("https://")
        .ok_or_else(|| refusal("is not an https URL"))?;
    place
        .trim_end_matches('/')
        .to_socket_addrs()
        .map_err(|error| refusal(&error.to_string()))?
        .next()
        .ok_or_else(|| refusal("has no address"))
}
