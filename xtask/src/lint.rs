//! What a reviewer should not have to say.

use anyhow::Result;

use crate::cargo::cargo;
use crate::command;
use crate::console::say;

pub fn run() -> Result<()> {
    command::run(cargo().args(["fmt", "--all", "--check"]))?;
    command::run(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    deny()
}

/// Bans, licences and sources. Advisories need a database from the network and are left to `cargo deny check advisories`.
fn deny() -> Result<()> {
    if !command::succeeds(cargo().args(["deny", "--version"])) {
        say("cargo deny is not installed; bans, licences and sources were not checked");
        return Ok(());
    }
    command::run(cargo().args(["deny", "check", "bans", "licenses", "sources"]))
}
