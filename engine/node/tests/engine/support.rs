//! An engine process on a temporary directory, and clients of its listeners.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use aof2_admin_api::client::Client;
use aof2_node::proto::append_response::Outcome;
use aof2_node::proto::log_client::LogClient;
use aof2_node::proto::{
    AppendRequest, AppendResponse, Appended, Durability, MAX_MESSAGE_BYTES, Record, Refused,
};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio_stream::StreamExt;
use tonic::transport::{Channel, Endpoint, Uri};

/// Generous: the machine may be busy; nothing waits for it when all is well.
pub const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A small journal, so that a start takes milliseconds.
pub const SMALL: &str = "
[journal]
file_bytes = 4194304
files = 3
[checkpoint]
journal_bytes = 4194304
[segment]
target_bytes = 1048576
";

/// Where one engine lives; outlives its processes.
pub struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    pub fn new() -> Self {
        let home = Home {
            directory: tempfile::tempdir().expect("a temporary directory"),
        };
        home.write_config(SMALL);
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn config_file(&self) -> PathBuf {
        self.path("aof2.toml")
    }

    /// As Kubernetes does it: a new file takes the place of the old one.
    pub fn write_config(&self, text: &str) {
        let fresh = self.path("aof2.toml.new");
        std::fs::write(&fresh, text).expect("a configuration file");
        std::fs::rename(&fresh, self.config_file()).expect("a configuration file");
    }

    pub async fn start(&self) -> Engine {
        self.start_with(&[]).await
    }

    /// Starts and waits until it is ready.
    pub async fn start_with(&self, arguments: &[&str]) -> Engine {
        let engine = self.launch(arguments).await;
        engine.wait_ready().await;
        engine
    }

    /// The same under a shell's umask.
    pub async fn start_with_umask(&self, umask: u32) -> Engine {
        let (command, log) = self.command(&[], "engine.log");
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(format!("umask {umask:o}; exec \"$@\""))
            .arg("sh")
            .arg(command.as_std().get_program())
            .args(command.as_std().get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("a log file"))
            .kill_on_drop(true);
        let engine = self.spawned(shell, log).await;
        engine.wait_ready().await;
        engine
    }

    /// Starts and waits for the first listener only.
    pub async fn launch(&self, arguments: &[&str]) -> Engine {
        let (command, log) = self.command(arguments, "engine.log");
        self.spawned(command, log).await
    }

    async fn spawned(&self, mut command: Command, log: PathBuf) -> Engine {
        let mut child = command.spawn().expect("the engine starts");
        let deadline = Instant::now() + DEADLINE;
        let http = loop {
            if let Some(address) = listener(&log, "http") {
                break address;
            }
            if let Some(status) = child.try_wait().expect("the child's state") {
                panic!(
                    "the engine ended with {status} before it listened:\n{}",
                    read(&log)
                );
            }
            assert!(
                Instant::now() < deadline,
                "no listener within {DEADLINE:?}:\n{}",
                read(&log)
            );
            tokio::time::sleep(POLL).await;
        };
        Engine {
            child,
            http,
            data_socket: self.path("data.sock"),
            admin_socket: self.path("admin.sock"),
            log,
        }
    }

    /// Runs one that is expected to end by itself; answers its code and what it said.
    pub async fn run_to_end(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let (command, log) = self.command(arguments, "short.log");
        Self::end_of(command, log).await
    }

    /// The same for one that may have only so many threads, the first included. The limit does not hold for root: it runs as
    /// somebody else.
    pub async fn run_to_end_with_threads(&self, threads: u32) -> (Option<i32>, String) {
        let everybody = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(self.directory.path(), everybody).expect("permissions");
        // Where the build lies, others may not look.
        let engine = self.path("aof2-engine");
        std::fs::copy(env!("CARGO_BIN_EXE_aof2-engine"), &engine).expect("a copy");
        let (command, log) = self.command(&[], "short.log");
        let mut limited = Command::new("setpriv");
        limited
            .args(["--reuid", "54321", "--regid", "54321", "--clear-groups"])
            .args(["prlimit", &format!("--nproc={threads}:{threads}")])
            .arg(&engine)
            .args(command.as_std().get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("a log file"))
            .kill_on_drop(true);
        Self::end_of(limited, log).await
    }

    async fn end_of(mut command: Command, log: PathBuf) -> (Option<i32>, String) {
        let mut child = command.spawn().expect("the engine starts");
        let status = tokio::time::timeout(DEADLINE, child.wait())
            .await
            .expect("ends in time")
            .expect("ends");
        (status.code(), read(&log))
    }

    /// As an operator starts it: the file alone says where everything is.
    pub async fn launch_in_pod(&self) -> Engine {
        let (command, log) = self.command_in_pod("engine.log");
        let engine = self.spawned(command, log).await;
        engine.wait_ready().await;
        engine
    }

    /// The same for one that is expected to end by itself.
    pub async fn run_in_pod_to_end(&self) -> (Option<i32>, String) {
        let (command, log) = self.command_in_pod("short.log");
        Self::end_of(command, log).await
    }

    fn command_in_pod(&self, log: &str) -> (Command, PathBuf) {
        let log = self.path(log);
        let stderr = std::fs::File::create(&log).expect("a log file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_aof2-engine"));
        command
            .arg("run")
            .args(["--config-poll", "20ms"])
            .arg("--config")
            .arg(self.config_file())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .kill_on_drop(true);
        (command, log)
    }

    fn command(&self, arguments: &[&str], log: &str) -> (Command, PathBuf) {
        let log = self.path(log);
        let stderr = std::fs::File::create(&log).expect("a log file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_aof2-engine"));
        command
            .arg("run")
            .args(["--http-address", "127.0.0.1:0"])
            .arg("--config")
            .arg(self.config_file())
            .arg("--data-dir")
            .arg(self.path("data"))
            .arg("--data-socket")
            .arg(self.path("data.sock"))
            .arg("--admin-socket")
            .arg(self.path("admin.sock"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .kill_on_drop(true);
        (command, log)
    }
}

