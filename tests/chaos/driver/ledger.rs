//! What this end says of each message, and whether the back ends' logs agree.
//!
//! A message that was given to a client or sent by a lease has one fate: a connection accepted it, it
//! was refused, or it was taken and then reported as not sent. What a connection accepted is told
//! apart when it closes, in the order in which it was accepted:
//!
//! ```text
//!   confirmed ... │ unconfirmed ... │ unsent ...
//!   in the log    │ perhaps         │ not
//! ```
//!
//! So what the log has of a connection is the front of what the connection accepted, whole up to a
//! place somewhere among what is unconfirmed. That one rule says it all: nothing is lost, doubled,
//! out of order, or delivered though it was reported as unsent.

use std::collections::HashMap;

use corewire::CloseSummary;

/// How a connection is told apart from others: the first message on each, which carries its name.
pub const GREETING: u64 = 0;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Stream,
    Pool,
}

/// All messages and connections of a run.
#[derive(Default)]
pub struct Ledger {
    /// By number; the greetings have none of their own.
    fates: Vec<Option<Fate>>,
    records: Vec<Record>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// By the connection with this place.
    Accepted(usize),
    /// By a client or connection that leads to this back end.
    Refused(usize),
    /// The client of this back end had taken it.
    Reported(usize),
}

/// One connection.
struct Record {
    name: String,
    side: Side,
    back_end: usize,
    /// What it accepted, in that order.
    numbers: Vec<u64>,
    /// How many of them have come back.
    echoed: usize,
    ending: Option<Ending>,
}

/// How the messages of a connection were told apart.
#[derive(Clone, Copy)]
struct Ending {
    confirmed: usize,
    unconfirmed: usize,
    unsent: usize,
}

/// A line of a log.
pub struct Line {
    pub name: String,
    pub number: u64,
}

/// The messages of one back end, greetings included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub connections: u64,
    pub logged: u64,
    pub confirmed: u64,
    pub unconfirmed: u64,
    /// Of those that are unconfirmed, how many were delivered.
    pub unconfirmed_logged: u64,
    pub unsent: u64,
    pub reported: u64,
    pub refused: u64,
}

impl Ledger {
    /// The number of another message.
    pub fn number(&mut self) -> u64 {
        self.fates.push(None);
        self.fates.len() as u64
    }

    /// A connection has opened: its place, and its name.
    pub fn open(&mut self, side: Side, back_end: usize) -> (usize, String) {
        let place = self.records.len();
        let name = match side {
            Side::Stream => format!("stream{back_end}.{place}"),
            Side::Pool => format!("pool{back_end}.{place}"),
        };
        let record = Record {
            name: name.clone(),
            side,
            back_end,
            numbers: Vec::new(),
            echoed: 0,
            ending: None,
        };
        self.records.push(record);
        (place, name)
    }

    pub fn back_end(&self, place: usize) -> usize {
        self.records[place].back_end
    }

    /// A connection has accepted a message.
    pub fn accept(&mut self, place: usize, number: u64) -> Result<(), String> {
        self.records[place].numbers.push(number);
        if number == GREETING { Ok(()) } else { self.settle(number, Fate::Accepted(place)) }
    }

    pub fn refuse(&mut self, back_end: usize, number: u64) -> Result<(), String> {
        self.settle(number, Fate::Refused(back_end))
    }

    pub fn report(&mut self, back_end: usize, number: u64) -> Result<(), String> {
        self.settle(number, Fate::Reported(back_end))
    }

    fn settle(&mut self, number: u64, fate: Fate) -> Result<(), String> {
        let slot = (number as usize).checked_sub(1).and_then(|place| self.fates.get_mut(place));
        let slot = slot.ok_or_else(|| format!("there is no message {number}: {fate:?}"))?;
        match slot.replace(fate) {
            None => Ok(()),
            Some(before) => Err(format!("message {number} is {fate:?} and was {before:?}")),
        }
    }

    /// A message has come back.
    pub fn echo(&mut self, place: usize, number: u64) -> Result<(), String> {
        let record = &mut self.records[place];
        let expected = record.numbers.get(record.echoed);
        if expected != Some(&number) {
            return Err(format!("{} got {number} back, not {expected:?}", record.name));
        }
        record.echoed += 1;
        Ok(())
    }

    /// A connection has closed.
    pub fn close(&mut self, place: usize, summary: &CloseSummary) -> Result<(), String> {
        let record = &mut self.records[place];
        let unconfirmed = summary.unconfirmed_messages as usize;
        let unsent = summary.unsent_messages as usize;
        let accepted = record.numbers.len();
        let Some(confirmed) = accepted.checked_sub(unconfirmed + unsent) else {
            return Err(format!("{} accepted {accepted} messages: {summary:?}", record.name));
        };
        if record.echoed > accepted - unsent {
            let echoed = record.echoed;
            return Err(format!("{} had {echoed} of {accepted} back: {summary:?}", record.name));
        }
        match record.ending.replace(Ending { confirmed, unconfirmed, unsent }) {
            None => Ok(()),
            Some(_) => Err(format!("{} has closed twice", record.name)),
        }
    }

    /// Connections that are open, or have been.
    pub fn opened(&self, side: Side) -> usize {
        self.records.iter().filter(|record| record.side == side).count()
    }

    /// Connections that are open.
    pub fn standing(&self, side: Side) -> usize {
        let stands = |record: &&Record| record.side == side && record.ending.is_none();
        self.records.iter().filter(stands).count()
    }

