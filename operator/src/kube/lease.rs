//! Leader election on a Lease, with the semantics of client-go.
//!
//! - A foreign holder is respected until its record did not change for `lease_duration` on **our** clock: clocks of two machines are
//!   never compared.
//! - Every write carries the resourceVersion that was read, so that of two candidates one loses.
//! - The holder gives up `renew_deadline` after its last renewal began, which is before anyone else may take over; the caller then
//!   ends the process, since work already under way cannot be called back otherwise.
//!
//! The Lease also carries the **operator epoch**: an annotation made of unix seconds, plus one at every acquisition, under the same
//! resourceVersion. Engines refuse verbs of an older epoch than they saw, so a holder that lost the lease without noticing is
//! harmless. `leaseTransitions` would not do: it starts again at 0 when somebody deletes the Lease, seconds do not.

use std::{collections::BTreeMap, time::Duration};

use ::kube::{Api, Client, api::PostParams};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use tokio::time::{Instant, sleep, timeout};

/// Annotation of the Lease that holds the operator epoch.
pub const EPOCH_ANNOTATION: &str = "aof2.dev/operator-epoch";

/// How far an epoch may be ahead of the clock; engines take none that is further (`aof2_admin_api::EPOCH_AHEAD`).
const EPOCH_AHEAD_SECONDS: u64 = aof2_admin_api::EPOCH_AHEAD.as_secs();

#[derive(Clone, Debug)]
pub struct LeaseSettings {
    pub namespace: String,
    pub name: String,
    /// Differs for every process, also after a restart of the same pod.
    pub identity: String,
    pub lease_duration: Duration,
    pub renew_deadline: Duration,
    pub retry_period: Duration,
}

