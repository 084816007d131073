//! Calls to engines: mutual TLS to the pod's address, one connection per request, never longer than a few seconds.
//!
//! The engine's certificate must carry the cluster's name, so that a reused address cannot answer for another cluster, and its report the
//! pod's (`accept.rs`); the operator presents a client certificate with the one name that engines accept, and its epoch with every request.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use aof2_admin_api::client::{Client, ClientError, ConfigMode, DrainBounds};
use aof2_admin_api::report::ConfigVerdict;
use aof2_admin_api::{ErrorReason, storage::ShortenedForecast};
use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Semaphore;

use crate::{
    engines::{Failure, NotCounted, Report, Whose, accept},
    names::ADMIN_PORT,
    pki::{Authority, PkiError, authority::Usage},
};

/// Of one request for a report: a look at a cluster must not wait for a sick engine.
const REPORT_TIMEOUT: Duration = Duration::from_secs(3);
/// Of one verb about snapshots: a verification reads from the bucket.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);
/// Of one storage report: it looks at every segment of a node, after those that were asked for before, and asks the bucket for 3 s.
const COUNT_TIMEOUT: Duration = Duration::from_secs(10);
/// Of one verb.
const VERB_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest answer to one request. A dump of an honest engine has at most a tenth.
const ANSWER_BYTES: u32 = 256 * 1024;
/// Of the lists of streams and of one snapshot's in all their pages, which grow with the streams of a node (5,000: 3.5 MB with the longest
/// names). Engines that know no pages answer with the whole list.
const LIST_BYTES: u32 = 8 * 1024 * 1024;
/// Of the list of everything that a snapshot took, which grows with the streams of a cluster: what engines store at most.
pub const INDEX_BYTES: u32 = 16 * 1024 * 1024;
/// Of all reports that are being read: an engine may send anything, and a thousand may do so at once.
const REPORTS_IN_FLIGHT: usize = 4 * 1024 * 1024;
/// Of all lists, apart from reports: who sends one slowly delays no report.
const LISTS_IN_FLIGHT: usize = INDEX_BYTES as usize;

/// The operator's own certificate, renewed in time.
struct Credentials {
    tls: Arc<ClientConfig>,
    renew_at: Timestamp,
}

pub struct EngineClient {
    authority: Arc<Authority>,
    client_name: String,
    epoch: u64,
    credentials: Mutex<Option<Credentials>>,
    reports: Arc<Semaphore>,
    lists: Arc<Semaphore>,
}

impl EngineClient {
    pub fn new(authority: Arc<Authority>, client_name: String, epoch: u64) -> Self {
        Self {
            authority,
            client_name,
            epoch,
            credentials: Mutex::default(),
            reports: Arc::new(Semaphore::new(REPORTS_IN_FLIGHT)),
            lists: Arc::new(Semaphore::new(LISTS_IN_FLIGHT)),
        }
    }

    /// Asks these pods at the same time, each by its address.
    pub async fn reports(
        &self,
        whose: &Whose,
        pods: impl Iterator<Item = (&str, IpAddr)>,
    ) -> BTreeMap<String, Report> {
        let asked = pods.map(async |(pod, ip)| (pod.to_owned(), self.report(whose, pod, ip).await));
        futures::future::join_all(asked).await.into_iter().collect()
    }

    async fn report(&self, whose: &Whose, pod: &str, ip: IpAddr) -> Report {
        let client = match self.client(whose, ip, REPORT_TIMEOUT) {
            Ok(client) => client,
            Err(failure) => return Report::Failed(failure),
        };
        let (dump, post_restart) = futures::join!(client.dump(), client.post_restart());
        match dump {
            Ok(dump) => match accept::report(whose, pod, dump, post_restart.ok()) {
                Ok(answer) => Report::Answered(Box::new(answer)),
                Err(message) => Report::Failed(Failure {
                    may_be_certificate: false,
                    message,
                }),
            },
            Err(error) => Report::Failed(failure(&error)),
        }
    }

    pub async fn drain(
        &self,
        whose: &Whose,
        ip: IpAddr,
        bounds: DrainBounds,
        without: &[String],
    ) -> Result<(), Failure> {
        let client = self.client(whose, ip, VERB_TIMEOUT)?;
        client
            .drain_without(bounds, without)
            .await
            .map(drop)
            .map_err(|error| failure(&error))
    }

    pub async fn resume(&self, whose: &Whose, ip: IpAddr) -> Result<(), Failure> {
        let client = self.client(whose, ip, VERB_TIMEOUT)?;
        client
            .resume()
            .await
            .map(drop)
            .map_err(|error| failure(&error))
    }

    /// Of the process that started then; a later one stays.
    pub async fn restart(
        &self,
        whose: &Whose,
        ip: IpAddr,
        process_start: &str,
    ) -> Result<(), Failure> {
        let client = self.client(whose, ip, VERB_TIMEOUT)?;
        client
            .restart(Some(process_start))
            .await
            .map_err(|error| failure(&error))
    }

    /// What an engine thinks of a user's file, and of the whole file of its pod against what is in force.
    pub async fn validate(
        &self,
        whose: &Whose,
        ip: IpAddr,
        user_text: Option<&str>,
        pod_text: &str,
    ) -> Result<ConfigVerdict, Failure> {
        let client = self.client(whose, ip, VERB_TIMEOUT)?;
        if let Some(text) = user_text {
            let verdict = client
                .config_validate(text, ConfigMode::User)
                .await
                .map_err(|error| failure(&error))?;
            if !verdict.valid {
                return Ok(verdict);
            }
        }
        client
            .config_validate(pod_text, ConfigMode::Pod)
            .await
            .map_err(|error| failure(&error))
    }

