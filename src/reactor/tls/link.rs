//! One connection's TLS: records that come in pieces, and records that the kernel does not take.

use std::io::{self, IoSlice};

use super::incoming::{Incoming, Progress};
use super::links::{BATCH_BYTES_MAX, Gathering, Workshop};
use super::payload::Payload;
use super::session::{
    Handshake, RECORD_PAYLOAD_BYTES_MAX, Session, Stage, TlsFacts, TlsFailure, Verdict,
};
use crate::limits::{TLS_HANDSHAKE_BYTES, TLS_SESSION_BYTES};
use crate::reactor::net::{Net, NetKey, Received};
use crate::reactor::transport::{Reading, Urgency};

/// One connection's TLS between the loop and the network. While nothing is under way it holds no
/// buffers: torn records come and go with the reads, refused ones with the writes.
///
/// ```text
///   Open ──close_notify──► Ended
///    ├── the peer breaks the rules, the alert is sent ──► Broken ──told──► Deaf
///    └── we have said goodbye ────────────────────────────────────────────►  ▲
/// ```
pub struct Link {
    session: Box<dyn Session>,
    /// What it takes, certificates of the peer included.
    session_bytes: usize,
    input: Input,
    incoming: Incoming,
    /// Read by somebody else, before the link was there.
    early: Vec<u8>,
    opening: Opening,
    /// Records that the kernel has refused, from `outgoing_at` on.
    outgoing: Vec<u8>,
    outgoing_at: usize,
    /// The payload in `outgoing`, or more: a record counts until the last of them has left.
    refused_bytes: usize,
    /// The first byte that is offered next was encrypted already, as the last of what was refused.
    repeats_byte: bool,
    output: Output,
}

/// How the handshake begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    /// By the peer: this end is the server.
    Awaited,
    /// By us, and there was no time for it yet.
    Owed,
    /// It has, and has cost us something already.
    Begun,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Open,
    Ended,
    /// What stood in front of the bad record was handed out first.
    Broken,
    /// What comes is not looked at any more.
    Deaf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Open,
    /// The close_notify is written or waits; the write side is shut behind it.
    Ending,
    Shut,
    /// The network has failed, and is not asked again.
    Failed(io::ErrorKind),
}

/// One read of records.
struct Read {
    record_bytes: usize,
    is_drained: bool,
}

impl Link {
    /// A server's link whose handshake is yet to come, perhaps with bytes that were read already.
    pub fn server(session: Box<dyn Session>, early: &[u8]) -> Self {
        Self { early: early.to_vec(), ..Self::new(session, Opening::Awaited) }
    }

    /// A client's link. It speaks first, in the first read that has time for handshakes.
    pub fn client(session: Box<dyn Session>) -> Self {
        Self::new(session, Opening::Owed)
    }

    fn new(session: Box<dyn Session>, opening: Opening) -> Self {
        Self {
            session,
            session_bytes: TLS_HANDSHAKE_BYTES,
            input: Input::Open,
            incoming: Incoming::default(),
            early: Vec::new(),
            opening,
            outgoing: Vec::new(),
            outgoing_at: 0,
            refused_bytes: 0,
            repeats_byte: false,
            output: Output::Open,
        }
    }

