//! `aof2-collector`: the collector of acknowledgements as a program of its own.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use aof2_e2e::collector::{Collector, Keep};
use clap::Parser;

/// Takes acknowledgements from `aof2-admin load`, writes each down and confirms it.
#[derive(Parser)]
#[command(name = "aof2-collector", version)]
struct Arguments {
    /// Address to listen on; port 0 picks a free one, which is printed.
    #[arg(long)]
    listen: SocketAddr,
    /// Folder for one list per stream. Without it acknowledgements are only counted.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Acknowledgements confirmed a second on each connection; writers append no faster. Without it as many as come.
    #[arg(long, value_name = "N")]
    pace: Option<NonZeroUsize>,
}

fn main() -> Result<()> {
    let Arguments {
        listen,
        folder,
        pace,
    } = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let collector =
            Collector::start_paced(listen, folder.map_or(Keep::Count, Keep::Files), pace).await?;
        println!("listening on {}", collector.address());
        tokio::signal::ctrl_c().await?;
        println!("confirmed {} acknowledgements", collector.total());
        Ok(())
    })
}
