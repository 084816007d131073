//! `load`: starts a writer per stream and the line to the collector, and prints what they do.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aof2_format::StreamName;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::cli::{Connection, LoadArguments};
use crate::data;
use crate::exit::{Failure, Outcome, of_output};
use crate::load::collector::{self, Destination};
use crate::load::stats::{Line, Stats};
use crate::load::writer::Writer;
use crate::render;

/// Streams that share one connection; an HTTP/2 server allows about a hundred calls on one.
const STREAMS_PER_CONNECTION: usize = 32;
const COLLECTOR_QUEUE: usize = 4096;
/// How long a run with an end tries again without an acknowledgement.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the end of a run waits for acknowledgements and the collector.
const GRACE: Duration = Duration::from_secs(5);

pub async fn run(connection: &Connection, arguments: LoadArguments) -> Result<Outcome, Failure> {
    let LoadArguments {
        streams,
        rate,
        size,
        collector,
        in_flight,
        count,
        give_up,
        report_every,
    } = arguments;
    for stream in &streams {
        StreamName::new(stream).map_err(|refusal| Failure::Usage(refusal.to_string()))?;
    }
    let stats = Arc::new(Stats::default());
    let (acknowledgements, queue) = mpsc::channel(COLLECTOR_QUEUE);
    let mut tasks = JoinSet::new();
    let destination = collector.unwrap_or(Destination::Nowhere);
    let has_stdout = destination != Destination::StandardOutput;
    tasks.spawn(collector::run(destination, queue, stats.clone()));
    let (stop, stopped) = watch::channel(false);
    // Whoever wants a number of records waits for the end of this program.
    let patience = give_up.or((count > 0).then_some(PATIENCE));
    let run = run_number();
    let mut client = data::client(&connection.socket);
    for (index, stream) in streams.iter().enumerate() {
        if index % STREAMS_PER_CONNECTION == 0 {
            client = data::client(&connection.socket);
        }
        let writer = Writer {
            client: client.clone(),
            stream: stream.clone(),
            rate,
            record_bytes: size,
            in_flight,
            count,
            patience,
            run,
            collector: acknowledgements.clone(),
            stats: stats.clone(),
            stop: stopped.clone(),
        };
        tasks.spawn(writer.run());
    }
    drop((acknowledgements, stopped));

    let clock = Clock {
        started: Instant::now(),
        last_line: Instant::now(),
        streams: streams.len(),
    };
    let print = |line: &Line| print(line, connection.json, has_stdout);
    follow(print, &stats, clock, report_every, stop, tasks).await
}

/// Tells one run from another. Not a secret: it only has to differ.
fn run_number() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

struct Clock {
    started: Instant,
    last_line: Instant,
    streams: usize,
}

impl Clock {
    fn line(&mut self, stats: &Stats) -> Line {
        let now = Instant::now();
        let since_last = now - std::mem::replace(&mut self.last_line, now);
        stats.line(self.streams, now - self.started, since_last)
    }
}

/// Prints lines until all tasks are done or a signal asks for the end.
async fn follow(
    print: impl Fn(&Line) -> Result<(), Failure>,
    stats: &Stats,
    mut clock: Clock,
    report_every: Duration,
    stop: watch::Sender<bool>,
    mut tasks: JoinSet<Result<(), Failure>>,
) -> Result<Outcome, Failure> {
    let no_signals =
        |error: std::io::Error| Failure::Unavailable(format!("cannot receive signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut ticks = tokio::time::interval(report_every.max(Duration::from_millis(100)));
    ticks.tick().await;
    let mut deadline = None;
    loop {
        let grace = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            task = tasks.join_next() => match task {
                None => break,
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(failure))) => {
                    print(&clock.line(stats))?;
                    return Err(failure);
                }
                Some(Err(error)) => return Err(Failure::Unavailable(format!("a writer failed: {error}"))),
            },
            _ = ticks.tick() => print(&clock.line(stats))?,
            _ = terminate.recv() => deadline = Some(end(&stop)),
            _ = interrupt.recv() => deadline = Some(end(&stop)),
            () = grace => break,
        }
    }
    let line = clock.line(stats);
    print(&line)?;
    Ok(if line.setbacks > 0 {
        Outcome::Negative
    } else {
        Outcome::Clean
    })
}

fn end(stop: &watch::Sender<bool>) -> tokio::time::Instant {
    stop.send_replace(true);
    tokio::time::Instant::now() + GRACE
}

/// To standard error where standard output has the acknowledgements.
fn print(line: &Line, as_json: bool, has_stdout: bool) -> Result<(), Failure> {
    let text = match as_json {
        true => serde_json::to_string(line).map_err(|error| of_output(error.into()))?,
        false => line.to_string(),
    };
    if has_stdout {
        return render::line(&text);
    }
    writeln!(std::io::stderr(), "{text}").map_err(of_output)
}
