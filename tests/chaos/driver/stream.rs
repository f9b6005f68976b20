//! A client that comes back, and what it was given while it was away.

use std::collections::VecDeque;

use corewire::{ClientId, Clients, Loop, Message, Submitted};

use crate::ledger::Ledger;
use crate::load::Data;

/// A client of one back end.
pub struct Stream {
    pub id: ClientId,
    back_end: usize,
    /// The messages that wait for a connection, the oldest in front.
    waiting: VecDeque<u64>,
    /// How many of those that waited were sent when it was looked at last.
    sent_late: u64,
    /// Its connection's place in the ledger, while that stands.
    pub record: Option<usize>,
    pub opened: u64,
    pub reported: u64,
}

impl Stream {
    pub fn new(id: ClientId, back_end: usize) -> Self {
        let (waiting, record) = (VecDeque::new(), None);
        Self { id, back_end, waiting, sent_late: 0, record, opened: 0, reported: 0 }
    }

    pub fn send(
        &mut self,
        at: &mut Loop<'_, Data>,
        clients: &mut Clients,
        ledger: &mut Ledger,
        payload: &str,
    ) -> Result<(), String> {
        self.settle(clients, ledger)?;
        let number = ledger.number();
        let text = format!("{number} {payload}");
        let submitted = clients.send(at, self.id, Message::Text(&text));
        match submitted.ok_or("there is no such client any more")? {
            Submitted::Given(outcome) if outcome.is_taken() => {
                let record = self.record.ok_or("no connection was there to be given a message")?;
                ledger.accept(record, number)
            }
            Submitted::Given(_) | Submitted::Refused(_) => ledger.refuse(self.back_end, number),
            Submitted::Waiting { .. } => {
                self.waiting.push_back(number);
                Ok(())
            }
            other => Err(format!("there is neither a batch nor a rate: {other:?}")),
        }
    }

    /// Notes what was sent of what has waited: all that has gone since the last look went over the
    /// connection that stands, or is just over. Nothing goes while a callback runs, and what was
    /// dropped instead is told before the next callback.
    pub fn settle(&mut self, clients: &Clients, ledger: &mut Ledger) -> Result<(), String> {
        // One that was removed had nothing left to send.
        let Some(stats) = clients.stats(self.id) else { return Ok(()) };
        while self.sent_late < stats.sent_late {
            self.sent_late += 1;
            let number = self.waiting.pop_front().ok_or("more was sent late than waited")?;
            let record = self.record.ok_or("something was sent late without a connection")?;
            ledger.accept(record, number)?;
        }
        Ok(())
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
