//! Hands the facts to the rollout's state machine, and its wishes to the plan.

use aof2_admin_api::Tier2Reason;
use aof2_admin_api::client::DrainBounds;
use aof2_crds::{Gate, WaitReason};
use kube::ResourceExt;

use super::{Part, left_out, overrides, volumes};
use crate::{
    cluster::{
        action::Action,
        build::template,
        facts::{Observed, PodFacts, StatefulSetFacts, Trouble, TroubleKind},
        tier2,
    },
    engines::Answer,
    kube::PodTarget,
    machine::quoted,
    names,
    rollout::{
        self, EngineFacts, Facts, Memo, PodInstance, Policy, Recovery, Revision, Tier2Trouble,
    },
};

/// The memo, and whether the wanted template is to be written now.
pub fn step(
    observed: &Observed,
    written: &StatefulSetFacts,
    spec_error: Option<&str>,
    memo: Option<Memo>,
) -> ((Option<Memo>, bool), Part) {
    let facts = facts(observed, written, spec_error);
    let rollout::Step {
        memo,
        actions,
        waits,
        next,
        finished,
        overridden,
        news: (),
    } = rollout::step(memo, &facts, observed.now);
    let mut part = Part {
        waits,
        finished,
        overridden,
        next,
        ..Part::default()
    };
    let mut writes_template = false;
    for action in actions {
        match action {
            rollout::Action::WriteTemplate { revision } => {
                writes_template |= revision == facts.wanted
            }
            rollout::Action::StartDrain {
                pod,
                ttl,
                upload_timeout,
                drain_timeout,
            } => {
                let bounds = DrainBounds {
                    ttl: Some(ttl.as_std()),
                    upload_timeout: Some(upload_timeout.as_std()),
                    drain_timeout: Some(drain_timeout.as_std()),
                };
                if let Some(ip) = address(observed, &pod) {
                    let without = left_out(observed, &pod);
                    part.actions.push(Action::StartDrain {
                        pod,
                        ip,
                        bounds,
                        without,
                    });
                }
            }
            rollout::Action::Resume { pod } => {
                if let Some(ip) = address(observed, &pod) {
                    part.actions.push(Action::Resume { pod, ip });
                }
            }
            rollout::Action::RemovePod {
                pod,
                uid,
                resource_version,
                by,
            } => {
                let target = PodTarget {
                    namespace: observed.cluster.namespace().unwrap_or_default(),
                    name: pod,
                    uid,
                };
                part.actions.push(Action::RemovePod {
                    target,
                    resource_version,
                    by,
                });
            }
        }
    }
    ((memo, writes_template), part)
}

fn address(observed: &Observed, pod: &str) -> Option<std::net::IpAddr> {
    observed.pods.iter().find(|facts| facts.name == pod)?.ip
}

fn facts(observed: &Observed, written: &StatefulSetFacts, spec_error: Option<&str>) -> Facts {
    let spec = &observed.cluster.spec;
    let name = observed.cluster.name_any();
    Facts {
        wanted: Revision {
            version: spec.version.clone(),
            template: template::digest(spec, &observed.image_repository),
        },
        written: Revision {
            version: written.version.clone(),
            template: written.template.clone(),
        },
        template_refused: spec_error.map(str::to_owned),
        policy: Policy {
            upload_timeout: spec.upgrade.seal.upload_timeout,
            drain_timeout: spec.upgrade.seal.drain_timeout,
            soak: spec.upgrade.post_restart.soak,
            replay_stall_timeout: spec.upgrade.post_restart.replay_stall_timeout,
        },
        pods: (0..written.replicas)
            .map(|ordinal| rollout::PodFacts {
                name: names::pod(&name, ordinal),
                ordinal: u32::try_from(ordinal).unwrap_or_default(),
                instance: observed.pod(ordinal).map(|pod| instance(observed, pod)),
                not_created: observed
                    .not_created
                    .get(&names::pod(&name, ordinal))
                    .cloned(),
            })
            .collect(),
        overrides: overrides(observed),
    }
}

