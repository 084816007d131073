//! Tier 2 in memory, as one process reaches it: each request is a step at which the power may go, may take its time, and what is deleted
//! is looked at first.

use std::sync::Arc;
use std::time::Duration;

use aof2_core::io::{Clock, sync};
use aof2_core::objects::memory::MemoryStore;
use aof2_core::objects::{
    Attempt, ListedPage, Object, ObjectError, ObjectMeta, ObjectStore, Page, PutOutcome, Removal,
    Upload,
};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::disk::MemoryDisk;
use crate::power::Power;

pub struct Bucket {
    memory: Arc<MemoryStore>,
    disk: MemoryDisk,
    power: Arc<Power>,
    clock: Arc<dyn Clock>,
    /// That each request takes.
    latency: Mutex<Duration>,
    /// Keys that this process deleted, and when.
    deleted: Mutex<Vec<(String, i64)>>,
    /// Sent when the power went: they arrive later, or never.
    late: Mutex<Vec<Late>>,
}

/// A put that is on its way.
pub struct Late {
    key: String,
    upload: Upload,
}

impl Late {
    /// What the bucket makes of it is told to nobody. Answers the key.
    pub fn arrive(self, memory: &MemoryStore) -> String {
        let _ = memory.put_if_absent(&self.key, &self.upload);
        self.key
    }
}

impl Bucket {
    pub fn new(
        memory: Arc<MemoryStore>,
        disk: MemoryDisk,
        power: Arc<Power>,
        clock: Arc<dyn Clock>,
    ) -> Bucket {
        Bucket {
            memory,
            disk,
            power,
            clock,
            latency: Mutex::default(),
            deleted: Mutex::default(),
            late: Mutex::default(),
        }
    }

    pub fn take_late(&self) -> Vec<Late> {
        std::mem::take(&mut *self.late.lock())
    }

    pub fn set_latency(&self, latency: Duration) {
        *self.latency.lock() = latency;
    }

    pub fn take_deleted(&self) -> Vec<(String, i64)> {
        std::mem::take(&mut *self.deleted.lock())
    }

    /// Those that nobody has taken yet.
    pub fn peek_deleted(&self) -> Vec<(String, i64)> {
        self.deleted.lock().clone()
    }

    /// Before a request and after it: what the answer would have told is lost where the power goes in between.
    fn step(&self, verb: &'static str, key: &str) -> Result<(), ObjectError> {
        self.power.step(|| self.disk.volume());
        if self.power.is_out() {
            return Err(ObjectError::Unreachable {
                attempt: Attempt {
                    verb,
                    key: key.to_owned(),
                    place: self.place(),
                },
                cause: "the power is out".into(),
            });
        }
        Ok(())
    }

    fn call<T>(
        &self,
        verb: &'static str,
        key: &str,
        call: impl FnOnce(&MemoryStore) -> Result<T, ObjectError>,
    ) -> Result<T, ObjectError> {
        sync::pause();
        let latency = *self.latency.lock();
        if latency > Duration::ZERO {
            self.clock.sleep(latency);
        }
        self.step(verb, key)?;
        let answer = call(&self.memory);
        sync::pause();
        self.step(verb, key)?;
        answer
    }
}

impl ObjectStore for Bucket {
    fn place(&self) -> String {
        self.memory.place()
    }

    fn put_if_absent(&self, key: &str, upload: &Upload) -> Result<PutOutcome, ObjectError> {
        let was_out = self.power.is_out();
        let put = self.call("put", key, |memory| memory.put_if_absent(key, upload));
        if !was_out && self.power.is_out() {
            let (key, upload) = (key.to_owned(), upload.clone());
            self.late.lock().push(Late { key, upload });
        }
        put
    }

    fn put_if_match(
        &self,
        key: &str,
        upload: &Upload,
        etag: &str,
    ) -> Result<PutOutcome, ObjectError> {
        self.call("put", key, |memory| memory.put_if_match(key, upload, etag))
    }

    fn put(&self, key: &str, upload: &Upload) -> Result<String, ObjectError> {
        self.call("put", key, |memory| memory.put(key, upload))
    }

    fn get_within(&self, key: &str, max_bytes: u64) -> Result<Option<Object>, ObjectError> {
        self.call("get", key, |memory| memory.get_within(key, max_bytes))
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, ObjectError> {
        self.call("get", key, |memory| memory.get_range(key, offset, length))
    }

    fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectError> {
        self.call("head", key, |memory| memory.head(key))
    }

    fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<String>, ObjectError> {
        self.call("list", prefix, |memory| memory.list(prefix, start_after))
    }

    fn list_page(&self, prefix: &str, start_after: Option<&str>) -> Result<Page, ObjectError> {
        self.call("list", prefix, |memory| {
            memory.list_page(prefix, start_after)
        })
    }

    fn list_objects(
        &self,
        prefix: &str,
        start_after: Option<&str>,
    ) -> Result<ListedPage, ObjectError> {
        self.call("list", prefix, |memory| {
            memory.list_objects(prefix, start_after)
        })
    }

    fn checks_what_it_receives(&self) -> bool {
        self.memory.checks_what_it_receives()
    }

    fn delete(&self, key: &str) -> Result<Removal, ObjectError> {
        self.call("delete", key, |memory| {
            let now = self.clock.wall_unix_nanos();
            self.deleted.lock().push((key.to_owned(), now));
            memory.delete(key)
        })
    }
}
