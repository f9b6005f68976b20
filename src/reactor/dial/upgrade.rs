//! The upgrade's request, and what comes back.

use super::answer::{Body, Refusing};
use super::dialling::Stage;
use super::error::DialError;
use super::settings::DialSettings;
use crate::collections::Key;
use crate::handshake::{ClientHandshakeError, ClientRequest, Negotiated, verify};
use crate::http::{FieldStorage, HeadError, HeadLimits, HeadScanner, ResponseHead, parse_response};
use crate::protocol::{Agreement, Receiver, Sender, compression_keys};
use crate::reactor::handler::Handler;
use crate::reactor::id::ConnectionId;
use crate::reactor::net::Net;
use crate::reactor::slot::{Inbound, Phase};
use crate::reactor::turn::Reactor;

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Upgrade {
    request: ClientRequest,
    nonce: [u8; 16],
    scanner: HeadScanner,
    /// What the head may still have, those of the answers before it (1xx) included.
    limits: HeadLimits,
}

/// What stands at the front of the input.
enum Answer {
    Switched {
        negotiated: Negotiated,
        compression: Option<Agreement>,
    },
    /// Another one follows (RFC 9110 §15.2).
    Informational,
    Other(Refusing),
}

impl<N: Net, H: Handler> Reactor<N, H> {
    pub(super) fn begin_upgrade(&mut self, key: Key) {
        let keys = &mut self.shared.pools.masking_keys;
        let mut nonce = [0; 16];
        for part in nonce.chunks_mut(4) {
            part.copy_from_slice(&keys.next_key().to_bytes());
        }
        let refuses_contexts = self.shared.refuses_contexts();
        let Some(dialling) = self.shared.dialling(key) else { return };
        let settings = &dialling.settings;
        let mut request = settings.request.clone();
        if !refuses_contexts && let Some(offer) = settings.config.offer() {
            request = request.with_offer(&offer);
        }
        self.scratch.clear();
        request.write(nonce, &mut self.scratch);
        let limits = HeadLimits {
            head_bytes_max: settings.handshake.head_bytes_max,
            fields_max: settings.handshake.fields_max,
            target_bytes_max: settings.handshake.target_bytes_max,
        };
        let scanner = HeadScanner::response();
        let upgrade = Box::new(Upgrade { request, nonce, scanner, limits });
        let timeout = settings.timeouts.upgrade;
        self.enter_stage(key, Stage::Upgrade(upgrade), timeout);
        self.push_request(key);
    }

    /// Goes on when a whole head is there.
    pub(super) fn handle_scanned(
        &mut self,
        key: Key,
        bytes: &[u8],
        scanned: Result<Option<usize>, HeadError>,
    ) -> Option<usize> {
        match scanned {
            Ok(None) => None,
            Ok(Some(head_bytes)) => {
                self.handle_answer(key, &bytes[..head_bytes]);
                Some(head_bytes)
            }
            Err(error) => {
                self.fail_dial(key, DialError::Handshake(error.into()));
                Some(bytes.len())
            }
        }
    }

    /// A whole head has come.
    fn handle_answer(&mut self, key: Key, head: &[u8]) {
        let mut storage = FieldStorage::new();
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        let Phase::Dialling(dialling) = &mut slot.phase else { return };
        let Stage::Upgrade(upgrade) = &mut dialling.stage else { return };
        let parsed = parse_response(head, &mut storage).map_err(ClientHandshakeError::from);
        let answer = match &parsed {
            Ok(head) if head.status == 101 => upgrade.conclude(&dialling.settings, head),
            Ok(head) if (100..200).contains(&head.status) => Ok(Answer::Informational),
            Ok(head) => Ok(Answer::Other(Refusing::new(head))),
            Err(error) => Err(DialError::Handshake(*error)),
        };
        match (answer, parsed) {
            (Ok(Answer::Switched { negotiated, compression }), Ok(parsed)) => {
                let id = ConnectionId::new(self.shared.shard, key);
                let told = parsed;
                self.call_loop(|handler, at| handler.on_answer(at, id, &told));
                if self.is_given_up(key) {
                    return self.fail_dial(key, DialError::Aborted);
                }
                self.open_dialled(key, negotiated, compression);
            }
            (Ok(Answer::Informational), _) => {
                upgrade.scanner = HeadScanner::response();
                let head_bytes = head.len() as u32;
                upgrade.limits.head_bytes_max =
                    upgrade.limits.head_bytes_max.saturating_sub(head_bytes);
            }
            (Ok(Answer::Other(mut refusing)), _) => {
                let body = refusing.handle_input(&[]);
                dialling.stage = Stage::Refused(refusing);
                if body == Body::Complete {
                    self.tell_refused(key);
                }
            }
            (Err(error), _) => self.fail_dial(key, error),
            (Ok(Answer::Switched { .. }), Err(_)) => {
                unreachable!("what could not be parsed switches nothing")
            }
        }
    }

    /// The WebSocket opens.
    fn open_dialled(&mut self, key: Key, negotiated: Negotiated, compression: Option<Agreement>) {
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        let Phase::Dialling(dialling) = &mut slot.phase else { return };
        let outbox = std::mem::take(&mut dialling.outbox);
        let data = std::mem::take(&mut dialling.data);
        let config = self.shared.configs.get(slot.config);
        let (deflate, inflate) =
            compression.map(|agreement| compression_keys(&agreement, config.role)).unzip();
        let sender = Sender::new(outbox, config, self.shared.moment).with_deflate(deflate);
        slot.phase = Phase::Open { sender, data };
        if let Some(subprotocol) = negotiated.subprotocol {
            self.shared.subprotocols.insert(key.index, subprotocol);
        }
        self.receivers[key.index as usize].inbound = Inbound::Open(Receiver::new(inflate));
        self.shared.counters.handshakes_completed += 1;
        self.shared.dialling -= 1;
        self.shared.open += 1;
        self.hasten(key);
        self.call(key, |handler, ctx| handler.on_open(ctx));
    }
}

impl Upgrade {
    /// The bytes of a whole head, if one is there.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, HeadError> {
        self.scanner.scan(bytes, &self.limits)
    }

    /// What was agreed on.
    fn conclude(
        &self,
        settings: &DialSettings,
        head: &ResponseHead<'_>,
    ) -> Result<Answer, DialError> {
        let expectation = self.request.expectation(self.nonce);
        let mut negotiated = verify(head, &expectation).map_err(DialError::Handshake)?;
        let compression = settings.config.conclude(&mut negotiated)?;
        Ok(Answer::Switched { negotiated, compression })
    }
}
