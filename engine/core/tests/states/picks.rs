//! Where in a recording the power is cut, or the process killed.

use std::collections::HashSet;

use crate::dice::Dice;
use crate::model::Note;
use crate::recording::{Data, Op, Recording};

/// Where something was promised, where most is unsynced, where something rare happened, or anywhere.
pub fn pick_cut(recording: &Recording, dice: &mut Dice) -> usize {
    let ops = &recording.ops;
    let picked = match dice.below(6) {
        0 => None,
        3 | 4 => {
            let places = turning_points(ops);
            places
                .get(dice.below(places.len() as u64) as usize)
                .copied()
        }
        1 | 2 => {
            let promised = |note: &Note| match note {
                Note::Acknowledged { is_durable, .. } => *is_durable,
                Note::Durable { .. } | Note::Served(_) => true,
                Note::Attempt { .. } => false,
            };
            let places: Vec<usize> = recording
                .notes
                .iter()
                .filter(|(_, note)| promised(note))
                .map(|(at, _)| *at)
                .collect();
            places
                .get(dice.below(places.len() as u64) as usize)
                .copied()
        }
        _ => {
            let places: Vec<usize> = (0..ops.len())
                .filter(|at| matches!(ops[*at], Op::Sync { .. } | Op::SyncVolume { .. }))
                .collect();
            places
                .get(dice.below(places.len() as u64) as usize)
                .copied()
        }
    };
    picked.unwrap_or_else(|| dice.below(ops.len() as u64 + 1) as usize)
}

/// Within what the last process did; often before it serves.
pub fn pick_kill(recording: &Recording, before: usize, dice: &mut Dice) -> usize {
    let at = pick_cut(recording, dice);
    match (dice.one_in(2), at >= before) {
        (false, true) => at,
        (false, false) => before + dice.below((recording.ops.len() - before) as u64 + 1) as usize,
        (true, _) => {
            let served = served_at(recording).max(before);
            before + dice.below((served - before) as u64 + 1) as usize
        }
    }
}

/// When the last start served.
pub fn served_at(recording: &Recording) -> usize {
    let mut notes = recording.notes.iter().rev();
    notes
        .find(|(_, note)| matches!(note, Note::Served(_)))
        .map_or(recording.ops.len(), |(at, _)| *at)
}

/// Behind changes that are few among all the writes: of entries and lengths, and where a file is begun anew, also behind its sync.
pub fn turning_points(ops: &[Op]) -> Vec<usize> {
    let mut begun = HashSet::new();
    let mut anew = None;
    let mut places = Vec::new();
    for (at, op) in ops.iter().enumerate() {
        let is_one = match op {
            Op::MakeDirectory { .. }
            | Op::Create { .. }
            | Op::Rename { .. }
            | Op::Unlink { .. }
            | Op::Truncate { .. } => true,
            Op::Write {
                inode,
                offset: 0,
                data: Data::Bytes(_),
            } => {
                let is_anew = !begun.insert(*inode);
                anew = is_anew.then_some(*inode).or(anew);
                is_anew
            }
            Op::Sync { inode, .. } => anew == Some(*inode),
            Op::Write { .. } | Op::Allocate { .. } | Op::SyncVolume { .. } => false,
        };
        if matches!(op, Op::Sync { .. }) && is_one {
            anew = None;
        }
        if is_one {
            places.push(at + 1);
        }
    }
    places
}

/// After how many changes something was promised; each once.
pub fn promises(recording: &Recording) -> Vec<usize> {
    let promised = |note: &Note| match note {
        Note::Acknowledged { is_durable, .. } => *is_durable,
        Note::Durable { .. } | Note::Served(_) => true,
        Note::Attempt { .. } => false,
    };
    let mut places: Vec<usize> = recording
        .notes
        .iter()
        .filter(|(_, note)| promised(note))
        .map(|(at, _)| *at)
        .collect();
    places.dedup();
    places
}

pub fn by_turning_point(recording: &Recording) -> Vec<usize> {
    let turning_points = turning_points(&recording.ops);
    let mut promises = promises(recording);
    promises.sort_by_key(|at| {
        let before = turning_points.partition_point(|point| point <= at);
        let last = before.checked_sub(1).map_or(0, |last| turning_points[last]);
        at - last
    });
    promises
}
