//! The pages that tell how to install and how to upgrade, as a new user types them: the chart and the sample of this checkout.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aof2_e2e::environment::Environment;
use aof2_e2e::guide::{self, Page};
use aof2_e2e::kubectl::Program;
use aof2_e2e::scenario::{self, Failure};
use aof2_e2e::wait::{self, Look};

/// Of the first record of a stream, once its bucket serves: the writer pauses up to 2 s between its tries, the engine up to 15 s.
const STREAM_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn the_first_hour_works_as_its_pages_say() -> Result<(), Failure> {
    scenario::run("first-hour", Duration::from_secs(420), async |scenario| {
        let checkout = checkout(&scenario.environment)?;
        for page in ["install.md", "upgrade.md"] {
            for block in Page::read(page)?.blocks {
                let typed = async || {
                    let namespace = &scenario.namespace.name;
                    guide::run(&scenario.environment, checkout.path(), namespace, &block).await
                };
                let output = if block.contains("aof2-admin streams") {
                    // The page says that the stream comes some seconds after the S3 server.
                    wait::until("the writer's stream", STREAM_LIMIT, async || {
                        let output = typed().await?;
                        Ok(if output.stdout.contains("orders-0-orders") {
                            Look::Done(output)
                        } else {
                            Look::Waiting(output.stdout)
                        })
                    })
                    .await?
                } else {
                    typed().await?
                };
                scenario.say(format!("{page}:\n{block}\n{}", output.stdout));
            }
        }
        let operators = format!("{}-system", scenario.namespace.name);
        let uninstall = ["uninstall", "aof2", "--namespace", operators.as_str()];
        Program::helm(&scenario.environment).run(&uninstall).await?;
        let delete = ["delete", "namespace", operators.as_str(), "--wait=false"];
        scenario.kubectl.run(&delete).await?;
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
