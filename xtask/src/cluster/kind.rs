//! Kubernetes in Docker. Thin: it was not run where this was written, since no Docker engine was to be had there.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Cluster, Provider, Wishes};
use crate::command::{output, run};
use crate::console::{say, timed};
use crate::image::{LOCAL_PREFIX, oci::Image};
use crate::places;

pub fn up(name: &str, wishes: Wishes) -> Result<Cluster> {
    say("provider kind: untested by its authors; please report what does not work");
    if wishes.audit {
        say("provider kind keeps no audit log");
    }
    if let Some(cluster) = find(name)? {
        return Ok(cluster);
    }
    let folder = folder(name)?;
    fs::create_dir_all(&folder)?;
    let mut config = String::from(
        "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n",
    );
    for _ in 1..wishes.nodes.unwrap_or(1) {
        config.push_str("- role: worker\n");
    }
    fs::write(folder.join("kind.yaml"), config)?;
    timed(
        format_args!("kind create cluster {}", kind_name(name)),
        || {
            run(Command::new("kind")
                .args([
                    "create",
                    "cluster",
                    "--name",
                    &kind_name(name),
                    "--wait",
                    "120s",
                    "--config",
                ])
                .arg(folder.join("kind.yaml"))
                .arg("--kubeconfig")
                .arg(kubeconfig(name)?))
        },
    )?;
    find(name)?
        .with_context(|| format!("kind made cluster {} and does not list it", kind_name(name)))
}

pub fn find(name: &str) -> Result<Option<Cluster>> {
    let clusters = output(Command::new("kind").args(["get", "clusters"]))?;
    if !clusters.lines().any(|line| line == kind_name(name)) {
        return Ok(None);
    }
    fs::create_dir_all(folder(name)?)?;
    fs::write(
        kubeconfig(name)?,
        output(Command::new("kind").args(["get", "kubeconfig", "--name", &kind_name(name)]))?,
    )?;
    Ok(Some(Cluster {
        name: name.to_owned(),
        provider: Provider::Kind,
        kubeconfig: kubeconfig(name)?,
        image_prefix: LOCAL_PREFIX.to_owned(),
        audit_log: None,
        folder: folder(name)?,
    }))
}

pub fn load(name: &str, images: &[Image]) -> Result<()> {
    for image in images {
        let archive = folder(name)?.join("image.tar");
        image.archive(File::create(&archive)?)?;
        output(
            Command::new("kind")
                .args(["load", "image-archive", "--name", &kind_name(name)])
                .arg(&archive),
        )?;
        fs::remove_file(archive)?;
        say(format_args!("loaded {}", image.reference));
    }
    Ok(())
}

pub fn down(name: &str) -> Result<()> {
    run(Command::new("kind").args(["delete", "cluster", "--name", &kind_name(name)]))?;
    let folder = folder(name)?;
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

fn kind_name(name: &str) -> String {
    format!("aof2-{name}")
}

fn folder(name: &str) -> Result<PathBuf> {
    Ok(places::clusters()?.join(format!("kind-{name}")))
}

fn kubeconfig(name: &str) -> Result<PathBuf> {
    Ok(folder(name)?.join("admin.kubeconfig"))
}
