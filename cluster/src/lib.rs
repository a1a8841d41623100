//! How objects come in and reports go out: API server or folder.

pub mod debounce;
pub mod memory;
pub mod outbox;
