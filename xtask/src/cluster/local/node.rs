//! A node: a set of namespaces (mount, PID, network, UTS, IPC) joined to the bridge by a veth pair, with containerd, a kubelet and
//! a kube-proxy inside.
//!
//! Everything a node has, it has in these namespaces: its own /run, /var/lib and /var/log, its own network and packet filter.
//! So nothing of the machine is touched, two kubelets do not meet, and the kernel clears all of it away when process 1 ends.
//! Killing process 1 is therefore a power cut; `up` turns the node on again with its disk.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::certificates::Certificates;
use super::control_plane::program;
use super::processes::Processes;
use super::settings::Settings;
use super::templates::{self, Words};
use super::{cgroups, host};
use crate::command::{output, succeeds, wait_until};
use crate::image::oci::Image;
use crate::places;

pub struct Node<'a> {
    settings: &'a Settings,
    processes: &'a Processes,
    number: u32,
}

impl<'a> Node<'a> {
    pub fn new(settings: &'a Settings, processes: &'a Processes, number: u32) -> Self {
        Self {
            settings,
            processes,
            number,
        }
    }

    pub fn name(&self) -> String {
        format!("node{}", self.number)
    }

    fn part(&self, part: &str) -> String {
        format!("{}-{part}", self.name())
    }

    fn init_pid(&self) -> Result<u32> {
        self.processes
            .pid(&self.part("init"))
            .with_context(|| format!("{} is not running", self.name()))
    }

