//! Where acknowledgements go before they count.
//!
//! - A collector gets them in batches, and they count when it has answered for them. After a lost connection what was not answered
//!   for is sent again.
//! - On standard output they count when they are written. When nobody reads it any more, the run ends.

use std::collections::VecDeque;
use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::stats::Stats;
use crate::exit::{Failure, of_output};
use crate::verify::Acknowledgement;

const RETRY_INTERVAL: Duration = Duration::from_millis(500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A collector that says nothing for so long is taken for gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_BATCH: usize = 1024;

/// An acknowledgement on its way, with its record's place in the window.
pub struct Pending {
    pub acknowledgement: Acknowledgement,
    /// Given back when it counts.
    pub place: OwnedSemaphorePermit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The engine's answer is all there is.
    Nowhere,
    StandardOutput,
    /// `host:port` of a collector.
    Collector(String),
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "-" => Ok(Destination::StandardOutput),
            _ if text.contains(':') => Ok(Destination::Collector(text.to_owned())),
            _ => Err(format!("`{text}` is neither HOST:PORT nor `-`")),
        }
    }
}

/// Runs until the queue's senders are gone and everything is confirmed.
pub async fn run(
    destination: Destination,
    mut queue: mpsc::Receiver<Pending>,
    stats: Arc<Stats>,
) -> Result<(), Failure> {
    match destination {
        Destination::Nowhere => {
            while let Some(pending) = queue.recv().await {
                stats.confirmed(1);
                drop(pending);
            }
            Ok(())
        }
        Destination::StandardOutput => write_out(std::io::stdout(), queue, &stats).await,
        Destination::Collector(address) => {
            send(&address, queue, stats).await;
            Ok(())
        }
    }
}

/// One line for each, flushed before it counts.
async fn write_out(
    mut output: impl Write,
    mut queue: mpsc::Receiver<Pending>,
    stats: &Stats,
) -> Result<(), Failure> {
    while let Some(pending) = queue.recv().await {
        let line = serde_json::to_string(&pending.acknowledgement)
            .map_err(|error| of_output(error.into()))?;
        writeln!(output, "{line}")
            .and_then(|()| output.flush())
            .map_err(of_output)?;
        stats.confirmed(1);
        drop(pending);
    }
    Ok(())
}

