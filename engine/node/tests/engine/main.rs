//! The built `aof2-engine`, run as a process of its own and used through its sockets alone.

mod admin;
mod clients;
mod damage;
mod data;
mod drain;
mod durability;
mod hanging;
mod limits;
mod messages;
mod mutual_tls;
mod refusal;
mod reload;
mod report;
mod snapshot;
mod support;
mod trim;
