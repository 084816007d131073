//! The command-line tools of a node: `aof2-admin` works against a live one, `manifest-inspect` on files and buckets, `tier1-cache-util` on
//! Tier 1 of either.
//!
//! - Tables for people, `--json` for machines; the JSON of a verb is the admin API's own type wherever there is one.
//! - Exit codes: 0 ok, 1 negative finding, 2 usage, 3 unavailable, 4 refused, 5 not found. With `--json` an error is an object too.
//! - Results go to standard output, everything else to standard error.

mod cli;
mod cmd;
mod data;
mod exit;
pub mod inspect;
pub mod load;
mod progress;
mod render;
mod tier1;
mod tls;
pub mod verify;

use std::process::ExitCode;

use clap::Parser;

/// Entry of `aof2-admin`.
pub fn admin(version: &'static str) -> ExitCode {
    let arguments = match cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    if arguments.version {
        println!("aof2-admin {version}");
        return ExitCode::SUCCESS;
    }
    let Some(verb) = arguments.verb else {
        return exit::usage(<cli::Arguments as clap::CommandFactory>::command());
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return exit::Failure::Unavailable(format!("cannot start threads: {error}"))
                .report(arguments.connection.json);
        }
    };
    let code = exit::code(
        runtime.block_on(cmd::run(&arguments.connection, verb)),
        arguments.connection.json,
    );
    // A blocked read of standard input must not keep the process.
    runtime.shutdown_background();
    code
}

/// Entry of `tier1-cache-util`.
pub fn tier1_cache_util(version: &'static str) -> ExitCode {
    let arguments = match tier1::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    if arguments.version {
        println!("tier1-cache-util {version}");
        return ExitCode::SUCCESS;
    }
    let Some(verb) = &arguments.verb else {
        return exit::usage(<tier1::Arguments as clap::CommandFactory>::command());
    };
    let json = arguments.connection.json;
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return exit::Failure::Unavailable(format!("cannot start threads: {error}"))
                .report(json);
        }
    };
    exit::code(runtime.block_on(tier1::run(&arguments, verb)), json)
}

/// Entry of `manifest-inspect`.
pub fn manifest_inspect(version: &'static str) -> ExitCode {
    let arguments = match inspect::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    if arguments.version {
        println!("manifest-inspect {version}");
        return ExitCode::SUCCESS;
    }
    exit::code(inspect::run(&arguments), arguments.json)
}