    /// What has become of every message, by back end.
    ///
    /// # Errors
    /// The first disagreement with the logs.
    pub fn judge(&self, logs: &[Vec<Line>]) -> Result<Vec<Totals>, String> {
        let mut totals = vec![Totals::default(); logs.len()];
        for (place, fate) in self.fates.iter().enumerate() {
            match fate {
                Some(Fate::Accepted(_)) => {}
                Some(Fate::Refused(back_end)) => totals[*back_end].refused += 1,
                Some(Fate::Reported(back_end)) => totals[*back_end].reported += 1,
                None => return Err(format!("nothing was ever told of message {}", place + 1)),
            }
        }
        let mut logged: Vec<HashMap<&str, Vec<u64>>> = Vec::new();
        for (log, total) in logs.iter().zip(&mut totals) {
            let mut by_name = HashMap::<_, Vec<_>>::new();
            for line in log {
                by_name.entry(line.name.as_str()).or_default().push(line.number);
            }
            logged.push(by_name);
            total.logged = log.len() as u64;
        }
        for record in &self.records {
            let numbers = logged[record.back_end].remove(record.name.as_str());
            record.judge(&numbers.unwrap_or_default(), &mut totals[record.back_end])?;
        }
        match logged.iter().flatten().next() {
            Some((name, _)) => Err(format!("a log knows {name}, a connection that never opened")),
            None => Ok(totals),
        }
    }
}

impl Record {
    fn judge(&self, logged: &[u64], total: &mut Totals) -> Result<(), String> {
        let name = &self.name;
        let Some(Ending { confirmed, unconfirmed, unsent }) = self.ending else {
            return Err(format!("{name} has never closed"));
        };
        let counts = format!("{confirmed} confirmed, {unconfirmed} unconfirmed, {unsent} unsent");
        for (place, number) in logged.iter().enumerate() {
            let expected = self.numbers.get(place);
            if expected != Some(number) {
                return Err(format!(
                    "{name}: entry {place} of its log is {number}, not {expected:?}; {counts}"
                ));
            }
        }
        if logged.len() < confirmed {
            let (lost, count) = (self.numbers[logged.len()], logged.len());
            return Err(format!("{name}: {lost} was confirmed, the log has {count}; {counts}"));
        }
        if logged.len() > confirmed + unconfirmed {
            let delivered = self.numbers[confirmed + unconfirmed];
            return Err(format!("{name}: {delivered} was reported as unsent, and came; {counts}"));
        }
        if logged.len() < self.echoed {
            return Err(format!("{name}: {} came back, {} in the log", self.echoed, logged.len()));
        }
        total.connections += 1;
        total.confirmed += confirmed as u64;
        total.unconfirmed += unconfirmed as u64;
        total.unconfirmed_logged += (logged.len() - confirmed) as u64;
        total.unsent += unsent as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection of which this was told, and the log of its back end.
    fn judged(confirmed: usize, unconfirmed: usize, logged: &[u64]) -> Result<Totals, String> {
        let mut ledger = Ledger::default();
        let (place, name) = ledger.open(Side::Stream, 0);
        ledger.accept(place, GREETING).unwrap();
        for _ in 0..4 {
            let number = ledger.number();
            ledger.accept(place, number).unwrap();
        }
        let unsent = 5 - confirmed - unconfirmed;
        ledger.records[place].ending = Some(Ending { confirmed, unconfirmed, unsent });
        let line = |number: &u64| Line { name: name.clone(), number: *number };
        ledger.judge(&[logged.iter().map(line).collect()]).map(|totals| totals[0])
    }

    #[test]
    fn a_log_that_ends_among_what_is_unconfirmed_agrees() {
        for logged in 2..=4 {
            let totals = judged(2, 2, &[0, 1, 2, 3][..logged]).unwrap();
            assert_eq!(totals.unconfirmed_logged, logged as u64 - 2);
            assert_eq!((totals.confirmed, totals.unconfirmed, totals.unsent), (2, 2, 1));
        }
    }

    #[test]
    fn what_is_lost_doubled_out_of_order_or_unsent_and_delivered_disagrees() {
        for (logged, complaint) in [
            (&[0][..], "1 was confirmed"),
            (&[0, 2], "entry 1 of its log is 2"),
            (&[0, 1, 1], "entry 2 of its log is 1"),
            (&[0, 2, 1], "entry 1 of its log is 2"),
            (&[0, 1, 2, 3, 4], "4 was reported as unsent"),
        ] {
            let error = judged(2, 2, logged).unwrap_err();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn what_nobody_knows_or_everybody_forgot_disagrees() {
        let mut ledger = Ledger::default();
        let number = ledger.number();
        assert!(ledger.judge(&[Vec::new()]).unwrap_err().contains("message 1"));
        ledger.refuse(0, number).unwrap();
        assert!(ledger.report(0, number).unwrap_err().contains("was Refused"));
        let stranger = Line { name: "stream0.7".to_owned(), number: 1 };
        assert!(ledger.judge(&[vec![stranger]]).unwrap_err().contains("never opened"));
        let (place, _) = ledger.open(Side::Pool, 0);
        assert!(ledger.echo(place, 1).unwrap_err().contains("back"));
        assert!(ledger.judge(&[Vec::new()]).unwrap_err().contains("never closed"));
    }
}
