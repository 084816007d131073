//! A rollout as a watcher sees it: whose turn it was, what the status line said, and whether records flowed all the while.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::cluster::{Cluster, describe};
use crate::wait::{self, Look};

/// Acknowledgements per stream.
pub type Counts = BTreeMap<String, u64>;

/// Streams that got no acknowledgement between two countings.
pub fn silent<'a>(
    streams: impl IntoIterator<Item = &'a str>,
    before: &Counts,
    now: &Counts,
) -> Vec<String> {
    let count = |counts: &Counts, stream: &str| counts.get(stream).copied().unwrap_or(0);
    streams
        .into_iter()
        .filter(|stream| count(now, stream) <= count(before, stream))
        .map(str::to_owned)
        .collect()
}

/// Follows an upgrade to its end and returns the pods in the order in which they went. In each pod's turn every stream has to be
/// acknowledged: the others' all the time, its own before it goes or after it came back.
pub async fn follow(
    cluster: &Cluster,
    version: &str,
    streams: &[String],
    limit: Duration,
    counts: impl Fn() -> Counts,
    mut say: impl FnMut(&str),
) -> Result<Vec<String>> {
    let mut order: Vec<String> = Vec::new();
    let mut at_its_turn = counts();
    let mut summary = String::new();
    wait::until(
        &format!("the rollout of {} to {version}", cluster.name),
        limit,
        async || {
            let status = cluster.status().await?;
            if status.summary != summary {
                say(&status.summary);
                summary.clone_from(&status.summary);
            }
            let current = status
                .rollout
                .as_ref()
                .and_then(|rollout| rollout.pod.as_ref())
                .map(|pod| pod.name.clone());
            let is_over = status.rollout.is_none() && status.version.current == version;
            let next = current.filter(|pod| order.last() != Some(pod));
            if let Some(last) = order.last().filter(|_| is_over || next.is_some()) {
                let now = counts();
                let silent = silent(streams.iter().map(String::as_str), &at_its_turn, &now);
                if !silent.is_empty() {
                    return Ok(Look::Never(format!(
                        "no acknowledgement in {silent:?} during the turn of {last}"
                    )));
                }
                at_its_turn = now;
            }
            order.extend(next);
            Ok(if is_over {
                Look::Done(())
            } else {
                Look::Waiting(describe(&status))
            })
        },
    )
    .await?;
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_got_nothing_new_is_silent_and_one_that_is_new_is_not() {
        let counts = |list: &[(&str, u64)]| -> Counts {
            list.iter()
                .map(|(stream, count)| ((*stream).to_owned(), *count))
                .collect()
        };
        let found = silent(
            ["a", "b", "c"],
            &counts(&[("a", 1), ("b", 1)]),
            &counts(&[("a", 2), ("b", 1), ("c", 1)]),
        );
        assert_eq!(found, ["b"]);
    }
}
