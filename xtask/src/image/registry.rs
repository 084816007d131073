//! Images by way of a registry: pushing to a user's, and a round trip through one of our own.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::oci::Image;
use crate::command::{output, succeeds, wait_until};
use crate::console::say;
use crate::places;

/// Pushes under the image's own reference. crane speaks plain HTTP to registries on the loopback address only.
pub fn push(image: &Image) -> Result<()> {
    push_with(&places::bin()?, image)
}

/// `bin` holds crane.
pub fn push_with(bin: &Path, image: &Image) -> Result<()> {
    output(
        crane(bin)
            .arg("push")
            .arg(&image.layout)
            .arg(&image.reference),
    )
    .with_context(|| format!("cannot push {}", image.reference))?;
    say(format_args!("pushed {}", image.reference));
    Ok(())
}

/// Pushes `images` to a registry that lives as long as this call, pulls them back, and compares digests: what we write is
/// what a registry takes for an image.
pub fn round_trip(images: &[Image]) -> Result<()> {
    let bin = places::bin()?;
    serve(&bin, |address| exchange(&bin, images, address))
}

/// Runs `with` beside a registry of its own, given as `host:port`.
pub fn serve(bin: &Path, with: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let mut registry = crane(bin)
        .args(["registry", "serve", "--address", &address])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start a registry")?;
    let answers = || succeeds(crane(bin).args(["catalog", &address]));
    let result = wait_until("the registry answers", Duration::from_secs(10), answers)
        .and_then(|()| with(&address));
    registry.kill()?;
    registry.wait()?;
    result
}

fn exchange(bin: &Path, images: &[Image], address: &str) -> Result<()> {
    for image in images {
        // A folder of its own: in containers that share one for temporary files, process numbers are the same.
        let pulled = tempfile::tempdir()?;
        let remote = Image {
            reference: format!("{address}/{}", image.short_name()),
            ..image.clone()
        };
        push_with(bin, &remote)?;
        output(
            crane(bin)
                .args(["pull", "--format=oci", &remote.reference])
                .arg(pulled.path()),
        )?;
        let index = std::fs::read_to_string(pulled.path().join("index.json"))?;
        if !index.contains(&image.digest) {
            bail!(
                "{} was pushed as {} and pulled as something else: {index}",
                image.reference,
                image.digest
            );
        }
    }
    Ok(())
}

fn crane(bin: &Path) -> Command {
    Command::new(bin.join("crane"))
}
