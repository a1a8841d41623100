//! What Ferrogate was told, typed and placed, and what it answers.
//!
//! ```text
//! YAML text ──> yaml tree ──> manifest ──> objects ──────┐
//!               (places)      (typed)                    ├──> Snapshot ──> the cores ──> Report
//!                             legacy   ──> pool::PoolConfig ┘
//! ```
//!
//! Pure: no I/O, no clock, no runtime. Past this crate nobody checks a value again: an [`pool::AddressRange`] is
//! never backward, a [`pool::PoolName`] never empty.

pub mod annotation;
pub mod challenge;
pub mod derived;
pub mod diagnostic;
pub mod global;
pub mod import;
pub mod issuer;
pub mod legacy;
pub mod manifest;
mod names;
pub mod object;
pub mod pattern;
pub mod pool;
pub mod report;
pub mod settings;
pub mod shared;
pub mod snapshot;
pub mod streams;
mod suggest;
pub mod summary;
mod yaml;
