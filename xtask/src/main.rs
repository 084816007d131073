//! `cargo xtask VERB`: the one door for people and for CI.

mod cargo;
mod cluster;
mod command;
mod console;
mod demo;
mod generate;
mod image;
mod lint;
mod mutants;
mod places;
mod prerequisites;
mod release;
mod test;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use cluster::Wishes;
use console::say;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Everything that is done to this repository beside editing it",
    version
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// A real Kubernetes: start it, end it, ask about it
    #[command(subcommand)]
    Cluster(ClusterVerb),
    /// Make the images, and load them into a cluster if one is named
    Image {
        /// The cluster that gets them
        #[arg(long)]
        cluster: Option<String>,
    },
    /// What is published: images for amd64 and arm64, the chart, lists of their parts, checksums
    Release(release::Options),
    /// All tests: formatting, units, and the scenarios in a cluster
    Test(test::Options),
    /// Watch a cluster of three be installed, written to, and upgraded under load
    Demo(demo::Options),
    /// Break the code in one place at a time: a test has to notice
    Mutants(mutants::Options),
    /// cargo fmt --check, clippy, and cargo deny where that is installed
    Lint,
    /// Make the generated files again
    Generate,
}

#[derive(Subcommand)]
enum ClusterVerb {
    /// Start what is not running
    Up {
        #[command(flatten)]
        cluster: ClusterName,
        /// How many nodes; raise it to add some
        #[arg(long)]
        nodes: Option<u32>,
        /// Let the API server log every request
        #[arg(long)]
        audit: bool,
    },
    /// End it; only the cache folder stays
    Down {
        #[command(flatten)]
        cluster: ClusterName,
    },
    /// How to talk to it, its nodes and versions
    Status {
        #[command(flatten)]
        cluster: ClusterName,
        /// For programs
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
struct ClusterName {
    /// Clusters of different names run side by side
    #[arg(long, default_value = "demo")]
    name: String,
}

fn main() -> ExitCode {
    console::start_clock();
    if let Some(error) = restart_with_system_folders() {
        eprintln!("error: cannot start again: {error}");
        return ExitCode::FAILURE;
    }
    match run(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Cluster(ClusterVerb::Up {
            cluster,
            nodes,
            audit,
        }) => {
            // Tests read the log, so their cluster always keeps it.
            let audit = audit || cluster.name == test::CLUSTER;
            cluster::up(&cluster.name, Wishes { nodes, audit })?;
            cluster::status(&cluster.name, false)
        }
        Verb::Cluster(ClusterVerb::Down { cluster }) => cluster::down(&cluster.name),
        Verb::Cluster(ClusterVerb::Status { cluster, json }) => {
            cluster::status(&cluster.name, json)
        }
        Verb::Image { cluster } => make_images(cluster.as_deref()),
        Verb::Release(options) => release::run(&options),
        Verb::Test(options) => test::run(&options),
        Verb::Demo(options) => demo::run(&options),
        Verb::Mutants(options) => mutants::run(&options),
        Verb::Lint => lint::run(),
        Verb::Generate => generate::run(),
    }
}

fn make_images(cluster: Option<&str>) -> Result<()> {
    let Some(name) = cluster else {
        cluster::prepare()?;
        image::build(image::LOCAL_PREFIX)?;
        return Ok(());
    };
    let Some(cluster) = cluster::find(name)? else {
        bail!("cluster {name} is not running; start it: cargo xtask cluster up --name {name}");
    };
    cluster::prepare()?;
    cluster.load(&image::build(&cluster.image_prefix)?)?;
    say(format_args!("cluster {name} has the images"));
    Ok(())
}

/// A user who became root by `su` lacks the folders where `ip` and its like are, and Go is often not on anybody's PATH.
/// Returns only when there is nothing to do, or an error.
fn restart_with_system_folders() -> Option<std::io::Error> {
    let path = std::env::var("PATH").unwrap_or_default();
    let missing: Vec<&str> = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/go/bin"]
        .into_iter()
        .filter(|folder| !path.split(':').any(|on_path| on_path == *folder))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let myself = std::env::current_exe().ok()?;
    let path = format!("{path}:{}", missing.join(":"));
    Some(
        Command::new(myself)
            .args(std::env::args_os().skip(1))
            .env("PATH", path)
            .exec(),
    )
}
