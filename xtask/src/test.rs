use anyhow::Result;
pub const CLUSTER: &str = "test";
#[derive(clap::Args)]
pub struct Options {}
pub fn run(_o: &Options) -> Result<()> { Ok(()) }