fn instance(observed: &Observed, pod: &PodFacts) -> PodInstance {
    let refused = observed
        .cluster
        .status
        .iter()
        .flat_map(|status| &status.waits)
        .find(|wait| {
            wait.gate == Gate::PodRemoved
                && wait.reason == WaitReason::EvictionRefused
                && wait.pod == pod.name
        });
    PodInstance {
        uid: pod.uid.clone(),
        resource_version: pod.resource_version.clone(),
        revision: Revision {
            version: pod.version.clone(),
            template: pod.template.clone(),
        },
        terminating: pod.deletion.is_some(),
        on_lost_node: pod.is_on_lost_node,
        ready: pod.is_ready,
        engine_runs: pod.engine.is_running,
        trouble: pod.trouble.as_ref().map(trouble),
        eviction_refused: refused.map(|wait| wait.message.clone()),
        eviction_would_fail: observed
            .answers
            .eviction_refused
            .clone()
            .filter(|_| is_chosen(observed, pod)),
        volume_at_risk: volumes::at_risk(observed, pod).map(|wait| rollout::Trouble {
            reason: wait.reason,
            message: wait.message,
        }),
        engine: observed.answer(&pod.name).map(engine),
    }
}

/// The one pod that the rollout is about to take.
fn is_chosen(observed: &Observed, pod: &PodFacts) -> bool {
    let rollout = observed
        .cluster
        .status
        .as_ref()
        .and_then(|status| status.rollout.as_ref());
    rollout
        .and_then(|rollout| rollout.pod.as_ref())
        .is_some_and(|chosen| chosen.uid == pod.uid)
}

fn trouble(trouble: &Trouble) -> rollout::Trouble {
    rollout::Trouble {
        reason: reason_of(trouble.kind),
        message: trouble.message.clone(),
    }
}

pub fn reason_of(trouble: TroubleKind) -> WaitReason {
    match trouble {
        TroubleKind::ImagePull => WaitReason::ImagePull,
        TroubleKind::CrashLoop | TroubleKind::OutOfMemory => WaitReason::CrashLoop,
        TroubleKind::Unschedulable | TroubleKind::NoVolume | TroubleKind::NoStorageClass => {
            WaitReason::PodUnschedulable
        }
        TroubleKind::Missing | TroubleKind::Waiting | TroubleKind::Unready => {
            WaitReason::ContainerWaiting
        }
    }
}

fn engine(answer: &Answer) -> EngineFacts {
    let dump = &answer.dump;
    let tier2_trouble = dump
        .tier2
        .as_ref()
        .filter(|tier2| !tier2.reachable)
        .map(|tier2| {
            let reason = tier2
                .reason
                .as_ref()
                .unwrap_or(&Tier2Reason::Tier2Unreachable);
            let unreachable = *reason == Tier2Reason::Tier2Unreachable;
            let message = tier2.message.as_deref().map_or_else(
                || "the object store does not answer".to_owned(),
                |message| quoted(&tier2::words(message)).to_owned(),
            );
            Tier2Trouble {
                unreachable,
                message: match unreachable {
                    true => message,
                    false => format!("{reason}, {message}"),
                },
            }
        });
    EngineFacts {
        version: dump.version.clone(),
        process_start: dump.process_start.clone(),
        ready: dump.ready,
        refusal: dump
            .refusal
            .as_ref()
            .map(|refusal| format!("{}, {}", refusal.reason, quoted(&refusal.message))),
        drain: dump.drain.clone(),
        tier2_trouble,
        recovery: answer.post_restart.as_ref().map(|report| Recovery {
            replay_progress: report.replay_progress,
            replay_version: report.manifest_replay_version,
            min_reader_version: report.min_reader_version.clone(),
            flush_failures: report.flush_failures,
            caught_up: report.caught_up,
            damaged_streams: report.damaged_streams.clone(),
        }),
    }
}
