//! Certificates from a real CA (Pebble), with the real binary.

mod cluster;
mod folder;
mod scene;
