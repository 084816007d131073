//! The streams of a volume by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Stream;
use crate::io::sync::RwLock;

/// All streams of this volume, and names whose first append is under way.
#[derive(Default)]
pub(crate) struct Streams {
    by_name: RwLock<BTreeMap<String, Arc<Stream>>>,
}

impl Streams {
    pub fn get(&self, name: &str) -> Option<Arc<Stream>> {
        self.by_name.read().get(name).cloned()
    }

    pub fn get_or_insert(&self, name: &str, make: impl FnOnce() -> Arc<Stream>) -> Arc<Stream> {
        if let Some(stream) = self.get(name) {
            return stream;
        }
        self.by_name
            .write()
            .entry(name.to_owned())
            .or_insert_with(make)
            .clone()
    }

    pub fn insert(&self, stream: Arc<Stream>) {
        self.by_name.write().insert(stream.name.to_string(), stream);
    }

    /// Takes a name back whose first append failed.
    pub fn remove(&self, stream: &Arc<Stream>) {
        let mut by_name = self.by_name.write();
        if by_name
            .get(stream.name.as_str())
            .is_some_and(|found| Arc::ptr_eq(found, stream))
        {
            by_name.remove(stream.name.as_str());
        }
    }

    pub fn len(&self) -> usize {
        self.by_name.read().len()
    }

    /// Also those that do not exist yet.
    pub fn everything(&self) -> Vec<Arc<Stream>> {
        self.by_name.read().values().cloned().collect()
    }

    /// Ordered by name.
    pub fn existing(&self) -> Vec<Arc<Stream>> {
        self.by_name
            .read()
            .values()
            .filter(|stream| stream.exists())
            .cloned()
            .collect()
    }

    pub fn existing_named(&self, name: &str) -> Option<Arc<Stream>> {
        self.get(name).filter(|stream| stream.exists())
    }
}
