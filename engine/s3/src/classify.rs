//! What an answer of the SDK proves. Everything that proves nothing is `Unknown`.

use std::error::Error;

use aof2_core::objects::{Attempt, ObjectError};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// The parts of an answer that are decided by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The service said no: HTTP status and the code of its error document.
    Service {
        status: u16,
        code: String,
    },
    NoConnection(String),
    /// Sent or half sent, and nothing sensible came back.
    Nothing(String),
    /// The SDK made no request.
    NotSent(String),
}

impl Answer {
    pub fn is_missing_key(&self) -> bool {
        // A HEAD has no error document, so that a missing bucket looks the same; puts and listings tell them apart.
        matches!(self, Answer::Service { status: 404, code } if matches!(code.as_str(), "" | "NotFound" | "NoSuchKey"))
    }

    pub fn is_refusal_of_keys(&self) -> bool {
        matches!(
            self,
            Answer::Service {
                status: 401 | 403,
                ..
            }
        ) || matches!(self, Answer::Service { status: 404, code } if code == "XAdminUserNotFound")
    }

    pub fn is_precondition_failed(&self) -> bool {
        matches!(self, Answer::Service { status: 412, .. })
    }

    pub fn into_error(self, attempt: Attempt) -> ObjectError {
        let (status, code) = match self {
            Answer::Service { status, code } => (status, code),
            Answer::NoConnection(cause) => return ObjectError::Unreachable { attempt, cause },
            Answer::Nothing(cause) => return ObjectError::Unknown { attempt, cause },
            Answer::NotSent(cause) => return ObjectError::Refused { attempt, cause },
        };
        let cause = if code.is_empty() {
            status.to_string()
        } else {
            format!("{status} {code}")
        };
        match (status, code.as_str()) {
            (404, "NoSuchBucket") => ObjectError::BucketMissing { attempt },
            (409, "ConditionalRequestConflict" | "OperationAborted") => {
                ObjectError::Conflict { attempt, cause }
            }
            // versitygw answers 404 to an access key that it does not know.
            (401 | 403, _) | (404, "XAdminUserNotFound") => {
                ObjectError::AccessDenied { attempt, cause }
            }
            (429, _) | (503, "SlowDown" | "SlowDownWrite" | "SlowDownRead") => {
                ObjectError::Throttled { attempt, cause }
            }
            (
                400,
                "BadDigest"
                | "InvalidDigest"
                | "XAmzContentChecksumMismatch"
                | "XAmzContentSHA256Mismatch",
            ) => ObjectError::Corrupt { attempt, cause },
            (408, _) | (400, "RequestTimeout") => ObjectError::Unknown { attempt, cause },
            (501, _) => ObjectError::Refused { attempt, cause },
            (500.., _) => ObjectError::Unknown { attempt, cause },
            (301 | 307, _) | (400, "AuthorizationHeaderMalformed") => ObjectError::Refused {
                attempt,
                cause: format!("{cause}; the bucket is in another region or endpoint"),
            },
            _ => ObjectError::Refused { attempt, cause },
        }
    }
}

pub(crate) fn answer<E>(error: SdkError<E, HttpResponse>) -> Answer
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match &error {
        SdkError::ServiceError(service) => Answer::Service {
            status: service.raw().status().as_u16(),
            code: plain(service.err().code().unwrap_or_default()),
        },
        SdkError::ConstructionFailure(_) => Answer::NotSent(chain(&error)),
        SdkError::DispatchFailure(failure) if failure.is_user() => Answer::NotSent(chain(&error)),
        SdkError::DispatchFailure(_) if was_not_connected(&error) => {
            Answer::NoConnection(chain(&error))
        }
        // A response that cannot be parsed is an answer of something that is not S3, or of S3 in trouble.
        SdkError::ResponseError(response) => Answer::Nothing(format!(
            "invalid answer with {}",
            response.raw().status().as_u16()
        )),
        _ => Answer::Nothing(chain(&error)),
    }
}

/// The connection, its TLS or the name behind it failed, before anything was sent. The types are the HTTP client's private ones, so
/// its words are read; words that change make an `Unknown` of it, which is only slower.
fn was_not_connected(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        let text = error.to_string();
        if text.contains("client error (Connect)") || text.contains("HTTP connect timeout") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Error codes come from outside and go into reports.
fn plain(code: &str) -> String {
    code.chars()
        .filter(char::is_ascii_alphanumeric)
        .take(64)
        .collect()
}

fn chain(error: &(impl Error + 'static)) -> String {
    // The SDK appends its debug form in parentheses; people need the words before it.
    let text = DisplayErrorContext(error).to_string();
    let words = text.split(" (").next().unwrap_or_default();
    let mut deepest: &dyn Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let deepest = deepest.to_string();
    if words.contains(&deepest) {
        words.to_owned()
    } else {
        format!("{words}: {deepest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(status: u16, code: &str) -> ObjectError {
        let attempt = Attempt {
            verb: "put",
            key: "k".into(),
            place: "here".into(),
        };
        Answer::Service {
            status,
            code: code.into(),
        }
        .into_error(attempt)
    }

    #[test]
    fn every_row_of_the_result_table_has_its_class() {
        let rows = [
            (404, "NoSuchBucket", "BucketMissing"),
            (409, "ConditionalRequestConflict", "Conflict"),
            (403, "SignatureDoesNotMatch", "AccessDenied"),
            (401, "", "AccessDenied"),
            (404, "XAdminUserNotFound", "AccessDenied"),
            (503, "SlowDown", "Throttled"),
            (429, "", "Throttled"),
            (500, "InternalError", "Unknown"),
            (502, "", "Unknown"),
            (503, "ServiceUnavailable", "Unknown"),
            (400, "RequestTimeout", "Unknown"),
            (400, "BadDigest", "Corrupt"),
            (400, "XAmzContentChecksumMismatch", "Corrupt"),
            (501, "NotImplemented", "Refused"),
            (409, "ObjectParentIsFile", "Refused"),
            (301, "PermanentRedirect", "Refused"),
            (400, "InvalidArgument", "Refused"),
        ];
        for (status, code, class) in rows {
            let error = format!("{:?}", classified(status, code));
            assert!(error.starts_with(class), "{status} {code}: {error}");
        }
    }

    #[test]
    fn codes_from_outside_are_cut_to_plain_letters() {
        assert_eq!(plain("Access Denied\n<script>"), "AccessDeniedscript");
        assert_eq!(plain(&"x".repeat(1000)).len(), 64);
    }
}
