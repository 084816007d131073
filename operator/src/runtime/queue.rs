//! A queue of keys: one look at a time for each, again when its last look says so, and at a change.

use std::{collections::HashSet, hash::Hash, pin::pin, time::Duration};

use futures::{Stream, StreamExt, stream::FuturesUnordered};
use kube::runtime::scheduler::{ScheduleRequest, debounced_scheduler};
use tokio::{sync::mpsc, time::Instant};

/// Runs until `stop` or the end of `changes`, then lets looks under way end. `look` says after how long the next one is due by itself.
pub async fn run<K, F>(
    changes: impl Stream<Item = K>,
    debounce: Duration,
    look: impl Fn(K) -> F,
    stop: impl Future<Output = ()>,
) where
    K: Clone + Eq + Hash,
    F: Future<Output = Option<Duration>>,
{
    let (again, mut agains) = mpsc::unbounded_channel();
    let agains = futures::stream::poll_fn(move |context| agains.poll_recv(context));
    let now = |message| ScheduleRequest {
        message,
        run_at: Instant::now(),
    };
    let requests = futures::stream::select(changes.map(now), agains);
    let mut scheduler = pin!(debounced_scheduler(requests, debounce));
    let mut running = FuturesUnordered::new();
    let mut busy: HashSet<K> = HashSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some((key, delay)) = running.next(), if !running.is_empty() => {
                busy.remove(&key);
                if let Some(delay) = delay {
                    let request = ScheduleRequest { message: key, run_at: Instant::now() + delay };
                    // The receiver is in this very function.
                    let _ = again.send(request);
                }
            }
            Some(key) = async { scheduler.as_mut().hold_unless(|key| !busy.contains(key)).next().await } => {
                busy.insert(key.clone());
                let looked = look(key.clone());
                running.push(async move { (key, looked.await) });
            }
        }
    }
    while running.next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        collections::BTreeMap,
    };

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_key_is_looked_at_again_when_it_said_so_and_one_that_hangs_holds_up_no_other() {
        let (changes, mut receiver) = mpsc::unbounded_channel();
        for key in ["hangs", "again", "once", "once"] {
            changes.send(key).expect("a queue");
        }
        let changed = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
        let looks: RefCell<BTreeMap<&str, u32>> = RefCell::default();
        let (ended, end) = oneshot::channel::<()>();
        let ended = RefCell::new(Some(ended));
        let (release, released) = oneshot::channel::<()>();
        let released = RefCell::new(Some(released));
        let was_let_end = Cell::new(false);
        let look = async |key| {
            let count = *looks
                .borrow_mut()
                .entry(key)
                .and_modify(|count| *count += 1)
                .or_insert(1);
            match key {
                "hangs" => {
                    let released = released.borrow_mut().take().expect("once");
                    let _ = released.await;
                    was_let_end.set(true);
                    None
                }
                "again" if count == 3 => {
                    ended.borrow_mut().take();
                    None
                }
                "again" => Some(Duration::from_millis(5)),
                _ => None,
            }
        };
        // It hangs until the queue is told to stop.
        let stop = async {
            let _ = end.await;
            let _ = release.send(());
        };
        let queue = run(changed, Duration::from_millis(2), look, stop);
        let ran = tokio::time::timeout(Duration::from_secs(60), queue).await;
        assert!(ran.is_ok(), "{looks:?}");
        let expected = BTreeMap::from([("hangs", 1), ("again", 3), ("once", 1)]);
        assert_eq!(*looks.borrow(), expected);
        assert!(was_let_end.get());
        drop(changes);
    }
}
