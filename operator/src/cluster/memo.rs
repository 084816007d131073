//! The memo of the one machine that moves a cluster's pods or tells them something: flat in status, read once into the kind that it is
//! of. A new kind is a variant here and a module of its own.

use aof2_crds::{Rollout, status::Announcement};
use jiff::Timestamp;

use crate::{
    config_rollout::{self, ConfigStep},
    rollout,
};

#[derive(Clone, Debug, PartialEq)]
pub enum Memo {
    Upgrade(rollout::Memo),
    Config(config_rollout::Memo),
}

impl Memo {
    /// `None` for what another operator version wrote: the facts are enough to begin again.
    pub fn read(stored: &Rollout) -> Option<Self> {
        let upgrade = rollout::Memo::read(stored).map(Self::Upgrade);
        upgrade.or_else(|| config_rollout::Memo::read(stored).map(Self::Config))
    }

    pub fn stored(&self) -> Rollout {
        match self {
            Self::Upgrade(memo) => memo.stored(),
            Self::Config(memo) => memo.stored(),
        }
    }

    pub fn config(&self) -> Option<&config_rollout::Memo> {
        match self {
            Self::Config(memo) => Some(memo),
            Self::Upgrade(_) => None,
        }
    }

    /// Nothing has moved yet, and the next step may be days away: the number of pods and their shares do not wait so long.
    pub fn is_only_announced(&self, announcements: &[Announcement], now: Timestamp) -> bool {
        let is_waiting = |memo: &config_rollout::Memo| memo.step == ConfigStep::Preflight;
        self.config().is_some_and(is_waiting)
            && announcements.iter().any(|it| now < it.effective_at.0)
    }

    /// What the pods had, and what they get.
    pub fn ends(&self) -> [&str; 2] {
        match self {
            Self::Upgrade(memo) => [&memo.from, &memo.to],
            Self::Config(memo) => [&memo.from, &memo.to],
        }
    }

    /// The one pod that is on its way.
    pub fn pod(&self) -> Option<&str> {
        match self {
            Self::Upgrade(memo) => memo.pod.as_ref().map(|pod| pod.name.as_str()),
            Self::Config(memo) => memo.canary.as_ref().map(|canary| canary.name.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use aof2_crds::{Baseline, RolloutKind, RolloutPod, RolloutStep};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn pod(kind: RolloutKind) -> RolloutPod {
        let time = Time(jiff::Timestamp::from_second(5).unwrap());
        let pod = RolloutPod {
            name: "orders-2".into(),
            uid: "uid-2".into(),
            baseline: Some(Baseline {
                process_start: "p".into(),
                ..Baseline::default()
            }),
            ..RolloutPod::default()
        };
        match kind {
            RolloutKind::Config => RolloutPod {
                unready_since: Some(time),
                ..pod
            },
            RolloutKind::Version | RolloutKind::Template | RolloutKind::Unknown => RolloutPod {
                replay_version: Some(1),
                drain_requested: true,
                failed_drains: 3,
                drain_token: "token".into(),
                drain_expires_at: Some(time),
                ..pod
            },
        }
    }

    fn stored(kind: RolloutKind, step: RolloutStep) -> Rollout {
        let time = |second: i64| Time(jiff::Timestamp::from_second(second).unwrap());
        Rollout {
            kind,
            from: "a".into(),
            to: "b".into(),
            revision: match kind {
                RolloutKind::Config => String::new(),
                RolloutKind::Version | RolloutKind::Template | RolloutKind::Unknown => "t".into(),
            },
            step,
            started_at: time(1),
            since: time(2),
            until: Some(time(3)),
            deadline: (kind == RolloutKind::Config).then(|| time(4)),
            evidence: None,
            failure: None,
            done: vec!["uid-0".into()],
            pod: Some(pod(kind)),
        }
    }

    #[test]
    fn each_kind_reads_its_own_steps_and_writes_them_as_they_were() {
        for kind in RolloutKind::ALL {
            let read = RolloutStep::ALL
                .iter()
                .filter_map(|step| {
                    let stored = stored(*kind, *step);
                    let memo = Memo::read(&stored)?;
                    assert_eq!(memo.stored(), stored);
                    Some(())
                })
                .count();
            assert_eq!(read, 7, "{kind}");
        }
    }

    #[test]
    fn what_another_operator_version_wrote_starts_again() {
        for memo in [
            stored(RolloutKind::Unknown, RolloutStep::Planned),
            stored(RolloutKind::Version, RolloutStep::Unknown),
            stored(RolloutKind::Config, RolloutStep::Soaking),
        ] {
            assert_eq!(Memo::read(&memo), None, "{memo:?}");
        }
    }
}
