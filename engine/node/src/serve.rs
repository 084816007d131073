//! The life of this process: settings, listeners, recovery, serving, the way out.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aof2_admin_api::{Refusal, Termination, TerminationReason};
use aof2_listen::Connections;
use clap::{CommandFactory, Parser};

use crate::args::{Arguments, Command, ConfigCommand};
use crate::config::Settings;
use crate::data_plane::{self, DataPlane, OpenFailure, Progress};
use crate::listen::{self, ListenError};
use crate::node::{Node, Phase};
use crate::shutdown::{self, Reason};
use crate::source::Source;
use crate::tls::Certificates;
use crate::{admin, config, data, probes, reload, telemetry, tls, way_out};

/// Kubernetes shows what is written here as the reason of a container's end. Written only where it exists.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// How often a directory is tried again that another process holds, or that lacks space.
const OPEN_RETRY: Duration = Duration::from_secs(1);
/// How long a poisoned store goes on refusing before the process ends.
const LAST_ANSWERS: Duration = Duration::from_millis(250);
const DATA_SOCKET_MODE: u32 = 0o660;
const ADMIN_SOCKET_MODE: u32 = 0o600;

/// Exit code of a process that only another one can follow: EX_IOERR of `sysexits.h`.
const POISONED: u8 = 74;

/// How the process ends.
#[derive(Debug)]
enum Exit {
    Clean,
    /// Anything that another configuration would avoid.
    Config(Termination),
    /// A failed sync, or a thread that is missing: whoever restarts this process recovers from the device.
    Poisoned(String),
    /// The way out failed: what was acknowledged is safe, the rest recovery finds.
    Unclean(String),
}

impl Exit {
    fn code(&self) -> u8 {
        match self {
            Exit::Clean => 0,
            Exit::Unclean(_) => 1,
            Exit::Config { .. } => 2,
            Exit::Poisoned(_) => POISONED,
        }
    }
}

/// Entry of the binary.
pub fn main(version: &'static str) -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    if arguments.version {
        println!("aof2-engine {version}");
        return ExitCode::SUCCESS;
    }
    match arguments.command {
        None => {
            // Nothing asked: say what can be asked.
            let _ = Arguments::command().print_help();
            ExitCode::from(2)
        }
        Some(Command::Config(ConfigCommand::Schema)) => {
            println!("{:#}", config::schema(version));
            ExitCode::SUCCESS
        }
        Some(Command::Run(arguments)) => {
            // Sockets that others may use get their mode by name.
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            aof2_core::io::return_large_blocks();
            let exit = run(Source::new(*arguments), version);
            match &exit {
                Exit::Clean => tracing::info!("engine stopped"),
                Exit::Unclean(message) => {
                    tracing::error!(
                        error = message,
                        "engine stopped without closing its store; the next start recovers it"
                    )
                }
                Exit::Poisoned(message) => end_poisoned(message),
                Exit::Config(why) => terminate(why),
            }
            ExitCode::from(exit.code())
        }
    }
}

/// Ends the process here and now.
#[allow(clippy::disallowed_methods)] // no destructor may wait for threads that are gone
fn end_poisoned(message: &str) -> ! {
    terminate(&Termination {
        key: String::new(),
        message: message.to_owned(),
        reason: TerminationReason::Poisoned,
    });
    std::process::exit(POISONED.into())
}

/// A thread that panics ends the process like a poisoned store: what waits for that thread would wait for ever, the destructors
/// of the thread's own callers among them. A release aborts at a panic; other profiles behave the same here.
fn end_at_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("without a name").to_owned();
        let message = panic.payload_as_str().unwrap_or_default().to_owned();
        tracing::error!(thread, error = message, "thread panicked");
        end_poisoned(&format!("thread {thread} panicked: {message}"));
    }));
}

