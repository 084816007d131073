//! The online observer of the safety invariant: the operator removes a serving pod only with an unexpired drain token, and only
//! while every other pod of the cluster serves.
//!
//! It watches pods and clusters beside the operator, learns from the audit log who removed what, and reads in the engines' logs which
//! tokens they gave and that everything was uploaded then, so that nothing the operator says about itself can excuse it. `judge` is
//! pure.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use aof2_crds::Aof2Cluster;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use kube::runtime::watcher::{self, Event};
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::audit::AuditLog;
use crate::pods;

/// A watch tells a little later than the API server decides.
const WATCH_LAG: SignedDuration = SignedDuration::from_millis(1500);

/// One pod from its first sight to its end.
#[derive(Clone, Debug)]
pub struct Life {
    pub cluster: String,
    pub pod: String,
    pub uid: String,
    pub first_seen: Timestamp,
    /// When it began (true) or ceased (false) to serve.
    pub serving: Vec<(Timestamp, bool)>,
}

impl Life {
    fn served_at(&self, at: Timestamp) -> bool {
        self.serving
            .iter()
            .rev()
            .find(|(since, _)| *since < at)
            .is_some_and(|(_, serving)| *serving)
    }
}

/// A drain token that the operator wrote into status.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    pub uid: String,
    pub token: String,
    pub expires_at: Timestamp,
    pub seen_at: Timestamp,
}

/// What an engine wrote into its log when it was drained. Counts of records over all its streams.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drained {
    pub uid: String,
    pub token: String,
    pub acked: u64,
    pub sealed_uploaded: u64,
}

/// A pod that the operator took away, from the audit log.
#[derive(Clone, Debug)]
pub struct Removal {
    pub pod: String,
    pub at: Timestamp,
}

/// What the observer found when it ended.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub removals: Vec<Removal>,
    /// One sentence each.
    pub violations: Vec<String>,
}

/// Each removal that was not allowed, as a sentence.
pub fn judge(
    removals: &[Removal],
    lives: &[Life],
    tokens: &[Token],
    drained: &[Drained],
) -> Vec<String> {
    let mut violations = Vec::new();
    for Removal { pod, at } in removals {
        let Some(life) = latest(lives, pod, *at) else {
            violations.push(format!(
                "{pod} was removed at {at} and the observer had never seen it"
            ));
            continue;
        };
        if !life.served_at(*at) {
            continue; // an engine that does not run needs no seal: its volume stays
        }
        let last = tokens
            .iter()
            .filter(|token| token.uid == life.uid && token.seen_at <= *at + WATCH_LAG)
            .max_by_key(|token| token.expires_at);
        let removed = format!("{pod} (uid {}) served and was removed at {at}", life.uid);
        violations.extend(match last {
            None => Some(format!("{removed} without a drain token")),
            Some(last) if last.expires_at <= *at => Some(format!(
                "{removed}, after its drain token expired at {}",
                last.expires_at
            )),
            Some(last) => doubt(last, drained).map(|doubt| format!("{removed}, {doubt}")),
        });
        let others: BTreeSet<&str> = lives
            .iter()
            .filter(|other| other.cluster == life.cluster && other.pod != *pod)
            .map(|other| other.pod.as_str())
            .collect();
        for other in others {
            if latest(lives, other, *at).is_some_and(|other| !other.served_at(*at)) {
                violations.push(format!(
                    "{pod} served and was removed at {at} while {other} did not serve"
                ));
            }
        }
    }
    violations
}

/// Why the engine's word does not bear out the token.
fn doubt(token: &Token, drained: &[Drained]) -> Option<String> {
    let Token { uid, token, .. } = token;
    let said = drained
        .iter()
        .find(|drained| drained.uid == *uid && drained.token == *token);
    match said {
        None => Some(format!(
            "and its engine never said that it was drained under {token}"
        )),
        Some(said) if said.sealed_uploaded < said.acked => Some(format!(
            "when {} of {} acknowledged records were uploaded",
            said.sealed_uploaded, said.acked
        )),
        Some(_) => None,
    }
}

