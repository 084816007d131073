//! Tier 2 in memory, for tests: one mutex, real preconditions, and faults on demand.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use crate::io::sync::Mutex;
use aof2_format::checksum::crc64nvme;
use bytes::Bytes;

use super::directory::{PAGE_KEYS, page_of};
use super::{
    Attempt, Listed, ListedPage, Object, ObjectError, ObjectMeta, ObjectStore, Page, PutOutcome,
    Refusal, Removal, Upload, read_all,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    Put,
    PutIfAbsent,
    PutIfMatch,
    Get,
    GetRange,
    Head,
    List,
    Delete,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Verb::Put | Verb::PutIfAbsent | Verb::PutIfMatch => "put",
            Verb::Get | Verb::GetRange => "get",
            Verb::Head => "head",
            Verb::List => "list",
            Verb::Delete => "delete",
        }
    }

    fn writes(self) -> bool {
        matches!(
            self,
            Verb::Put | Verb::PutIfAbsent | Verb::PutIfMatch | Verb::Delete
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Unreachable,
    /// The write happens, its answer is lost.
    LostResponse,
    /// The answer is a success, and nothing happens.
    Ignored,
    /// 500, nothing happened.
    ServerError,
    Throttled,
    Conflict,
    /// A 412 though nothing is there.
    PreconditionFailed,
    AccessDenied,
    BucketMissing,
    Refused(Refusal),
    /// A write keeps, or a read returns, all but the last byte.
    TruncatedBody,
}

type Hook = Arc<dyn Fn(Verb) + Send + Sync>;

#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    classes: BTreeMap<String, String>,
    /// When each was put there; 1970 unless somebody says otherwise.
    modified_unix_nanos: BTreeMap<String, Option<i64>>,
    writes: u64,
    is_unreachable: bool,
    ignores_preconditions: bool,
    forgets_checksums: bool,
    takes_damaged_bodies: bool,
    keeps_versions: bool,
    faults: BTreeMap<Verb, VecDeque<Fault>>,
    calls: BTreeMap<Verb, u64>,
}

impl State {
    fn keys_from(&self, prefix: &str, start_after: Option<&str>) -> Vec<String> {
        let from = match start_after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let keys = self
            .objects
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(key, _)| key);
        keys.take_while(|key| key.starts_with(prefix))
            .cloned()
            .collect()
    }
}

impl MemoryStore {
    /// From now on each call runs `hook` first, beside the others.
    pub fn before_each_call(&self, hook: impl Fn(Verb) + Send + Sync + 'static) {
        *self.hook.lock() = Some(Arc::new(hook));
    }

    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// A bucket with the objects of this one at this moment, and no faults.
    pub fn copy(&self) -> MemoryStore {
        let copy = MemoryStore::new();
        {
            let (from, mut to) = (self.state.lock(), copy.state.lock());
            to.objects = from.objects.clone();
            to.writes = from.writes;
        }
        copy
    }

    /// The next `times` calls of `verb` meet `fault`, after those injected before.
    pub fn inject(&self, verb: Verb, fault: Fault, times: usize) {
        self.state
            .lock()
            .faults
            .entry(verb)
            .or_default()
            .extend(std::iter::repeat_n(fault, times));
    }

