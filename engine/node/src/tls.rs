//! Mutual TLS of the admin listener.
//!
//! - A client is admitted when its certificate chains to `ca.crt` (a bundle) and carries exactly the configured DNS name.
//! - The three files are read again by content; a set that does not work leaves the one before in force. The listener stays open
//!   throughout. Until a first set works, connections are closed unanswered.

mod files;
mod handshake;
mod verifier;

pub use files::{Certificates, watch};
pub use handshake::handshake;
