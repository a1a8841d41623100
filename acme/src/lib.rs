//! Certificates that take care of themselves: what is due, and orders at a CA (RFC 8555).
//!
//! ```text
//! Ingresses ──> wanted ──┐
//!                        ├──> inventory (now) ──> orders ──> io: the CA
//! Secrets ────> held ────┘                          │
//!                                                   └─> Secrets to write, events, tokens
//! ```
//!
//! Everything outside of [`io`] is pure: no clock, no socket, no random source.

pub mod budget;
pub mod dns;
pub mod held;
pub mod inventory;
pub mod io;
pub mod keyspec;
pub mod metrics;
pub mod name;
pub mod order;
pub mod orders;
pub mod retry;
pub mod sigv4;
pub mod store;
pub mod terms;
pub mod wanted;
