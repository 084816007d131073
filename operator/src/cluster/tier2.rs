//! A bucket that cannot be used, so that STATUS names the cause: an engine's message begins with request, key and place, and all of them
//! are long.

use aof2_admin_api::Tier2Reason;
use aof2_crds::tier2::Tier2;

use crate::machine::quoted;

/// The message of a condition.
pub fn said(spec: Option<&Tier2>, pod: &str, reason: &Tier2Reason, message: &str) -> String {
    let secret = spec.map(|spec| spec.credentials.secret_ref.name.as_str());
    let remedy = match (reason, secret) {
        (Tier2Reason::AccessDenied | Tier2Reason::CredentialsExpired, Some(secret)) => {
            format!("Correct Secret {secret}, or what it may do in the bucket")
        }
        _ => "Check spec.tier2 and the object store".to_owned(),
    };
    let message = words(message);
    let cause = cause(&message, secret);
    format!(
        "{pod} cannot use Tier 2 ({}). {remedy}. Reason {reason}, in the engine's words ({})",
        quoted(&cause),
        quoted(&message)
    )
}

/// An engine's message without the key: that of a probe is another one at each try, and status must stand still.
pub fn words(message: &str) -> String {
    let key = message
        .split_once(" \"")
        .and_then(|(verb, rest)| Some((verb, rest.split_once("\" at ")?.1)));
    key.map_or_else(
        || message.to_owned(),
        |(verb, place)| format!("{verb} a key at {place}"),
    )
}

/// What went wrong, without what was tried: the innermost of the message.
fn cause(message: &str, secret: Option<&str>) -> String {
    if message.contains("received corrupt message of type InvalidContentType") {
        return "its endpoint does not speak TLS, try http://".to_owned();
    }
    // `cannot put "key" at http://s3 bucket b: the credentials are rejected (403 InvalidAccessKeyId); correct the Secret`
    let inner = message
        .find(" (")
        .and_then(|start| Some(&message[start + 2..message.rfind(')')?]))
        .filter(|inner| !inner.is_empty());
    let Some(inner) = inner else {
        return message.to_owned();
    };
    // The last of a chain of errors, each in front of its source.
    let last = inner.rsplit(" error: ").next().unwrap_or(inner);
    let missing = last.split_once(" holds no ").map(|(_, key)| key);
    match (missing, secret) {
        (Some(key), Some(secret)) => {
            let key = key.split(';').next().unwrap_or(key);
            format!("Secret {secret} holds no {key}")
        }
        _ => last.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::cluster;
    use crate::machine::headline;

    #[test]
    fn status_names_the_cause_and_the_secret_that_is_to_be_corrected() {
        let spec = cluster().spec.tier2;
        let status = |reason: Tier2Reason, message: &str| {
            let message = said(
                spec.as_ref(),
                "orders-0",
                &reason,
                &format!(
                    "cannot put \"prod/orders/probe/x\" at http://s3.test:7070 bucket acme-aof2: {message}"
                ),
            );
            assert!(!message.contains("probe/x"), "it moves: {message}");
            assert!(
                message.contains("http://s3.test:7070 bucket acme-aof2"),
                "{message}"
            );
            (headline(&message), message)
        };
        let denied = "the credentials are rejected (403 SignatureDoesNotMatch); correct the credentials Secret";
        let (short, message) = status(Tier2Reason::AccessDenied, denied);
        assert_eq!(
            short,
            "orders-0 cannot use Tier 2 (403 SignatureDoesNotMatch)"
        );
        assert!(message.contains("Correct Secret orders-s3"), "{message}");
        let missing = "the credentials are rejected (credentials directory /etc/aof2/s3-credentials holds no secret_access_key; mount the Secret with that key); correct the credentials Secret";
        assert_eq!(
            status(Tier2Reason::AccessDenied, missing).0,
            "orders-0 cannot use Tier 2 (Secret orders-s3 holds no secret_access_key)"
        );
        let refused = "no connection (dispatch failure: io error: client error: Connection refused (os error 111)); the engine retries, check the endpoint and the network";
        assert_eq!(
            status(Tier2Reason::Tier2Unreachable, refused).0,
            "orders-0 cannot use Tier 2 (Connection refused (os error 111))"
        );
        let plain = "no connection (dispatch failure: io error: client error: received corrupt message of type InvalidContentType); the engine retries, check the endpoint and the network";
        assert_eq!(
            status(Tier2Reason::Tier2Unreachable, plain).0,
            "orders-0 cannot use Tier 2 (its endpoint does not speak TLS, try http://)"
        );
        let gone = "the bucket does not exist; create it or correct spec.tier2.bucket";
        assert!(
            status(Tier2Reason::BucketMissing, gone)
                .1
                .contains("Check spec.tier2")
        );
    }
}
