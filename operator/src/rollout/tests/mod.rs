//! The machine against tables, against a small world with faults, and against golden transcripts.

mod build;
mod table;
mod transcript;
mod walk;
mod world;
