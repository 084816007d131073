//! The product on a real cluster, with the chart and the images a user gets.
//!
//! Each test has a namespace, an operator and a deadline of its own, so that they run side by side and leave nothing behind.

mod adoption;
mod bad_input;
mod change;
mod config;
mod config_interrupted;
mod data;
mod first_hour;
mod guide;
mod install;
mod interruptions;
mod operators;
mod refused_at_apply;
mod releases;
mod scaling;
mod setup;
mod snapshots;
mod tiers;
mod upgrade;
mod whole_cluster;
