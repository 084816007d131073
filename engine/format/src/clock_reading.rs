//! The file `clock.json`: what the wall clock said when this volume's retention last trusted it. Layout: `clock_reading.md`.

use serde::{Deserialize, Serialize};

use crate::claim;
use crate::damage::Damage;

const FORMAT: &str = "aof2-clock";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockReading {
    pub format_version: u16,
    pub wall_unix_nanos: i64,
}

impl ClockReading {
    pub fn encode(&self) -> Vec<u8> {
        claim::encode(FORMAT, self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        claim::decode(FORMAT, claim::MAX_BYTES, bytes)
    }
}
