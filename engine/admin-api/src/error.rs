//! How the admin API refuses: one JSON body with a stable reason.

use serde::{Deserialize, Serialize};

use crate::reason::ErrorReason;

/// Body of every answer outside 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub reason: ErrorReason,
    /// Names the object, the value that was wrong and what to do.
    pub message: String,
}