    /// Faults that were not met yet are removed.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.faults.clear();
        state.is_unreachable = false;
    }

    pub fn set_unreachable(&self, is_unreachable: bool) {
        self.state.lock().is_unreachable = is_unreachable;
    }

    /// Behaves like the stores that accept and ignore `If-None-Match` and `If-Match`.
    pub fn ignore_preconditions(&self) {
        self.state.lock().ignores_preconditions = true;
    }

    /// Behaves like the stores that do not return checksums and user metadata.
    pub fn forget_checksums(&self) {
        self.state.lock().forgets_checksums = true;
    }

    /// Behaves like a store that is sent no checksum: it cannot tell a damaged body, and keeps none.
    pub fn take_damaged_bodies(&self) {
        let mut state = self.state.lock();
        state.forgets_checksums = true;
        state.takes_damaged_bodies = true;
    }

    /// A deleted object stays as an old version.
    pub fn keep_versions(&self) {
        self.state.lock().keeps_versions = true;
    }

    /// From now on this object has this storage class. The others have none.
    pub fn set_class(&self, key: &str, class: &str) {
        let mut state = self.state.lock();
        state.classes.insert(key.to_owned(), class.to_owned());
    }

    /// This object was put there then; `None`: the store does not say when.
    pub fn set_modified(&self, key: &str, unix_nanos: Option<i64>) {
        let mut state = self.state.lock();
        state.modified_unix_nanos.insert(key.to_owned(), unix_nanos);
    }

    pub fn calls(&self, verb: Verb) -> u64 {
        self.state.lock().calls.get(&verb).copied().unwrap_or(0)
    }

    pub fn bytes_of(&self, key: &str) -> Option<Bytes> {
        self.state
            .lock()
            .objects
            .get(key)
            .map(|object| object.bytes.clone())
    }

    /// Flips a bit of an object behind its checksum.
    pub fn decay(&self, key: &str) {
        if let Some(object) = self.state.lock().objects.get_mut(key) {
            let mut bytes = object.bytes.to_vec();
            if let Some(byte) = bytes.first_mut() {
                *byte ^= 1;
            }
            object.bytes = bytes.into();
        }
    }

    pub fn keys(&self) -> Vec<String> {
        self.state.lock().objects.keys().cloned().collect()
    }

    /// Flips one bit of a stored object behind everybody's back.
    pub fn damage(&self, key: &str, offset: usize) {
        let mut state = self.state.lock();
        if let Some(object) = state.objects.get_mut(key) {
            let mut bytes = object.bytes.to_vec();
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= 1;
            }
            object.bytes = bytes.into();
        }
    }

    /// Runs one call under the mutex, with the fault that is due for it.
    fn call<T>(
        &self,
        verb: Verb,
        key: &str,
        act: impl FnOnce(&mut State, Option<Fault>) -> Result<T, ObjectError>,
    ) -> Result<T, ObjectError> {
        let attempt = self.attempt(verb, key);
        let hook = self.hook.lock().clone();
        if let Some(hook) = hook {
            hook(verb);
        }
        let mut state = self.state.lock();
        *state.calls.entry(verb).or_default() += 1;
        if state.is_unreachable {
            return Err(ObjectError::Unreachable {
                attempt,
                cause: "switched off".into(),
            });
        }
        let fault = state.faults.get_mut(&verb).and_then(VecDeque::pop_front);
        let unknown = |cause: &str| ObjectError::Unknown {
            attempt: attempt.clone(),
            cause: cause.to_owned(),
        };
        match fault {
            None | Some(Fault::TruncatedBody | Fault::PreconditionFailed | Fault::Ignored) => {
                act(&mut state, fault)
            }
            Some(Fault::LostResponse) => {
                if verb.writes() {
                    act(&mut state, None)?;
                }
                Err(unknown("connection reset"))
            }
            Some(Fault::ServerError) => Err(unknown("500")),
            Some(Fault::Unreachable) => Err(ObjectError::Unreachable {
                attempt,
                cause: "connection refused".into(),
            }),
            Some(Fault::Throttled) => Err(ObjectError::Throttled {
                attempt,
                cause: "503 SlowDown".into(),
            }),
            Some(Fault::Conflict) => Err(ObjectError::Conflict {
                attempt,
                cause: "409".into(),
            }),
            Some(Fault::AccessDenied) => Err(ObjectError::AccessDenied {
                attempt,
                cause: "403".into(),
            }),
            Some(Fault::BucketMissing) => Err(ObjectError::BucketMissing { attempt }),
            Some(Fault::Refused(refusal)) => Err(ObjectError::Refused {
                attempt,
                refusal,
                cause: "injected".into(),
            }),
        }
    }

    fn attempt(&self, verb: Verb, key: &str) -> Attempt {
        Attempt {
            verb: verb.as_str(),
            key: key.to_owned(),
            place: self.place(),
        }
    }

    fn write(
        &self,
        verb: Verb,
        key: &str,
        upload: &Upload,
        may: impl FnOnce(Option<&Object>) -> bool,
    ) -> Result<PutOutcome, ObjectError> {
        let attempt = self.attempt(verb, key);
        // Read before the mutex: a source may be slow.
        let bytes = read_all(upload.source.as_ref()).map_err(|error| ObjectError::Source {
            attempt: attempt.clone(),
            cause: error.to_string(),
        })?;
        self.call(verb, key, move |state, fault| {
            if fault == Some(Fault::PreconditionFailed) {
                return Ok(PutOutcome::PreconditionFailed);
            }
            if crc64nvme(&bytes) != upload.crc64nvme {
                return Err(ObjectError::Corrupt {
                    attempt,
                    cause: "body does not match the checksum sent".into(),
                });
            }
            if !state.ignores_preconditions && !may(state.objects.get(key)) {
                return Ok(PutOutcome::PreconditionFailed);
            }
            state.writes += 1;
            let etag = format!("\"{:x}\"", state.writes);
            let keeps = !state.forgets_checksums;
            let kept = if fault == Some(Fault::TruncatedBody) {
                bytes.slice(..bytes.len().saturating_sub(1))
            } else {
                bytes
            };
            let meta = ObjectMeta {
                size_bytes: kept.len() as u64,
                etag: etag.clone(),
                crc64nvme: keeps.then_some(upload.crc64nvme),
                put_id: keeps.then(|| upload.put_id.clone()),
            };
            state
                .objects
                .insert(key.to_owned(), Object { meta, bytes: kept });
            Ok(PutOutcome::Created { etag })
        })
    }
}

impl ObjectStore for MemoryStore {
    fn place(&self) -> String {
        "memory".into()
    }

    fn put_if_absent(&self, key: &str, upload: &Upload) -> Result<PutOutcome, ObjectError> {
        self.write(Verb::PutIfAbsent, key, upload, |there| there.is_none())
    }

