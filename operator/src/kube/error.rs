//! How calls to the API server fail.

use std::time::Duration;

/// What the API server said when it refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: u16,
    pub reason: String,
    pub message: String,
}

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("the API server did not answer within {} s ({verb} {object})", limit.as_secs())]
    Timeout {
        verb: &'static str,
        object: String,
        limit: Duration,
    },
    #[error("the API server rejected {verb} {object}: {}", refusal.message)]
    Refused {
        verb: &'static str,
        object: String,
        refusal: Refusal,
    },
    #[error("{verb} {object} failed")]
    Transport {
        verb: &'static str,
        object: String,
        source: Box<::kube::Error>,
    },
    #[error(
        "{object} exists and does not belong to this cluster. Rename or delete it, or rename the cluster"
    )]
    Foreign { object: String },
    #[error(
        "{object} is being deleted. The operator recreates it after the deletion completes. Remove its finalizers if it stays"
    )]
    Going { object: String },
    #[error(
        "{object} changed during the reconcile (uid or resourceVersion). The operator reconciles again"
    )]
    Replaced { object: String },
}

/// What to do about a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// It may work at the next look.
    Retry,
    /// A person has to change something.
    Fix,
}

impl CallError {
    pub(super) fn from_kube(verb: &'static str, object: String, error: ::kube::Error) -> Self {
        match error {
            ::kube::Error::Api(status) => {
                let refusal = Refusal {
                    code: status.code,
                    reason: status.reason.clone(),
                    message: status.message.clone(),
                };
                Self::Refused {
                    verb,
                    object,
                    refusal,
                }
            }
            error => Self::Transport {
                verb,
                object,
                source: Box::new(error),
            },
        }
    }

    /// The HTTP status, where the API server answered.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.code),
            Self::Timeout { .. }
            | Self::Transport { .. }
            | Self::Foreign { .. }
            | Self::Going { .. }
            | Self::Replaced { .. } => None,
        }
    }

    /// Somebody else wrote first; the next look sees it.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Refused { refusal, .. } => match refusal.code {
                400 | 403 | 422 => Remedy::Fix,
                _ => Remedy::Retry,
            },
            Self::Foreign { .. } => Remedy::Fix,
            Self::Timeout { .. }
            | Self::Transport { .. }
            | Self::Going { .. }
            | Self::Replaced { .. } => Remedy::Retry,
        }
    }

    /// With its causes, in one line.
    pub fn describe(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(current) = cause {
            text.push_str(": ");
            text.push_str(&current.to_string());
            cause = current.source();
        }
        text
    }
}
