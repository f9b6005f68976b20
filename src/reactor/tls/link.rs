//! One connection's TLS: records that come in pieces, and records that the kernel does not take.

use std::io::{self, IoSlice};

use super::links::{BATCH_BYTES_MAX, Workshop};
use super::session::{Handshake, RECORD_PAYLOAD_BYTES_MAX, Session, Stage, Verdict};
use crate::limits::TLS_INCOMING_BYTES_MAX;
use crate::reactor::net::{Net, NetKey, Received};

/// One connection's TLS between the loop and the network. While nothing is under way it holds no
/// buffers: torn records come and go with the reads, refused ones with the writes.
///
/// ```text
///   Open ──close_notify──► Ended
///    └── the peer breaks the rules ──► Broken: the alert is sent, input is thrown away
/// ```
pub struct Link {
    session: Box<dyn Session>,
    input: Input,
    /// Read and not done with: a torn record, or whole ones of a torn handshake message.
    incoming: Vec<u8>,
    /// Where in `incoming` the torn record begins; at most its length.
    torn_at: usize,
    /// Read by somebody else, before the link was there.
    early: Vec<u8>,
    /// Records that the kernel has refused, from `outgoing_at` on.
    outgoing: Vec<u8>,
    outgoing_at: usize,
    /// The payload in `outgoing`, or more: a record counts until the last of them has left.
    unsent_bytes: usize,
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Open,
    Ended,
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Open,
    /// The close_notify is written or waits; the write side is shut behind it.
    Ending,
    Shut,
}

/// What bytes have led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// No record is whole yet.
    None,
    Some,
    /// The peer has broken the rules.
    Broken,
}

/// Where the payload of one read goes: into its final place first, the rest into a buffer.
struct Payload<'a> {
    place: &'a mut [u8],
    placed_bytes: usize,
    rest: &'a mut [u8],
    rest_bytes: usize,
    /// There was no place for; the buffer is so large that there are none.
    lost_bytes: usize,
}

impl Payload<'_> {
    fn push(&mut self, bytes: &[u8]) {
        let placed = bytes.len().min(self.place.len() - self.placed_bytes);
        let (head, tail) = bytes.split_at(placed);
        self.place[self.placed_bytes..][..placed].copy_from_slice(head);
        self.placed_bytes += placed;
        let kept = tail.len().min(self.rest.len() - self.rest_bytes);
        self.rest[self.rest_bytes..][..kept].copy_from_slice(&tail[..kept]);
        self.rest_bytes += kept;
        self.lost_bytes += tail.len() - kept;
    }

    const fn is_empty(&self) -> bool {
        self.placed_bytes + self.rest_bytes == 0
    }
}

impl Link {
    /// A link whose handshake is yet to come, perhaps with bytes that were read already.
    pub fn new(session: Box<dyn Session>, early: &[u8]) -> Self {
        Self {
            session,
            input: Input::Open,
            incoming: Vec::new(),
            torn_at: 0,
            early: early.to_vec(),
            outgoing: Vec::new(),
            outgoing_at: 0,
            unsent_bytes: 0,
            output: Output::Open,
        }
    }

