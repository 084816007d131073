use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// How a bucket is named in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// `https://<bucket>.<endpoint>/<key>`
    #[default]
    VirtualHost,
    /// `https://<endpoint>/<bucket>/<key>`; what most stores other than AWS want.
    Path,
}

/// How a store proves that the bytes of an object are those that were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// CRC-64/NVME of the whole object; AWS keeps it.
    #[default]
    Crc64Nvme,
    /// `Content-MD5`, which every store knows. Where the ETag is the MD5, it proves later what is kept.
    Md5,
    /// Nothing is sent, and every object is read back and compared.
    None,
}

impl Checksum {
    /// Of the request.
    pub(crate) fn header(self) -> Option<&'static str> {
        match self {
            Checksum::Crc64Nvme => Some("x-amz-checksum-crc64nvme"),
            Checksum::Md5 => Some("Content-MD5"),
            Checksum::None => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct S3Settings {
    /// With scheme. `None` = AWS's endpoint of the region.
    pub endpoint: Option<String>,
    pub region: String,
    pub bucket: String,
    pub addressing: Addressing,
    /// Holds `access_key_id`, `secret_access_key` and perhaps `session_token`; read again by content every 10 s.
    pub credentials_directory: PathBuf,
    /// PEM bundle to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    pub checksum: Checksum,
    /// Of one request, and of each piece of a body.
    pub request_timeout: Duration,
}

impl S3Settings {
    /// For messages.
    pub(crate) fn endpoint_name(&self) -> String {
        self.endpoint
            .clone()
            .unwrap_or_else(|| format!("https://s3.{}.amazonaws.com", self.region))
    }

    pub(crate) fn is_plain_http(&self) -> bool {
        self.endpoint
            .as_ref()
            .is_some_and(|endpoint| endpoint.starts_with("http://"))
    }
}

/// Settings with which no request can be made.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("tier2 endpoint {endpoint:?} has no scheme; write http://HOST or https://HOST")]
    Endpoint { endpoint: String },
    #[error("tier2 bucket is empty; set one")]
    NoBucket,
    #[error("cannot use tier2 CA file {} ({problem}); give a PEM bundle", path.display())]
    CaFile { path: PathBuf, problem: String },
    #[error(
        "tier2 endpoint {endpoint} needs a CA bundle and this system has none; set tier2.ca_file"
    )]
    NothingToTrust { endpoint: String },
    #[error("cannot start the Tier 2 threads")]
    Runtime(#[source] std::io::Error),
}
