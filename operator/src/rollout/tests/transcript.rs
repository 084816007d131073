//! Golden transcripts of the world: what a person sees, look by look. `UPDATE_TRANSCRIPTS=1` rewrites them.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use super::world::{Behaviour, World, revision, start_of_time};
use crate::rollout::{Action, Step};

/// Looks until `until` holds, writing a line whenever something differs from the look before.
struct Transcript {
    world: World,
    text: String,
    last_waits: String,
    recorded: usize,
}

impl Transcript {
    fn new(world: World) -> Self {
        Self {
            world,
            text: String::new(),
            last_waits: String::new(),
            recorded: 0,
        }
    }

    fn note(&mut self, what: &str) {
        let line = format!("-- {what}\n");
        self.text.push_str(&line);
    }

    fn run_until(&mut self, until: impl Fn(&World) -> bool) {
        for _ in 0..600 {
            let before = self.world.memo.clone();
            let step = self.world.reconcile();
            if step.memo != before || !step.actions.is_empty() || waits(&step) != self.last_waits {
                self.write(&step);
            }
            self.last_waits = waits(&step);
            self.world.tick();
            if until(&self.world) {
                return;
            }
        }
        panic!("not reached:\n{}", self.text);
    }

    fn write(&mut self, step: &Step) {
        let seconds = self.world.now.duration_since(start_of_time()).as_secs();
        let place = step.memo.as_ref().map_or_else(
            || "-".to_owned(),
            |memo| {
                let pod = memo
                    .pod
                    .as_ref()
                    .map_or_else(String::new, |pod| format!(" {}", pod.name));
                format!("{}{pod}", memo.step)
            },
        );
        let mut line = format!("{:02}:{:02}  {place:<22}", seconds / 60, seconds % 60);
        for action in &step.actions {
            let _ = write!(line, "  {}", brief(action));
        }
        for wait in &step.waits {
            let _ = write!(line, "  {}/{}: {}", wait.gate, wait.reason, wait.message);
        }
        self.text.push_str(line.trim_end());
        self.text.push('\n');
        for entry in &self.world.history[self.recorded..] {
            let _ = writeln!(
                self.text,
                "       {:?} {} -> {} {:?}: {}",
                entry.kind, entry.from, entry.to, entry.outcome, entry.message
            );
        }
        self.recorded = self.world.history.len();
    }

    #[track_caller]
    fn matches(&self, name: &str) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("src/rollout/transcripts")
            .join(name);
        if env::var_os("UPDATE_TRANSCRIPTS").is_some() {
            fs::write(&path, &self.text).expect("the transcript can be written");
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            golden == self.text,
            "{name} differs; is now:\n{}",
            self.text
        );
    }
}

fn waits(step: &Step) -> String {
    format!("{:?}", step.waits)
}

fn brief(action: &Action) -> String {
    match action {
        Action::WriteTemplate { revision } => format!("[write template {}]", revision.version),
        Action::StartDrain { pod, .. } => format!("[drain {pod}]"),
        Action::Resume { pod } => format!("[resume {pod}]"),
        Action::RemovePod { pod, by, .. } => format!("[remove {pod} by {by:?}]"),
    }
}

fn upgrade(replicas: u32) -> Transcript {
    let mut world = World::new(replicas);
    world.wanted = revision("0.1.1");
    Transcript::new(world)
}

#[test]
fn an_upgrade_of_three_pods() {
    let mut transcript = upgrade(3);
    transcript.run_until(World::has_converged);
    transcript.matches("upgrade.txt");
}

#[test]
fn a_version_that_crashes_and_going_back() {
    let mut transcript = upgrade(3);
    transcript.world.behaviours = vec![("0.1.1", Behaviour::CrashLoop)];
    for _ in 0..40 {
        transcript.run_until(|_| true);
    }
    transcript.note("spec.version: 0.1.0");
    transcript.world.wanted = revision("0.1.0");
    transcript.run_until(World::has_converged);
    transcript.matches("bad-version.txt");
}

#[test]
fn tier_2_is_down_during_an_upgrade() {
    let mut transcript = upgrade(2);
    transcript.world.tier2_is_up = false;
    transcript.note("S3 is down");
    for _ in 0..40 {
        transcript.run_until(|_| true);
    }
    transcript.note("S3 is back");
    transcript.world.tier2_is_up = true;
    transcript.run_until(World::has_converged);
    transcript.matches("tier2-down.txt");
}

#[test]
fn a_pod_is_deleted_by_hand_in_the_middle() {
    let mut transcript = upgrade(3);
    transcript.run_until(|world| world.memo.as_ref().is_some_and(|memo| memo.until.is_some()));
    transcript.note("kubectl delete pod orders-0");
    transcript.world.delete_pod(0);
    transcript.run_until(World::has_converged);
    transcript.matches("deleted-by-hand.txt");
}

#[test]
fn a_newer_target_in_the_middle() {
    let mut transcript = upgrade(2);
    transcript.run_until(|world| world.memo.as_ref().is_some_and(|memo| memo.until.is_some()));
    transcript.note("spec.version: 0.1.2");
    transcript.world.wanted = revision("0.1.2");
    transcript.run_until(World::has_converged);
    transcript.matches("newer-target.txt");
}

#[test]
fn an_eviction_is_refused_for_a_while() {
    let mut transcript = upgrade(1);
    transcript.world.evictions_refused = true;
    transcript.note("a budget refuses evictions");
    for _ in 0..60 {
        transcript.run_until(|_| true);
    }
    transcript.note("the budget is removed");
    transcript.world.evictions_refused = false;
    transcript.run_until(World::has_converged);
    transcript.matches("eviction-refused.txt");
}
