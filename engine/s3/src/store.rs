use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, Instant};

use aof2_core::objects::{
    Attempt, Object, ObjectError, ObjectMeta, ObjectStore, PutOutcome, Upload,
};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, IdentityCache, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::types::ChecksumMode;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::body;
use crate::classify::{Answer, answer};
use crate::credentials::{KeyFiles, Keys};
use crate::settings::{Addressing, OpenError, S3Settings};

/// Name of the put-id in the object's user metadata.
const PUT_ID: &str = "aof2-put-id";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A body may take this long per MiB before a request is given up.
const PER_MIB: Duration = Duration::from_secs(1);

pub struct S3Store {
    settings: S3Settings,
    runtime: Background,
    http: SharedHttpClient,
    client: Mutex<Signing>,
}

/// The client and the keys that it signs with.
struct Signing {
    files: KeyFiles,
    current: Option<(Keys, Client)>,
}

/// A runtime that may be dropped anywhere, also where waiting for its threads is not allowed.
struct Background(Option<tokio::runtime::Runtime>);

impl Background {
    fn handle(&self) -> &tokio::runtime::Handle {
        self.0.as_ref().expect("there until it is dropped").handle()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Clone, Copy)]
enum Condition<'a> {
    None,
    Absent,
    Match(&'a str),
}

impl S3Store {
    /// Makes no request.
    pub fn open(settings: S3Settings) -> Result<S3Store, OpenError> {
        if settings.bucket.is_empty() {
            return Err(OpenError::NoBucket);
        }
        if let Some(endpoint) = &settings.endpoint
            && !(endpoint.starts_with("http://") || endpoint.starts_with("https://"))
        {
            return Err(OpenError::Endpoint {
                endpoint: endpoint.clone(),
            });
        }
        let http = http_client(&settings)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("aof2-s3")
            .enable_all()
            .build()
            .map_err(OpenError::Runtime)?;
        let files = KeyFiles::new(settings.credentials_directory.clone());
        Ok(S3Store {
            settings,
            runtime: Background(Some(runtime)),
            http,
            client: Mutex::new(Signing {
                files,
                current: None,
            }),
        })
    }

    /// With the keys of now; a client is made again only when they changed.
    fn client(&self, attempt: &Attempt) -> Result<Client, ObjectError> {
        let mut signing = self.client.lock();
        let keys =
            signing
                .files
                .keys(Instant::now())
                .map_err(|cause| ObjectError::AccessDenied {
                    attempt: attempt.clone(),
                    cause,
                })?;
        if let Some((current, client)) = &signing.current
            && *current == keys
        {
            return Ok(client.clone());
        }
        let client = self.client_with(&keys);
        signing.current = Some((keys, client.clone()));
        Ok(client)
    }