    /// Reads records until some payload has come: into `place` first, then at most about
    /// `surplus_bytes_max`. `None` if this turn has no more time for handshakes; nothing was
    /// read then.
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
    ) -> io::Result<Option<Received>> {
        let records_bytes_max =
            place.len().saturating_add(surplus_bytes_max).min(workshop.read_bytes_max());
        let mut buffer = workshop.take_buffer();
        let mut payload = Payload {
            place,
            placed_bytes: 0,
            rest: buffer.as_mut_slice(),
            rest_bytes: 0,
            lost_bytes: 0,
        };
        let result = loop {
            match self.input {
                Input::Open => {}
                Input::Ended => break Ok(Some(false)),
                Input::Broken => {
                    workshop.put_back(buffer);
                    return net.receive(key, &mut [], surplus_bytes_max.max(1)).map(Some);
                }
            }
            if self.is_handshaking() && !workshop.may_shake_hands() {
                break Ok(None);
            }
            let is_short =
                match self.receive_records(net, key, records_bytes_max, &mut payload, workshop) {
                    Ok(is_short) => is_short,
                    Err(error) => break Err(error),
                };
            if !payload.is_empty() {
                break Ok(Some(is_short && self.input == Input::Open));
            }
        };
        let (placed_bytes, surplus_bytes) = (payload.placed_bytes, payload.rest_bytes);
        match result {
            Ok(Some(is_short)) => {
                workshop.lend();
                Ok(Some(Received { placed_bytes, buffer, surplus_bytes, is_short }))
            }
            Ok(None) => {
                workshop.put_back(buffer);
                Ok(None)
            }
            Err(error) => {
                workshop.put_back(buffer);
                Err(error)
            }
        }
    }

    /// Writes as much of `slices` as goes, in records. What the kernel refuses of the last of them
    /// waits here, so that up to [`BATCH_BYTES_MAX`] of what is taken may not have left yet.
    ///
    /// # Errors
    /// What the network says: `WouldBlock` while records of before wait; `NotConnected` before the
    /// end of the handshake.
    pub fn send<N: Net>(
        &mut self,
        net: &mut N,
        key: NetKey,
        slices: &[IoSlice<'_>],
        workshop: &mut Workshop,
    ) -> io::Result<usize> {
        self.flush(net, key)?;
        if self.is_handshaking() || self.output != Output::Open || self.input == Input::Broken {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut taken_bytes = 0;
        let (mut index, mut at) = (0, 0);
        while let Some(batch) = workshop.gather(slices, &mut index, &mut at) {
            let payload_bytes = batch.payload.len();
            batch.output.clear();
            let refused = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            self.session.encrypt(batch.payload, batch.output).map_err(refused)?;
            taken_bytes += payload_bytes;
            let written = write(net, key, batch.output);
            let left = &batch.output[written.as_ref().map_or(0, |bytes| *bytes)..];
            if !left.is_empty() {
                self.outgoing.extend_from_slice(left);
                self.unsent_bytes = payload_bytes;
                return match written {
                    Ok(_) => Ok(taken_bytes),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(taken_bytes),
                    Err(error) => Err(error),
                };
            }
        }
        Ok(taken_bytes)
    }

    /// Offers the records that wait to the kernel again.
    ///
    /// # Errors
    /// `WouldBlock` while some still wait; else what the network says.
    pub fn flush<N: Net>(&mut self, net: &mut N, key: NetKey) -> io::Result<()> {
        if self.pending_bytes() == 0 {
            return Ok(());
        }
        self.outgoing_at += write(net, key, &self.outgoing[self.outgoing_at..])?;
        if self.pending_bytes() > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.outgoing = Vec::new();
        self.outgoing_at = 0;
        self.unsent_bytes = 0;
        if self.output == Output::Ending {
            self.output = Output::Shut;
            net.shutdown(key);
        }
        Ok(())
    }

    /// Ends our direction: the close_notify behind all records, then the write side is shut.
    pub fn shutdown<N: Net>(&mut self, net: &mut N, key: NetKey) {
        if self.output != Output::Open {
            return;
        }
        self.push_close();
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

    /// The last word before the socket is closed: who has said goodbye is answered, anybody else
    /// sees that the stream was cut off.
    pub fn part<N: Net>(&mut self, net: &mut N, key: NetKey) {
        if self.input == Input::Ended && self.output == Output::Open && self.pending_bytes() == 0 {
            self.push_close();
            let _ = self.flush(net, key);
        }
    }

    /// Bytes of records that wait for the kernel.
    pub fn pending_bytes(&self) -> usize {
        self.outgoing.len() - self.outgoing_at
    }

    /// Payload that was taken and has perhaps not left.
    pub fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    pub fn is_handshaking(&self) -> bool {
        self.session.stage() == Stage::Handshaking
    }

    /// What the link owns besides itself and its session.
    pub fn buffered_bytes(&self) -> usize {
        self.incoming.capacity() + self.outgoing.capacity() + self.early.capacity()
    }

    /// One read and what its records hold. Says whether the socket is drained.
    fn receive_records<N: Net>(
        &mut self,
        net: &mut N,
        key: NetKey,
        bytes_max: usize,
        payload: &mut Payload<'_>,
        workshop: &mut Workshop,
    ) -> io::Result<bool> {
        let was_handshaking = self.is_handshaking();
        workshop.output.clear();
        let (progress, is_short) = if self.early.is_empty() {
            let mut received = net.receive(key, &mut [], bytes_max)?;
            if received.surplus_bytes == 0 {
                net.give_back(received.buffer);
                return self.handle_end_of_stream(workshop);
            }
            let records = &mut received.buffer.as_mut_slice()[..received.surplus_bytes];
            let progress = self.handle_bytes(records, payload, &mut workshop.output);
            net.give_back(received.buffer);
            (progress, received.is_short)
        } else {
            let mut early = std::mem::take(&mut self.early);
            (self.handle_bytes(&mut early, payload, &mut workshop.output), false)
        };
        self.outgoing.extend_from_slice(&workshop.output);
        if was_handshaking && progress != Progress::None {
            workshop.count_step();
        }
        match self.session.stage() {
            Stage::Handshaking => {}
            Stage::Established(handshake) if was_handshaking => {
                workshop.counters.tls_handshakes += 1;
                workshop.counters.tls_resumptions += u64::from(handshake == Handshake::Resumed);
            }
            Stage::Established(_) => {}
            Stage::PeerClosed => {
                self.input = Input::Ended;
                self.incoming = Vec::new();
            }
        }
        let flushed = self.flush(net, key);
        if progress == Progress::Broken || payload.lost_bytes > 0 {
            workshop.counters.tls_errors += 1;
            self.input = Input::Broken;
            self.incoming = Vec::new();
            return Err(io::ErrorKind::InvalidData.into());
        }
        match flushed {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(is_short),
        }
    }

    fn handle_end_of_stream(&mut self, workshop: &mut Workshop) -> io::Result<bool> {
        if self.output == Output::Open {
            workshop.counters.tls_truncations += u64::from(!self.is_handshaking());
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Both sides have said what they had to say.
        self.input = Input::Ended;
        Ok(false)
    }

    /// Works through `fresh`, which stands behind what is in `incoming`.
    fn handle_bytes(
        &mut self,
        mut fresh: &mut [u8],
        payload: &mut Payload<'_>,
        output: &mut Vec<u8>,
    ) -> Progress {
        let mut sink = |bytes: &[u8]| payload.push(bytes);
        let mut progress = Progress::None;
        while !self.incoming.is_empty() && !fresh.is_empty() {
            let torn_bytes = self.incoming.len() - self.torn_at;
            let taken = missing_bytes(&self.incoming[self.torn_at..]).min(fresh.len());
            let (head, rest) = fresh.split_at_mut(taken);
            self.incoming.extend_from_slice(head);
            fresh = rest;
            let is_whole = missing_bytes(&self.incoming[self.torn_at..]) == 0;
            let has_header = torn_bytes < HEADER_BYTES && torn_bytes + taken >= HEADER_BYTES;
            if !is_whole && !has_header {
                continue;
            }
            // A bad header is seen at once, not when as much has come as it says.
            if is_whole {
                self.torn_at = self.incoming.len();
                progress = Progress::Some;
            }
            let handled = self.session.handle_records(&mut self.incoming, &mut sink, output);
            self.incoming.drain(..handled.done_bytes);
            self.torn_at = self.torn_at.saturating_sub(handled.done_bytes);
            if handled.verdict == Verdict::Broken || self.incoming.len() > TLS_INCOMING_BYTES_MAX {
                return Progress::Broken;
            }
        }
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
            let torn_at = whole_records(fresh);
            let handled = self.session.handle_records(fresh, &mut sink, output);
            if handled.verdict == Verdict::Broken {
                return Progress::Broken;
            }
            if torn_at > 0 {
                progress = Progress::Some;
            }
            self.incoming.extend_from_slice(&fresh[handled.done_bytes..]);
            self.torn_at = torn_at.saturating_sub(handled.done_bytes);
        }
        progress
    }

    fn push_close(&mut self) {
        if self.input != Input::Broken {
            self.session.close(&mut self.outgoing);
        }
    }
}

/// A record's header (RFC 8446 §5.1): its type, a version, and its length in two bytes.
const HEADER_BYTES: usize = 5;

/// How much is missing of the record, or else of the header, that `torn` begins with.
fn missing_bytes(torn: &[u8]) -> usize {
    match *torn {
        [_, _, _, high, low, ..] => {
            let record_bytes = HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
            record_bytes.saturating_sub(torn.len())
        }
        _ => HEADER_BYTES - torn.len(),
    }
}

/// How many bytes the whole records at the front of `bytes` have.
fn whole_records(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some([_, _, _, high, low]) = bytes.get(at..at + HEADER_BYTES) {
        let end = at + HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
        if end > bytes.len() {
            break;
        }
        at = end;
    }
    at
}

fn write<N: Net>(net: &mut N, key: NetKey, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match net.send(key, &[IoSlice::new(bytes)]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

const _: () = assert!(BATCH_BYTES_MAX >= RECORD_PAYLOAD_BYTES_MAX);
