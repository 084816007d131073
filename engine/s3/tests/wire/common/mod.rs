//! One versitygw per test binary, on a free loopback port, in a folder of its own; one bucket per test.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aof2_s3::{Addressing, Checksum, S3Settings, S3Store};

pub const ACCESS_KEY: &str = "aof2-test-access";
pub const SECRET_KEY: &str = "aof2-test-secret-that-no-message-may-show";
pub const REGION: &str = "us-east-1";

/// Starts the server and, when our end of the pipe closes, ends it and removes its folder, however this process ends: what lies
/// in a static is never dropped.
const GUARD: &str = r#"folder=$1; shift; "$@" & server=$!; read -r _; kill "$server"; wait "$server"; rm -rf "$folder""#;

pub struct Server {
    pub endpoint: String,
    /// Buckets are its folders.
    pub directory: PathBuf,
    credentials: PathBuf,
    guard: Child,
    _folder: tempfile::TempDir,
}

/// Started at the first call; ends with the test process.
pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

impl Server {
    pub fn start() -> Server {
        let binary = binary();
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path().join("buckets");
        std::fs::create_dir(&directory).expect("a folder");
        let credentials = folder.path().join("credentials");
        write_credentials(&credentials, ACCESS_KEY, SECRET_KEY);
        // Another process may take the port in between; then the next one is tried.
        for _ in 0..5 {
            let address = free_address();
            let mut guard = Command::new("sh")
                .args(["-c", GUARD, "guard"])
                .arg(folder.path())
                .arg(&binary)
                .args([
                    "-q",
                    "--port",
                    &address.to_string(),
                    "--keep-alive",
                    "posix",
                    "--disableotmp",
                ])
                .arg(&directory)
                .env("ROOT_ACCESS_KEY", ACCESS_KEY)
                .env("ROOT_SECRET_KEY", SECRET_KEY)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| panic!("cannot start {}: {error}", binary.display()));
            if answers(address) {
                let endpoint = format!("http://{address}");
                return Server {
                    endpoint,
                    directory,
                    credentials,
                    guard,
                    _folder: folder,
                };
            }
            // Nobody listens there: the guard ends the server when its standard input ends.
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
        panic!("{} does not answer on any port", binary.display());
    }

    pub fn settings(&self, bucket: &str) -> S3Settings {
        S3Settings {
            endpoint: Some(self.endpoint.clone()),
            region: REGION.into(),
            bucket: bucket.into(),
            addressing: Addressing::Path,
            credentials_directory: self.credentials.clone(),
            ca_file: None,
            checksum: Checksum::default(),
            request_timeout: Duration::from_secs(20),
        }
    }

    /// A bucket that no other test uses.
    pub fn new_bucket(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bucket-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        std::fs::create_dir(self.directory.join(&name)).expect("a bucket");
        name
    }

    pub fn store(&self) -> S3Store {
        S3Store::open(self.settings(&self.new_bucket())).expect("opens")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

pub fn write_credentials(directory: &Path, access_key: &str, secret_key: &str) {
    std::fs::create_dir_all(directory).expect("a folder");
    std::fs::write(directory.join("access_key_id"), access_key).expect("written");
    std::fs::write(directory.join("secret_access_key"), secret_key).expect("written");
}

/// An address where nobody listens.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}

fn binary() -> PathBuf {
    let named = std::env::var_os("AOF2_VERSITYGW").map(PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache =
        cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let binary = named
        .or_else(|| cache.map(|cache| cache.join("aof2/bin/versitygw")))
        .expect("HOME is set");
    assert!(
        binary.is_file(),
        "these tests need the S3 server versitygw at {}: run `cargo xtask test`, which builds it first, or name one in AOF2_VERSITYGW",
        binary.display()
    );
    binary
}

fn answers(address: SocketAddr) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
            return true;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    false
}
