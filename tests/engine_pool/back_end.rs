//! Back ends that connections lead to, and their manners.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use corewire::{Client, ClientSettings};

use crate::naive::{CLOSE, Frame, PING, TEXT};
use crate::sim_host::SimHost;
use crate::sim_link::End;
use crate::sim_net::Sim;
use crate::sim_server::SimServer;

/// How a back end answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    pub upgrades: Upgrades,
    pub pings: Pings,
    pub closes: Closes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrades {
    Switch,
    /// With 503.
    Refuse,
    Ignore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pings {
    Answer,
    AnswerAfter(Duration),
    Ignore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closes {
    /// By a Close and the end of its stream.
    Answer,
    /// By a Close alone.
    Linger,
    Ignore,
}

impl Manner {
    pub const GOOD: Self =
        Self { upgrades: Upgrades::Switch, pings: Pings::Answer, closes: Closes::Answer };
}

/// A server that connections lead to.
pub struct BackEnd {
    pub host: SimHost,
    pub settings: ClientSettings,
    pub manner: Manner,
    pub served: Vec<Served>,
    /// All that were ever upgraded.
    pub upgraded: u64,
    pub pings: u64,
    /// What was said to it, by whichever connection.
    pub said: Vec<(Duration, String)>,
}

/// One connection of a back end.
pub struct Served {
    pub server: SimServer,
    stage: Stage,
    pub texts: Vec<String>,
    pongs: VecDeque<(Duration, Vec<u8>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Asked,
    Open,
    Closed,
}

impl BackEnd {
    pub fn new(sim: &Sim, number: usize) -> Self {
        let address = SocketAddr::from(([192, 0, 2, 1 + number as u8], 80));
        let settings = Client::builder(&format!("ws://{address}/")).build().expect("a good URL");
        let (host, served) = (sim.host(address), Vec::new());
        Self {
            host,
            settings,
            manner: Manner::GOOD,
            served,
            upgraded: 0,
            pings: 0,
            said: Vec::new(),
        }
    }

    /// Answers whatever has come.
    pub fn serve(&mut self, now: Duration) {
        while let Some(peer) = self.host.next() {
            let (server, texts, pongs) = (SimServer::new(peer), Vec::new(), VecDeque::new());
            self.served.push(Served { server, stage: Stage::Asked, texts, pongs });
        }
        let Self { served, manner, upgraded, pings, said, .. } = self;
        for one in served.iter_mut() {
            if one.stage == Stage::Asked
                && manner.upgrades != Upgrades::Ignore
                && let Some(request) = one.server.request()
            {
                if manner.upgrades == Upgrades::Switch {
                    one.server.peer.write_all(&request.switching(""));
                    one.stage = Stage::Open;
                    *upgraded += 1;
                } else {
                    let answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
                    one.server.peer.write_all(answer);
                    one.server.peer.fin();
                    one.stage = Stage::Closed;
                }
            }
            if one.stage == Stage::Open {
                let known = one.texts.len();
                *pings += one.answer(*manner, now);
                said.extend(one.texts[known..].iter().map(|text| (now, text.clone())));
            }
            while one.pongs.front().is_some_and(|(due, _)| *due <= now) {
                let (_, payload) = one.pongs.pop_front().expect("it was there");
                if one.stage == Stage::Open {
                    one.server.send(&Frame::pong(payload));
                }
            }
            if one.server.peer.is_at_end() && manner.closes != Closes::Linger {
                one.server.peer.fin();
            }
        }
        served.retain(|one| {
            let link = one.server.peer.end_seen();
            !(link == End::Reset || one.server.peer.is_at_end() && one.is_over())
        });
    }

    pub fn next_due(&self) -> Option<Duration> {
        self.served.iter().filter_map(|one| one.pongs.front()).map(|(due, _)| *due).min()
    }

    /// Connections that are open at its end.
    pub fn open(&self) -> usize {
        self.served.iter().filter(|one| one.stage == Stage::Open).count()
    }
}

impl Served {
    fn answer(&mut self, manner: Manner, now: Duration) -> u64 {
        let mut pings = 0;
        for frame in self.server.plain_frames() {
            match frame.opcode {
                PING => {
                    pings += 1;
                    match manner.pings {
                        Pings::Answer => self.server.send(&Frame::pong(frame.payload)),
                        Pings::AnswerAfter(time) => {
                            self.pongs.push_back((now + time, frame.payload));
                        }
                        Pings::Ignore => {}
                    }
                }
                CLOSE if manner.closes != Closes::Ignore => {
                    self.server.send(&frame);
                    self.stage = Stage::Closed;
                    if manner.closes == Closes::Answer {
                        self.server.peer.fin();
                    }
                }
                TEXT => self.texts.push(String::from_utf8(frame.payload).expect("a text")),
                _ => {}
            }
        }
        pings
    }

    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    fn is_over(&self) -> bool {
        self.server.peer.end_seen() != End::None
    }
}
