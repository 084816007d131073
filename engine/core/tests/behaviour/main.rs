//! What callers of a store see.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // no part of the store

mod appends;
mod claims;
#[path = "../common/mod.rs"]
mod common;
mod reads;
mod rejections;
mod sealing;
