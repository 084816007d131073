//! A gate that holds, as a value.

use aof2_crds::{Gate, WaitReason, status};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Why a machine does not go on right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    pub gate: Gate,
    pub reason: WaitReason,
    /// Empty: not about one pod.
    pub pod: String,
    /// What happened, then why, then what to do. Its first sentence is what STATUS shows, and names the pod.
    pub message: String,
}

impl Wait {
    pub fn new(gate: Gate, reason: WaitReason, pod: &str, message: impl Into<String>) -> Self {
        let wait = Self {
            gate,
            reason,
            pod: pod.to_owned(),
            message: message.into(),
        };
        #[cfg(test)]
        super::language::check_wait(&wait);
        wait
    }
}

/// A reason that goes away by itself while all is well; every other one means that something is wrong, and that a newer target may
/// be taken before this pod has soaked.
pub fn is_progress(reason: WaitReason) -> bool {
    match reason {
        WaitReason::PodMissing
        | WaitReason::PodTerminating
        | WaitReason::Uploading
        | WaitReason::Draining
        | WaitReason::Terminating
        | WaitReason::Starting
        | WaitReason::Replaying
        | WaitReason::NotCaughtUp
        | WaitReason::Soaking
        | WaitReason::EngineRestarted
        | WaitReason::ConfigLoading
        | WaitReason::EngineRestarting
        | WaitReason::Observing
        | WaitReason::RetentionNotice
        | WaitReason::RolloutInProgress => true,
        WaitReason::Paused
        | WaitReason::InvalidPodTemplate
        | WaitReason::ClusterIDConflict
        | WaitReason::PrefixInUse
        | WaitReason::ConfigMapMissing
        | WaitReason::ConfigInvalid
        | WaitReason::ConfigRefused
        | WaitReason::ConfigRejected
        | WaitReason::ConfigHeld
        | WaitReason::RaiseTier1First
        | WaitReason::HydrationBacklog
        | WaitReason::ConfigNotLoaded
        | WaitReason::CertificateMissing
        | WaitReason::StreamsWouldBeOrphaned
        | WaitReason::ObjectTerminating
        | WaitReason::ReadFailed
        | WaitReason::VolumeAtRisk
        | WaitReason::VolumeReplaced
        | WaitReason::DataTooNew
        | WaitReason::PodNotReady
        | WaitReason::PodNotCreated
        | WaitReason::ContainerWaiting
        | WaitReason::PodOnLostNode
        | WaitReason::PodUnschedulable
        | WaitReason::ImagePull
        | WaitReason::CrashLoop
        | WaitReason::EngineRefused
        | WaitReason::EngineUnreachable
        | WaitReason::NotReported
        | WaitReason::UploadTimeout
        | WaitReason::DrainTimeout
        | WaitReason::DiskFull
        | WaitReason::DrainTokenExpired
        | WaitReason::Resumed
        | WaitReason::Tier2Unreachable
        | WaitReason::Tier2Refused
        | WaitReason::EvictionRefused
        | WaitReason::ReplayStalled
        | WaitReason::VersionMismatch
        | WaitReason::ReplayVersionMismatch
        | WaitReason::DamagedStreams
        | WaitReason::FlushFailed
        | WaitReason::ApplyFailed
        | WaitReason::Unknown => false,
    }
}

/// Nothing goes on by itself, or something lasts that should not: what is worth waking somebody for. The others end by themselves, or
/// were asked for.
pub fn needs_person(reason: WaitReason) -> bool {
    let ends_by_itself = matches!(
        reason,
        WaitReason::Paused
            | WaitReason::ObjectTerminating
            | WaitReason::ReadFailed
            | WaitReason::HydrationBacklog
            | WaitReason::ConfigNotLoaded
            | WaitReason::CertificateMissing
            | WaitReason::PodNotReady
            | WaitReason::NotReported
            | WaitReason::DrainTokenExpired
            | WaitReason::Resumed
    );
    !is_progress(reason) && !ends_by_itself
}

/// The waits for status: `since` stays as long as gate, reason and pod do. More than status holds are left out from the end.
pub fn carry_since(
    previous: &[status::Wait],
    current: Vec<Wait>,
    now: Timestamp,
) -> Vec<status::Wait> {
    current
        .into_iter()
        .take(status::MAX_WAITS)
        .map(
            |Wait {
                 gate,
                 reason,
                 pod,
                 message,
             }| {
                let since = previous
                    .iter()
                    .find(|before| {
                        before.gate == gate && before.reason == reason && before.pod == pod
                    })
                    .map_or(Time(now), |before| before.since.clone());
                status::Wait {
                    gate,
                    reason,
                    pod,
                    since,
                    message,
                }
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_keeps_its_since_while_only_its_message_changes() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let later = start + jiff::SignedDuration::from_secs(60);
        let wait = |message: &str| Wait {
            gate: Gate::Uploaded,
            reason: WaitReason::Tier2Unreachable,
            pod: "orders-2".into(),
            message: message.into(),
        };
        let first = carry_since(&[], vec![wait("1 stream behind")], start);
        let second = carry_since(&first, vec![wait("2 streams behind")], later);
        assert_eq!(second[0].since, Time(start));
        assert_eq!(second[0].message, "2 streams behind");
        let other_pod = carry_since(
            &second,
            vec![Wait {
                pod: "orders-1".into(),
                ..wait("")
            }],
            later,
        );
        assert_eq!(other_pod[0].since, Time(later));
    }
}
