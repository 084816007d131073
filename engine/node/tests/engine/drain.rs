//! The drain before a restart.
