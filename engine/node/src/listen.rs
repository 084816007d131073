//! Opening the listeners.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, UnixStream};

/// Why a listener could not be opened. All of them are errors of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("another process serves socket {}; stop it or set another path", path.display())]
    SocketInUse { path: PathBuf },
    #[error("{} exists and is not a socket; move it away", path.display())]
    NotASocket { path: PathBuf },
    #[error("cannot {verb} socket {}: {source}", path.display())]
    Socket {
        verb: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot listen on {address}: {source}")]
    Address {
        address: SocketAddr,
        source: io::Error,
    },
}

/// A Unix socket of the given mode. A socket that a dead process left behind is removed; one that answers is not.
pub async fn unix(path: &Path, mode: u32) -> Result<UnixListener, ListenError> {
    let failed = |verb, source| ListenError::Socket {
        verb,
        path: path.to_path_buf(),
        source,
    };
    if let Some(parent) = path.parent() {
        make_directories(parent, mode).map_err(|error| failed("create the directory of", error))?;
    }
    remove_stale(path).await?;
    let listener = UnixListener::bind(path).map_err(|error| failed("bind", error))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|error| failed("set the mode of", error))?;
    Ok(listener)
}

/// Whoever may write to the socket may reach it, whatever the umask is. Directories that are there stay as they are.
fn make_directories(parent: &Path, mode: u32) -> io::Result<()> {
    let missing: Vec<&Path> = parent
        .ancestors()
        .take_while(|it| !it.as_os_str().is_empty() && !it.exists())
        .collect();
    std::fs::create_dir_all(parent)?;
    let group = if mode & 0o060 == 0 { 0 } else { 0o050 };
    for made in missing {
        std::fs::set_permissions(made, std::fs::Permissions::from_mode(0o700 | group))?;
    }
    Ok(())
}

async fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let failed = |verb, source| ListenError::Socket {
        verb,
        path: path.to_path_buf(),
        source,
    };
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", error)),
    };
    if !found.file_type().is_socket() {
        return Err(ListenError::NotASocket {
            path: path.to_path_buf(),
        });
    }
    if UnixStream::connect(path).await.is_ok() {
        return Err(ListenError::SocketInUse {
            path: path.to_path_buf(),
        });
    }
    std::fs::remove_file(path).map_err(|error| failed("remove the stale", error))
}

pub async fn tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    aof2_listen::bind(address)
        .await
        .map_err(|source| ListenError::Address { address, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_a_live_one_and_a_file_are_not() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("sub/data.sock");
        let first = unix(&path, 0o660).await.expect("fresh");
        let mode = std::fs::metadata(&path)
            .expect("socket")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o660);
        let folder = std::fs::metadata(directory.path().join("sub")).expect("its directory");
        assert_eq!(folder.permissions().mode() & 0o777, 0o750);
        let error = unix(&path, 0o660).await.expect_err("live");
        assert!(
            error
                .to_string()
                .ends_with("data.sock; stop it or set another path"),
            "{error}"
        );
        drop(first);
        unix(&path, 0o660).await.expect("stale");

        let file = directory.path().join("file");
        std::fs::write(&file, "precious").expect("file");
        let error = unix(&file, 0o660).await.expect_err("a file");
        assert!(
            error.to_string().ends_with("is not a socket; move it away"),
            "{error}"
        );
        assert_eq!(
            std::fs::read_to_string(&file).expect("still there"),
            "precious"
        );
    }
}
