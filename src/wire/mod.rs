//! Bytes to and from one frame: pure functions, no allocation on parse.
