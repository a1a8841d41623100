//! Which certificates are due, and why.
