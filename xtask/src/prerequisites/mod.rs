//! What the machine must have before a cluster can come up: packages of the distribution and programs built from Go modules.
//! Everything here is a no-op of milliseconds the second time.

mod debian;
mod go;

use anyhow::{Result, bail};

pub use go::Program;

/// What a run is going to need.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A cluster made by us on this machine: everything.
    LocalCluster,
    /// A cluster that exists: only the clients.
    Clients,
    /// No cluster: what tests of single crates start.
    Tests,
}

/// What is missing and cannot be installed by `ensure`, one message each. Takes no time.
pub fn missing(need: Need) -> Vec<String> {
    let go = go::check();
    let packages = match need {
        Need::LocalCluster => debian::check(),
        Need::Clients | Need::Tests => Ok(()),
    };
    let failed = [go, packages].into_iter().filter_map(Result::err);
    failed.map(|error| format!("{error:#}")).collect()
}

/// `Err`: all of them at once, so that nobody mends one to meet the next.
pub fn none(missing: &[String]) -> Result<()> {
    match missing {
        [] => Ok(()),
        [one] => bail!("{one}"),
        several => bail!(
            "this machine lacks {} things:\n- {}",
            several.len(),
            several.join("\n- ")
        ),
    }
}

/// Whether Kubernetes and the other Go programs are compiled, perhaps from sources of before.
pub fn are_built() -> bool {
    go::are_built(&Program::ALL)
}

pub use debian::ensure_cross;

pub fn ensure(need: Need) -> Result<()> {
    match need {
        Need::LocalCluster => {
            debian::ensure()?;
            go::ensure(&Program::ALL)
        }
        Need::Clients => go::ensure(&Program::CLIENTS),
        Need::Tests => {
            debian::ensure_file_systems()?;
            go::ensure(&Program::SERVERS)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        assert!(none(&[]).is_ok());
        let one = none(&["Go is missing".to_owned()]).unwrap_err();
        assert_eq!(one.to_string(), "Go is missing");
        let two = none(&["no root".to_owned(), "Go is missing".to_owned()]).unwrap_err();
        assert_eq!(
            two.to_string(),
            "this machine lacks 2 things:\n- no root\n- Go is missing"
        );
    }
}
