//! The HTTP client, and whom it trusts.

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};

use crate::settings::{OpenError, S3Settings};

pub(crate) fn http_client(settings: &S3Settings) -> Result<SharedHttpClient, OpenError> {
    let builder = aws_smithy_http_client::Builder::new();
    if settings.is_plain_http() {
        return Ok(builder.build_http());
    }
    let context = TlsContext::builder()
        .with_trust_store(trust_store(settings)?)
        .build();
    let context = context.map_err(|error| ca_problem(settings, error.to_string()))?;
    Ok(builder
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context)
        .build_https())
}

// Read once, like the store's other settings.
#[allow(clippy::disallowed_methods)]
fn trust_store(settings: &S3Settings) -> Result<TrustStore, OpenError> {
    if let Some(path) = &settings.ca_file {
        let pem = std::fs::read(path).map_err(|error| ca_problem(settings, error.to_string()))?;
        if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
            return Err(ca_problem(settings, "no certificate in it".into()));
        }
        return Ok(TrustStore::empty().with_pem_certificate(pem));
    }
    // An image of one binary has none, and the SDK would find out in the middle of the first request.
    let system = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    ];
    let from_environment = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    if !from_environment
        && !system
            .iter()
            .any(|path| std::path::Path::new(path).exists())
    {
        return Err(OpenError::NothingToTrust {
            endpoint: settings.endpoint_name(),
        });
    }
    Ok(TrustStore::empty().with_native_roots(true))
}

fn ca_problem(settings: &S3Settings, problem: String) -> OpenError {
    OpenError::CaFile {
        path: settings.ca_file.clone().unwrap_or_default(),
        problem,
    }
}
