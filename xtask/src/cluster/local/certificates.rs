//! The cluster's authorities, certificates and kubeconfigs, made by `openssl`. What exists is kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::settings::Settings;
use crate::command::output;

/// Longer than any cluster of a demo or a test lives.
const DAYS: &str = "365";

pub struct Certificates<'a> {
    settings: &'a Settings,
    folder: PathBuf,
}

/// What a certificate is for.
enum Use<'a> {
    Authority,
    /// Signed by the authority `by`, valid for `names` in OpenSSL's writing (`DNS:a,IP:b`).
    Party {
        by: &'a str,
        names: &'a str,
    },
}

impl<'a> Certificates<'a> {
    pub fn of(settings: &'a Settings) -> Self {
        Self {
            settings,
            folder: settings.folder.join("pki"),
        }
    }

    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// All that the control plane needs.
    pub fn make_control_plane(&self) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        let (host, services) = (self.settings.host(), self.settings.services());
        let names = format!(
            "IP:{host},IP:127.0.0.1,IP:{services}.0.1,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,\
             DNS:kubernetes.default.svc.cluster.local"
        );
        self.certificate("ca", "/CN=aof2-ca", Use::Authority)?;
        self.certificate("front-ca", "/CN=aof2-front-proxy-ca", Use::Authority)?;
        self.certificate(
            "front",
            "/CN=front-proxy",
            Use::Party {
                by: "front-ca",
                names: "",
            },
        )?;
        self.certificate(
            "apiserver",
            "/CN=kube-apiserver",
            Use::Party {
                by: "ca",
                names: &names,
            },
        )?;
        self.certificate(
            "apiserver-kubelet",
            "/O=system:masters/CN=apiserver-kubelet",
            Use::Party {
                by: "ca",
                names: "",
            },
        )?;
        self.service_account_key()?;
        for (user, subject) in [
            ("admin", "/O=system:masters/CN=admin"),
            ("controller-manager", "/CN=system:kube-controller-manager"),
            ("scheduler", "/CN=system:kube-scheduler"),
            ("kube-proxy", "/CN=system:kube-proxy"),
            ("dns", "/CN=aof2:dns"),
            ("storage", "/CN=aof2:storage"),
        ] {
            self.certificate(
                user,
                subject,
                Use::Party {
                    by: "ca",
                    names: "",
                },
            )?;
            self.kubeconfig(user)?;
        }
        Ok(())
    }

    /// A kubelet's certificate, for its own server and for talking to the API server.
    pub fn make_node(&self, node: &str, address: &str) -> Result<()> {
        let names = format!("DNS:{node},IP:{address}");
        let subject = format!("/O=system:nodes/CN=system:node:{node}");
        self.certificate(
            node,
            &subject,
            Use::Party {
                by: "ca",
                names: &names,
            },
        )?;
        self.kubeconfig(node)
    }

    fn certificate(&self, name: &str, subject: &str, purpose: Use<'_>) -> Result<()> {
        let certificate = self.folder.join(format!("{name}.crt"));
        if certificate.is_file() {
            return Ok(());
        }
        // Written under another name first, or one that was cut short would be taken for a good one for ever.
        let unfinished = self.folder.join(format!("{name}.crt.new"));
        // An empty configuration: the machine's own may add extensions.
        let configuration = self.folder.join("openssl.cnf");
        fs::write(
            &configuration,
            "[req]\ndistinguished_name = subject\n[subject]\n",
        )?;
        let mut command = Command::new("openssl");
        command.args("req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256".split(' '));
        command
            .args(["-days", DAYS, "-subj", subject, "-config"])
            .arg(&configuration);
        command
            .args(["-keyout", &self.file(&format!("{name}.key")), "-out"])
            .arg(&unfinished);
        let mut extension = |text: &str| {
            command.args(["-addext", text]);
        };
        match purpose {
            Use::Authority => {
                extension("basicConstraints=critical,CA:TRUE");
                extension("keyUsage=critical,keyCertSign,digitalSignature");
            }
            Use::Party { by, names } => {
                extension("basicConstraints=critical,CA:FALSE");
                extension("extendedKeyUsage=clientAuth,serverAuth");
                if !names.is_empty() {
                    extension(&format!("subjectAltName={names}"));
                }
                command.args(["-CA", &self.file(&format!("{by}.crt"))]);
                command.args(["-CAkey", &self.file(&format!("{by}.key"))]);
            }
        }
        output(&mut command).with_context(|| format!("cannot make the certificate {name}"))?;
        fs::rename(unfinished, certificate)?;
        Ok(())
    }

    fn service_account_key(&self) -> Result<()> {
        let public = self.folder.join("service-accounts.pub");
        if public.is_file() {
            return Ok(());
        }
        let private = self.file("service-accounts.key");
        let generate = "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out";
        output(
            Command::new("openssl")
                .args(generate.split(' '))
                .arg(&private),
        )?;
        output(
            Command::new("openssl")
                .args(["pkey", "-pubout", "-in", &private, "-out"])
                .arg(&public),
        )?;
        Ok(())
    }

    /// With the certificates inside, so that a copy of the file works anywhere on this machine.
    fn kubeconfig(&self, user: &str) -> Result<()> {
        let path = self.settings.kubeconfig(user);
        if path.is_file() {
            return Ok(());
        }
        let inline = |name: &str| base64(&self.folder.join(name));
        let context = format!("aof2-{}", self.settings.name);
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": context,
            "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
            "clusters": [{"name": context, "cluster": {
                "server": self.settings.server(),
                "certificate-authority-data": inline("ca.crt")?,
            }}],
            "users": [{"name": user, "user": {
                "client-certificate-data": inline(&format!("{user}.crt"))?,
                "client-key-data": inline(&format!("{user}.key"))?,
            }}],
        });
        fs::write(path, serde_json::to_vec_pretty(&config)?)?;
        Ok(())
    }
}

fn base64(file: &Path) -> Result<String> {
    output(
        Command::new("openssl")
            .args(["base64", "-A", "-in"])
            .arg(file),
    )
}
