//! `aof2-operator`: waits for the Lease, then runs clusters until it is told to stop or loses the Lease.

use std::{process::ExitCode, sync::Arc, time::Duration};

use aof2_operator::{
    args::Args,
    cluster,
    context::{Context, Settings, Sights},
    engines::EngineClient,
    kube::{
        Door,
        lease::{Elector, LeaseSettings},
        scope::Scopes,
    },
    pki::{self, source::Place},
    pod_policy::{Policy, Users},
    runtime::{client, http, memory, metrics::Metrics, telemetry},
    snapshot,
};
use clap::Parser;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// How long looks under way may take to end after a signal.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    memory::give_back();
    let args = Args::parse();
    if let Err(error) = telemetry::install(&args.log, args.log_json) {
        eprintln!("--log {}: {error}", args.log);
        return ExitCode::from(2);
    }
    // Fails only when another provider was installed before, and there is no other.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let mut stopped = stop_signal()?;
    let metrics = Arc::new(Metrics::default());
    tokio::spawn(
        http::serve(args.http_address, metrics.clone())
            .await
            .map_err(|error| anyhow::anyhow!("listen on {}: {error}", args.http_address))?,
    );
    let config = client::config().await?;

    // Differs from every other process, also from the one before in the same pod.
    let identity = format!("{}_{}", args.identity, uuid::Uuid::now_v7());
    let mut elector = Elector::new(
        client::connect(&config)?,
        LeaseSettings::new(args.namespace.clone(), args.lease_name.clone(), identity),
    );
    let epoch = tokio::select! {
        epoch = elector.acquire() => epoch,
        () = is_set(&mut stopped) => return Ok(()),
    };
    metrics.leader.set(1);
    metrics.epoch.set(i64::try_from(epoch).unwrap_or(i64::MAX));
    tracing::info!(epoch, scope = ?args.scope(), version = env!("CARGO_PKG_VERSION"), "leading");

    let (ending, mut ended) = watch::channel(false);
    let work = lead(&args, &config, epoch, metrics.clone(), ended.clone());
    tokio::pin!(work);
    tokio::select! {
        // The process ends here, whatever was under way: another one may act now.
        lost = elector.hold() => return Err(lost.into()),
        result = &mut work => return result,
        () = is_set(&mut stopped) => {}
    }
    tracing::info!("stopping");
    ending.send_replace(true);
    tokio::select! {
        lost = elector.hold() => return Err(lost.into()),
        finished = tokio::time::timeout(SHUTDOWN_LIMIT, work) => {
            if finished.is_err() {
                anyhow::bail!("running work did not end within {} s. The Lease expires on its own", SHUTDOWN_LIMIT.as_secs());
            }
        }
    }
    let _ = ended.borrow_and_update();
    elector.release().await;
    Ok(())
}

async fn lead(
    args: &Args,
    config: &kube::Config,
    epoch: u64,
    metrics: Arc<Metrics>,
    mut ended: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let client = client::connect(config)?;
    let door = Door::new(client.clone(), &args.identity, metrics.clone());
    let place = Place {
        namespace: &args.namespace,
        secret: &args.ca_secret,
        directory: &args.ca_directory,
    };
    let authority = tokio::select! {
        authority = pki::obtain(&door, place) => Arc::new(authority),
        () = is_set(&mut ended) => return Ok(()),
    };
    let settings = Settings {
        operator_namespace: args.namespace.clone(),
        allows_own_namespace: args.allow_own_namespace,
        image_repository: args.image_repository.clone(),
        users: match args.assigned_users {
            true => Users::Assigned,
            false => Users::Fixed,
        },
        ca_secret: args.ca_secret.clone(),
        pod_policy: Policy::new(args.allow_in_pods.clone()),
        epoch,
    };
    let context = Arc::new(Context {
        door,
        scopes: Scopes::new(
            client.clone(),
            format!("{}/{}", args.namespace, args.lease_name),
            &args.scope(),
        ),
        reader: client,
        engines: EngineClient::new(authority.clone(), settings.client_name(), epoch),
        authority,
        metrics,
        settings,
        sights: Sights::default(),
    });
    let snapshots = Arc::new(snapshot::known::Known::default());
    let mut ended_too = ended.clone();
    let scope = args.scope();
    futures::join!(
        cluster::run::run(
            context.clone(),
            snapshots.clone(),
            &scope,
            args.concurrency,
            async move { is_set(&mut ended).await }
        ),
        snapshot::run::run(context, snapshots, &scope, args.concurrency, async move {
            is_set(&mut ended_too).await
        }),
    );
    Ok(())
}

/// Becomes true at SIGTERM or SIGINT.
fn stop_signal() -> std::io::Result<watch::Receiver<bool>> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        sender.send_replace(true);
        sender.closed().await;
    });
    Ok(receiver)
}

async fn is_set(receiver: &mut watch::Receiver<bool>) {
    // A sender that went away means that nobody will ask to stop.
    if receiver.wait_for(|set| *set).await.is_err() {
        std::future::pending::<()>().await;
    }
}