    /// A command that runs inside the node.
    fn inside(&self, program: Command) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--target",
                &self.init_pid()?.to_string(),
                "--mount",
                "--pid",
                "--net",
                "--uts",
                "--ipc",
                "--",
            ])
            .arg(program.get_program())
            .args(program.get_args());
        for (key, value) in program.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        Ok(command)
    }

    pub fn start(&self, certificates: &Certificates<'_>, base_images: &[Image]) -> Result<()> {
        self.write_files(certificates)?;
        let is_off = !self.processes.is_alive(&self.part("init"));
        if is_off {
            // Groups of pods that a power cut left behind: a kubelet looks at each of them for seconds.
            cgroups::remove(&format!("{}/{}", self.settings.cgroup(), self.name()))?;
        }
        cgroups::make(&self.settings.cgroup(), &self.name())?;
        if is_off {
            self.turn_on()?;
        }
        self.connect()?;
        self.start_containerd()?;
        self.load(base_images)?;
        self.start_kubelet()
    }

    fn write_files(&self, certificates: &Certificates<'_>) -> Result<()> {
        let folder = self.settings.node_folder(self.number);
        for below in ["cni", "log", "lib/kubelet/volume-plugins"] {
            fs::create_dir_all(folder.join(below))?;
        }
        fs::write(
            folder.join("resolv.conf"),
            format!("nameserver {}\n", self.settings.host()),
        )?;
        let words = Words::of_node(self.settings, self.number);
        for file in ["containerd.toml", "kubelet.yaml", "kube-proxy.yaml"] {
            templates::render(file, &words, &folder.join(file))?;
        }
        templates::render(
            "pod-network.conflist",
            &words,
            &folder.join("cni/pod-network.conflist"),
        )?;
        certificates.make_node(&self.name(), &self.settings.node_address(self.number))
    }

    /// Makes the namespaces. Process 1 is `pause`: it waits, and collects orphans.
    fn turn_on(&self) -> Result<()> {
        let name = self.part("init");
        let script = r#"
            mount --bind "$1/lib" /var/lib
            mount --bind "$1/log" /var/log
            mount -t tmpfs tmpfs /run
            mount -t proc proc /proc
            mount --make-rshared /
            hostname "$2"
            ip link set lo up
            echo 1 >/proc/sys/net/ipv4/ip_forward
            exec "$3"
        "#;
        let mut unshare = Command::new("unshare");
        unshare
            .args([
                "--mount",
                "--pid",
                "--net",
                "--uts",
                "--ipc",
                "--fork",
                "--propagation=private",
                "--",
            ])
            .args(["sh", "-e", "-c", script, "turn-on"])
            .arg(self.settings.node_folder(self.number))
            .arg(self.name())
            .arg(places::bin()?.join("pause"))
            .env("PATH", crate::command::search_path(&places::bin()?));
        self.processes.start_forking(&name, &mut unshare)?;
        let is_on = || {
            self.init_pid()
                .ok()
                .and_then(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok())
                .is_some_and(|comm| comm.trim() == "pause")
        };
        wait_until(
            &format!("{} is on", self.name()),
            Duration::from_secs(10),
            is_on,
        )
        .with_context(|| self.processes.last_words(&name))
    }

    /// Plugs the node into the bridge and sets routes, unless that is so.
    fn connect(&self) -> Result<()> {
        let (settings, number, init) = (self.settings, self.number, self.init_pid()?);
        let (interface, address) = (
            settings.node_interface(number),
            settings.node_address(number),
        );
        let has_network = Command::new("nsenter")
            .args([
                &format!("--net=/proc/{init}/ns/net"),
                "ip",
                "link",
                "show",
                "eth0",
            ])
            .output()
            .is_ok_and(|shown| shown.status.success());
        if !has_network {
            host::ip(&format!(
                "link add {interface} type veth peer name eth0 netns {init}"
            ))?;
        }
        host::ip(&format!(
            "link set {interface} master {} up",
            settings.bridge()
        ))?;
        self.ip_inside(&format!("address replace {address}/24 dev eth0"))?;
        self.ip_inside("link set eth0 up")?;
        self.ip_inside(&format!("route replace default via {}", settings.host()))?;
        // The host reaches pods, and through the first node ClusterIPs.
        host::ip(&format!(
            "route replace {} via {address}",
            settings.pods(number)
        ))?;
        if number == 1 {
            host::ip(&format!(
                "route replace {}.0.0/16 via {address}",
                settings.services()
            ))?;
        }
        for other in (1..=settings.nodes).filter(|other| *other != number) {
            self.ip_inside(&format!(
                "route replace {} via {}",
                settings.pods(other),
                settings.node_address(other)
            ))?;
        }
        Ok(())
    }

    fn ip_inside(&self, arguments: &str) -> Result<()> {
        let network = format!("--net=/proc/{}/ns/net", self.init_pid()?);
        output(
            Command::new("nsenter")
                .arg(network)
                .arg("ip")
                .args(arguments.split(' ')),
        )
        .map(|_| ())
    }

    fn start_containerd(&self) -> Result<()> {
        let name = self.part("containerd");
        let mut containerd = program("containerd")?;
        containerd = replace_program(containerd, "containerd");
        containerd.arg("--config").arg(
            self.settings
                .node_folder(self.number)
                .join("containerd.toml"),
        );
        self.processes
            .start_forking(&name, &mut self.inside(containerd)?)?;
        let answers = || {
            self.ctr(&["version"])
                .is_ok_and(|mut ctr| succeeds(&mut ctr))
        };
        wait_until("containerd answers", Duration::from_secs(30), answers)
            .with_context(|| self.processes.last_words(&name))
    }

    fn start_kubelet(&self) -> Result<()> {
        let folder = self.settings.node_folder(self.number);
        let mut kubelet = program("kubelet")?;
        kubelet
            .arg("--config")
            .arg(folder.join("kubelet.yaml"))
            .arg("--kubeconfig")
            .arg(self.settings.kubeconfig(&self.name()))
            .args([
                "--hostname-override",
                &self.name(),
                "--node-ip",
                &self.settings.node_address(self.number),
            ])
            .arg(format!(
                "--node-labels=topology.kubernetes.io/zone=zone{}",
                self.number
            ));
        self.processes
            .start_forking(&self.part("kubelet"), &mut self.inside(kubelet)?)?;
        let mut proxy = program("kube-proxy")?;
        proxy.arg("--config").arg(folder.join("kube-proxy.yaml"));
        self.processes
            .start_forking(&self.part("kube-proxy"), &mut self.inside(proxy)?)
    }

    /// Gives the node images, those that it does not have in this very form.
    pub fn load(&self, images: &[Image]) -> Result<()> {
        let listed = output(&mut self.ctr(&["images", "list"])?)?;
        for image in images {
            let is_there = listed.lines().any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words.first() == Some(&image.reference.as_str())
                    && words.contains(&image.digest.as_str())
            });
            if !is_there {
                self.import(image)?;
            }
        }
        Ok(())
    }

    fn import(&self, image: &Image) -> Result<()> {
        let mut import = self
            .ctr(&["images", "import", "-"])?
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = import.stdin.take().context("ctr has no standard input")?;
        let written = image.archive(&mut stdin).and_then(|()| Ok(stdin.flush()?));
        drop(stdin);
        let finished = import.wait_with_output()?;
        if !finished.status.success() {
            bail!(
                "{} does not take image {}: {}",
                self.name(),
                image.reference,
                String::from_utf8_lossy(&finished.stderr).trim()
            );
        }
        written.with_context(|| format!("cannot hand image {} to {}", image.reference, self.name()))
    }

    fn ctr(&self, arguments: &[&str]) -> Result<Command> {
        let mut ctr = Command::new("ctr");
        ctr.args(["--namespace", "k8s.io"]).args(arguments);
        self.inside(ctr)
    }

    /// Cuts the power: the kernel ends everything inside.
    pub fn turn_off(&self) -> Result<()> {
        self.processes.stop(&self.part("init"))?;
        for part in ["containerd", "kubelet", "kube-proxy"] {
            self.processes.forget(&self.part(part))?;
        }
        let interface = self.settings.node_interface(self.number);
        if Path::new("/sys/class/net").join(&interface).exists() {
            host::ip(&format!("link delete {interface}")).ok(); // the kernel may be about to remove it, too
        }
        Ok(())
    }
}

/// The same environment for a program that the distribution has, not our `bin/`.
fn replace_program(command: Command, name: &str) -> Command {
    let mut replaced = Command::new(name);
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => replaced.env(key, value),
            None => replaced.env_remove(key),
        };
    }
    replaced
}
