//! How a process that was asked to end does so in time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clients::Clients;
use crate::data_plane::DataPlane;
use crate::node::Node;

/// Connected clients that appended nothing for so long have said their last words.
const QUIET: Duration = Duration::from_secs(2);
/// Upper bound of last words; with [`CLOSE_LIMIT`] well within the pod's grace of 60 s.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(25);
/// Upper bound of making everything durable.
const CLOSE_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// Notifies the drain, and waits until connected clients are quiet: no longer than [`LAST_WORDS_LIMIT`], whatever the disk does, and
/// not once the end is hastened.
pub async fn last_words(node: &Node, plane: &DataPlane) {
    let words = async {
        let terminating = plane.clone();
        let notified = tokio::task::spawn_blocking(move || terminating.pod_terminates());
        if let Err(panicked) = notified.await {
            tracing::error!(%panicked, "cannot notify the drain of the shutdown");
        }
        quiet(node, plane).await;
    };
    tokio::select! {
        () = words => {}
        () = tokio::time::sleep(LAST_WORDS_LIMIT) => {}
        () = node.shutdown.hastened() => {}
    }
}

async fn quiet(node: &Node, plane: &DataPlane) {
    tokio::select! {
        () = silence(&node.clients) => {}
        () = closed_admission(node, plane) => {}
    }
}

async fn silence(clients: &Clients) {
    let mut appends = clients.appends();
    let mut quiet_since = Instant::now();
    while clients.connected() > 0 && quiet_since.elapsed() < QUIET {
        tokio::time::sleep(POLL).await;
        if clients.appends() != appends {
            appends = clients.appends();
            quiet_since = Instant::now();
        }
    }
}

/// Asked where a lock may be held for as long as the disk takes.
async fn closed_admission(node: &Node, plane: &DataPlane) {
    loop {
        let store = plane.store.clone();
        let closed = node.reading(move || store.admission_closed()).await;
        if closed.is_ok_and(|closed| closed.is_some()) {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::config::{self, Mode};
    use crate::data_plane::{self, Progress};

    /// As reads of a volume that answers nothing: the only thread for such work, and all places of reports.
    #[test]
    fn last_words_have_their_time_where_the_disk_answers_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!(
            "[storage]\ndirectory = {:?}\n[journal]\nfile_bytes = 4194304\nfiles = 3\n[checkpoint]\njournal_bytes = 4194304\n",
            folder.path().join("data")
        );
        let settings = config::parse("aof2.toml", &text, Mode::StandAlone).expect("valid");
        let plane = data_plane::open(&settings, Arc::<Progress>::default());
        let plane = plane.unwrap_or_else(|failure| panic!("{failure:?}"));
        let node = Node::new("0.0.0", settings);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .expect("a runtime");
        let (answer, answers) = mpsc::channel::<()>();
        runtime.block_on(async {
            tokio::task::spawn_blocking(move || answers.recv());
            let _client = node.clients.connect();
            let said = tokio::time::timeout(3 * QUIET, quiet(&node, &plane)).await;
            assert!(said.is_ok(), "the client is quiet");
            node.shutdown.hasten();
            let ended = tokio::time::timeout(QUIET, last_words(&node, &plane)).await;
            assert!(ended.is_ok(), "a second signal");
        });
        drop(answer);
    }
}
