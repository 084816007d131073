//! How a tool ends: what it found, or why it found nothing.

use std::io::Write;
use std::process::ExitCode;

use aof2_admin_api::ErrorReason;
use aof2_admin_api::client::ClientError;
use aof2_core::error::with_causes;
use tonic::Code;

/// What a verb that ran to its end found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Clean,
    /// It worked, and the answer is no: records are lost, a file is not valid.
    Negative,
}

/// Why a verb did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The command line, or what was given on standard input.
    Usage(String),
    /// Nobody answers; the same may work later.
    Unavailable(String),
    /// Whoever was asked said no.
    Refused(String),
    /// What was asked for does not exist.
    NotFound(String),
    /// Whoever read the results has enough, as `head` does.
    ReaderLeft,
}

impl Failure {
    /// One line on standard error: text, or with `--json` an object.
    pub fn report(&self, is_json: bool) -> ExitCode {
        let (code, kind, message) = match self {
            Failure::Usage(message) => (2, "Usage", message),
            Failure::Unavailable(message) => (3, "Unavailable", message),
            Failure::Refused(message) => (4, "Refused", message),
            Failure::NotFound(message) => (5, "NotFound", message),
            Failure::ReaderLeft => return ExitCode::SUCCESS,
        };
        let line = if is_json {
            serde_json::json!({"error": {"kind": kind, "message": message}}).to_string()
        } else {
            format!("error: {message}")
        };
        // Nobody reads standard error: nothing is left to do about it.
        let _ = writeln!(std::io::stderr(), "{line}");
        ExitCode::from(code)
    }
}

pub fn code(result: Result<Outcome, Failure>, is_json: bool) -> ExitCode {
    match result {
        Ok(Outcome::Clean) => ExitCode::SUCCESS,
        Ok(Outcome::Negative) => ExitCode::from(1),
        Err(failure) => failure.report(is_json),
    }
}

/// Nothing was asked: say what can be.
pub fn usage(mut command: clap::Command) -> ExitCode {
    let _ = command.print_help();
    ExitCode::from(2)
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = match error.refusal() {
            // The engine named the object and what to do; its address and the HTTP status add nothing.
            Some(body) => body.message.clone(),
            None => with_causes(&error),
        };
        match &error {
            ClientError::ServerName { .. } => Failure::Usage(message),
            ClientError::Unreachable { .. } => Failure::Unavailable(format!(
                "{message}; check that the engine runs and that --admin-socket (or --url) is right"
            )),
            ClientError::Timeout { .. }
            | ClientError::Tls { .. }
            | ClientError::Broken { .. }
            | ClientError::TooLarge { .. }
            | ClientError::Decode { .. } => Failure::Unavailable(message),
            ClientError::Refused { body, .. } => match &body.reason {
                ErrorReason::BadRequest => Failure::Usage(message),
                ErrorReason::NotServing | ErrorReason::Tier2Unreachable | ErrorReason::Internal => {
                    Failure::Unavailable(message)
                }
                ErrorReason::NotFound | ErrorReason::UnknownSnapshot => Failure::NotFound(message),
                ErrorReason::StaleOperatorEpoch
                | ErrorReason::Draining
                | ErrorReason::Conflict
                | ErrorReason::DiskFull
                | ErrorReason::Unknown(_) => Failure::Refused(message),
            },
        }
    }
}

/// A refusal of the data API. `verb` names what was asked.
pub fn of_status(verb: &str, status: &tonic::Status) -> Failure {
    let message = format!("{verb}: {}", status.message());
    match status.code() {
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unknown
        | Code::Internal => Failure::Unavailable(message),
        Code::InvalidArgument => Failure::Usage(message),
        Code::NotFound => Failure::NotFound(message),
        Code::Ok
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => Failure::Refused(message),
    }
}

/// Writing a result failed: the reader went away, or the disk behind it is full.
pub fn of_output(error: std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return Failure::ReaderLeft;
    }
    Failure::Unavailable(format!("cannot write standard output: {error}"))
}
