//! Gives Services their addresses and makes the LAN believe them.
//!
//! ```text
//!                    claim ──> allocator ──> plan ──> report: status, events, problems
//!  Arc<Snapshot> ──>                           │
//!                                              v
//!  links (netlink) ───> reach: which VIP on which interface ──> announcer ──> arp ──> frames on the LAN
//! ```
//!
//! Who of several speakers owns a VIP: [`heartbeat`] is what they say to each other, [`members`] what follows from it.
//!
//! All but [`io`] is pure: functions of their arguments, handed the time and frames.

pub mod allocator;
pub mod announcer;
mod apply;
pub mod arp;
pub mod book;
pub mod candidates;
pub mod choice;
pub mod claim;
pub mod dropped;
pub mod echo;
pub mod election;
pub mod filter;
pub mod forward;
pub mod hearing;
pub mod heartbeat;
pub mod io;
mod limiter;
pub mod link;
pub mod member_metrics;
pub mod members;
pub mod metrics;
pub mod moves;
pub mod ndp;
pub mod plan;
pub mod preview;
pub mod probation;
pub mod probe;
pub mod rate;
pub mod reach;
pub mod refusal;
pub mod reserved;
mod stale;
pub mod tenancy;
pub mod traps;
mod vacancy;
pub mod world;
