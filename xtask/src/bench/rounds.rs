//! Interleaved rounds: contenders are measured in turn, forwards in one round and backwards in the next, so
//! that load from outside affects all of them alike. Reported are ratios within a round, and their median.

use super::load::Sample;

/// The number of rounds, and the duration of one contender's measurement within one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    pub(crate) count: usize,
    pub(crate) duration: std::time::Duration,
}

impl Rounds {
    /// Returns the rounds for `connections` connections. With one connection the result depends on which
    /// cores the system chooses for three threads, and the system seldom moves them. So the same time is
    /// divided into more rounds, and the median does not depend on one such choice.
    pub(crate) fn for_connections(self, connections: usize) -> Self {
        match connections {
            1 => Self { count: self.count * 3, duration: self.duration / 3 },
            _ => self,
        }
    }
}

/// The samples of one contender, one for each round.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) samples: Vec<Sample>,
}

/// Measures all contenders in interleaved rounds. `measure` receives the index of a contender in `names`.
pub(crate) fn interleave(
    names: &[&'static str],
    rounds: Rounds,
    mut measure: impl FnMut(usize) -> anyhow::Result<Sample>,
) -> anyhow::Result<Vec<Series>> {
    let mut all: Vec<Series> = names.iter().map(|name| Series { name, samples: Vec::new() }).collect();
    for round in 0..rounds.count {
        let mut order: Vec<usize> = (0..names.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let sample = measure(index).map_err(|error| {
                let name = names.get(index).copied().unwrap_or_default();
                error.context(format!("{name}, round {round}"))
            })?;
            if let Some(series) = all.get_mut(index) {
                series.samples.push(sample);
            }
        }
    }
    Ok(all)
}

impl Series {
    /// The median of a value over all rounds.
    pub(crate) fn median(&self, metric: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(metric).collect())
    }

    /// Half the distance between minimum and maximum, in per cent of the median.
    pub(crate) fn spread(&self, metric: impl Fn(&Sample) -> f64) -> f64 {
        let values: Vec<f64> = self.samples.iter().map(metric).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        50.0 * (most - least) / median(values)
    }

    /// The median of the ratios to another contender, each within one round.
    pub(crate) fn ratio(&self, other: &Self, metric: impl Fn(&Sample) -> f64) -> f64 {
        let pairs = self.samples.iter().zip(&other.samples);
        median(pairs.map(|(own, other)| metric(own) / metric(other)).collect())
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied().unwrap_or_default();
    match values.len() % 2 {
        0 => values.get(middle.saturating_sub(1)).map_or(upper, |lower| f64::midpoint(*lower, upper)),
        _ => upper,
    }
}
