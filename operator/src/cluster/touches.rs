//! Which clusters something happened to since they were read. Watches count; a look compares.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;

/// Namespace and name.
type Key = (String, String);

/// What was counted until a read began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Nothing that a watch missed can be told.
    all: u64,
    cluster: u64,
    /// Of the other clusters of the namespace.
    neighbours: u64,
}

impl Mark {
    /// Nothing happened in between that a cluster would have to be read again for; its neighbours count only for who reads them.
    pub fn is_same(self, other: Self, reads_neighbours: bool) -> bool {
        let neighbours = !reads_neighbours || self.neighbours == other.neighbours;
        (self.all, self.cluster) == (other.all, other.cluster) && neighbours
    }
}

#[derive(Default)]
struct State {
    all: u64,
    clusters: HashMap<Key, Of>,
    namespaces: HashMap<String, u64>,
    /// By the object's namespace and name: names of the clusters that read it though nothing on it names them.
    readers: HashMap<Key, BTreeSet<String>>,
}

#[derive(Default)]
struct Of {
    count: u64,
    reads: BTreeSet<String>,
}

#[derive(Default)]
pub struct Touches(Mutex<State>);

impl Touches {
    /// Taken before a read: what happens from now on shows.
    pub fn mark(&self, namespace: &str, name: &str) -> Mark {
        let mut state = self.0.lock();
        let key = (namespace.to_owned(), name.to_owned());
        Mark {
            cluster: state.clusters.entry(key).or_default().count,
            neighbours: state.namespaces.get(namespace).copied().unwrap_or_default(),
            all: state.all,
        }
    }

    /// Something of a cluster changed. Of one that was never read nothing is kept.
    pub fn touch(&self, namespace: &str, name: &str) {
        let mut state = self.0.lock();
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(of) = state.clusters.get_mut(&key) {
            of.count += 1;
        }
    }

    /// A cluster itself changed.
    pub fn touch_cluster(&self, namespace: &str, name: &str) {
        self.touch(namespace, name);
        let mut state = self.0.lock();
        *state.namespaces.entry(namespace.to_owned()).or_default() += 1;
    }

    /// Something changed that every cluster of the namespace reads; their names.
    pub fn touch_namespace(&self, namespace: &str) -> Vec<String> {
        let mut state = self.0.lock();
        let there = state.clusters.iter_mut();
        there
            .filter(|(key, _)| key.0 == namespace)
            .map(|(key, of)| {
                of.count += 1;
                key.1.clone()
            })
            .collect()
    }

    /// A watch was interrupted, or began again with a list: what happened meanwhile is not known.
    pub fn touch_all(&self) {
        self.0.lock().all += 1;
    }

    /// The objects that a cluster reads by their names. True: one of them is new, and what happened to it until now was not counted.
    pub fn follow(&self, namespace: &str, name: &str, reads: BTreeSet<String>) -> bool {
        let state = &mut *self.0.lock();
        let key = (namespace.to_owned(), name.to_owned());
        let of = state.clusters.entry(key).or_default();
        let before = std::mem::replace(&mut of.reads, reads);
        for gone in before.difference(&of.reads) {
            leave(&mut state.readers, namespace, gone, name);
        }
        for new in of.reads.difference(&before) {
            let object = (namespace.to_owned(), new.clone());
            let readers = state.readers.entry(object).or_default();
            readers.insert(name.to_owned());
        }
        !of.reads.is_subset(&before)
    }

    /// Clusters that read the object by its name.
    pub fn readers(&self, namespace: &str, object: &str) -> Vec<String> {
        let state = self.0.lock();
        let key = (namespace.to_owned(), object.to_owned());
        state
            .readers
            .get(&key)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    pub fn forget(&self, namespace: &str, name: &str) {
        let state = &mut *self.0.lock();
        let key = (namespace.to_owned(), name.to_owned());
        let gone = state.clusters.remove(&key);
        for object in gone.into_iter().flat_map(|of| of.reads) {
            leave(&mut state.readers, namespace, &object, name);
        }
    }
}

fn leave(
    readers: &mut HashMap<Key, BTreeSet<String>>,
    namespace: &str,
    object: &str,
    cluster: &str,
) {
    let key = (namespace.to_owned(), object.to_owned());
    if let Some(of_object) = readers.get_mut(&key) {
        of_object.remove(cluster);
        if of_object.is_empty() {
            readers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_since_a_read_shows_and_nothing_else_does() {
        let touches = Touches::default();
        let now = || touches.mark("shop", "orders");
        let mark = now();
        touches.touch("shop", "carts");
        touches.touch_cluster("shop", "carts");
        assert!(mark.is_same(now(), false), "another cluster");
        assert!(!mark.is_same(now(), true), "whose Secrets it looks at");
        touches.touch_namespace("store");
        assert!(mark.is_same(now(), false), "another namespace");
        assert_eq!(touches.touch_namespace("shop"), ["orders"]);
        assert!(!mark.is_same(now(), false), "its namespace");
        let mark = now();
        touches.touch("shop", "orders");
        assert!(!mark.is_same(now(), false), "its own");
        let mark = now();
        touches.touch_all();
        assert!(!mark.is_same(now(), false), "a watch that was interrupted");
    }

    #[test]
    fn an_object_has_the_readers_that_named_it_last() {
        let touches = Touches::default();
        let reads = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert!(touches.follow("shop", "orders", reads(&["config", "claim"])));
        assert!(!touches.follow("shop", "orders", reads(&["config"])));
        touches.follow("shop", "carts", reads(&["config"]));
        assert_eq!(touches.readers("shop", "config"), ["carts", "orders"]);
        assert_eq!(touches.readers("shop", "claim"), [""; 0]);
        assert_eq!(touches.readers("store", "config"), [""; 0]);
        touches.forget("shop", "orders");
        assert_eq!(touches.readers("shop", "config"), ["carts"]);
        touches.forget("shop", "carts");
        assert!(touches.0.lock().readers.is_empty(), "nothing stays");
    }
}
