//! Certificates from a real CA (Pebble), with the real binary.

mod cluster;
mod dns;
mod folder;
mod scene;
