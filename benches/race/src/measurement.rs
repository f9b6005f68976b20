//! What a run leaves behind: everything, so that any figure can be formed again.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::disturbance::Disturber;

/// One server in one row of one round.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// Id of the row.
    pub row: &'static str,
    /// Binary of the peer.
    pub peer: String,
    /// 0 at first; 1 for a row that is measured again.
    pub attempt: u32,
    /// From 0.
    pub round: u32,
    /// Its turn within the round, from 0.
    pub place: usize,
    /// What came of it.
    pub outcome: Outcome,
    /// Who else used the machine.
    pub disturbers: Vec<Disturber>,
}

/// What came of a measurement.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The generator's fields.
    Figures(BTreeMap<String, f64>),
    /// Why there are none.
    Failure(String),
}

/// System calls of one server in one row, counted in a run of its own.
#[derive(Clone, Debug, Serialize)]
pub struct Calls {
    /// Id of the row.
    pub row: &'static str,
    /// Binary of the peer.
    pub peer: String,
    /// All calls, for each message.
    pub per_message: f64,
    /// The same for each name of a call.
    pub by_name: BTreeMap<String, f64>,
}

impl Measurement {
    /// One figure of the generator's.
    pub fn figure(&self, field: &str) -> Option<f64> {
        match &self.outcome {
            Outcome::Figures(figures) => figures.get(field).copied(),
            Outcome::Failure(_) => None,
        }
    }
}
