//! Events, on transitions only, each with a line in the log. They are a courtesy: a failure is logged and changes nothing.
//!
//! One Event for each message: an Event that is counted up keeps the note that it was created with, so it must never stand for another
//! one. What comes again is counted up in the Event that it has, and an object that keeps on changing has a budget.

mod told;

use std::hash::{DefaultHasher, Hash, Hasher};

use ::kube::{
    Api, Resource,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use aof2_crds::Gate;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::json;

use super::{CallError, Door, FIELD_MANAGER};
pub(super) use told::Told;
use told::Write;

/// What happened, for `kubectl describe` and for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// A person has to do something.
    pub is_warning: bool,
    /// A condition's or a wait's reason.
    pub reason: String,
    pub message: String,
    /// Of a wait.
    pub gate: Option<Gate>,
    /// Empty: not about one pod.
    pub pod: String,
    /// Type and status.
    pub condition: Option<(String, String)>,
    /// It holds for a while, and each look finds it: it is said once.
    pub lasts: bool,
}

impl Notice {
    /// As an Event has it.
    fn note(&self) -> String {
        let detail = match (&self.gate, &self.condition) {
            (Some(gate), _) if self.message.contains(gate.as_str()) => String::new(),
            (Some(gate), _) => format!("gate {gate}"),
            (None, Some((kind, status))) => format!("{kind}={status}"),
            (None, None) => String::new(),
        };
        let mut note = with(&self.message, &detail);
        let end = (0..=MAX_NOTE_BYTES.min(note.len()))
            .rev()
            .find(|end| note.is_char_boundary(*end));
        note.truncate(end.unwrap_or_default());
        note
    }

    fn log(&self, about: &Regarding) {
        let is_cluster = about.kind == "Aof2Cluster";
        let namespace = about.namespace.as_str();
        let cluster = is_cluster.then_some(about.name.as_str());
        let snapshot = (!is_cluster).then_some(about.name.as_str());
        let gate = self.gate.map(Gate::as_str);
        let pod = (!self.pod.is_empty()).then_some(self.pod.as_str());
        let condition = self.condition.as_ref().map(|(kind, _)| kind.as_str());
        let status = self.condition.as_ref().map(|(_, status)| status.as_str());
        let reason = self.reason.as_str();
        let message = self.message.as_str();
        // The level of a line is a constant.
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    namespace,
                    cluster,
                    snapshot,
                    pod,
                    gate,
                    condition,
                    status,
                    reason,
                    "{message}"
                )
            };
        }
        if self.is_warning {
            line!(warn);
        } else {
            line!(info);
        }
    }
}

/// `message (detail)`, where there are both.
pub fn with(message: &str, detail: &str) -> String {
    match (message, detail) {
        ("", text) | (text, "") => text.to_owned(),
        (message, detail) => format!("{message} ({detail})"),
    }
}

/// Longest note that the API server takes.
const MAX_NOTE_BYTES: usize = 1024;
/// Longest `reportingInstance`.
const MAX_INSTANCE_BYTES: usize = 128;

/// The object that an Event is about.
struct Regarding {
    kind: String,
    namespace: String,
    name: String,
    uid: String,
}

impl Door {
    pub async fn tell<K: Resource<DynamicType = ()>>(&self, about: &K, notice: &Notice) {
        let reference = about.object_ref(&());
        let regarding = Regarding {
            kind: reference.kind.clone().unwrap_or_default(),
            namespace: reference.namespace.clone().unwrap_or_default(),
            name: reference.name.clone().unwrap_or_default(),
            uid: reference.uid.clone().unwrap_or_default(),
        };
        let now = Timestamp::now();
        let note = notice.note();
        let name = self.event_name(&regarding, notice, &note);
        let said = self.told.lock().say(&regarding.uid, &name, notice, now);
        if said.is_logged {
            notice.log(&regarding);
        }
        let written = match said.write {
            Write::Nothing => return,
            Write::Dropped => {
                self.metrics.wrote("Event", "dropped");
                return;
            }
            Write::Create => {
                let event = self.event(&name, reference, notice, note, now);
                self.create_event(&regarding.namespace, &name, event).await
            }
            Write::Count(count) => {
                let counted = self.count_event(&regarding.namespace, &name, count, now);
                match counted.await {
                    // The API server keeps an Event for an hour.
                    Err(error) if error.code() == Some(404) => {
                        let event = self.event(&name, reference, notice, note, now);
                        self.create_event(&regarding.namespace, &name, event).await
                    }
                    counted => counted,
                }
            }
        };
        if let Err(error) = written {
            let error = error.describe();
            tracing::warn!(error, event = name, "an Event was not published");
        }
    }

    /// The same for the same words of this process, so that no other can be counted up in it.
    fn event_name(&self, about: &Regarding, notice: &Notice, note: &str) -> String {
        let mut hasher = DefaultHasher::new();
        self.identity.hash(&mut hasher);
        self.started.hash(&mut hasher);
        about.uid.hash(&mut hasher);
        (notice.is_warning, &notice.reason, note).hash(&mut hasher);
        format!("{}.{:016x}", about.name, hasher.finish())
    }

    fn event(
        &self,
        name: &str,
        regarding: ObjectReference,
        notice: &Notice,
        note: String,
        now: Timestamp,
    ) -> Event {
        let kind = if notice.is_warning {
            "Warning"
        } else {
            "Normal"
        };
        let instance = self.identity.chars().take(MAX_INSTANCE_BYTES).collect();
        Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: regarding.namespace.clone(),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(FIELD_MANAGER.to_owned()),
            reporting_instance: Some(instance),
            action: Some("Reconcile".to_owned()),
            reason: Some(notice.reason.clone()),
            type_: Some(kind.to_owned()),
            note: Some(note),
            regarding: Some(regarding),
            ..Event::default()
        }
    }

    async fn create_event(
        &self,
        namespace: &str,
        name: &str,
        event: Event,
    ) -> Result<(), CallError> {
        let key = ("Event".to_owned(), namespace.to_owned(), name.to_owned());
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let created = self
            .call("create", &key, api.create(&PostParams::default(), &event))
            .await;
        match created {
            Ok(_) => self.metrics.wrote("Event", "created"),
            // An attempt whose answer was lost.
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn count_event(
        &self,
        namespace: &str,
        name: &str,
        count: i32,
        now: Timestamp,
    ) -> Result<(), CallError> {
        let key = ("Event".to_owned(), namespace.to_owned(), name.to_owned());
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let series = json!({"series": {"count": count, "lastObservedTime": MicroTime(now)}});
        let patch = Patch::Merge(series);
        self.call(
            "count up",
            &key,
            api.patch(name, &PatchParams::default(), &patch),
        )
        .await?;
        self.metrics.wrote("Event", "counted");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_what_it_is_about_and_fits() {
        let notice = Notice {
            message: "1 stream behind".into(),
            gate: Some(Gate::Uploaded),
            ..Notice::default()
        };
        assert_eq!(notice.note(), "1 stream behind (gate Uploaded)");
        let long = Notice {
            message: "ä".repeat(600),
            ..notice
        };
        assert_eq!(long.note(), "ä".repeat(512));
    }
}
