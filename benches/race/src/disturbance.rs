//! Who else used the machine while something was measured.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

use serde::Serialize;

/// Below this share of one core all others together are not worth a word.
pub const SHARE_MAX: f64 = 0.02;

/// Somebody who took CPU time from a measurement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Disturber {
    /// Process id; 0 for the hypervisor.
    pub pid: u32,
    /// The name in /proc.
    pub name: String,
    /// Of one core, over the time of the measurement.
    pub share: f64,
}

/// CPU time that everybody has used so far.
pub struct Snapshot {
    processes: BTreeMap<u32, Process>,
    /// Ticks in which a core was ready but the hypervisor ran somebody else.
    stolen_ticks: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct Process {
    name: String,
    parent: u32,
    started: u64,
    /// Its own, and those of its children that it has waited for.
    ticks: u64,
}

impl Snapshot {
    /// Reads /proc.
    ///
    /// # Errors
    /// No /proc.
    pub fn take() -> io::Result<Snapshot> {
        let mut processes = BTreeMap::new();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // It may have ended since the directory was read.
            let text = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            processes.extend(parse_process(&text).map(|process| (pid, process)));
        }
        let stolen_ticks = parse_stolen(&fs::read_to_string("/proc/stat")?).unwrap_or(0);
        Ok(Snapshot { processes, stolen_ticks })
    }

    /// Who used CPU time from `self` to `after`, most first; nobody if it was at most
    /// [`SHARE_MAX`] of a core in all. `measured` are the processes that belong to the measurement.
    pub fn disturbers(
        &self,
        after: &Snapshot,
        elapsed: Duration,
        measured: &[u32],
    ) -> Vec<Disturber> {
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let share = |ticks: u64| ticks as f64 / ticks_per_second / elapsed.as_secs_f64();
        let inherited = self.inherited_ticks(after);
        let mut disturbers: Vec<Disturber> = after
            .processes
            .iter()
            .filter(|(pid, process)| !measured.contains(pid) && !process.serves_the_network())
            .map(|(&pid, process)| Disturber {
                pid,
                name: process.name.clone(),
                share: share(self.ticks_since(pid, process, &inherited)),
            })
            .collect();
        disturbers.push(Disturber {
            pid: 0,
            name: "hypervisor (steal)".to_owned(),
            share: share(after.stolen_ticks.saturating_sub(self.stolen_ticks)),
        });
        disturbers.retain(|disturber| disturber.share > 0.0);
        if disturbers.iter().map(|disturber| disturber.share).sum::<f64>() <= SHARE_MAX {
            return Vec::new();
        }
        disturbers.sort_by(|a, b| b.share.total_cmp(&a.share));
        disturbers
    }

    /// Ticks that a process may have taken over from children that ended, though they were spent
    /// before `self`. Whoever waited for a child, it was one of those above it.
    fn inherited_ticks(&self, after: &Snapshot) -> BTreeMap<u32, u64> {
        let mut inherited = BTreeMap::new();
        let ended = self.processes.iter().filter(|(pid, _)| !after.processes.contains_key(pid));
        for (_, child) in ended {
            let mut above = child.parent;
            // Its parent may have ended as well. The root's parent is 0, which is not listed.
            while let Some(process) = self.processes.get(&above) {
                *inherited.entry(above).or_insert(0) += child.ticks;
                above = process.parent;
            }
        }
        inherited
    }

    fn ticks_since(&self, pid: u32, process: &Process, inherited: &BTreeMap<u32, u64>) -> u64 {
        let before = self.processes.get(&pid).filter(|before| before.started == process.started);
        let inherited = before.and_then(|_| inherited.get(&pid)).copied().unwrap_or(0);
        process.ticks.saturating_sub(before.map_or(0, |before| before.ticks) + inherited)
    }
}

impl Process {
    /// The kernel's own thread that handles what our packets raised: a part of the measurement.
    fn serves_the_network(&self) -> bool {
        const KTHREADD: u32 = 2;
        self.parent == KTHREADD && self.name.starts_with("ksoftirqd/")
    }
}

