//! The process around the reconcilers: clients, telemetry, probes.

pub mod client;
pub mod http;
pub mod memory;
pub mod metrics;
pub mod queue;
pub mod sighting;
pub mod telemetry;
pub mod turns;

/// 0.0..1.0, for spreading things out; not for secrets. The low half of a version 7 UUID is random.
pub fn jitter() -> f64 {
    let random = uuid::Uuid::now_v7().as_u128() as u32;
    f64::from(random) / f64::from(u32::MAX)
}
