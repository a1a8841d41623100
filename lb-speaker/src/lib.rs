//! Gives Services their addresses and makes the LAN believe them.
