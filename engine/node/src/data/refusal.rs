//! How the data API says no.

use aof2_core::{AppendError, ReadError, Remedy, StoreError, TrimError, WouldBlockKind};
use tonic::{Code, Status};

use crate::proto::{READ_ON_FROM, Reason, Refused};

pub fn of_append(error: &AppendError) -> Refused {
    let mut refused = Refused {
        message: error.to_string(),
        retryable: error.remedy() == Remedy::Retry,
        ..Refused::default()
    };
    let reason = match error {
        AppendError::InvalidStreamName { .. } => Reason::InvalidStreamName,
        AppendError::NotOwner {
            stream: _,
            owner,
            address,
        } => {
            refused.owner = owner.clone();
            refused.address = address.clone();
            Reason::NotOwner
        }
        AppendError::ClaimPending { .. } => Reason::ClaimPending,
        AppendError::RecordTooLarge { .. } => Reason::RecordTooLarge,
        AppendError::BatchTooLarge { .. } => Reason::BatchTooLarge,
        AppendError::TooManyRecords { .. } => Reason::TooManyRecords,
        AppendError::WouldBlock { kind, .. } => match kind {
            WouldBlockKind::Admission => Reason::WouldBlockAdmission,
            WouldBlockKind::Rollover => Reason::WouldBlockRollover,
            WouldBlockKind::Hydration => Reason::WouldBlockHydration,
            WouldBlockKind::Flush => Reason::WouldBlockFlush,
            WouldBlockKind::Tail => Reason::WouldBlockTail,
        },
        AppendError::Draining { .. } => Reason::Draining,
        AppendError::DiskFull { .. } => Reason::DiskFull,
        AppendError::SequenceGap { next, .. } => {
            refused.next_producer_seq = *next;
            Reason::SequenceGap
        }
        AppendError::AlreadyAppended { next, .. } => {
            refused.next_producer_seq = *next;
            Reason::AlreadyAppended
        }
        AppendError::ProducerForgotten { before, .. } => {
            refused.forgotten_before = *before;
            Reason::ProducerForgotten
        }
        AppendError::Damaged { .. } => Reason::Damaged,
        AppendError::Poisoned { .. } => Reason::Poisoned,
        AppendError::Superseded { .. } => Reason::Superseded,
        AppendError::VolumeRefused { .. } => Reason::VolumeRefused,
        AppendError::EmptyBatch { .. } => Reason::EmptyBatch,
    };
    refused.set_reason(reason);
    refused
}

pub fn of_read(error: &ReadError) -> Status {
    let code = match error {
        ReadError::UnknownStream { .. } => Code::NotFound,
        ReadError::Trimmed { .. } => Code::OutOfRange,
        ReadError::Damaged { .. } => Code::DataLoss,
        ReadError::WouldBlock { .. } => Code::ResourceExhausted,
        ReadError::NotResident { .. } | ReadError::Unavailable { .. } | ReadError::Closed => {
            Code::Unavailable
        }
        ReadError::Disk { .. } => Code::Internal,
        ReadError::Superseded { .. } | ReadError::VolumeRefused { .. } => Code::FailedPrecondition,
    };
    let cause = std::error::Error::source(error)
        .map(|source| format!(": {source}"))
        .unwrap_or_default();
    let mut status = Status::new(code, format!("{error}{cause}"));
    if let ReadError::Damaged {
        to_sequence: Some(to),
        ..
    }
    | ReadError::Trimmed { first: to, .. } = error
    {
        status.metadata_mut().insert(READ_ON_FROM, (*to).into());
    }
    status
}

pub fn of_trim(error: &TrimError) -> Status {
    let code = match error {
        TrimError::NotServed(error) => return of_read(error),
        TrimError::NotSealed { .. } => Code::FailedPrecondition,
        TrimError::BeyondEnd { .. } => Code::OutOfRange,
        TrimError::Store(error) => match error {
            StoreError::UnknownStream { .. } | StoreError::UnknownSegment { .. } => Code::NotFound,
            StoreError::DiskFull { .. } | StoreError::OutOf { .. } => Code::ResourceExhausted,
            StoreError::Damaged { .. } => Code::DataLoss,
            StoreError::Poisoned { .. } | StoreError::Closed => Code::Unavailable,
        },
    };
    Status::new(code, error.to_string())
}

/// A request that could not be received. One over the limit names value and limit; what to do is added here.
pub fn of_message(status: Status) -> Status {
    if status.code() == Code::OutOfRange {
        Status::out_of_range(format!("{}; send smaller batches", status.message()))
    } else {
        status
    }
}
