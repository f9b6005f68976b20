//! What a person at a terminal sees while it runs, on standard error.

use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use super::plan::{ConnectOnly, Plan, Work};

/// A bar, hidden where there is no terminal, and gone at the end.
pub struct Progress {
    bar: ProgressBar,
    /// Time whose messages do not count.
    warm_up: Duration,
}

impl Progress {
    pub fn dialling(plan: &Plan) -> Self {
        let (length, template) = match plan.work {
            Work::ConnectOnly(ConnectOnly::Repeat) => {
                (0, "{spinner} {human_pos} handshakes in {elapsed}")
            }
            Work::ConnectOnly(ConnectOnly::Hold) | Work::InFlight(_) | Work::Rate(_) => {
                (plan.connections as u64, "connecting [{bar:40}] {human_pos}/{human_len}")
            }
        };
        Self { bar: bar(length, template), warm_up: Duration::ZERO }
    }

    pub fn loading(plan: &Plan) -> Self {
        let length_ms = (plan.warm_up + plan.duration).as_millis() as u64;
        let bar = bar(length_ms, "{prefix:>9} [{bar:40}] {msg}");
        Self { bar, warm_up: plan.warm_up }
    }

    pub fn show_opened(&self, count: u64) {
        self.bar.set_position(count);
    }

    pub fn show_answered(&self, elapsed: Duration, count: u64) {
        self.bar.set_prefix(if elapsed < self.warm_up { "warm-up" } else { "measuring" });
        let per_second = count as f64 / elapsed.as_secs_f64().max(1e-3);
        self.bar.set_message(format!("{}/s", HumanCount(per_second as u64)));
        self.bar.set_position(elapsed.as_millis() as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("a template that is right");
    ProgressBar::new(length).with_style(style.progress_chars("█▉▊▋▌▍▎▏ "))
}
