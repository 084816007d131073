//! One test: a namespace of its own, a deadline, the safety observer, and diagnostics when it fails.

use std::io::Write;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use futures::FutureExt;

use crate::audit::AuditLog;
use crate::cluster::{Cluster, Draft};
use crate::collector::{Acknowledgement, Collector, Keep};
use crate::engine::Engine;
use crate::environment::{Environment, host_address_towards};
use crate::helm::Operator;
use crate::kubectl::Program;
use crate::namespace::Namespace;
use crate::oracle::{self, Verdict};
use crate::pods;
use crate::s3::S3Server;
use crate::safety::Observer;
use crate::writer;

/// Set, the namespace of a failed test stays.
const KEEP: &str = "AOF2_E2E_KEEP";

pub struct Scenario {
    pub environment: Environment,
    pub client: kube::Client,
    pub kubectl: Program,
    pub namespace: Namespace,
    start: Instant,
}

/// Runs a test to its end or its deadline, then checks what has to hold in every test. Where nodes, pods or the audit log are out
/// of reach it is skipped, and reported so.
pub fn run(
    name: &str,
    limit: Duration,
    body: impl AsyncFnOnce(&Scenario) -> Result<()>,
) -> Result<(), Failure> {
    if let Some(why) = out_of_reach() {
        skip(name, &why);
        return Ok(());
    }
    run_by_api_server(name, limit, body)
}

/// The same for a test that reaches into every namespace: it waits until those under way have ended, and holds up those to come. Its
/// module is the last in the alphabet, which is the order of the harness.
pub fn run_alone(
    name: &str,
    limit: Duration,
    body: impl AsyncFnOnce(&Scenario) -> Result<()>,
) -> Result<(), Failure> {
    if let Some(why) = out_of_reach() {
        skip(name, &why);
        return Ok(());
    }
    let _alone = SIDE_BY_SIDE.write().unwrap_or_else(PoisonError::into_inner);
    run_in_namespace(name, limit, body).map_err(|error| Failure(format!("{error:#}")))
}

/// The same for a test that asks the API server alone: it runs on every cluster.
pub fn run_by_api_server(
    name: &str,
    limit: Duration,
    body: impl AsyncFnOnce(&Scenario) -> Result<()>,
) -> Result<(), Failure> {
    let _beside_others = SIDE_BY_SIDE.read().unwrap_or_else(PoisonError::into_inner);
    run_in_namespace(name, limit, body).map_err(|error| Failure(format!("{error:#}")))
}

/// Read by tests that keep to their namespace.
static SIDE_BY_SIDE: RwLock<()> = RwLock::new(());

/// Why a test failed. The test harness prints `Debug`: causes in one line, without a backtrace through the harness.
pub struct Failure(String);

impl std::fmt::Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn run_in_namespace(
    name: &str,
    limit: Duration,
    body: impl AsyncFnOnce(&Scenario) -> Result<()>,
) -> Result<()> {
    let environment = Environment::from_env()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = environment.client().await?;
        let namespace = Namespace::fresh(&client, &format!("e2e-{name}")).await?;
        let scenario = Scenario::new(environment, client, namespace);
        let outcome =
            tokio::time::timeout(limit, AssertUnwindSafe(body(&scenario)).catch_unwind()).await;
        let outcome = match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(anyhow!("panicked: {}", panic_text(&panic))),
            Err(_) => Err(anyhow!(
                "not done after its deadline of {} s",
                limit.as_secs()
            )),
        };
        scenario.finish(name, outcome).await
    })
}

impl Scenario {
    pub fn new(environment: Environment, client: kube::Client, namespace: Namespace) -> Self {
        let kubectl = Program::kubectl(&environment);
        Self {
            environment,
            client,
            kubectl,
            namespace,
            start: Instant::now(),
        }
    }

    async fn finish(self, name: &str, outcome: Result<()>) -> Result<()> {
        let seconds = self.start.elapsed().as_secs_f64();
        let outcome = match outcome {
            Ok(()) => {
                println!("{name}: passed in {seconds:.0} s");
                Ok(())
            }
            Err(error) => {
                let written = self.namespace.write_diagnostics(&self.environment).await;
                let place = written.map_or_else(
                    |error| format!("no diagnostics: {error:#}"),
                    |path| format!("diagnostics in {}", path.display()),
                );
                Err(error.context(format!("{name} failed after {seconds:.0} s; {place}")))
            }
        };
        if outcome.is_ok() || std::env::var_os(KEEP).is_none() {
            self.namespace.delete().await?;
        }
        outcome
    }

    /// One line of what the test does, with its time.
    pub fn say(&self, text: impl AsRef<str>) {
        println!(
            "[{:6.1}] {}: {}",
            self.start.elapsed().as_secs_f64(),
            self.namespace.name,
            text.as_ref()
        );
    }

