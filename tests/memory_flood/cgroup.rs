//! A memory cgroup of the test's own, of whichever version this machine has.

use std::path::{Path, PathBuf};
use std::{fs, io, process};

pub struct Cgroup(PathBuf);

impl Cgroup {
    /// A group with this limit.
    ///
    /// # Errors
    /// There are no such groups here, or they may not be made.
    pub fn new(limit_bytes: u64) -> io::Result<Self> {
        let name = format!("corewire-test-{}", process::id());
        let (root, file) = match Path::new("/sys/fs/cgroup/memory").is_dir() {
            true => (Path::new("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
            false => (Path::new("/sys/fs/cgroup"), "memory.max"),
        };
        let group = Self(root.join(name));
        fs::create_dir(&group.0)?;
        fs::write(group.0.join(file), limit_bytes.to_string())?;
        Ok(group)
    }

    /// Whoever writes his own number to this file is in.
    pub fn entrance(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The server in it has ended.
        let _ = fs::remove_dir(&self.0);
    }
}
