//! The file that may change the configuration while the process runs. It is judged by its content, never by its times: Kubernetes swaps
//! a link, and a copy may be older than what it replaces.

use std::sync::Arc;

use crate::node::Node;
use crate::source::Source;
use crate::telemetry::Level;

/// Reads the file again and again until the process ends. `in_force` is the text that it was started with.
pub async fn watch(node: Arc<Node>, source: Source, level: Level, mut in_force: Option<String>) {
    if source.file.is_none() {
        return;
    }
    // The last content that could not be read, so that it is reported once.
    let mut last_failure = None;
    let mut ticks = tokio::time::interval(source.period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(read) = source.read() else { return };
        match read {
            Ok(text) if in_force.as_ref() == Some(&text) && last_failure.is_none() => {}
            Ok(text) => {
                last_failure = None;
                in_force = Some(text.clone());
                let revision = source.revision_of(&text);
                let parsed = source.parse(Some(Ok(text)));
                node.config.offer(parsed, revision, |settings| {
                    level.set(&settings.log.level);
                    if let Some(plane) = node.plane() {
                        plane.reconfigure(settings);
                    }
                });
            }
            Err(error) => {
                let failure = error.to_string();
                if last_failure.as_ref() != Some(&failure) {
                    let parsed = source.parse(Some(Err(error)));
                    node.config.offer(parsed, None, |_| {});
                    last_failure = Some(failure);
                }
            }
        }
    }
}
