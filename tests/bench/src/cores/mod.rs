//! What a change costs among ten thousand objects of each kind, and what they take in memory and on disk.
//!
//! ```text
//! fleet: Services, Ingresses, two EndpointSlices each ─┬─> pure: allocate, plan, elect, compile
//!                                                      └─> API server ─watch─> a process of its own ─> plan
//! ```
//!
//! [`pure`] calls the cores. [`whole`] measures a process that follows an API server in another one: from the moment an
//! object is put there to the moment the plan is made.

pub mod fleet;
pub mod pure;
pub mod timing;
pub mod whole;
