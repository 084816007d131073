//! The engines' certificate: issued once, renewed in time, and written again when engines seem not to have it.

use aof2_crds::{ConditionType, Gate, WaitReason, status::ConfigStatus};
use jiff::SignedDuration;

use super::{Part, config_rollout};
use crate::{
    cluster::{
        action::Action,
        facts::Observed,
        memo::Memo,
        status::{ENGINE_CERTIFICATE, condition},
    },
    machine::{condition::FALSE, earlier},
    pki::authority::CERTIFICATE_LIFETIME,
};

/// An engine reads its files again every 10 s, and the kubelet brings a new Secret within two minutes.
const REACHED_AFTER: SignedDuration = SignedDuration::from_mins(2);
/// A pod that came after its certificate was written starts with it.
const STARTED_WITH_IT: SignedDuration = SignedDuration::from_secs(30);
/// A pod that somebody deletes, and an engine that restarts, are seen as ready for some seconds after they stopped listening.
const REFUSED_FOR: SignedDuration = SignedDuration::from_secs(30);
/// A certificate is not the only reason why nobody listens.
const ISSUE_AGAIN: SignedDuration = SignedDuration::from_mins(10);

/// `config` and `memo` say whose engine restarts.
pub fn plan(observed: &Observed, config: &ConfigStatus, memo: Option<&Memo>) -> Part {
    let mut part = Part::default();
    let status = observed.cluster.status.as_ref();
    let known = status.and_then(|status| {
        status
            .certificates
            .iter()
            .find(|certificate| certificate.name == ENGINE_CERTIFICATE)
    });
    let Some(known) = known else {
        part.actions.push(Action::IssueCertificate);
        return part;
    };
    if observed.now >= known.renew_at.0 {
        part.actions.push(Action::IssueCertificate);
        return part;
    }
    let lifetime = SignedDuration::try_from(CERTIFICATE_LIFETIME).unwrap_or_default();
    let issued = earlier(known.not_after.0, lifetime);
    let moving = memo.and_then(Memo::pod);
    let unreached = observed.pods.iter().find(|pod| {
        let (limit, since) = match issued < pod.created_at {
            true => (STARTED_WITH_IT, pod.created_at),
            false => (REACHED_AFTER, pod.created_at.max(issued)),
        };
        let is_old = observed.now.duration_since(since) > limit;
        pod.engine.is_running
            && pod.deletion.is_none()
            && pod.is_ready
            && moving != Some(pod.name.as_str())
            && is_old
            && observed
                .failure(&pod.name)
                .is_some_and(|failure| failure.may_be_certificate)
    });
    let is_lasting = status
        .and_then(|status| condition(status, ConditionType::Healthy))
        .is_some_and(|known| {
            known.status == FALSE
                && observed.now.duration_since(known.last_transition_time.0) >= REFUSED_FOR
        });
    if !is_lasting {
        return part;
    }
    if let Some(pod) =
        unreached.filter(|pod| !config_rollout::restarts_engine(memo, config, &pod.name))
    {
        let message = format!(
            "{} serves, but rejects the operator on its admin port. Its certificate is missing or from another authority. The operator issues a new one",
            pod.name
        );
        part.wait(
            Gate::Certificates,
            WaitReason::CertificateMissing,
            &pod.name,
            message,
        );
        // Its Secret was deleted or overwritten since, which cannot be seen: Secrets are never read. Once for this pod, then seldom.
        if issued < pod.created_at || observed.now.duration_since(issued) > ISSUE_AGAIN {
            part.actions.push(Action::IssueCertificate);
        }
    }
    part
}
