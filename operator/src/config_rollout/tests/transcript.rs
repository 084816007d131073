//! Golden transcripts of the world: what a person sees, look by look. `UPDATE_TRANSCRIPTS=1` rewrites them.

use std::fmt::Write;
use std::path::PathBuf;

use super::*;
use crate::config_rollout::ConfigStep;

/// Writes a line whenever a look differs from the one before.
struct Transcript {
    world: World,
    text: String,
    last: String,
    ends: usize,
}

impl Transcript {
    fn new(world: World) -> Self {
        Self {
            world,
            text: String::new(),
            last: String::new(),
            ends: 0,
        }
    }

    fn note(&mut self, what: &str) {
        let _ = writeln!(self.text, "-- {what}");
    }

    fn reconcile(&mut self) -> Step {
        let seconds = self.world.now.duration_since(start()).as_secs();
        let result = self.world.reconcile();
        let line = self.line(&result);
        if line != self.last || !result.actions.is_empty() {
            let time = format!("{:02}:{:02}  {line}", seconds / 60, seconds % 60);
            let _ = writeln!(self.text, "{}", time.trim_end());
        }
        self.last = line;
        for (outcome, message) in &self.world.ends[self.ends..] {
            let _ = writeln!(self.text, "       {outcome}: {message}");
        }
        self.ends = self.world.ends.len();
        result
    }

    fn line(&self, result: &Step) -> String {
        let place = result.memo.as_ref().map_or_else(
            || "-".to_owned(),
            |memo| {
                let pod = memo.canary.as_ref().map_or("", |pod| pod.name.as_str());
                format!("{} {pod}", memo.step)
            },
        );
        let files: Vec<&str> = self
            .world
            .engines
            .iter()
            .map(|engine| engine.file.as_str())
            .map(|file| if file == NEW { "new" } else { "old" })
            .collect();
        let mut line = format!("{place:<20} told {}", files.join(" "));
        for action in &result.actions {
            match action {
                Action::KeepEvidence => line.push_str("  [keep evidence]"),
                Action::Restart { pod, .. } => {
                    let _ = write!(line, "  [restart the engine of {pod}]");
                }
            }
        }
        for wait in &result.waits {
            let _ = write!(line, "  {}/{}: {}", wait.gate, wait.reason, wait.message);
        }
        line
    }

    fn run(&mut self) {
        for _ in 0..3600 {
            let result = self.reconcile();
            if self.world.memo.is_none() && !result.next.is_at_once() && self.world.down() == 0 {
                return;
            }
        }
        panic!("no end:\n{}", self.text);
    }

    fn run_to(&mut self, step: ConfigStep) {
        for _ in 0..3600 {
            if self.world.memo.as_ref().map(|memo| memo.step) == Some(step) {
                return;
            }
            self.reconcile();
        }
        panic!("never in {step}:\n{}", self.text);
    }

    #[track_caller]
    fn matches(&self, name: &str) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("src/config_rollout/transcripts")
            .join(name);
        if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
            std::fs::write(&path, &self.text).expect("the transcript can be written");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            golden == self.text,
            "{name} differs; is now:\n{}",
            self.text
        );
    }
}

#[test]
fn a_key_that_needs_a_restart() {
    let mut transcript = Transcript::new(World::new(3, true));
    transcript.run();
    transcript.matches("restart.txt");
}

#[test]
fn a_hot_key() {
    let mut transcript = Transcript::new(World::new(3, false));
    transcript.run();
    transcript.matches("hot.txt");
}

#[test]
fn a_harmful_value() {
    let mut world = World::new(3, true);
    world.engines[2].refuses = 9.0;
    let mut transcript = Transcript::new(world);
    transcript.run();
    transcript.matches("harmful.txt");
}

#[test]
fn a_canary_whose_engine_does_not_answer_for_a_while() {
    let mut transcript = Transcript::new(World::new(2, false));
    transcript.run_to(ConfigStep::Observing);
    transcript.note("the canary's engine does not answer");
    transcript.world.engines[1].answers = false;
    for _ in 0..200 {
        transcript.reconcile();
    }
    transcript.note("it answers");
    transcript.world.engines[1].answers = true;
    transcript.run();
    transcript.matches("does-not-answer.txt");
}

#[test]
fn a_change_of_mind_while_the_others_restart() {
    let mut transcript = Transcript::new(World::new(3, true));
    transcript.run_to(ConfigStep::Rolling);
    for _ in 0..8 {
        transcript.reconcile();
    }
    transcript.note("the source is set back");
    transcript.world.candidate = Some(OLD.into());
    transcript.run();
    transcript.matches("set-back.txt");
}

#[test]
fn a_failed_canary_that_a_person_decides_on() {
    let mut world = World::new(2, false);
    world.on_failure = OnFailure::Pause;
    world.engines[1].refuses = 9.0;
    let mut transcript = Transcript::new(world);
    transcript.run_to(ConfigStep::Held);
    for _ in 0..5 {
        transcript.reconcile();
    }
    transcript.note("the source is set back");
    transcript.world.candidate = Some(OLD.into());
    transcript.run();
    transcript.matches("held.txt");
}