/// Address that the log says a listener has.
fn listener(log: &Path, name: &str) -> Option<SocketAddr> {
    read(log).lines().find_map(|line| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        (entry["message"] == "listening" && entry["listener"] == name)
            .then(|| entry["address"].as_str()?.parse().ok())?
    })
}

fn read(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}

pub struct Engine {
    child: Child,
    pub http: SocketAddr,
    pub data_socket: PathBuf,
    pub admin_socket: PathBuf,
    log: PathBuf,
}

impl Engine {
    pub fn admin(&self) -> Client {
        Client::unix(&self.admin_socket).with_timeout(DEADLINE)
    }

    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Lines that say who changed what.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let log = self.log();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .filter(|line: &serde_json::Value| line["target"] == "audit")
            .collect()
    }

    /// Lines of the log whose text begins like this. Each line of the log has one text.
    pub fn lines_about(&self, text: &str) -> Vec<serde_json::Value> {
        let log = self.log();
        let lines = log.lines().map(|line| {
            assert_eq!(line.matches("\"message\":").count(), 1, "{line}");
            serde_json::from_str(line).expect("a line is JSON")
        });
        lines
            .filter(|line: &serde_json::Value| {
                let message = line["message"].as_str();
                message.is_some_and(|message| message.starts_with(text))
            })
            .collect()
    }

    /// Of the mutual TLS listener.
    pub fn admin_address(&self) -> SocketAddr {
        listener(&self.log, "admin").expect("the admin listener is in the log")
    }

    pub async fn wait_ready(&self) {
        self.wait_for("ready", async || self.get("/readyz").await.0 == 200)
            .await;
    }

    /// Polls until it holds.
    pub async fn wait_for(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !holds().await {
            assert!(
                Instant::now() < deadline,
                "not {what} within {DEADLINE:?}:\n{}",
                self.log()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Status and body of a plain GET.
    pub async fn get(&self, path: &str) -> (u16, String) {
        match self.try_get(path).await {
            Ok(answer) => answer,
            Err(error) => panic!("GET {path}: {error}\n{}", self.log()),
        }
    }

    async fn try_get(&self, path: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.http).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: engine\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect("a status line");
        Ok((
            status,
            answer
                .split_once("\r\n\r\n")
                .map(|(_, body)| body.to_string())
                .unwrap_or_default(),
        ))
    }

    /// Memory of the process that is not a map of a file.
    pub fn anonymous_bytes(&self) -> usize {
        let id = self.child.id().expect("running");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("its status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes: usize = number
            .and_then(|it| it.trim().parse().ok())
            .expect("a number");
        kibibytes << 10
    }

    pub async fn data(&self) -> LogClient<Channel> {
        self.data_with_default_limits()
            .await
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(2 * MAX_MESSAGE_BYTES)
    }

    /// Takes messages of 4 MiB.
    pub async fn data_with_default_limits(&self) -> LogClient<Channel> {
        LogClient::new(self.channel().await)
    }

    pub async fn channel(&self) -> Channel {
        let socket = self.data_socket.clone();
        Endpoint::from_static("http://engine.invalid")
            .connect_with_connector(tower::service_fn(move |_: Uri| {
                let socket = socket.clone();
                async move { UnixStream::connect(socket).await.map(TokioIo::new) }
            }))
            .await
            .expect("the data socket")
    }

    /// Time on a processor since it started, in ticks of 10 ms.
    pub fn processor_ticks(&self) -> u64 {
        let id = self.child.id().expect("running");
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("its state");
        // Behind the name, which may hold spaces: state is the third field, user and system time are the 14th and 15th.
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let mut times = fields.split_whitespace().skip(11);
        let mut next = || -> u64 { times.next().expect("a time").parse().expect("ticks") };
        next() + next()
    }

    pub fn kill(&mut self) {
        self.child.start_kill().expect("SIGKILL");
    }

    /// SIGKILL, and gone.
    pub async fn kill_and_wait(mut self) {
        self.kill();
        let status = self.wait().await;
        assert_eq!(status.signal(), Some(9), "{}", self.log());
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("running"), signal).expect("a signal");
    }

    pub async fn wait(&mut self) -> ExitStatus {
        match tokio::time::timeout(DEADLINE, self.child.wait()).await {
            Ok(status) => status.expect("the child's end"),
            Err(_) => panic!(
                "the engine did not end within {DEADLINE:?}:\n{}",
                self.log()
            ),
        }
    }

    /// SIGTERM, and its exit code.
    pub async fn terminate(mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.wait().await.code()
    }
}

pub fn request(stream: &str, payload: impl Into<Bytes>) -> AppendRequest {
    AppendRequest {
        stream: stream.to_string(),
        payloads: vec![payload.into()],
        ..AppendRequest::default()
    }
}

pub fn buffered(request: AppendRequest) -> AppendRequest {
    AppendRequest {
        durability: Durability::Buffered.into(),
        ..request
    }
}

/// Sends all in one call, pipelined; answers in their order.
pub async fn append_all(
    client: &mut LogClient<Channel>,
    requests: Vec<AppendRequest>,
) -> Vec<AppendResponse> {
    let answers = client
        .append(tokio_stream::iter(requests))
        .await
        .expect("the call")
        .into_inner();
    answers
        .map(|answer| answer.expect("an answer"))
        .collect()
        .await
}

pub async fn append(
    client: &mut LogClient<Channel>,
    request: AppendRequest,
) -> Result<Appended, Refused> {
    let mut answers = append_all(client, vec![request]).await;
    assert_eq!(answers.len(), 1);
    outcome(answers.remove(0))
}

pub fn outcome(response: AppendResponse) -> Result<Appended, Refused> {
    match response.outcome.expect("an outcome") {
        Outcome::Appended(appended) => Ok(appended),
        Outcome::Refused(refused) => Err(refused),
    }
}

/// Every record of a stream.
pub async fn read_all(client: &mut LogClient<Channel>, stream: &str) -> Vec<Record> {
    let request = aof2_node::proto::ReadRequest {
        stream: stream.to_string(),
        ..aof2_node::proto::ReadRequest::default()
    };
    let mut batches = client.read(request).await.expect("the call").into_inner();
    let mut records = Vec::new();
    while let Some(batch) = batches.next().await {
        records.extend(batch.expect("a batch").records);
    }
    records
}

/// Deterministic, of the given size.
pub fn payload(index: u64, size: usize) -> Bytes {
    let mut text = String::with_capacity(size + 24);
    while text.len() < size {
        write!(text, "record {index} ").expect("a string grows");
    }
    text.truncate(size);
    Bytes::from(text)
}
