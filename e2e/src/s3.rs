//! An S3 server inside the cluster: versitygw on a volume, so that its objects survive when a test turns it off.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::environment::Environment;
use crate::kubectl::Program;
use crate::wait;

const NAME: &str = "s3";
const PORT: u16 = 7070;
pub const BUCKET: &str = "aof2";
/// Secret with the keys under the names that `spec.tier2.credentials` wants.
pub const CREDENTIALS: &str = "s3-credentials";
/// The same with a secret that the server does not know.
pub const WRONG_CREDENTIALS: &str = "s3-wrong-credentials";
const ACCESS_KEY: &str = "aof2-e2e";
const SECRET_KEY: &str = "aof2-e2e-secret";

#[derive(Clone)]
pub struct S3Server {
    namespace: String,
    client: kube::Client,
}

impl S3Server {
    pub async fn install(
        environment: &Environment,
        client: &kube::Client,
        namespace: &str,
    ) -> Result<Self> {
        let objects =
            json!({"apiVersion": "v1", "kind": "List", "items": objects(environment, namespace)});
        Program::kubectl(environment)
            .run_with(
                &["apply", "--server-side", "-f", "-"],
                Some(objects.to_string().as_bytes()),
            )
            .await?;
        let server = Self {
            namespace: namespace.to_owned(),
            client: client.clone(),
        };
        server.wait_for(1).await?;
        Ok(server)
    }

    pub fn endpoint(&self) -> String {
        format!("http://{NAME}.{}.svc.cluster.local:{PORT}", self.namespace)
    }

    /// `spec.tier2` for a cluster that keeps its objects under `prefix`.
    pub fn tier2(&self, prefix: &str) -> Value {
        json!({
            "endpoint": self.endpoint(), "region": "us-east-1", "bucket": BUCKET, "prefix": prefix,
            "addressing": "Path", "credentials": {"secretRef": {"name": CREDENTIALS}},
        })
    }

    /// The bytes under a key, by curl: another client than the engine's. `None`: no such object.
    pub async fn object(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let (code, body) = self.curl("GET", key).await?;
        match code.as_str() {
            "200" => Ok(Some(body)),
            "404" => Ok(None),
            _ => bail!(
                "GET {key} answered {code}: {}",
                String::from_utf8_lossy(&body)
            ),
        }
    }

    /// Takes an object away behind the engines' backs.
    pub async fn delete(&self, key: &str) -> Result<()> {
        let (code, body) = self.curl("DELETE", key).await?;
        ensure!(
            code == "204" || code == "200",
            "DELETE {key} answered {code}: {}",
            String::from_utf8_lossy(&body)
        );
        Ok(())
    }

