//! What `kubectl apply -k manifests/` installs: held against our own reader, kustomize, a real API server, and what the
//! running program asks for.

mod access;
mod alerts;
mod contents;
mod image;
mod objects;
mod roles;
mod server;
