//! The benchmark of the proxy: Ferrogate beside nginx, HAProxy and Caddy.
//!
//! ```text
//!             core 0                        core 1                      core 0
//!  wrk, h2load, load (ours) ──> ferrogate | nginx | haproxy | caddy ──> upstream (ours)
//!            ^                              ^
//!            └────────── bin/proxy: interleaves, measures from /proc, compares
//! ```
//!
//! A *fleet* is what all of them serve: hosts, each with its certificate and endpoint ([`fleet`]). A *peer* is one of
//! the proxies, running ([`peers`]). A *cell* is one run of one peer; a *round* is one cell of every peer, so that a
//! ratio compares minutes that look alike; a *scenario* is a kind of work ([`scenarios`]).
//!
//! What a change costs among ten thousand objects, without any peer: [`cores`], `bin/cores`.
//!
//! Pure: [`stats`], [`histogram`], [`procfs`], [`tools`] (what wrk and h2load print), [`response`], [`report`].

pub mod cores;
pub mod error;
pub mod fleet;
pub mod histogram;
pub mod install;
pub mod load;
pub mod machine;
pub mod measure;
pub mod peers;
pub mod process;
pub mod procfs;
pub mod report;
pub mod response;
pub mod scenarios;
pub mod speaker;
pub mod stats;
pub mod tools;
pub mod upstream;
