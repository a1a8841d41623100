//! Routes HTTP from the LAN to endpoints: Pingora, rustls and a table that is swapped whole.