async fn send(address: &str, mut queue: mpsc::Receiver<Pending>, stats: Arc<Stats>) {
    let mut unconfirmed: VecDeque<Pending> = VecDeque::new();
    let mut is_closed = false;
    let mut last_error = String::new();
    while !is_closed || !unconfirmed.is_empty() {
        if unconfirmed.is_empty() {
            match queue.recv().await {
                Some(pending) => unconfirmed.push_back(pending),
                None => {
                    is_closed = true;
                    continue;
                }
            }
        }
        if let Err(error) = converse(
            address,
            &mut queue,
            &mut unconfirmed,
            &mut is_closed,
            &stats,
        )
        .await
        {
            let error =
                format!("collector {address} failed ({error}); records wait until it answers");
            if error != last_error {
                // Nobody reads standard error: the periodic line says that records wait.
                let _ = writeln!(std::io::stderr(), "{error}");
                last_error = error;
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }
}

/// One connection, until it fails or all is done.
async fn converse(
    address: &str,
    queue: &mut mpsc::Receiver<Pending>,
    unconfirmed: &mut VecDeque<Pending>,
    is_closed: &mut bool,
    stats: &Stats,
) -> Result<(), String> {
    let connection = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .map_err(|_| "connection not accepted".to_owned())?
        .map_err(|error| error.to_string())?;
    // Small lines, answered one batch at a time; a failure costs latency only.
    let _ = connection.set_nodelay(true);
    let (reader, mut writer) = connection.into_split();
    let mut answers = BufReader::new(reader).lines();
    let (mut sent, mut confirmed) = (0usize, 0u64);
    let mut text = String::new();
    loop {
        while unconfirmed.len() < MAX_BATCH
            && let Ok(pending) = queue.try_recv()
        {
            unconfirmed.push_back(pending);
        }
        text.clear();
        for pending in unconfirmed.iter().skip(sent) {
            text += &serde_json::to_string(&pending.acknowledgement)
                .map_err(|error| error.to_string())?;
            text.push('\n');
        }
        writer
            .write_all(text.as_bytes())
            .await
            .map_err(|error| error.to_string())?;
        sent = unconfirmed.len();

        while sent > 0 {
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, answers.next_line())
                .await
                .map_err(|_| format!("no answer within {ANSWER_TIMEOUT:?}"))?
                .map_err(|error| error.to_string())?
                .ok_or("closed the connection")?;
            let total: u64 = answer
                .trim()
                .parse()
                .map_err(|_| format!("unexpected answer `{answer}`"))?;
            let fresh = total
                .checked_sub(confirmed)
                .filter(|fresh| *fresh <= sent as u64);
            let fresh = fresh
                .ok_or_else(|| format!("confirmed {total} of {} lines", confirmed + sent as u64))?;
            confirmed = total;
            sent -= fresh as usize;
            unconfirmed.drain(..fresh as usize);
            stats.confirmed(fresh);
        }

        if unconfirmed.is_empty() {
            match queue.recv().await {
                Some(pending) => unconfirmed.push_back(pending),
                None => {
                    *is_closed = true;
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::sync::Semaphore;

    fn pending(sequence: u64, window: &Arc<Semaphore>) -> Pending {
        Pending {
            acknowledgement: Acknowledgement {
                stream: "a".into(),
                sequence,
                producer_seq: sequence,
                sha256: crate::verify::sha256(b"x"),
            },
            place: window.clone().try_acquire_owned().expect("a free place"),
        }
    }

    #[tokio::test]
    async fn what_was_not_confirmed_is_sent_again_and_counts_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, queue) = mpsc::channel(8);
        let (stats, window) = (Arc::new(Stats::default()), Arc::new(Semaphore::new(2)));
        let line = tokio::spawn(run(Destination::Collector(address), queue, stats.clone()));
        sender.send(pending(0, &window)).await.unwrap();
        sender.send(pending(1, &window)).await.unwrap();
        drop(sender);

        // The first connection is lost after the lines have arrived and before they are confirmed.
        let (mut first, _) = listener.accept().await.unwrap();
        let mut arrived = vec![0; 4096];
        assert!(first.read(&mut arrived).await.unwrap() > 0);
        assert_eq!(
            window.available_permits(),
            0,
            "nothing counts before the answer"
        );
        drop(first);

        let (second, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = second.into_split();
        let mut lines = BufReader::new(reader).lines();
        for sequence in 0..2 {
            let text = lines.next_line().await.unwrap().unwrap();
            assert!(
                text.contains(&format!("\"sequence\":{sequence},")),
                "{text}"
            );
        }
        writer.write_all(b"2\n").await.unwrap();
        line.await.unwrap().unwrap();
        assert_eq!(window.available_permits(), 2);
        assert_eq!(stats.line(1, Duration::ZERO, Duration::ZERO).confirmed, 2);
    }

    #[tokio::test]
    async fn what_cannot_be_written_does_not_count_and_ends_the_run() {
        let (sender, queue) = mpsc::channel(8);
        let (stats, window) = (Stats::default(), Arc::new(Semaphore::new(2)));
        for sequence in 0..2 {
            sender.send(pending(sequence, &window)).await.unwrap();
        }
        drop(sender);
        // Room for one line.
        let mut room = [0_u8; 150];
        let ended = write_out(&mut room[..], queue, &stats).await;
        assert!(matches!(ended, Err(Failure::Unavailable(_))), "{ended:?}");
        assert_eq!(stats.line(1, Duration::ZERO, Duration::ZERO).confirmed, 1);
        assert!(room.starts_with(br#"{"stream":"a","sequence":0,"#));
    }

    #[tokio::test]
    async fn a_collector_that_confirms_more_than_it_got_is_not_believed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, mut queue) = mpsc::channel(8);
        let (stats, window) = (Stats::default(), Arc::new(Semaphore::new(1)));
        sender.send(pending(0, &window)).await.unwrap();
        let (mut unconfirmed, mut is_closed) = (VecDeque::new(), false);
        let answer = async {
            let (mut connection, _) = listener.accept().await.unwrap();
            connection.write_all(b"7\n").await.unwrap();
            connection
        };
        let conversation = converse(
            &address,
            &mut queue,
            &mut unconfirmed,
            &mut is_closed,
            &stats,
        );
        let (result, _connection) = tokio::join!(conversation, answer);
        assert_eq!(result.unwrap_err(), "confirmed 7 of 1 lines");
        assert_eq!(unconfirmed.len(), 1);
    }
}