    fn client_with(&self, keys: &Keys) -> Client {
        let credentials = Credentials::new(
            &keys.access_key_id,
            &keys.secret_access_key,
            keys.session_token.clone(),
            None,
            "aof2-credentials-directory",
        );
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.settings.region.clone()))
            .credentials_provider(credentials)
            .identity_cache(IdentityCache::no_cache())
            .http_client(self.http.clone())
            .force_path_style(self.settings.addressing == Addressing::Path)
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .build(),
            )
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(endpoint) = &self.settings.endpoint {
            config = config.endpoint_url(endpoint);
        }
        Client::from_conf(config.build())
    }

    fn attempt(&self, verb: &'static str, key: &str) -> Attempt {
        Attempt {
            verb,
            key: key.to_owned(),
            place: self.place(),
        }
    }

    /// One request with its time limit. `Ok(Err(answer))`: the store, or the way to it, said no.
    fn call<T, E, F>(
        &self,
        attempt: &Attempt,
        body_bytes: u64,
        request: impl FnOnce(Client) -> F,
    ) -> Result<Result<T, Answer>, ObjectError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let client = self.client(attempt)?;
        let limit = self.limit(body_bytes);
        let result = self
            .runtime
            .handle()
            .block_on(async { tokio::time::timeout(limit, request(client)).await });
        let answered = match result {
            Ok(answered) => answered.map_err(answer),
            Err(_) => Err(Answer::Nothing(format!(
                "no answer within {} s",
                limit.as_secs_f32()
            ))),
        };
        // They may have been rotated just now.
        if let Err(no) = &answered
            && no.is_refusal_of_keys()
        {
            self.client.lock().files.forget();
        }
        Ok(answered)
    }

    fn limit(&self, body_bytes: u64) -> Duration {
        self.settings.request_timeout
            + PER_MIB * u32::try_from(body_bytes >> 20).unwrap_or(u32::MAX)
    }

    fn put_once(
        &self,
        key: &str,
        upload: &Upload,
        condition: Condition<'_>,
    ) -> Result<PutOutcome, ObjectError> {
        let attempt = self.attempt("put", key);
        let size_bytes = upload.size_bytes();
        let content_length = i64::try_from(size_bytes).map_err(|_| ObjectError::Refused {
            attempt: attempt.clone(),
            cause: format!("{size_bytes} bytes exceed the object size limit"),
        })?;
        let body = {
            let _runtime = self.runtime.handle().enter();
            body::of_source(&upload.source).map_err(|error| ObjectError::Source {
                attempt: attempt.clone(),
                cause: error.to_string(),
            })?
        };
        let answered = self.call(&attempt, size_bytes, |client| {
            let mut request = client
                .put_object()
                .bucket(&self.settings.bucket)
                .key(key)
                .metadata(PUT_ID, &upload.put_id)
                .content_length(content_length)
                .checksum_crc64_nvme(encode_crc64(upload.crc64nvme))
                .body(body);
            match condition {
                Condition::None => {}
                Condition::Absent => request = request.if_none_match("*"),
                Condition::Match(etag) => request = request.if_match(etag),
            }
            // The checksum header is signed and covers the body; hashing it once more would cost as much as compressing it.
            request.customize().disable_payload_signing().send()
        })?;
        match answered {
            Ok(output) => Ok(PutOutcome::Created {
                etag: etag_of(&output),
            }),
            Err(no) if no.is_precondition_failed() => Ok(PutOutcome::PreconditionFailed),
            Err(no) if matches!(condition, Condition::Match(_)) && no.is_missing_key() => {
                Ok(PutOutcome::PreconditionFailed)
            }
            Err(no) => Err(no.into_error(attempt)),
        }
    }

    /// A body is part of the answer: it is read within the time limit, and a broken one is no answer.
    fn read(
        &self,
        key: &str,
        range: Option<String>,
        body_bytes: u64,
    ) -> Result<Option<Object>, ObjectError> {
        let attempt = self.attempt("get", key);
        let whole = range.is_none();
        let answered = self.call(&attempt, body_bytes, |client| async move {
            let mut request = client
                .get_object()
                .bucket(&self.settings.bucket)
                .key(key)
                .set_range(range);
            if whole {
                request = request.checksum_mode(ChecksumMode::Enabled);
            }
            let output = request.send().await?;
            let meta = ObjectMeta {
                size_bytes: output
                    .content_length()
                    .unwrap_or_default()
                    .try_into()
                    .unwrap_or(0),
                etag: output.e_tag().unwrap_or_default().to_owned(),
                crc64nvme: output.checksum_crc64_nvme().and_then(decode_crc64),
                put_id: put_id_of(output.metadata()),
            };
            Ok((meta, output.body.collect().await))
        })?;
        let (meta, body) = match answered {
            Ok(answered) => answered,
            Err(no) if no.is_missing_key() => return Ok(None),
            Err(Answer::Service { status: 416, .. }) => {
                return Err(ObjectError::Corrupt {
                    attempt,
                    cause: "object ends before the range".into(),
                });
            }
            Err(no) => return Err(no.into_error(attempt)),
        };
        let bytes = match body {
            Ok(body) => body.into_bytes(),
            Err(error) => return Err(body_error(attempt, &error)),
        };
        Ok(Some(Object { meta, bytes }))
    }
}

impl ObjectStore for S3Store {
    fn place(&self) -> String {
        format!(
            "{} bucket {}",
            self.settings.endpoint_name(),
            self.settings.bucket
        )
    }

    fn put_if_absent(&self, key: &str, upload: &Upload) -> Result<PutOutcome, ObjectError> {
        self.put_once(key, upload, Condition::Absent)
    }

    fn put_if_match(
        &self,
        key: &str,
        upload: &Upload,
        etag: &str,
    ) -> Result<PutOutcome, ObjectError> {
        self.put_once(key, upload, Condition::Match(etag))
    }

    fn put(&self, key: &str, upload: &Upload) -> Result<String, ObjectError> {
        match self.put_once(key, upload, Condition::None)? {
            PutOutcome::Created { etag } => Ok(etag),
            PutOutcome::PreconditionFailed => Err(ObjectError::Refused {
                attempt: self.attempt("put", key),
                cause: "412 without a condition".into(),
            }),
        }
    }

