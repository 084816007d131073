//! The command line of `aof2-admin`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::load::collector::Destination;

/// Looks into a running AOF2 engine and works with its streams.
///
/// Exit codes: 0 ok, 1 negative finding, 2 usage, 3 unavailable, 4 refused.
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

/// Where the engine is, and how to print what it says.
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
    /// Unix socket of the admin API.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "/run/aof2-admin/admin.sock"
    )]
    pub admin_socket: PathBuf,
    /// Admin API over mutual TLS instead: https://ADDRESS:PORT; needs --tls-directory and --server-name.
    #[arg(long, global = true, value_name = "URL", requires_all = ["tls_directory", "server_name"])]
    pub url: Option<String>,
    /// Holds tls.crt, tls.key and ca.crt of a client that the engine accepts.
    #[arg(long, global = true, value_name = "DIR")]
    pub tls_directory: Option<PathBuf>,
    /// Name in the engine's certificate: <cluster id>.engine.aof2.dev.
    #[arg(long, global = true, value_name = "NAME")]
    pub server_name: Option<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Limit of a request to the admin API.
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
}

const LOAD_EXAMPLE: &str = "Example:
  aof2-admin load --stream load-test --rate 100 --count 1000 --collector - > acknowledged.jsonl
  aof2-admin verify < acknowledged.jsonl";

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Everything that an on-call asks first.
    Dump,
    /// The streams of this node and how far each is durable, sealed and uploaded.
    Streams,
    /// The segments of one stream, or of all.
    Segments {
        #[arg(long, value_name = "STREAM")]
        stream: Option<String>,
    },
    /// Seal the active segment of one stream, or of all.
    Seal {
        #[arg(long, value_name = "STREAM")]
        stream: Option<String>,
    },
    /// Make everything that is staged durable.
    Flush,
    /// Append records: each --payload, or else each line of standard input.
    Append(AppendArguments),
    /// Print records of a stream.
    Read(ReadArguments),
    /// Print records of a stream as they become durable, until interrupted.
    Tail(TailArguments),
    /// Put load on the engine: append test records at a steady rate, and keep the list of what was acknowledged.
    ///
    /// A record counts when its acknowledgement is in the list: at the collector, or on standard output. Keep the list outside the
    /// pod, and `verify` proves later that nothing in it is lost. The streams get real records, so use streams of their own. A load
    /// goes on where the one before ended; it waits while the engine is away. Exit code 1 when a stream came back with less than
    /// it had acknowledged.
    #[command(after_help = LOAD_EXAMPLE)]
    Load(LoadArguments),
    /// Prove that nothing acknowledged is lost: compare the list of a `load` on standard input with the streams.
    ///
    /// Each line names a record by stream, sequence and hash, as `load` writes it. Streams live on one pod each: ask the engine that
    /// owns them. Prints what is wrong and then one line with the sums. `unacknowledged` counts records that the streams hold and
    /// the list does not; these are no error, since a writer may end before it is told. Exit code 1 when records are lost,
    /// reordered or duplicated.
    #[command(after_help = LOAD_EXAMPLE)]
    Verify,
    /// Write down what streams hold in Tier 2, and read it back.
    #[command(subcommand)]
    Snapshot(SnapshotVerb),
    /// About configuration files.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Seal and upload everything and close admission: the evidence that this engine may be replaced.
    Drain(DrainArguments),
    /// Admit appends again after a drain.
    Resume,
    /// For the preStop hook: tell the engine that its pod goes. Never fails.
    Prestop,
}

#[derive(Debug, Args)]
pub struct AppendArguments {
    pub stream: String,
    /// One record; may be repeated.
    #[arg(long, value_name = "TEXT")]
    pub payload: Vec<String>,
    /// Answer when staged rather than when durable.
    #[arg(long)]
    pub buffered: bool,
    /// Make the append idempotent: records with a producer_seq that the stream holds are not written again.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..), requires = "producer_seq")]
    pub producer_id: Option<u64>,
    /// Of the first record; the others follow by one.
    #[arg(long, value_name = "N", requires = "producer_id")]
    pub producer_seq: Option<u64>,
    /// The stream's durable sequence before the producer's id was first used in it: a stream that has forgotten producers asks for it.
    #[arg(long, value_name = "N", requires = "producer_id")]
    pub producer_since: Option<u64>,
}

