//! Some pairs agree on compression; what they write is inflated by another implementation.

use corewire::opening::{Agreement, Direction};
use corewire::{Compression, Config, Role};

use super::support::agreed::{agree, agreed, answer, dedicated, shared};
use super::support::deflated::Decompressor;
use super::support::endpoint::Endpoint;
use super::support::naive::{CONTINUATION, Frame};
use super::support::rng::Rng;

/// What the client and the server agree on, if they do.
pub struct Agreed(Option<[Agreement; 2]>);

impl Agreed {
    pub fn choose([client, server]: &mut [Config; 2], rng: &mut Rng) -> Self {
        client.compression = choose(rng);
        server.compression = choose(rng);
        // One way alone is what other clients ask for.
        let offer = match rng.below(8) {
            0 => "permessage-deflate; server_no_context_takeover",
            1 => "permessage-deflate; client_no_context_takeover",
            _ => return Self(agree(&client.compression, &server.compression)),
        };
        Self(answer(&server.compression, offer).map(|agreement| [agreement; 2]))
    }

    pub fn apply(&self, endpoint: Endpoint) -> Endpoint {
        match (&self.0, endpoint.role) {
            (None, _) => endpoint,
            (Some([ours, _]), Role::Client) => agreed(endpoint, ours),
            (Some([_, theirs]), Role::Server) => agreed(endpoint, theirs),
        }
    }

    /// What reads all that `role` writes.
    pub fn reader(&self, role: Role) -> Reader {
        let direction = self.0.as_ref().map(|[agreement, _]| match role {
            Role::Client => agreement.client,
            Role::Server => agreement.server,
        });
        let window_bits = direction.map_or(15, |direction| direction.window_bits);
        Reader { direction, decompressor: Decompressor::new(window_bits) }
    }
}

fn choose(rng: &mut Rng) -> Compression {
    let compression = match rng.below(5) {
        0 => Compression::default(),
        1 => shared(),
        _ => dedicated(9 + rng.below(7) as u8),
    };
    let peer_window_bits = [8, 9, 15, 15, 15][rng.below(5)];
    let compression = compression.peer_window_bits(peer_window_bits).expect("8 to 15");
    let level = 1 + rng.below(9) as u8;
    compression.threshold_bytes([0, 1, 128][rng.below(3)]).level(level).expect("1 to 9")
}

pub struct Reader {
    direction: Option<Direction>,
    decompressor: Decompressor,
}

impl Reader {
    /// The payload as it was sent.
    pub fn read(&mut self, frame: &Frame) -> Vec<u8> {
        if frame.rsv == 0 {
            return frame.payload.clone();
        }
        let direction = self.direction.expect("what is compressed was agreed on");
        assert!(frame.rsv == 4 && frame.fin && frame.opcode != CONTINUATION, "{frame:?}");
        if !direction.context_takeover {
            self.decompressor = Decompressor::new(direction.window_bits);
        }
        self.decompressor.message(&frame.payload)
    }
}

/// The simulation is no good if hardly any pair agrees, or all do.
#[test]
fn many_pairs_agree_on_compression() {
    let mut counts = [0; 4];
    for seed in 0..super::SEEDS {
        let mut configs = [Role::Client, Role::Server].map(Config::new);
        let Agreed(agreements) = Agreed::choose(&mut configs, &mut Rng::new(seed));
        let kind = agreements.map_or(3, |[agreement, _]| {
            let ends = [agreement.client, agreement.server];
            ends.iter().filter(|direction| direction.context_takeover).count()
        });
        counts[kind] += 1;
    }
    // With context takeover in so many directions, and last those without compression.
    assert!(counts[0] > 40 && counts[1] > 15 && counts[2] > 40 && counts[3] > 40, "{counts:?}");
}
