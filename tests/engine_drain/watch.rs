//! Peers that are watched from millisecond to millisecond.

use std::time::Duration;

use crate::sim_bed::{Bed, News, Settings, echo};
use crate::sim_net::SimPeer;
use crate::sim_peer::{close, frames};

pub const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// What a peer does when it is told to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// It says Close and ends its stream.
    Answers,
    /// It says nothing.
    IsSilent,
    /// It ends its stream without a Close.
    HangsUp,
    /// It resets the connection.
    Resets,
}

/// Somebody was told to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub at: Duration,
    /// Among the peers watched.
    pub peer: usize,
    pub code: u16,
}

/// An echo with another seed.
pub fn seeded(seed: u8, change: impl FnOnce(&mut Settings)) -> Bed {
    Bed::new(
        |settings| {
            settings.reactor.seed = [seed; 32];
            settings.config.heartbeat = None;
            change(settings);
        },
        echo,
    )
}

/// What peers have read.
#[derive(Debug, Default)]
pub struct Reading {
    pub told: Vec<Told>,
    /// Of each, what is no whole frame yet.
    torn: Vec<Vec<u8>>,
}

impl Reading {
    /// Reads what has come for `peers`, always the same, at `at`.
    pub fn read(&mut self, peers: &[(SimPeer, Manners)], at: Duration) {
        self.torn.resize(peers.len(), Vec::new());
        for (peer, ((link, manners), bytes)) in peers.iter().zip(&mut self.torn).enumerate() {
            bytes.extend(link.read_all());
            let (frames, used) = frames(bytes);
            bytes.drain(..used);
            for code in frames.iter().filter_map(|frame| frame.close_code()) {
                self.told.push(Told { at, peer, code });
                match manners {
                    Manners::Answers => {
                        link.write_all(&close(code));
                        link.fin();
                    }
                    Manners::IsSilent => {}
                    Manners::HangsUp => link.fin(),
                    Manners::Resets => link.reset(),
                }
            }
        }
    }
}

/// Turns for so long, and tells who was told what, and how long after the beginning.
pub fn watch(bed: &mut Bed, peers: &[(SimPeer, Manners)], time: Duration) -> Vec<Told> {
    let (began, mut reading) = (bed.sim.elapsed(), Reading::default());
    loop {
        bed.turn();
        let at = bed.sim.elapsed() - began;
        reading.read(peers, at);
        if at >= time {
            return reading.told;
        }
        bed.turn();
        bed.sim.advance(millis(1));
    }
}

/// As many that answer.
pub fn polite(bed: &mut Bed, count: usize) -> Vec<(SimPeer, Manners)> {
    (0..count).map(|_| (bed.open(), Manners::Answers)).collect()
}

/// What was said of the loop, in its order, and since when.
pub fn news(bed: &Bed) -> Vec<(Duration, News)> {
    bed.news.borrow().clone()
}
