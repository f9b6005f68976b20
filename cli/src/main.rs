//! The corewire program.

fn main() {}
