//! How a process that was asked to end does so in time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::data_plane::DataPlane;
use crate::node::Node;

/// Connected clients that appended nothing for so long have said their last words.
const QUIET: Duration = Duration::from_secs(2);
/// Upper bound of last words; with [`CLOSE_LIMIT`] well within the pod's grace of 60 s.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(25);
/// Upper bound of making everything durable.
const CLOSE_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// Waits until connected clients are quiet.
pub async fn last_words(node: &Node, plane: &DataPlane) {
    let clients = &node.clients;
    let limit = Instant::now() + LAST_WORDS_LIMIT;
    let mut appends = clients.appends();
    let mut quiet_since = Instant::now();
    while clients.connected() > 0 && is_admitting(node, plane).await {
        let now = Instant::now();
        if clients.appends() != appends {
            appends = clients.appends();
            quiet_since = now;
        }
        if now >= quiet_since + QUIET || now >= limit || node.shutdown.is_hastened() {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn is_admitting(node: &Node, plane: &DataPlane) -> bool {
    let store = plane.store.clone();
    let closed = node.reading(move || store.admission_closed()).await;
    closed.is_ok_and(|closed| closed.is_none())
}

/// Makes everything durable and lets go of the directory. `Err` says what kept it from doing so.
pub async fn close(node: &Arc<Node>, plane: DataPlane) -> Result<(), String> {
    let node = node.clone();
    let closing = tokio::task::spawn_blocking(move || {
        let closed = plane.close(|| node.shutdown.is_hastened());
        closed.map_err(|error| error.to_string())
    });
    match tokio::time::timeout(CLOSE_LIMIT, closing).await {
        Ok(Ok(closed)) => closed,
        Ok(Err(panicked)) => Err(panicked.to_string()),
        Err(_) => Err(format!(
            "store did not close within {CLOSE_LIMIT:?}; the next start recovers it"
        )),
    }
}