    /// Says a client's first word, if it is owed; what the kernel refuses of it waits. It is a step of
    /// the handshake: a key is made for it.
    ///
    /// # Errors
    /// What the network says, but for `WouldBlock`.
    fn begin<N: Net>(
        &mut self,
        net: &mut N,
        key: NetKey,
        workshop: &mut Workshop,
    ) -> io::Result<()> {
        if self.opening != Opening::Owed {
            return Ok(());
        }
        self.opening = Opening::Begun;
        workshop.count_step();
        let handled = self.session.handle_records(&mut [], &mut |_| {}, &mut self.outgoing);
        debug_assert_eq!(handled.verdict, Verdict::Fine, "there was nothing to be bad");
        match self.flush(net, key) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads records once: their payload goes into `place` first, then there is room for
    /// about `surplus_bytes_max` more.
    ///
    /// # Errors
    /// What the network says; `UnexpectedEof` if the stream ends without a close_notify, so that
    /// somebody may have cut it off (RFC 8446 §6.1); `InvalidData` if the peer breaks the rules, and
    /// from then on what it sends is handed out as it is, to be thrown away.
    pub fn receive<N: Net>(
        &mut self,
        net: &mut N,
        key: NetKey,
        place: &mut [u8],
        surplus_bytes_max: usize,
        workshop: &mut Workshop,
    ) -> io::Result<Reading> {
        match self.input {
            Input::Open => {}
            Input::Ended => {
                return discard(net, key).map_err(|error| self.note_read_failure(error));
            }
            Input::Broken => return Err(self.tell_broken()),
            Input::Deaf => return Reading::of_plain(net, key, &mut [], surplus_bytes_max.max(1)),
        }
        if self.is_handshaking() {
            if !workshop.may_shake_hands() {
                return Ok(Reading::Later(match self.opening {
                    Opening::Begun => Urgency::Begun,
                    Opening::Awaited | Opening::Owed => Urgency::Fresh,
                }));
            }
            self.begin(net, key, workshop)?;
        }
        // At least a record: of its parts nothing can be had.
        let payload_bytes_max = place.len().saturating_add(surplus_bytes_max);
        let bytes_max =
            payload_bytes_max.max(RECORD_PAYLOAD_BYTES_MAX).min(workshop.read_bytes_max());
        let mut buffer = workshop.take_buffer();
        let mut payload = Payload {
            place,
            placed_bytes: 0,
            rest: buffer.as_mut_slice(),
            rest_bytes: 0,
            lost_bytes: 0,
        };
        let read = self.receive_records(net, key, bytes_max, &mut payload, workshop);
        let (placed_bytes, surplus_bytes) = (payload.placed_bytes, payload.rest_bytes);
        if read.is_err() || placed_bytes + surplus_bytes == 0 {
            workshop.put_back(buffer);
            let Read { record_bytes, is_drained } = read?;
            return match self.input {
                Input::Ended => Ok(Reading::End),
                Input::Broken => Err(self.tell_broken()),
                Input::Open | Input::Deaf => {
                    Ok(Reading::Nothing { overhead_bytes: record_bytes, is_drained })
                }
            };
        }
        workshop.lend();
        let Read { record_bytes, is_drained } = read?;
        // What there is to tell of the end is told by the next read.
        let is_short = is_drained && self.input == Input::Open;
        let overhead_bytes = record_bytes.saturating_sub(placed_bytes + surplus_bytes);
        let received = Received { placed_bytes, buffer, surplus_bytes, is_short };
        Ok(Reading::Some { received, overhead_bytes })
    }

    /// Writes as much of `slices` as goes, in records. Of those that the kernel refuses the last byte
    /// of payload is not taken: whoever counts what is unsent sees that something is, and offers
    /// that byte again, since nobody takes back a frame that is partly written.
    ///
    /// # Errors
    /// What the network says: `WouldBlock` while records of before wait; `NotConnected` before the
    /// end of the handshake; `InvalidData` if the peer has broken the rules and no reader was told.
    pub fn send<N: Net>(
        &mut self,
        net: &mut N,
        key: NetKey,
        slices: &[IoSlice<'_>],
        workshop: &mut Workshop,
    ) -> io::Result<usize> {
        self.flush(net, key)?;
        if self.input == Input::Broken {
            return Err(self.tell_broken());
        }
        if self.is_handshaking() || self.output != Output::Open || self.input == Input::Deaf {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut taken_bytes = usize::from(std::mem::take(&mut self.repeats_byte));
        let mut gathering = Gathering::skipping(slices, taken_bytes);
        while let Some(batch) = workshop.gather(&mut gathering) {
            let payload_bytes = batch.payload.len();
            batch.output.clear();
            let records = self.incoming.as_mut_slice();
            if self.session.encrypt(records, batch.payload, batch.output).is_err() {
                return Err(self.note_failure(io::ErrorKind::BrokenPipe.into()));
            }
            let written = match write(net, key, batch.output) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => {
                    let error = self.note_failure(error);
                    // What was written before counts; the failure comes again.
                    return if taken_bytes > 0 { Ok(taken_bytes) } else { Err(error) };
                }
            };
            taken_bytes += payload_bytes;
            let left = &batch.output[written..];
            if !left.is_empty() {
                self.outgoing.extend_from_slice(left);
                self.refused_bytes = payload_bytes;
                self.repeats_byte = true;
                return match taken_bytes - 1 {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    taken_bytes => Ok(taken_bytes),
                };
            }
        }
        Ok(taken_bytes)
    }

    fn tell_broken(&mut self) -> io::Error {
        self.input = Input::Deaf;
        io::ErrorKind::InvalidData.into()
    }

    /// Behind a failure of the network nothing is said any more.
    fn note_read_failure(&mut self, error: io::Error) -> io::Error {
        if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
            self.input = Input::Deaf;
        }
        error
    }

    fn note_failure(&mut self, error: io::Error) -> io::Error {
        if error.kind() != io::ErrorKind::WouldBlock {
            self.output = Output::Failed(error.kind());
        }
        error
    }

    /// Offers the records that wait to the kernel again.
    ///
    /// # Errors
    /// `WouldBlock` while some still wait; else what the network says.
    pub fn flush<N: Net>(&mut self, net: &mut N, key: NetKey) -> io::Result<()> {
        if let Output::Failed(error) = self.output {
            return Err(error.into());
        }
        if self.pending_bytes() == 0 {
            return Ok(());
        }
        let written = write(net, key, &self.outgoing[self.outgoing_at..]);
        self.outgoing_at += written.map_err(|error| self.note_failure(error))?;
        if self.pending_bytes() > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.outgoing = Vec::new();
        self.outgoing_at = 0;
        self.refused_bytes = 0;
        if self.output == Output::Ending {
            self.output = Output::Shut;
            net.shutdown(key);
        }
        Ok(())
    }

    /// Ends our direction: the close_notify behind all records, then the write side is shut. Nothing
    /// that comes from now on can be answered, so it is not decrypted either.
    pub fn shutdown<N: Net>(&mut self, net: &mut N, key: NetKey) {
        if self.output != Output::Open {
            return;
        }
        match self.input {
            Input::Ended => self.session.close(&mut [], &mut self.outgoing),
            Input::Open => {
                self.session.close(self.incoming.as_mut_slice(), &mut self.outgoing);
                self.incoming.clear();
                self.input = Input::Deaf;
            }
            // Behind an alert there is no close_notify.
            Input::Broken | Input::Deaf => self.input = Input::Deaf,
        }
        self.output = Output::Ending;
        if self.pending_bytes() > 0 {
            // What the network refuses waits for the next readiness; a failure ends the connection
            // by what reading says.
            let _ = self.flush(net, key);
        } else {
            self.output = Output::Shut;
            net.shutdown(key);
        }
    }

    /// Bytes of records that wait for the kernel.
    pub fn pending_bytes(&self) -> usize {
        self.outgoing.len() - self.outgoing_at
    }

    /// Payload that was taken and has perhaps not left.
    pub fn unsent_bytes(&self) -> usize {
        self.refused_bytes.saturating_sub(1)
    }

    /// The last word before the socket is closed, if it can be said at once. Where something of ours
    /// has not left there is none: the peer shall see that the stream was cut off.
    pub fn say_goodbye<N: Net>(&mut self, net: &mut N, key: NetKey) {
        let is_orderly = matches!(self.input, Input::Open | Input::Ended) && !self.repeats_byte;
        if is_orderly && self.pending_bytes() == 0 && !self.is_handshaking() {
            self.shutdown(net, key);
        }
    }

    /// Why the peer has broken the rules, or says that we have; told once.
    pub fn take_failure(&mut self) -> Option<TlsFailure> {
        self.session.take_failure()
    }

    pub fn is_handshaking(&self) -> bool {
        self.session.stage() == Stage::Handshaking
    }

    /// What its handshake has brought to light, once it is over.
    pub fn facts(&self) -> Option<TlsFacts<'_>> {
        (!self.is_handshaking()).then(|| self.session.facts())
    }

