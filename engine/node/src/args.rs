//! The command line of `aof2-engine`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// The AOF2 data plane: a tiered append-only log behind a Unix socket.
#[derive(Debug, Parser)]
#[command(name = "aof2-engine", disable_version_flag = true)]
pub struct Arguments {
    /// Print the version and exit.
    #[arg(long, short = 'V')]
    pub version: bool,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a data directory until SIGTERM.
    Run(Box<RunArguments>),
    /// Inspect the configuration schema
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every key with default, range, owner and reload class, as JSON
    Schema,
}

/// Use `--config` alone in a pod, and `--data-dir` without Kubernetes. A flag overrides the file
#[derive(Clone, Debug, Args)]
#[command(args_override_self = true)]
pub struct RunArguments {
    /// Configuration file; the engine reloads it when its content changes
    #[arg(long, value_name = "FILE", required_unless_present = "data_dir")]
    pub config: Option<PathBuf>,
    /// Interval between checks of the configuration file
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = config_poll)]
    pub config_poll: Duration,
    /// Data directory; with it the configuration file needs no [cluster] and no [node]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Unix socket of the data API.
    #[arg(long, value_name = "PATH")]
    pub data_socket: Option<PathBuf>,
    /// Private Unix socket of the admin API.
    #[arg(long, value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,
    /// Admin API over mutual TLS; needs --tls-directory and --tls-client-name.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin_address: Option<SocketAddr>,
    /// Address of probes and metrics; port 0 picks a free port
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http_address: Option<SocketAddr>,
    /// Directory with tls.crt, tls.key and ca.crt of the admin API
    #[arg(long, value_name = "DIR", requires = "tls_client_name")]
    pub tls_directory: Option<PathBuf>,
    /// DNS name that a client certificate must have
    #[arg(long, value_name = "NAME", requires = "tls_directory")]
    pub tls_client_name: Option<String>,
    /// Keep Tier 2 in a directory instead of an object store
    #[arg(long, value_name = "DIR")]
    pub tier2_directory: Option<PathBuf>,
    #[arg(long, value_name = "ID")]
    pub cluster_id: Option<String>,
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
}

fn config_poll(text: &str) -> Result<Duration, String> {
    crate::config::parse_duration(text)
        .filter(|period| !period.is_zero())
        .ok_or_else(|| format!("`{text}` is not a duration above zero such as 500ms or 5s"))
}
