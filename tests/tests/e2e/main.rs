//! The appliance as its operator, its clients and its LAN see it: the real binary, started, told things, asked.

mod admin;
mod bad_config;
mod bad_objects;
mod check;
mod drain;
mod endpoints;
mod external;
mod gate;
mod lan;
mod lan6;
mod probing;
mod protocols;
mod quickstart;
mod reload;
mod restart;
mod rollout;
mod shop;
