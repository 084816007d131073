//! Clients of the API server.
//!
//! kube's own client repeats every request that met 429, 503 or 504 by itself, for minutes and behind the caller's back. Ours never
//! does: a reconcile that failed is looked at again with a growing pause, and a lease that could not be renewed must be known at once.

use std::time::Duration;

use kube::{Client, Config};

/// Bound on one request; a watch has its own.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// In the cluster by its service account, elsewhere by `KUBECONFIG`.
pub async fn config() -> Result<Config, kube::Error> {
    let mut config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(config)
}

/// Each call makes its own connection pool: the lease must not queue behind reconciles.
pub fn connect(config: &Config) -> Result<Client, kube::Error> {
    Client::try_from(config.clone())
}
