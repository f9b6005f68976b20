//! What subscribers that never read cost those that do: fan-out with and without them by turns, on
//! the same connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use corewire_load::machine;

use crate::fan_out::{Crowd, SUBSCRIBERS, Shape, open};

/// Who is stuck, and how often it is tried.
pub struct Stuck {
    /// Connections that subscribe and never read.
    pub connections: usize,
    /// How often they come and go.
    pub rounds: u32,
}

/// Of each round, what a copy costs beside stuck ones, of the mean before they came and after they
/// went.
pub struct Outcome {
    ratios: Vec<f64>,
    /// Nanoseconds of the server for each copy that arrives, without stuck ones.
    calm: Vec<f64>,
}

impl Outcome {
    /// Names and values, in the order to print them.
    pub fn fields(&self) -> Vec<(&'static str, f64)> {
        let thousandths = |value: f64| (value * 1000.0).round() / 1000.0;
        vec![
            ("calm_server_cpu_ns_per_delivery", quantile(&self.calm, 0.5).round()),
            ("ratio_lower", thousandths(quantile(&self.ratios, 0.25))),
            ("ratio_median", thousandths(quantile(&self.ratios, 0.5))),
            ("ratio_upper", thousandths(quantile(&self.ratios, 0.75))),
        ]
    }
}

/// What the kernel takes for a connection that nobody reads is below that, and what the server holds
/// for it as well.
const FILLING_BYTES: usize = 6 << 20;

/// Those who went are gone after so long.
const PARTING: Duration = Duration::from_millis(200);

/// Connects, publishes, counts.
///
/// # Errors
/// What the sockets say, a copy that is not what was published, or ten seconds without any.
pub fn run(server: SocketAddr, shape: &Shape, stuck: &Stuck, pid: u32) -> io::Result<Outcome> {
    let mut crowd = Crowd::open(server, shape)?;
    crowd.run_for(shape.warm_up)?;
    let mut outcome = Outcome { ratios: Vec::new(), calm: Vec::new() };
    let mut before = cost(&mut crowd, shape.duration, pid)?;
    for _ in 0..stuck.rounds {
        let deaf = open(server, SUBSCRIBERS, shape, stuck.connections)?;
        crowd.pour(FILLING_BYTES)?;
        let beside = cost(&mut crowd, shape.duration, pid)?;
        drop(deaf);
        crowd.run_for(PARTING)?;
        let after = cost(&mut crowd, shape.duration, pid)?;
        outcome.ratios.push(2.0 * beside / (before + after));
        outcome.calm.push(before);
        before = after;
    }
    Ok(outcome)
}

/// Nanoseconds of the server for each copy that arrives.
fn cost(crowd: &mut Crowd, duration: Duration, pid: u32) -> io::Result<f64> {
    let before = machine::cpu_nanoseconds(pid)?;
    let deliveries = crowd.run_for(duration)?;
    Ok((machine::cpu_nanoseconds(pid)? - before) as f64 / deliveries as f64)
}

/// Interpolated between neighbours.
fn quantile(values: &[f64], quantile: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() - 1) as f64 * quantile;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let values = [4.0, 1.0, 2.0, 3.0];
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|at| quantile(&values, at)), [1.0, 1.75, 2.5, 4.0]);
        assert_eq!(quantile(&[7.0], 0.25), 7.0);
    }
}
