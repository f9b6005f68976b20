//! What happened on one loop, as numbers that only rise.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What happened on one loop since it started.
        ///
        /// The loop counts in plain fields. Who reads them takes a copy, merges the copies of all
        /// loops with [`Counters::merge`] and walks over the result with [`Counters::iter`].
        #[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counters {
            /// The name of each counter, in the order of [`Counters::iter`].
            pub const NAMES: &[&str] = &[$(stringify!($name)),+];

            /// Adds the counters of another loop.
            pub fn merge(&mut self, other: &Self) {
                $(self.$name = self.$name.wrapping_add(other.$name);)+
            }

            /// Each counter's name and value.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name)),+].into_iter()
            }
        }
    };
}

counters! {
    /// Connections accepted by listeners, or taken over.
    accepted,
    /// Accepted connections closed at once, because the loop is full.
    refused_over_capacity,
    /// Upgrades refused because the loop drains.
    refused_draining,
    /// Upgrades answered 503 because memory is scarce.
    refused_under_pressure,
    /// How often accepting paused, for want of descriptors or memory.
    accept_pauses,
    /// Panics that were caught in callbacks about no connection.
    loop_panics,
    /// Connections handed over by other threads that could not be taken.
    adoptions_failed,
    /// Messages published to topics, each counted once: by the loop whose callback or handle has
    /// published it, and by the first loop if it was the handle of the server.
    published,
    /// Messages of topics that slow subscribers were not sent.
    published_skipped,
    /// Messages of topics that waited for slow subscribers and made room for newer ones.
    published_displaced,
    /// Messages of topics that waited for slow subscribers, where a newer one of their key took their place.
    published_conflated,
    /// Connections that were dialled.
    dialled,
    /// Of these, those that did not open.
    dials_failed,
    /// Opening handshakes that ended in an agreement.
    handshakes_completed,
    /// Opening handshakes refused, by either side.
    handshakes_refused,
    /// Connections of proxies that began with no valid header of the PROXY protocol.
    proxy_headers_refused,
    /// TLS handshakes that ended in an agreement.
    tls_handshakes,
    /// Of these, those that resumed a session of before.
    tls_resumptions,
    /// TLS connections that failed because the peer broke the rules, or had no version, suite or
    /// protocol in common with us.
    tls_errors,
    /// TLS connections whose stream ended without a close_notify, so that it may have been cut off.
    tls_truncations,
    /// HTTP requests read, upgrades included.
    http_requests,
    /// Requests whose answer was left to a later decision.
    requests_deferred,
    /// Deferred requests that were not decided in time.
    deferrals_timed_out,
    /// Decisions about requests that were decided already, not deferred, or gone.
    decisions_missed,
    /// Whole messages received.
    messages_received,
    /// Messages taken for sending.
    messages_sent,
    /// Bytes read from sockets.
    bytes_received,
    /// Bytes written to sockets.
    bytes_sent,
    /// Pings received.
    pings_received,
    /// Pongs received, whether asked for or not.
    pongs_received,
    /// Messages not taken for sending.
    sends_dropped,
    /// Connections failed because the peer broke the protocol.
    protocol_errors,
    /// Connections given up because the peer showed no sign of life.
    heartbeat_timeouts,
    /// Closing handshakes that the peer did not finish in time.
    close_timeouts,
    /// Opening handshakes that were not finished in time.
    handshake_timeouts,
    /// Connections told to go because their lifetime was over.
    lifetimes_ended,
    /// Connections told to go so that they come back elsewhere.
    rebalanced,
    /// Of those that were there when the loop began to drain: they were told to go and have answered.
    drain_closed,
    /// They have gone by themselves.
    drain_left,
    /// They were given up for another reason.
    drain_failed,
    /// They had not answered when their time was over.
    drain_cut_off,
    /// Messages to them that were not, or not whole, handed to the kernel.
    drain_unsent_messages,
    /// Bytes to them that were not handed to the kernel.
    drain_unsent_bytes,
    /// Connections that have ended, for whatever reason.
    closed,
    /// Reads that failed with an error of the system.
    read_errors,
    /// Writes that failed with an error of the system.
    write_errors,
    /// Requests for memory that a pool at its limit refused.
    pool_exhausted,
    /// How often reading from a connection paused.
    reads_paused,
    /// Looks at memory.
    memory_samples,
    /// Changes of the level of memory pressure.
    pressure_changes,
    /// Bytes given back because memory was scarce, by pools and by connections that were closed.
    pressure_released_bytes,
    /// Connections that were not read for some time because they held much of scarce memory.
    pressure_held,
    /// Idle connections closed for want of memory.
    pressure_closed_idle,
    /// Connections closed because they held much of scarce memory.
    pressure_closed_heavy,
    /// Turns of the loop.
    turns,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn merging_adds_each_counter() {
        let mut sum = Counters { accepted: 1, closed: 2, ..Counters::default() };
        sum.merge(&Counters { accepted: 10, turns: 5, ..Counters::default() });
        let expected = Counters { accepted: 11, turns: 5, closed: 2, ..Counters::default() };
        assert_eq!(sum, expected);
    }

    #[test]
    fn iterating_gives_every_counter_once_under_its_name() {
        let counters = Counters { accepted: 1, turns: 2, ..Counters::default() };
        let listed: Vec<_> = counters.iter().collect();
        assert_eq!(listed.len() * size_of::<u64>(), size_of::<Counters>());
        assert_eq!((listed.first(), listed.last()), (Some(&("accepted", 1)), Some(&("turns", 2))));
        assert!(listed.iter().map(|(name, _)| name).eq(Counters::NAMES));
        assert_eq!(Counters::NAMES.iter().collect::<BTreeSet<_>>().len(), Counters::NAMES.len());
    }
}
