//! Routes HTTP from the LAN to endpoints: Pingora, rustls and a table that is swapped whole.
//!
//! ```text
//! Snapshot ──compile──> RouteTable ──ArcSwap──┐
//!                       (routes, certificates)v
//! client ──bytes──> gate ──Head──> path ──> find ──> Route ──pick──> endpoint
//! ```
//!
//! Everything here but `io` is a function of its arguments.

pub mod access;
pub mod answer;
pub mod backend;
pub mod balance;
pub mod certs;
pub mod client;
pub mod compile;
pub mod compress;
pub mod endpoints;
pub mod explain;
pub mod filter;
pub mod front;
pub mod gate;
pub mod headers;
pub mod host;
pub mod identity;
pub mod io;
pub mod met;
pub mod metrics;
pub mod path;
pub mod proxy_protocol;
pub mod resolve;
pub mod routes;
pub mod streams;
pub mod summary;
pub mod upstream;
pub mod way;
