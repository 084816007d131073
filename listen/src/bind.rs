//! An address to listen at, on machines with either family of addresses or both.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use tokio::net::TcpListener;

/// `[::]` takes connections of both families, and those of IPv4 alone where the machine has no IPv6: a pod is reached whichever its cluster
/// has.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    bind_with(address, TcpListener::bind).await
}

async fn bind_with<T>(
    address: SocketAddr,
    bind: impl AsyncFn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    match bind(address).await {
        Err(error)
            if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && is_without_ipv6(&error) =>
        {
            bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()))).await
        }
        result => result,
    }
}

/// As the kernel says it when IPv6 is not compiled in or not loaded, and when it is switched off.
fn is_without_ipv6(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno == Some(Errno::AFNOSUPPORT) || errno == Some(Errno::ADDRNOTAVAIL)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn both_families_are_served_from_one_address() {
        let listener = bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))
            .await
            .expect("bound");
        let port = listener.local_addr().expect("its address").port();
        for host in [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ] {
            match tokio::net::TcpStream::connect((host, port)).await {
                Ok(_) => {}
                // This machine has no IPv6: what is tested is the rest.
                Err(error) if host.is_ipv6() && is_without_ipv6(&error) => {}
                Err(error) => panic!("{host}: {error}"),
            }
        }
    }

    #[tokio::test]
    async fn a_machine_without_ipv6_serves_ipv4_and_other_failures_are_told() {
        for (errno, falls_back) in [
            (Errno::AFNOSUPPORT, true),
            (Errno::ADDRNOTAVAIL, true),
            (Errno::ADDRINUSE, false),
        ] {
            let tried = Mutex::new(Vec::new());
            let bound = bind_with("[::]:7422".parse().expect("an address"), async |address| {
                tried.lock().expect("no panic").push(address.to_string());
                match address {
                    SocketAddr::V4(_) => Ok(()),
                    SocketAddr::V6(_) => Err(io::Error::from(errno)),
                }
            })
            .await;
            assert_eq!(bound.is_ok(), falls_back, "{errno}");
            let tried = tried.into_inner().expect("no panic");
            let expected: &[&str] = if falls_back {
                &["[::]:7422", "0.0.0.0:7422"]
            } else {
                &["[::]:7422"]
            };
            assert_eq!(tried, expected);
        }
        let one = "[::1]:7422".parse().expect("an address");
        let failed = bind_with(one, async |_| {
            Err::<(), _>(io::Error::from(Errno::ADDRNOTAVAIL))
        })
        .await;
        assert!(failed.is_err(), "an address that was named is that address");
    }
}
