//! An `Aof2Snapshot` that is deleted with its catalogues: each stream's owner deletes its own, then the list of them goes, then the object.
//! Every step may be repeated, and what could not be done is told in the condition `CataloguesDeleted`.
//!
//! An object whose cluster is gone, or is another one now, or has no bucket any more, is released: nobody is left who may delete, and its
//! catalogues stay. While the cluster is there and an engine is not, the object waits; whoever wants it gone removes its finalizer.

use std::collections::BTreeMap;

use aof2_admin_api::ErrorReason;
use aof2_admin_api::client::{Client as EngineClient, ClientError};
use aof2_crds::snapshot::{
    Aof2SnapshotStatus, SnapshotCondition as Kind, SnapshotReason as Reason,
};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use super::facts::{Facts, IndexFacts};
use super::known::Key;
use super::observe::{self, Observed};
use super::{conditions, record};
use crate::context::Context;
use crate::kube::{CallError, Notice, SNAPSHOT_FINALIZER, holds_catalogues};
use crate::machine::{NextLook, later};

/// Verbs on their way at once.
const AT_ONCE: usize = 16;
/// Before what waits is tried again.
const PAUSE: SignedDuration = SignedDuration::from_secs(30);

/// What to do about a snapshot that is deleted.
#[derive(Clone, Debug, PartialEq)]
enum Plan {
    /// Its catalogues stay, for this reason.
    Release(String),
    /// By stream: id, and the pod whose engine owns it.
    Delete(BTreeMap<String, (String, Result<String, Stays>)>),
    Wait(Stays),
}

/// What a catalogue, or the list of catalogues, waits for before it is deleted.
#[derive(Clone, Debug, PartialEq)]
struct Stays {
    reason: Reason,
    why: String,
}

impl Stays {
    fn new(reason: Reason, why: impl Into<String>) -> Stays {
        Stays {
            reason,
            why: why.into(),
        }
    }
}

/// Pure.
fn plan(status: &Aof2SnapshotStatus, facts: &Facts) -> Plan {
    let cluster = &facts.spec.cluster_ref.name;
    let Some(found) = &facts.cluster else {
        return Plan::Release(format!("Aof2Cluster {cluster} does not exist"));
    };
    if !facts.is_of(status) {
        return Plan::Release(format!(
            "Aof2Cluster {cluster} is another one than when the snapshot was taken"
        ));
    }
    if !found.has_tier2 {
        return Plan::Release(format!("Aof2Cluster {cluster} has no spec.tier2"));
    }
    if found.is_paused {
        let why = format!("Aof2Cluster {cluster} is paused");
        return Plan::Wait(Stays::new(Reason::Paused, why));
    }
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    match &facts.index {
        Some(IndexFacts::Unknown(why)) => {
            return Plan::Wait(Stays::new(Reason::Tier2Unreachable, why));
        }
        Some(IndexFacts::Found(taken)) => {
            let taken = taken.iter();
            ids.extend(taken.map(|(stream, taken)| (stream.clone(), taken.snapshot_id.clone())));
        }
        // Not complete, or its list is gone already: what is known of it otherwise.
        Some(IndexFacts::Missing(_)) | None => {
            let of_status = status.streams.iter();
            ids.extend(of_status.map(|it| (it.name.clone(), it.snapshot_id.clone())));
            let of_pods = facts
                .pods
                .iter()
                .flat_map(|pod| pod.streams.iter().flatten());
            let reports = of_pods.filter_map(|stream| stream.report.as_ref());
            ids.extend(reports.map(|it| (it.stream.clone(), it.snapshot_id.clone())));
            ids.retain(|_, id| !id.is_empty());
        }
    }
    let silent = facts.pods.iter().find_map(|pod| {
        let why = pod.streams.as_ref().err()?;
        Some(format!("engine {} does not answer ({why})", pod.name))
    });
    // Of one that is not complete it alone knows what it took.
    if facts.index.is_none()
        && let Some(silent) = silent
    {
        return Plan::Wait(Stays::new(Reason::NodeUnreachable, silent));
    }
    let owned = ids.into_iter().map(|(stream, id)| {
        let owner = match (facts.owner(&stream), &silent) {
            (Some(pod), _) => Ok(pod.to_owned()),
            (None, Some(silent)) => Err(Stays::new(Reason::NodeUnreachable, silent)),
            (None, None) => Err(Stays::new(
                Reason::StreamNotFound,
                format!("stream {stream} is on no pod"),
            )),
        };
        (stream, (id, owner))
    });
    Plan::Delete(owned.collect())
}

