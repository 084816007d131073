//! Sealed segments that are damaged, cut, gone or another's: told once with segment, range and remedy; everything else is served.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // no part of the store

#[path = "../common/mod.rs"]
mod common;
mod devices;
mod reads;
mod records;
mod segments;
mod support;