    /// Whether a torn record waits for its rest.
    pub fn holds_records(&self) -> bool {
        self.incoming.buffered_bytes() > 0
    }

    /// What the certificates take that the peer has shown.
    fn shown_bytes(&self) -> usize {
        let shown = self.session.facts().peer_certificates.iter();
        shown.map(|certificate| CERTIFICATE_BYTES + certificate.len()).sum()
    }

    /// What the link owns.
    pub fn held_bytes(&self) -> usize {
        let buffered_bytes = self.incoming.buffered_bytes() + self.outgoing.capacity();
        self.session_bytes + buffered_bytes + self.early.capacity()
    }

    /// One read and what its records hold.
    fn receive_records<N: Net>(
        &mut self,
        net: &mut N,
        key: NetKey,
        bytes_max: usize,
        payload: &mut Payload<'_>,
        workshop: &mut Workshop,
    ) -> io::Result<Read> {
        let was_handshaking = self.is_handshaking();
        workshop.output.clear();
        let (progress, read) = if self.early.is_empty() {
            let received = net.receive(key, &mut [], bytes_max);
            let mut received = received.map_err(|error| self.note_read_failure(error))?;
            let record_bytes = received.surplus_bytes;
            if record_bytes == 0 {
                net.give_back(received.buffer);
                return Err(self.handle_end_of_stream(workshop));
            }
            let records = &mut received.buffer.as_mut_slice()[..record_bytes];
            let progress = self.handle_records(records, payload, &mut workshop.output);
            net.give_back(received.buffer);
            (progress, Read { record_bytes, is_drained: received.is_short })
        } else {
            let mut early = std::mem::take(&mut self.early);
            let progress = self.handle_records(&mut early, payload, &mut workshop.output);
            (progress, Read { record_bytes: early.len(), is_drained: false })
        };
        self.outgoing.extend_from_slice(&workshop.output);
        if was_handshaking && progress != Progress::None {
            self.opening = Opening::Begun;
            workshop.count_step();
        }
        match self.session.stage() {
            Stage::Handshaking => self.session_bytes = TLS_HANDSHAKE_BYTES + self.shown_bytes(),
            Stage::Established(handshake) if was_handshaking => {
                workshop.counters.tls_handshakes += 1;
                workshop.counters.tls_resumptions += u64::from(handshake == Handshake::Resumed);
                self.session_bytes = TLS_SESSION_BYTES + self.shown_bytes();
            }
            Stage::Established(_) => {}
            Stage::PeerClosed => {
                self.input = Input::Ended;
                self.incoming.clear();
            }
        }
        let flushed = self.flush(net, key);
        if progress == Progress::Broken || payload.lost_bytes > 0 {
            workshop.counters.tls_errors += 1;
            self.input = Input::Broken;
            self.incoming.clear();
            return Ok(read);
        }
        match flushed {
            // What came in front of a failure is heard first; the failure comes again.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock && payload.is_empty() => {
                Err(error)
            }
            _ => Ok(read),
        }
    }

    fn handle_records(
        &mut self,
        fresh: &mut [u8],
        payload: &mut Payload<'_>,
        output: &mut Vec<u8>,
    ) -> Progress {
        let mut sink = |bytes: &[u8]| payload.push(bytes);
        self.incoming.handle(fresh, &mut *self.session, &mut sink, output)
    }

    fn handle_end_of_stream(&mut self, workshop: &mut Workshop) -> io::Error {
        // Who is cut off is not told goodbye.
        self.input = Input::Deaf;
        workshop.counters.tls_truncations += u64::from(!self.is_handshaking());
        io::ErrorKind::UnexpectedEof.into()
    }
}

/// What stands behind a close_notify is nobody's affair, but how the stream ends is.
fn discard<N: Net>(net: &mut N, key: NetKey) -> io::Result<Reading> {
    match net.receive(key, &mut [], RECORD_PAYLOAD_BYTES_MAX) {
        Ok(received) => {
            net.give_back(received.buffer);
            Ok(Reading::End)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Reading::End),
        Err(error) => Err(error),
    }
}

fn write<N: Net>(net: &mut N, key: NetKey, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match net.send(key, &[IoSlice::new(bytes)]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// What the peer's certificate takes besides its own bytes.
const CERTIFICATE_BYTES: usize = 64;

const _: () = assert!(BATCH_BYTES_MAX >= RECORD_PAYLOAD_BYTES_MAX);
