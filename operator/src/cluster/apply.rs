//! Does what a plan asks for, in its order. An action that fails stops those that rest on it, and no others.

use aof2_crds::{Gate, WaitReason, status::CertificateStatus};
use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ConfigMap, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{
    cluster::{
        action::{Action, Desired, Role},
        build::{self, Owner},
        error::ActionError,
        failures::Failure,
        memory::Memory,
        status::ENGINE_CERTIFICATE,
    },
    context::Context,
    engines::Whose,
    kube::{Applied, Removed},
    machine::Wait,
    names,
    pki::authority::Usage,
    rollout::{self, RemoveBy},
    runtime::jitter,
};

/// What the actions came to.
#[derive(Debug, Default)]
pub struct Done {
    /// Something was written, so that what was observed is old.
    pub changed: bool,
    pub certificate: Option<CertificateStatus>,
    /// Refusals that are no failures.
    pub waits: Vec<Wait>,
    pub failures: Vec<Failure>,
}

pub async fn apply(
    context: &Context,
    memory: &Memory,
    owner: &Owner,
    whose: Option<&Whose>,
    actions: Vec<Action>,
) -> Done {
    let mut done = Done::default();
    let cluster = (owner.namespace.clone(), owner.name.clone());
    let ids: Vec<String> = actions.iter().map(Action::id).collect();
    memory.failures.keep_only(&cluster, &ids);
    let mut missing: Option<Role> = None;
    for (action, id) in actions.into_iter().zip(ids) {
        let role = action.role();
        if role != Role::Alone && missing.is_some_and(|missing| missing < role) {
            continue;
        }
        let now = Timestamp::now();
        if let Some(failure) = memory.failures.pending(&cluster, &id, now) {
            done.failures.push(failure);
        } else {
            match act(context, owner, whose, action, &mut done).await {
                Ok(()) => {
                    memory.failures.succeeded(&cluster, &id);
                    continue;
                }
                // Somebody else wrote first: the next look sees it.
                Err(error) if error.is_conflict() => done.changed = true,
                Err(error) => {
                    let failure = memory.failures.failed(&cluster, &id, &error, now, jitter());
                    if failure.is_news {
                        tracing::warn!(
                            namespace = owner.namespace,
                            cluster = owner.name,
                            error = failure.message,
                            again_at = %failure.retry_at,
                            failures = failure.count,
                            "an action failed"
                        );
                    }
                    done.failures.push(failure);
                }
            }
        }
        missing = Some(missing.map_or(role, |missing| missing.min(role)));
    }
    done
}

/// An engine is told something only under the identity by which it was asked.
fn of<'a>(whose: Option<&'a Whose>, pod: &str) -> Result<&'a Whose, ActionError> {
    whose.ok_or_else(|| ActionError::Engine {
        verb: "every verb",
        pod: pod.to_owned(),
        message: "the cluster has no identity yet".to_owned(),
    })
}

async fn act(
    context: &Context,
    owner: &Owner,
    whose: Option<&Whose>,
    action: Action,
    done: &mut Done,
) -> Result<(), ActionError> {
    let door = &context.door;
    match action {
        Action::Apply(desired) => {
            let applied = match desired {
                Desired::ServiceAccount(object) => door.apply(&*object).await,
                Desired::Service(object) => door.apply(&*object).await,
                Desired::NetworkPolicy(object) => door.apply(&*object).await,
                Desired::DisruptionBudget(object) => door.apply(&*object).await,
                Desired::ConfigMap(object) | Desired::KeptSpec(object) => {
                    door.apply(&*object).await
                }
                Desired::StatefulSet(object) => door.apply(&*object).await,
            }?;
            done.changed |= applied != Applied::Unchanged;
        }
        Action::RemoveDisruptionBudget => {
            door.remove::<PodDisruptionBudget>(
                &owner.namespace,
                &names::disruption_budget(&owner.name),
                &owner.reference,
            )
            .await?;
        }
        Action::IssueCertificate => {
            let issued = context.authority.issue(
                &names::server_name(&owner.reference.uid, &owner.namespace),
                Usage::Server,
                Timestamp::now(),
            )?;
            door.write_secret(&build::certificate::build(
                owner,
                &issued,
                &context.authority,
            ))
            .await?;
            done.certificate = Some(CertificateStatus {
                name: ENGINE_CERTIFICATE.to_owned(),
                not_after: Time(issued.not_after),
                renew_at: Time(issued.renew_at),
            });
            done.changed = true;
        }
        Action::Nudge { target, value } => {
            door.annotate_pod(&target, names::NUDGE_ANNOTATION, &value)
                .await?
        }
        Action::ExpandClaim { name, uid, size } => {
            match door
                .expand_claim(&owner.namespace, &name, &uid, &size)
                .await
            {
                Ok(()) => done.changed = true,
                Err(source) => {
                    return Err(ActionError::Expand {
                        claim: name,
                        size,
                        source: Box::new(source),
                    });
                }
            }
        }
        // A courtesy: what became of it is not read again in this look.
        Action::CreateSnapshot(snapshot) => door.create_snapshot(&snapshot).await?,
        Action::RemoveSnapshot {
            namespace,
            name,
            uid,
        } => door.remove_snapshot(&namespace, &name, &uid).await?,
        Action::RemoveConfigMap { name } => {
            door.remove::<ConfigMap>(&owner.namespace, &name, &owner.reference)
                .await?;
        }
        Action::RestartEngine {
            pod,
            ip,
            process_start,
        } => {
            tracing::info!(
                namespace = owner.namespace,
                cluster = owner.name,
                pod,
                "restarting the engine"
            );
            context
                .engines
                .restart(of(whose, &pod)?, ip, &process_start)
                .await
                .map_err(|failure| ActionError::Engine {
                    verb: "restart",
                    pod,
                    message: failure.message,
                })?;
            done.changed = true;
        }
        Action::StartDrain {
            pod,
            ip,
            bounds,
            without,
        } => {
            tracing::info!(
                namespace = owner.namespace,
                cluster = owner.name,
                pod,
                ?bounds,
                ?without,
                "draining the engine"
            );
            context
                .engines
                .drain(of(whose, &pod)?, ip, bounds, &without)
                .await
                .map_err(|failure| ActionError::Engine {
                    verb: "drain",
                    pod,
                    message: failure.message,
                })?;
            done.changed = true;
        }
        Action::Resume { pod, ip } => {
            tracing::info!(
                namespace = owner.namespace,
                cluster = owner.name,
                pod,
                "resuming the engine"
            );
            context
                .engines
                .resume(of(whose, &pod)?, ip)
                .await
                .map_err(|failure| ActionError::Engine {
                    verb: "resume",
                    pod,
                    message: failure.message,
                })?;
            done.changed = true;
        }
        Action::RemovePod {
            target,
            resource_version,
            by,
        } => {
            let removed = match by {
                RemoveBy::Eviction => door.evict(&target, &resource_version).await?,
                RemoveBy::Delete => door.delete_pod(&target, &resource_version).await?,
            };
            done.changed = true;
            if let Removed::BudgetExhausted { message } = removed {
                let message = rollout::eviction_refused(&target.name, &message);
                done.waits.push(Wait::new(
                    Gate::PodRemoved,
                    WaitReason::EvictionRefused,
                    &target.name,
                    message,
                ));
            }
        }
    }
    Ok(())
}
