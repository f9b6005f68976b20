//! Scripted peers: what they say, how fast, and how they leave.

use crate::compressing::Compressing;
use crate::crowd::Whole;
use crate::dice::Dice;
use crate::sim_net::SimPeer;
use crate::sim_peer::{
    BINARY, CONTINUATION, PING, PONG, TEXT, close, masked, message, plain_request, upgrade_request,
};

/// How a peer leaves when it has said everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Says Close, reads to the end, then shuts its side.
    Politely,
    /// Shuts its side at once and reads on.
    HalfClosing,
    /// Resets.
    Resetting,
    /// Stays, reads, and is silent: no pong either.
    Silent,
    /// Stays and does not even read.
    Vanished,
    /// Breaks the protocol and reads what it gets for that.
    Wrong,
}

/// One scripted peer.
pub struct Actor {
    pub peer: SimPeer,
    dice: Dice,
    script: Vec<u8>,
    at: usize,
    ends: Vec<usize>,
    write_max: usize,
    read_max: usize,
    pub leaving: Leaving,
    /// Leaves here in its script, whatever is left of it.
    leaves_at: usize,
    has_left: bool,
}

/// What a peer is going to say, and the messages in it.
pub struct Script {
    pub bytes: Vec<u8>,
    pub messages: Vec<Whole>,
    /// Where each of them ends.
    ends: Vec<usize>,
    pub leaving: Leaving,
    compressing: Compressing,
}

/// The letters of what a handler is asked to do; most ask for an echo.
const LETTERS: &[u8] = b"eeeeeeeeeeeeeuubbbpptttosssgzrrrckax";

impl Script {
    /// What a peer says to a server that compresses, or does not, as `compressing` says.
    pub fn write(dice: &mut Dice, compressing: Compressing) -> Self {
        let leaving = dice.one_of(&[
            Leaving::Politely,
            Leaving::Politely,
            Leaving::Politely,
            Leaving::HalfClosing,
            Leaving::Resetting,
            Leaving::Silent,
            Leaving::Vanished,
            Leaving::Wrong,
        ]);
        let mut script = Self {
            bytes: Vec::new(),
            messages: Vec::new(),
            ends: Vec::new(),
            leaving,
            compressing,
        };
        for _ in 0..dice.below(3) {
            let path = dice.one_of(&["/plain", "/plain", "/large", "/later"]);
            script.bytes.extend(plain_request(path));
        }
        match dice.below(20) {
            0 => return script.ending_in(b"GARBAGE \0 GARBAGE\r\n\r\n and more of it"),
            1 => return script.ending_in(&upgrade_request("/refuse", "")),
            2 => return script.ending_in(&upgrade_request("/", "Content-Length: 10\r\n")),
            3 => return script.ending_in(&upgrade_request("/", "")[..40]),
            _ => {
                let path = dice.one_of(&["/", "/", "/", "/later"]);
                script.bytes.extend(upgrade_request(path, script.compressing.offer()));
            }
        }
        let is_flooder = dice.chance(15);
        let count = if is_flooder { 200 } else { dice.below(20) };
        for _ in 0..count {
            script.add_message(dice, is_flooder);
        }
        match leaving {
            Leaving::Politely => script.bytes.extend(close(1000)),
            Leaving::Wrong => script.add_wrong(dice),
            Leaving::HalfClosing | Leaving::Resetting | Leaving::Silent | Leaving::Vanished => {}
        }
        script
    }

