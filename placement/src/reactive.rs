//! The rule for what nobody saw coming: a partition whose last seconds were too busy gives its busiest entity that fits
//! to the idlest partition.
//!
//! It is the safety net of a forecasting planner, and by itself what forecasting is measured against. It looks at loads of
//! the last seconds only, smoothed; it acts after they were high for some time, and then rests.

/// When it acts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ReactiveSettings {
    /// Part of capacity above which a partition is too busy.
    pub high: f64,
    /// Part of capacity that a target may reach with what it is given.
    pub low: f64,
    /// Seconds over which loads are smoothed: after so many, a new load counts 63 %.
    pub window_s: f64,
    /// Seconds that a partition must be too busy before anything is done.
    pub hold_s: u32,
    /// Seconds after a move in which its source and target give nothing away; also of a partition that nothing could be done
    /// about.
    pub rest_s: u32,
    /// Part of a capacity above which one entity is too much by itself: its partition is not relieved by what others do, and
    /// moving them would only stir up the cluster.
    pub alone: f64,
}

impl Default for ReactiveSettings {
    fn default() -> Self {
        Self { high: 0.95, low: 0.85, window_s: 30.0, hold_s: 15, rest_s: 60, alone: 0.95 }
    }
}

/// What it is shown each second.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Loads of partitions, as parts of their capacity.
    pub partitions: &'a [f64],
    /// Whether a partition takes entities.
    pub takes: &'a [bool],
    /// Loads of entities in the same second, as parts of a partition's capacity.
    pub entities: &'a [f64],
    /// Likewise, smoothed over some seconds.
    pub smoothed: &'a [f64],
    /// Where each is.
    pub at: &'a [usize],
    /// Whether an entity may move.
    pub movable: &'a [bool],
}

/// A move that it asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reaction {
    /// Index of the entity.
    pub entity: usize,
    /// Index of the partition it leaves.
    pub from: usize,
    /// Index of the partition it goes to.
    pub to: usize,
}

/// Its memory.
#[derive(Clone, PartialEq, Debug)]
pub struct Reactive {
    settings: ReactiveSettings,
    /// Whose the rest is, in the order in which loads are shown.
    ids: Vec<u32>,
    smoothed: Vec<f64>,
    busy_s: Vec<u32>,
    rests_s: Vec<u32>,
}

impl Reactive {
    /// Of so many partitions, numbered from 0 until it is told otherwise.
    #[must_use]
    pub fn new(settings: ReactiveSettings, partitions: usize) -> Self {
        Self {
            settings,
            ids: (0..).take(partitions).collect(),
            smoothed: vec![0.0; partitions],
            busy_s: vec![0; partitions],
            rests_s: vec![0; partitions],
        }
    }

    /// Which partitions there are, in the order in which their loads are shown from here on. Of those that were there before it
    /// remembers what it saw; of new ones it has seen nothing.
    pub fn partitions_are(&mut self, ids: &[u32]) {
        if self.ids == ids {
            return;
        }
        let before: Vec<Option<usize>> =
            ids.iter().map(|id| self.ids.iter().position(|known| known == id)).collect();
        self.smoothed = before.iter().map(|at| at.map_or(0.0, |at| self.smoothed[at])).collect();
        self.busy_s = before.iter().map(|at| at.map_or(0, |at| self.busy_s[at])).collect();
        self.rests_s = before.iter().map(|at| at.map_or(0, |at| self.rests_s[at])).collect();
        self.ids = ids.to_vec();
    }

    /// One more second; at most one move.
    ///
    /// # Panics
    /// When it is shown another number of partitions than it knows.
    pub fn second(&mut self, seen: &Seen<'_>) -> Option<Reaction> {
        let worst = self.trouble(seen)?;
        self.answer(worst, seen)
    }

    /// One more second: the busiest partition that was too busy for long enough, and does not rest.
    ///
    /// # Panics
    /// When it is shown another number of partitions than it knows.
    pub fn trouble(&mut self, seen: &Seen<'_>) -> Option<usize> {
        assert_eq!(seen.partitions.len(), self.ids.len(), "told by partitions_are");
        let weight = 1.0 - (-1.0 / self.settings.window_s.max(1e-9)).exp();
        let mut worst: Option<usize> = None;
        for (partition, load) in seen.partitions.iter().enumerate() {
            let smoothed = &mut self.smoothed[partition];
            *smoothed += weight * (load - *smoothed);
            let busy = *smoothed > self.settings.high;
            self.busy_s[partition] = if busy { self.busy_s[partition] + 1 } else { 0 };
            self.rests_s[partition] = self.rests_s[partition].saturating_sub(1);
            let acts = self.busy_s[partition] >= self.settings.hold_s.max(1) && self.rests_s[partition] == 0;
            if acts && worst.is_none_or(|w| self.smoothed[partition] > self.smoothed[w]) {
                worst = Some(partition);
            }
        }
        worst
    }

    /// What would relieve a partition, if anything would. It rests now, and so does the target.
    pub fn answer(&mut self, worst: usize, seen: &Seen<'_>) -> Option<Reaction> {
        let reaction = self.relieve(worst, seen);
        for partition in [worst, reaction.map_or(worst, |reaction| reaction.to)] {
            self.rests_s[partition] = self.settings.rest_s;
            self.busy_s[partition] = 0;
        }
        reaction
    }

