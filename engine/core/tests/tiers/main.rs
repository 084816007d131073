//! The real store with its tiers over a Tier 2 in memory: what was acknowledged is what comes back out of the objects.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // no part of the store

#[path = "../common/mod.rs"]
mod common;
mod damage;
mod support;
mod uploads;
mod volumes;
