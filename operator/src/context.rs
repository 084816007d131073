//! What every reconcile of the acting process shares.

use std::sync::Arc;

use crate::{
    engines::EngineClient,
    kube::{Door, scope::Scopes},
    pki::Authority,
    pod_policy::{Policy, Users},
    runtime::metrics::Metrics,
};

pub struct Context {
    /// The only way to write to the API server.
    pub door: Door,
    /// Reads, never writes.
    pub reader: kube::Client,
    /// Asked before anything is done in a namespace.
    pub scopes: Scopes,
    pub authority: Arc<Authority>,
    pub engines: EngineClient,
    pub metrics: Arc<Metrics>,
    pub settings: Settings,
}

/// What the command line says about every cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the operator runs.
    pub operator_namespace: String,
    pub image_repository: String,
    pub users: Users,
    /// Of the certificate authority.
    pub ca_secret: String,
    /// What pod templates may ask for.
    pub pod_policy: Policy,
    /// Of this leadership; goes with every verb to an engine.
    pub epoch: u64,
}

impl Settings {
    /// The name that the operator's client certificate carries and engines insist on.
    pub fn client_name(&self) -> String {
        format!("operator.{}.aof2.dev", self.operator_namespace)
    }
}
