//! What has to hold before a machine goes on: ordered lists of pure functions. The first that fails is the wait.

use aof2_crds::Gate;
use jiff::Timestamp;

use super::Wait;

/// A person lets one gate pass until then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    pub gate: Gate,
    pub until: Timestamp,
}

/// A person may let these pass. The others would lose data: a drain that Tier 2 does not allow, a pod that goes with its streams. A
/// target that cannot read a volume refuses it and changes nothing, and one engine's word does not veto an upgrade for ever.
pub const OVERRIDABLE: &[Gate] = &[
    Gate::OnePodDown,
    Gate::EngineReachable,
    Gate::ReplayVersion,
    Gate::MinReaderVersion,
    Gate::CaughtUp,
    Gate::FlushFailures,
    Gate::Soaked,
    Gate::HydrationBacklog,
    Gate::UploadRetries,
    Gate::Tier0Use,
    Gate::RaiseTier1First,
    Gate::RetentionNotice,
];

pub fn is_overridden(overrides: &[Override], gate: Gate, now: Timestamp) -> bool {
    OVERRIDABLE.contains(&gate)
        && overrides
            .iter()
            .any(|entry| entry.gate == gate && now < entry.until)
}

/// The first gate that holds, and those before it that a person let pass.
#[derive(Debug, Default, PartialEq)]
pub struct Verdict {
    pub wait: Option<Wait>,
    pub overridden: Vec<Gate>,
}

/// What the first gate that holds says, where a person is not asked.
pub fn first<View, Said, G>(gates: &[G], view: &View) -> Option<Said>
where
    G: Fn(&View) -> Result<(), Said>,
{
    gates.iter().find_map(|gate| gate(view).err())
}

/// `gates` are `fn(&View) -> Result<(), Wait>`.
pub fn check<View, G>(gates: &[G], view: &View, overrides: &[Override], now: Timestamp) -> Verdict
where
    G: Fn(&View) -> Result<(), Wait>,
{
    let mut overridden = Vec::new();
    for gate in gates {
        if let Err(wait) = gate(view) {
            if !is_overridden(overrides, wait.gate, now) {
                return Verdict {
                    wait: Some(wait),
                    overridden,
                };
            }
            overridden.push(wait.gate);
        }
    }
    Verdict {
        wait: None,
        overridden,
    }
}

#[cfg(test)]
mod tests {
    use aof2_crds::WaitReason;

    use super::*;

    fn passes(_: &()) -> Result<(), Wait> {
        Ok(())
    }

    fn one_pod_down(_: &()) -> Result<(), Wait> {
        Err(Wait::new(
            Gate::OnePodDown,
            WaitReason::PodNotReady,
            "orders-0",
            "Waiting for orders-0 to become ready",
        ))
    }

    fn drained(_: &()) -> Result<(), Wait> {
        Err(Wait::new(
            Gate::Drained,
            WaitReason::Draining,
            "orders-2",
            "orders-2 rejects appends; uploading the rest",
        ))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn until_ten(gate: Gate) -> [Override; 1] {
        [Override {
            gate,
            until: at(10),
        }]
    }

    #[test]
    fn the_first_gate_that_holds_is_the_wait_and_an_override_lets_the_next_one_speak() {
        type UnitGate = fn(&()) -> Result<(), Wait>;
        let gates: [UnitGate; 3] = [passes, one_pod_down, drained];
        let held = |overrides: &[Override], now| {
            let verdict = check(&gates, &(), overrides, at(now));
            (verdict.wait.map(|wait| wait.gate), verdict.overridden)
        };
        assert_eq!(held(&[], 0), (Some(Gate::OnePodDown), vec![]));
        let overrides = until_ten(Gate::OnePodDown);
        assert_eq!(
            held(&overrides, 9),
            (Some(Gate::Drained), vec![Gate::OnePodDown])
        );
        assert_eq!(held(&overrides, 10), (Some(Gate::OnePodDown), vec![]));
    }

    #[test]
    fn a_gate_that_guards_data_is_not_overridden() {
        assert!(!is_overridden(
            &until_ten(Gate::Drained),
            Gate::Drained,
            at(0)
        ));
        assert!(!is_overridden(
            &until_ten(Gate::ScaleDown),
            Gate::ScaleDown,
            at(0)
        ));
    }
}