impl LeaseSettings {
    /// client-go's defaults.
    pub fn new(namespace: String, name: String, identity: String) -> Self {
        Self {
            namespace,
            name,
            identity,
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// Why leadership ended.
#[derive(Debug, thiserror::Error)]
pub enum LeaseLost {
    #[error("{holder:?} holds the Lease {namespace}/{name} now. This process stops")]
    Taken {
        namespace: String,
        name: String,
        holder: String,
    },
    #[error("the Lease {namespace}/{name} could not be renewed for {} s. This process stops before another one acts. Last error: {last}", .deadline.as_secs())]
    Deadline {
        namespace: String,
        name: String,
        deadline: Duration,
        last: String,
    },
}

/// What a look at the Lease says.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// Another process holds it.
    Held,
    /// Ours, or free: write this.
    Write(Box<Lease>),
}

/// The record as last seen, and when it last changed on our clock.
struct Observed {
    spec: LeaseSpec,
    changed: Instant,
}

pub struct Elector {
    api: Api<Lease>,
    settings: LeaseSettings,
    observed: Option<Observed>,
    /// The Lease as we wrote it last.
    ours: Option<Lease>,
}

impl Elector {
    pub fn new(client: Client, settings: LeaseSettings) -> Self {
        let api = Api::namespaced(client, &settings.namespace);
        Self {
            api,
            settings,
            observed: None,
            ours: None,
        }
    }

    /// Waits until this process is the leader and returns its epoch.
    pub async fn acquire(&mut self) -> u64 {
        let mut said = false;
        loop {
            match timeout(self.settings.renew_deadline, self.attempt(Instant::now())).await {
                Ok(Ok(Some(epoch))) => return epoch,
                Ok(Ok(None)) if !said => {
                    said = true;
                    tracing::info!(lease = %self.settings.name, holder = self.holder(), "another process is the leader; waiting for the Lease");
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(lease = %self.settings.name, %error, "the Lease cannot be acquired; retrying")
                }
                Err(_) => {
                    tracing::warn!(lease = %self.settings.name, "the API server does not answer")
                }
            }
            sleep(jittered(self.settings.retry_period)).await;
        }
    }

    /// Renews until that fails for `renew_deadline`.
    pub async fn hold(&mut self) -> LeaseLost {
        let mut renewed = Instant::now();
        let mut last = String::from("none");
        loop {
            sleep(self.settings.retry_period).await;
            let left = self
                .settings
                .renew_deadline
                .saturating_sub(renewed.elapsed());
            let began = Instant::now();
            match timeout(left, self.attempt(began)).await {
                Ok(Ok(Some(_))) => renewed = began,
                Ok(Ok(None)) => {
                    let LeaseSettings {
                        namespace, name, ..
                    } = self.settings.clone();
                    return LeaseLost::Taken {
                        namespace,
                        name,
                        holder: self.holder().to_owned(),
                    };
                }
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => last = "the API server does not answer".to_owned(),
            }
            if renewed.elapsed() >= self.settings.renew_deadline {
                let LeaseSettings {
                    namespace,
                    name,
                    renew_deadline: deadline,
                    ..
                } = self.settings.clone();
                return LeaseLost::Deadline {
                    namespace,
                    name,
                    deadline,
                    last,
                };
            }
        }
    }

    /// Lets the next process start at once. Only called when everything that acts has stopped.
    pub async fn release(&mut self) {
        let Some(mut lease) = self.ours.take() else {
            return;
        };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        let replaced = timeout(
            self.settings.retry_period,
            self.api
                .replace(&self.settings.name, &PostParams::default(), &lease),
        )
        .await;
        if !matches!(replaced, Ok(Ok(_))) {
            tracing::warn!(lease = %self.settings.name, "the Lease was not released; the next leader waits until it expires");
        }
    }

    /// One try to acquire or renew; `false`: another one holds it.
    pub async fn try_hold(&mut self, now: Instant) -> Result<bool, ::kube::Error> {
        Ok(self.attempt(now).await?.is_some())
    }

    /// How long the holder is respected after its last renewal.
    pub fn holders_duration(&self) -> Duration {
        let seconds = self
            .observed
            .as_ref()
            .and_then(|observed| observed.spec.lease_duration_seconds);
        Duration::from_secs(u64::try_from(seconds.unwrap_or_default()).unwrap_or_default())
    }

    pub fn holder(&self) -> &str {
        self.observed
            .as_ref()
            .and_then(|observed| observed.spec.holder_identity.as_deref())
            .unwrap_or_default()
    }

    /// One try to acquire or renew: the epoch if the Lease is ours now.
    async fn attempt(&mut self, at: Instant) -> Result<Option<u64>, ::kube::Error> {
        let now = Timestamp::now();
        let Some(live) = self.api.get_opt(&self.settings.name).await? else {
            let lease = first(&self.settings, now);
            let created = self.api.create(&PostParams::default(), &lease).await?;
            return Ok(Some(self.remember(created, at)));
        };
        let spec = live.spec.clone().unwrap_or_default();
        let changed = match &self.observed {
            Some(observed) if observed.spec == spec => observed.changed,
            _ => at,
        };
        self.observed = Some(Observed { spec, changed });
        let unchanged = at.saturating_duration_since(changed);
        match judge(&self.settings, live, unchanged, now) {
            Verdict::Held => {
                self.ours = None;
                Ok(None)
            }
            Verdict::Write(lease) => {
                let written = self
                    .api
                    .replace(&self.settings.name, &PostParams::default(), &lease)
                    .await?;
                Ok(Some(self.remember(written, at)))
            }
        }
    }

    fn remember(&mut self, lease: Lease, at: Instant) -> u64 {
        let epoch = epoch(&lease).unwrap_or_default();
        self.observed = Some(Observed {
            spec: lease.spec.clone().unwrap_or_default(),
            changed: at,
        });
        self.ours = Some(lease);
        epoch
    }
}

fn epoch(lease: &Lease) -> Option<u64> {
    lease
        .metadata
        .annotations
        .as_ref()?
        .get(EPOCH_ANNOTATION)?
        .parse()
        .ok()
}

fn unix_seconds(now: Timestamp) -> u64 {
    u64::try_from(now.as_second()).unwrap_or_default()
}

fn first(settings: &LeaseSettings, now: Timestamp) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(settings.name.clone()),
            namespace: Some(settings.namespace.clone()),
            annotations: Some(BTreeMap::from([(
                EPOCH_ANNOTATION.to_owned(),
                unix_seconds(now).to_string(),
            )])),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(settings.identity.clone()),
            lease_duration_seconds: Some(seconds(settings.lease_duration)),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(0),
            ..LeaseSpec::default()
        }),
    }
}

