//! The command line of `aof2-admin`.

use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::load::collector::Destination;

/// Inspect a running AOF2 engine and work with its streams.
///
/// Exit codes: 0 ok, 1 negative finding, 2 usage, 3 unavailable, 4 refused, 5 not found.
#[derive(Debug, Parser)]
#[command(name = "aof2-admin", disable_version_flag = true, max_term_width = 110)]
pub struct Arguments {
    /// Print the version and exit.
    #[arg(long, short = 'V')]
    pub version: bool,
    #[command(flatten)]
    pub connection: Connection,
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// Connection to the engine, and output format.
#[derive(Clone, Debug, Args)]
pub struct Connection {
    /// Unix socket of the data API.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "/run/aof2/data.sock"
    )]
    pub socket: PathBuf,
    #[command(flatten)]
    pub admin: AdminConnection,
}

impl Deref for Connection {
    type Target = AdminConnection;

    fn deref(&self) -> &AdminConnection {
        &self.admin
    }
}

/// Connection to the admin API, and output format.
#[derive(Clone, Debug, Args)]
pub struct AdminConnection {
    /// Unix socket of the admin API.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "/run/aof2-admin/admin.sock"
    )]
    pub admin_socket: PathBuf,
    /// Admin API over mutual TLS, https://ADDRESS:PORT; needs --tls-directory and --server-name.
    #[arg(long, global = true, value_name = "URL", requires_all = ["tls_directory", "server_name"])]
    pub url: Option<String>,
    /// Directory with tls.crt, tls.key and ca.crt of a client that the engine accepts.
    #[arg(long, global = true, value_name = "DIR")]
    pub tls_directory: Option<PathBuf>,
    /// Name in the certificate of the engine, <cluster id>.engine.aof2.dev.
    #[arg(long, global = true, value_name = "NAME")]
    pub server_name: Option<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Timeout of a request to the admin API.
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
}

const TRIM_EXAMPLE: &str = "Example:
  aof2-admin trim orders --before 120
  aof2-admin trim orders --before 120 --yes";

