//! The S3 server of the tests, and an engine's configuration that names a bucket in it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::wait_for;

const ACCESS_KEY: &str = "aof2-test-access";
const SECRET_KEY: &str = "aof2-test-secret";

pub struct S3 {
    address: SocketAddr,
    folder: PathBuf,
    child: Child,
}

impl S3 {
    /// Below a folder of the test, with the bucket `aof2-test`.
    pub fn start(folder: &Path) -> S3 {
        std::fs::create_dir_all(folder.join("buckets/aof2-test")).expect("a bucket");
        let keys = folder.join("keys");
        std::fs::create_dir_all(&keys).expect("a folder");
        std::fs::write(keys.join("access_key_id"), ACCESS_KEY).expect("a key");
        std::fs::write(keys.join("secret_access_key"), SECRET_KEY).expect("a key");
        // Another process may take the port in between; then the next one is tried.
        for _ in 0..5 {
            let address = free_address();
            let mut child = Command::new(binary())
                .args([
                    "-q",
                    "--port",
                    &address.to_string(),
                    "posix",
                    "--disableotmp",
                ])
                .arg(folder.join("buckets"))
                .env("ROOT_ACCESS_KEY", ACCESS_KEY)
                .env("ROOT_SECRET_KEY", SECRET_KEY)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the server starts");
            let is_up = wait_for("the server", || {
                let limit = Duration::from_millis(200);
                match TcpStream::connect_timeout(&address, limit) {
                    Ok(_) => Some(true),
                    Err(_) => child.try_wait().expect("its state").map(|_| false),
                }
            });
            if is_up {
                return S3 {
                    address,
                    folder: folder.to_owned(),
                    child,
                };
            }
        }
        panic!("no port for the server");
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn credentials(&self) -> String {
        self.folder.join("keys").display().to_string()
    }

    /// A file of a stand-alone engine.
    pub fn config(&self) -> PathBuf {
        let path = self.folder.join("aof2.toml");
        let text = format!(
            "[tier2]\nendpoint = {:?}\nregion = \"us-east-1\"\nbucket = \"aof2-test\"\nprefix = \"p/\"\naddressing = \"Path\"\ncredentials_directory = {:?}\n",
            self.endpoint(),
            self.credentials()
        );
        std::fs::write(&path, text).expect("written");
        path
    }

    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_address() -> SocketAddr {
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