fn most_down_at_once(lives: &[Life]) -> usize {
    let mut changes: Vec<(Timestamp, &str, bool)> = lives
        .iter()
        .flat_map(|life| {
            life.serving
                .iter()
                .map(|(at, serving)| (*at, life.pod.as_str(), *serving))
        })
        .collect();
    changes.sort_by_key(|(at, _, _)| *at);
    let pods: BTreeSet<&str> = lives.iter().map(|life| life.pod.as_str()).collect();
    let mut serving: BTreeSet<&str> = BTreeSet::new();
    let mut all_served = false;
    let mut most = 0;
    for (_, pod, serves) in changes {
        if serves {
            serving.insert(pod)
        } else {
            serving.remove(pod)
        };
        all_served |= serving.len() == pods.len();
        if all_served {
            most = most.max(pods.len() - serving.len());
        }
    }
    most
}

fn latest<'a>(lives: &'a [Life], pod: &str, at: Timestamp) -> Option<&'a Life> {
    lives
        .iter()
        .filter(|life| life.pod == pod && life.first_seen <= at)
        .max_by_key(|life| life.first_seen)
}

#[derive(Default)]
struct Record {
    lives: BTreeMap<String, Life>,
    tokens: BTreeSet<Token>,
    drained: BTreeSet<Drained>,
}

/// Watches until it is asked for its report.
pub struct Observer {
    record: Arc<Mutex<Record>>,
    namespace: String,
    audit: AuditLog,
    /// User name of the operator.
    identity: String,
    _watches: JoinSet<()>,
}

impl Observer {
    pub fn start(client: &kube::Client, namespace: &str, identity: &str, audit: AuditLog) -> Self {
        let record = Arc::new(Mutex::new(Record::default()));
        let mut watches = JoinSet::new();
        watches.spawn(watch_pods(
            Api::namespaced(client.clone(), namespace),
            Arc::clone(&record),
        ));
        watches.spawn(watch_clusters(
            Api::namespaced(client.clone(), namespace),
            Api::namespaced(client.clone(), namespace),
            Arc::clone(&record),
        ));
        Self {
            record,
            namespace: namespace.to_owned(),
            audit,
            identity: identity.to_owned(),
            _watches: watches,
        }
    }

    /// How many pods each name had so far.
    pub fn lives_per_pod(&self) -> BTreeMap<String, usize> {
        let mut lives: BTreeMap<String, usize> = BTreeMap::new();
        for life in self.lives() {
            *lives.entry(life.pod).or_default() += 1;
        }
        lives
    }

    /// The most pods that did not serve at one moment, after all had served once.
    pub fn most_down_at_once(&self) -> usize {
        most_down_at_once(&self.lives())
    }

    fn lives(&self) -> Vec<Life> {
        self.record
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .lives
            .values()
            .cloned()
            .collect()
    }

    pub fn report(&self) -> Result<Report> {
        let requests = self.audit.requests_in(&self.namespace)?;
        let removals: Vec<Removal> = requests
            .into_iter()
            .filter(|request| request.removes_a_pod() && request.user == self.identity)
            .map(|request| Removal {
                pod: request.name,
                at: request.at,
            })
            .collect();
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let lives: Vec<Life> = record.lives.values().cloned().collect();
        let tokens: Vec<Token> = record.tokens.iter().cloned().collect();
        let drained: Vec<Drained> = record.drained.iter().cloned().collect();
        let violations = judge(&removals, &lives, &tokens, &drained);
        Ok(Report {
            removals,
            violations,
        })
    }
}

async fn watch_pods(pods: Api<Pod>, record: Arc<Mutex<Record>>) {
    let config = watcher::Config::default().labels("aof2.dev/cluster");
    let mut events = pin!(watcher::watcher(pods, config));
    while let Some(event) = events.next().await {
        let now = Timestamp::now();
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        // Errors are retried by the watcher itself.
        match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                record.see(&pod, now, pods::serves(&pod))
            }
            Ok(Event::Delete(pod)) => record.see(&pod, now, false),
            Ok(Event::Init | Event::InitDone) | Err(_) => {}
        }
    }
}

/// Reads in the engine's log what it said of its drain. Once, when a token is in the status: the pod is there for as long as it takes to
/// end, and with every log followed kubelet, containerd and the API server were seen to take about a tenth more of the processor. What
/// cannot be read leaves the removal unexplained, which is then reported.
async fn read_log(pods: Api<Pod>, pod: String, uid: String, record: Arc<Mutex<Record>>) {
    let params = LogParams {
        container: Some(pods::ENGINE_CONTAINER.to_owned()),
        ..LogParams::default()
    };
    let log = pods.logs(&pod, &params).await.unwrap_or_default();
    let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
    record
        .drained
        .extend(log.lines().filter_map(|line| drained(&uid, line)));
}

