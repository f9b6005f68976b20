//! Quantiles of few numbers.

use serde::Serialize;

/// The middle of a sample, and the range of its middle half.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quartiles {
    /// A quarter lies below.
    pub lower: f64,
    /// Half lies below.
    pub median: f64,
    /// A quarter lies above.
    pub upper: f64,
}

impl Quartiles {
    /// `None` without a number, and if one is not finite.
    pub fn of(sample: &[f64]) -> Option<Quartiles> {
        if sample.is_empty() || !sample.iter().all(|value| value.is_finite()) {
            return None;
        }
        let mut sorted = sample.to_vec();
        sorted.sort_by(f64::total_cmp);
        let quantile = |q| quantile(&sorted, q);
        Some(Quartiles { lower: quantile(0.25), median: quantile(0.5), upper: quantile(0.75) })
    }

    /// The middle half's range, relative to the median.
    pub fn spread(&self) -> f64 {
        (self.upper - self.lower) / self.median
    }
}

/// Between two ranks the quantile is interpolated linearly, so that two numbers have a middle.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (sorted.len() - 1) as f64 * q;
    let below = sorted[rank.floor() as usize];
    below + (sorted[rank.ceil() as usize] - below) * rank.fract()
}

/// The mean of ratios. `None` without any, and if one is not above zero.
pub fn geometric_mean(ratios: &[f64]) -> Option<f64> {
    if ratios.is_empty() || !ratios.iter().all(|ratio| *ratio > 0.0) {
        return None;
    }
    let logarithms: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    Some((logarithms / ratios.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By definition: the rank is counted along a sample in which each gap is cut into 4 parts.
    fn naive_quartile(sample: &[f64], quarter: usize) -> f64 {
        let mut rest = sample.to_vec();
        let mut fine = Vec::new();
        while !rest.is_empty() {
            let least =
                (0..rest.len()).fold(0, |best, at| if rest[at] < rest[best] { at } else { best });
            let next = rest.swap_remove(least);
            if let Some(&last) = fine.last() {
                fine.extend((1..4).map(|part| last + (next - last) * f64::from(part) / 4.0));
            }
            fine.push(next);
        }
        fine[(fine.len() - 1) / 4 * quarter]
    }

    #[test]
    fn quartiles_equal_a_naive_count() {
        let mut state = 7_u64;
        for length in 1..40 {
            let sample: Vec<f64> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 40) as f64 / 1e6
                })
                .collect();
            let found = Quartiles::of(&sample).expect("finite");
            for (value, quarter) in [(found.lower, 1), (found.median, 2), (found.upper, 3)] {
                let expected = naive_quartile(&sample, quarter);
                assert!((value - expected).abs() < 1e-9, "{sample:?}: {value} {expected}");
            }
        }
    }

    #[test]
    fn what_has_no_middle_has_no_quartiles() {
        assert_eq!(Quartiles::of(&[]), None);
        assert_eq!(Quartiles::of(&[1.0, f64::NAN]), None);
        assert_eq!(Quartiles::of(&[f64::INFINITY]), None);
        let one = Quartiles { lower: 2.0, median: 2.0, upper: 2.0 };
        assert_eq!(Quartiles::of(&[2.0]), Some(one));
        assert_eq!(one.spread(), 0.0);
    }

    #[test]
    fn spread_is_relative_to_the_median() {
        let quartiles = Quartiles::of(&[0.9, 1.0, 2.0, 3.0, 3.1]).expect("finite");
        assert_eq!(quartiles.spread(), 1.0);
    }

    #[test]
    fn the_geometric_mean_of_a_ratio_and_its_inverse_is_one() {
        let mean = geometric_mean(&[4.0, 0.25, 1.0]).expect("positive");
        assert!((mean - 1.0).abs() < 1e-12);
        assert_eq!(geometric_mean(&[]), None);
        assert_eq!(geometric_mean(&[1.0, 0.0]), None);
    }
}
