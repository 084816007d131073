//! Before a restart: seal and upload what there is, close admission, seal and upload the rest, and say so with a token.
//!
//! - `Uploading` still admits appends and ends when everything that was acknowledged at its begin is uploaded; bounded by the
//!   request's `upload_timeout`.
//! - `Closing` refuses appends (`Draining`, retryable) and ends when `acked <= sealed_uploaded` holds for every stream and nothing
//!   is unsealed; bounded by `drain_timeout`.
//! - `Drained` holds a token until it expires; then the engine reopens by itself, unless the process is terminating.
//! - A bound that is exceeded reopens, with the reason. Without Tier 2, sealed suffices.
//! - A drained engine that terminates never reopens; one that terminates without a token admits its application's last words.
//!
//! A stream that is damaged is named, and is not waited for where somebody named it (`Drain::leave_out`).
//!
//! A repeated request changes nothing while a drain runs, except that the newest `ttl` counts; in `Drained` it answers the same
//! token with its expiry renewed. Repeating is how a caller that lost the answer, or is slow, goes on.

mod driver;
mod machine;

pub use driver::{Drain, NotDamaged};
pub use machine::{DrainPhase, DrainReason, DrainRequest, DrainStatus, Lagging, MAX_LAGGING};
