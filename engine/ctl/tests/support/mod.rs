//! A real engine on a directory of its own, and the tools run against it.
#![allow(dead_code)] // each test binary uses its own part

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const DEADLINE: Duration = Duration::from_secs(60);

/// Polls until there is a value.
pub fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "{what} did not come about within {DEADLINE:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a tool printed, and its exit code.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Standard output of a run that succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).expect("JSON")
    }
}

pub fn run(program: &str, arguments: &[&str], input: &str) -> Ran {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    // A tool that refuses early does not read its input.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().expect("the tool ends");
    writer.join().expect("the input's thread ends");
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

pub const ADMIN: &str = env!("CARGO_BIN_EXE_aof2-admin");
pub const INSPECT: &str = env!("CARGO_BIN_EXE_manifest-inspect");
pub const TIER1: &str = env!("CARGO_BIN_EXE_tier1-cache-util");

/// The engine's program lies beside the tools; building the workspace builds both.
fn engine_program() -> PathBuf {
    let program = Path::new(ADMIN).with_file_name("aof2-engine");
    assert!(
        program.exists(),
        "{} is missing: cargo build -p aof2-node",
        program.display()
    );
    program
}

pub struct Engine {
    directory: PathBuf,
    child: Option<Child>,
    has_tier2: bool,
    /// Further arguments.
    more: Vec<String>,
}

impl Engine {
    /// Serves `<directory>/data`.
    pub fn start(directory: &Path) -> Self {
        Self::start_as(directory, false)
    }

    /// With Tier 2 in `<directory>/tier2`.
    pub fn start_with_tier2(directory: &Path) -> Self {
        Self::start_as(directory, true)
    }

    /// With a configuration file, which may name a bucket.
    pub fn start_with_config(directory: &Path, config: &Path) -> Self {
        let config = config.display().to_string();
        Self::start_with(directory, false, vec!["--config".to_owned(), config])
    }

    fn start_as(directory: &Path, has_tier2: bool) -> Self {
        Self::start_with(directory, has_tier2, Vec::new())
    }

    fn start_with(directory: &Path, has_tier2: bool, more: Vec<String>) -> Self {
        let mut engine = Self {
            directory: directory.to_owned(),
            child: None,
            has_tier2,
            more,
        };
        engine.restart();
        engine
    }

    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    pub fn restart(&mut self) {
        self.kill();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("engine.log"))
            .expect("a log file");
        let tier2 = match self.has_tier2 {
            true => vec!["--tier2-directory".to_owned(), self.path("tier2")],
            false => Vec::new(),
        };
        let child = Command::new(engine_program())
            .args([
                "run",
                "--data-dir",
                &self.path("data"),
                "--data-socket",
                &self.path("data.sock"),
            ])
            .args([
                "--admin-socket",
                &self.path("admin.sock"),
                "--http-address",
                "127.0.0.1:0",
            ])
            .args(tier2.iter())
            .args(self.more.iter())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the engine starts");
        self.child = Some(child);
        wait_for("a ready engine", || {
            let exited = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().expect("its state"));
            if let Some(status) = exited {
                let log = std::fs::read_to_string(self.path("engine.log")).unwrap_or_default();
                panic!("the engine ended with {status}: {log}");
            }
            let dump = self.admin(&["dump", "--json"], "");
            let is_ready = dump.code == 0 && dump.stdout.contains("\"ready\": true");
            (is_ready && Path::new(&self.path("data.sock")).exists()).then_some(())
        });
    }

    /// Waits until it ended by itself, with 0.
    pub fn ended(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let status = wait_for("its end", || child.try_wait().expect("its state"));
        assert_eq!(status.code(), Some(0));
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
    }

    pub fn admin(&self, arguments: &[&str], input: &str) -> Ran {
        run(
            ADMIN,
            &self
                .with_sockets(arguments)
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
            input,
        )
    }

    pub fn with_sockets(&self, arguments: &[&str]) -> Vec<String> {
        let sockets = [
            "--socket",
            &self.path("data.sock"),
            "--admin-socket",
            &self.path("admin.sock"),
        ]
        .map(str::to_owned);
        arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .chain(sockets)
            .collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Writes down acknowledgements and confirms them.
pub struct Collector {
    pub address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Collector {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let collector = Self {
            address: listener.local_addr().expect("its address"),
            lines: Arc::new(Mutex::new(Vec::new())),
        };
        let lines = collector.lines.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (mut writer, lines) = (connection.expect("a connection"), lines.clone());
                let reader = BufReader::new(writer.try_clone().expect("a second handle"));
                std::thread::spawn(move || {
                    for (count, line) in (1..).zip(reader.lines()) {
                        let Ok(line) = line else { return };
                        lines.lock().expect("no panic").push(line);
                        if writer.write_all(format!("{count}\n").as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        collector
    }

    pub fn count(&self) -> usize {
        self.lines.lock().expect("no panic").len()
    }

    pub fn list(&self) -> String {
        self.lines
            .lock()
            .expect("no panic")
            .iter()
            .map(|line| line.clone() + "\n")
            .collect()
    }
}