    /// The smallest entity that brings the partition below its bound, or the largest that fits elsewhere.
    fn relieve(&self, from: usize, seen: &Seen<'_>) -> Option<Reaction> {
        let is_alone = |e: usize| seen.at[e] == from && seen.smoothed[e] > self.settings.alone;
        if (0..seen.at.len()).any(is_alone) {
            return None;
        }
        let excess = self.smoothed[from] - self.settings.high;
        let others = (0..seen.partitions.len()).filter(|&p| p != from && seen.takes[p]);
        let to = others.min_by(|&a, &b| self.smoothed[a].total_cmp(&self.smoothed[b]))?;
        let room = self.settings.low - self.smoothed[to];
        let fits = (0..seen.at.len())
            .filter(|&e| seen.at[e] == from && seen.movable[e])
            .filter(|&e| seen.entities[e] > 0.0 && seen.entities[e] <= room);
        let enough = fits.clone().filter(|&e| seen.entities[e] >= excess);
        let smallest = enough.min_by(|&a, &b| seen.entities[a].total_cmp(&seen.entities[b]));
        let largest = || fits.clone().max_by(|&a, &b| seen.entities[a].total_cmp(&seen.entities[b]));
        let entity = smallest.or_else(largest)?;
        Some(Reaction { entity, from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: ReactiveSettings =
        ReactiveSettings { high: 0.9, low: 0.8, window_s: 1.0, hold_s: 3, rest_s: 10, alone: 1.1 };

    fn seen<'a>(partitions: &'a [f64], entities: &'a [f64], at: &'a [usize]) -> Seen<'a> {
        const YES: [bool; 8] = [true; 8];
        let (takes, movable) = (&YES[..partitions.len()], &YES[..entities.len()]);
        Seen { partitions, takes, entities, smoothed: entities, at, movable }
    }

    #[test]
    fn it_acts_after_a_while_and_then_rests() {
        let mut rule = Reactive::new(SETTINGS, 2);
        let (entities, at) = ([0.7, 0.3], [0, 0]);
        let acted: Vec<bool> =
            (0..20).map(|_| rule.second(&seen(&[1.0, 0.1], &entities, &at)).is_some()).collect();
        let first = acted.iter().position(|a| *a).unwrap();
        assert!((4..8).contains(&first), "{acted:?}");
        assert!(acted[first + 1..first + 10].iter().all(|a| !a), "{acted:?}");
    }

    #[test]
    fn the_smallest_entity_that_is_enough_goes_to_the_idlest_partition_with_room() {
        let mut rule = Reactive::new(SETTINGS, 3);
        let (entities, at) = ([0.05, 0.2, 0.8], [0, 0, 0]);
        let reaction = (0..20).find_map(|_| rule.second(&seen(&[1.05, 0.5, 0.4], &entities, &at)));
        assert_eq!(reaction, Some(Reaction { entity: 1, from: 0, to: 2 }));
    }

    #[test]
    fn what_was_seen_of_a_partition_stays_its_own_when_others_come_and_go() {
        let mut rule = Reactive::new(SETTINGS, 2);
        rule.partitions_are(&[3, 7]);
        for _ in 0..3 {
            assert_eq!(rule.second(&seen(&[0.1, 1.0], &[0.5], &[1])), None);
        }
        let mut split = rule.clone();
        // Another one before both; 3 is merged away.
        split.partitions_are(&[2, 7]);
        let (there, here) = (rule.smoothed[1], split.smoothed[1]);
        assert!((there - here).abs() < 1e-12 && split.smoothed[0] == 0.0);
        split.partitions_are(&[7, 8, 9]);
        let reaction = (0..2).find_map(|_| split.second(&seen(&[1.0, 0.2, 0.1], &[0.5], &[0])));
        assert_eq!(reaction, Some(Reaction { entity: 0, from: 0, to: 2 }), "it was busy under another index");
    }

    #[test]
    fn nobody_is_moved_out_of_the_way_of_one_that_is_too_much_by_itself() {
        let mut rule = Reactive::new(SETTINGS, 2);
        let (entities, at) = ([1.2, 0.3], [0, 0]);
        for _ in 0..50 {
            assert_eq!(rule.second(&seen(&[1.5, 0.1], &entities, &at)), None);
        }
        // A burst of seconds is not yet too much.
        let calm = [0.9, 0.3];
        let burst = Seen { smoothed: &calm, ..seen(&[1.5, 0.1], &entities, &at) };
        assert!((0..50).find_map(|_| rule.second(&burst)).is_some());
    }

    #[test]
    fn nothing_moves_where_nothing_fits_or_nothing_may() {
        let mut rule = Reactive::new(SETTINGS, 2);
        for _ in 0..50 {
            assert_eq!(rule.second(&seen(&[1.0, 0.7], &[1.0], &[0])), None);
        }
        let mut rule = Reactive::new(SETTINGS, 2);
        for _ in 0..50 {
            let held = Seen { movable: &[false], ..seen(&[1.0, 0.1], &[0.5], &[0]) };
            assert_eq!(rule.second(&held), None);
        }
    }
}
