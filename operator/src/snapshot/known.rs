//! Every snapshot of the scope, a few hundred bytes each, by the cluster that it is of. Filled by one watch, which both controllers share.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::BY_HAND;
use super::seen::{Entry, Seen};

/// A cluster that snapshots name, whether it exists or not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClusterKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ClusterKey {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub cluster: ClusterKey,
    pub name: Arc<str>,
}

struct Kept {
    entry: Entry,
    /// The list in which it was seen last.
    list: u32,
}

#[derive(Default)]
struct State {
    clusters: HashMap<ClusterKey, HashMap<Arc<str>, Kept>>,
    /// Texts that many entries share.
    texts: HashSet<Arc<str>>,
    /// Counts lists: what the newest one does not name is gone.
    list: u32,
    is_synced: bool,
    /// Who is told which cluster has other snapshots now.
    listeners: Vec<UnboundedSender<ClusterKey>>,
}

#[derive(Default)]
pub struct Known(Mutex<State>);

impl Known {
    /// As after a first list of nothing.
    #[cfg(test)]
    pub fn without_any() -> Self {
        let known = Self::default();
        known.take(Event::Init);
        known.take(Event::InitDone);
        known
    }

    /// Clusters whose snapshots changed.
    pub fn changes(&self) -> UnboundedReceiver<ClusterKey> {
        let (sender, receiver) = unbounded_channel();
        self.0.lock().listeners.push(sender);
        receiver
    }

    /// Takes an event of the watch. A first list tells of each cluster once, at its end.
    pub fn take(&self, event: Event<Seen>) {
        let mut state = self.0.lock();
        match event {
            Event::Init => state.list = state.list.wrapping_add(1),
            Event::InitApply(seen) => {
                state.put(seen);
            }
            Event::Apply(seen) => {
                let key = state.put(seen);
                state.tell(&key);
            }
            Event::Delete(seen) => {
                let key = ClusterKey::new(&seen.namespace().unwrap_or_default(), &seen.cluster);
                if let Some(of_cluster) = state.clusters.get_mut(&key) {
                    of_cluster.remove(seen.name_any().as_str());
                }
                state.tell(&key);
                state.clean();
            }
            Event::InitDone => {
                let list = state.list;
                for of_cluster in state.clusters.values_mut() {
                    of_cluster.retain(|_, kept| kept.list == list);
                }
                let keys: Vec<ClusterKey> = state.clusters.keys().cloned().collect();
                for key in keys {
                    state.tell(&key);
                }
                state.clean();
                state.is_synced = true;
            }
        }
    }

    /// Before it nothing can be said about what is not there.
    pub fn is_synced(&self) -> bool {
        self.0.lock().is_synced
    }

    /// Of one cluster, in the order of their names. `None`: they have not been listed yet.
    pub fn of(&self, cluster: &ClusterKey) -> Option<Vec<(Arc<str>, Entry)>> {
        let state = self.0.lock();
        if !state.is_synced {
            return None;
        }
        let of_cluster = state.clusters.get(cluster).into_iter().flatten();
        let mut found: Vec<_> = of_cluster
            .map(|(name, kept)| (name.clone(), kept.entry.clone()))
            .collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        Some(found)
    }

    /// Those of a cluster that somebody has to look at.
    pub fn interesting(&self, cluster: &ClusterKey, now: Timestamp) -> Vec<(Key, Entry)> {
        let state = self.0.lock();
        let Some(of_cluster) = state.clusters.get(cluster) else {
            return Vec::new();
        };
        let mut newest: HashMap<&str, &str> = HashMap::new();
        for (name, kept) in of_cluster {
            if let (Some(true), Some(schedule)) = (kept.entry.succeeded, &kept.entry.schedule) {
                let newest = newest.entry(schedule).or_insert(name);
                *newest = (*newest).max(name);
            }
        }
        of_cluster
            .iter()
            .filter(|(name, kept)| {
                let schedule = kept.entry.schedule.as_deref();
                let newest = schedule.and_then(|schedule| newest.get(schedule).copied());
                is_interesting(
                    &kept.entry,
                    newest.is_none_or(|newest| newest == &***name),
                    now,
                )
            })
            .map(|(name, kept)| {
                let key = Key {
                    cluster: cluster.clone(),
                    name: name.clone(),
                };
                (key, kept.entry.clone())
            })
            .collect()
    }