/// May we write, and what? `unchanged` is how long the record has looked as it does, on our clock.
fn judge(
    settings: &LeaseSettings,
    mut live: Lease,
    unchanged: Duration,
    now: Timestamp,
) -> Verdict {
    let spec = live.spec.get_or_insert_default();
    let holder = spec.holder_identity.clone().unwrap_or_default();
    if holder != settings.identity {
        let duration = Duration::from_secs(
            u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or_default(),
        );
        if !holder.is_empty() && unchanged < duration {
            return Verdict::Held;
        }
        spec.holder_identity = Some(settings.identity.clone());
        spec.acquire_time = Some(MicroTime(now));
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default() + 1);
    }
    spec.lease_duration_seconds = Some(seconds(settings.lease_duration));
    spec.renew_time = Some(MicroTime(now));
    if holder != settings.identity || epoch(&live).is_none() {
        // An annotation that somebody removed starts again at the clock, which is past every epoch counted from an earlier one.
        // So does one that is ahead of every clock: engines take none of these, and would obey nobody.
        let next = epoch(&live)
            .filter(|epoch| *epoch < unix_seconds(now) + EPOCH_AHEAD_SECONDS)
            .map_or_else(|| unix_seconds(now), |epoch| epoch + 1);
        live.metadata
            .annotations
            .get_or_insert_default()
            .insert(EPOCH_ANNOTATION.to_owned(), next.to_string());
    }
    live.metadata.managed_fields = None;
    Verdict::Write(Box::new(live))
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

/// Up to 20 % more, as client-go: two candidates must not stay in step.
fn jittered(period: Duration) -> Duration {
    period + period.mul_f64(0.2 * crate::runtime::jitter())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(identity: &str) -> LeaseSettings {
        LeaseSettings::new("storage".into(), "aof2-operator".into(), identity.into())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn written(verdict: Verdict) -> Lease {
        match verdict {
            Verdict::Write(lease) => *lease,
            Verdict::Held => panic!("held"),
        }
    }

    #[test]
    fn the_first_epoch_is_the_clock_and_each_acquisition_adds_one() {
        let lease = first(&settings("a"), at(1_795_400_003));
        assert_eq!(epoch(&lease), Some(1_795_400_003));
        let lease = written(judge(
            &settings("b"),
            lease,
            Duration::from_secs(15),
            at(1_795_400_500),
        ));
        assert_eq!(epoch(&lease), Some(1_795_400_004));
        assert_eq!(
            lease.spec.as_ref().unwrap().holder_identity.as_deref(),
            Some("b")
        );
        assert_eq!(lease.spec.as_ref().unwrap().lease_transitions, Some(1));
    }

    #[test]
    fn a_renewal_keeps_epoch_transitions_and_acquisition() {
        let lease = first(&settings("a"), at(100));
        let renewed = written(judge(&settings("a"), lease, Duration::ZERO, at(102)));
        let spec = renewed.spec.clone().unwrap();
        assert_eq!(epoch(&renewed), Some(100));
        assert_eq!(spec.lease_transitions, Some(0));
        assert_eq!(spec.acquire_time, Some(MicroTime(at(100))));
        assert_eq!(spec.renew_time, Some(MicroTime(at(102))));
    }

    #[test]
    fn a_holder_is_respected_until_its_record_stood_still_for_the_lease_duration() {
        let lease = first(&settings("a"), at(100));
        // Our wall clock is an hour ahead: only the time since the record changed counts.
        assert_eq!(
            judge(
                &settings("b"),
                lease.clone(),
                Duration::from_secs(14),
                at(3700)
            ),
            Verdict::Held
        );
        assert!(matches!(
            judge(&settings("b"), lease, Duration::from_secs(15), at(100)),
            Verdict::Write(_)
        ));
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let mut lease = first(&settings("a"), at(100));
        lease.spec.as_mut().unwrap().holder_identity = Some(String::new());
        assert!(matches!(
            judge(&settings("b"), lease, Duration::ZERO, at(101)),
            Verdict::Write(_)
        ));
    }

    #[test]
    fn a_removed_epoch_starts_again_at_the_clock() {
        let mut lease = first(&settings("a"), at(100));
        lease.metadata.annotations = None;
        assert_eq!(
            epoch(&written(judge(
                &settings("a"),
                lease,
                Duration::ZERO,
                at(900)
            ))),
            Some(900)
        );
    }

    #[test]
    fn an_epoch_ahead_of_every_clock_starts_again_too() {
        for absurd in [u64::MAX, 900 + 86_400] {
            let mut lease = first(&settings("a"), at(100));
            lease
                .metadata
                .annotations
                .get_or_insert_default()
                .insert(EPOCH_ANNOTATION.to_owned(), absurd.to_string());
            let taken = judge(&settings("b"), lease, Duration::from_secs(20), at(900));
            assert_eq!(epoch(&written(taken)), Some(900), "{absurd}");
        }
    }

    #[test]
    fn what_is_written_carries_the_resource_version_that_was_read() {
        let mut lease = first(&settings("a"), at(100));
        lease.metadata.resource_version = Some("77".into());
        let lease = written(judge(
            &settings("b"),
            lease,
            Duration::from_secs(20),
            at(200),
        ));
        assert_eq!(lease.metadata.resource_version.as_deref(), Some("77"));
    }
}
