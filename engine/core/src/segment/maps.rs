//! How many sealed segments are mapped at a time. A process may have 65,530 maps on most nodes, and a volume any number of segments.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::sealed::Sealed;
use crate::io::sync::Mutex;

/// A reader keeps the map that it reads from as long as it needs it, whatever is given up here.
const MOST_MAPS: usize = 64;

#[derive(Default)]
pub(crate) struct Maps {
    turn: AtomicU64,
    mapped: Mutex<Vec<Weak<Sealed>>>,
}

impl Maps {
    /// For `Sealed::note_used`.
    pub fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// It has a map from here on. The one that was used longest ago gives its own up where there are too many.
    pub fn add(&self, sealed: &Arc<Sealed>) {
        let mut mapped = self.mapped.lock();
        mapped.retain(|it| it.strong_count() > 0);
        mapped.push(Arc::downgrade(sealed));
        while mapped.len() > MOST_MAPS {
            let ages = mapped.iter().enumerate();
            let oldest = ages.min_by_key(|(_, it)| it.upgrade().map_or(0, |it| it.used()));
            let Some((index, _)) = oldest else {
                break;
            };
            if let Some(sealed) = mapped.swap_remove(index).upgrade() {
                sealed.unmap();
            }
        }
    }
}
