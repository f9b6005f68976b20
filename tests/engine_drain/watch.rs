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

/// Who was told what since, counted from `since`.
pub fn read_closes(peers: &[(SimPeer, Manners)], at: Duration, told: &mut Vec<Told>) {
    for (peer, (link, manners)) in peers.iter().enumerate() {
        let bytes = link.read_all();
        let (frames, used) = frames(&bytes);
        assert_eq!(used, bytes.len(), "a torn frame at the end");
        for code in frames.iter().filter_map(|frame| frame.close_code()) {
            told.push(Told { at, peer, code });
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

/// Turns for so long, and tells who was told what, and how long after the beginning.
pub fn watch(bed: &mut Bed, peers: &[(SimPeer, Manners)], time: Duration) -> Vec<Told> {
    let (began, mut told) = (bed.sim.elapsed(), Vec::new());
    loop {
        bed.turn();
        let at = bed.sim.elapsed() - began;
        read_closes(peers, at, &mut told);
        if at >= time {
            return told;
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
