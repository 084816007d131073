//! `tls.crt`, `tls.key` and `ca.crt`, as they are now.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::server::VerifierBuilderError;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::verifier::NamedClientVerifier;
use crate::config::Tls;

/// How often the files are read.
const PERIOD: Duration = Duration::from_secs(2);
const NAMES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// The TLS configuration in force; none until the files are there and work.
#[derive(Default)]
pub struct Certificates {
    config: ArcSwapOption<ServerConfig>,
}

#[derive(Debug, thiserror::Error)]
enum TlsFilesError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} holds no valid PEM: {message}", path.display())]
    Pem { path: PathBuf, message: String },
    #[error("cannot use {} as trust anchor: {source}", path.display())]
    Trust {
        path: PathBuf,
        source: VerifierBuilderError,
    },
    #[error("certificate and key in {} do not match: {source}", directory.display())]
    Pair {
        directory: PathBuf,
        source: rustls::Error,
    },
}

impl Certificates {
    pub fn current(&self) -> Option<Arc<ServerConfig>> {
        self.config.load_full()
    }
}

/// Keeps `certificates` up to date until the process ends.
pub async fn watch(certificates: Arc<Certificates>, tls: Tls) {
    let mut seen: Option<Result<[Vec<u8>; 3], String>> = None;
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let read = read(&tls.directory).map_err(|error| error.to_string());
        if seen.as_ref() == Some(&read) {
            continue;
        }
        match &read {
            Ok(files) => match build(&tls, files) {
                Ok(config) => {
                    certificates.config.store(Some(Arc::new(config)));
                    tracing::info!(directory = %tls.directory.display(), "loaded the certificates of the admin API");
                }
                Err(error) => {
                    tracing::error!(%error, "new certificates of the admin API rejected; the previous ones stay in use")
                }
            },
            Err(error) => tracing::warn!(%error, "waiting for the certificates of the admin API"),
        }
        seen = Some(read);
    }
}

fn read(directory: &Path) -> Result<[Vec<u8>; 3], TlsFilesError> {
    let file = |name: &str| {
        let path = directory.join(name);
        std::fs::read(&path).map_err(|source| TlsFilesError::Read { path, source })
    };
    let [certificate, key, ca] = NAMES;
    Ok([file(certificate)?, file(key)?, file(ca)?])
}

fn build(tls: &Tls, [certificate, key, ca]: &[Vec<u8>; 3]) -> Result<ServerConfig, TlsFilesError> {
    let path = |name: &str| tls.directory.join(name);
    let pem = |name: &str, message: String| TlsFilesError::Pem {
        path: path(name),
        message,
    };
    let [certificate_name, key_name, ca_name] = NAMES;

    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(ca) {
        let root = root.map_err(|error| pem(ca_name, error.to_string()))?;
        roots
            .add(root)
            .map_err(|error| pem(ca_name, error.to_string()))?;
    }
    let verifier = NamedClientVerifier::new(roots, &tls.client_name).map_err(|source| {
        TlsFilesError::Trust {
            path: path(ca_name),
            source,
        }
    })?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| pem(certificate_name, error.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|error| pem(key_name, error.to_string()))?;
    ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain, key)
        .map_err(|source| TlsFilesError::Pair {
            directory: tls.directory.clone(),
            source,
        })
}
