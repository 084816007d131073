//! Reading certificates.

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What a certificate says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub dns_names: Vec<String>,
    pub server: bool,
    pub client: bool,
    pub authority: bool,
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(certificate)
        .ok()
        .map(|(_, parsed)| parsed)
}

/// When it ends.
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    Timestamp::from_second(parse(certificate)?.validity().not_after.timestamp()).ok()
}

pub fn facts(certificate: &CertificateDer<'_>) -> Option<Facts> {
    let parsed = parse(certificate)?;
    let usage = parsed.extended_key_usage().ok()??.value.clone();
    let dns_names = parsed
        .subject_alternative_name()
        .ok()??
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect();
    Some(Facts {
        dns_names,
        server: usage.server_auth,
        client: usage.client_auth,
        authority: parsed.is_ca(),
    })
}

/// By name and key identifier; the handshake checks the signature itself.
pub fn is_signed_by(certificate: &CertificateDer<'_>, authority: &CertificateDer<'_>) -> bool {
    let (Some(certificate), Some(authority)) = (parse(certificate), parse(authority)) else {
        return false;
    };
    certificate.issuer() == authority.subject()
        && key_identifier_of_issuer(&certificate) == key_identifier(&authority)
}

fn key_identifier(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    use x509_parser::extensions::ParsedExtension;
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        })
}

fn key_identifier_of_issuer(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    use x509_parser::extensions::ParsedExtension;
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                id.key_identifier.as_ref().map(|id| id.0.to_vec())
            }
            _ => None,
        })
}
