//! Client of the admin API, for the operator and the command-line tools.
//!
//! Every request opens a connection of its own and closes it: an operator with thousands of engines keeps no idle sessions. Every
//! request has a time limit, which covers connecting, the TLS handshake and the whole answer.

mod connect;
mod pages;
mod request;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::sync::Semaphore;

use crate::lifecycle::{DrainStatus, EpochReset, PostRestart, PreRestart};
use crate::report::{
    CompactionRunReport, ConfigVerdict, Dump, HydrationReport, SegmentDeleteReport, SegmentReport,
    StreamCutReport, StreamReport, StreamTrimReport, StreamVerbReport, Tier2Report,
};
use crate::schema::ConfigSchema;
use crate::snapshot::{
    SnapshotDeleteReport, SnapshotIndex, SnapshotIndexDeleteReport, SnapshotIndexReport,
    SnapshotLevel, SnapshotReport, SnapshotSeal, SnapshotVerdict,
};
use crate::storage::StorageReport;
use crate::tier1::{Tier1Stats, Tier1Work};
use crate::{ErrorBody, path};
use request::{Request, query};

/// Largest answer that is read unless configured otherwise, for people and their tools: far beyond a dump of an engine with thousands of
/// streams.
const MAX_ANSWER_BYTES: u32 = 64 * 1024 * 1024;

/// How long a request may take unless configured otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where an engine listens.
#[derive(Clone, Debug)]
enum Target {
    Unix(PathBuf),
    Tls {
        address: SocketAddr,
        server_name: ServerName<'static>,
        tls: Arc<rustls::ClientConfig>,
    },
}

/// One engine's admin API. Cheap to make and to clone; holds no connection.
#[derive(Clone, Debug)]
pub struct Client {
    target: Target,
    timeout: Duration,
    operator_epoch: Option<u64>,
    max_answer_bytes: u32,
    page_bytes: Option<u32>,
    budget: Option<Arc<Semaphore>>,
}

/// Why a request did not bring the answer asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{target} is not a valid server name for TLS")]
    ServerName { target: String },
    #[error("cannot reach the engine at {target}")]
    Unreachable {
        target: String,
        source: std::io::Error,
    },
    #[error("engine at {target} did not answer {verb} within {timeout:?}")]
    Timeout {
        target: String,
        verb: String,
        timeout: Duration,
    },
    #[error("TLS handshake with the engine at {target} failed")]
    Tls {
        target: String,
        source: std::io::Error,
    },
    #[error("connection to the engine at {target} broke during {verb}: {message}")]
    Broken {
        target: String,
        verb: String,
        message: String,
    },
    #[error(
        "engine at {target} sent more than {limit} bytes to {verb}; only another program than the engine does"
    )]
    TooLarge {
        target: String,
        verb: String,
        limit: u32,
    },
    #[error("engine at {target} refused {verb} with {status}: {}", body.message)]
    Refused {
        target: String,
        verb: String,
        status: u16,
        body: ErrorBody,
    },
    #[error("engine at {target} sent an invalid answer to {verb}: {message}")]
    Decode {
        target: String,
        verb: String,
        message: String,
    },
}

impl ClientError {
    /// Whether the engine itself answered, and said no.
    pub fn refusal(&self) -> Option<&ErrorBody> {
        match self {
            ClientError::Refused { body, .. } => Some(body),
            ClientError::ServerName { .. }
            | ClientError::Unreachable { .. }
            | ClientError::Timeout { .. }
            | ClientError::Tls { .. }
            | ClientError::Broken { .. }
            | ClientError::TooLarge { .. }
            | ClientError::Decode { .. } => None,
        }
    }
}

/// Whose configuration file `config:validate` is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigMode {
    /// A user's: keys of the operator are refused.
    User,
    /// A pod's, as the operator renders it.
    Pod,
}

impl ConfigMode {
    /// Value of the query parameter `mode`.
    pub fn as_str(self) -> &'static str {
        match self {
            ConfigMode::User => "user",
            ConfigMode::Pod => "pod",
        }
    }
}

