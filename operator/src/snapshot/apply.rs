//! The verbs, to the engines that answer.

use std::collections::BTreeMap;

use aof2_admin_api::client::Client as EngineClient;
use aof2_admin_api::{ErrorReason, SnapshotLevel, SnapshotSeal, SnapshotVerdict};
use aof2_crds::snapshot::{Level, Seal};
use futures::{StreamExt, stream};

use super::facts::Facts;
use super::plan::{Action, Done, IndexFailure, Target};

/// Verbs on their way at once.
const AT_ONCE: usize = 16;

/// One that runs says nothing yet.
fn judged(verdict: SnapshotVerdict) -> Result<SnapshotVerdict, String> {
    let Some(running) = &verdict.running else {
        return Ok(verdict);
    };
    Err(match &running.waits_for {
        Some(other) => format!("waits for {other}"),
        None => format!(
            "{} of {} bytes read",
            verdict.bytes_read, running.total_bytes
        ),
    })
}

pub async fn apply(
    facts: &Facts,
    request: &str,
    engines: &BTreeMap<String, EngineClient>,
    actions: Vec<Action>,
) -> Done {
    let mut done = Done::default();
    let seal = match facts.spec.seal {
        Seal::IfDirty => SnapshotSeal::IfDirty,
        Seal::Never => SnapshotSeal::Never,
    };
    let mut begin = Vec::new();
    for action in actions {
        match action {
            Action::Begin { pod, stream } => begin.push((pod, stream)),
            Action::PutIndex(index) => {
                let Some(engine) = engines.values().next() else {
                    done.index = Some(Err(IndexFailure {
                        message: "no engine answers".to_owned(),
                        is_final: false,
                    }));
                    continue;
                };
                let put = engine.put_snapshot_index(&index).await;
                done.index = Some(put.map(|report| report.key).map_err(|error| {
                    let refusal = error.refusal();
                    IndexFailure {
                        is_final: refusal.is_some_and(|body| body.reason == ErrorReason::Conflict),
                        message: error.to_string(),
                    }
                }));
            }
            Action::Verify(level, targets) => {
                let level = match level {
                    Level::L0 => SnapshotLevel::L0,
                    Level::L1 => SnapshotLevel::L1,
                    Level::L2 => SnapshotLevel::L2,
                };
                let verdicts = stream::iter(targets)
                    .map(async |target: Target| {
                        let Target {
                            stream,
                            snapshot_id,
                            digest,
                            owner,
                        } = target;
                        let digest = Some(digest.as_str()).filter(|digest| !digest.is_empty());
                        // Rather one that did not take it: a second pair of eyes.
                        let engine = engines
                            .iter()
                            .find(|(pod, _)| **pod != owner)
                            .or_else(|| engines.iter().next());
                        let verdict = match engine {
                            Some((_, engine)) => engine
                                .verify_snapshot(
                                    &stream,
                                    &snapshot_id,
                                    level,
                                    digest,
                                    Some(request),
                                )
                                .await
                                .map_err(|error| error.to_string())
                                .and_then(judged),
                            None => Err("no engine answers".to_owned()),
                        };
                        (stream, verdict)
                    })
                    .buffer_unordered(AT_ONCE)
                    .collect()
                    .await;
                done.verdicts = Some(verdicts);
            }
        }
    }
    // What an engine refuses here it says again in its report, or at the next try.
    stream::iter(begin)
        .for_each_concurrent(AT_ONCE, async |(pod, name)| {
            if let Some(engine) = engines.get(&pod)
                && let Err(error) = engine.snapshot(&name, request, seal).await
            {
                tracing::warn!(pod, stream = name, %error, "the engine rejected the snapshot of a stream");
            }
        })
        .await;
    done
}

#[cfg(test)]
mod tests {
    use aof2_admin_api::VerifyProgress;

    use super::*;

    #[test]
    fn a_verification_that_runs_is_no_verdict() {
        let mut verdict = SnapshotVerdict {
            bytes_read: 7,
            running: Some(VerifyProgress {
                total_bytes: 12,
                ..VerifyProgress::default()
            }),
            ..SnapshotVerdict::default()
        };
        assert_eq!(
            judged(verdict.clone()),
            Err("7 of 12 bytes read".to_owned())
        );
        verdict.running = Some(VerifyProgress {
            waits_for: Some("snapshot 7 of stream a".to_owned()),
            ..VerifyProgress::default()
        });
        let waits = Err("waits for snapshot 7 of stream a".to_owned());
        assert_eq!(judged(verdict.clone()), waits);
        verdict.running = None;
        assert_eq!(judged(verdict.clone()), Ok(verdict));
    }
}
