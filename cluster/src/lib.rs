//! How objects come in and reports go out: API server or folder.