/// Bounds of a drain; the engine's defaults where absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainBounds {
    /// Validity of the drain token.
    pub ttl: Option<Duration>,
    /// Time to upload sealed segments while appends are still accepted.
    pub upload_timeout: Option<Duration>,
    /// Maximum time with closed admission before the drain fails.
    pub drain_timeout: Option<Duration>,
}

impl Client {
    /// The private Unix socket of an engine on this machine.
    pub fn unix(socket: impl AsRef<Path>) -> Self {
        Self::to(Target::Unix(socket.as_ref().to_path_buf()))
    }

    /// The mutual TLS listener. `server_name` is what the engine's certificate must carry, whatever the address is.
    pub fn tls(
        address: SocketAddr,
        server_name: &str,
        tls: Arc<rustls::ClientConfig>,
    ) -> Result<Self, ClientError> {
        let server_name =
            ServerName::try_from(server_name.to_string()).map_err(|_| ClientError::ServerName {
                target: server_name.to_string(),
            })?;
        Ok(Self::to(Target::Tls {
            address,
            server_name,
            tls,
        }))
    }

    fn to(target: Target) -> Self {
        Client {
            target,
            timeout: DEFAULT_TIMEOUT,
            operator_epoch: None,
            max_answer_bytes: MAX_ANSWER_BYTES,
            page_bytes: None,
            budget: None,
        }
    }

    /// Largest answer that is read from now on.
    pub fn with_answer_limit(mut self, bytes: u32) -> Self {
        self.max_answer_bytes = bytes;
        self
    }

    /// Asks lists in pages of at most so many bytes from now on. All pages of a list together have the limits of one answer, in bytes and in time,
    /// and an engine that knows no pages answers within these.
    pub fn with_pages(mut self, bytes: u32) -> Self {
        self.page_bytes = Some(bytes);
        self
    }

    /// Of one permit per byte, shared by many clients: an answer is read once there is room for it, and gives the room back when it was
    /// decoded. No answer may be larger than the whole budget.
    pub fn with_answer_budget(mut self, budget: Arc<Semaphore>) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Limit of each request from now on.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends the operator's epoch with every request: an engine that saw a newer one refuses.
    pub fn with_operator_epoch(mut self, epoch: u64) -> Self {
        self.operator_epoch = Some(epoch);
        self
    }

    pub async fn dump(&self) -> Result<Dump, ClientError> {
        self.json(Request::get(path::DUMP)).await
    }

    pub async fn streams(&self) -> Result<Vec<StreamReport>, ClientError> {
        self.list(Request::get(path::STREAMS)).await
    }

    pub async fn segments(&self, stream: Option<&str>) -> Result<Vec<SegmentReport>, ClientError> {
        self.json(Request::get(path::SEGMENTS).with(query("stream", stream)))
            .await
    }

    /// Seals the active segment of one stream, or of all.
    pub async fn seal(&self, stream: Option<&str>) -> Result<StreamVerbReport, ClientError> {
        self.json(Request::post(path::SEAL).with(query("stream", stream)))
            .await
    }

    /// What a cut of this damaged stream would give up.
    pub async fn possible_cut(&self, stream: &str) -> Result<StreamCutReport, ClientError> {
        self.json(Request::get(path::STREAM_CUT).with(query("stream", Some(stream))))
            .await
    }

    /// Gives up the end of a damaged stream, from the first lost sequence on, with the next start of the engine.
    pub async fn cut(&self, stream: &str, at: u64) -> Result<StreamCutReport, ClientError> {
        let request = Request::post(path::STREAM_CUT)
            .with(query("stream", Some(stream)))
            .with(query("at", Some(&at.to_string())));
        self.json(request).await
    }

