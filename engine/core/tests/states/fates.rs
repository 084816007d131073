//! Which part of what was not synced is left.

use crate::dice::Dice;
use crate::volume::{Fate, Item};

/// Up to so many items every subset is tried.
const EXHAUSTIVE_ITEMS: usize = 6;
/// Random ones at each point, when all are tried.
const RANDOM: usize = 12;

/// A torn write of so many sectors.
fn torn(sectors: u64, dice: &mut Dice) -> Fate {
    match dice.below(6) {
        0 => Fate::Front(1),
        1 => Fate::Back(1),
        2 => Fate::Front(sectors - 1),
        3 => Fate::Back(sectors - 1),
        4 => Fate::Front(dice.below(sectors)),
        _ => Fate::Scattered(dice.next()),
    }
}

fn one_torn(items: &[Item], rest: Fate, dice: &mut Dice) -> Option<Vec<Fate>> {
    let writes: Vec<usize> = (0..items.len())
        .filter(|index| items[*index].sectors > 1)
        .collect();
    let index = *writes.get(dice.below(writes.len() as u64) as usize)?;
    let mut fates = vec![rest; items.len()];
    fates[index] = torn(items[index].sectors, dice);
    Some(fates)
}

fn random(items: &[Item], dice: &mut Dice) -> Vec<Fate> {
    let of_ten = [1, 5, 9][dice.below(3) as usize];
    let fates = items.iter().map(|item| {
        if item.sectors > 1 && dice.one_in(4) {
            torn(item.sectors, dice)
        } else if dice.below(10) < of_ten {
            Fate::Kept
        } else {
            Fate::Lost
        }
    });
    fates.collect()
}

/// One choice, most often near an edge.
pub fn draw(items: &[Item], dice: &mut Dice) -> Vec<Fate> {
    let count = items.len();
    let nothing = || vec![Fate::Lost; count];
    if count == 0 {
        return Vec::new();
    }
    let one = dice.below(count as u64) as usize;
    match dice.below(10) {
        0..=2 => nothing(),
        3 => vec![Fate::Kept; count],
        4 => {
            let mut fates = nothing();
            fates[one] = Fate::Kept;
            fates
        }
        5 => {
            let mut fates = vec![Fate::Kept; count];
            fates[one] = Fate::Lost;
            fates
        }
        // In order up to some point, as a file system with a log does it.
        6 => (0..count)
            .map(|index| if index < one { Fate::Kept } else { Fate::Lost })
            .collect(),
        7 => {
            let rest = [Fate::Lost, Fate::Kept][dice.below(2) as usize];
            one_torn(items, rest, dice).unwrap_or_else(nothing)
        }
        _ => random(items, dice),
    }
}

/// Every choice at one point: all subsets where they are few; else nothing, everything, each alone, all but each, every prefix;
/// each write torn; and some at random.
pub fn all(items: &[Item], dice: &mut Dice) -> Vec<Vec<Fate>> {
    let count = items.len();
    let mut all = Vec::new();
    let of = |keeps: &dyn Fn(usize) -> bool| -> Vec<Fate> {
        (0..count)
            .map(|index| if keeps(index) { Fate::Kept } else { Fate::Lost })
            .collect()
    };
    if count <= EXHAUSTIVE_ITEMS {
        for bits in 0..1_usize << count {
            all.push(of(&|index| bits & (1 << index) != 0));
        }
    } else {
        for one in 0..count {
            all.push(of(&|index| index == one));
            all.push(of(&|index| index != one));
            all.push(of(&|index| index < one));
        }
        all.push(of(&|_| true));
    }
    for (index, item) in items
        .iter()
        .enumerate()
        .filter(|(_, item)| item.sectors > 1)
    {
        let sectors = item.sectors;
        let scattered = Fate::Scattered(dice.next());
        for fate in [
            Fate::Front(1),
            Fate::Back(1),
            Fate::Front(sectors / 2),
            Fate::Back(sectors / 2),
            Fate::Front(sectors - 1),
            Fate::Back(sectors - 1),
            scattered,
        ] {
            for rest in [Fate::Lost, Fate::Kept] {
                let mut fates = vec![rest; count];
                fates[index] = fate;
                all.push(fates);
            }
        }
    }
    if count > 0 {
        all.extend((0..RANDOM).map(|_| random(items, dice)));
    }
    all
}