    fn ending_in(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    fn add_message(&mut self, dice: &mut Dice, is_flooder: bool) {
        let bytes = match dice.below(100) {
            _ if is_flooder => dice.below(10),
            0..60 => dice.below(126),
            60..90 => dice.below(2000),
            90..97 => dice.below(10_000),
            _ => 17_000 + dice.below(20_000),
        };
        let opcode = dice.one_of(&[TEXT, BINARY]);
        let mut payload = vec![if is_flooder { b'e' } else { dice.one_of(LETTERS) }];
        let start = dice.below(26) as u8;
        payload.extend((0..bytes).map(|at| b'a' + (start + (at % 26) as u8) % 26));
        if dice.chance(3) {
            payload.clear();
        }
        let compressed = if dice.chance(60) { self.compressing.compress(&payload) } else { None };
        let rsv1 = if compressed.is_some() { 0x40 } else { 0 };
        let on_the_wire = compressed.as_deref().unwrap_or(&payload);
        if dice.chance(25) {
            self.add_fragments(dice, rsv1 | opcode, on_the_wire);
        } else {
            self.bytes.extend(masked(0x80 | rsv1 | opcode, on_the_wire));
        }
        self.ends.push(self.bytes.len());
        if dice.chance(10) {
            self.add_control(dice);
        }
        self.messages.push((opcode, payload));
    }

    fn add_fragments(&mut self, dice: &mut Dice, opcode: u8, payload: &[u8]) {
        let (mut rest, mut opcode) = (payload, opcode);
        loop {
            let room = rest.len() + 1;
            let (piece, behind) =
                rest.split_at(if dice.chance(30) { rest.len() } else { dice.below(room) });
            rest = behind;
            let fin = rest.is_empty() && dice.chance(60);
            self.bytes.extend(masked(if fin { 0x80 } else { 0 } | opcode, piece));
            if fin {
                break;
            }
            opcode = CONTINUATION;
            if dice.chance(30) {
                self.add_control(dice);
            }
        }
    }

    fn add_control(&mut self, dice: &mut Dice) {
        let payload = [b'c'; 125];
        let opcode = dice.one_of(&[PING, PING, PONG]);
        for _ in 0..dice.one_of(&[1, 1, 3, 50]) {
            let bytes = dice.below(126);
            self.bytes.extend(message(opcode, &payload[..bytes]));
        }
    }

    fn add_wrong(&mut self, dice: &mut Dice) {
        let wrong: &[&[u8]] = &[
            &[0xF1, 0x80, 0, 0, 0, 0],
            &[0x83, 0x80, 0, 0, 0, 0],
            &[0x81, 0x01, b'a'],
            &[0x80, 0x80, 0, 0, 0, 0],
            &[0x81, 0x81, 0, 0, 0, 0, 0xFF],
            &[0x09, 0x80, 0, 0, 0, 0],
            &[0x82, 0xFF, 0, 0, 0, 0, 0x7F, 0, 0, 0, 1, 2, 3, 4],
            &[0x88, 0x81, 0, 0, 0, 0, 1],
        ];
        self.bytes.extend(wrong[dice.below(wrong.len())]);
        self.bytes.extend(vec![0x55; dice.below(3000)]);
    }
}

impl Actor {
    pub fn new(peer: SimPeer, script: Script, mut dice: Dice) -> Self {
        let to_engine_max = dice.one_of(&[50, 1000, 100_000]);
        let to_peer_max = dice.one_of(&[20, 1000, 5000, 100_000]);
        peer.set_buffers(to_engine_max, to_peer_max);
        let write_max = dice.one_of(&[1, 3, 50, 500, 5000, 100_000, 100_000]);
        let read_max = dice.one_of(&[0, 1, 10, 300, 4000, 100_000, 100_000, 100_000]);
        let bytes = script.bytes.len();
        let leaves_at = if dice.chance(30) { dice.below(bytes + 1) } else { bytes };
        Self {
            peer,
            dice,
            script: script.bytes,
            at: 0,
            ends: script.ends,
            write_max,
            read_max,
            leaving: script.leaving,
            leaves_at,
            has_left: false,
        }
    }

    /// Says some, reads some.
    pub fn act(&mut self) {
        if self.dice.chance(20) {
            return;
        }
        let end = (self.at + 1 + self.dice.below(self.write_max)).min(self.leaves_at);
        if self.at < end {
            self.at += self.peer.write(&self.script[self.at..end]);
        }
        let is_gone = self.has_left && self.leaving == Leaving::Vanished;
        if self.read_max > 0 && !is_gone {
            let bytes = 1 + self.dice.below(self.read_max);
            self.peer.read(bytes);
        }
        if self.at == self.leaves_at {
            self.leave();
        }
    }

    fn leave(&mut self) {
        if !self.has_left {
            match self.leaving {
                Leaving::HalfClosing => self.peer.fin(),
                Leaving::Resetting => self.peer.reset(),
                Leaving::Politely | Leaving::Wrong | Leaving::Silent | Leaving::Vanished => {}
            }
        }
        self.has_left = true;
        if matches!(self.leaving, Leaving::Politely | Leaving::Wrong) && self.peer.is_at_end() {
            self.peer.fin();
        }
    }

    /// From now on says and reads all it can at once, whatever it was like before.
    pub fn hurry(&mut self) {
        self.peer.set_buffers(1 << 20, 1 << 20);
        self.at += self.peer.write(&self.script[self.at..self.leaves_at]);
        self.peer.read_all();
    }

    /// Whether everything is said that will be.
    pub fn is_done(&self) -> bool {
        self.at == self.leaves_at
    }

    /// Messages said to their last byte.
    pub fn said(&self) -> usize {
        self.ends.iter().filter(|end| **end <= self.at).count()
    }

    /// Goes for good: a reset, or reading what is there and shutting its side.
    pub fn go(&mut self) {
        if self.dice.chance(50) {
            self.peer.reset();
        } else {
            self.peer.fin();
        }
    }
}
