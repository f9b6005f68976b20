//! A client that comes back, and what it was given while it was away.

use std::collections::VecDeque;

use corewire::{BatchStats, ClientId, Clients, Loop, Message, Submitted};

use crate::ledger::Ledger;
use crate::load::Data;

/// A client of one back end.
pub struct Stream {
    pub id: ClientId,
    back_end: usize,
    /// The messages that wait for a connection or the rest of their batch, the oldest in front.
    waiting: VecDeque<u64>,
    /// How many of those that waited had been sent when it was looked at last.
    sent: u64,
    /// Its connection's place in the ledger, while that stands.
    pub record: Option<usize>,
    pub opened: u64,
    pub reported: u64,
}

impl Stream {
    pub fn new(id: ClientId, back_end: usize) -> Self {
        let (waiting, record) = (VecDeque::new(), None);
        Self { id, back_end, waiting, sent: 0, record, opened: 0, reported: 0 }
    }

    pub fn send(
        &mut self,
        at: &mut Loop<'_, Data>,
        clients: &mut Clients,
        ledger: &mut Ledger,
        payload: &str,
    ) -> Result<(), String> {
        self.settle(at, clients, ledger)?;
        let number = ledger.number();
        let text = format!("{number} {payload}");
        let submitted = clients.send(at, self.id, Message::Text(&text));
        let is_batched = self.batch(at, clients).is_some();
        match submitted.ok_or("there is no such client any more")? {
            Submitted::Given(outcome) if outcome.is_taken() && !is_batched => {
                let record = self.record.ok_or("no connection was there to be given a message")?;
                ledger.accept(record, number)?;
            }
            Submitted::Given(outcome) if outcome.is_taken() => self.waiting.push_back(number),
            Submitted::Given(_) => {
                // The batch counts it as gone all the same.
                self.sent += u64::from(is_batched);
                ledger.refuse(self.back_end, number)?;
            }
            Submitted::Refused(_) => ledger.refuse(self.back_end, number)?,
            Submitted::Waiting { .. } | Submitted::Held => self.waiting.push_back(number),
            other => return Err(format!("neither a rate nor an envelope was wanted: {other:?}")),
        }
        // It may have filled its batch, or be too large to wait for one.
        self.settle(at, clients, ledger)
    }

    /// Notes what was sent of what has waited: all that has gone since the last look went over the
    /// connection that stands, or is just over. What was dropped instead is told before the next
    /// callback, and in a callback that drops something nothing goes.
    pub fn settle(
        &mut self,
        at: &mut Loop<'_, Data>,
        clients: &mut Clients,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        let batch = self.batch(at, clients);
        // One that was removed had nothing left to send.
        let Some(stats) = clients.stats(self.id) else { return Ok(()) };
        // What has waited for a connection may still have to wait for its batch.
        let sent = batch.map_or(stats.sent_late, |batch| batch.batched + batch.straight);
        while self.sent < sent {
            self.sent += 1;
            let number = self.waiting.pop_front().ok_or("more was sent than has waited")?;
            let record = self.record.ok_or("something was sent without a connection")?;
            ledger.accept(record, number)?;
        }
        Ok(())
    }

    fn batch(&self, at: &mut Loop<'_, Data>, clients: &mut Clients) -> Option<BatchStats> {
        clients.flow(at, self.id)?.batch
    }

    /// A message that has waited is not sent.
    pub fn handle_unsent(&mut self, ledger: &mut Ledger, number: u64) -> Result<(), String> {
        let place = self.waiting.iter().position(|waiting| *waiting == number);
        let place = place.ok_or_else(|| format!("{number} did not wait, and is unsent"))?;
        self.waiting.remove(place);
        self.reported += 1;
        ledger.report(self.back_end, number)
    }

    /// Whether nothing waits.
    pub fn is_dry(&self) -> bool {
        self.waiting.is_empty()
    }
}
