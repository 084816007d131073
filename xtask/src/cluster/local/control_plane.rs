//! etcd, the API server, the controllers, DNS and the volume provisioner: processes of the host.
//!
//! The API server listens on the bridge, where nodes and pods reach it, everything else on the loopback address.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::certificates::Certificates;
use super::processes::Processes;
use super::settings::{Port, Settings};
use super::templates::{self, Words};
use crate::command::{output, search_path, succeeds, wait_until};
use crate::places;

const API_SERVER: &str = "kube-apiserver";

pub struct ControlPlane<'a> {
    settings: &'a Settings,
    processes: &'a Processes,
    certificates: &'a Certificates<'a>,
}

impl<'a> ControlPlane<'a> {
    pub fn new(
        settings: &'a Settings,
        processes: &'a Processes,
        certificates: &'a Certificates<'a>,
    ) -> Self {
        Self {
            settings,
            processes,
            certificates,
        }
    }

    pub fn start(&self) -> Result<()> {
        self.start_etcd()?;
        self.start_api_server()?;
        self.start_controllers()?;
        self.install_addons()?;
        self.start_addons()
    }

    fn start_etcd(&self) -> Result<()> {
        let clients = format!("http://127.0.0.1:{}", self.settings.port(Port::Etcd));
        let peers = format!("http://127.0.0.1:{}", self.settings.port(Port::EtcdPeer));
        let mut etcd = self.program("etcd")?;
        etcd.args(["--name", "aof2", "--data-dir"])
            .arg(self.settings.folder.join("etcd"))
            .args([
                "--listen-client-urls",
                &clients,
                "--advertise-client-urls",
                &clients,
            ])
            .args([
                "--listen-peer-urls",
                &peers,
                "--initial-advertise-peer-urls",
                &peers,
            ])
            .args(["--initial-cluster", &format!("aof2={peers}")])
            // The cluster is made anew after a crash of the machine, and syncs would be measured along with everything else.
            .arg("--unsafe-no-fsync");
        self.processes.start("etcd", &mut etcd)
    }

    fn start_api_server(&self) -> Result<()> {
        let (settings, file) = (self.settings, |name: &str| self.certificates.file(name));
        let mut server = self.program(API_SERVER)?;
        let mut flag = |name: &str, value: &str| {
            server.arg(format!("--{name}={value}"));
        };
        flag("bind-address", &settings.host());
        flag("advertise-address", &settings.host());
        flag("secure-port", &settings.port(Port::ApiServer).to_string());
        flag(
            "etcd-servers",
            &format!("http://127.0.0.1:{}", settings.port(Port::Etcd)),
        );
        flag(
            "service-cluster-ip-range",
            &format!("{}.0.0/16", settings.services()),
        );
        flag("authorization-mode", "Node,RBAC");
        flag("enable-admission-plugins", "NodeRestriction");
        flag("allow-privileged", "true"); // off by default
        flag("client-ca-file", &file("ca.crt"));
        flag("tls-cert-file", &file("apiserver.crt"));
        flag("tls-private-key-file", &file("apiserver.key"));
        flag("kubelet-certificate-authority", &file("ca.crt"));
        flag("kubelet-client-certificate", &file("apiserver-kubelet.crt"));
        flag("kubelet-client-key", &file("apiserver-kubelet.key"));
        flag("kubelet-preferred-address-types", "InternalIP"); // nobody resolves the nodes' names
        flag("service-account-issuer", "https://kubernetes.default.svc");
        flag("service-account-key-file", &file("service-accounts.pub"));
        flag(
            "service-account-signing-key-file",
            &file("service-accounts.key"),
        );
        // Aggregated APIs and webhooks: the API server is no member of the pod network, so it dials pods, not Services.
        flag("enable-aggregator-routing", "true");
        flag("requestheader-client-ca-file", &file("front-ca.crt"));
        flag("requestheader-allowed-names", "front-proxy");
        flag("requestheader-username-headers", "X-Remote-User");
        flag("requestheader-group-headers", "X-Remote-Group");
        flag("requestheader-extra-headers-prefix", "X-Remote-Extra-");
        flag("proxy-client-cert-file", &file("front.crt"));
        flag("proxy-client-key-file", &file("front.key"));
        let audit_marker = settings.folder.join("run/audited");
        if let Some(log) = settings.audit_log() {
            flag(
                "audit-policy-file",
                &templates::path("audit.yaml").display().to_string(),
            );
            flag("audit-log-path", &log.display().to_string());
            flag("audit-log-maxsize", "500"); // MiB; a test reads the file from its beginning
            if !audit_marker.exists() {
                self.processes.stop(API_SERVER)?; // one that runs without the log
            }
        }
        self.processes.start(API_SERVER, &mut server)?;
        if settings.audit {
            fs::write(audit_marker, "")?;
        }
        let is_ready = || {
            self.kubectl()
                .is_ok_and(|mut kubectl| succeeds(kubectl.args(["get", "--raw", "/readyz"])))
        };
        wait_until("the API server is ready", Duration::from_secs(90), is_ready)
            .with_context(|| self.processes.last_words(API_SERVER))
    }

