//! API mode against an API server: what comes in, what goes out, and what must not be lost when things fail.

mod binary;
mod caching;
mod endpoints;
mod harness;
mod lasting;
mod leading;
mod living;
mod reading;
mod scale;
mod scene;
mod secrets;
mod writing;