    /// Begins to bring the segments of a range back to Tier 0 or Tier 1. `to` is exclusive.
    pub async fn hydrate(
        &self,
        stream: &str,
        from: Option<u64>,
        to: Option<u64>,
        tier: u8,
    ) -> Result<HydrationReport, ClientError> {
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let request = Request::post(path::HYDRATE)
            .with(query("stream", Some(stream)))
            .with(query("from", number(from).as_deref()))
            .with(query("to", number(to).as_deref()))
            .with(query("tier", Some(&tier.to_string())));
        self.json(request).await
    }

    /// A copy in Tier 1 or Tier 2 that nobody needs goes, as far as it may go now.
    pub async fn delete_segment(
        &self,
        stream: &str,
        segment_id: u64,
        tier: u8,
    ) -> Result<SegmentDeleteReport, ClientError> {
        let request = Request::post(path::SEGMENT_DELETE)
            .with(query("stream", Some(stream)))
            .with(query("segment", Some(&segment_id.to_string())))
            .with(query("tier", Some(&tier.to_string())));
        self.json(request).await
    }

    /// What lies in Tier 1. `streams` is a pattern.
    pub async fn tier1(&self, streams: Option<&str>) -> Result<Tier1Stats, ClientError> {
        self.json(Request::get(path::TIER1).with(query("stream", streams)))
            .await
    }

    /// Begins to read and verify the files in Tier 1.
    pub async fn verify_tier1(&self, streams: Option<&str>) -> Result<Tier1Work, ClientError> {
        self.json(Request::post(path::TIER1_VERIFY).with(query("stream", streams)))
            .await
    }

    /// Begins to compress the files in Tier 1 again; without a level at the one of the configuration.
    pub async fn recompress_tier1(
        &self,
        streams: Option<&str>,
        level: Option<i32>,
    ) -> Result<Tier1Work, ClientError> {
        let level = level.map(|level| level.to_string());
        let request = Request::post(path::TIER1_RECOMPRESS)
            .with(query("stream", streams))
            .with(query("level", level.as_deref()));
        self.json(request).await
    }

    /// How far either has come.
    pub async fn tier1_work(&self, id: u64) -> Result<Tier1Work, ClientError> {
        let id = id.to_string();
        self.json(Request::get(path::TIER1_VERIFY).with(query("id", Some(&id))))
            .await
    }

    pub async fn hydration(&self, id: u64) -> Result<HydrationReport, ClientError> {
        self.json(Request::get(path::HYDRATE).with(query("id", Some(&id.to_string()))))
            .await
    }

    /// Begins to merge small segments, of one stream or of all.
    pub async fn compact(&self, stream: Option<&str>) -> Result<CompactionRunReport, ClientError> {
        self.json(Request::post(path::COMPACT).with(query("stream", stream)))
            .await
    }

    pub async fn compaction(&self, id: u64) -> Result<CompactionRunReport, ClientError> {
        self.json(Request::get(path::COMPACT).with(query("id", Some(&id.to_string()))))
            .await
    }

    /// What a trim of this stream would take.
    pub async fn possible_trim(
        &self,
        stream: &str,
        before: u64,
    ) -> Result<StreamTrimReport, ClientError> {
        self.json(trim(Request::get(path::STREAM_TRIM), stream, before))
            .await
    }

    /// Records of a stream below `before` cannot be read any more.
    pub async fn trim(&self, stream: &str, before: u64) -> Result<StreamTrimReport, ClientError> {
        self.json(trim(Request::post(path::STREAM_TRIM), stream, before))
            .await
    }

    /// Where the bytes of this node's streams are, or of those whose names fit a pattern; the largest one by one. `rules`: TOML with
    /// `[[retention]]` tables, to learn what these would take. An engine of before refuses with `NotFound`.
    pub async fn storage_report(
        &self,
        streams: Option<&str>,
        limit: Option<usize>,
        rules: Option<&str>,
    ) -> Result<StorageReport, ClientError> {
        let request = match rules {
            Some(rules) => Request::post(path::REPORT).body(rules),
            None => Request::get(path::REPORT),
        };
        let limit = limit.map(|limit| limit.to_string());
        let request = request
            .with(query("stream", streams))
            .with(query("limit", limit.as_deref()));
        self.json(request).await
    }

