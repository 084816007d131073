//! Every small world, walked to convergence: one fault at every look of a rollout, and pairs of faults.

use super::world::{Behaviour, TICK, World, revision};
use crate::rollout::step;

/// A look happens once per tick. Long enough for the longest pause between drains.
const MAX_TICKS: usize = 600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The operator dies after this many of the look's actions, before it records.
    OperatorDies {
        after_actions: usize,
    },
    /// The look's actions all fail, and the memo is recorded: `record` runs also when `apply` failed.
    ActionsFail,
    /// The world moves on between observation and action.
    SlowOperator {
        ticks: usize,
    },
    /// The operator is away for so long.
    OperatorAway {
        ticks: usize,
    },
    /// Status is wiped.
    MemoLost,
    PodDeleted {
        ordinal: usize,
    },
    StatefulSetDeleted {
        with_pods: bool,
    },
    EngineCrashes {
        ordinal: usize,
    },
    EngineUnreachable {
        ordinal: usize,
        ticks: usize,
    },
    Tier2Down {
        ticks: usize,
    },
    /// The spec is set back.
    GoBack,
    /// A newer version is asked for.
    NewerTarget,
}

fn faults(replicas: usize) -> Vec<Fault> {
    let mut faults = vec![
        Fault::OperatorDies { after_actions: 0 },
        Fault::OperatorDies { after_actions: 1 },
        Fault::ActionsFail,
        Fault::SlowOperator { ticks: 1 },
        Fault::SlowOperator { ticks: 5 },
        Fault::OperatorAway { ticks: 40 },
        Fault::Tier2Down { ticks: 30 },
        Fault::GoBack,
        Fault::NewerTarget,
        Fault::StatefulSetDeleted { with_pods: true },
        Fault::StatefulSetDeleted { with_pods: false },
    ];
    for ordinal in 0..replicas {
        faults.push(Fault::PodDeleted { ordinal });
        faults.push(Fault::EngineCrashes { ordinal });
        faults.push(Fault::EngineUnreachable { ordinal, ticks: 10 });
    }
    faults
}

struct Walk {
    world: World,
    faults: Vec<(usize, Fault)>,
    tier2_back_at: usize,
    reachable_at: Vec<usize>,
    away_until: usize,
}

impl Walk {
    fn new(world: World, faults: Vec<(usize, Fault)>) -> Self {
        let reachable_at = vec![0; world.pods.len()];
        Self {
            world,
            faults,
            tier2_back_at: 0,
            reachable_at,
            away_until: 0,
        }
    }

    /// Ticks until convergence.
    fn run(&mut self) -> Result<usize, String> {
        let last_fault = self
            .faults
            .iter()
            .map(|(tick, _)| *tick)
            .max()
            .unwrap_or_default();
        for tick in 0..MAX_TICKS {
            self.world.tier2_is_up = tick >= self.tier2_back_at;
            for (ordinal, at) in self.reachable_at.iter().enumerate() {
                self.world.set_reachable(ordinal, tick >= *at);
            }
            let now: Vec<Fault> = self
                .faults
                .iter()
                .filter(|(at, _)| *at == tick)
                .map(|(_, fault)| *fault)
                .collect();
            for fault in &now {
                self.strike(*fault, tick);
            }
            if tick >= self.away_until {
                self.reconcile(&now);
            }
            self.world.tick();
            if tick > last_fault && self.world.has_converged() {
                return Ok(tick);
            }
        }
        Err(format!(
            "no convergence within {MAX_TICKS} ticks: memo {:?}, pods {:?}",
            self.world.memo, self.world.pods
        ))
    }

    fn strike(&mut self, fault: Fault, tick: usize) {
        match fault {
            Fault::OperatorDies { .. } | Fault::ActionsFail | Fault::SlowOperator { .. } => {}
            Fault::OperatorAway { ticks } => self.away_until = tick + ticks,
            Fault::MemoLost => {
                self.world.memo = None;
                self.world.memo_was_lost = true;
            }
            Fault::PodDeleted { ordinal } => self.world.delete_pod(ordinal),
            Fault::StatefulSetDeleted { with_pods } => self.world.recreate(with_pods),
            Fault::EngineCrashes { ordinal } => self.world.crash_engine(ordinal),
            Fault::EngineUnreachable { ordinal, ticks } => {
                self.reachable_at[ordinal] = tick + ticks
            }
            Fault::Tier2Down { ticks } => {
                self.tier2_back_at = tick + ticks;
                self.world.tier2_is_up = false;
            }
            Fault::GoBack => self.world.wanted = revision("0.1.0"),
            Fault::NewerTarget => self.world.wanted = revision("0.1.2"),
        }
    }

    fn reconcile(&mut self, faults: &[Fault]) {
        let step = step(
            self.world.memo.clone(),
            &self.world.observe(),
            self.world.now,
        );
        for fault in faults {
            match *fault {
                Fault::SlowOperator { ticks } => (0..ticks).for_each(|_| self.world.tick()),
                Fault::OperatorDies { after_actions } => {
                    step.actions
                        .iter()
                        .take(after_actions)
                        .for_each(|action| self.world.apply(action));
                    return;
                }
                Fault::ActionsFail => {
                    self.world.record(&step);
                    return;
                }
                _ => {}
            }
        }
        step.actions
            .iter()
            .for_each(|action| self.world.apply(action));
        self.world.record(&step);
    }
}

