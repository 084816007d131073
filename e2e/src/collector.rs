//! Where acknowledgements go to count: a process outside the pods that writes each one down before it confirms it.
//!
//! A client sends lines `{"stream":"..","sequence":N,"producer_seq":N,"sha256":".."}`; for what it has written down the collector
//! answers `<lines of this connection so far>\n`. A client that reconnects sends its unconfirmed lines again, so a line may lie
//! here twice: readers of the list take equal lines for one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One acknowledgement, as `aof2-admin load` sends it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Acknowledgement {
    pub stream: String,
    pub sequence: u64,
    pub producer_seq: u64,
    /// Of the payload, in hex.
    pub sha256: String,
}

/// What becomes of a confirmed acknowledgement.
#[derive(Clone, Debug)]
pub enum Keep {
    /// A file per stream in this folder.
    Files(PathBuf),
    /// Only its number: for writers that go on after nobody verifies any more.
    Count,
}

/// A running collector; it ends when dropped.
pub struct Collector {
    address: SocketAddr,
    ledger: Arc<Mutex<Ledger>>,
    server: JoinHandle<()>,
}

impl Collector {
    pub async fn start(bind: SocketAddr, keep: Keep) -> Result<Self> {
        Self::start_paced(bind, keep, None).await
    }

    /// Confirms at most `pace` lines a second on each connection. Writers wait for confirmation, so they append no faster.
    pub async fn start_paced(
        bind: SocketAddr,
        keep: Keep,
        pace: Option<NonZeroUsize>,
    ) -> Result<Self> {
        let ledger = Arc::new(Mutex::new(Ledger::open(keep)?));
        let listener = TcpListener::bind(bind)
            .await
            .with_context(|| format!("the collector cannot listen on {bind}"))?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(serve(listener, Arc::clone(&ledger), pace));
        Ok(Self {
            address,
            ledger,
            server,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lines written down per stream. Lines sent twice count twice: good for "it moves", not for a verdict.
    pub fn lines(&self) -> BTreeMap<String, u64> {
        locked(&self.ledger).lines.clone()
    }

    pub fn total(&self) -> u64 {
        self.lines().values().sum()
    }

    /// The list as it lies in the files, each acknowledgement once.
    pub fn acknowledgements(&self, stream: &str) -> Result<BTreeSet<Acknowledgement>> {
        let folder = match &locked(&self.ledger).keep {
            Keep::Files(folder) => folder.clone(),
            Keep::Count => bail!("this collector only counts"),
        };
        read_list(&folder.join(file_name(stream)))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Reads a list of acknowledgements, each once.
pub fn read_list(path: &Path) -> Result<BTreeSet<Acknowledgement>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the list {}", path.display()))?;
    text.lines()
        .map(|line| {
            serde_json::from_str(line)
                .with_context(|| format!("{}: `{line}` is not an acknowledgement", path.display()))
        })
        .collect()
}

/// A list as `aof2-admin verify` reads it.
pub fn to_lines<'a>(list: impl IntoIterator<Item = &'a Acknowledgement>) -> String {
    let mut text = String::new();
    for acknowledgement in list {
        text.push_str(
            &serde_json::to_string(acknowledgement).expect("strings and numbers serialise"),
        );
        text.push('\n');
    }
    text
}

struct Ledger {
    keep: Keep,
    files: BTreeMap<String, File>,
    lines: BTreeMap<String, u64>,
}

impl Ledger {
    fn open(keep: Keep) -> Result<Self> {
        if let Keep::Files(folder) = &keep {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        Ok(Self {
            keep,
            files: BTreeMap::new(),
            lines: BTreeMap::new(),
        })
    }

    /// Writes lines down. All of them are checked first, so that a batch is taken whole or not at all.
    fn write_down(&mut self, batch: &[String]) -> Result<()> {
        let mut per_stream: BTreeMap<String, (String, u64)> = BTreeMap::new();
        for line in batch {
            let parsed: Acknowledgement = serde_json::from_str(line)
                .with_context(|| format!("`{line}` is not an acknowledgement"))?;
            ensure!(
                is_stream_name(&parsed.stream),
                "`{}` is not the name of a stream",
                parsed.stream
            );
            let (text, count) = per_stream.entry(parsed.stream).or_default();
            text.push_str(line);
            text.push('\n');
            *count += 1;
        }
        for (stream, (text, count)) in per_stream {
            if let Keep::Files(folder) = &self.keep {
                if !self.files.contains_key(&stream) {
                    let path = folder.join(file_name(&stream));
                    let file = OpenOptions::new().create(true).append(true).open(&path);
                    self.files.insert(
                        stream.clone(),
                        file.with_context(|| format!("cannot open {}", path.display()))?,
                    );
                }
                let file = self.files.get_mut(&stream).expect("opened above");
                file.write_all(text.as_bytes())
                    .with_context(|| format!("cannot write the list of {stream}"))?;
            }
            *self.lines.entry(stream).or_default() += count;
        }
        Ok(())
    }
}

fn file_name(stream: &str) -> String {
    format!("{stream}.ndjson")
}

/// The grammar of stream names; it also keeps a name inside the folder.
fn is_stream_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn locked(ledger: &Mutex<Ledger>) -> std::sync::MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, ledger: Arc<Mutex<Ledger>>, pace: Option<NonZeroUsize>) {
    // Connections end with the server, so that a collector that was dropped confirms nothing any more.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, Arc::clone(&ledger), pace));
                }
                // Out of file descriptors, say: those who wait try again.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// One connection. A client that sends nonsense is told so in one line and left.
async fn converse(stream: TcpStream, ledger: Arc<Mutex<Ledger>>, pace: Option<NonZeroUsize>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    let mut confirmed: u64 = 0;
    let mut batch = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line).await {
            Ok(0) | Err(_) => return,
            // A line cut off by a lost connection was never whole, so it is not confirmed.
            Ok(_) if !line.ends_with('\n') => return,
            Ok(_) => batch.push(line.trim_end().to_owned()),
        }
        if reader.buffer().contains(&b'\n') {
            continue; // one answer for everything that has arrived
        }
        for part in batch.chunks(pace.map_or(batch.len(), NonZeroUsize::get)) {
            let written = locked(&ledger).write_down(part);
            let answer = match &written {
                Ok(()) => {
                    confirmed += part.len() as u64;
                    format!("{confirmed}\n")
                }
                Err(error) => format!("error: {error:#}\n"),
            };
            if writer.write_all(answer.as_bytes()).await.is_err() || written.is_err() {
                return;
            }
            if pace.is_some() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        batch.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stream: &str, sequence: u64) -> String {
        let acknowledgement = Acknowledgement {
            stream: stream.into(),
            sequence,
            producer_seq: sequence,
            sha256: "00".into(),
        };
        to_lines([&acknowledgement])
    }

    async fn send(collector: &Collector, text: &str) -> String {
        let mut connection = TcpStream::connect(collector.address()).await.unwrap();
        connection.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        BufReader::new(connection)
            .read_line(&mut answer)
            .await
            .unwrap();
        answer
    }

    async fn files(folder: &Path) -> Collector {
        Collector::start(([127, 0, 0, 1], 0).into(), Keep::Files(folder.into()))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn what_is_confirmed_lies_in_the_list_of_its_stream() {
        let folder = tempfile::tempdir().unwrap();
        let collector = files(folder.path()).await;
        let batch = line("a", 0) + &line("a", 1) + &line("b", 0);
        assert_eq!(send(&collector, &batch).await, "3\n");
        assert_eq!(collector.acknowledgements("a").unwrap().len(), 2);
        assert_eq!(collector.acknowledgements("b").unwrap().len(), 1);
        assert_eq!(collector.total(), 3);
    }

    #[tokio::test]
    async fn lines_sent_again_after_a_reconnect_are_one_acknowledgement() {
        let folder = tempfile::tempdir().unwrap();
        let collector = files(folder.path()).await;
        send(&collector, &line("a", 0)).await;
        assert_eq!(
            send(&collector, &(line("a", 0) + &line("a", 1))).await,
            "2\n"
        );
        assert_eq!(collector.acknowledgements("a").unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_list_survives_its_collector() {
        let folder = tempfile::tempdir().unwrap();
        let first = files(folder.path()).await;
        send(&first, &line("a", 0)).await;
        drop(first);
        let second = files(folder.path()).await;
        send(&second, &line("a", 1)).await;
        assert_eq!(second.acknowledgements("a").unwrap().len(), 2);
    }

    #[tokio::test]
    async fn nonsense_is_refused_and_nothing_of_its_batch_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let collector = files(folder.path()).await;
        let answer = send(
            &collector,
            &(line("a", 0)
                + "{\"stream\":\"../a\",\"sequence\":1,\"producer_seq\":1,\"sha256\":\"\"}\n"),
        )
        .await;
        assert!(
            answer.starts_with("error: `../a` is not the name of a stream"),
            "{answer}"
        );
        assert_eq!(collector.total(), 0);
    }
}
