//! Which certificates are due, and why.
//!
//! ```text
//! Ingresses ──> wanted ──┐
//!                        ├──> inventory (now) ──> due, and the state of each Secret
//! Secrets ────> held ────┘
//! ```
//!
//! Pure: nothing here orders a certificate or writes a Secret. Orders (RFC 8555) build on [`inventory::Inventory`].

pub mod held;
pub mod inventory;
pub mod name;
pub mod wanted;