    fn put_if_match(
        &self,
        key: &str,
        upload: &Upload,
        etag: &str,
    ) -> Result<PutOutcome, ObjectError> {
        self.write(Verb::PutIfMatch, key, upload, |there| {
            there.is_some_and(|object| object.meta.etag == etag)
        })
    }

    fn put(&self, key: &str, upload: &Upload) -> Result<String, ObjectError> {
        match self.write(Verb::Put, key, upload, |_| true)? {
            PutOutcome::Created { etag } => Ok(etag),
            PutOutcome::PreconditionFailed => Err(ObjectError::Refused {
                attempt: self.attempt(Verb::Put, key),
                refusal: Refusal::Other,
                cause: "412 without a precondition".into(),
            }),
        }
    }

    fn get_within(&self, key: &str, max_bytes: u64) -> Result<Option<Object>, ObjectError> {
        let attempt = self.attempt(Verb::Get, key);
        self.call(Verb::Get, key, |state, fault| {
            let Some(mut object) = state.objects.get(key).cloned() else {
                return Ok(None);
            };
            if object.meta.size_bytes > max_bytes {
                let size_bytes = Some(object.meta.size_bytes);
                return Err(super::bounds::too_large(attempt, size_bytes, max_bytes));
            }
            if fault == Some(Fault::TruncatedBody) {
                object.bytes.truncate(object.bytes.len().saturating_sub(1));
            }
            if object
                .meta
                .crc64nvme
                .is_some_and(|crc| crc != crc64nvme(&object.bytes))
            {
                return Err(ObjectError::Corrupt {
                    attempt,
                    cause: "body does not match its checksum".into(),
                });
            }
            Ok(Some(object))
        })
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, ObjectError> {
        let attempt = self.attempt(Verb::GetRange, key);
        self.call(Verb::GetRange, key, |state, fault| {
            let Some(object) = state.objects.get(key) else {
                return Ok(None);
            };
            let range = offset as usize..(offset + length) as usize;
            match object.bytes.get(range.clone()) {
                Some(_) if fault.is_none() => Ok(Some(object.bytes.slice(range))),
                _ => Err(ObjectError::Corrupt {
                    attempt,
                    cause: format!("range {offset}+{length} of {} bytes", object.bytes.len()),
                }),
            }
        })
    }

    fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectError> {
        self.call(Verb::Head, key, |state, _| {
            Ok(state.objects.get(key).map(|object| object.meta.clone()))
        })
    }

    fn class(&self, key: &str) -> Result<Option<String>, ObjectError> {
        self.call(Verb::Head, key, |state, _| {
            Ok(state.classes.get(key).cloned())
        })
    }

    /// Counts as many calls as S3 would need for it.
    fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<String>, ObjectError> {
        self.call(Verb::List, prefix, |state, _| {
            let keys = state.keys_from(prefix, start_after);
            let pages_behind = keys.len().saturating_sub(1) / PAGE_KEYS;
            *state.calls.entry(Verb::List).or_default() += pages_behind as u64;
            Ok(keys)
        })
    }

    fn list_page(&self, prefix: &str, start_after: Option<&str>) -> Result<Page, ObjectError> {
        self.call(Verb::List, prefix, |state, _| {
            Ok(page_of(state.keys_from(prefix, start_after)))
        })
    }

    /// `PreconditionFailed` turns the page around, `TruncatedBody` ends it before its last object, and `Ignored` answers nothing of it,
    /// each as a page behind which nothing comes.
    fn list_objects(
        &self,
        prefix: &str,
        start_after: Option<&str>,
    ) -> Result<ListedPage, ObjectError> {
        self.call(Verb::List, prefix, |state, fault| {
            let Page { keys, is_last } = page_of(state.keys_from(prefix, start_after));
            let listed = keys.into_iter().filter_map(|key| {
                let meta = &state.objects.get(&key)?.meta;
                let modified = state.modified_unix_nanos.get(&key).copied();
                Some(Listed {
                    size_bytes: meta.size_bytes,
                    etag: meta.etag.clone(),
                    modified_unix_nanos: modified.unwrap_or(Some(0)),
                    key,
                })
            });
            let mut objects: Vec<Listed> = listed.collect();
            match fault {
                Some(Fault::PreconditionFailed) => objects.reverse(),
                Some(Fault::TruncatedBody) => _ = objects.pop(),
                Some(Fault::Ignored) => objects.clear(),
                _ => {}
            }
            Ok(ListedPage { objects, is_last })
        })
    }

    fn checks_what_it_receives(&self) -> bool {
        !self.state.lock().takes_damaged_bodies
    }

    fn delete(&self, key: &str) -> Result<Removal, ObjectError> {
        self.call(Verb::Delete, key, |state, fault| {
            if fault == Some(Fault::Ignored) {
                return Ok(Removal::Removed);
            }
            let is_kept = state.keeps_versions;
            Ok(match state.objects.remove(key) {
                None => Removal::Missing,
                Some(_) if is_kept => Removal::KeptAsVersion,
                Some(_) => Removal::Removed,
            })
        })
    }
}
