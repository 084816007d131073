//! What no object's status says, Events do: the kubelet's words about volumes that it cannot mount, and those of the StatefulSet's
//! controller about pods that it may not create. Read only while a pod does not come up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    core::v1::{Pod, Volume},
    events::v1::Event,
};
use kube::ResourceExt;

use super::facts::{PodFacts, Trouble, TroubleKind};
use super::reader::Reader;
use crate::kube::CallError;
use crate::machine::quoted;

/// A node that prepares a pod for so long may have said what it lacks.
const SAID_AFTER: SignedDuration = SignedDuration::from_secs(10);
/// Pods of one cluster that are asked about in one look: the others lack the same.
const PODS: usize = 3;

/// Completes what status says of pods that wait for their volumes.
pub async fn explain_mounts(
    reader: &Reader<'_>,
    found: &[Pod],
    pods: &mut [PodFacts],
    now: Timestamp,
) {
    let waits = |pod: &&mut PodFacts| {
        let since = pod.creating_since.filter(|_| pod.deletion.is_none());
        since.is_some_and(|since| now.duration_since(since) >= SAID_AFTER)
    };
    for facts in pods.iter_mut().filter(waits).take(PODS) {
        let pod = found
            .iter()
            .find(|pod| pod.uid().as_deref() == Some(&facts.uid));
        let events = heard(reader.events_about(&facts.uid).await);
        if let Some(trouble) = pod.and_then(|pod| mount(pod, &events)) {
            facts.trouble = Some(trouble);
        }
    }
}

/// Why pods are missing, by their names.
pub async fn explain_missing(
    reader: &Reader<'_>,
    set: &str,
    missing: &[String],
) -> BTreeMap<String, String> {
    if missing.is_empty() {
        return BTreeMap::new();
    }
    let events = heard(reader.events_about(set).await);
    missing
        .iter()
        .filter_map(|pod| Some((pod.clone(), creation(pod, &events)?)))
        .collect()
}

/// Rights of an older chart, or a server that does not answer: what status says has to do.
fn heard(events: Result<Vec<Event>, CallError>) -> Vec<Event> {
    static WAS_SAID: AtomicBool = AtomicBool::new(false);
    events.unwrap_or_else(|error| {
        if !WAS_SAID.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                error = error.describe(),
                "Events cannot be read, so waits for volumes and pods name no cause. Grant list on events.k8s.io events (upgrade the chart)"
            );
        }
        Vec::new()
    })
}

fn note(event: &Event) -> &str {
    event.note.as_deref().unwrap_or_default()
}

/// When it was said last: the three generations of the API.
fn last(event: &Event) -> Option<Timestamp> {
    let series = event
        .series
        .as_ref()
        .map(|series| series.last_observed_time.0);
    let single = event.event_time.as_ref().map(|at| at.0);
    let older = event.deprecated_last_timestamp.as_ref().map(|at| at.0);
    [series, single, older].into_iter().flatten().max()
}

fn newest<'a>(events: &'a [Event], is_meant: impl Fn(&&'a Event) -> bool) -> Option<&'a Event> {
    events
        .iter()
        .filter(is_meant)
        .max_by_key(|event| last(event))
}

/// Only while it waits: an Event stays for an hour.
fn mount(pod: &Pod, events: &[Event]) -> Option<Trouble> {
    let is_mount = |event: &&Event| {
        matches!(
            event.reason.as_deref(),
            Some("FailedMount" | "FailedAttachVolume" | "FailedMapVolume")
        )
    };
    let event = newest(events, is_mount)?;
    let name = pod.name_any();
    let (volume, cause) = volume_and_cause(note(event));
    let (kind, message) = match what_is_missing(pod, volume, cause) {
        Some(missing) => (
            TroubleKind::Missing,
            format!("{name} waits for {missing} (not found)"),
        ),
        None => (
            TroubleKind::Waiting,
            format!("{name} does not get its volumes ({})", quoted(cause)),
        ),
    };
    Some(Trouble {
        kind,
        container: String::new(),
        message,
    })
}

/// `MountVolume.SetUp failed for volume "keys" : secret "orders-s3" not found`
fn volume_and_cause(note: &str) -> (&str, &str) {
    let after = note.split_once("for volume \"").map(|(_, after)| after);
    let parts = after.and_then(|after| after.split_once('"'));
    match parts {
        Some((volume, cause)) => (volume, cause.trim_start_matches([' ', ':'])),
        None => ("", note),
    }
}

fn what_is_missing(pod: &Pod, volume: &str, cause: &str) -> Option<String> {
    let object = |kind: &str, text: &str| {
        let name = text.strip_prefix('"')?.strip_suffix("\" not found")?;
        Some(format!("{kind} {name}"))
    };
    let key = |kind: &str, name: Option<String>, key: &str| {
        Some(format!("key {key} of {kind} {}", name?))
    };
    let mut volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    let mounted = volumes.find(|mounted| mounted.name == volume);
    if let Some(text) = cause.strip_prefix("secret ") {
        return object("Secret", text);
    }
    if let Some(text) = cause.strip_prefix("configmap ") {
        return object("ConfigMap", text);
    }
    if let Some(text) = cause.strip_prefix("references non-existent secret key: ") {
        let secret = |it: &Volume| it.secret.as_ref()?.secret_name.clone();
        return key("Secret", mounted.and_then(secret), text);
    }
    let text = cause.strip_prefix("references non-existent config key: ")?;
    let map = |it: &Volume| Some(it.config_map.as_ref()?.name.clone());
    key("ConfigMap", mounted.and_then(map), text)
}

/// What the controller was answered when it tried last. One that it created since then is no refusal.
fn creation(pod: &str, events: &[Event]) -> Option<String> {
    let mark = format!(" Pod {pod} in StatefulSet");
    let is_about = |event: &&Event| note(event).contains(&mark);
    let event =
        newest(events, is_about).filter(|event| event.reason.as_deref() == Some("FailedCreate"))?;
    let said = note(event);
    let said = said
        .split_once("failed error: ")
        .map_or(said, |(_, why)| why);
    let said = said
        .split_once(" is forbidden: ")
        .map_or(said, |(_, why)| why);
    Some(quoted(said).to_owned())
}

#[cfg(test)]
mod tests;