/// One line of JSON on standard error, and where Kubernetes looks for it.
fn terminate(why: &Termination) {
    let line = serde_json::to_string(why).unwrap_or_else(|_| why.message.clone());
    eprintln!("{line}");
    if Path::new(TERMINATION_LOG).exists() {
        let written = std::fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(TERMINATION_LOG);
        // Best effort: the line is on standard error too.
        let _ = written.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

fn run(source: Source, version: &'static str) -> Exit {
    let text = source.read();
    let in_force = text.as_ref().and_then(|text| text.as_ref().ok().cloned());
    let settings = match source.parse(text) {
        Ok(settings) => settings,
        Err(errors) => {
            return Exit::Config(errors.termination());
        }
    };
    let level = telemetry::init(&settings.log.level);
    end_at_panics();
    // Another part of this process may have chosen it before; there is one provider to choose.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return Exit::Unclean(format!("cannot start the runtime: {error}")),
    };
    let node = Arc::new(Node::new(version, settings));
    tracing::info!(version, node = %node.config.settings().node_name, "engine starting");
    let exit = runtime.block_on(async {
        tokio::spawn(reload::watch(node.clone(), source, level, in_force));
        serve(node).await
    });
    if let Exit::Poisoned(message) = &exit {
        // Waiting clients are getting the reason.
        runtime.block_on(async { tokio::time::sleep(LAST_ANSWERS).await });
        // Before anything is dropped: a store that closes waits for its threads, and they may wait for a dead disk.
        end_poisoned(message);
    }
    // Connections that are still open are not waited for: everything durable is durable.
    runtime.shutdown_background();
    exit
}

async fn serve(node: Arc<Node>) -> Exit {
    let settings = node.config.settings();
    if let Err(error) = open_control_listeners(&node, &settings).await {
        return Exit::Config(Termination {
            key: String::new(),
            message: error.to_string(),
            reason: TerminationReason::ListenFailed,
        });
    }
    let signals = node.clone();
    tokio::spawn(async move {
        if let Err(error) = shutdown::watch_signals(&signals.shutdown).await {
            tracing::error!(%error, "cannot receive signals");
        }
    });
    let plane = match open_data_plane(&node, &settings).await {
        Opened::Serving(plane) => plane,
        Opened::Ended => return Exit::Clean,
        Opened::Failed(exit) => return exit,
    };
    let data = match serve_data(&node, &settings, &plane).await {
        Ok(data) => data,
        Err(error) => {
            return Exit::Config(Termination {
                key: "listen.data_socket".to_string(),
                message: error.to_string(),
                reason: TerminationReason::ListenFailed,
            });
        }
    };
    node.config.obeyed_by(|in_force| {
        // The file may have changed while recovery ran.
        plane.reconfigure(in_force);
        node.enter(Phase::Serving(plane.clone()));
    });
    let store = plane.store.clone();
    let streams = node.reading(move || store.metrics().streams).await;
    tracing::info!(streams = streams.unwrap_or_default(), socket = %settings.listen.data_socket.display(), "engine serving");
    let (refuse, refused) = tokio::sync::oneshot::channel();
    plane.store.on_refused(Box::new(move |error| {
        // Nobody listens any more where the process is on its way out.
        let _ = refuse.send(data_plane::refusal_of(&error));
    }));
    tokio::select! {
        exit = leave(&node, plane.clone()) => exit,
        message = node.shutdown.poisoned() => Exit::Poisoned(message),
        Ok(refusal) = refused => {
            data.abort();
            // No data socket without data, as where the data is refused at the start.
            let _ = std::fs::remove_file(&settings.listen.data_socket);
            stay_refused(&node, plane, refusal).await
        }
    }
}

/// Tier 2 came back and spoke against the volume: closed, and shown as a volume is that is refused at the start.
async fn stay_refused(node: &Arc<Node>, plane: DataPlane, refusal: Refusal) -> Exit {
    tracing::error!(reason = %refusal.reason, error = %refusal.message, "data directory refused");
    node.enter(Phase::Refused(refusal));
    if let Err(message) = way_out::close(node, plane).await {
        tracing::error!(
            error = message,
            "store of a refused volume was not closed cleanly"
        );
    }
    tokio::select! {
        message = node.shutdown.poisoned() => Exit::Poisoned(message),
        reason = node.shutdown.requested() => match reason {
            Reason::Poisoned(message) => Exit::Poisoned(message),
            Reason::Signal(_) | Reason::RestartVerb => Exit::Clean,
        },
    }
}

/// Probes, metrics and the admin API: before recovery, and whatever it finds.
async fn open_control_listeners(node: &Arc<Node>, settings: &Settings) -> Result<(), ListenError> {
    let http = listen::tcp(settings.listen.http_address).await?;
    tracing::info!(listener = "http", address = %local(&http), "listening");
    let connections = Connections::of_requests("http");
    tokio::spawn(aof2_listen::serve(
        http,
        node.listening(connections),
        probes::router(node.clone()),
    ));

    let router = admin::router(node.clone());
    let socket = listen::unix(&settings.listen.admin_socket, ADMIN_SOCKET_MODE).await?;
    let connections = Connections::of_requests("admin-socket");
    tokio::spawn(aof2_listen::serve(
        socket,
        node.listening(connections),
        router.clone(),
    ));

    if let Some(tls) = &settings.tls {
        let certificates = Arc::new(Certificates::default());
        tokio::spawn(tls::watch(certificates.clone(), tls.clone()));
        let address = settings.listen.admin_address;
        let listener = listen::tcp(address).await?;
        tracing::info!(listener = "admin", address = %local(&listener), "listening");
        let connections = Connections::of_requests("admin");
        tokio::spawn(aof2_listen::serve_named(
            listener,
            node.listening(connections),
            move |stream| tls::handshake(certificates.clone(), stream),
            router,
        ));
    }
    Ok(())
}

fn local(listener: &tokio::net::TcpListener) -> String {
    listener
        .local_addr()
        .map_or_else(|error| error.to_string(), |address| address.to_string())
}

enum Opened {
    Serving(DataPlane),
    /// Asked to end while there was nothing to close.
    Ended,
    Failed(Exit),
}

/// Opens the store. A directory that is refused keeps the process up until it is asked to end; one that is locked or full is tried again.
async fn open_data_plane(node: &Arc<Node>, settings: &Settings) -> Opened {
    loop {
        let progress = Arc::new(Progress::default());
        if !matches!(&*node.phase(), Phase::Refused(_)) {
            node.enter(Phase::Recovering(progress.clone()));
        }
        let settings = settings.clone();
        let opening = tokio::task::spawn_blocking(move || data_plane::open(&settings, progress));
        let opened = tokio::select! {
            opened = opening => opened,
            // Recovery may be ended anywhere and done again, as by a kill.
            _ = node.shutdown.requested() => {
                tracing::info!("engine stops during recovery; the next start does it again");
                return Opened::Ended;
            }
        };
        let failure = match opened {
            Ok(Ok(plane)) => {
                node.epochs.remember_in(&plane.store.config().directory);
                let poisoned = node.clone();
                plane.store.on_poison(Box::new(move |message| {
                    poisoned.shutdown.request(Reason::Poisoned(message))
                }));
                return Opened::Serving(plane);
            }
            Ok(Err(failure)) => failure,
            Err(panicked) => {
                return Opened::Failed(Exit::Unclean(format!("recovery failed: {panicked}")));
            }
        };
        match failure {
            OpenFailure::Config { key, message } => {
                return Opened::Failed(Exit::Config(Termination {
                    key,
                    message,
                    reason: TerminationReason::ConfigRejected,
                }));
            }
            OpenFailure::Poisoned(message) => return Opened::Failed(Exit::Poisoned(message)),
            OpenFailure::Waits(refusal) => {
                tracing::warn!(reason = %refusal.reason, error = %refusal.message, "data directory refused");
                node.enter(Phase::Refused(refusal));
                tokio::select! {
                    _ = node.shutdown.requested() => return Opened::Ended,
                    () = tokio::time::sleep(OPEN_RETRY) => {}
                }
            }
            OpenFailure::Refused(refusal) => {
                tracing::error!(reason = %refusal.reason, error = %refusal.message, "data directory refused");
                node.enter(Phase::Refused(refusal));
                node.shutdown.requested().await;
                return Opened::Ended;
            }
        }
    }
}

async fn serve_data(
    node: &Arc<Node>,
    settings: &Settings,
    plane: &DataPlane,
) -> Result<tokio::task::JoinHandle<()>, ListenError> {
    let listener = listen::unix(&settings.listen.data_socket, DATA_SOCKET_MODE).await?;
    let (node, plane) = (node.clone(), plane.clone());
    Ok(tokio::spawn(async move {
        if let Err(error) = data::serve(node, plane, listener).await {
            tracing::error!(%error, "data socket closed");
        }
    }))
}

async fn leave(node: &Arc<Node>, plane: DataPlane) -> Exit {
    let reason = node.shutdown.requested().await;
    tracing::info!(?reason, "shutdown requested");
    match reason {
        Reason::Poisoned(message) => return Exit::Poisoned(message),
        Reason::RestartVerb => {}
        Reason::Signal(_) => way_out::last_words(node, &plane).await,
    }
    node.enter(Phase::Closed);
    match way_out::close(node, plane).await {
        Ok(()) => Exit::Clean,
        Err(message) => Exit::Unclean(message),
    }
}
