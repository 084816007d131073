//! Who is at the other end, as far as a limit needs to know.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use tokio::net::UnixStream;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    Address(IpAddr),
    /// At the other end of a Unix socket. The process is 0 where it lives in another PID namespace, as containers of a pod do.
    Process {
        user: u32,
        process: i32,
    },
    /// This process itself: it asks its own sockets whether they answer, and no other client may keep it from that.
    Ourselves,
}

impl Peer {
    /// It came through a Unix socket.
    pub fn is_local(self) -> bool {
        !matches!(self, Peer::Address(_))
    }

    pub fn of_address(address: SocketAddr) -> Peer {
        // The same host, whichever way it came.
        Peer::Address(address.ip().to_canonical())
    }

    pub fn of_unix(stream: &UnixStream) -> Peer {
        let Ok(credentials) = stream.peer_cred() else {
            // Gone already.
            return Peer::Process {
                user: u32::MAX,
                process: 0,
            };
        };
        let process = credentials.pid().unwrap_or(0);
        if u32::try_from(process) == Ok(std::process::id()) {
            return Peer::Ourselves;
        }
        Peer::Process {
            user: credentials.uid(),
            process,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Address(address) => write!(formatter, "{address}"),
            Peer::Process { user, process: 0 } => write!(formatter, "uid {user}"),
            Peer::Process { user, process } => write!(formatter, "uid {user}, pid {process}"),
            Peer::Ourselves => write!(formatter, "the engine itself"),
        }
    }
}
