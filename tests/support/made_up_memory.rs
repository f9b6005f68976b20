//! A memory that a test has made up.

use std::sync::Mutex;

use corewire::{MemorySample, MemorySource};

/// What the process takes, as the test says.
#[derive(Debug)]
pub struct Memory {
    budget_bytes: u64,
    sample: Mutex<MemorySample>,
}

impl Memory {
    /// Nothing is taken of so much.
    pub fn new(budget_bytes: u64) -> Self {
        Self { budget_bytes, sample: Mutex::default() }
    }

    pub fn set(&self, rss_bytes: usize) {
        self.sample.lock().unwrap().rss_bytes = rss_bytes as u64;
    }

    pub fn set_stall(&self, percent: u8) {
        self.sample.lock().unwrap().stall_percent = Some(percent);
    }
}

impl MemorySource for Memory {
    fn budget_bytes(&self) -> Option<u64> {
        Some(self.budget_bytes)
    }

    fn sample(&self) -> MemorySample {
        *self.sample.lock().unwrap()
    }
}