    /// What rules of retention, as a file, take on a pod beyond those in use.
    pub async fn shortened(
        &self,
        whose: &Whose,
        pod: &str,
        ip: IpAddr,
        rules: &str,
    ) -> Result<Vec<ShortenedForecast>, NotCounted> {
        let client = self
            .client(whose, ip, COUNT_TIMEOUT)
            .map_err(|failure| NotCounted::Failed(failure.message))?;
        // Sums alone.
        match client.storage_report(None, Some(0), Some(rules)).await {
            Ok(report) => accept::shortened(pod, report),
            Err(error) => Err(match error.refusal().map(|body| &body.reason) {
                Some(ErrorReason::NotFound) => NotCounted::OlderEngine,
                Some(_) | None => NotCounted::Failed(failure(&error).message),
            }),
        }
    }

    /// For the verbs of snapshots: their answers do not say who gives them, so that is asked first.
    pub async fn client_of(&self, whose: &Whose, pod: &str, ip: IpAddr) -> Result<Client, Failure> {
        let client = self.client(whose, ip, SNAPSHOT_TIMEOUT)?;
        let dump = client.dump().await.map_err(|error| failure(&error))?;
        accept::identity(whose, pod, &dump).map_err(|message| Failure {
            may_be_certificate: false,
            message,
        })?;
        Ok(client
            .with_answer_limit(LIST_BYTES)
            .with_pages(ANSWER_BYTES)
            .with_answer_budget(self.lists.clone()))
    }

    fn client(&self, whose: &Whose, ip: IpAddr, limit: Duration) -> Result<Client, Failure> {
        let tls = self.tls(Timestamp::now()).map_err(|error| Failure {
            may_be_certificate: false,
            message: error.to_string(),
        })?;
        let client = Client::tls(SocketAddr::new(ip, ADMIN_PORT), &whose.server_name, tls)
            .map_err(|error| failure(&error))?;
        Ok(client
            .with_timeout(limit)
            .with_operator_epoch(self.epoch)
            .with_answer_limit(ANSWER_BYTES)
            .with_answer_budget(self.reports.clone()))
    }

    fn tls(&self, now: Timestamp) -> Result<Arc<ClientConfig>, PkiError> {
        let mut credentials = self.credentials.lock();
        if let Some(current) = credentials
            .as_ref()
            .filter(|current| now < current.renew_at)
        {
            return Ok(current.tls.clone());
        }
        let issued = self
            .authority
            .issue(&self.client_name, Usage::Client, now)?;
        let renew_at = issued.renew_at;
        let tls =
            client_config(&self.authority, issued.into_der()?).map_err(|source| PkiError::Tls {
                subject: self.client_name.clone(),
                source,
            })?;
        *credentials = Some(Credentials {
            tls: tls.clone(),
            renew_at,
        });
        Ok(tls)
    }
}

fn client_config(
    authority: &Authority,
    (certificate, key): (
        rustls_pki_types::CertificateDer<'static>,
        rustls_pki_types::PrivateKeyDer<'static>,
    ),
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for trusted in authority.bundle() {
        roots.add(trusted.clone())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)?;
    // One request per connection: nothing to resume.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn failure(error: &ClientError) -> Failure {
    let may_be_certificate = match error {
        ClientError::Unreachable { source, .. } => {
            source.kind() == std::io::ErrorKind::ConnectionRefused
        }
        ClientError::Tls { .. } => true,
        ClientError::ServerName { .. }
        | ClientError::Timeout { .. }
        | ClientError::Broken { .. }
        | ClientError::TooLarge { .. }
        | ClientError::Refused { .. }
        | ClientError::Decode { .. } => false,
    };
    let mut message = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        message = format!("{message}: {source}");
    }
    Failure {
        may_be_certificate,
        message: accept::text(&message),
    }
}

#[cfg(test)]
mod tests {
    use aof2_admin_api::{ClaimState, SnapshotReport, StreamReport};

    use super::*;

    #[test]
    fn the_lists_of_a_node_with_5000_streams_are_taken() {
        let name = "s".repeat(63);
        let time = "2026-09-21T10:00:00.123456789Z".to_owned();
        let number = aof2_crds::MAX_INTEGER.unsigned_abs();
        let stream = StreamReport {
            name: name.clone(),
            epoch: number,
            first_sequence: number,
            next_sequence: number,
            durable_sequence: number,
            sealed_sequence: number,
            uploaded_sequence: number,
            segments: number,
            bytes: number,
            claim: ClaimState::ClaimPending,
            ..StreamReport::default()
        };
        let snapshot = SnapshotReport {
            stream: name.clone(),
            snapshot_id: u64::MAX.to_string(),
            request: uuid::Uuid::nil().to_string(),
            started_at: time.clone(),
            heartbeat: time.clone(),
            completed_at: Some(time),
            chunk_index: number,
            chunk_offset: number,
            durable_sequence: number,
            uploaded_sequence: number,
            key: format!("{}/snapshots/{name}/{}.json", "p".repeat(512), u64::MAX),
            digest: format!("sha256:{}", "0".repeat(64)),
            bytes: number,
            ..SnapshotReport::default()
        };
        for text in [
            serde_json::to_string(&vec![stream; 5000]),
            serde_json::to_string(&vec![snapshot; 5000]),
        ] {
            let bytes = text.expect("JSON").len();
            assert!(bytes <= LIST_BYTES as usize, "{bytes}");
        }
    }
}
