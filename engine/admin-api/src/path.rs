//! Paths of the admin API and names of its headers and query parameters, so that client and server cannot differ.

pub const DUMP: &str = "/aof2/dump";
pub const STREAMS: &str = "/aof2/streams";
/// `?stream=<name>`. GET: what a cut of a damaged stream would give up, a [`crate::StreamCutReport`]. POST with `&at=<first lost
/// sequence>`: gives it up with the next start of the engine.
pub const STREAM_CUT: &str = "/aof2/streams/cut";
/// `?stream=<name>&before=<first sequence that is kept>`. GET: what a trim would take, a [`crate::report::StreamTrimReport`]. POST: takes it.
pub const STREAM_TRIM: &str = "/aof2/streams/trim";
/// `?stream=<name>`: its trimmed segments too, with what keeps their objects; all streams without it.
pub const SEGMENTS: &str = "/aof2/segments";
/// POST `?stream=<name>&segment=<id>&tier=<1|2>`; 200 with [`crate::report::SegmentDeleteReport`], 409 where the copy is needed.
pub const SEGMENT_DELETE: &str = "/aof2/segments/delete";
/// `?stream=<name>`; all streams without it.
pub const SEAL: &str = "/aof2/seal";
pub const FLUSH: &str = "/aof2/flush";
/// POST `?stream=<name>&from=<sequence>&to=<sequence>&tier=0|1`: brings copies back to Tier 0 or Tier 1, `to` exclusive and both optional;
/// 202 with [`crate::HydrationReport`]. GET `?id=<id>`: how far that request has come.
pub const HYDRATE: &str = "/aof2/hydrate";
/// `?stream=<pattern>&limit=<streams that are described one by one>`, both optional. GET: a [`crate::StorageReport`]. POST with `[[retention]]`
/// rules as TOML, alone or in a whole `aof2.toml`: the same, with what these rules would take. Nothing changes.
pub const REPORT: &str = "/aof2/report";
/// GET `?stream=<pattern>`: what lies in Tier 1, a [`crate::tier1::Tier1Stats`].
pub const TIER1: &str = "/aof2/tier1";
/// POST `?stream=<pattern>`: every file in Tier 1 is read and verified; 202 with [`crate::tier1::Tier1Work`], 409 while another request of
/// this or the next path is under way. GET `?id=<id>`: how far it has come.
pub const TIER1_VERIFY: &str = "/aof2/tier1/verify";
/// POST `?stream=<pattern>&level=<1..19>`: every file in Tier 1 is compressed again, by default at `tier1.compression_level`. Otherwise as above.
pub const TIER1_RECOMPRESS: &str = "/aof2/tier1/recompress";
/// POST `?stream=<name>`, all streams without it: merges small segments now; 202 with [`crate::report::CompactionRunReport`]. GET `?id=<id>`: how far
/// that pass has come.
pub const COMPACT: &str = "/aof2/compact";
/// GET: the effective configuration as TOML.
pub const CONFIG: &str = "/aof2/config";
/// POST: a whole `aof2.toml` as text; 200 with [`crate::report::ConfigVerdict`], valid or not. `?mode=user` (default): a user's
/// file, keys of the operator are refused; `?mode=pod`: a rendered one.
pub const CONFIG_VALIDATE: &str = "/aof2/config:validate";
pub const CONFIG_SCHEMA: &str = "/aof2/config/schema";
pub const PRE_RESTART: &str = "/aof2/lifecycle/pre-restart";
pub const POST_RESTART: &str = "/aof2/lifecycle/post-restart";
/// POST `?ttl=60s&upload_timeout=10m&drain_timeout=30s&without=DAMAGED,STREAMS` answers 202 with [`crate::DrainStatus`], GET the same.
pub const DRAIN: &str = "/aof2/lifecycle/drain";
/// POST: admits again and forgets the drain token.
pub const RESUME: &str = "/aof2/lifecycle/resume";
/// POST: syncs and exits 0, so that the kubelet restarts this container alone: 202. `?process_start=` names the process that is meant, as its
/// reports do: another one stays, and answers 200.
pub const RESTART: &str = "/aof2/lifecycle/restart";
/// POST: the pod goes, its preStop hook says so: a drained engine never opens again; one without a token seals and begins to
/// upload, and admits the app's last words. 200 with [`crate::DrainStatus`].
pub const PRE_STOP: &str = "/aof2/lifecycle/pre-stop";
/// POST: runs the conditional-put probe now; 200 with [`crate::report::Tier2Report`].
pub const TIER2_PROBE: &str = "/aof2/tier2/probe";

/// POST, on the private socket alone: the highest operator epoch that was seen is forgotten. 200 with [`crate::EpochReset`].
pub const OPERATOR_EPOCH_RESET: &str = "/aof2/operator-epoch:reset";

/// Probes and metrics, on their own plain listener.
pub const LIVEZ: &str = "/livez";
pub const READYZ: &str = "/readyz";
pub const METRICS: &str = "/metrics";

/// Query parameters of a list (streams, snapshots, a snapshot's index): how many bytes an answer may have, and where it begins, the name of the
/// last stream of the page before (of an index, the number of bytes). A page is in the order of the streams' names and ends with a stream, and it
/// has at least one.
pub const PAGE_BYTES: &str = "page_bytes";
pub const AFTER: &str = "after";
/// Header of a page: what the next one is asked with; empty at the end of the list. An engine that knows no pages does not send it.
pub const NEXT_HEADER: &str = "aof2-next";

/// Header of every verb that an operator sends: its epoch (decimal). An engine refuses one older than it has seen.
pub const OPERATOR_EPOCH_HEADER: &str = "aof2-operator-epoch";
/// POST `?stream=<name>&request=<uid>&seal=IfDirty` answers 202 with [`crate::SnapshotReport`]; idempotent per request.
pub const SNAPSHOT: &str = "/aof2/snapshot";
/// GET `?stream=<name>`. Below it: `/<stream>/<snapshot_id>` (GET), `/<stream>/<snapshot_id>/verify?level=L1` (POST; `&request=` for L2)
/// and `/<stream>/<snapshot_id>/delete` (POST: the engine that owns the stream deletes the catalogue; 200 with
/// [`crate::SnapshotDeleteReport`], 409 where the snapshot is needed or in use).
pub const SNAPSHOTS: &str = "/aof2/snapshots";
/// PUT `/<name>` with [`crate::SnapshotIndex`]; created once, answers 409 where an index of that name has other bytes. POST `/<name>/delete`:
/// the list goes, once the catalogues that it names are gone; 200 with [`crate::SnapshotIndexDeleteReport`], again too.
pub const SNAPSHOT_INDEX: &str = "/aof2/snapshots/_index";
