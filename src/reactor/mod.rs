//! The event loop: the only module that names mio and socket2.
