//! The certificate authority: makes itself, and signs for engines and for the operator.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};

use crate::pki::{PkiError, certificate};

const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(90 * 86_400);
/// Clocks of nodes differ.
const BACKDATED: SignedDuration = SignedDuration::from_mins(10);

/// Names of the keys in the Secrets and of the files where they are mounted.
pub const CERTIFICATE_FILE: &str = "tls.crt";
pub const KEY_FILE: &str = "tls.key";
/// Every authority that is trusted, so that a later rotation can overlap.
pub const BUNDLE_FILE: &str = "ca.crt";

/// A signing authority and the bundle that its certificates are checked against.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    key_pem: String,
    bundle_pem: String,
    bundle: Vec<CertificateDer<'static>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A signed certificate with its key.
pub struct Issued {
    pub certificate_pem: String,
    pub key_pem: String,
    pub not_after: Timestamp,
    /// At two thirds of the lifetime.
    pub renew_at: Timestamp,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Issued {
    /// For a TLS endpoint of this process.
    pub fn into_der(self) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), PkiError> {
        let place = "an issued certificate".to_owned();
        let read = |error: rustls_pki_types::pem::Error| PkiError::ReadAuthority {
            place: place.clone(),
            message: error.to_string(),
        };
        let certificate =
            CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).map_err(read)?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(read)?;
        Ok((certificate, key.into()))
    }
}

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// An engine's listener.
    Server,
    /// The operator's calls.
    Client,
}

impl Authority {
    pub fn generate(operator_namespace: &str, now: Timestamp) -> Result<Self, PkiError> {
        let subject = format!("AOF2 operator in {operator_namespace}");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(PkiError::GenerateKey)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&subject);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut params, now, AUTHORITY_LIFETIME);
        let certificate = params
            .self_signed(&key)
            .map_err(|source| PkiError::Sign { subject, source })?
            .pem();
        Self::from_pem("memory", &certificate, &key.serialize_pem(), &certificate)
    }

    /// From the files of the mounted Secret; `place` is for messages.
    pub fn from_pem(
        place: &str,
        certificate_pem: &str,
        key_pem: &str,
        bundle_pem: &str,
    ) -> Result<Self, PkiError> {
        let bad = |message: String| PkiError::ReadAuthority {
            place: place.to_owned(),
            message,
        };
        let key =
            KeyPair::from_pem(key_pem).map_err(|error| bad(format!("{KEY_FILE}: {error}")))?;
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, key)
            .map_err(|error| bad(format!("{CERTIFICATE_FILE}: {error}")))?;
        let bundle = CertificateDer::pem_slice_iter(bundle_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| bad(format!("{BUNDLE_FILE}: {error}")))?;
        if bundle.is_empty() {
            return Err(bad(format!("{BUNDLE_FILE} holds no certificate")));
        }
        Ok(Self {
            issuer,
            certificate_pem: certificate_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            bundle_pem: bundle_pem.to_owned(),
            bundle,
        })
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    pub fn bundle_pem(&self) -> &str {
        &self.bundle_pem
    }

    pub fn bundle(&self) -> &[CertificateDer<'static>] {
        &self.bundle
    }

    /// A new key and a certificate for exactly one DNS name and one usage. A wildcard, which would answer for everybody, is no name.
    pub fn issue(&self, dns_name: &str, usage: Usage, now: Timestamp) -> Result<Issued, PkiError> {
        if !is_host_name(dns_name) {
            return Err(PkiError::Name {
                name: dns_name.chars().take(300).collect(),
            });
        }
        let sign = |source| PkiError::Sign {
            subject: dns_name.to_owned(),
            source,
        };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(PkiError::GenerateKey)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::DnsName(dns_name.try_into().map_err(sign)?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, now, CERTIFICATE_LIFETIME);
        let certificate = params.signed_by(&key, &self.issuer).map_err(sign)?;
        let not_after =
            certificate::not_after(certificate.der()).ok_or_else(|| PkiError::ReadAuthority {
                place: dns_name.to_owned(),
                message: "the issued certificate has no end".to_owned(),
            })?;
        let lifetime = SignedDuration::try_from(CERTIFICATE_LIFETIME).unwrap_or_default();
        Ok(Issued {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            not_after,
            renew_at: not_after - lifetime / 3,
        })
    }
}

/// Of labels with letters, digits and inner dashes.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        matches!(label.len(), 1..=63)
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Full seconds, since a certificate holds no fraction.
fn validity(params: &mut CertificateParams, now: Timestamp, lifetime: Duration) {
    let day_zero = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = |timestamp: Timestamp| {
        Duration::from_secs(u64::try_from(timestamp.as_second()).unwrap_or_default())
    };
    params.not_before = day_zero + seconds(now - BACKDATED);
    params.not_after = day_zero + seconds(now) + lifetime;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-09-21T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn an_authority_read_back_signs_what_its_bundle_verifies() {
        let made = Authority::generate("storage", now()).unwrap();
        let read = Authority::from_pem(
            "test",
            made.certificate_pem(),
            made.key_pem(),
            made.bundle_pem(),
        )
        .unwrap();
        let issued = read
            .issue("id.engine.aof2.dev", Usage::Server, now())
            .unwrap();
        let (certificate, _) = issued.into_der().unwrap();
        assert!(certificate::is_signed_by(&certificate, &made.bundle()[0]));
        let stranger = Authority::generate("storage", now()).unwrap();
        assert!(!certificate::is_signed_by(
            &certificate,
            &stranger.bundle()[0]
        ));
    }

    #[test]
    fn certificates_name_one_host_and_one_usage() {
        let authority = Authority::generate("storage", now()).unwrap();
        for (usage, server, client) in [(Usage::Server, true, false), (Usage::Client, false, true)]
        {
            let (certificate, _) = authority
                .issue("a.aof2.dev", usage, now())
                .unwrap()
                .into_der()
                .unwrap();
            let facts = certificate::facts(&certificate).unwrap();
            assert_eq!(
                (
                    facts.dns_names.as_slice(),
                    facts.server,
                    facts.client,
                    facts.authority
                ),
                (&["a.aof2.dev".to_owned()][..], server, client, false)
            );
        }
    }

    #[test]
    fn no_certificate_is_issued_for_more_than_one_host() {
        let authority = Authority::generate("storage", now()).unwrap();
        for name in [
            "*.engine.aof2.dev",
            "*",
            "a.*.aof2.dev",
            "",
            "a..aof2.dev",
            "a.aof2.dev\0.evil",
            "10.0.0.1/8",
            "-a.aof2.dev",
        ] {
            let refused = authority.issue(name, Usage::Server, now());
            assert!(
                matches!(refused, Err(PkiError::Name { .. })),
                "{name}: {refused:?}"
            );
        }
    }

    #[test]
    fn renewal_is_due_at_two_thirds_of_ninety_days() {
        let issued = Authority::generate("storage", now())
            .unwrap()
            .issue("a.aof2.dev", Usage::Server, now())
            .unwrap();
        assert_eq!(issued.not_after, "2026-12-20T10:00:00Z".parse().unwrap());
        assert_eq!(issued.renew_at, "2026-11-20T10:00:00Z".parse().unwrap());
    }

    #[test]
    fn a_spoilt_authority_is_refused_with_the_file_and_the_remedy() {
        let made = Authority::generate("storage", now()).unwrap();
        let error = Authority::from_pem(
            "/etc/aof2/ca",
            made.certificate_pem(),
            "spoilt",
            made.bundle_pem(),
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("/etc/aof2/ca")
                && error.contains("tls.key")
                && error.contains("Delete the Secret"),
            "{error}"
        );
    }
}
