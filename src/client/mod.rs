//! The client role: policies that a loop consults about the connections it dials.
