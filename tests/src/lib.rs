//! The harness of the end-to-end tests.
//!
//! ```text
//!  Folder of YAML ──> Appliance (the real binary) <── Client, Load
//!  (manifests)             │      ^
//!                          v      └── admin API: /api/v1/*, /metrics, /readyz
//!                      Upstream (a backend that does as told)
//! ```
//!
//! Nothing here knows how Ferrogate works inside: the binary is started as an operator would, told things by files
//! in a folder and asked over HTTP. Every appliance has a loopback address of its own, so that tests run side by
//! side; what needs root runs in network namespaces ([`netns`]) and says so when it cannot.

pub mod api_server;
pub mod appliance;
pub mod binary;
pub mod certificate;
pub mod client;
pub mod clouds;
pub mod dns;
pub mod folder;
pub mod load;
pub mod loopback;
pub mod manifests;
pub mod metrics;
pub mod name_server;
pub mod netns;
pub mod outage;
pub mod pebble;
pub mod real;
pub mod snooping;
pub mod source;
pub mod switch;
pub mod upstream;
pub mod wait;
