//! One connection's TLS: records that come in pieces, and records that the kernel does not take.

use std::io::{self, IoSlice};

use super::incoming::{Incoming, Progress};
use super::links::{BATCH_BYTES_MAX, Workshop};
use super::session::{Handshake, RECORD_PAYLOAD_BYTES_MAX, Session, Stage, TlsFacts};
use crate::reactor::net::{Net, NetKey, Received};

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
    input: Input,
    incoming: Incoming,
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
            incoming: Incoming::default(),
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
        // At least a record: of its parts nothing can be had.
        let payload_bytes_max = place.len().saturating_add(surplus_bytes_max);
        let records_bytes_max =
            payload_bytes_max.max(RECORD_PAYLOAD_BYTES_MAX).min(workshop.read_bytes_max());
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
                    self.input = Input::Deaf;
                    break Err(io::ErrorKind::InvalidData.into());
                }
                Input::Deaf => {
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
            self.input = Input::Deaf;
            return Err(io::ErrorKind::InvalidData.into());
        }
        if self.is_handshaking() || self.output != Output::Open || self.input == Input::Deaf {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut taken_bytes = 0;
        let (mut index, mut at) = (0, 0);
        while let Some(batch) = workshop.gather(slices, &mut index, &mut at) {
            let payload_bytes = batch.payload.len();
            batch.output.clear();
            let refused = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            let records = self.incoming.as_mut_slice();
            self.session.encrypt(records, batch.payload, batch.output).map_err(refused)?;
            taken_bytes += payload_bytes;
            let written = write(net, key, batch.output);
            let left = &batch.output[written.as_ref().map_or(0, |bytes| *bytes)..];
            if !left.is_empty() {
                self.outgoing.extend_from_slice(left);
                self.unsent_bytes = payload_bytes;
                return match written {
                    Ok(_) => Ok(taken_bytes),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(taken_bytes),
                    Err(error) => Err(self.note_failure(error)),
                };
            }
        }
        Ok(taken_bytes)
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
        self.unsent_bytes = 0;
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
        self.unsent_bytes
    }

    pub fn is_handshaking(&self) -> bool {
        self.session.stage() == Stage::Handshaking
    }

    /// What its handshake has brought to light, once it is over.
    pub fn facts(&self) -> Option<TlsFacts<'_>> {
        (!self.is_handshaking()).then(|| self.session.facts())
    }

    /// What the link owns besides itself and its session.
    pub fn buffered_bytes(&self) -> usize {
        self.incoming.buffered_bytes() + self.outgoing.capacity() + self.early.capacity()
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
                return Err(self.handle_end_of_stream(workshop));
            }
            let records = &mut received.buffer.as_mut_slice()[..received.surplus_bytes];
            let progress = self.handle_records(records, payload, &mut workshop.output);
            net.give_back(received.buffer);
            (progress, received.is_short)
        } else {
            let mut early = std::mem::take(&mut self.early);
            (self.handle_records(&mut early, payload, &mut workshop.output), false)
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
                self.incoming.clear();
            }
        }
        let flushed = self.flush(net, key);
        if progress == Progress::Broken || payload.lost_bytes > 0 {
            workshop.counters.tls_errors += 1;
            self.input = Input::Broken;
            self.incoming.clear();
        }
        match flushed {
            // What came in front of a failure is heard first; the failure comes again.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock && payload.is_empty() => {
                Err(error)
            }
            _ => Ok(is_short),
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

    fn handle_end_of_stream(&self, workshop: &mut Workshop) -> io::Error {
        workshop.counters.tls_truncations += u64::from(!self.is_handshaking());
        io::ErrorKind::UnexpectedEof.into()
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

const _: () = assert!(BATCH_BYTES_MAX >= RECORD_PAYLOAD_BYTES_MAX);
