//! Another thread that decides about deferred requests: sometimes late, sometimes twice.

use corewire::metrics::Counters;
use corewire::{Accept, Decision, Handle, Response, Ticket};

use crate::crowd::SharedLedger;
use crate::dice::Dice;
use crate::sim_peer::answers;

#[derive(Default)]
pub struct Deciding {
    decided: Vec<Ticket>,
    posted: u64,
    /// Decisions about what was decided before.
    repeated: u64,
}

impl Deciding {
    /// Decides about a request that waits, or once more about one that was decided.
    pub fn decide_one(&mut self, handle: &Handle, ledger: &SharedLedger, dice: &mut Dice) {
        let tickets = &mut ledger.borrow_mut().tickets;
        let ticket = if !tickets.is_empty() && dice.chance(80) {
            tickets.swap_remove(dice.below(tickets.len()))
        } else if !self.decided.is_empty() {
            self.repeated += 1;
            self.decided[dice.below(self.decided.len())]
        } else {
            return;
        };
        let decision = match dice.below(6) {
            0 => Decision::Reject(response(403)),
            1 => Decision::Respond(response(200)),
            2 => Decision::AcceptWith(Accept::new(), Box::new("attached")),
            _ => Decision::Accept(Accept::new()),
        };
        self.post(handle, ticket, decision);
    }

    pub fn decide_all(&mut self, handle: &Handle, ledger: &SharedLedger) {
        for ticket in ledger.borrow_mut().tickets.drain(..) {
            self.post(handle, ticket, Decision::Accept(Accept::new()));
        }
    }

    fn post(&mut self, handle: &Handle, ticket: Ticket, decision: Decision) {
        handle.decide(ticket, decision).expect("the mailbox has room");
        self.posted += 1;
        self.decided.push(ticket);
    }

    /// What was decided twice was missed, and each request has had one answer at most.
    pub fn judge(&self, counters: &Counters) {
        assert!(counters.decisions_missed >= self.repeated, "a second decision was taken");
        let hits = self.posted - counters.decisions_missed;
        assert!(hits + counters.deferrals_timed_out <= counters.requests_deferred);
    }
}

fn response(status: u16) -> Response {
    Response::new(status).expect("a final status").body(b"decided".as_slice())
}

/// Each answer is to the request whose turn it was, as far as they go; behind them there may be one
/// about what nobody was asked about.
pub fn judge_answers(asked: &[String], handed_over: &[u8]) {
    let answers = answers(handed_over);
    assert!(answers.len() <= asked.len() + 1, "more answers than requests");
    for (path, (status, body)) in asked.iter().zip(&answers) {
        let is_its_own = match (path.as_str(), status) {
            // The last one may be torn.
            ("/plain", 200) => b"plain".starts_with(body),
            ("/large", 200) => body.iter().all(|byte| *byte == b'x'),
            ("/refuse", 403) => b"no".starts_with(body),
            ("/later", 200 | 403) => b"decided".starts_with(body),
            ("/later", 101 | 426 | 503) | ("/", 101) => true,
            _ => false,
        };
        assert!(is_its_own, "{path} was answered {status}");
    }
}
