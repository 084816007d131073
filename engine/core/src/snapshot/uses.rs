//! Who reads a snapshot in this process, and who is about to delete it: one excludes the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aof2_format::snapshot::SnapshotId;

use crate::io::sync::Mutex;

type Key = (Arc<str>, SnapshotId);

#[derive(Default)]
pub(super) struct Uses {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    reading: BTreeMap<Key, usize>,
    deleting: BTreeSet<Key>,
}

/// It is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    Deleted,
}

/// Somebody reads the snapshot, as long as this lives.
pub struct Reading {
    uses: Arc<Uses>,
    key: Key,
}

/// Somebody is about to delete the snapshot, as long as this lives.
pub(crate) struct Deleting {
    uses: Arc<Uses>,
    key: Key,
}

impl Uses {
    pub fn read(self: &Arc<Self>, stream: &str, id: SnapshotId) -> Result<Reading, Use> {
        let key: Key = (stream.into(), id);
        let mut held = self.held.lock();
        if held.deleting.contains(&key) {
            return Err(Use::Deleted);
        }
        *held.reading.entry(key.clone()).or_default() += 1;
        let uses = self.clone();
        Ok(Reading { uses, key })
    }

    pub fn delete(self: &Arc<Self>, stream: &str, id: SnapshotId) -> Result<Deleting, Use> {
        let key: Key = (stream.into(), id);
        let mut held = self.held.lock();
        if held.reading.contains_key(&key) {
            return Err(Use::Read);
        }
        if !held.deleting.insert(key.clone()) {
            return Err(Use::Deleted);
        }
        let uses = self.clone();
        Ok(Deleting { uses, key })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let reading = &mut self.uses.held.lock().reading;
        if let Some(count) = reading.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                reading.remove(&self.key);
            }
        }
    }
}

impl Drop for Deleting {
    fn drop(&mut self) {
        self.uses.held.lock().deleting.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_not_deleted_and_what_is_being_deleted_is_not_read() {
        let uses = Arc::new(Uses::default());
        let (id, other) = (SnapshotId::new(1, 1), SnapshotId::new(1, 2));
        let first = uses.read("a", id).expect("free");
        let second = uses.read("a", id).expect("many may read");
        assert_eq!(uses.delete("a", id).err(), Some(Use::Read));
        drop(first);
        assert_eq!(uses.delete("a", id).err(), Some(Use::Read));
        assert!(uses.delete("a", other).is_ok() && uses.delete("b", id).is_ok());
        drop(second);
        let deleting = uses.delete("a", id).expect("free");
        assert_eq!(uses.read("a", id).err(), Some(Use::Deleted));
        assert_eq!(uses.delete("a", id).err(), Some(Use::Deleted));
        drop(deleting);
        assert!(uses.read("a", id).is_ok());
    }
}