    /// Makes everything staged durable.
    pub async fn flush(&self) -> Result<StreamVerbReport, ClientError> {
        self.json(Request::post(path::FLUSH)).await
    }

    /// Print the configuration in use, as TOML.
    pub async fn config(&self) -> Result<String, ClientError> {
        self.text(Request::get(path::CONFIG)).await
    }

    pub async fn config_validate(
        &self,
        text: &str,
        mode: ConfigMode,
    ) -> Result<ConfigVerdict, ClientError> {
        let request = Request::post(path::CONFIG_VALIDATE)
            .with(query("mode", Some(mode.as_str())))
            .body(text);
        self.json(request).await
    }

    pub async fn config_schema(&self) -> Result<ConfigSchema, ClientError> {
        self.json(Request::get(path::CONFIG_SCHEMA)).await
    }

    pub async fn pre_restart(&self) -> Result<PreRestart, ClientError> {
        self.json(Request::get(path::PRE_RESTART)).await
    }

    pub async fn post_restart(&self) -> Result<PostRestart, ClientError> {
        self.json(Request::get(path::POST_RESTART)).await
    }

    /// Begins a drain, or joins the one that runs.
    pub async fn drain(&self, bounds: DrainBounds) -> Result<DrainStatus, ClientError> {
        self.drain_without(bounds, &[]).await
    }

    /// The same, without waiting for these damaged streams: what of them is not uploaded stays on the engine's volume alone. One that is not
    /// damaged is refused as `Conflict`. An empty list changes nothing of a drain that runs.
    pub async fn drain_without(
        &self,
        bounds: DrainBounds,
        without: &[String],
    ) -> Result<DrainStatus, ClientError> {
        let DrainBounds {
            ttl,
            upload_timeout,
            drain_timeout,
        } = bounds;
        let milliseconds =
            |bound: Option<Duration>| bound.map(|bound| format!("{}ms", bound.as_millis()));
        let request = Request::post(path::DRAIN)
            .with(query("ttl", milliseconds(ttl).as_deref()))
            .with(query(
                "upload_timeout",
                milliseconds(upload_timeout).as_deref(),
            ))
            .with(query(
                "drain_timeout",
                milliseconds(drain_timeout).as_deref(),
            ));
        let without = (!without.is_empty()).then(|| without.join(","));
        self.json(request.with(query("without", without.as_deref())))
            .await
    }

    pub async fn drain_status(&self) -> Result<DrainStatus, ClientError> {
        self.json(Request::get(path::DRAIN)).await
    }

    /// Admits again and forgets the drain token.
    pub async fn resume(&self) -> Result<DrainStatus, ClientError> {
        self.json(Request::post(path::RESUME)).await
    }

    /// Forgets the highest operator epoch that the engine has seen; refused unless it comes over the private socket.
    pub async fn reset_operator_epoch(&self) -> Result<EpochReset, ClientError> {
        self.json(Request::post(path::OPERATOR_EPOCH_RESET)).await
    }

    /// Says that the pod goes; called by its preStop hook.
    pub async fn pre_stop(&self) -> Result<DrainStatus, ClientError> {
        self.json(Request::post(path::PRE_STOP)).await
    }

    /// Asks the process to sync and to exit 0. With the `process_start` of a report, only the process that it was of: where another runs
    /// since, that is answered as done.
    pub async fn restart(&self, process_start: Option<&str>) -> Result<(), ClientError> {
        let request = Request::post(path::RESTART).with(query("process_start", process_start));
        self.text(request).await.map(drop)
    }

    pub async fn tier2_probe(&self) -> Result<Tier2Report, ClientError> {
        self.json(Request::post(path::TIER2_PROBE)).await
    }

