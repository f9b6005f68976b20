//! The receiving half: bytes in, events out, payloads lent where they lie.

use super::assembler::{AssemblyKey, ReceivePools};
use super::compression::InflateKey;
use super::config::{Config, Delivery};
use super::event::{Chunk, Event, Failure};
use super::input::{Input, ShortRules};
use super::ready::{Ready, Source, Step};
use super::stage::{Fault, Stage};
use super::transmit::Transmit;
use crate::limits::{INFLATE_BEGIN_COST, RECEIVE_INTO_BYTES_MIN};
use crate::wire::{
    HEADER_BYTES_MAX, Header, HeaderRules, MaskingKey, Opcode, ProtocolError, Rsv1, mask,
    parse_close,
};

/// The receiving half of a connection. It owns no buffer while it is between two frames.
#[derive(Debug)]
pub struct Receiver {
    pub(super) stage: Stage,
    /// The message whose first frame has come and whose last has not.
    pub(super) message: Option<AssemblyKey>,
    /// How the peer compresses, if that was agreed on.
    pub(super) inflate: Option<InflateKey>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Receiver {
    /// Between two frames, before the first. `inflate` is how the peer compresses, if that was
    /// agreed on.
    pub const fn new(inflate: Option<InflateKey>) -> Self {
        Self { stage: Stage::BETWEEN_FRAMES, message: None, inflate }
    }

    /// The next event in `input`, or `None` when the input is used up, or its budget within a
    /// compressed message.
    ///
    /// Pings and Closes are answered through `transmit` before they are told. The event borrows
    /// from this half, `input` and `pools` alone.
    #[inline]
    pub fn next<'a>(
        &mut self,
        input: &'a mut Input<'_>,
        pools: &'a mut ReceivePools,
        transmit: &mut Transmit<'_>,
    ) -> Option<Event<'a>> {
        pools.give_back_lent();
        if !transmit.is_receiving() {
            self.finish(pools);
        }
        if let Some(rules) = self.short_rules(transmit.config())
            && let Some(short) = input.next_short(rules)
        {
            return Some(match short.event(input) {
                Ok(event) => event,
                Err(error) => self.fail(error.into(), transmit),
            });
        }
        self.next_of_any_kind(input, pools, transmit)
    }

    /// What [`Input::next_short`] needs to know, if a message may begin here.
    #[inline(always)]
    pub(crate) fn short_rules(&self, config: &Config) -> Option<ShortRules> {
        let is_between_messages =
            matches!(self.stage, Stage::Header { len: 0, .. }) && self.message.is_none();
        let payload_bytes_max = usize::try_from(config.limits.message_bytes_max);
        (is_between_messages && config.delivery == Delivery::Whole).then_some(ShortRules {
            role: config.role,
            payload_bytes_max: payload_bytes_max.unwrap_or(usize::MAX),
        })
    }

    fn next_of_any_kind<'a>(
        &mut self,
        input: &'a mut Input<'_>,
        pools: &'a mut ReceivePools,
        transmit: &mut Transmit<'_>,
    ) -> Option<Event<'a>> {
        let mut ready = Ready::NOTHING;
        match self.advance(&mut ready, input, pools, transmit.config()) {
            Ok(Step::Ready) => Some(self.lend(&ready, input, pools, transmit)),
            Ok(Step::Continue | Step::Starved) => None,
            Err(failure) => {
                self.finish(pools);
                Some(self.fail(failure, transmit))
            }
        }
    }

    /// Where the coming bytes of a large frame belong, if that is worth a read of its own; the
    /// caller reads into it and says how many with [`Receiver::handle_placed`].
    pub fn wanted<'a>(
        &mut self,
        pools: &'a mut ReceivePools,
        config: &Config,
    ) -> Option<&'a mut [u8]> {
        let left = self.missing_bytes(config)?;
        let key = self.message.filter(|key| pools.get(*key).placed_bytes == 0)?;
        pools.spare(key, left)
    }

    /// How much of a large frame is still to come, if it has a place to be read into.
    pub fn missing_bytes(&self, config: &Config) -> Option<u64> {
        match (&self.stage, self.message, config.delivery) {
            (Stage::Data { left, .. }, Some(_), Delivery::Whole)
                if *left >= RECEIVE_INTO_BYTES_MIN as u64 =>
            {
                Some(*left)
            }
            _ => None,
        }
    }

    /// So many bytes were read into the place that [`Receiver::wanted`] gave. They come before
    /// any further input.
    pub fn handle_placed(&mut self, bytes: usize, pools: &mut ReceivePools) {
        if let Some(key) = self.message {
            pools.get_mut(key).placed_bytes = bytes;
        }
    }

    /// Gives everything back to the pools; tells how many payload bytes of an unfinished message
    /// had been received.
    pub fn release(&mut self, pools: &mut ReceivePools) -> u64 {
        pools.give_back_lent();
        self.finish(pools);
        if let Some(key) = self.inflate.take() {
            pools.inflate.release(key);
        }
        self.message.take().map_or(0, |key| pools.end(key))
    }

    /// Whatever follows is ignored.
    fn finish(&mut self, pools: &mut ReceivePools) {
        if let Stage::Control { held, .. } = self.stage {
            pools.end(held);
        }
        if let Some(key) = self.message {
            pools.end_inflating(key);
        }
        self.stage = Stage::Finished;
    }

    /// What is wrong was found between two frames, or [`finish`](Self::finish) was called.
    #[cold]
    pub(crate) fn fail<'a>(&mut self, failure: Failure, transmit: &mut Transmit<'_>) -> Event<'a> {
        self.stage = Stage::Finished;
        transmit.fail(failure);
        Event::Failed(failure)
    }

    fn advance(
        &mut self,
        ready: &mut Ready,
        input: &mut Input<'_>,
        pools: &mut ReceivePools,
        config: &Config,
    ) -> Result<Step, Failure> {
        loop {
            let step = match &self.stage {
                Stage::Header { .. } if input.remaining() == 0 => Step::Starved,
                Stage::Header { .. } => match self.take_header(input, config)? {
                    Some(header) => self.begin_frame(ready, &header, input, pools, config)?,
                    None => Step::Starved,
                },
                Stage::Data { .. } => self.continue_data(ready, input, pools, config)?,
                Stage::Compressed { .. } => {
                    self.continue_compressed(ready, input, pools, config)?
                }
                Stage::Control { .. } => self.continue_control(ready, input, pools)?,
                Stage::Wrong(fault) => return Err(fault.failure(config)),
                Stage::Finished => {
                    input.at = input.bytes.len();
                    Step::Starved
                }
            };
            if step != Step::Continue {
                return Ok(step);
            }
        }
    }

    /// The header that comes next; one that is torn waits in the stage.
    fn take_header(
        &mut self,
        input: &mut Input<'_>,
        config: &Config,
    ) -> Result<Option<Header>, ProtocolError> {
        if matches!(self.stage, Stage::Header { len: 0, .. })
            && let Some(parsed) = Header::parse(input.rest(), self.header_rules(config))?
        {
            input.at += parsed.header_bytes;
            return Ok(Some(parsed.header));
        }
        self.take_torn_header(input, config)
    }

    /// The header is torn: its bytes wait here, so that an idle connection owns no buffer.
    fn take_torn_header(
        &mut self,
        input: &mut Input<'_>,
        config: &Config,
    ) -> Result<Option<Header>, ProtocolError> {
        let rules = self.header_rules(config);
        let Stage::Header { torn, len } = &mut self.stage else {
            unreachable!("called in the header stage only")
        };
        let held = usize::from(*len);
        let more = input.remaining().min(HEADER_BYTES_MAX - held);
        torn[held..held + more].copy_from_slice(&input.rest()[..more]);
        if let Some(parsed) = Header::parse(&torn[..held + more], rules)? {
            input.at += parsed.header_bytes - held;
            *len = 0;
            return Ok(Some(parsed.header));
        }
        *len += more as u8;
        input.at += more;
        Ok(None)
    }

    /// What a frame's header is held to.
    #[inline]
    const fn header_rules(&self, config: &Config) -> HeaderRules {
        let rsv1 = if self.inflate.is_some() { Rsv1::Negotiated } else { Rsv1::Forbidden };
        HeaderRules { role: config.role, rsv1 }
    }

    #[inline]
    fn begin_frame(
        &mut self,
        ready: &mut Ready,
        header: &Header,
        input: &mut Input<'_>,
        pools: &mut ReceivePools,
        config: &Config,
    ) -> Result<Step, Failure> {
        // A length that does not fit a usize cannot be in the input either.
        let payload_bytes = usize::try_from(header.payload_bytes).unwrap_or(usize::MAX);
        let is_here = payload_bytes <= input.remaining();
        let masking_key = header.masking_key.unwrap_or(MaskingKey::IDENTITY);
        ready.opcode = header.opcode;
        if header.opcode.is_control() {
            if is_here {
                ready.source = Source::Control;
                ready.range = input.take(payload_bytes);
                input.unmask(&ready.range, masking_key);
                return Ok(Step::Ready);
            }
            self.stage = Stage::Control {
                left: header.payload_bytes as u8,
                masking_key,
                opcode: header.opcode,
                held: pools.begin(header.opcode),
            };
            return Ok(Step::Continue);
        }
        if self.message.is_none() {
            // §5.4: a continuation needs a message to continue.
            if header.opcode == Opcode::Continuation {
                return Err(ProtocolError::UnexpectedContinuation.into());
            }
            let limit_bytes = config.limits.message_bytes_max;
            if header.payload_bytes > limit_bytes && !header.rsv1 {
                return Err(ProtocolError::MessageTooLarge { limit_bytes }.into());
            }
            if is_here && header.fin && !header.rsv1 && config.delivery == Delivery::Whole {
                ready.range = input.take(payload_bytes);
                input.unmask(&ready.range, masking_key);
                return Ok(Step::Ready);
            }
        }
        self.begin_data(header, input, pools, config)
    }

    /// Begins a data frame that cannot be lent as it lies.
    #[inline(never)]
    fn begin_data(
        &mut self,
        header: &Header,
        input: &mut Input<'_>,
        pools: &mut ReceivePools,
        config: &Config,
    ) -> Result<Step, Failure> {
        let opcode = header.opcode;
        let key = match self.message {
            // §5.4: fragments of one message must not be interleaved with another message.
            Some(_) if opcode != Opcode::Continuation => {
                return Err(ProtocolError::ExpectedContinuation { opcode }.into());
            }
            Some(key) => key,
            None => {
                let key = *self.message.insert(pools.begin(opcode));
                // RFC 7692 §6: the first frame says it for the whole message.
                if let Some(inflate) = self.inflate
                    && header.rsv1
                {
                    input.charge(INFLATE_BEGIN_COST);
                    pools.begin_inflating(key, inflate).map_err(|fault| fault.failure(config))?;
                }
                key
            }
        };
        let assembly = pools.get_mut(key);
        assembly.begin_frame(header.payload_bytes, config.limits.message_bytes_max)?;
        let masking_key = header.masking_key.unwrap_or(MaskingKey::IDENTITY);
        let (left, fin) = (header.payload_bytes, header.fin);
        self.stage = match assembly.inflating {
            None => Stage::Data { left, masking_key, fin },
            Some(_) => Stage::Compressed { left, masking_key, fin },
        };
        Ok(Step::Continue)
    }

    /// Takes what there is of a data frame's payload: unmasked, validated, then kept or lent.
    #[inline(never)]
    fn continue_data(
        &mut self,
        ready: &mut Ready,
        input: &mut Input<'_>,
        pools: &mut ReceivePools,
        config: &Config,
    ) -> Result<Step, Failure> {
        let (Stage::Data { left, masking_key, fin }, Some(key)) = (&mut self.stage, self.message)
        else {
            unreachable!("a data frame belongs to a message")
        };
        let assembly = pools.get_mut(key);
        let (opcode, offset) = (assembly.opcode, assembly.received_bytes);
        let placed = std::mem::take(&mut assembly.placed_bytes);
        let piece_bytes = if placed > 0 {
            let piece = assembly.placed_mut(placed);
            mask::apply(piece, *masking_key);
            if opcode == Opcode::Text {
                let end = assembly.payload().len();
                let mut utf8 = std::mem::take(&mut assembly.utf8);
                let checked = utf8.validate(&assembly.payload()[end - placed..]);
                assembly.utf8 = utf8;
                checked.map_err(|_| ProtocolError::InvalidUtf8)?;
            }
            placed
        } else {
            let bytes = usize::try_from(*left).unwrap_or(usize::MAX).min(input.remaining());
            ready.range = input.take(bytes);
            input.unmask(&ready.range, *masking_key);
            let piece = &input.bytes[ready.range.clone()];
            if opcode == Opcode::Text {
                let before = assembly.utf8;
                if assembly.utf8.validate(piece).is_err() {
                    ready.range.end = ready.range.start + before.valid_bytes(piece);
                    (ready.opcode, ready.offset) = (opcode, offset);
                    return self.refuse(Fault::Text, ready.range.len(), ready, config);
                }
            }
            if config.delivery == Delivery::Whole {
                let declared = offset.saturating_add(*left);
                pools.append(key, piece, usize::try_from(declared).unwrap_or(usize::MAX))?;
            }
            bytes
        };
        *left -= piece_bytes as u64;
        *masking_key = masking_key.rotated(piece_bytes);
        let (frame_ends, fin) = (*left == 0, *fin);
        pools.get_mut(key).received_bytes += piece_bytes as u64;
        if frame_ends {
            self.stage = Stage::BETWEEN_FRAMES;
        }
        (ready.opcode, ready.offset, ready.fin) = (opcode, offset, frame_ends && fin);
        if ready.fin {
            return self.end_message(key, ready, pools, config);
        }
        if config.delivery == Delivery::Streaming && piece_bytes > 0 {
            ready.source = Source::Piece;
            return Ok(Step::Ready);
        }
        // The input comes behind what was placed, and is still to be looked at.
        Ok(if frame_ends || placed > 0 { Step::Continue } else { Step::Starved })
    }

    /// The last byte of a message is here.
    pub(super) fn end_message(
        &mut self,
        key: AssemblyKey,
        ready: &mut Ready,
        pools: &mut ReceivePools,
        config: &Config,
    ) -> Result<Step, Failure> {
        if ready.opcode == Opcode::Text && pools.get_mut(key).utf8.finish().is_err() {
            return self.refuse(Fault::Text, ready.range.len(), ready, config);
        }
        self.message = None;
        pools.lend(key);
        match config.delivery {
            Delivery::Whole => ready.assembly = Some(key),
            Delivery::Streaming => ready.source = Source::Piece,
        }
        Ok(Step::Ready)
    }

    /// What comes behind `ready`, which has `piece_bytes`, is wrong. When streaming, what is right
    /// is lent before the failure: another split of the same bytes would have lent it too.
    pub(super) fn refuse(
        &mut self,
        fault: Fault,
        piece_bytes: usize,
        ready: &mut Ready,
        config: &Config,
    ) -> Result<Step, Failure> {
        if config.delivery == Delivery::Whole || piece_bytes == 0 {
            return Err(fault.failure(config));
        }
        self.stage = Stage::Wrong(fault);
        (ready.source, ready.fin) = (Source::Piece, false);
        Ok(Step::Ready)
    }

    #[inline(never)]
    fn continue_control(
        &mut self,
        ready: &mut Ready,
        input: &mut Input<'_>,
        pools: &mut ReceivePools,
    ) -> Result<Step, Failure> {
        let Stage::Control { left, masking_key, opcode, held } = &mut self.stage else {
            unreachable!("called in the control stage only")
        };
        let bytes = usize::from(*left).min(input.remaining());
        let range = input.take(bytes);
        pools.append(*held, &input.bytes[range], bytes)?;
        *left -= bytes as u8;
        if *left > 0 {
            return Ok(Step::Starved);
        }
        let held = *held;
        mask::apply(pools.get_mut(held).payload_mut(), *masking_key);
        (ready.source, ready.opcode, ready.assembly) = (Source::Control, *opcode, Some(held));
        self.stage = Stage::BETWEEN_FRAMES;
        pools.lend(held);
        Ok(Step::Ready)
    }

    #[inline]
    fn lend<'a>(
        &mut self,
        ready: &Ready,
        input: &'a Input<'_>,
        pools: &'a ReceivePools,
        transmit: &mut Transmit<'_>,
    ) -> Event<'a> {
        let payload = ready.payload(input, pools);
        match ready.source {
            Source::Message => match Event::message(ready.opcode, payload) {
                Ok(event) => event,
                Err(error) => self.fail(error.into(), transmit),
            },
            Source::Control => self.lend_control(ready.opcode, payload, transmit),
            Source::Piece => Event::Chunk(Chunk {
                opcode: ready.opcode,
                payload,
                offset: ready.offset,
                fin: ready.fin,
            }),
        }
    }

    #[inline(never)]
    fn lend_control<'a>(
        &mut self,
        opcode: Opcode,
        payload: &'a [u8],
        transmit: &mut Transmit<'_>,
    ) -> Event<'a> {
        match opcode {
            Opcode::Ping => {
                transmit.answer_ping(payload);
                Event::Ping(payload)
            }
            Opcode::Close => match parse_close(payload) {
                Ok(frame) => {
                    self.stage = Stage::Finished;
                    transmit.answer_close(frame);
                    Event::Close(frame)
                }
                Err(error) => self.fail(error.into(), transmit),
            },
            Opcode::Pong => Event::Pong { payload, round_trip: transmit.handle_pong(payload) },
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                unreachable!("data frames are never held as control frames")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::collections::Outbox;
    use crate::limits::LoopLimits;
    use crate::protocol::{CloseCause, Initiator, Moment, NoSink, Pools, PoolsInUse, Sender};
    use crate::wire::Role;

    struct Bench {
        receiver: Receiver,
        sender: Sender,
        pools: Pools,
        config: Config,
    }

    impl Bench {
        fn new() -> Self {
            let config = Config::new(Role::Server);
            let pools = Pools::new(&LoopLimits::default(), Instant::now(), [0; 32]);
            let sender = Sender::new(Outbox::new(), &config, Moment::ORIGIN);
            Self { receiver: Receiver::new(None), sender, pools, config }
        }

        /// The payload of the only event in `bytes`, if there is one.
        fn receive(&mut self, bytes: &[u8]) -> Option<Result<Vec<u8>, Failure>> {
            let Self { receiver, sender, pools, config } = self;
            let mut bytes = bytes.to_vec();
            let mut input = Input::new(&mut bytes);
            let mut sink = NoSink;
            let pools_of_sender = &mut pools.send;
            let mut transmit = Transmit {
                sender,
                pools: pools_of_sender,
                config,
                now: Moment::ORIGIN,
                sink: &mut sink,
            };
            let got = match receiver.next(&mut input, &mut pools.receive, &mut transmit)? {
                Event::Text(text) => Ok(text.as_bytes().to_vec()),
                Event::Binary(bytes) => Ok(bytes.to_vec()),
                Event::Failed(failure) => Err(failure),
                other => panic!("{other:?}"),
            };
            assert!(receiver.next(&mut input, &mut pools.receive, &mut transmit).is_none());
            Some(got)
        }

        /// Reads up to `bytes` of `wire` straight into their place; says how many.
        fn place(&mut self, wire: &[u8], bytes: usize) -> usize {
            let Some(place) = self.receiver.wanted(&mut self.pools.receive, &self.config) else {
                return 0;
            };
            assert!(!place.is_empty());
            let count = place.len().min(bytes).min(wire.len());
            place[..count].copy_from_slice(&wire[..count]);
            self.receiver.handle_placed(count, &mut self.pools.receive);
            count
        }
    }

    fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let key = [1, 2, 3, 4];
        let bytes = (payload.len() as u64).to_be_bytes();
        let masked = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key);
        [&[0x80 | opcode, 0xFF], &bytes[..], &key].concat().into_iter().chain(masked).collect()
    }

    #[test]
    fn a_large_frame_is_read_into_its_place_in_any_pieces() {
        let payload: Vec<u8> = "aé€𝄞".bytes().cycle().take(100_000).collect();
        for piece_bytes in [1000, 16_383, 16_385, 70_001] {
            for opcode in [1, 2] {
                let mut bench = Bench::new();
                let wire = frame(opcode, &payload);
                assert_eq!(bench.receive(&wire[..15]), None);
                let mut at = 15;
                let mut placed = 0;
                let got = loop {
                    let bytes = bench.place(&wire[at..], piece_bytes);
                    at += bytes;
                    placed += bytes;
                    // What does not fit into its place comes behind it, as from `readv`.
                    let surplus = if bytes == piece_bytes { 0 } else { 777.min(wire.len() - at) };
                    let got = bench.receive(&wire[at..at + surplus]);
                    at += surplus;
                    if let Some(got) = got {
                        break got;
                    }
                };
                assert!(got == Ok(payload.clone()), "the payload is the one that was sent");
                assert_eq!(at, wire.len());
                assert!(placed > 50_000, "{placed}");
                assert!(bench.receiver.wanted(&mut bench.pools.receive, &bench.config).is_none());
                assert_eq!(bench.pools.in_use(), PoolsInUse::default());
            }
        }
    }

    #[test]
    fn bad_text_in_its_place_fails_the_connection() {
        let mut payload = vec![b'x'; 100_000];
        payload[20_000] = 0xFF;
        let mut bench = Bench::new();
        let wire = frame(1, &payload);
        assert_eq!(bench.receive(&wire[..9_000]), None);
        let mut at = 9_000;
        let got = loop {
            let bytes = bench.place(&wire[at..], 4000);
            at += bytes;
            if let Some(got) = bench.receive(if bytes == 0 { &wire[at..at + 500] } else { &[] }) {
                break got;
            }
            at += if bytes == 0 { 500 } else { 0 };
        };
        assert_eq!(got, Err(ProtocolError::InvalidUtf8.into()));
        bench.receiver.release(&mut bench.pools.receive);
        assert_eq!(bench.pools.in_use().assemblies, 0);
        assert_eq!(bench.pools.in_use().blocks, 0);
    }

    #[test]
    fn little_that_is_missing_is_not_worth_a_place() {
        for (missing, is_wanted) in
            [(RECEIVE_INTO_BYTES_MIN, true), (RECEIVE_INTO_BYTES_MIN - 1, false)]
        {
            let mut bench = Bench::new();
            let wire = frame(2, &vec![0; 100_000]);
            bench.receive(&wire[..wire.len() - missing]);
            let wanted = bench.receiver.wanted(&mut bench.pools.receive, &bench.config);
            assert_eq!(wanted.is_some(), is_wanted);
            assert!(wanted.is_none_or(|place| place.len() <= missing));
        }
        let mut bench = Bench::new();
        assert!(bench.receiver.wanted(&mut bench.pools.receive, &bench.config).is_none());
        bench.config.delivery = Delivery::Streaming;
        bench.receive(&frame(2, &vec![0; 100_000])[..14]);
        assert!(bench.receiver.wanted(&mut bench.pools.receive, &bench.config).is_none());
    }

    #[test]
    fn what_was_placed_and_never_looked_at_is_forgotten_when_the_connection_ends() {
        let mut bench = Bench::new();
        let wire = frame(2, &vec![0; 100_000]);
        bench.receive(&wire[..20_000]);
        assert!(bench.place(&wire[20_000..], 5_000) > 0);
        bench.sender.end(Initiator::Local, CloseCause::Aborted);
        assert_eq!(bench.receive(&wire[25_000..]), None);
        assert_eq!(bench.receiver.release(&mut bench.pools.receive), 20_000 - 14);
        assert_eq!(bench.pools.in_use(), PoolsInUse::default());
    }

    #[test]
    fn an_idle_receiver_is_small() {
        assert!(size_of::<Receiver>() <= 24, "{} bytes", size_of::<Receiver>());
    }
}