    fn get(&self, key: &str) -> Result<Option<Object>, ObjectError> {
        let Some(object) = self.read(key, None, 0)? else {
            return Ok(None);
        };
        let found = aof2_core::objects::crc64nvme(&object.bytes);
        let is_whole = object.meta.size_bytes == object.bytes.len() as u64;
        if !is_whole || object.meta.crc64nvme.is_some_and(|kept| kept != found) {
            let cause = format!(
                "{} bytes with checksum {found:016x}, the object store reports {:?}",
                object.bytes.len(),
                object.meta
            );
            return Err(ObjectError::Corrupt {
                attempt: self.attempt("get", key),
                cause,
            });
        }
        Ok(Some(object))
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, ObjectError> {
        let Some(last) = length
            .checked_sub(1)
            .and_then(|last| offset.checked_add(last))
        else {
            return Ok(self.head(key)?.map(|_| Bytes::new()));
        };
        let Some(object) = self.read(key, Some(format!("bytes={offset}-{last}")), length)? else {
            return Ok(None);
        };
        if object.bytes.len() as u64 != length {
            let cause = format!(
                "{} bytes came back for {offset}+{length}",
                object.bytes.len()
            );
            return Err(ObjectError::Corrupt {
                attempt: self.attempt("get", key),
                cause,
            });
        }
        Ok(Some(object.bytes))
    }

    fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectError> {
        let attempt = self.attempt("head", key);
        let answered = self.call(&attempt, 0, |client| {
            client
                .head_object()
                .bucket(&self.settings.bucket)
                .key(key)
                .checksum_mode(ChecksumMode::Enabled)
                .send()
        })?;
        match answered {
            Ok(output) => Ok(Some(ObjectMeta {
                size_bytes: output
                    .content_length()
                    .unwrap_or_default()
                    .try_into()
                    .unwrap_or(0),
                etag: output.e_tag().unwrap_or_default().to_owned(),
                crc64nvme: output.checksum_crc64_nvme().and_then(decode_crc64),
                put_id: put_id_of(output.metadata()),
            })),
            Err(no) if no.is_missing_key() => Ok(None),
            Err(no) => Err(no.into_error(attempt)),
        }
    }

    fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<String>, ObjectError> {
        let attempt = self.attempt("list", prefix);
        let mut keys = Vec::new();
        let mut continuation: Option<String> = None;
        loop {
            let answered = self.call(&attempt, 0, |client| {
                let request = client
                    .list_objects_v2()
                    .bucket(&self.settings.bucket)
                    .prefix(prefix);
                match &continuation {
                    Some(token) => request.continuation_token(token),
                    None => request.set_start_after(start_after.map(str::to_owned)),
                }
                .send()
            })?;
            let page = answered.map_err(|no| no.into_error(attempt.clone()))?;
            keys.extend(
                page.contents()
                    .iter()
                    .filter_map(|object| object.key().map(str::to_owned)),
            );
            continuation = page.next_continuation_token().map(str::to_owned);
            match (page.is_truncated().unwrap_or(false), &continuation) {
                (true, Some(_)) => {}
                (true, None) => {
                    let cause = "listing is truncated without a continuation token".into();
                    return Err(ObjectError::Refused { attempt, cause });
                }
                (false, _) => break,
            }
        }
        // Byte order is promised by S3, not by everything that speaks it.
        keys.sort();
        keys.retain(|key| start_after.is_none_or(|after| key.as_str() > after));
        Ok(keys)
    }

    fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let attempt = self.attempt("delete", key);
        let answered = self.call(&attempt, 0, |client| {
            client
                .delete_object()
                .bucket(&self.settings.bucket)
                .key(key)
                .send()
        })?;
        match answered {
            Ok(_) => Ok(()),
            Err(no) if no.is_missing_key() => Ok(()),
            Err(no) => Err(no.into_error(attempt)),
        }
    }
}

fn http_client(settings: &S3Settings) -> Result<SharedHttpClient, OpenError> {
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

/// The SDK compares the body with the checksum that the store keeps; a difference is damage, anything else a broken connection.
fn body_error(attempt: Attempt, error: &(dyn std::error::Error + 'static)) -> ObjectError {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.to_string().to_ascii_lowercase().contains("checksum") {
            return ObjectError::Corrupt {
                attempt,
                cause: "body does not match the stored checksum".into(),
            };
        }
        cause = error.source();
    }
    ObjectError::Unknown {
        attempt,
        cause: format!("body ended early: {error}"),
    }
}

fn etag_of(output: &PutObjectOutput) -> String {
    output.e_tag().unwrap_or_default().to_owned()
}

fn put_id_of(metadata: Option<&HashMap<String, String>>) -> Option<String> {
    metadata?.get(PUT_ID).cloned()
}

/// As S3 writes it: base64 of the big-endian bytes.
fn encode_crc64(crc: u64) -> String {
    aws_smithy_types::base64::encode(crc.to_be_bytes())
}

fn decode_crc64(text: &str) -> Option<u64> {
    let bytes: [u8; 8] = aws_smithy_types::base64::decode(text)
        .ok()?
        .try_into()
        .ok()?;
    Some(u64::from_be_bytes(bytes))
}
