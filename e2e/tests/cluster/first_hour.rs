//! The pages that tell how to install and how to upgrade, as a new user types them: the chart and the sample of this checkout.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aof2_e2e::environment::Environment;
use aof2_e2e::guide::{self, Page};
use aof2_e2e::scenario::{self, Failure};

#[test]
fn the_first_hour_works_as_its_pages_say() -> Result<(), Failure> {
    scenario::run("first-hour", Duration::from_secs(420), async |scenario| {
        let checkout = checkout(&scenario.environment)?;
        for page in ["install.md", "upgrade.md"] {
            for block in Page::read(page)?.blocks {
                let output = guide::run(
                    &scenario.environment,
                    checkout.path(),
                    &scenario.namespace.name,
                    &block,
                )
                .await?;
                scenario.say(format!("{page}:\n{block}\n{}", output.stdout));
                if block.contains("aof2-admin streams") {
                    let stream = "orders-0-orders";
                    ensure!(
                        output.stdout.contains(stream),
                        "the writer has no stream {stream}"
                    );
                }
            }
        }
        Ok(())
    })
}

/// A checkout as the local cluster has it: the sample's images from elsewhere are those that it was given.
fn checkout(environment: &Environment) -> Result<tempfile::TempDir> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()?;
    let folder = tempfile::tempdir()?;
    std::os::unix::fs::symlink(root.join("charts"), folder.path().join("charts"))?;
    let samples = folder.path().join("config/samples");
    fs::create_dir_all(&samples)?;
    let mut sample = fs::read_to_string(root.join("config/samples/quickstart.yaml"))?;
    for (named, here) in [
        (
            "docker.io/library/busybox:1.37",
            environment.image("busybox", "1"),
        ),
        ("docker.io/versity/versitygw:v1.8.0", environment.s3_image()),
        ("aof2.local/aof2-engine:0.1.0", environment.engine_image()),
    ] {
        ensure!(sample.contains(named), "the sample names no image {named}");
        sample = sample.replace(named, &here);
    }
    fs::write(samples.join("quickstart.yaml"), sample).context("cannot write the sample")?;
    Ok(folder)
}
