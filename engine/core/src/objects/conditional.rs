//! The one table that says what a result of a create-if-absent means (rule F4). Every conditional create of the engine goes
//! through `create`; nobody else interprets 412, 409 or a lost response.
//!
//! | answer                     | what it proves                         | what follows                                            |
//! | -------------------------- | -------------------------------------- | ------------------------------------------------------- |
//! | 200                        | ours landed                            | done                                                    |
//! | 412                        | something is there                     | look: our bytes, or our put-id where no checksum is kept = our own lost response, done; else taken |
//! | 409                        | a rival write was in flight            | the whole PUT again                                     |
//! | no connection              | nothing was sent                       | the whole PUT again                                     |
//! | bytes damaged on the way   | nothing landed                         | the whole PUT again                                     |
//! | time-out, reset, 5xx, slow | nothing                                | look; absent = the whole PUT again; never assume        |
//! | 403, 404 bucket, others    | a person has to act                    | stop                                                    |
//!
//! A store that is sent no checksum proves with none of these that it has what was sent: there the object is read back before it counts
//! as created.
//!
//! A repeated PUT carries the same put-id, so that an earlier attempt that lands late is recognised as ours.

use aof2_format::checksum::{Crc64Nvme, crc64nvme};

use super::retry::Retries;
use super::{Attempt, ObjectError, ObjectMeta, ObjectStore, PutOutcome, Upload};

/// Who made the object that is now at the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Creation {
    /// This call, or an attempt with the same put-id or the same bytes.
    Ours { etag: String },
    /// Somebody else, with other bytes.
    Taken(ObjectMeta),
}

/// What one answer to a PUT leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Done {
        etag: String,
    },
    /// Read what is at the key before anything else. The error, if any, is what to report when that stays impossible.
    ReadBack(Option<ObjectError>),
    Repeat(ObjectError),
    Stop(ObjectError),
}

/// The table above, row by row.
pub fn judge(answer: Result<PutOutcome, ObjectError>) -> Verdict {
    match answer {
        Ok(PutOutcome::Created { etag }) => Verdict::Done { etag },
        Ok(PutOutcome::PreconditionFailed) => Verdict::ReadBack(None),
        Err(error) => match error {
            ObjectError::Conflict { .. }
            | ObjectError::Unreachable { .. }
            | ObjectError::BackingOff { .. }
            | ObjectError::Corrupt { .. } => Verdict::Repeat(error),
            ObjectError::Unknown { .. } | ObjectError::Throttled { .. } => {
                Verdict::ReadBack(Some(error))
            }
            ObjectError::BucketMissing { .. }
            | ObjectError::AccessDenied { .. }
            | ObjectError::IgnoresPreconditions { .. }
            | ObjectError::Refused { .. }
            | ObjectError::Source { .. }
            | ObjectError::Stopping { .. } => Verdict::Stop(error),
        },
    }
}

/// Creates `key` unless it exists. At most `max_attempts` requests of each kind; the last error when they are used up, which
/// then means that the outcome is unknown and that the same call may be made again.
pub fn create(
    store: &dyn ObjectStore,
    key: &str,
    upload: &Upload,
    retries: &Retries,
    max_attempts: u32,
) -> Result<Creation, ObjectError> {
    match create_while(store, key, upload, retries, max_attempts, &|| true)? {
        Some(creation) => Ok(creation),
        None => unreachable!("the object is always wanted"),
    }
}

/// The same while `is_wanted`, which is asked right before each PUT. `None`: it is wanted no longer, and an earlier PUT of this call may
/// have landed all the same.
pub fn create_while(
    store: &dyn ObjectStore,
    key: &str,
    upload: &Upload,
    retries: &Retries,
    max_attempts: u32,
    is_wanted: &dyn Fn() -> bool,
) -> Result<Option<Creation>, ObjectError> {
    let mut attempt = 1;
    loop {
        if !is_wanted() {
            return Ok(None);
        }
        let error = match judge(store.put_if_absent(key, upload)) {
            Verdict::Done { etag } => {
                return match prove(store, key, upload, retries, max_attempts)? {
                    true => Ok(Some(Creation::Ours { etag })),
                    false => Err(differs(store, key)),
                };
            }
            Verdict::Stop(error) => return Err(error),
            Verdict::Repeat(error) => error,
            Verdict::ReadBack(why) => match read_back(store, key, upload, retries, max_attempts)? {
                Some(Creation::Ours { etag }) => {
                    store.note_landed(key);
                    return match prove(store, key, upload, retries, max_attempts)? {
                        true => Ok(Some(Creation::Ours { etag })),
                        false => Err(differs(store, key)),
                    };
                }
                Some(taken @ Creation::Taken(_)) => return Ok(Some(taken)),
                // After a 412 this means that the object vanished in between.
                None => why.unwrap_or_else(|| ObjectError::Conflict {
                    attempt: attempt_of("put", key, store),
                    cause: "conflicting object no longer exists".into(),
                }),
            },
        };
        if attempt >= max_attempts || !retries.pause_after(attempt) {
            return Err(error);
        }
        attempt += 1;
    }
}

