//! Who runs when, and how long all of it takes.

use std::time::Duration;

use crate::peers::Peer;
use crate::rows::{Row, Shape};

/// How long and how often is measured.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Plan {
    /// Rounds; in each every server runs once in every row.
    pub rounds: u32,
    /// Seconds that are counted.
    pub seconds: f64,
    /// Seconds before.
    pub warm_up: f64,
}

/// Rows with more connections than this have no system calls counted: under strace their handshakes
/// alone take longer than a measurement.
pub const TRACED_CONNECTIONS_MAX: u32 = 1_000;
/// The messages that the longer of two traced runs has more are those that count.
pub const TRACED_SECONDS: [f64; 2] = [0.5, 1.5];

/// The order of `count` servers in a round: every second round runs backwards, and the first place
/// moves on, so that neither a drift nor a neighbour favours anybody.
pub fn order(count: usize, round: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    if count > 0 {
        order.rotate_left(round as usize / 2 % count);
    }
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Whether a row has its system calls counted.
pub fn is_traced(shape: Shape) -> bool {
    match shape {
        Shape::Echo { connections: count, .. } | Shape::FanOut { subscribers: count, .. } => {
            count <= TRACED_CONNECTIONS_MAX
        }
        Shape::Client { .. } | Shape::Idle { .. } | Shape::Handshakes { .. } => false,
    }
}

/// How long the rounds take, without those rows that will be measured again.
pub fn expected(rows: &[&Row], peers: &[Peer], plan: &Plan) -> Duration {
    // Guesses: starting and stopping a server, opening a connection, the same under strace, and the
    // generator's pauses before it reads the memory.
    let (start, connection, traced_connection, pause) = (0.15, 80e-6, 1e-3, 0.5);
    let seconds = |row: &&Row| {
        let opening = f64::from(row.shape.connections()) * connection;
        let once = match row.shape {
            Shape::Idle { message_bytes: None, .. } => pause + opening,
            Shape::Idle { message_bytes: Some(_), .. } => 2.0 * (pause + opening),
            Shape::Echo { .. }
            | Shape::Client { .. }
            | Shape::FanOut { .. }
            | Shape::Handshakes { .. } => plan.warm_up + plan.seconds + opening,
        };
        let traced = if is_traced(row.shape) {
            let opening = f64::from(row.shape.connections()) * traced_connection;
            TRACED_SECONDS.iter().map(|seconds| seconds + start + opening).sum()
        } else {
            0.0
        };
        let of_a_peer = (once + start) * f64::from(plan.rounds) + traced;
        of_a_peer * peers.iter().filter(|peer| row.takes(peer)).count() as f64
    };
    Duration::from_secs_f64(rows.iter().map(seconds).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;
    use crate::summary::tests::{peers, row};

    #[test]
    fn in_each_round_everybody_runs_once() {
        for count in 0..12 {
            for round in 0..24 {
                let mut order = order(count, round);
                order.sort_unstable();
                assert_eq!(order, (0..count).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn rounds_alternate_in_direction_and_move_on() {
        let orders: Vec<Vec<usize>> = (0..4).map(|round| order(3, round)).collect();
        assert_eq!(orders, [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]]);
    }

    #[test]
    fn time_grows_with_rounds_rows_and_peers() {
        let rows: Vec<&Row> = ROWS.iter().filter(|row| row.shape.compression().is_none()).collect();
        let plan = Plan { rounds: 1, seconds: 2.0, warm_up: 0.5 };
        let peers = peers();
        let one = expected(&rows, &peers[..1], &plan);
        assert!(one > Duration::from_secs_f64(2.5 * 15.0));
        let two = expected(&rows, &peers[..2], &plan);
        assert!(two.abs_diff(one * 2) < Duration::from_millis(1));
        assert!(expected(&rows, &peers[..1], &Plan { rounds: 2, ..plan }) > one);
        assert!(expected(&rows[..1], &peers[..1], &plan) < one);
        assert_eq!(expected(&[], &peers, &plan), Duration::ZERO);
    }

    #[test]
    fn who_does_not_compress_takes_no_time_in_a_row_that_does() {
        let plan = Plan { rounds: 1, seconds: 2.0, warm_up: 0.5 };
        let peers = peers();
        let (two, all) = (&peers[1..3], &peers[..]);
        let row = [row("deflate-shared")];
        assert_eq!(expected(&row, two, &plan), expected(&row, all, &plan));
        assert!(expected(&row, two, &plan) > Duration::from_secs(5));
    }
}
