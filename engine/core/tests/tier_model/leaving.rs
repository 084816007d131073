//! What makes records and copies leave: trims, rules and their clock, drains.

use std::time::Duration;

use aof2_core::TrimError;
use aof2_core::config::RetentionRule;
use aof2_core::drain::{DrainPhase, DrainRequest};
use aof2_core::io::Clock;
use aof2_format::start_sequence::StartReason;

use crate::model::Rule;
use crate::ops::Share;
use crate::world::{NAMES, World};

impl World {
    pub fn trim(&mut self, stream: usize, before: Share) -> Result<(), String> {
        let known = &mut self.streams[stream];
        let before = before.of(known.next() + 1);
        let last = known.trimmed;
        if before <= known.next() {
            known.trimmed = last.max(before);
        }
        let (sealed, next) = (known.sealed, known.next());
        let trimmed = self
            .node
            .store
            .trim(NAMES[stream], before, StartReason::Trim);
        self.tell(|| format!("  before {before}: {trimmed:?}"));
        if self.is_powerless() {
            return Ok(());
        }
        match trimmed {
            Ok(trim) => {
                let start = self.start(stream)?;
                match start >= before && trim.first_sequence <= start {
                    true => Ok(()),
                    false => Err(format!(
                        "{}: trimmed before {before}, {trim:?}, and begins at {start}",
                        NAMES[stream]
                    )),
                }
            }
            Err(error) => {
                self.streams[stream].trimmed = last;
                let is_meant = match &error {
                    TrimError::BeyondEnd { .. } => before > next,
                    TrimError::NotSealed { .. } => before > sealed,
                    TrimError::Store(_) => self.lack.is_some() || next == 0,
                    TrimError::NotServed(_) => false,
                };
                match is_meant {
                    true => Ok(()),
                    false => Err(format!("{}: {error:?}", NAMES[stream])),
                }
            }
        }
    }

    pub fn retain(&mut self, stream: usize, max_age: Option<Duration>, max_bytes: Option<u64>) {
        let now = self.now();
        let known = &mut self.streams[stream];
        known.last_rule = (known.rule, now);
        known.rule = Rule { max_age, max_bytes };
        self.config.retention = self
            .streams
            .iter()
            .map(|stream| RetentionRule {
                streams: stream.name.to_owned(),
                max_age: stream.rule.max_age,
                max_bytes: stream.rule.max_bytes,
            })
            .collect();
        self.node.store.reconfigure(self.config.clone());
    }

    pub fn step_clock(&mut self, seconds: i64) {
        self.stepped = match seconds {
            0 => None,
            _ => self.stepped.or(Some(self.now())),
        };
        self.was_stepped |= seconds != 0;
        self.clock.set_step(seconds * 1_000_000_000);
    }

    pub fn segment(&self, stream: usize, which: Share) -> Option<u64> {
        let segments = self.node.store.segments(NAMES[stream]).ok()?;
        let trimmed = self.node.store.trimmed_segments(NAMES[stream]).ok()?;
        let all: Vec<u64> = segments
            .iter()
            .chain(&trimmed)
            .map(|segment| segment.segment_id)
            .collect();
        all.get(which.index(all.len())).copied()
    }

    pub fn drain(&mut self) -> Result<(), String> {
        let limit = Duration::from_secs(60);
        let drain = self.node.tiers.drain();
        drain.begin(DrainRequest {
            ttl: limit * 10,
            upload_timeout: limit,
            drain_timeout: limit,
        });
        let mut is_drained = false;
        for _ in 0..20 {
            self.clock.sleep(Duration::from_secs(1));
            let phase = drain.status().phase;
            is_drained = phase == DrainPhase::Drained;
            if is_drained || phase == DrainPhase::Open {
                break;
            }
        }
        let marks = self.node.store.watermarks();
        let behind = marks.iter().find(|it| it.acked != it.sealed_uploaded);
        let is_wrong = is_drained && behind.is_some() && !self.is_powerless();
        drain.resume();
        match behind {
            Some(mark) if is_wrong => Err(format!("drained, and {mark:?}")),
            _ => Ok(()),
        }
    }
}