/// Fields 2, 4, 14 to 17 and 22 of `/proc/PID/stat`, see proc_pid_stat(5).
fn parse_process(text: &str) -> Option<Process> {
    // The name may hold spaces and parentheses, so its end is the last one.
    let (front, fields) = text.rsplit_once(')')?;
    let (_, name) = front.split_once('(')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |index: usize| fields.get(index - 3)?.parse::<u64>().ok();
    Some(Process {
        name: name.to_owned(),
        parent: number(4)?.try_into().ok()?,
        started: number(22)?,
        ticks: (14..=17).map(number).sum::<Option<u64>>()?,
    })
}

/// `steal` of the first line of `/proc/stat`, see proc_stat(5).
fn parse_stolen(text: &str) -> Option<u64> {
    text.lines().next()?.strip_prefix("cpu ")?.split_whitespace().nth(7)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(parent: u32, name: &str, ticks: u64) -> Process {
        Process { name: name.to_owned(), parent, started: 1, ticks }
    }

    fn snapshot(stolen_ticks: u64, processes: &[(u32, Process)]) -> Snapshot {
        Snapshot { processes: processes.iter().cloned().collect(), stolen_ticks }
    }

    /// Of one second, in hundredths of a core.
    fn disturbers(before: &Snapshot, after: &Snapshot) -> Vec<(u32, u64)> {
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let elapsed = Duration::from_secs_f64(100.0 / ticks_per_second);
        let found = before.disturbers(after, elapsed, &[10, 11]);
        found.iter().map(|d| (d.pid, (d.share * 100.0).round() as u64)).collect()
    }

    #[test]
    fn a_line_of_stat_is_read_whatever_the_name_holds() {
        let line = "42 (a (b) c) S 7 1 1 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 555 1 1";
        let expected = Process { name: "a (b) c".to_owned(), parent: 7, started: 555, ticks: 127 };
        assert_eq!(parse_process(line), Some(expected));
        assert_eq!(parse_process("42 (a) S 7"), None);
        assert_eq!(parse_process(""), None);
        assert_eq!(parse_stolen("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1"), Some(8));
    }

    #[test]
    fn who_works_beside_the_measurement_is_named_most_first() {
        let before = snapshot(5, &[(10, process(1, "server", 0)), (20, process(1, "rustc", 50))]);
        let after = snapshot(
            8,
            &[
                (10, process(1, "server", 90)),
                (11, process(1, "load", 95)),
                (20, process(1, "rustc", 60)),
                (21, process(1, "new", 4)),
                (22, process(2, "ksoftirqd/0", 30)),
            ],
        );
        assert_eq!(disturbers(&before, &after), [(20, 10), (21, 4), (0, 3)]);
    }

    #[test]
    fn little_work_is_nobodys_name() {
        let before = snapshot(0, &[(20, process(1, "cron", 0)), (21, process(1, "sshd", 0))]);
        let after = snapshot(0, &[(20, process(1, "cron", 1)), (21, process(1, "sshd", 1))]);
        assert_eq!(disturbers(&before, &after), []);
    }

    #[test]
    fn a_child_that_ended_counts_from_the_first_look_on() {
        let before = snapshot(0, &[(20, process(1, "cargo", 5)), (21, process(20, "rustc", 300))]);
        let after = snapshot(0, &[(20, process(1, "cargo", 5 + 340))]);
        assert_eq!(disturbers(&before, &after), [(20, 40)]);
    }

    #[test]
    fn a_grandchild_that_ended_counts_from_the_first_look_on() {
        let (shell, cargo) = (process(1, "bash", 1), process(20, "cargo", 5));
        let before = [(20, shell), (21, cargo), (22, process(21, "rustc", 3000))];
        let after = snapshot(0, &[(20, process(1, "bash", 1 + 5 + 3000 + 7))]);
        assert_eq!(disturbers(&snapshot(0, &before), &after), [(20, 7)]);
    }

    #[test]
    fn a_process_id_used_again_is_another_process() {
        let before = snapshot(0, &[(20, process(1, "old", 70))]);
        let new = Process { started: 2, ..process(1, "new", 80) };
        let after = snapshot(0, &[(20, new)]);
        assert_eq!(disturbers(&before, &after), [(20, 80)]);
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let snapshot = Snapshot::take().expect("/proc");
        assert!(snapshot.processes.contains_key(&std::process::id()));
    }
}
