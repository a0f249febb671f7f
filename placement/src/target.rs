//! Where an entity may go: a score of every partition that takes entities.
//!
//! The weighted mean of four parts, each 0..1: the room left at the busiest hour to come, the room left in this hour,
//! nearness to those who ask, and how much of what the entity is named together with is there already; times what the
//! partition's [penalty](crate::Partition::penalty) leaves of it.

use crate::snapshot::{Snapshot, State};

/// A target and what speaks for it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Target {
    /// Index of the partition.
    pub partition: usize,
    /// 0..1.
    pub score: f64,
}

/// How full a partition is, by the mean over paths.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Fill {
    /// In the busiest hour of the horizon.
    pub busiest: f64,
    /// In this hour.
    pub idle: f64,
}

impl Fill {
    /// Of the parts of capacity that are used, hour by hour.
    #[must_use]
    pub fn of(used: &[f64]) -> Self {
        let busiest = used.iter().copied().fold(0.0, f64::max);
        Self { busiest, idle: used.first().copied().unwrap_or(0.0) }
    }
}

/// The best `count` targets for something that is in partition `from`, best first. `together` is how much of what it is
/// named together with each partition has, 0..1.
#[must_use]
pub fn best(
    snapshot: &Snapshot,
    fills: &[Fill],
    from: usize,
    together: impl Fn(usize) -> f64,
    count: usize,
) -> Vec<Target> {
    let weights = snapshot.settings.weights;
    let all = weights.headroom + weights.idle + weights.nearness + weights.together;
    let mut targets: Vec<Target> = snapshot
        .partitions
        .iter()
        .enumerate()
        .filter(|(index, partition)| *index != from && partition.state == State::Serving)
        .map(|(index, partition)| {
            let room = |used: f64| (1.0 - used).clamp(0.0, 1.0);
            let sum = weights.headroom * room(fills[index].busiest)
                + weights.idle * room(fills[index].idle)
                + weights.nearness * (1.0 - partition.distance.min(1.0))
                + weights.together * together(index).clamp(0.0, 1.0);
            let kept = 1.0 - partition.penalty.min(1.0);
            Target { partition: index, score: if all > 0.0 { sum / all * kept } else { kept } }
        })
        .filter(|target| target.score > 0.0)
        .collect();
    targets.sort_by(|x, y| y.score.total_cmp(&x.score).then(x.partition.cmp(&y.partition)));
    targets.truncate(count);
    targets
}
