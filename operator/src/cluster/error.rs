//! How a look at a cluster fails.

use aof2_crds::Quantity;

use crate::{
    kube::{CallError, Remedy},
    pki::PkiError,
};

/// An action of the plan that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("claim {claim} cannot grow to {size} ({})", source.describe())]
    Expand {
        claim: String,
        size: Quantity,
        source: Box<CallError>,
    },
    #[error("engine of {pod} rejected {verb}: {message}")]
    Engine {
        verb: &'static str,
        pod: String,
        message: String,
    },
}

impl ActionError {
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Call(error) => error.remedy(),
            Self::Expand { source, .. } => source.remedy(),
            Self::Pki(_) | Self::Engine { .. } => Remedy::Retry,
        }
    }

    /// What a person does, where [`Remedy::Fix`] says that one has to.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::Expand { .. } => "Set allowVolumeExpansion in its storage class",
            Self::Call(_) | Self::Pki(_) | Self::Engine { .. } => {
                "Correct the spec, or the rights of the operator"
            }
        }
    }

    /// Somebody else wrote first: no failure, the next look sees it.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Call(error) => error.is_conflict() || matches!(error, CallError::Replaced { .. }),
            Self::Expand { source, .. } => source.is_conflict(),
            Self::Pki(_) | Self::Engine { .. } => false,
        }
    }

    pub fn describe(&self) -> String {
        match self {
            Self::Call(error) => error.describe(),
            Self::Pki(_) | Self::Expand { .. } | Self::Engine { .. } => self.to_string(),
        }
    }
}

/// Ends a reconcile.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error("observe")]
    Observe(#[source] CallError),
    #[error("ask")]
    Ask(#[source] CallError),
    #[error("record")]
    Record(#[source] CallError),
    /// What of the cluster cannot be read, and without which nothing may happen to its pods.
    #[error("observe: {0}")]
    Blind(String),
}

impl ReconcileError {
    /// With its causes, in one line.
    pub fn describe(&self) -> String {
        match self {
            Self::Observe(error) | Self::Ask(error) | Self::Record(error) => {
                format!("{self}: {}", error.describe())
            }
            Self::Blind(_) => self.to_string(),
        }
    }
}