/// From a line of an engine's log.
fn drained(uid: &str, line: &str) -> Option<Drained> {
    #[derive(Deserialize)]
    struct Line {
        message: String,
        token: String,
        acked: u64,
        sealed_uploaded: u64,
    }
    let line: Line = serde_json::from_str(line).ok()?;
    (line.message == "drain").then(|| Drained {
        uid: uid.to_owned(),
        token: line.token,
        acked: line.acked,
        sealed_uploaded: line.sealed_uploaded,
    })
}

async fn watch_clusters(clusters: Api<Aof2Cluster>, pods: Api<Pod>, record: Arc<Mutex<Record>>) {
    let mut logs = JoinSet::new();
    let mut events = pin!(watcher::watcher(clusters, watcher::Config::default()));
    while let Some(event) = events.next().await {
        if let Ok(Event::Apply(cluster) | Event::InitApply(cluster)) = event {
            let Some((pod, token)) = token(&cluster, Timestamp::now()) else {
                continue;
            };
            let uid = token.uid.clone();
            let is_new = {
                let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
                let known = |known: &Token| known.uid == uid && known.token == token.token;
                let is_new = !record.tokens.iter().any(known);
                record.tokens.insert(token);
                is_new
            };
            if is_new {
                logs.spawn(read_log(pods.clone(), pod, uid, Arc::clone(&record)));
            }
        }
    }
}

/// The token in status, and the name of its pod.
fn token(cluster: &Aof2Cluster, seen_at: Timestamp) -> Option<(String, Token)> {
    let pod = cluster.status.as_ref()?.rollout.as_ref()?.pod.as_ref()?;
    let expires_at = pod.drain_expires_at.as_ref()?.0;
    let token = Token {
        uid: pod.uid.clone(),
        token: pod.drain_token.clone(),
        expires_at,
        seen_at,
    };
    (!token.token.is_empty()).then(|| (pod.name.clone(), token))
}

