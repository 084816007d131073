//! What an answer of the SDK proves. Everything that proves nothing is `Unknown`.

use std::error::Error;

use aof2_core::objects::{Attempt, ObjectError, Refusal};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// Added to the code of a denial by the key service.
const OF_KMS: &str = " (kms)";

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

    /// Perhaps they were rotated. A 400 to a HEAD may be one, too: it has no code.
    pub fn is_refusal_of_keys(&self) -> bool {
        let Answer::Service { status, code } = self else {
            return false;
        };
        match status {
            401 | 403 => true,
            400 => code.is_empty() || of_keys(code).is_some(),
            _ => of_keys(code).is_some(),
        }
    }

    /// The answer to a HEAD has no error document.
    pub fn has_no_code(&self) -> bool {
        matches!(self, Answer::Service { status, code } if *status != 404 && code.is_empty())
    }

    pub fn is_archived(&self) -> bool {
        matches!(self, Answer::Service { code, .. } if is_archived(code))
    }

    pub fn is_precondition_failed(&self) -> bool {
        matches!(self, Answer::Service { status: 412, .. })
    }

    /// `checksum`: the header of that kind that the request carried.
    pub fn into_error(self, attempt: Attempt, checksum: Option<&str>) -> ObjectError {
        let (status, code) = match self {
            Answer::Service { status, code } => (status, code),
            Answer::NoConnection(cause) => return ObjectError::Unreachable { attempt, cause },
            Answer::Nothing(cause) => return ObjectError::Unknown { attempt, cause },
            Answer::NotSent(cause) => {
                return ObjectError::Refused {
                    attempt,
                    refusal: Refusal::Other,
                    cause,
                };
            }
        };
        let mut cause = if code.is_empty() {
            status.to_string()
        } else {
            format!("{status} {code}")
        };
        let refusal = match class(status, &code) {
            Class::BucketMissing => return ObjectError::BucketMissing { attempt },
            Class::Conflict => return ObjectError::Conflict { attempt, cause },
            Class::AccessDenied => return ObjectError::AccessDenied { attempt, cause },
            Class::Throttled => return ObjectError::Throttled { attempt, cause },
            Class::Corrupt => return ObjectError::Corrupt { attempt, cause },
            Class::Unknown => return ObjectError::Unknown { attempt, cause },
            Class::Refused(Refusal::Other) if is_about_a_header(status, &code) => match checksum {
                Some(header) => {
                    cause.push_str(&format!("; the request has the header {header}"));
                    Refusal::Checksum
                }
                None => Refusal::Other,
            },
            Class::Refused(refusal) => refusal,
        };
        ObjectError::Refused {
            attempt,
            refusal,
            cause,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    BucketMissing,
    Conflict,
    AccessDenied,
    Throttled,
    Corrupt,
    /// It proves nothing.
    Unknown,
    Refused(Refusal),
}

/// By the code where it says something, else by the status: stores agree on codes more than on the status that goes with them.
fn class(status: u16, code: &str) -> Class {
    if let Some(refusal) = of_keys(code).or(of_state(code)) {
        return Class::Refused(refusal);
    }
    match code {
        "NoSuchBucket" => return Class::BucketMissing,
        "SlowDown"
        | "SlowDownWrite"
        | "SlowDownRead"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "BandwidthLimitExceeded"
        | "KMS.ThrottlingException" => return Class::Throttled,
        "BadDigest"
        | "InvalidDigest"
        | "XAmzContentChecksumMismatch"
        | "XAmzContentSHA256Mismatch" => return Class::Corrupt,
        code if code.contains("KMS") || code.ends_with(OF_KMS) => {
            return Class::Refused(Refusal::EncryptionKey);
        }
        _ => {}
    }
    match (status, code) {
        (409, "ConditionalRequestConflict" | "OperationAborted") => Class::Conflict,
        (401 | 403, _) => Class::AccessDenied,
        (429 | 509, _) => Class::Throttled,
        (408, _) | (400, "RequestTimeout") => Class::Unknown,
        (501 | 505, _) => Class::Refused(Refusal::Other),
        (507, _) => Class::Refused(Refusal::QuotaExceeded),
        (500.., _) => Class::Unknown,
        (301 | 302 | 307 | 308, _) => Class::Refused(Refusal::Region),
        _ => Class::Refused(Refusal::Other),
    }
}

/// Who asks, and when.
fn of_keys(code: &str) -> Option<Refusal> {
    Some(match code {
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => {
            Refusal::CredentialsExpired
        }
        // versitygw answers the last with 404.
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "InvalidToken"
        | "InvalidTokenId"
        | "InvalidSecurity"
        | "XAdminUserNotFound" => Refusal::Credentials,
        "RequestTimeTooSkewed" | "RequestInTheFuture" | "RequestExpired" => Refusal::ClockSkew,
        _ => return None,
    })
}

/// The state that bucket or object are in.
fn of_state(code: &str) -> Option<Refusal> {
    Some(match code {
        code if is_archived(code) => Refusal::Archived,
        "QuotaExceeded"
        | "QuotaExceededException"
        | "BucketQuotaExceeded"
        | "XMinioAdminBucketQuotaExceeded"
        | "ServiceQuotaExceededException"
        | "StorageCapExceeded"
        | "InsufficientStorage"
        | "XMinioStorageFull" => Refusal::QuotaExceeded,
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "InvalidRegion" => Refusal::Region,
        _ => return None,
    })
}

fn is_archived(code: &str) -> bool {
    matches!(
        code,
        "InvalidObjectState" | "ObjectNotInActiveTierError" | "ObjectNotInActiveTier"
    )
}

/// How stores that do not know a header say so. None of them says which one.
fn is_about_a_header(status: u16, code: &str) -> bool {
    status == 501
        || status == 400
            && matches!(
                code,
                "" | "BadRequest"
                    | "InvalidArgument"
                    | "InvalidHeader"
                    | "InvalidRequest"
                    | "MissingContentMD5"
                    | "NotImplemented"
                    | "UnsupportedHeader"
                    | "UnsupportedParameter"
            )
}

pub(crate) fn answer<E>(error: SdkError<E, HttpResponse>) -> Answer
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match &error {
        SdkError::ServiceError(service) => {
            let mut code = plain(service.err().code().unwrap_or_default());
            // AWS says only in words which of its services denies.
            let message = service.err().message().unwrap_or_default();
            if code == "AccessDenied" && message.contains("kms:") {
                code.push_str(OF_KMS);
            }
            Answer::Service {
                status: service.raw().status().as_u16(),
                code,
            }
        }
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
        .filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-'))
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

    fn classified(status: u16, code: &str, checksum: Option<&str>) -> ObjectError {
        let attempt = Attempt {
            verb: "put",
            key: "k".into(),
            place: "here".into(),
        };
        Answer::Service {
            status,
            code: code.into(),
        }
        .into_error(attempt, checksum)
    }

    #[test]
    fn every_row_of_the_result_table_has_its_class() {
        let rows = [
            (404, "NoSuchBucket", "BucketMissing", ""),
            (409, "ConditionalRequestConflict", "Conflict", ""),
            (
                403,
                "AccessDenied",
                "AccessDenied",
                "correct the credentials or the bucket policy",
            ),
            (401, "", "AccessDenied", ""),
            (503, "SlowDown", "Throttled", "backs off"),
            (429, "", "Throttled", ""),
            (400, "KMS.ThrottlingException", "Throttled", ""),
            (500, "InternalError", "Unknown", ""),
            (502, "", "Unknown", ""),
            (503, "ServiceUnavailable", "Unknown", ""),
            (400, "RequestTimeout", "Unknown", ""),
            (400, "BadDigest", "Corrupt", ""),
            (400, "XAmzContentChecksumMismatch", "Corrupt", ""),
            (
                403,
                "SignatureDoesNotMatch",
                "Credentials",
                "correct the credentials Secret",
            ),
            (
                403,
                "InvalidAccessKeyId",
                "Credentials",
                "correct the credentials Secret",
            ),
            (
                404,
                "XAdminUserNotFound",
                "Credentials",
                "correct the credentials Secret",
            ),
            (400, "ExpiredToken", "CredentialsExpired", "reads it again"),
            (403, "ExpiredToken", "CredentialsExpired", "reads it again"),
            (
                403,
                "RequestTimeTooSkewed",
                "ClockSkew",
                "correct the clock of the node",
            ),
            (403, "InvalidObjectState", "Archived", "restore the object"),
            (403, "QuotaExceeded", "QuotaExceeded", "raise the quota"),
            (
                400,
                "XMinioAdminBucketQuotaExceeded",
                "QuotaExceeded",
                "raise the quota",
            ),
            (507, "XMinioStorageFull", "QuotaExceeded", "free space"),
            (507, "", "QuotaExceeded", "free space"),
            (
                400,
                "KMS.DisabledException",
                "EncryptionKey",
                "enable the key",
            ),
            (
                403,
                "AccessDenied (kms)",
                "EncryptionKey",
                "let the credentials use it",
            ),
            (
                403,
                "KMS.NotFoundException",
                "EncryptionKey",
                "enable the key",
            ),
            (301, "PermanentRedirect", "Region", "spec.tier2.region"),
            (
                400,
                "AuthorizationHeaderMalformed",
                "Region",
                "spec.tier2.region",
            ),
            (409, "ObjectParentIsFile", "Other", "documentation"),
            (405, "MethodNotAllowed", "Other", "documentation"),
        ];
        for (status, code, class, remedy) in rows {
            let error = classified(status, code, Some("x-amz-checksum-crc64nvme"));
            let name = match &error {
                ObjectError::Refused { refusal, .. } => format!("{refusal:?}"),
                other => format!("{other:?}"),
            };
            assert!(name.starts_with(class), "{status} {code}: {error:?}");
            assert!(
                error.to_string().contains(remedy),
                "{status} {code}: {error}"
            );
        }
    }

    #[test]
    fn a_store_that_may_not_know_the_checksum_is_told_of_with_header_and_setting() {
        for (status, code) in [
            (501, "NotImplemented"),
            (400, "InvalidRequest"),
            (400, "InvalidArgument"),
            (400, ""),
        ] {
            let text = classified(status, code, Some("x-amz-checksum-crc64nvme")).to_string();
            for part in [
                "x-amz-checksum-crc64nvme",
                "set tier2.checksum to MD5 or None",
            ] {
                assert!(text.contains(part), "{status} {code}: {text}");
            }
            // Without such a header it is something else.
            let other = classified(status, code, None);
            let is_other = matches!(
                &other,
                ObjectError::Refused {
                    refusal: Refusal::Other,
                    ..
                }
            );
            assert!(is_other, "{other:?}");
        }
    }

    #[test]
    fn codes_from_outside_are_cut_to_plain_letters() {
        assert_eq!(plain("Access Denied\n<script>"), "AccessDeniedscript");
        assert_eq!(plain("KMS.DisabledException"), "KMS.DisabledException");
        assert_eq!(plain(&"x".repeat(1000)).len(), 64);
    }
}