    /// Begins a snapshot of one stream, or answers the one that this request began.
    pub async fn snapshot(
        &self,
        stream: &str,
        request: &str,
        seal: SnapshotSeal,
    ) -> Result<SnapshotReport, ClientError> {
        let seal = match seal {
            SnapshotSeal::IfDirty => "IfDirty",
            SnapshotSeal::Never | SnapshotSeal::Unknown => "Never",
        };
        let request = Request::post(path::SNAPSHOT)
            .with(query("stream", Some(stream)))
            .with(query("request", Some(request)))
            .with(query("seal", Some(seal)));
        self.json(request).await
    }

    /// Newest first, and in pages by the names of streams first; of every stream, and by every request, where none is named. A node keeps 32 for
    /// each stream.
    pub async fn snapshots(
        &self,
        stream: Option<&str>,
        request: Option<&str>,
    ) -> Result<Vec<SnapshotReport>, ClientError> {
        let asked = Request::get(path::SNAPSHOTS)
            .with(query("stream", stream))
            .with(query("request", request));
        self.list(asked).await
    }

    pub async fn snapshot_status(
        &self,
        stream: &str,
        snapshot_id: &str,
    ) -> Result<SnapshotReport, ClientError> {
        let path = format!("{}/{stream}/{snapshot_id}", path::SNAPSHOTS);
        self.json(Request::get(&path)).await
    }

    /// Reads the snapshot back from Tier 2, whichever engine made it. `digest`: what its catalogue has to be, `sha256:<hex>`. `asked_by`: who
    /// wants L2, which goes on between two questions; the answer says whether it is `running`.
    pub async fn verify_snapshot(
        &self,
        stream: &str,
        snapshot_id: &str,
        level: SnapshotLevel,
        digest: Option<&str>,
        asked_by: Option<&str>,
    ) -> Result<SnapshotVerdict, ClientError> {
        let level = match level {
            SnapshotLevel::L0 | SnapshotLevel::Unknown => "L0",
            SnapshotLevel::L1 => "L1",
            SnapshotLevel::L2 => "L2",
        };
        let path = format!("{}/{stream}/{snapshot_id}/verify", path::SNAPSHOTS);
        let request = Request::post(&path)
            .with(query("level", Some(level)))
            .with(query("digest", digest))
            .with(query("request", asked_by));
        self.json(request).await
    }

    /// Deletes the catalogue of a snapshot, through the engine that owns its stream.
    pub async fn delete_snapshot(
        &self,
        stream: &str,
        snapshot_id: &str,
    ) -> Result<SnapshotDeleteReport, ClientError> {
        let path = format!("{}/{stream}/{snapshot_id}/delete", path::SNAPSHOTS);
        self.json(Request::post(&path)).await
    }

    /// Deletes the list of everything that one snapshot took, through any engine.
    pub async fn delete_snapshot_index(
        &self,
        name: &str,
    ) -> Result<SnapshotIndexDeleteReport, ClientError> {
        let path = format!("{}/{name}/delete", path::SNAPSHOT_INDEX);
        self.json(Request::post(&path)).await
    }

    /// The list of everything that one snapshot took, from the bucket. Refused with `NotFound` where it is not there.
    pub async fn snapshot_index(&self, name: &str) -> Result<SnapshotIndex, ClientError> {
        let path = format!("{}/{name}", path::SNAPSHOT_INDEX);
        self.index(Request::get(&path)).await
    }

    /// Writes the list of everything that one snapshot took.
    pub async fn put_snapshot_index(
        &self,
        index: &SnapshotIndex,
    ) -> Result<SnapshotIndexReport, ClientError> {
        let body = serde_json::to_string(index).unwrap_or_default();
        let path = format!("{}/{}", path::SNAPSHOT_INDEX, index.name);
        self.json(Request::put(&path).body(&body)).await
    }
}

fn trim(request: Request, stream: &str, before: u64) -> Request {
    request
        .with(query("stream", Some(stream)))
        .with(query("before", Some(&before.to_string())))
}