fn upgrade(replicas: u32) -> World {
    let mut world = World::new(replicas);
    world.wanted = revision("0.1.1");
    world
}

fn walk(world: World, faults: Vec<(usize, Fault)>) -> usize {
    let shown = format!("{faults:?}");
    let mut walk = Walk::new(world, faults);
    match walk.run() {
        Ok(ticks) => ticks,
        Err(error) => panic!("with {shown}: {error}"),
    }
}

#[test]
fn an_upgrade_converges_and_takes_time_in_proportion_to_its_pods() {
    let ticks: Vec<usize> = (1..=4)
        .map(|replicas| walk(upgrade(replicas), vec![]))
        .collect();
    let per_pod = ticks[1] - ticks[0];
    assert_eq!(ticks[3] - ticks[2], per_pod);
    assert!(per_pod < 40, "{per_pod} ticks of {TICK:?} per pod");
}

#[test]
fn one_fault_at_any_look_leaves_a_cluster_that_converges() {
    for replicas in 1..=3u32 {
        let length = walk(upgrade(replicas), vec![]);
        for fault in faults(replicas as usize) {
            for tick in 0..=length {
                walk(upgrade(replicas), vec![(tick, fault)]);
            }
        }
    }
}

#[test]
fn two_faults_at_any_two_looks_leave_a_cluster_that_converges() {
    let replicas = 2;
    let length = walk(upgrade(replicas), vec![]);
    let faults = faults(replicas as usize);
    // Strides without a common divisor, so that over the pairs every distance occurs.
    for first_at in (0..=length).step_by(5) {
        for second_at in (first_at..=length + 20).step_by(7) {
            for first in &faults {
                for second in &faults {
                    walk(
                        upgrade(replicas),
                        vec![(first_at, *first), (second_at, *second)],
                    );
                }
            }
        }
    }
}

#[test]
fn a_lost_memo_at_any_look_leaves_a_cluster_that_converges() {
    for replicas in 1..=3u32 {
        let length = walk(upgrade(replicas), vec![]);
        for tick in 0..=length {
            walk(upgrade(replicas), vec![(tick, Fault::MemoLost)]);
        }
    }
}

#[test]
fn a_bad_version_stops_at_the_first_pod_and_going_back_needs_no_help() {
    for behaviour in [
        Behaviour::ImagePull,
        Behaviour::CrashLoop,
        Behaviour::NeverReady,
        Behaviour::OtherManifest,
        Behaviour::FailsFlushes,
        Behaviour::WrongVersion,
    ] {
        for replicas in 1..=3u32 {
            for back_at in (0..120).step_by(3) {
                let mut world = upgrade(replicas);
                world.behaviours = vec![("0.1.1", behaviour)];
                let mut walk = Walk::new(world, vec![(back_at, Fault::GoBack)]);
                for tick in 0..back_at {
                    walk.reconcile(&[]);
                    walk.world.tick();
                    let moved = walk
                        .world
                        .pods
                        .iter()
                        .flatten()
                        .filter(|pod| pod.revision == revision("0.1.1"))
                        .count();
                    assert!(
                        moved <= 1,
                        "{behaviour:?}: {moved} pods moved by tick {tick}"
                    );
                    assert!(
                        walk.world.serving() + 1 >= replicas as usize,
                        "{behaviour:?}: two pods are down at tick {tick}"
                    );
                }
                walk.world.wanted = revision("0.1.0");
                walk.faults.clear();
                if let Err(error) = walk.run() {
                    panic!("{behaviour:?}, back at {back_at}: {error}");
                }
                assert!(
                    walk.world
                        .pods
                        .iter()
                        .flatten()
                        .all(|pod| pod.revision == revision("0.1.0"))
                );
            }
        }
    }
}

#[test]
fn a_better_target_is_taken_when_the_first_is_bad() {
    for behaviour in [
        Behaviour::ImagePull,
        Behaviour::CrashLoop,
        Behaviour::NeverReady,
        Behaviour::OtherManifest,
    ] {
        let mut world = upgrade(2);
        world.behaviours = vec![("0.1.1", behaviour)];
        walk(world, vec![(60, Fault::NewerTarget)]);
    }
}

#[test]
fn a_bad_version_and_any_fault_converge_after_going_back() {
    for behaviour in [
        Behaviour::ImagePull,
        Behaviour::CrashLoop,
        Behaviour::NeverReady,
    ] {
        for fault in faults(2) {
            for at in (0..100).step_by(3) {
                let mut world = upgrade(2);
                world.behaviours = vec![("0.1.1", behaviour)];
                if fault == Fault::NewerTarget {
                    continue;
                }
                walk(world, vec![(at, fault), (70, Fault::GoBack)]);
            }
        }
    }
}

#[test]
fn a_stateful_set_deleted_at_any_look_brings_no_second_pod_onto_a_version_that_has_not_soaked() {
    for with_pods in [true, false] {
        for replicas in 2..=3u32 {
            let length = walk(upgrade(replicas), vec![]);
            for at in 0..=length {
                let mut walk = Walk::new(upgrade(replicas), vec![]);
                for tick in 0..at + 200 {
                    if tick == at {
                        walk.world.recreate(with_pods);
                    }
                    walk.reconcile(&[]);
                    walk.world.tick();
                    let moved = walk.world.moved();
                    assert!(moved <= 1, "deleted at {at}: {moved} pods at {tick}");
                }
                assert!(walk.world.has_converged(), "deleted at {at}");
            }
        }
    }
}