/// Replaces what has this etag. A lost answer is looked up, as for `create`.
pub fn replace(
    store: &dyn ObjectStore,
    key: &str,
    upload: &Upload,
    etag: &str,
    retries: &Retries,
    max_attempts: u32,
) -> Result<PutOutcome, ObjectError> {
    let error = match store.put_if_match(key, upload, etag) {
        Err(error @ (ObjectError::Unknown { .. } | ObjectError::Throttled { .. })) => error,
        answer => return answer,
    };
    match read_back(store, key, upload, retries, max_attempts)? {
        Some(Creation::Ours { etag }) => {
            store.note_landed(key);
            Ok(PutOutcome::Created { etag })
        }
        Some(Creation::Taken(_)) | None => Err(error),
    }
}

/// Does the store hold the bytes that were sent? Nothing is asked where it compared them itself.
fn prove(
    store: &dyn ObjectStore,
    key: &str,
    upload: &Upload,
    retries: &Retries,
    max_attempts: u32,
) -> Result<bool, ObjectError> {
    if store.checks_what_it_receives() {
        return Ok(true);
    }
    let found = retried(retries, max_attempts, || {
        checksum_of_object(store, key, upload.size_bytes())
    });
    match found {
        Ok(found) => Ok(found == Some(upload.crc64nvme)),
        // It ends before the last byte.
        Err(ObjectError::Corrupt { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn differs(store: &dyn ObjectStore, key: &str) -> ObjectError {
    ObjectError::Corrupt {
        attempt: attempt_of("put", key, store),
        cause: "read back it is not what was sent".into(),
    }
}

fn retried<T>(
    retries: &Retries,
    max_attempts: u32,
    mut ask: impl FnMut() -> Result<T, ObjectError>,
) -> Result<T, ObjectError> {
    let mut attempt = 1;
    loop {
        match ask() {
            Err(error) if error.is_outage() => {
                if attempt >= max_attempts || !retries.pause_after(attempt) {
                    return Err(error);
                }
            }
            answer => return answer,
        }
        attempt += 1;
    }
}

/// What is at the key: ours, another's, or nothing.
fn read_back(
    store: &dyn ObjectStore,
    key: &str,
    upload: &Upload,
    retries: &Retries,
    max_attempts: u32,
) -> Result<Option<Creation>, ObjectError> {
    retried(retries, max_attempts, || compare(store, key, upload))
}

fn compare(
    store: &dyn ObjectStore,
    key: &str,
    upload: &Upload,
) -> Result<Option<Creation>, ObjectError> {
    let Some(meta) = store.head(key)? else {
        return Ok(None);
    };
    let same_size = meta.size_bytes == upload.size_bytes();
    let is_ours = same_size
        && match meta.crc64nvme {
            // The name of the write does not speak for bytes that are others.
            Some(crc) => crc == upload.crc64nvme,
            None => {
                meta.put_id.as_deref() == Some(upload.put_id.as_str())
                    || checksum_of_object(store, key, meta.size_bytes)? == Some(upload.crc64nvme)
            }
        };
    Ok(Some(if is_ours {
        Creation::Ours { etag: meta.etag }
    } else {
        Creation::Taken(meta)
    }))
}

/// For stores that keep no checksum: reads the object back, a bounded piece at a time. `None`: it vanished meanwhile.
pub fn checksum_of_object(
    store: &dyn ObjectStore,
    key: &str,
    size_bytes: u64,
) -> Result<Option<u64>, ObjectError> {
    const PIECE_BYTES: u64 = 8 << 20;
    if size_bytes == 0 {
        return Ok(Some(crc64nvme(&[])));
    }
    let mut digest = Crc64Nvme::default();
    let mut offset = 0;
    while offset < size_bytes {
        let length = PIECE_BYTES.min(size_bytes - offset);
        let Some(piece) = store.get_range(key, offset, length)? else {
            return Ok(None);
        };
        digest.update(&piece);
        offset += length;
    }
    Ok(Some(digest.finish()))
}

fn attempt_of(verb: &'static str, key: &str, store: &dyn ObjectStore) -> Attempt {
    Attempt {
        verb,
        key: key.to_owned(),
        place: store.place(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::objects::Tier2Reason;
    use crate::objects::memory::{Fault, MemoryStore, Verb};
    use crate::objects::suite::test_retries;

    fn upload(bytes: &'static [u8], put_id: &str) -> Upload {
        Upload::of_bytes(Bytes::from_static(bytes), put_id.into())
    }

    fn create_in(store: &MemoryStore, key: &str, upload: &Upload) -> Result<Creation, ObjectError> {
        create(store, key, upload, &test_retries(), 4)
    }

    fn assert_ours(creation: Result<Creation, ObjectError>) {
        assert!(
            matches!(creation, Ok(Creation::Ours { .. })),
            "{creation:?}"
        );
    }

    fn assert_taken(creation: Result<Creation, ObjectError>) {
        assert!(matches!(creation, Ok(Creation::Taken(_))), "{creation:?}");
    }

    #[test]
    fn a_200_is_ours() {
        let store = MemoryStore::new();
        assert_ours(create_in(&store, "k", &upload(b"mine", "a")));
        assert_eq!(store.bytes_of("k").as_deref(), Some(&b"mine"[..]));
    }

    #[test]
    fn a_412_over_anothers_bytes_is_taken_and_leaves_them_alone() {
        let store = MemoryStore::new();
        assert_ours(create_in(&store, "k", &upload(b"theirs", "b")));
        assert_taken(create_in(&store, "k", &upload(b"mine, longer", "a")));
        assert_taken(create_in(&store, "k", &upload(b"mine..", "a")));
        assert_eq!(store.bytes_of("k").as_deref(), Some(&b"theirs"[..]));
    }

    #[test]
    fn a_412_over_our_own_put_id_is_our_lost_response() {
        let store = MemoryStore::new();
        store.inject(Verb::PutIfAbsent, Fault::LostResponse, 1);
        store.inject(Verb::Head, Fault::ServerError, 1);
        assert_ours(create_in(&store, "k", &upload(b"mine", "a")));
        assert_ours(create_in(&store, "k", &upload(b"mine", "a")));
    }

    #[test]
    fn a_412_over_our_own_bytes_of_an_earlier_process_is_ours_though_the_put_id_differs() {
        let store = MemoryStore::new();
        assert_ours(create_in(
            &store,
            "k",
            &upload(b"mine", "before the restart"),
        ));
        assert_ours(create_in(
            &store,
            "k",
            &upload(b"mine", "after the restart"),
        ));
    }

    #[test]
    fn the_name_of_our_write_does_not_make_other_bytes_ours() {
        let store = MemoryStore::new();
        assert_ours(create_in(&store, "k", &upload(b"mine", "a")));
        assert_taken(create_in(&store, "k", &upload(b"mind", "a")));
    }

    #[test]
    fn bytes_are_read_back_where_the_store_keeps_no_checksum() {
        let store = MemoryStore::new();
        store.forget_checksums();
        assert_ours(create_in(&store, "k", &upload(b"mine", "a")));
        assert_ours(create_in(&store, "k", &upload(b"mine", "b")));
        assert_taken(create_in(&store, "k", &upload(b"mind", "c")));
    }

    #[test]
    fn bytes_that_a_store_takes_without_a_checksum_are_read_back_before_they_count() {
        let store = MemoryStore::new();
        store.take_damaged_bodies();
        assert_ours(create_in(&store, "k", &upload(b"mine", "a")));
        assert_eq!(store.calls(Verb::GetRange), 1);
        store.inject(Verb::PutIfAbsent, Fault::TruncatedBody, 1);
        let error = create_in(&store, "cut", &upload(b"mine", "a")).expect_err("cut off");
        assert!(matches!(error, ObjectError::Corrupt { .. }), "{error}");
        // And behind a lost response, where the name of the write says that it is ours.
        store.inject(Verb::PutIfAbsent, Fault::LostResponse, 1);
        let reads = store.calls(Verb::GetRange);
        assert_ours(create_in(&store, "lost", &upload(b"mine", "a")));
        assert!(store.calls(Verb::GetRange) > reads);
    }

    #[test]
    fn a_replaced_object_whose_answer_was_lost_is_ours_and_a_rivals_is_not() {
        let store = MemoryStore::new();
        let etag = |outcome| match outcome {
            Ok(PutOutcome::Created { etag }) => etag,
            other => panic!("{other:?}"),
        };
        let first = etag(store.put_if_absent("k", &upload(b"old", "a")));
        let replace =
            |with: &Upload, etag: &str| replace(&store, "k", with, etag, &test_retries(), 4);
        store.inject(Verb::PutIfMatch, Fault::LostResponse, 1);
        let second = etag(replace(&upload(b"mine", "b"), &first));
        assert_eq!(store.calls(Verb::PutIfMatch), 1);
        store.inject(Verb::PutIfMatch, Fault::ServerError, 1);
        let error = replace(&upload(b"next", "c"), &second).expect_err("nothing landed");
        assert!(matches!(error, ObjectError::Unknown { .. }), "{error}");
        assert_eq!(store.bytes_of("k").as_deref(), Some(&b"mine"[..]));
        let stale = replace(&upload(b"next", "c"), &first);
        assert_eq!(stale, Ok(PutOutcome::PreconditionFailed));
    }

    #[test]
    fn a_409_repeats_the_whole_put() {
        let store = MemoryStore::new();
        store.inject(Verb::PutIfAbsent, Fault::Conflict, 2);
        assert_ours(create_in(&store, "k", &upload(b"mine", "a")));
        assert_eq!(store.calls(Verb::PutIfAbsent), 3);
        assert_eq!(store.calls(Verb::Head), 0);
    }

    #[test]
    fn a_lost_response_is_looked_up_and_found_to_be_ours() {
        let store = MemoryStore::new();
        store.inject(Verb::PutIfAbsent, Fault::LostResponse, 1);
        assert_ours(create_in(&store, "k", &upload(b"mine", "a")));
        assert_eq!(store.calls(Verb::PutIfAbsent), 1);
        assert_eq!(store.calls(Verb::Head), 1);
    }

    #[test]
    fn a_server_error_that_wrote_nothing_is_looked_up_and_put_again() {
        let store = MemoryStore::new();
        store.inject(Verb::PutIfAbsent, Fault::ServerError, 1);
        assert_ours(create_in(&store, "k", &upload(b"mine", "a")));
        assert_eq!(store.calls(Verb::Head), 1);
        assert_eq!(store.calls(Verb::PutIfAbsent), 2);
    }

    #[test]
    fn an_unknown_outcome_that_cannot_be_looked_up_is_never_assumed() {
        let store = MemoryStore::new();
        store.inject(Verb::PutIfAbsent, Fault::LostResponse, 1);
        store.inject(Verb::Head, Fault::ServerError, 100);
        let error = create_in(&store, "k", &upload(b"mine", "a")).expect_err("not known");
        assert!(matches!(error, ObjectError::Unknown { .. }), "{error}");
        assert_eq!(store.calls(Verb::PutIfAbsent), 1);
    }

    #[test]
    fn a_rival_that_won_behind_a_time_out_is_seen() {
        let store = MemoryStore::new();
        assert_ours(create_in(&store, "k", &upload(b"theirs", "b")));
        store.inject(Verb::PutIfAbsent, Fault::ServerError, 1);
        assert_taken(create_in(&store, "k", &upload(b"mine", "a")));
    }

    #[test]
    fn access_denied_and_a_missing_bucket_stop_at_once() {
        for (fault, reason) in [
            (Fault::AccessDenied, Tier2Reason::AccessDenied),
            (Fault::BucketMissing, Tier2Reason::BucketMissing),
        ] {
            let store = MemoryStore::new();
            store.inject(Verb::PutIfAbsent, fault, 100);
            let error = create_in(&store, "k", &upload(b"mine", "a")).expect_err("refused");
            assert_eq!(error.reason(), reason);
            assert_eq!(store.calls(Verb::PutIfAbsent), 1);
        }
    }

    #[test]
    fn attempts_are_bounded() {
        let store = MemoryStore::new();
        store.inject(Verb::PutIfAbsent, Fault::Conflict, 100);
        let error = create_in(&store, "k", &upload(b"mine", "a")).expect_err("conflicts for ever");
        assert!(matches!(error, ObjectError::Conflict { .. }), "{error}");
        assert_eq!(store.calls(Verb::PutIfAbsent), 4);
    }

    #[test]
    fn an_object_that_vanishes_behind_a_412_is_put_again() {
        let store = MemoryStore::new();
        store.inject(Verb::PutIfAbsent, Fault::PreconditionFailed, 1);
        assert_ours(create_in(&store, "k", &upload(b"mine", "a")));
        assert_eq!(store.calls(Verb::PutIfAbsent), 2);
    }
}