/// What an engine's answer means. `Ok`: the snapshot is none any more.
fn judged(pod: &str, answer: Result<(), &ClientError>) -> Result<(), Stays> {
    let Err(error) = answer else { return Ok(()) };
    let Some(body) = error.refusal() else {
        let why = format!("engine {pod} does not answer ({error})");
        return Err(Stays::new(Reason::NodeUnreachable, why));
    };
    Err(match &body.reason {
        ErrorReason::UnknownSnapshot => return Ok(()),
        // It has just said that the stream is there: what it does not know is the verb.
        ErrorReason::NotFound | ErrorReason::BadRequest => Stays::new(
            Reason::OlderEngine,
            format!("engine {pod} cannot delete snapshots; upgrade the cluster"),
        ),
        ErrorReason::Conflict => Stays::new(Reason::StillNeeded, &body.message),
        ErrorReason::Tier2Unreachable => Stays::new(Reason::Tier2Unreachable, &body.message),
        _ => Stays::new(Reason::NodeUnreachable, &body.message),
    })
}

/// What people read while it waits.
fn told(stays: &Stays, count: usize, of: usize) -> String {
    let Stays { reason: _, why } = stays;
    let how_many = match of {
        0 => "The catalogues are not deleted yet".to_owned(),
        _ => format!("{count} of {of} catalogues are not deleted yet"),
    };
    // What an engine says has its own punctuation.
    let why = why.replace(": ", ", ");
    format!(
        "{how_many}. Reason: {why}. The operator retries. To keep the catalogues and delete the object, remove finalizer {SNAPSHOT_FINALIZER}"
    )
}

pub async fn leave(context: &Context, key: &Key) -> Result<NextLook, CallError> {
    let Some(snapshot) = observe::stored(context, key).await? else {
        return Ok(NextLook::AT_CHANGE);
    };
    if !holds_catalogues(&snapshot) {
        return Ok(NextLook::AT_CHANGE);
    }
    let before = snapshot.status.clone().unwrap_or_default();
    let has_succeeded = conditions::is(&before, Kind::Succeeded, "True");
    let sight = observe::sight(context, &key.cluster).await?;
    let observed = observe::observe(context, &snapshot, sight.as_ref(), false, has_succeeded).await;
    let Observed { facts, engines } = observed;
    let (stays, of) = match plan(&before, &facts) {
        Plan::Release(why) => {
            let notice = Notice {
                is_warning: true,
                reason: "CataloguesRetained".to_owned(),
                message: format!("Catalogues stay in the bucket: {why}"),
                ..Notice::default()
            };
            context.door.tell(&snapshot, &notice).await;
            context.door.hold_snapshot(&snapshot, false).await?;
            return Ok(NextLook::AT_CHANGE);
        }
        Plan::Wait(stays) => (vec![stays], 0),
        Plan::Delete(owned) => {
            let of = owned.len();
            let mut stays = delete(&engines, owned).await;
            // The list goes last: it says what else there is.
            if stays.is_empty() && has_succeeded {
                stays.extend(delete_list(&engines, &facts.name).await.err());
            }
            (stays, of)
        }
    };
    let Some(first) = stays.first() else {
        let notice = Notice {
            reason: "CataloguesDeleted".to_owned(),
            message: format!("Catalogues of {of} streams deleted"),
            ..Notice::default()
        };
        context.door.tell(&snapshot, &notice).await;
        context.door.hold_snapshot(&snapshot, false).await?;
        return Ok(NextLook::AT_CHANGE);
    };
    let now = Timestamp::now();
    let mut status = before.clone();
    let (kind, message) = (Kind::CataloguesDeleted, told(first, stays.len(), of));
    conditions::say(&mut status, kind, "False", first.reason, message, now);
    record::record(context, &snapshot, &before, &status).await?;
    Ok(NextLook::AT_CHANGE.by(later(now, PAUSE)))
}

/// Answers what stays, in the order of the streams.
async fn delete(
    engines: &BTreeMap<String, EngineClient>,
    owned: BTreeMap<String, (String, Result<String, Stays>)>,
) -> Vec<Stays> {
    let asked = stream::iter(owned).map(async |(stream, (id, owner))| {
        let pod = match owner {
            Ok(pod) => pod,
            Err(stays) => return Some(stays),
        };
        let Some(engine) = engines.get(&pod) else {
            let why = format!("engine {pod} does not answer");
            return Some(Stays::new(Reason::NodeUnreachable, why));
        };
        let answer = engine.delete_snapshot(&stream, &id).await.map(drop);
        judged(&pod, answer.as_ref().copied()).err()
    });
    asked
        .buffered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}

async fn delete_list(engines: &BTreeMap<String, EngineClient>, name: &str) -> Result<(), Stays> {
    let Some((pod, engine)) = engines.iter().next() else {
        return Err(Stays::new(Reason::NodeUnreachable, "no engine answers"));
    };
    let answer = engine.delete_snapshot_index(name).await.map(drop);
    judged(pod, answer.as_ref().copied())
}

#[cfg(test)]
mod tests {
    use aof2_admin_api::{ErrorBody, SnapshotPhase};
    use aof2_crds::snapshot::SnapshotStream;

    use super::super::facts::{PodFacts, StreamFacts, Taken};
    use super::super::tests::world::{World, report};
    use super::*;
    use crate::machine::language;

