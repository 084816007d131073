//! What the node lacks, and what the bucket answers instead of what was asked.

use std::time::Duration;

use aof2_core::objects::Refusal;
use aof2_core::objects::memory::{Fault, MemoryStore, Verb};

use crate::disk::Lack;
use crate::world::World;

impl World {
    /// What was sent before the power went.
    pub fn late_arrive(&mut self) {
        for late in std::mem::take(&mut self.late) {
            let key = late.arrive(&self.memory);
            self.checks.came_late.insert(key);
        }
    }

    pub fn lack_of(&mut self, lack: Option<Lack>) {
        self.lack = lack;
        self.node.disk.set_lack(lack);
    }

    pub fn heal(&mut self) {
        self.memory.heal();
        self.checks.has_faults = false;
        self.is_out = false;
        self.node.bucket.set_latency(Duration::ZERO);
        self.lack_of(None);
    }
}

/// Some answers of the bucket that are none, or not those of a bucket that works.
pub fn inject(memory: &MemoryStore, kind: u64, times: usize) {
    let verbs = [
        Verb::PutIfAbsent,
        Verb::Put,
        Verb::Get,
        Verb::GetRange,
        Verb::Head,
        Verb::List,
        Verb::Delete,
    ];
    let faults = [
        Fault::Unreachable,
        Fault::LostResponse,
        Fault::ServerError,
        Fault::Throttled,
        Fault::Conflict,
        Fault::AccessDenied,
        Fault::BucketMissing,
        Fault::Refused(Refusal::Other),
        Fault::Refused(Refusal::QuotaExceeded),
        Fault::TruncatedBody,
    ];
    let verb = verbs[(kind % verbs.len() as u64) as usize];
    let fault = faults[(kind / 64 % faults.len() as u64) as usize];
    // What a store keeps that takes no damaged bodies is what it was sent, and a range that is not there is damage of the object.
    let is_damage = matches!(verb, Verb::PutIfAbsent | Verb::Put | Verb::GetRange);
    if fault == Fault::TruncatedBody && is_damage {
        return;
    }
    // A read that is cut whenever it is tried finds a damaged object.
    let times = match fault {
        Fault::TruncatedBody => 1,
        _ => times,
    };
    memory.inject(verb, fault, times);
}