const LOAD_EXAMPLE: &str = "Example:
  aof2-admin load --stream load-test --rate 100 --count 1000 --collector - > acknowledged.jsonl
  aof2-admin verify < acknowledged.jsonl";

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Print the state of the engine, tiers, configuration and damage.
    Dump,
    /// List the streams of this node and how far each is durable, sealed and uploaded; cut a damaged one.
    Streams {
        #[command(subcommand)]
        verb: Option<StreamsVerb>,
    },
    /// List the segments of one stream, or of all; delete copies that are not needed.
    #[command(args_conflicts_with_subcommands = true)]
    Segments {
        #[arg(long, value_name = "STREAM")]
        stream: Option<String>,
        #[command(subcommand)]
        verb: Option<SegmentsVerb>,
    },
    /// Report where the bytes of this node are, what they grow by, what retention takes and what the bucket costs.
    ///
    /// Counted from the manifests of this node, streams of other nodes are not in it. With --retention it also shows what other rules of
    /// retention would take, and changes nothing. Prices come from [[report.price]] tables of the configuration.
    Report(ReportArguments),
    /// Move the start of a stream: records before it can no longer be read. There is no way back.
    ///
    /// Without --yes it prints what would be lost and changes nothing.
    ///
    /// A sequence is the number of a record, the first is 0: `--before 120` gives up the records 0 to 119, and 120 is the first that can be
    /// read. Only sealed records can be given up, so at most `--before` the number under SEALED in `streams`; `seal --stream STREAM` seals the
    /// newest ones.
    ///
    /// On the node, the files of segments that lie wholly below go within seconds; the segment that holds the new start stays whole. In Tier 2,
    /// the objects of these segments are deleted after tier2.delete_grace (24 h unless set), and those that a snapshot names stay as long as
    /// the snapshot is in the bucket. `segments list STREAM` shows what is still there and why.
    #[command(after_help = TRIM_EXAMPLE)]
    Trim(TrimArguments),
    /// Seal the active segment of one stream, or of all.
    Seal {
        #[arg(long, value_name = "STREAM")]
        stream: Option<String>,
    },
    /// Bring the segments of a stream back to Tier 1 or Tier 0, before a scan for example.
    ///
    /// Copies that were read longest ago make room; appends go before copies that came back. What does not fit is rejected with the bytes that
    /// would. With --wait it shows the progress and ends with exit code 1 when a segment could not be brought back.
    Hydrate(HydrateArguments),
    /// Merge small adjacent segments of one stream, or of all, now.
    ///
    /// Segments are merged where that makes them few without writing a byte again more often than its segment can double. Waits for the end
    /// of the pass and prints what it merged, or why it merged nothing. Works also where compaction.enabled is false. Exit code 1 when a merge
    /// failed.
    Compact(CompactArguments),
    /// Sync all staged records.
    Flush,
    /// Append records from --payload, or from the lines of standard input.
    Append(AppendArguments),
    /// Print records of a stream.
    Read(ReadArguments),
    /// Print records of a stream as they become durable, until interrupted.
    Tail(TailArguments),
    /// Append test records at a steady rate, and list the acknowledged ones.
    ///
    /// A record counts when its acknowledgement is in the list, at the collector or on standard output. Keep the list outside the
    /// pod; `verify` later proves that nothing in it is lost. The records are real, so use streams of their own. A load continues
    /// where the previous one ended, and waits while the engine is unreachable, with --count for as long as --give-up says. Exit code 1 when a stream returns with fewer
    /// records than it had acknowledged.
    #[command(after_help = LOAD_EXAMPLE)]
    Load(LoadArguments),
    /// Compare the acknowledgement list of a `load` (standard input) with the streams, to prove that nothing is lost.
    ///
    /// Each line names a record by stream, sequence and hash, as `load` writes it. A stream lives on one pod; ask the engine that
    /// owns it. Prints each problem and then one line with the sums. `unacknowledged` counts records that the streams hold and
    /// the list does not; they are not an error, since a writer may end before it receives the acknowledgement. `trimmed` counts acknowledged
    /// records below the start of their stream, where there are any. Exit code 1 when
    /// records are lost, reordered or duplicated.
    #[command(after_help = LOAD_EXAMPLE)]
    Verify,
    /// Take, list, verify and delete snapshots in Tier 2.
    #[command(subcommand, alias = "snapshots")]
    Snapshot(SnapshotVerb),
    /// Check and show configuration files.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Seal and upload everything and close admission, before this engine is replaced.
    Drain(DrainArguments),
    /// Accept appends again after a drain.
    Resume,
    /// Repair the operator epoch that the engine remembers.
    #[command(subcommand)]
    OperatorEpoch(EpochVerb),
    /// Notify the engine that its pod terminates (preStop hook). Never fails.
    Prestop,
}

#[derive(Debug, Subcommand)]
pub enum StreamsVerb {
    /// Give up the damaged end of a stream, so that it accepts appends, uploads and drains again.
    ///
    /// Without --yes it prints what would be lost and changes nothing. With --yes and --at the engine keeps the lost bytes in quarantine,
    /// records the gap in the stream and its manifest, and continues at a sequence that no lost record had. The engine restarts to do
    /// it. Restore the stream's files from a copy of the volume instead where there is one.
    Cut(CutArguments),
}

#[derive(Debug, Args)]
pub struct CutArguments {
    pub stream: String,
    /// The first lost sequence, as the command prints it without --yes.
    #[arg(long, value_name = "SEQUENCE", requires = "yes")]
    pub at: Option<u64>,
    /// Give up the records.
    #[arg(long, requires = "at")]
    pub yes: bool,
    /// Do not restart the engine; its next start cuts the stream.
    #[arg(long, requires = "yes")]
    pub no_restart: bool,
}

#[derive(Debug, Subcommand)]
pub enum SegmentsVerb {
    /// List the segments of a stream with times, sizes and copies, and what keeps the objects of trimmed ones.
    List { stream: String },
    /// Delete the copy of a segment in Tier 1 or Tier 2.
    ///
    /// A copy in Tier 1 goes where Tier 2 has the segment. An object goes where its records are trimmed and no snapshot names it, in the steps
    /// and after the grace of every deletion: the command takes it as far as it may go now, and says what it waits for. It says `deleted` only
    /// once the object is no longer there. Exit code 4 where it is needed, with who needs it.
    Delete {
        stream: String,
        /// Number of the segment, as `segments list` shows it.
        segment: u64,
        #[arg(long, value_name = "1|2", value_parser = clap::value_parser!(u8).range(1..=2))]
        tier: u8,
    },
}