impl Record {
    fn see(&mut self, pod: &Pod, now: Timestamp, serving: bool) {
        let cluster = pod
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get("aof2.dev/cluster"))
            .cloned()
            .unwrap_or_default();
        let uid = pods::uid(pod);
        let life = self.lives.entry(uid.clone()).or_insert_with(|| Life {
            cluster,
            pod: pods::name(pod),
            uid,
            first_seen: pod
                .metadata
                .creation_timestamp
                .as_ref()
                .map_or(now, |created| created.0),
            serving: Vec::new(),
        });
        if life.serving.last().is_none_or(|(_, last)| *last != serving) {
            life.serving.push((now, serving));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000 + seconds).unwrap()
    }

    fn life(pod: &str, uid: &str, serving: &[(i64, bool)]) -> Life {
        Life {
            cluster: "orders".into(),
            pod: pod.into(),
            uid: uid.into(),
            first_seen: second(0),
            serving: serving
                .iter()
                .map(|(at, serving)| (second(*at), *serving))
                .collect(),
        }
    }

    fn removal(pod: &str, at: i64) -> Removal {
        Removal {
            pod: pod.into(),
            at: second(at),
        }
    }

    fn token(uid: &str, seen_at: i64, expires_at: i64) -> Token {
        Token {
            uid: uid.into(),
            token: "t".into(),
            seen_at: second(seen_at),
            expires_at: second(expires_at),
        }
    }

    fn drained(uid: &str, acked: u64, sealed_uploaded: u64) -> Drained {
        Drained {
            uid: uid.into(),
            token: "t".into(),
            acked,
            sealed_uploaded,
        }
    }

    #[test]
    fn a_token_counts_when_the_engine_gave_it_with_everything_uploaded() {
        let lives = [life("orders-2", "u2", &[(1, true)])];
        let judged = |drained: &[Drained]| {
            judge(
                &[removal("orders-2", 10)],
                &lives,
                &[token("u2", 9, 60)],
                drained,
            )
        };
        assert!(judged(&[drained("u2", 7, 7)]).is_empty());
        let found = judged(&[drained("another", 7, 7)]);
        assert!(
            found.len() == 1 && found[0].contains("never said"),
            "{found:?}"
        );
        let found = judged(&[drained("u2", 7, 6)]);
        assert!(found.len() == 1 && found[0].contains("6 of 7"), "{found:?}");
    }

    #[test]
    fn the_word_of_an_engine_is_read_from_its_log() {
        let line = r#"{"timestamp":"2026-11-27T12:00:00Z","level":"INFO","message":"drain","from":"Closing","to":"Drained","token":"t","streams":2,"acked":7,"sealed":7,"sealed_uploaded":7,"target":"aof2_core::drain::driver"}"#;
        assert_eq!(super::drained("u2", line), Some(drained("u2", 7, 7)));
        let closing = r#"{"message":"drain","from":"Uploading","to":"Closing","reason":"None"}"#;
        assert_eq!(super::drained("u2", closing), None);
    }

    #[test]
    fn a_serving_pod_may_go_with_an_unexpired_token() {
        let lives = [
            life("orders-2", "u2", &[(1, true)]),
            life("orders-1", "u1", &[(1, true)]),
        ];
        assert_eq!(
            judge(
                &[removal("orders-2", 10)],
                &lives,
                &[token("u2", 9, 60)],
                &[drained("u2", 7, 7)]
            ),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_serving_pod_without_a_token_is_a_violation() {
        let lives = [life("orders-2", "u2", &[(1, true)])];
        let found = judge(
            &[removal("orders-2", 10)],
            &lives,
            &[token("another", 9, 60)],
            &[],
        );
        assert!(
            found.len() == 1 && found[0].contains("without a drain token"),
            "{found:?}"
        );
    }

    #[test]
    fn a_token_that_came_after_the_removal_does_not_count() {
        let lives = [life("orders-2", "u2", &[(1, true)])];
        assert_eq!(
            judge(
                &[removal("orders-2", 10)],
                &lives,
                &[token("u2", 20, 60)],
                &[drained("u2", 7, 7)]
            )
            .len(),
            1
        );
    }

    #[test]
    fn an_expired_token_is_a_violation() {
        let lives = [life("orders-2", "u2", &[(1, true)])];
        let found = judge(
            &[removal("orders-2", 70)],
            &lives,
            &[token("u2", 9, 60)],
            &[drained("u2", 7, 7)],
        );
        assert!(
            found.len() == 1 && found[0].contains("expired"),
            "{found:?}"
        );
    }

    #[test]
    fn a_pod_that_does_not_serve_needs_no_token() {
        let lives = [life("orders-2", "u2", &[(1, true), (5, false)])];
        assert!(judge(&[removal("orders-2", 10)], &lives, &[], &[]).is_empty());
    }

    #[test]
    fn a_second_pod_down_is_a_violation() {
        let lives = [
            life("orders-2", "u2", &[(1, true)]),
            life("orders-1", "u1", &[(1, true), (8, false)]),
        ];
        let found = judge(
            &[removal("orders-2", 10)],
            &lives,
            &[token("u2", 9, 60)],
            &[drained("u2", 7, 7)],
        );
        assert!(
            found.len() == 1 && found[0].contains("orders-1 did not serve"),
            "{found:?}"
        );
    }

    #[test]
    fn pods_that_are_down_together_are_counted_once_all_had_served() {
        let apart = [
            life("orders-1", "u1", &[(1, true), (5, false), (7, true)]),
            life("orders-2", "u2", &[(2, true), (8, false)]),
        ];
        assert_eq!(most_down_at_once(&apart), 1);
        let together = [
            life("orders-1", "u1", &[(1, true), (5, false), (9, true)]),
            life("orders-2", "u2", &[(2, true), (8, false)]),
        ];
        assert_eq!(most_down_at_once(&together), 2);
    }

    #[test]
    fn the_pod_that_came_after_is_not_taken_for_the_one_removed() {
        let mut successor = life("orders-2", "new", &[(15, true)]);
        successor.first_seen = second(12);
        let lives = [
            life("orders-2", "old", &[(1, true), (11, false)]),
            successor,
        ];
        let judged = |at| {
            judge(
                &[removal("orders-2", at)],
                &lives,
                &[token("old", 9, 60)],
                &[drained("old", 7, 7)],
            )
        };
        assert!(judged(10).is_empty());
        assert_eq!(judged(20).len(), 1);
    }
}
