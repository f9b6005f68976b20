//! The server role: what to listen on, whom to admit, how to part.
