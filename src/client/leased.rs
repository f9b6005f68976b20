//! What is sent by leased connections.

use std::collections::VecDeque;
use std::mem;
use std::time::Instant;

use super::calling::Submitted;
use super::event::Event;
use super::lease::Lease;
use super::outlet::{FlowStats, Outlet, Urgency};
use super::pool::{self, PoolError};
use super::pooling::{Contact, Pooling, Stage};
use super::pools::PoolId;
use super::rate::{PoolRate, Rate};
use crate::reactor::{ConnectionId, Loop, Message};

impl Pooling {
    /// Sends a message by the connection of a lease.
    pub(super) fn send<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        lease: pool::Lease,
        message: Message<'_>,
        urgency: Urgency,
    ) -> Result<Submitted, PoolError> {
        let (connection, outlet, rate) = self.way_out(at, lease)?;
        let submitted = outlet.send(at, connection, message, urgency, rate);
        if submitted == Submitted::Held {
            self.holding.insert(lease.member().index());
        }
        Ok(submitted)
    }

    /// Sends a message if there is room for it.
    pub(super) fn offer<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        lease: pool::Lease,
        message: Message<'_>,
    ) -> Result<Submitted, PoolError> {
        let (connection, outlet, rate) = self.way_out(at, lease)?;
        outlet.work(at, connection, rate);
        let submitted = match outlet.takes_more(at, connection) {
            true => self.send(at, lease, message, Urgency::MayWait)?.of_offer(),
            false => Submitted::NotYet,
        };
        if let Some(contact) = self.contact_mut(lease.member()) {
            contact.awaits_room = submitted == Submitted::NotYet;
        }
        Ok(submitted)
    }

    /// Hands over to the kernel what it takes; says whether nothing is left.
    pub(super) fn hand_over<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        lease: pool::Lease,
    ) -> Result<bool, PoolError> {
        let (connection, outlet, rate) = self.way_out(at, lease)?;
        outlet.work(at, connection, rate);
        outlet.hurry(at, connection);
        let is_done = at.peer(connection).flush() == 0 && !outlet.holds();
        if let Some(contact) = self.contact_mut(lease.member()) {
            contact.awaits_room = !is_done;
        }
        Ok(is_done)
    }

    pub(super) fn flow<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        lease: pool::Lease,
    ) -> Result<FlowStats, PoolError> {
        let (connection, outlet, _) = self.way_out(at, lease)?;
        outlet.look(at.now(), at.peer(connection).queued_bytes());
        Ok(outlet.stats(at.now()))
    }

    /// What leads out of a lease, made when it is first asked for.
    fn way_out<D>(
        &mut self,
        at: &Loop<'_, D>,
        lease: pool::Lease,
    ) -> Result<(ConnectionId, &mut Outlet, Option<&mut PoolRate>), PoolError> {
        let connection = self.connection(lease)?;
        let place = lease.member().index();
        let Self { contacts, calls, rate, .. } = self;
        let Some(Some(contact)) = contacts.get_mut(place) else { return Err(PoolError::Revoked) };
        let Some(Some(settings)) = calls.get(contact.endpoint.index()) else {
            return Err(PoolError::Revoked);
        };
        let inner = settings.inner();
        let outlet = contact.outlet.get_or_insert_with(|| {
            let (batch, own_rate) = (inner.batch.as_ref(), inner.rate.as_ref());
            // The pool's rate is asked by that of the connection.
            let unbounded = Rate::default();
            let own_rate = own_rate.or(rate.is_some().then_some(&unbounded));
            Box::new(Outlet::new(batch, own_rate, inner.unsent_bytes_max, place as u64, at.now()))
        });
        Ok((connection, outlet, rate.as_mut()))
    }

    /// What goes on for members whose messages wait.
    pub(super) fn work_outlets<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        id: PoolId,
        events: &mut VecDeque<Event>,
    ) -> Option<Instant> {
        let now = at.now();
        let Self { core, contacts, rate, holding, .. } = self;
        let mut work = |place: usize, rate: Option<&mut PoolRate>| {
            let Some((connection, contact)) = open_contact(contacts, place) else { return false };
            let Some(outlet) = &mut contact.outlet else { return false };
            let before = outlet.waiting_for_rate();
            outlet.work(at, connection, rate);
            if outlet.waiting_for_rate() < before
                && mem::take(&mut contact.awaits_room)
                && let Some(inner) = core.lease_of(contact.member)
            {
                events.push_back(Event::LeaseRoom(Lease { pool: id, inner }));
            }
            true
        };
        for place in holding.iter() {
            work(*place, rate.as_mut());
        }
        if let Some(rate) = rate {
            // Each that comes out sends a message or steps back.
            while let Some(key) = rate.poll_ready(now)
                && work(key as usize, Some(rate))
            {}
        }
        let mut next = rate.as_ref().and_then(|rate| rate.poll_timeout(now));
        holding.retain(|place| {
            let Some((_, contact)) = open_contact(contacts, *place) else { return false };
            let Some(outlet) = &contact.outlet else { return false };
            next = next.into_iter().chain(outlet.poll_timeout(now)).min();
            outlet.holds()
        });
        next
    }
}

/// The member at `place`, if its connection stands.
fn open_contact(
    contacts: &mut [Option<Contact>],
    place: usize,
) -> Option<(ConnectionId, &mut Contact)> {
    let contact = contacts.get_mut(place)?.as_mut()?;
    match contact.stage {
        Stage::Open { connection, .. } => Some((connection, contact)),
        Stage::Dialling(_) => None,
    }
}