    /// Keys that begin with `prefix`, in order, by the same client.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let encoded = |key: &str| key.replace('/', "%2F");
        let mut keys: Vec<String> = Vec::new();
        loop {
            // Signed as it stands: in order and encoded.
            let mut query = format!("?list-type=2&prefix={}", encoded(prefix));
            if let Some(last) = keys.last() {
                query.push_str(&format!("&start-after={}", encoded(last)));
            }
            let (code, body) = self.curl("GET", &query).await?;
            let page = String::from_utf8_lossy(&body);
            ensure!(
                code == "200",
                "the list of {prefix} answered {code}: {page}"
            );
            let before = keys.len();
            let found = page.split("<Key>").skip(1);
            keys.extend(found.filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned())));
            // A server may say that there is more where there is not.
            if keys.len() == before || !page.contains("<IsTruncated>true") {
                return Ok(keys);
            }
        }
    }

    async fn curl(&self, method: &str, key: &str) -> Result<(String, Vec<u8>)> {
        let pods: Api<k8s_openapi::api::core::v1::Pod> =
            Api::namespaced(self.client.clone(), &self.namespace);
        let params =
            kube::api::ListParams::default().labels(&format!("app.kubernetes.io/name={NAME}"));
        let address = pods
            .list(&params)
            .await?
            .items
            .into_iter()
            .find_map(|pod| pod.status?.pod_ip)
            .context("the S3 server has no address")?;
        let mut command = tokio::process::Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "20", "--request"])
            .args([method, "--user", &format!("{ACCESS_KEY}:{SECRET_KEY}")])
            .args(["--aws-sigv4", "aws:amz:us-east-1:s3"])
            // Debian's curl signs this header and does not add it by itself: the digest of no body.
            .args([
                "--header",
                "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ])
            // The status code goes behind the body, in a line of its own.
            .args(["--write-out", "\n%{http_code}"])
            .arg(format!("http://{address}:{PORT}/{BUCKET}/{key}"));
        let output = command.output().await.context("cannot start curl")?;
        ensure!(
            output.status.success(),
            "curl {method} {key}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let at = output
            .stdout
            .iter()
            .rposition(|byte| *byte == b'\n')
            .context("curl printed no status")?;
        let (body, code) = output.stdout.split_at(at);
        Ok((
            String::from_utf8_lossy(&code[1..]).into_owned(),
            body.to_vec(),
        ))
    }

    /// An outage: the server ends and its port refuses.
    pub async fn turn_off(&self) -> Result<()> {
        self.scale(0).await
    }

    pub async fn turn_on(&self) -> Result<()> {
        self.scale(1).await
    }

    async fn scale(&self, replicas: i32) -> Result<()> {
        let patch = json!({"spec": {"replicas": replicas}});
        self.deployments()
            .patch_scale(NAME, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        self.wait_for(replicas).await
    }

    async fn wait_for(&self, replicas: i32) -> Result<()> {
        let what = if replicas == 0 {
            "the S3 server to be gone"
        } else {
            "the S3 server"
        };
        let pods: Api<k8s_openapi::api::core::v1::Pod> =
            Api::namespaced(self.client.clone(), &self.namespace);
        wait::until_none(what, Duration::from_secs(180), async || {
            let status = self
                .deployments()
                .get(NAME)
                .await?
                .status
                .unwrap_or_default();
            let ready = status.ready_replicas.unwrap_or(0);
            // A pod that terminates still answers on the connections it has.
            let params =
                kube::api::ListParams::default().labels(&format!("app.kubernetes.io/name={NAME}"));
            let there = pods.list(&params).await?.items.len();
            let done = ready == replicas && there == usize::try_from(replicas)?;
            Ok((!done).then(|| format!("{ready} ready, {there} pods")))
        })
        .await
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

fn objects(environment: &Environment, namespace: &str) -> Vec<Value> {
    let labels = json!({"app.kubernetes.io/name": NAME});
    let metadata = |name: &str| json!({"name": name, "namespace": namespace, "labels": labels});
    let secret = |name: &str, secret_key: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata(name),
               "stringData": {"access_key_id": ACCESS_KEY, "secret_access_key": secret_key}})
    };
    let from_secret = |key: &str| json!({"secretKeyRef": {"name": CREDENTIALS, "key": key}});
    let container_security = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
    });
    let data = json!([{"name": "data", "mountPath": "/data"}]);
    let pod = json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [{
            // A folder is a bucket to this server.
            "name": "bucket", "image": environment.image("busybox", "1"), "command": ["mkdir", "-p", format!("/data/{BUCKET}")],
            "securityContext": container_security, "volumeMounts": data,
        }],
        "containers": [{
            "name": "versitygw", "image": environment.s3_image(),
            // Without --disableotmp listings miss objects that are being written; without --keep-alive each request is a connection
            // of its own, with its questions to the DNS, which no other S3 server asks for.
            "args": ["--port", format!(":{PORT}"), "--keep-alive", "posix", "--disableotmp", "/data"],
            "env": [
                {"name": "ROOT_ACCESS_KEY", "valueFrom": from_secret("access_key_id")},
                {"name": "ROOT_SECRET_KEY", "valueFrom": from_secret("secret_access_key")},
            ],
            "ports": [{"name": "s3", "containerPort": PORT}],
            "readinessProbe": {"tcpSocket": {"port": "s3"}, "periodSeconds": 1},
            "securityContext": container_security, "volumeMounts": data,
        }],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": NAME}}],
    });
    vec![
        secret(CREDENTIALS, SECRET_KEY),
        secret(WRONG_CREDENTIALS, "not-the-secret"),
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata(NAME),
               "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(NAME),
               "spec": {"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": labels},
                        "template": {"metadata": {"labels": labels}, "spec": pod}}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(NAME),
               "spec": {"selector": labels, "ports": [{"name": "s3", "port": PORT, "targetPort": "s3"}]}}),
    ]
}
