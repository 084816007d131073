//! Sends a request: with the keys of now, for as long as it gets on, and until the process stops.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aof2_core::objects::{Attempt, ObjectError, Refusal};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, IdentityCache, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::classify::{Answer, answer};
use crate::credentials::{KeyFiles, Keys};
use crate::http::http_client;
use crate::pace::Pace;
use crate::settings::{Addressing, OpenError, S3Settings};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) struct Requests {
    pub settings: S3Settings,
    runtime: Background,
    http: SharedHttpClient,
    client: Mutex<Signing>,
    stopping: watch::Sender<bool>,
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

impl Requests {
    /// Makes no request.
    pub fn open(settings: S3Settings) -> Result<Requests, OpenError> {
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
        Ok(Requests {
            settings,
            runtime: Background(Some(runtime)),
            http,
            client: Mutex::new(Signing {
                files,
                current: None,
            }),
            stopping: watch::Sender::new(false),
        })
    }

    /// The keys of now, and a client that signs with them: it is made again only when they changed.
    fn client(&self, attempt: &Attempt) -> Result<(Keys, Client), ObjectError> {
        let mut signing = self.client.lock();
        let keys = signing
            .files
            .keys(Instant::now())
            .map_err(|cause| ObjectError::Refused {
                attempt: attempt.clone(),
                refusal: Refusal::Credentials,
                cause,
            })?;
        if let Some((current, client)) = &signing.current
            && *current == keys
        {
            return Ok((keys, client.clone()));
        }
        let client = self.client_with(&keys);
        signing.current = Some((keys.clone(), client.clone()));
        Ok((keys, client))
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

    pub fn attempt(&self, verb: &'static str, key: &str) -> Attempt {
        Attempt {
            verb,
            key: key.to_owned(),
            place: self.place(),
        }
    }

    /// One request, and once more at once where it is refused and the credentials have been replaced since they were read.
    /// `Ok(Err(answer))`: the store, or the way to it, said no.
    pub fn call<T, E, F>(
        &self,
        attempt: &Attempt,
        body_bytes: u64,
        request: impl Fn(Client, Arc<Pace>) -> F,
    ) -> Result<Result<T, Answer>, ObjectError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let (keys, client) = self.client(attempt)?;
        let answered = self.send(client, attempt, body_bytes, &request)?;
        match &answered {
            Err(no) if no.is_refusal_of_keys() && self.has_other_keys_than(&keys) => {
                let (_, client) = self.client(attempt)?;
                self.send(client, attempt, body_bytes, &request)
            }
            Ok(_) | Err(_) => Ok(answered),
        }
    }

    /// Reads the credentials again: a refusal is the first that is heard of a rotation.
    fn has_other_keys_than(&self, refused: &Keys) -> bool {
        let mut signing = self.client.lock();
        signing.files.forget();
        let keys = signing.files.keys(Instant::now());
        keys.is_ok_and(|keys| keys != *refused)
    }

    fn send<T, E, F>(
        &self,
        client: Client,
        attempt: &Attempt,
        body_bytes: u64,
        request: impl Fn(Client, Arc<Pace>) -> F,
    ) -> Result<Result<T, Answer>, ObjectError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let timeout = self.settings.request_timeout;
        let pace = Arc::new(Pace::new(timeout, body_bytes, Instant::now()));
        let mut stopping = self.stopping.subscribe();
        let answered = self.runtime.handle().block_on(async {
            let mut answered = pin!(request(client, pace.clone()));
            loop {
                let ends_at = pace.ends_at();
                tokio::select! {
                    answered = &mut answered => return Ok(answered.map_err(answer)),
                    _ = stopping.wait_for(|is_stopping| *is_stopping) => {
                        return Err(ObjectError::Stopping { place: self.place() });
                    }
                    () = tokio::time::sleep_until(ends_at.into()) => {}
                }
                let now = Instant::now();
                if now >= pace.ends_at() {
                    return Ok(Err(Answer::Nothing(pace.describe(now))));
                }
            }
        })?;
        match (answered, pace.broken()) {
            (Err(_), Some(cause)) => Err(ObjectError::Source {
                attempt: attempt.clone(),
                cause,
            }),
            (answered, _) => Ok(answered),
        }
    }

    pub fn place(&self) -> String {
        format!(
            "{} bucket {}",
            self.settings.endpoint_name(),
            self.settings.bucket
        )
    }

    /// Requests that are under way end at once.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }
}
