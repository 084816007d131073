//! What every listener of the engine and of the operator has in common: bounds. No client, whatever it sends or withholds, takes
//! memory or descriptors without a limit, and none keeps others out.
//!
//! - [`bind`]: an address for both families of addresses.
//! - [`Connections`]: who is connected. A peer has at most [`PER_PEER`] connections and a listener [`IN_ALL`]; all listeners of a
//!   process together take at most a quarter of its descriptors, so that files can always be opened.
//! - [`serve`]: HTTP/1.1 with a limit for the time and the size of a header, and for the time that a client takes to read.
//! - [`bodies`]: limits for the size and the time of a body, and for all bodies together.

mod bind;
mod body;
mod connections;
mod http;
mod peer;
mod stall;

use std::time::Duration;

pub use bind::bind;
pub use body::{Bodies, bodies};
pub use connections::{Connections, Refused, Slot, Usage};
pub use http::{Accept, Caller, serve, serve_named};
pub use peer::Peer;

/// Connections of one peer to one listener.
pub const PER_PEER: usize = 64;
/// Connections to one listener.
pub const IN_ALL: usize = 256;
/// A header, a TLS handshake and a pause between two requests take no longer.
pub const HEADER_LIMIT: Duration = Duration::from_secs(5);
pub const HEADER_BYTES: usize = 16 << 10;
/// A body takes no longer, its wait for memory included.
pub const BODY_LIMIT: Duration = Duration::from_secs(10);
/// Bodies of all connections of one listener together.
pub const BODY_BYTES_IN_ALL: usize = 32 << 20;
/// A client that reads nothing for so long is gone.
pub const STALL_LIMIT: Duration = Duration::from_secs(10);