    /// Uids of all that somebody has to look at.
    pub fn wanted(&self, now: Timestamp) -> HashSet<Box<str>> {
        let clusters: Vec<ClusterKey> = self.0.lock().clusters.keys().cloned().collect();
        let of_each = clusters.iter().flat_map(|key| self.interesting(key, now));
        of_each.map(|(_, entry)| entry.uid).collect()
    }

    /// The snapshot, if somebody has to look at it.
    pub fn get(&self, key: &Key, now: Timestamp) -> Option<Entry> {
        let state = self.0.lock();
        let of_cluster = state.clusters.get(&key.cluster)?;
        let entry = &of_cluster.get(&key.name)?.entry;
        let is_newest = entry.schedule.is_none()
            || !of_cluster.iter().any(|(name, kept)| {
                kept.entry.succeeded == Some(true)
                    && kept.entry.schedule == entry.schedule
                    && *name > key.name
            });
        is_interesting(entry, is_newest, now).then(|| entry.clone())
    }
}

impl State {
    fn put(&mut self, seen: Seen) -> ClusterKey {
        let namespace = seen.namespace().unwrap_or_default();
        let name: Arc<str> = seen.name_any().into();
        let key = ClusterKey {
            namespace: self.shared(&namespace),
            name: self.shared(&seen.cluster),
        };
        let mut entry = seen.entry;
        entry.cluster_id = self.shared(&entry.cluster_id);
        entry.schedule = entry.schedule.map(|schedule| self.shared(&schedule));
        let list = self.list;
        let of_cluster = self.clusters.entry(key.clone()).or_default();
        of_cluster.insert(name, Kept { entry, list });
        key
    }

    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.texts.insert(text.clone());
        text
    }

    fn tell(&mut self, key: &ClusterKey) {
        self.listeners
            .retain(|listener| listener.send(key.clone()).is_ok());
    }

    fn clean(&mut self) {
        self.clusters.retain(|_, of_cluster| !of_cluster.is_empty());
        self.texts.retain(|text| Arc::strong_count(text) > 1);
    }
}