#[derive(Debug, Args)]
pub struct ReadArguments {
    pub stream: String,
    /// First sequence; the first that the stream holds by default.
    #[arg(long, value_name = "SEQUENCE")]
    pub from: Option<u64>,
    /// Records at most; 0 = all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: u64,
    /// Records that are staged and not yet durable, too.
    #[arg(long)]
    pub include_staged: bool,
    /// Payloads alone, as they are, each followed by a line feed.
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,
}

#[derive(Debug, Args)]
pub struct TailArguments {
    pub stream: String,
    /// First sequence; the end of the stream by default.
    #[arg(long, value_name = "SEQUENCE")]
    pub from: Option<u64>,
    /// Payloads alone, as they are, each followed by a line feed.
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,
}

#[derive(Clone, Debug, Args)]
pub struct LoadArguments {
    /// A stream to append to; may be repeated.
    #[arg(long = "stream", value_name = "STREAM", required = true)]
    pub streams: Vec<String>,
    /// Records a second and stream, e.g. 20 or 20/s; 0 = as fast as it goes.
    #[arg(long, value_name = "N", value_parser = rate)]
    pub rate: f64,
    /// Bytes of a record.
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub size: usize,
    /// Where acknowledgements go before they count: a collector, or `-` for standard output. Without it they count at once, and
    /// there is no list to verify.
    #[arg(long, value_name = "HOST:PORT|-")]
    pub collector: Option<Destination>,
    /// Records of a stream that may wait for their acknowledgement or for the collector.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub in_flight: u32,
    /// End after so many counted records in each stream; 0 = never.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub count: u64,
    /// How often to print a line.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub report_every: Duration,
}

#[derive(Debug, Subcommand)]
pub enum SnapshotVerb {
    /// Take a snapshot of each stream and wait for it. Exit code 1 when one fails or is not done in time.
    Take(TakeArguments),
    /// Sessions and snapshots that this engine knows, newest first in each stream.
    List {
        #[arg(long, value_name = "STREAM")]
        stream: Option<String>,
    },
    /// One snapshot; any engine of the cluster answers.
    Show { stream: String, id: String },
    /// Read a snapshot back from Tier 2; any engine of the cluster does. Exit code 1 when it is not what it was.
    Verify {
        stream: String,
        id: String,
        /// L0: every object with its size and checksum. L1: the manifest is replayed as well.
        #[arg(long, value_enum, ignore_case = true, default_value_t = VerifyLevel::L0)]
        level: VerifyLevel,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerifyLevel {
    #[value(name = "L0")]
    L0,
    #[value(name = "L1")]
    L1,
}

#[derive(Debug, Args)]
pub struct TakeArguments {
    #[arg(value_name = "STREAM", required_unless_present = "all")]
    pub streams: Vec<String>,
    /// Every stream of this engine.
    #[arg(long, conflicts_with = "streams")]
    pub all: bool,
    /// Who asks: the same request again answers the same snapshot. A new one each time by default.
    #[arg(long, value_name = "NAME")]
    pub request: Option<String>,
    /// Take what is sealed; by default records beyond the sealed segments are sealed first.
    #[arg(long)]
    pub sealed_only: bool,
    /// Begin and do not wait.
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait. The engine goes on after.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub deadline: Duration,
}

#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check an aof2.toml: every problem with file, line, key and the nearest known key.
    Check {
        file: PathBuf,
        /// Whose file it is.
        #[arg(long, value_enum, default_value_t = ConfigOwner::User)]
        mode: ConfigOwner,
    },
    /// Ask the running engine what it would make of an aof2.toml: whether it is valid, and which keys would change.
    Validate {
        file: PathBuf,
        /// Whose file it is; an engine knows user and pod.
        #[arg(long, value_enum, default_value_t = ConfigOwner::User)]
        mode: ConfigOwner,
    },
    /// Every key that the running engine knows, with default, unit and reload class, as JSON Schema.
    Schema,
    /// The configuration in force, as TOML.
    Show,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConfigOwner {
    /// For spec.configFrom: keys of the operator are refused.
    User,
    /// As the operator renders it for a pod.
    Pod,
    /// For an engine outside Kubernetes.
    StandAlone,
}

#[derive(Debug, Args)]
pub struct DrainArguments {
    /// How long the token is valid.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub ttl: Option<Duration>,
    /// How long appends are still admitted while what there is gets uploaded.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub upload_timeout: Option<Duration>,
    /// How long admission stays closed before the drain gives up.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub drain_timeout: Option<Duration>,
    /// Wait until it is drained or has given up; exit code 1 for the latter.
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