    /// The operator in this namespace, and the observer of what it does.
    pub async fn install_operator(&self) -> Result<(Operator, Observer)> {
        let audit = AuditLog::from_now(self.environment.audit_log()?)?;
        let operator =
            Operator::install(&self.environment, &self.client, &self.namespace.name, &[]).await?;
        let observer = Observer::start(
            &self.client,
            &self.namespace.name,
            &operator.identity,
            audit,
        );
        self.say("operator installed");
        Ok((operator, observer))
    }

    pub async fn install_s3(&self) -> Result<S3Server> {
        let server =
            S3Server::install(&self.environment, &self.client, &self.namespace.name).await?;
        self.say("S3 server installed");
        Ok(server)
    }

    /// A collector on this machine, at the address that pods reach it by.
    pub async fn start_collector(&self) -> Result<Collector> {
        let host = host_address_towards(pods::node_address(&self.client).await?)?;
        let folder = self
            .environment
            .cluster_folder
            .join("log/e2e")
            .join(format!("{}-acknowledged", self.namespace.name));
        // A demo that was interrupted left a list of records that no engine has any more.
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        Collector::start(SocketAddr::new(host, 0), Keep::Files(folder)).await
    }

    pub fn draft(&self, name: &str) -> Draft {
        Draft::new(&self.namespace.name, name)
    }

    /// Applies a draft that has to be taken.
    pub async fn apply(&self, draft: &Draft) -> Result<Cluster> {
        let output = Cluster::try_apply(&self.kubectl, draft).await?;
        ensure!(
            output.success,
            "the API server refused {}: {}",
            draft.name(),
            output.stderr.trim()
        );
        Ok(self.cluster(draft.name()))
    }

    pub fn cluster(&self, name: &str) -> Cluster {
        Cluster::new(&self.client, &self.kubectl, &self.namespace.name, name)
    }

    /// Has the engines check everything that the collector holds of this cluster's streams.
    pub async fn verify(
        &self,
        cluster: &Cluster,
        replicas: u32,
        collector: &Collector,
    ) -> Result<Verdict> {
        let per_pod = oracle::by_pod(&writer::streams(&cluster.name, replicas), |stream| {
            Ok(collector.acknowledgements(stream)?.into_iter().collect())
        })?;
        let lists: Vec<(Engine, Vec<Acknowledgement>)> = per_pod
            .into_iter()
            .map(|(pod, list)| (cluster.engine(&pod), list))
            .collect();
        oracle::verify(&lists).await
    }

    /// The operator kept the safety invariant; returns how many pods it removed.
    pub fn ensure_safe(&self, observer: &Observer) -> Result<usize> {
        let report = observer.report()?;
        if !report.violations.is_empty() {
            bail!(
                "the safety invariant was broken: {}",
                report.violations.join("; ")
            );
        }
        Ok(report.removals.len())
    }
}

fn panic_text(panic: &Box<dyn std::any::Any + Send>) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a message").to_owned()
}

/// File to which a test adds a line when it was skipped: the harness knows only passed and failed, and hides what a passed one says.
const SKIPPED: &str = "AOF2_E2E_SKIPPED";

/// Reports a test that cannot run on this cluster.
fn skip(name: &str, why: &str) {
    println!("{name}: SKIPPED: {why}");
    let Some(path) = std::env::var_os(SKIPPED) else {
        return;
    };
    let written = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| writeln!(file, "{name}: {why}"));
    if let Err(error) = written {
        println!("{name}: the skip could not be reported: {error}");
    }
}

/// Why a test that needs nodes, pod addresses or the audit log cannot run on this cluster; `None` when it can.
fn out_of_reach() -> Option<String> {
    // Without an environment the test itself says what to do.
    reach(&Environment::from_env().ok()?)
}

fn reach(environment: &Environment) -> Option<String> {
    if !environment.has_nodes_within_reach() {
        return Some("nodes and pod addresses are out of reach on this provider".to_owned());
    }
    environment.audit_log().err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Provider;

    fn environment(provider: Provider, audit_log: Option<&str>) -> Environment {
        Environment {
            kubeconfig: "kubeconfig".into(),
            programs: "bin".into(),
            provider,
            audit_log: audit_log.map(Into::into),
            image_prefix: "registry/aof2".to_owned(),
            cluster_folder: "cluster".into(),
        }
    }

    #[test]
    fn what_needs_nodes_or_the_audit_log_is_skipped_where_they_are_out_of_reach() {
        assert_eq!(
            reach(&environment(Provider::Local, Some("audit.log"))),
            None
        );
        for provider in [Provider::Kind, Provider::Foreign] {
            let why = reach(&environment(provider, Some("audit.log"))).unwrap();
            assert!(why.contains("nodes"), "{why}");
        }
        let why = reach(&environment(Provider::Local, None)).unwrap();
        assert!(why.contains("AOF2_E2E_AUDIT_LOG"), "{why}");
    }
}
