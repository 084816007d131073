//! Snapshots over a Tier 2 in memory: what a request comes to, what a second reader finds, and what each fault leads to.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // no part of the store

mod bases;
#[path = "../common/mod.rs"]
mod common;
mod content;
mod crash;
mod faults;
mod many;
mod recovery;
mod support;
mod take;
mod verify;
