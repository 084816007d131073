//! Does this store honour preconditions? (Rule F5.) Some stores accept `If-None-Match: *` and overwrite; on such a store every
//! claim is worthless, so no claim is made there.
//!
//! Two puts in sequence find a store that ignores the header. They do not find one that races; such stores are named in the
//! documentation as unsupported.

use bytes::Bytes;

use super::{ObjectError, ObjectStore, PutOutcome, Upload};

/// An etag that no store hands out.
const WRONG_ETAG: &str = "\"aof2-probe-no-such-etag\"";

/// Writes `key`, which nobody else uses, tries to write over it twice, and removes it.
pub fn probe(store: &dyn ObjectStore, key: &str, put_id: &str) -> Result<(), ObjectError> {
    let body = |text: &str, n: u32| {
        Upload::of_bytes(Bytes::from(text.to_owned()), format!("{put_id}-{n}"))
    };
    let refuses = |cause: &str| {
        Err(ObjectError::IgnoresPreconditions {
            place: store.place(),
            cause: cause.to_owned(),
        })
    };

    // The key is fresh: whatever happened to a lost response, afterwards it exists or the probe fails.
    match store.put_if_absent(key, &body("first", 1))? {
        PutOutcome::Created { .. } => {}
        PutOutcome::PreconditionFailed => {
            return refuses("If-None-Match: * was rejected for a new key");
        }
    }
    let second = store.put_if_absent(key, &body("second", 2));
    let third = match second {
        // 409 is a refusal as good as 412.
        Ok(PutOutcome::PreconditionFailed) | Err(ObjectError::Conflict { .. }) => {
            store.put_if_match(key, &body("third", 3), WRONG_ETAG)
        }
        other => other,
    };
    let verdict = match third {
        Ok(PutOutcome::PreconditionFailed) | Err(ObjectError::Conflict { .. }) => {
            match store.get(key)? {
                Some(object) if object.bytes == b"first"[..] => Ok(()),
                _ => refuses("probe object changed although every overwrite was rejected"),
            }
        }
        Ok(PutOutcome::Created { .. }) => refuses("an overwrite of an existing key succeeded"),
        Err(error) => return Err(error),
    };
    // Left behind it does no harm.
    let _ = store.delete(key);
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Tier2Reason;
    use crate::objects::memory::{Fault, MemoryStore, Verb};

    #[test]
    fn passes_on_a_store_with_preconditions_and_leaves_nothing_behind() {
        let store = MemoryStore::new();
        assert_eq!(probe(&store, "probe/1", "p"), Ok(()));
        assert_eq!(store.keys(), Vec::<String>::new());
    }

    #[test]
    fn names_a_store_that_ignores_preconditions() {
        let store = MemoryStore::new();
        store.ignore_preconditions();
        let error = probe(&store, "probe/1", "p").expect_err("ignored");
        assert_eq!(error.reason(), Tier2Reason::IgnoresPreconditions);
        assert!(
            error
                .to_string()
                .contains("use an object store that honours If-None-Match"),
            "{error}"
        );
    }

    #[test]
    fn a_409_counts_as_a_refusal() {
        let store = MemoryStore::new();
        store.inject(Verb::PutIfMatch, Fault::Conflict, 1);
        assert_eq!(probe(&store, "probe/1", "p"), Ok(()));
    }

    #[test]
    fn an_outage_is_no_verdict() {
        let store = MemoryStore::new();
        store.inject(Verb::PutIfMatch, Fault::ServerError, 1);
        let error = probe(&store, "probe/1", "p").expect_err("no answer");
        assert!(error.is_outage(), "{error}");
    }
}
