//! A real Kubernetes on a bare Linux machine, as root: the control plane as processes of the host, every node in namespaces of
//! its own. `up` starts what is not running, so it also repairs; `down` ends all that `up` recorded.

mod certificates;
mod cgroups;
mod control_plane;
mod host;
mod node;
mod processes;
mod settings;
mod templates;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{Cluster, Provider, Wishes};
use crate::command::{find_program, output, succeeds, wait_until};
use crate::console::timed;
use crate::image;
use crate::image::LOCAL_PREFIX;
use crate::image::oci::{Entry, Files, Image};
use crate::places;
use certificates::Certificates;
use control_plane::ControlPlane;
use node::Node;
use processes::Processes;
use settings::Settings;

/// Every pod's first container; containerd.toml names it.
const PAUSE: &str = "aof2.local/pause:1";
/// What makes and removes the folders of volumes; at hand for tests that need a shell.
const BUSYBOX: &str = "aof2.local/busybox:1";

/// Says in the first second what no later step could mend.
pub fn check_machine() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "a local cluster needs root (namespaces, mounts, a bridge); run as root, or install Docker and kind"
        );
    }
    cgroups::check()
}

pub fn up(name: &str, wishes: Wishes) -> Result<Cluster> {
    let _lock = lock(name)?;
    let settings = Settings::for_up(name, wishes)?;
    timed(
        format_args!("cluster {name}, nodes: {}", settings.nodes),
        || start(&settings),
    )?;
    Ok(cluster(&settings))
}

fn start(settings: &Settings) -> Result<()> {
    fs::create_dir_all(&settings.folder)?;
    fs::set_permissions(&settings.folder, fs::Permissions::from_mode(0o700))?;
    settings.record()?;
    write_on_node(settings)?;
    let processes = Processes::of(settings);
    processes.make_folders()?;
    let certificates = Certificates::of(settings);
    certificates.make_control_plane()?;
    host::note_kernel_settings()?;
    host::make_bridge(settings)?;
    let control_plane = ControlPlane::new(settings, &processes, &certificates);
    control_plane.start()?;
    let images = base_images(settings)?;
    let nodes = nodes(settings, &processes);
    for node in &nodes {
        node.start(&certificates, &images)?;
    }
    for node in &nodes {
        let ready = format!("node/{}", node.name());
        let is_ready = || {
            let wait = [
                "wait",
                "--for=condition=Ready",
                "--timeout=1s",
                ready.as_str(),
            ];
            control_plane
                .kubectl()
                .is_ok_and(|mut kubectl| succeeds(kubectl.args(wait)))
        };
        wait_until(
            &format!("{} is Ready", node.name()),
            Duration::from_secs(90),
            is_ready,
        )
        .with_context(|| processes.last_words(&format!("{}-kubelet", node.name())))?;
    }
    // A pod applied before its namespace has one would be refused.
    let has_account = || {
        let get = ["get", "serviceaccount", "default"];
        control_plane
            .kubectl()
            .is_ok_and(|mut kubectl| succeeds(kubectl.args(get)))
    };
    wait_until(
        "the default service account exists",
        Duration::from_secs(30),
        has_account,
    )?;
    control_plane.wait_for_dns()?;
    processes.check_all()
}

pub fn down(name: &str) -> Result<()> {
    let _lock = lock(name)?;
    let Some(settings) = Settings::recorded(name)? else {
        return Ok(());
    };
    timed(format_args!("cluster {name} down"), || end(&settings))
}

fn end(settings: &Settings) -> Result<()> {
    let processes = Processes::of(settings);
    for node in nodes(settings, &processes) {
        node.turn_off()?;
    }
    processes.stop_all()?;
    host::remove_bridge(settings)?;
    cgroups::remove(&settings.cgroup())?;
    host::restore_kernel_settings(settings)?;
    // Mounts were the nodes' own and ended with them, so this cannot reach beyond the folder.
    fs::remove_dir_all(&settings.folder)
        .with_context(|| format!("cannot remove {}", settings.folder.display()))
}

/// The cluster if it is up.
pub fn find(name: &str) -> Result<Option<Cluster>> {
    let Some(settings) = Settings::recorded(name)? else {
        return Ok(None);
    };
    let is_up = Processes::of(&settings).is_alive("kube-apiserver");
    Ok(is_up.then(|| cluster(&settings)))
}

pub fn load(name: &str, images: &[Image]) -> Result<()> {
    let _lock = lock(name)?;
    let settings =
        Settings::recorded(name)?.with_context(|| format!("cluster {name} is not running"))?;
    let processes = Processes::of(&settings);
    for node in nodes(&settings, &processes) {
        timed(
            format_args!("{} images into {}", images.len(), node.name()),
            || node.load(images),
        )?;
    }
    Ok(())
}

fn cluster(settings: &Settings) -> Cluster {
    Cluster {
        name: settings.name.clone(),
        provider: Provider::Local,
        kubeconfig: settings.kubeconfig("admin"),
        image_prefix: LOCAL_PREFIX.to_owned(),
        audit_log: settings.audit_log(),
        folder: settings.folder.clone(),
    }
}

fn nodes<'a>(settings: &'a Settings, processes: &'a Processes) -> Vec<Node<'a>> {
    (1..=settings.nodes)
        .map(|number| Node::new(settings, processes, number))
        .collect()
}

fn lock(name: &str) -> Result<File> {
    places::lock(
        &places::clusters()?.join(format!("{name}.lock")),
        "it works on the same cluster",
    )
}

/// The two images that a node cannot do without.
fn base_images(settings: &Settings) -> Result<Vec<Image>> {
    let folder = settings.folder.join("images");
    let mut pause = Files::default();
    pause.program("pause", &places::bin()?.join("pause"))?;
    let pause = Image::write(
        PAUSE,
        image::HERE,
        &json!({"Entrypoint": ["/pause"], "User": "65535:65535"}),
        &pause,
        &folder.join("pause"),
    )?;

    let program: PathBuf = find_program("busybox").context("busybox is missing")?;
    let mut busybox = Files::default();
    busybox.program("bin/busybox", &program)?;
    for applet in output(Command::new(&program).arg("--list"))?
        .lines()
        .filter(|applet| *applet != "busybox")
    {
        busybox.add(
            &format!("bin/{applet}"),
            Entry::Symlink {
                target: "busybox".into(),
            },
        );
    }
    busybox.add("tmp", Entry::Folder { mode: 0o1777 });
    let busybox = Image::write(
        BUSYBOX,
        image::HERE,
        &json!({"Cmd": ["sh"], "Env": ["PATH=/bin"]}),
        &busybox,
        &folder.join("busybox"),
    )?;
    Ok(vec![pause, busybox])
}

/// A door into the nodes for people and tests.
fn write_on_node(settings: &Settings) -> Result<()> {
    let path = settings.folder.join("on-node");
    let script = r#"#!/bin/sh
# on-node NUMBER COMMAND...: runs COMMAND inside a node of this cluster: its mounts, processes, network and host name.
record="$(dirname "$0")/run/node$1-init.pid"
shift
exec nsenter --target "$(cut -d' ' -f1 "$record")" --mount --pid --net --uts --ipc -- "$@"
"#;
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
