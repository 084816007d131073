//! `tier1-cache-util`: what lies in Tier 1 of a node, asked of its engine or, while none runs, of its data directory.

mod cli;
mod offline;
mod render;
mod train;

use std::time::Duration;

use aof2_admin_api::tier1::{Tier1Stats, Tier1Work};

pub use cli::Arguments;
use cli::Verb;
pub(crate) use cli::pattern;

use crate::cmd;
use crate::exit::{Failure, Outcome};
use crate::progress::Progress;
use crate::render as output;

/// Between two looks at what an engine works on.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub async fn run(arguments: &Arguments, verb: &Verb) -> Result<Outcome, Failure> {
    let json = arguments.connection.json;
    match verb {
        Verb::Stats { stream } => {
            let streams = stream.as_deref();
            let stats = match &arguments.directory {
                Some(directory) => offline::stats(&arguments.place(directory), streams)?,
                None => admin(arguments)?.tier1(streams).await?,
            };
            print_stats(&stats, json)
        }
        Verb::Verify { stream } => {
            let streams = stream.as_deref();
            let progress = Progress::new(json);
            let work = match &arguments.directory {
                Some(directory) => {
                    offline::verify(&arguments.place(directory), streams, &progress)?
                }
                None => {
                    let admin = admin(arguments)?;
                    let begun = admin.verify_tier1(streams).await?;
                    wait(&admin, begun, &progress).await?
                }
            };
            print_work(&work, json)
        }
        Verb::Recompress { level, stream } => {
            let streams = stream.as_deref();
            let progress = Progress::new(json);
            let work = match (&arguments.directory, level) {
                (Some(directory), Some(level)) => {
                    offline::recompress(&arguments.place(directory), streams, *level, &progress)?
                }
                (Some(_), None) => {
                    return Err(Failure::Usage(
                        "--level is missing: a data directory does not record the level of the configuration; add --level 1..19"
                            .to_owned(),
                    ));
                }
                (None, level) => {
                    let admin = admin(arguments)?;
                    let begun = admin.recompress_tier1(streams, *level).await?;
                    wait(&admin, begun, &progress).await?
                }
            };
            print_work(&work, json)
        }
        Verb::Train(wanted) => train::run(arguments, wanted),
    }
}

fn admin(arguments: &Arguments) -> Result<aof2_admin_api::client::Client, Failure> {
    cmd::admin(&arguments.connection)
}

async fn wait(
    admin: &aof2_admin_api::client::Client,
    mut work: Tier1Work,
    progress: &Progress,
) -> Result<Tier1Work, Failure> {
    while !work.has_ended {
        progress.show(work.done_bytes, work.bytes, &render::so_far(&work));
        tokio::time::sleep(LOOK_EVERY).await;
        work = admin.tier1_work(work.id).await?;
    }
    progress.clear();
    Ok(work)
}

fn print_stats(stats: &Tier1Stats, json: bool) -> Result<Outcome, Failure> {
    match json {
        true => output::json(stats)?,
        false => output::line(&render::stats(stats))?,
    }
    Ok(outcome(stats.findings.is_empty()))
}

/// What stopped it is an error; what it found until then is printed all the same.
fn print_work(work: &Tier1Work, json: bool) -> Result<Outcome, Failure> {
    match json {
        true => output::json(work)?,
        false => output::line(&render::work(work))?,
    }
    match &work.failure {
        Some(failure) => Err(Failure::Unavailable(failure.clone())),
        None => Ok(outcome(work.findings.is_empty())),
    }
}

fn outcome(is_clean: bool) -> Outcome {
    match is_clean {
        true => Outcome::Clean,
        false => Outcome::Negative,
    }
}
