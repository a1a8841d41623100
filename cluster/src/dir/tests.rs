//! Real folders, watched by a real [`Cluster`].

mod crash;
mod harness;
mod manifests;
mod state;