    fn start_controllers(&self) -> Result<()> {
        let (settings, file) = (self.settings, |name: &str| self.certificates.file(name));
        let mut manager = self.program("kube-controller-manager")?;
        manager
            .args([
                "--leader-elect=false",
                "--use-service-account-credentials",
                "--bind-address=127.0.0.1",
            ])
            .arg(format!(
                "--secure-port={}",
                settings.port(Port::ControllerManager)
            ))
            .arg(format!(
                "--kubeconfig={}",
                settings.kubeconfig("controller-manager").display()
            ))
            .arg(format!("--root-ca-file={}", file("ca.crt")))
            .arg(format!(
                "--service-account-private-key-file={}",
                file("service-accounts.key")
            ))
            .arg(format!("--cluster-signing-cert-file={}", file("ca.crt")))
            .arg(format!("--cluster-signing-key-file={}", file("ca.key")))
            // The default is a folder under /usr, and it would be made.
            .arg(format!(
                "--flex-volume-plugin-dir={}",
                settings.folder.join("volume-plugins").display()
            ));
        self.processes
            .start("kube-controller-manager", &mut manager)?;

        let mut scheduler = self.program("kube-scheduler")?;
        scheduler
            .args(["--leader-elect=false", "--bind-address=127.0.0.1"])
            .arg(format!("--secure-port={}", settings.port(Port::Scheduler)))
            .arg(format!(
                "--kubeconfig={}",
                settings.kubeconfig("scheduler").display()
            ));
        self.processes.start("kube-scheduler", &mut scheduler)
    }

    fn install_addons(&self) -> Result<()> {
        let mut apply = self.kubectl()?;
        apply
            .args(["apply", "--server-side", "-f"])
            .arg(templates::path("addons.yaml"));
        output(&mut apply)
            .map(|_| ())
            .context("cannot install the roles and the storage class")
    }

    fn start_addons(&self) -> Result<()> {
        let folder = &self.settings.folder;
        let corefile = folder.join("Corefile");
        let words = Words::of(self.settings);
        templates::render("Corefile", &words, &corefile)?;
        self.processes.start(
            "coredns",
            self.program("coredns")?.arg("-conf").arg(&corefile),
        )?;

        let volumes = folder.join("volumes.json");
        let paths = serde_json::json!({"nodePathMap": [{
            "node": "DEFAULT_PATH_FOR_NON_LISTED_NODES",
            "paths": ["/var/lib/volumes"],
        }]});
        fs::write(&volumes, serde_json::to_vec(&paths)?)?;
        let mut provisioner = self.program("local-path-provisioner")?;
        provisioner
            .arg("start")
            .arg("--kubeconfig")
            .arg(self.settings.kubeconfig("storage"))
            .arg("--config")
            .arg(&volumes)
            .arg("--helper-pod-file")
            .arg(templates::path("helper-pod.yaml"))
            .args([
                "--helper-image",
                super::BUSYBOX,
                "--service-account-name",
                "volume-helper",
            ]);
        self.processes
            .start("local-path-provisioner", &mut provisioner)
    }

    pub fn wait_for_dns(&self) -> Result<()> {
        let url = format!(
            "http://{}:{}/ready",
            self.settings.host(),
            self.settings.port(Port::DnsReady)
        );
        let is_ready = || answers_ok(&url);
        wait_until("DNS is ready", Duration::from_secs(20), is_ready)
            .with_context(|| self.processes.last_words("coredns"))
    }

    pub fn kubectl(&self) -> Result<Command> {
        let mut kubectl = Command::new(places::bin()?.join("kubectl"));
        kubectl
            .arg("--kubeconfig")
            .arg(self.settings.kubeconfig("admin"));
        Ok(kubectl)
    }

    fn program(&self, name: &str) -> Result<Command> {
        program(name)
    }
}

/// One of our built programs with a known environment: neither proxies nor a KUBECONFIG of the user reach it.
pub fn program(name: &str) -> Result<Command> {
    let bin = places::bin()?;
    let mut command = Command::new(bin.join(name));
    for (variable, _) in std::env::vars_os() {
        command.env_remove(variable);
    }
    command.env("PATH", search_path(&bin)).env("HOME", "/");
    Ok(command)
}

/// Whether a GET of `http://ADDRESS:PORT/PATH` says 200. Small enough not to ask for a client.
pub fn answers_ok(url: &str) -> bool {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    let Some((address, path)) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
    else {
        return false;
    };
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(
            &address.parse().map_err(std::io::Error::other)?,
            Duration::from_secs(1),
        )?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET /{path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(64).read_to_string(&mut answer)?;
        Ok(answer.split(' ').nth(1) == Some("200"))
    };
    ask().unwrap_or(false)
}