/// What is under way, or is being deleted with its catalogues; the newest that succeeded of each schedule; and those made by hand in the
/// last days.
fn is_interesting(entry: &Entry, is_newest: bool, now: Timestamp) -> bool {
    if entry.is_leaving {
        return true;
    }
    match (entry.succeeded, &entry.schedule) {
        (None, _) => true,
        (Some(false), _) => false,
        (Some(true), None) => now.duration_since(entry.created_at) < BY_HAND,
        (Some(true), Some(_)) => is_newest,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(name: &str, schedule: Option<&str>, succeeded: Option<bool>) -> Seen {
        let value = |is: bool| if is { "True" } else { "False" };
        let conditions = succeeded.map(|is| {
            json!([
                {"type": "Succeeded", "status": value(is), "reason": "r", "message": "m", "lastTransitionTime": "2026-09-21T10:00:00Z"},
                {"type": "Verified", "status": "False", "reason": "Damaged", "message": "bad", "lastTransitionTime": "2026-09-21T10:00:00Z"},
            ])
        });
        let labels = schedule.map(|schedule| json!({"aof2.dev/schedule": schedule}));
        serde_json::from_value(json!({
            "apiVersion": "aof2.dev/v1alpha1", "kind": "Aof2Snapshot",
            "metadata": {
                "name": name, "namespace": "shop", "uid": format!("uid of {name}"), "resourceVersion": "7",
                "creationTimestamp": "2026-09-21T10:00:00Z", "labels": labels,
            },
            "spec": {"clusterRef": {"name": "orders"}, "verify": "L0", "streams": ["one"]},
            "status": conditions.map(|conditions| json!({
                "clusterID": "c", "conditions": conditions,
                "streams": [{"name": "one", "pod": "orders-0"}],
                "timing": {"completedAt": "2026-09-21T10:00:05Z", "verifiedAt": "2026-09-21T10:01:00Z"},
            })),
        }))
        .expect("an object")
    }

    fn names(known: &Known) -> Vec<String> {
        let orders = ClusterKey::new("shop", "orders");
        let all = known.of(&orders).expect("listed");
        all.iter().map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn a_list_after_a_gap_takes_away_what_it_does_not_name() {
        let known = Known::default();
        let orders = ClusterKey::new("shop", "orders");
        known.take(Event::Init);
        known.take(Event::InitApply(seen("a", None, None)));
        known.take(Event::InitApply(seen("b", None, None)));
        assert_eq!(known.of(&orders), None, "half a list says nothing");
        known.take(Event::InitDone);
        assert_eq!(names(&known), ["a", "b"]);
        let mut told = known.changes();
        // The watch was away: b went, c came.
        known.take(Event::Init);
        known.take(Event::InitApply(seen("a", None, None)));
        known.take(Event::InitApply(seen("c", None, None)));
        assert!(told.try_recv().is_err(), "not before its end");
        known.take(Event::InitDone);
        assert_eq!(names(&known), ["a", "c"]);
        assert_eq!(told.try_recv().ok(), Some(orders));
        known.take(Event::Delete(seen("a", None, None)));
        known.take(Event::Delete(seen("c", None, None)));
        assert_eq!(names(&known), [""; 0]);
        let state = known.0.lock();
        assert!(
            state.clusters.is_empty() && state.texts.is_empty(),
            "nothing stays"
        );
    }

    #[test]
    fn what_is_kept_says_as_much_as_the_object() {
        let known = Known::without_any();
        known.take(Event::Apply(seen("a", Some("catalog"), Some(true))));
        let (_, entry) = known
            .of(&ClusterKey::new("shop", "orders"))
            .unwrap()
            .remove(0);
        assert_eq!((&*entry.uid, &*entry.cluster_id), ("uid of a", "c"));
        assert_eq!((entry.succeeded, entry.verified), (Some(true), Some(false)));
        assert_eq!((&*entry.message, entry.takes_all), ("bad", false));
        assert_eq!(entry.level.as_str(), "L0");
        let at = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
        assert_eq!(at(entry.completed_at), "2026-09-21T10:00:05Z");
        assert_eq!(at(entry.verified_at), "2026-09-21T10:01:00Z");
    }

    #[test]
    fn one_that_is_deleted_is_looked_at_while_its_catalogues_go() {
        let leaving = |finalizer: &str| {
            let object = json!({
                "apiVersion": "aof2.dev/v1alpha1", "kind": "Aof2Snapshot",
                "metadata": {
                    "name": "old", "namespace": "shop", "deletionTimestamp": "2026-09-21T11:00:00Z", "finalizers": [finalizer],
                },
                "spec": {"clusterRef": {"name": "orders"}},
                "status": {"conditions": [{"type": "Succeeded", "status": "False", "reason": "r", "message": "m"}]},
            });
            let known = Known::without_any();
            known.take(Event::Apply(
                serde_json::from_value(object).expect("an object"),
            ));
            let now = "2026-10-22T10:00:00Z".parse().unwrap();
            known
                .interesting(&ClusterKey::new("shop", "orders"), now)
                .len()
        };
        assert_eq!(leaving("aof2.dev/snapshot-catalogues"), 1);
        assert_eq!(leaving("example.com/other"), 0);
    }

    #[test]
    fn of_thousands_only_a_few_are_looked_at() {
        let known = Known::without_any();
        for n in 0..48 {
            let name = format!("orders-catalog-202609{n:02}");
            known.take(Event::Apply(seen(&name, Some("catalog"), Some(true))));
        }
        known.take(Event::Apply(seen("failed", Some("catalog"), Some(false))));
        known.take(Event::Apply(seen("runs", Some("catalog"), None)));
        known.take(Event::Apply(seen("by-hand", None, Some(true))));
        let orders = ClusterKey::new("shop", "orders");
        let looked_at = |now: &str| {
            let now = now.parse().unwrap();
            let all = known.interesting(&orders, now);
            let mut names: Vec<String> = all.iter().map(|(key, _)| key.name.to_string()).collect();
            assert!(all.iter().all(|(key, _)| known.get(key, now).is_some()));
            assert_eq!(known.wanted(now).len(), names.len());
            names.sort();
            names
        };
        let newest = "orders-catalog-20260947";
        let soon = looked_at("2026-09-22T10:00:00Z");
        assert_eq!(soon, ["by-hand", newest, "runs"]);
        assert_eq!(looked_at("2026-10-22T10:00:00Z"), [newest, "runs"]);
        let older = Key {
            cluster: orders.clone(),
            name: "orders-catalog-20260946".into(),
        };
        assert_eq!(
            known.get(&older, "2026-09-22T10:00:00Z".parse().unwrap()),
            None
        );
    }
}
