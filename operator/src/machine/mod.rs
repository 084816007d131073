//! The grammar that every state machine of the operator shares.
//!
//! A machine is a pure function of what it remembers, what was found, and a time. What it comes to is a [`Step`]: the next memo, actions,
//! waits, and when to look again. May it go on? An ordered list of gates says so, and the first that holds is the wait. This module
//! knows no machine; each machine knows this module, and none knows another.

pub mod condition;
pub mod drain;
pub mod gate;
#[cfg(test)]
pub mod language;
mod look;
mod pause;
mod step;
mod text;
mod time;
mod wait;

pub use gate::Override;
pub use look::NextLook;
pub use pause::{Pause, is_logged};
pub use step::Step;
#[cfg(test)]
pub use text::STATUS_LENGTH;
pub use text::{bounded, clock, counted, date, elapsed, headline, quoted, see_log, shortened};
pub use time::{earlier, in_seconds, later};
pub use wait::{Wait, carry_since, is_progress, needs_person};
