//! `cargo xtask demo`: everything up to the scenario, which `e2e/src/bin/demo` tells.

use std::process::Command;

use anyhow::Result;

use crate::cargo::{self, Targets};
use crate::cluster::{self, Wishes};
use crate::console::{say, section};
use crate::{command, image, places, prerequisites};

const CLUSTER: &str = "demo";
const STORY: &str = "aof2-demo";

#[derive(clap::Args)]
pub struct Options {
    /// Remove the demo's cluster
    #[arg(long)]
    down: bool,
    /// Arguments of the scenario itself
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub fn run(options: &Options) -> Result<()> {
    if options.down {
        cluster::down(CLUSTER)?;
        say(format_args!(
            "the demo is gone; {} (built programs) and installed packages remain",
            places::cache()?.display()
        ));
        return Ok(());
    }
    say(format_args!("{} on two cores", estimate()));
    section("prerequisites");
    cluster::check()?;
    // Rust and Go at the same time: while one waits for the network or links, the other compiles.
    let (built, prepared) = std::thread::scope(|scope| {
        let prepare = scope.spawn(cluster::prepare);
        let built = cargo::build(Targets::Programs, None);
        (built, prepare.join())
    });
    prepared.map_err(|_| anyhow::anyhow!("the preparation panicked"))??;
    let built = built?;
    section("a cluster");
    let cluster = cluster::up(CLUSTER, Wishes::default())?;
    section("images");
    let images = image::build_from(&built, Targets::Programs, &cluster.image_prefix)?;
    cluster.load(&images)?;
    section("the scenario");
    command::run(
        Command::new(built.program(STORY)?)
            .args(&options.arguments)
            .envs(cluster.environment()?)
            .current_dir(places::root()),
    )?;
    println!();
    cluster::status(CLUSTER, false)?;
    println!("# the end of it: cargo xtask demo --down");
    Ok(())
}

/// Measured: see docs/benchmarks.md.
fn estimate() -> &'static str {
    match (
        prerequisites::are_built(),
        cargo::was_built(Targets::Programs),
    ) {
        (true, true) => "this takes 5 to 6 minutes",
        (true, false) => "this takes about 12 minutes, half of it to compile the programs,",
        (false, true | false) => "this takes about 30 minutes, most of it to compile Kubernetes,",
    }
}
