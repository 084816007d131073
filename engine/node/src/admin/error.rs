//! How the admin API says no: a status and one JSON body with a stable reason.

use aof2_admin_api::{ErrorBody, ErrorReason};
use aof2_core::deletion::{CopyError, IndexDeleteError, SnapshotDeleteError};
use aof2_core::drain::NotDamaged;
use aof2_core::{CutError, ReadError, StoreError, TrimError};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::data_plane::DataPlane;
use crate::node::{Node, Phase};

/// Goes with a refusal, for the audit.
#[derive(Clone, Debug)]
pub struct Refused {
    pub reason: ErrorReason,
    pub message: String,
}

#[derive(Debug)]
pub struct ApiError(ErrorBody);

impl ApiError {
    pub fn new(reason: ErrorReason, message: impl Into<String>) -> Self {
        ApiError(ErrorBody {
            reason,
            message: message.into(),
        })
    }

    pub fn internal(message: String) -> Self {
        ApiError::new(ErrorReason::Internal, message)
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        ApiError::new(ErrorReason::BadRequest, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = match &self.0.reason {
            ErrorReason::BadRequest => StatusCode::BAD_REQUEST,
            ErrorReason::NotFound | ErrorReason::UnknownSnapshot => StatusCode::NOT_FOUND,
            ErrorReason::StaleOperatorEpoch | ErrorReason::Draining | ErrorReason::Conflict => {
                StatusCode::CONFLICT
            }
            ErrorReason::NotServing | ErrorReason::Tier2Unreachable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ErrorReason::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
            ErrorReason::Internal | ErrorReason::Unknown(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let why = Refused {
            reason: self.0.reason.clone(),
            message: self.0.message.clone(),
        };
        let mut response = (status, Json(self.0)).into_response();
        response.extensions_mut().insert(why);
        response
    }
}

impl From<NotDamaged> for ApiError {
    fn from(error: NotDamaged) -> Self {
        ApiError::new(ErrorReason::Conflict, error.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let reason = match &error {
            StoreError::UnknownStream { .. } | StoreError::UnknownSegment { .. } => {
                ErrorReason::NotFound
            }
            StoreError::DiskFull { .. } => ErrorReason::DiskFull,
            StoreError::OutOf { .. } | StoreError::Closed => ErrorReason::NotServing,
            StoreError::Poisoned { .. } | StoreError::Damaged { .. } => ErrorReason::Internal,
        };
        ApiError::new(reason, error.to_string())
    }
}

impl From<CutError> for ApiError {
    fn from(error: CutError) -> Self {
        let message = error.to_string();
        match error {
            CutError::Store(error) => error.into(),
            CutError::NotDamaged { .. }
            | CutError::NotAtItsEnd { .. }
            | CutError::OtherSequence { .. } => ApiError::new(ErrorReason::Conflict, message),
        }
    }
}

impl From<TrimError> for ApiError {
    fn from(error: TrimError) -> Self {
        let message = error.to_string();
        match error {
            TrimError::Store(error) => error.into(),
            TrimError::NotServed(error) => error.into(),
            TrimError::NotSealed { .. } | TrimError::BeyondEnd { .. } => {
                ApiError::new(ErrorReason::Conflict, message)
            }
        }
    }
}

impl From<CopyError> for ApiError {
    fn from(error: CopyError) -> Self {
        let message = error.to_string();
        match error {
            CopyError::Store(error) => error.into(),
            CopyError::NoCopy { .. } => ApiError::new(ErrorReason::NotFound, message),
            CopyError::Needed { .. } | CopyError::NotOwned { .. } => {
                ApiError::new(ErrorReason::Conflict, message)
            }
            CopyError::Failed { .. } => ApiError::new(ErrorReason::Tier2Unreachable, message),
        }
    }
}

impl From<SnapshotDeleteError> for ApiError {
    fn from(error: SnapshotDeleteError) -> Self {
        let message = error.to_string();
        let reason = match error {
            SnapshotDeleteError::Store(error) => return error.into(),
            SnapshotDeleteError::NoTier2 => ErrorReason::NotFound,
            SnapshotDeleteError::Unknown { .. } => ErrorReason::UnknownSnapshot,
            SnapshotDeleteError::BeingTaken { .. }
            | SnapshotDeleteError::BeingVerified { .. }
            | SnapshotDeleteError::BeingDeleted { .. }
            | SnapshotDeleteError::Needed { .. }
            | SnapshotDeleteError::Damaged { .. }
            | SnapshotDeleteError::NotOwned { .. }
            | SnapshotDeleteError::Foreign { .. } => ErrorReason::Conflict,
            SnapshotDeleteError::Failed { .. } => ErrorReason::Tier2Unreachable,
        };
        ApiError::new(reason, message)
    }
}

impl From<IndexDeleteError> for ApiError {
    fn from(error: IndexDeleteError) -> Self {
        match error {
            IndexDeleteError::Tier2(error) => error.into(),
            IndexDeleteError::Stays { message } => {
                ApiError::new(ErrorReason::Tier2Unreachable, message)
            }
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        let reason = match &error {
            ReadError::UnknownStream { .. } => ErrorReason::NotFound,
            ReadError::Trimmed { .. } => ErrorReason::BadRequest,
            ReadError::NotResident { .. }
            | ReadError::WouldBlock { .. }
            | ReadError::Unavailable { .. }
            | ReadError::Closed => ErrorReason::NotServing,
            ReadError::Damaged { .. }
            | ReadError::Disk { .. }
            | ReadError::Superseded { .. }
            | ReadError::VolumeRefused { .. } => ErrorReason::Internal,
        };
        ApiError::new(reason, error.to_string())
    }
}

/// The engine, or why there is none.
pub fn serving(node: &Node) -> Result<DataPlane, ApiError> {
    let why = match &*node.phase() {
        Phase::Serving(plane) => return Ok(plane.clone()),
        Phase::Recovering(progress) => {
            format!(
                "engine is recovering, {:.0} % of the bytes replayed; retry",
                progress.fraction() * 100.0
            )
        }
        Phase::Refused(refusal) => format!("{}: {}", refusal.reason, refusal.message),
        Phase::Closed => "engine is shutting down; retry when it is back".to_string(),
    };
    Err(ApiError::new(ErrorReason::NotServing, why))
}

/// Runs a verb that blocks.
pub async fn blocking<T: Send + 'static, E: Into<ApiError> + Send + 'static>(
    verb: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(verb).await {
        Ok(done) => done.map_err(Into::into),
        Err(panicked) => Err(ApiError::new(ErrorReason::Internal, panicked.to_string())),
    }
}
