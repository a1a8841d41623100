//! The data plane from outside: real sockets, endpoints in the test, clients that send any bytes.

#![expect(clippy::unwrap_used, reason = "in a test, what does not work panics")]
#![expect(clippy::disallowed_methods, reason = "deadlines of the real world are what is tested")]

mod annotations;
mod bodies;
mod challenge;
mod choice;
mod drain;
mod explain;
mod faults;
mod gate;
mod global;
mod h2;
mod routing;
mod streams;
mod support;
mod swap;
mod tls;
mod upstreams;
mod websocket;
