//! `cargo xtask test`: formatting, one build, the units, and the scenarios on a real cluster.
//!
//! Test programs are run directly rather than by `cargo test -p`: the workspace is built once as a whole, and asking cargo for
//! one package would build the dependencies again with other features.

mod diagnostics;
mod program;
mod summary;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::cargo::{self, Built, Targets, TestProgram, cargo};
use crate::cluster::{self, Cluster, Wishes};
use crate::console::{say, section};
use crate::image::{self, registry};
use crate::prerequisites::{self, Need};
use crate::{command, generate, places};
use program::Run;
use summary::Summary;

/// The cluster that tests run in.
pub const CLUSTER: &str = "test";
/// The package whose integration tests need it.
const E2E: &str = "aof2-e2e";

const STORIES_AT_ONCE: u32 = 4;

/// One test program may hang, and must not take the rest of the run with it. The crash tests kill hundreds of processes.
const UNIT_LIMIT: Duration = Duration::from_secs(15 * 60);
const E2E_LIMIT: Duration = Duration::from_secs(40 * 60);

#[derive(clap::Args)]
pub struct Options {
    /// Only a part of the tests
    #[arg(long)]
    only: Option<Part>,
    /// Leave the cluster up afterwards
    #[arg(long)]
    keep: bool,
    /// Words that test names must contain, or flags of the test programs
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What needs no cluster
    Unit,
    /// The scenarios on a cluster
    E2e,
}

pub fn run(options: &Options) -> Result<()> {
    let mut summary = Summary::default();
    let outcome = run_parts(options, &mut summary);
    summary.print();
    outcome?;
    if summary.has_failures() {
        bail!("tests failed");
    }
    Ok(())
}

fn run_parts(options: &Options, summary: &mut Summary) -> Result<()> {
    let (with_units, with_e2e) = (
        options.only != Some(Part::E2e),
        options.only != Some(Part::Unit),
    );
    match with_e2e {
        true => cluster::check()?,
        false => prerequisites::none(&prerequisites::missing(Need::Tests))?,
    }
    if with_e2e && with_units && options.arguments.is_empty() {
        say(format_args!("{} on two cores", estimate()));
    }
    if with_units {
        section("format");
        summary.step("cargo fmt --check", || {
            command::run(cargo().args(["fmt", "--all", "--check"]))
        })?;
    }
    section("build");
    let built = build(with_e2e, summary)?;
    if with_units {
        section("unit and integration tests");
        summary.step("generated files are current", || generate::check(&built))?;
        run_units(&built, options, summary)?;
    }
    if with_e2e {
        section("end to end");
        run_e2e(&built, options, summary)?;
    }
    Ok(())
}

/// Of everything. Measured: see docs/benchmarks.md.
fn estimate() -> &'static str {
    match (prerequisites::are_built(), cargo::was_built(Targets::All)) {
        (true, true) => "this takes about 16 minutes",
        (true, false) => "this takes about 20 minutes, a quarter of it to compile,",
        (false, true | false) => "this takes about 42 minutes, half of it to compile Kubernetes,",
    }
}

/// Rust and Go at the same time: while one waits for the network or links, the other compiles.
fn build(with_cluster: bool, summary: &mut Summary) -> Result<Built> {
    let (built, prepared) = std::thread::scope(|scope| {
        let prepare = scope.spawn(move || match with_cluster {
            true => cluster::prepare(),
            false => prerequisites::ensure(Need::Tests),
        });
        let built = summary.step("cargo build", || cargo::build(Targets::All, None));
        let prepared = summary.step("packages and Go programs (beside cargo)", || match prepare
            .join()
        {
            Ok(prepared) => prepared,
            Err(_) => bail!("the preparation panicked"),
        });
        (built, prepared)
    });
    prepared?;
    built
}