    /// One pod with stream one, and one that does not answer.
    fn facts() -> Facts {
        let mut facts = World::new(0, 0).facts;
        facts.pods = vec![
            PodFacts {
                name: "orders-0".into(),
                streams: Ok(vec![StreamFacts {
                    name: "one".into(),
                    report: Some(report("one", SnapshotPhase::Done)),
                }]),
            },
            PodFacts {
                name: "orders-1".into(),
                streams: Err("timed out".into()),
            },
        ];
        facts
    }

    fn status() -> Aof2SnapshotStatus {
        Aof2SnapshotStatus {
            cluster_id: "c".into(),
            ..Aof2SnapshotStatus::default()
        }
    }

    fn index(streams: &[&str]) -> Option<IndexFacts> {
        let taken = |stream: &&str| {
            let taken = Taken {
                snapshot_id: "7".into(),
                digest: String::new(),
            };
            ((*stream).to_owned(), taken)
        };
        Some(IndexFacts::Found(streams.iter().map(taken).collect()))
    }

    fn waits(plan: Plan) -> Reason {
        match plan {
            Plan::Wait(stays) => stays.reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_object_whose_cluster_is_gone_is_released_and_waits_for_nobody() {
        let release = |change: &dyn Fn(&mut Facts)| {
            let mut facts = facts();
            facts.index = Some(IndexFacts::Unknown("no engine".into()));
            change(&mut facts);
            match plan(&status(), &facts) {
                Plan::Release(why) => why,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            release(&|it| it.cluster = None),
            "Aof2Cluster orders does not exist"
        );
        let other = release(&|it| it.cluster.as_mut().unwrap().cluster_id = "d".into());
        assert!(other.contains("another one"), "{other}");
        let without = release(&|it| it.cluster.as_mut().unwrap().has_tier2 = false);
        assert!(without.contains("has no spec.tier2"), "{without}");
    }

    #[test]
    fn each_stream_goes_through_its_owner_and_one_without_waits_alone() {
        let mut facts = facts();
        facts.index = index(&["one", "two"]);
        let Plan::Delete(owned) = plan(&status(), &facts) else {
            panic!("nothing to do");
        };
        assert_eq!(owned["one"], ("7".into(), Ok("orders-0".into())));
        let (_, two) = &owned["two"];
        assert_eq!(two.as_ref().unwrap_err().reason, Reason::NodeUnreachable);
        facts.pods.pop();
        let Plan::Delete(owned) = plan(&status(), &facts) else {
            panic!("nothing to do");
        };
        let (_, two) = &owned["two"];
        assert_eq!(two.as_ref().unwrap_err().reason, Reason::StreamNotFound);
        facts.cluster.as_mut().unwrap().is_paused = true;
        assert_eq!(waits(plan(&status(), &facts)), Reason::Paused);
    }

    #[test]
    fn of_one_that_is_not_complete_what_status_and_engines_know_goes() {
        let mut facts = facts();
        // A failed one whose name the bucket has from another: its list is not looked at.
        facts.index = None;
        assert_eq!(waits(plan(&status(), &facts)), Reason::NodeUnreachable);
        facts.pods.pop();
        let mut status = status();
        status.streams = vec![SnapshotStream {
            name: "two".into(),
            snapshot_id: "9".into(),
            ..SnapshotStream::default()
        }];
        let Plan::Delete(owned) = plan(&status, &facts) else {
            panic!("nothing to do");
        };
        let ids: Vec<_> = owned
            .iter()
            .map(|(stream, (id, _))| (&**stream, &**id))
            .collect();
        assert_eq!(ids, [("one", "4294967297"), ("two", "9")]);
        facts.index = Some(IndexFacts::Unknown("refused".into()));
        assert_eq!(waits(plan(&status, &facts)), Reason::Tier2Unreachable);
    }

    #[test]
    fn an_engine_that_does_not_know_the_verb_keeps_it_and_one_that_does_not_know_the_snapshot_does_not()
     {
        let answer = |reason: ErrorReason| {
            let error = ClientError::Refused {
                target: "orders-0".into(),
                verb: "delete".into(),
                status: 404,
                body: ErrorBody {
                    reason,
                    message: "snapshot 7 of stream one is needed: it is the newest".into(),
                },
            };
            judged("orders-0", Err(&error)).map_err(|stays| {
                let message = told(&stays, 1, 2);
                language::check_condition(
                    "CataloguesDeleted",
                    "False",
                    stays.reason.as_str(),
                    &message,
                );
                stays.reason
            })
        };
        assert_eq!(judged("orders-0", Ok(())), Ok(()));
        assert_eq!(answer(ErrorReason::UnknownSnapshot), Ok(()));
        assert_eq!(answer(ErrorReason::NotFound), Err(Reason::OlderEngine));
        assert_eq!(answer(ErrorReason::Conflict), Err(Reason::StillNeeded));
        let down = answer(ErrorReason::Tier2Unreachable);
        assert_eq!(down, Err(Reason::Tier2Unreachable));
        assert_eq!(
            answer(ErrorReason::NotServing),
            Err(Reason::NodeUnreachable)
        );
    }
}