#[derive(Debug, Args)]
pub struct ReportArguments {
    /// Name of a stream, or a pattern where * stands for any characters.
    #[arg(long, value_name = "PATTERN")]
    pub stream: Option<String>,
    /// Streams that are listed, the largest first; the others are one line.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// A file with [[retention]] rules, an aof2.toml for example, or - for standard input: also show what these would take.
    #[arg(long, value_name = "FILE")]
    pub retention: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct TrimArguments {
    pub stream: String,
    /// First sequence that stays; every record below it is given up.
    #[arg(long, value_name = "SEQUENCE")]
    pub before: u64,
    /// Trim now; without it nothing is changed.
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Subcommand)]
pub enum EpochVerb {
    /// Forget the highest epoch seen, so that an operator with a lower one is obeyed again. Works in the pod alone.
    ///
    /// Use it when every operator is rejected with StaleOperatorEpoch though only one runs. The operator's next request sets the epoch again.
    Reset,
}

#[derive(Debug, Args)]
pub struct HydrateArguments {
    pub stream: String,
    /// First sequence; by default the first of the stream.
    #[arg(long, value_name = "SEQUENCE")]
    pub from: Option<u64>,
    /// First sequence behind the range; by default the end of what is sealed.
    #[arg(long, value_name = "SEQUENCE")]
    pub to: Option<u64>,
    /// 1 keeps compressed copies, 0 whole segment files.
    #[arg(long, value_name = "TIER", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub tier: u8,
    /// Wait until every segment is there, or has failed.
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, Args)]
pub struct CompactArguments {
    /// By default every stream of the engine.
    pub stream: Option<String>,
}

#[derive(Debug, Args)]
pub struct AppendArguments {
    pub stream: String,
    /// One record; may be repeated.
    #[arg(long, value_name = "TEXT")]
    pub payload: Vec<String>,
    /// Acknowledge when staged instead of durable.
    #[arg(long)]
    pub buffered: bool,
    /// Make the append idempotent; a record whose producer_seq the stream already holds is not written twice.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..), requires = "producer_seq")]
    pub producer_id: Option<u64>,
    /// producer_seq of the first record; each further record has the next number.
    #[arg(long, value_name = "N", requires = "producer_id")]
    pub producer_seq: Option<u64>,
    /// Durable sequence of the stream before the first use of this producer_id; needed by a stream that has forgotten producers.
    #[arg(long, value_name = "N", requires = "producer_id")]
    pub producer_since: Option<u64>,
}

#[derive(Debug, Args)]
pub struct ReadArguments {
    pub stream: String,
    /// First sequence; by default the first of the stream.
    #[arg(long, value_name = "SEQUENCE")]
    pub from: Option<u64>,
    /// Maximum number of records; 0 = all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: u64,
    /// Also print records that are staged and not durable yet.
    #[arg(long)]
    pub include_staged: bool,
    /// Print raw payloads, each followed by a line feed.
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,
}

#[derive(Debug, Args)]
pub struct TailArguments {
    pub stream: String,
    /// First sequence; by default the end of the stream.
    #[arg(long, value_name = "SEQUENCE")]
    pub from: Option<u64>,
    /// Print raw payloads, each followed by a line feed.
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,
}

#[derive(Clone, Debug, Args)]
pub struct LoadArguments {
    /// A stream to append to; may be repeated.
    #[arg(long = "stream", value_name = "STREAM", required = true)]
    pub streams: Vec<String>,
    /// Records per second and stream, e.g. 20 or 20/s; 0 = as fast as possible.
    #[arg(long, value_name = "N", value_parser = rate)]
    pub rate: f64,
    /// Size of a record in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub size: usize,
    /// Where acknowledgements go before they count: a collector, or `-` for standard output. Without it they count at once, and
    /// there is no list to verify.
    #[arg(long, value_name = "HOST:PORT|-")]
    pub collector: Option<Destination>,
    /// Maximum number of records per stream that wait for acknowledgement or for the collector.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub in_flight: u32,
    /// Stop after this number of counted records in each stream; 0 = never.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub count: u64,
    /// End with exit code 3 when a stream has no acknowledgement for so long and every attempt fails. With --count 2m by default,
    /// without it never.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub give_up: Option<Duration>,
    /// Interval between printed lines.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub report_every: Duration,
}

