//! The drain in the words of the admin API.

use std::sync::Arc;

use aof2_admin_api::DrainReason as ApiReason;
use aof2_admin_api::{DrainPhase as ApiPhase, DrainStatus as ApiStatus, LaggingStream};
use aof2_core::drain::{DrainPhase, DrainReason, DrainRequest, DrainStatus, Lagging, NotDamaged};

use super::DataPlane;

impl DataPlane {
    /// Begins one, or answers the one that runs. Blocking, as the others: it takes the lock of every stream.
    pub fn begin_drain(&self, request: DrainRequest) -> ApiStatus {
        to_api(self.tiers.drain().begin(request))
    }

    /// Damaged streams that the drain does not wait for.
    pub fn leave_out(&self, streams: Vec<Arc<str>>) -> Result<(), NotDamaged> {
        self.tiers.drain().leave_out(streams)
    }

    pub fn drain_status(&self) -> ApiStatus {
        to_api(self.tiers.drain().status())
    }

    /// Admits again and forgets the token.
    pub fn resume(&self) -> ApiStatus {
        to_api(self.tiers.drain().resume())
    }
}

fn to_api(status: DrainStatus) -> ApiStatus {
    let DrainStatus {
        phase,
        token,
        expires_at_unix_nanos,
        lagging,
        lagging_total,
        reason,
        message,
    } = status;
    ApiStatus {
        phase: match phase {
            DrainPhase::Open => ApiPhase::Open,
            DrainPhase::Uploading => ApiPhase::Uploading,
            DrainPhase::Closing => ApiPhase::Closing,
            DrainPhase::Drained => ApiPhase::Drained,
        },
        token,
        // A time that no calendar holds is no time: the reader holds.
        expires_at: expires_at_unix_nanos
            .and_then(|nanos| jiff::Timestamp::from_nanosecond(i128::from(nanos)).ok())
            .map(|expiry| expiry.to_string()),
        lagging: lagging.into_iter().map(lagging_stream).collect(),
        lagging_total,
        reason: reason.map(|reason| match reason {
            DrainReason::UploadTimeout => ApiReason::UploadTimeout,
            DrainReason::DrainTimeout => ApiReason::DrainTimeout,
            DrainReason::TokenExpired => ApiReason::TokenExpired,
            DrainReason::Resumed => ApiReason::Resumed,
            DrainReason::Tier2Unreachable => ApiReason::Tier2Unreachable,
            DrainReason::Tier2Refused => ApiReason::Tier2Refused,
            DrainReason::DiskFull => ApiReason::DiskFull,
            DrainReason::Damaged => ApiReason::Damaged,
        }),
        message,
    }
}

fn lagging_stream(lagging: Lagging) -> LaggingStream {
    let Lagging {
        stream,
        acked,
        sealed_uploaded,
    } = lagging;
    LaggingStream {
        stream: stream.to_string(),
        acked,
        sealed_uploaded,
    }
}