fn run_units(built: &Built, options: &Options, summary: &mut Summary) -> Result<()> {
    // Servers that tests start, such as the S3 server, are found here.
    let bin = places::bin()?;
    let environment = [
        ("AOF2_E2E_BIN", bin.display().to_string()),
        ("PATH", command::search_path(&bin)),
    ];
    for test in built.tests.iter().filter(|test| !needs_cluster(test)) {
        let run = Run {
            test,
            arguments: &options.arguments,
            environment: &environment,
            limit: UNIT_LIMIT,
        };
        summary.tests(&test_name(test), || run.to_end())?;
    }
    if options.arguments.is_empty() {
        summary
            .step("examples in documentation", || {
                command::run(cargo().args(["test", "--quiet", "--workspace", "--doc"]))
            })
            .ok(); // counted, and the rest still runs
    }
    Ok(())
}

fn run_e2e(built: &Built, options: &Options, summary: &mut Summary) -> Result<()> {
    let was_up = cluster::find(CLUSTER)?.is_some();
    let cluster = summary.step("cluster up", || {
        cluster::up(
            CLUSTER,
            Wishes {
                nodes: None,
                audit: true,
            },
        )
    })?;
    let outcome = run_stories(built, &cluster, options, summary);
    if options.keep || was_up {
        say(format_args!(
            "cluster {CLUSTER} stays up (cargo xtask cluster status --name {CLUSTER})"
        ));
    } else {
        summary.step("cluster down", || cluster::down(CLUSTER))?;
    }
    outcome
}

fn run_stories(
    built: &Built,
    cluster: &Cluster,
    options: &Options,
    summary: &mut Summary,
) -> Result<()> {
    let images = summary.step("images", || {
        image::build_from(built, Targets::All, &cluster.image_prefix)
    })?;
    summary.step("images through a registry and back", || {
        registry::round_trip(&images)
    })?;
    summary.step("images into the cluster", || cluster.load(&images))?;
    let skipped = tempfile::NamedTempFile::new()?;
    let mut environment = cluster.environment()?;
    environment.push(("AOF2_E2E_SKIPPED", skipped.path().display().to_string()));
    for test in built.tests.iter().filter(|test| needs_cluster(test)) {
        // Scenarios mostly wait, each in a namespace of its own; more of them on two cores would meet their deadlines.
        let mut arguments = options.arguments.clone();
        if !arguments
            .iter()
            .any(|argument| argument.starts_with("--test-threads"))
        {
            arguments.push(format!("--test-threads={STORIES_AT_ONCE}"));
        }
        let run = Run {
            test,
            arguments: &arguments,
            environment: &environment,
            limit: E2E_LIMIT,
        };
        let run_and_ask_what_was_skipped = || {
            skipped.as_file().set_len(0)?;
            let mut counts = run.to_end()?;
            for line in std::fs::read_to_string(skipped.path())?.lines() {
                say(format_args!("skipped: {line}"));
                counts.skipped += 1;
            }
            Ok(counts)
        };
        if !summary.tests(&test_name(test), run_and_ask_what_was_skipped)? {
            let kept = diagnostics_folder(built)?;
            diagnostics::print(cluster, &kept);
        }
    }
    // Only the whole of the scenarios uses the whole of what is granted.
    if options.arguments.is_empty() && cluster.audit_log.is_some() {
        let environment = cluster.environment()?;
        summary
            .step("what the chart grants is what operators used", || {
                command::run(Command::new(built.program("aof2-granted")?).envs(environment))
            })
            .ok(); // counted, and the cluster still goes down
    }
    Ok(())
}

fn needs_cluster(test: &TestProgram) -> bool {
    test.package == E2E && test.is_integration
}

fn test_name(test: &TestProgram) -> String {
    match test.is_integration {
        true => format!("{} tests/{}", test.package, test.target),
        false => format!("{} {}", test.package, test.target),
    }
}

/// Where diagnostics stay when the cluster is gone.
fn diagnostics_folder(built: &Built) -> Result<PathBuf> {
    let program = built.program("aof2-operator")?;
    let target = program
        .ancestors()
        .nth(3)
        .context("a program outside the target folder")?;
    Ok(target.join("e2e-diagnostics"))
}