#[derive(Debug, Subcommand)]
pub enum SnapshotVerb {
    /// Take a snapshot of each stream and wait for it. Exit code 1 when one fails or is not done in time.
    Take(TakeArguments),
    /// List the sessions and snapshots of this engine, newest first in each stream.
    List {
        #[arg(long, value_name = "STREAM")]
        stream: Option<String>,
    },
    /// Show one snapshot; any engine of the cluster can answer.
    Show { stream: String, id: String },
    /// Verify a snapshot in Tier 2; any engine of the cluster can do it. Exit code 1 when it is damaged.
    Verify {
        stream: String,
        id: String,
        /// L0 checks every object with size and checksum. L1 also replays the manifest. L2 also reads every byte of every segment.
        #[arg(long, value_enum, ignore_case = true, default_value_t = VerifyLevel::L0)]
        level: VerifyLevel,
        /// Maximum wait for L2. The engine gives up 15 minutes after the last request.
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
        deadline: Duration,
    },
    /// Delete a snapshot: its catalogue leaves Tier 2, and what it alone names goes as objects of trimmed segments do.
    ///
    /// Ask the engine that owns the stream. The newest verified snapshot of a stream always stays. What Tier 2 does not do now the engine
    /// does later automatically; the command says what it waits for. The same command again changes nothing. Exit code 4 where the snapshot is needed
    /// or in use, with the reason.
    Delete { stream: String, id: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerifyLevel {
    #[value(name = "L0")]
    L0,
    #[value(name = "L1")]
    L1,
    #[value(name = "L2")]
    L2,
}

#[derive(Debug, Args)]
pub struct TakeArguments {
    #[arg(value_name = "STREAM", required_unless_present = "all")]
    pub streams: Vec<String>,
    /// Every stream of this engine.
    #[arg(long, conflicts_with = "streams")]
    pub all: bool,
    /// Name of the request; the same name returns the same snapshot. A new name each time by default.
    #[arg(long, value_name = "NAME")]
    pub request: Option<String>,
    /// Take sealed segments only; by default open segments are sealed first.
    #[arg(long)]
    pub sealed_only: bool,
    /// Start the snapshot and do not wait.
    #[arg(long)]
    pub no_wait: bool,
    /// Maximum wait. The engine continues afterwards.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub deadline: Duration,
}

#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check an aof2.toml: every problem with file, line, key and the nearest known key.
    Check {
        file: PathBuf,
        /// Kind of file.
        #[arg(long, value_enum, default_value_t = ConfigOwner::User)]
        mode: ConfigOwner,
    },
    /// Let the running engine validate an aof2.toml and list the keys that would change.
    Validate {
        file: PathBuf,
        /// Kind of file; an engine validates user and pod.
        #[arg(long, value_enum, default_value_t = ConfigOwner::User)]
        mode: ConfigOwner,
    },
    /// Print every key of the running engine, with default, unit and reload class, as JSON Schema.
    Schema,
    /// Print the configuration in use, as TOML.
    Show,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConfigOwner {
    /// For spec.configFrom; keys of the operator are rejected.
    User,
    /// Rendered by the operator for a pod.
    Pod,
    /// For an engine outside Kubernetes.
    StandAlone,
}

#[derive(Debug, Args)]
pub struct DrainArguments {
    /// Validity of the drain token.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub ttl: Option<Duration>,
    /// Time to upload sealed segments while appends are still accepted.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub upload_timeout: Option<Duration>,
    /// Maximum time with closed admission before the drain fails.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub drain_timeout: Option<Duration>,
    /// Do not wait for this damaged stream; repeatable. Records that are not uploaded stay on the volume.
    #[arg(long, value_name = "STREAM")]
    pub without: Vec<String>,
    /// Wait until the drain succeeds or fails; exit code 1 when it fails.
    #[arg(long)]
    pub wait: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    aof2_node::config::parse_duration(text)
        .ok_or_else(|| format!("`{text}` is not a duration such as 500ms, 30s or 10m"))
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    match number.parse::<f64>() {
        Ok(rate) if rate.is_finite() && (0.0..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err(format!(
            "`{text}` is not a rate between 0 and 10000000 records a second"
        )),
    }
}
