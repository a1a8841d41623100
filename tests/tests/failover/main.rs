//! Several speakers share a VIP: what a client sees when its owner dies, is cut off, leaves or comes back.
//!
//! Real processes in network namespaces on one switch. Needs root and nft; each test says so when it skips. What a
//! client saw is printed; what is asserted are deadlines that hold on a busy machine too. The figures of a quiet one:
//! `tests/bench/failover`.

mod clients;
mod cluster;
mod disturbances;
mod faults;
mod heard;
mod moving;
mod scene;
