//! Events, on transitions only. They are a courtesy: a failure is logged and changes nothing.

use ::kube::{
    Resource,
    runtime::events::{Event, EventType},
};

use super::Door;
use crate::runtime::client::CALL_TIMEOUT;

/// What happened, for `kubectl describe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub is_warning: bool,
    /// A condition's or a wait's reason.
    pub reason: String,
    pub message: String,
}

/// Longest note that the API server takes.
const MAX_NOTE_BYTES: usize = 1024;

impl Door {
    pub async fn tell<K: Resource<DynamicType = ()>>(&self, about: &K, notice: &Notice) {
        let mut note = notice.message.clone();
        if note.len() > MAX_NOTE_BYTES {
            let end = (0..=MAX_NOTE_BYTES)
                .rev()
                .find(|end| note.is_char_boundary(*end))
                .unwrap_or_default();
            note.truncate(end);
        }
        let event = Event {
            type_: if notice.is_warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: notice.reason.clone(),
            note: Some(note),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let reference = about.object_ref(&());
        match tokio::time::timeout(CALL_TIMEOUT, self.recorder.publish(&event, &reference)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, reason = notice.reason, "an Event was not published")
            }
            Err(_) => tracing::warn!(
                reason = notice.reason,
                "an Event was not published because the API server does not answer"
            ),
        }
    }
}
