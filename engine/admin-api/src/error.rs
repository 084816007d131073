//! How the admin API refuses: one JSON body with a stable reason.

use serde::{Deserialize, Serialize};

/// Body of every answer outside 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub reason: ErrorReason,
    /// Names the object, the value that was wrong and what to do.
    pub message: String,
}

/// Why a verb was refused. New reasons read as `Unknown` by an older reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorReason {
    /// 400: the request is malformed.
    BadRequest,
    /// 404: no such stream, segment or path.
    NotFound,
    /// 409: the request carries an operator epoch older than one seen before.
    StaleOperatorEpoch,
    /// 409: not while a drain runs, or while the process ends.
    Draining,
    /// 409: something else has that name, and it is not overwritten.
    Conflict,
    /// 503: the engine keeps up only this listener, since it refuses its data (see `Dump::refusal`), or still recovers.
    NotServing,
    /// 503: Tier 2 does not answer.
    Tier2Unreachable,
    /// 507: no space beyond the reserve.
    DiskFull,
    /// 500.
    Internal,
    #[serde(other)]
    Unknown,
}
