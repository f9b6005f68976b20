//! What is sent by leased connections.

use std::time::Instant;

use super::calling::Submitted;
use super::outlet::{Outlet, Urgency};
use super::pool::{self, PoolError};
use super::pooling::{Pooling, Stage};
use super::rate::Rate;
use crate::reactor::{Loop, Message};

impl Pooling {
    /// Sends a message by the connection of a lease.
    pub(super) fn send<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        lease: pool::Lease,
        message: Message<'_>,
    ) -> Result<Submitted, PoolError> {
        let connection = self.connection(lease)?;
        let place = lease.member().index();
        let Self { contacts, calls, rate, holding, .. } = self;
        let Some(Some(contact)) = contacts.get_mut(place) else { return Err(PoolError::Revoked) };
        let Some(Some(settings)) = calls.get(contact.endpoint.index()) else {
            return Err(PoolError::Revoked);
        };
        let inner = settings.inner();
        let outlet = contact.outlet.get_or_insert_with(|| {
            let high_water_bytes = inner.dial.config.limits.high_water_bytes;
            let (batch, own_rate) = (inner.batch.as_ref(), inner.rate.as_ref());
            // The pool's rate is asked by that of the connection.
            let unbounded = Rate::default();
            let own_rate = own_rate.or(rate.is_some().then_some(&unbounded));
            Box::new(Outlet::new(batch, own_rate, high_water_bytes, place as u64, at.now()))
        });
        let submitted = outlet.send(at, connection, message, Urgency::MayWait, rate.as_mut());
        if submitted == Submitted::Held {
            holding.insert(place);
        }
        Ok(submitted)
    }

    /// What goes on for members whose messages wait.
    pub(super) fn work_outlets<D>(&mut self, at: &mut Loop<'_, D>) -> Option<Instant> {
        let now = at.now();
        let Self { contacts, rate, holding, .. } = self;
        let mut next: Option<Instant> = None;
        holding.retain(|place| {
            let Some(Some(contact)) = contacts.get_mut(*place) else { return false };
            let (Stage::Open { connection, .. }, Some(outlet)) =
                (contact.stage, &mut contact.outlet)
            else {
                return false;
            };
            outlet.work(at, connection, rate.as_mut());
            let due = outlet.poll_timeout(now);
            next = next.into_iter().chain(due).min();
            outlet.holds()
        });
        let Some(rate) = rate else { return next };
        // Each that comes out sends a message or steps back.
        while let Some(key) = rate.poll_ready(now) {
            let Some(Some(contact)) = contacts.get_mut(key as usize) else { break };
            let (Stage::Open { connection, .. }, Some(outlet)) =
                (contact.stage, &mut contact.outlet)
            else {
                break;
            };
            outlet.work(at, connection, Some(rate));
        }
        next.into_iter().chain(rate.poll_timeout(now)).min()
    }
}
