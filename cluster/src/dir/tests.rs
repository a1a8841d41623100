//! Real folders, watched by a real [`Cluster`].

mod harness;
mod manifests;
mod state;
