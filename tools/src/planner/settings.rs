//! How a node plans: the section `[planner]` of its configuration.

use std::path::PathBuf;

use foreshard_forecast::tracking::Limits;
use foreshard_placement::growth::Policy;
use foreshard_placement::{ReactiveSettings, Settings, Weights};
use serde::{Deserialize, Serialize};

use crate::shell::Failure;

/// A shorter hour ends before its plan is made.
const HOUR_SECONDS_MIN: f64 = 0.25;
const HOUR_SECONDS_MAX: f64 = 3600.0;

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PlannerSettings {
    /// Whether anything is counted, forecast and planned.
    pub(crate) enabled: bool,
    /// Whether it begins paused: it plans, and moves nothing.
    pub(crate) paused: bool,
    /// Seconds of an hour: 3600, but in a replay.
    pub(crate) hour_seconds: f64,
    /// The Unix hour in which it begins, in a replay; 0: the clock's.
    pub(crate) start_hour: i64,
    /// Hours that are over, to begin with: CSV, plain or gzip, with columns time, entity, reads and writes, a second. Empty: none.
    pub(crate) import: PathBuf,
    /// Hours to come, of a replay, in such a file: who is named in it is forecast to have what it says, and nothing in other hours.
    /// What a plan is worth that knows the future. Empty: none.
    pub(crate) foreseen: PathBuf,
    /// Requests a second that a partition is planned to do, and not held to; 0: what `[capacity]` sets, or else learnt from the
    /// time that requests take.
    pub(crate) capacity: f64,
    /// Entities that have a profile, 1 KiB each; and of these, whose hours are kept and forecast, about 100 KiB each.
    pub(crate) tracked: usize,
    pub(crate) hourly: usize,
    /// Moves under way at once.
    pub(crate) moves_at_once: usize,
    /// Hours that an entity rests after a move.
    pub(crate) rest_hours: i64,
    /// Hours that it rests after it was taken back, because it fared worse where it had gone.
    pub(crate) back_rest_hours: i64,
    /// Hours that a guest is away before it may go home: a day, so that nobody goes home for the night.
    pub(crate) home_hours: i64,
    /// A score below it moves nothing, in a cluster that is half full and well.
    pub(crate) threshold: f64,
    /// Overloaded hours that a move has to avoid.
    pub(crate) improvement_min: f64,
    /// Likewise, where a partition is too busy and a plan is made at once.
    pub(crate) improvement_seen: f64,
    /// What a plan may move.
    pub(crate) moves_per_plan: usize,
    pub(crate) bytes_per_plan: f64,
    /// What a move is taken to copy a second.
    pub(crate) copy_bytes_per_s: f64,
    /// Hours before an overload that a move has to have ended.
    pub(crate) lead_hours: usize,
    /// How many partitions there may be: they split ahead of what no move helps, and merge when they are cold. 0: as many as
    /// there are. A partition that splits has a capacity of its own where capacities are set, and shares its core's where not.
    pub(crate) partitions_max: usize,
    pub(crate) partitions_min: usize,
    /// Overloaded hours ahead that no move avoids, by which a partition is split.
    pub(crate) split_overload: f64,
    /// Part of a capacity that two neighbours stay below together, in every hour ahead, to be merged.
    pub(crate) merge_below: f64,
    /// What a target is weighed by.
    pub(crate) weight_headroom: f64,
    pub(crate) weight_idle: f64,
    pub(crate) weight_nearness: f64,
    pub(crate) weight_together: f64,
    /// Whether partitions that are too busy now are relieved too.
    pub(crate) reactive: bool,
    pub(crate) reactive_high: f64,
    pub(crate) reactive_low: f64,
    pub(crate) reactive_window_s: f64,
    pub(crate) reactive_hold_s: u32,
    pub(crate) reactive_rest_s: u32,
    /// Part of a capacity above which one entity is too much by itself, and nobody is moved out of its way; 1000: never.
    pub(crate) reactive_alone: f64,
}

impl Default for PlannerSettings {
    fn default() -> Self {
        let (settings, reactive) = (Settings::default(), ReactiveSettings::default());
        Self {
            enabled: true,
            paused: false,
            hour_seconds: HOUR_SECONDS_MAX,
            start_hour: 0,
            import: PathBuf::new(),
            foreseen: PathBuf::new(),
            capacity: 0.0,
            tracked: 20_000,
            hourly: 1_000,
            moves_at_once: 2,
            rest_hours: 2,
            back_rest_hours: 24,
            home_hours: 24,
            threshold: settings.threshold,
            improvement_min: settings.improvement_min,
            improvement_seen: settings.improvement_seen,
            moves_per_plan: settings.moves_max,
            bytes_per_plan: settings.bytes_max,
            copy_bytes_per_s: settings.copy_bytes_per_s,
            lead_hours: 1,
            partitions_max: 0,
            partitions_min: 1,
            split_overload: 0.25,
            merge_below: 0.3,
            weight_headroom: settings.weights.headroom,
            weight_idle: settings.weights.idle,
            weight_nearness: settings.weights.nearness,
            weight_together: settings.weights.together,
            reactive: true,
            reactive_high: reactive.high,
            reactive_low: reactive.low,
            reactive_window_s: reactive.window_s,
            reactive_hold_s: reactive.hold_s,
            reactive_rest_s: reactive.rest_s,
            reactive_alone: reactive.alone,
        }
    }
}

impl PlannerSettings {
    /// What is wrong with them, if anything is.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let hour = self.hour_seconds;
        if !(HOUR_SECONDS_MIN..=HOUR_SECONDS_MAX).contains(&hour) {
            return Err(Failure::told(format!(
                "planner.hour_seconds = {hour}: must be between {HOUR_SECONDS_MIN} and {HOUR_SECONDS_MAX}"
            )));
        }
        if self.hourly == 0 || self.hourly > self.tracked {
            let (hourly, tracked) = (self.hourly, self.tracked);
            return Err(Failure::told(format!(
                "planner.hourly = {hourly}: must be at least 1 and at most planner.tracked = {tracked}"
            )));
        }
        if self.partitions_max > 0 && !(1..=self.partitions_max).contains(&self.partitions_min) {
            let (min, max) = (self.partitions_min, self.partitions_max);
            return Err(Failure::told(format!(
                "planner.partitions_min = {min}: must be at least 1 and at most planner.partitions_max = {max}"
            )));
        }
        let numbers = [
            ("capacity", self.capacity),
            ("split_overload", self.split_overload),
            ("merge_below", self.merge_below),
            ("threshold", self.threshold),
            ("improvement_min", self.improvement_min),
            ("improvement_seen", self.improvement_seen),
            ("bytes_per_plan", self.bytes_per_plan),
            ("copy_bytes_per_s", self.copy_bytes_per_s),
            ("weight_headroom", self.weight_headroom),
            ("weight_idle", self.weight_idle),
            ("weight_nearness", self.weight_nearness),
            ("weight_together", self.weight_together),
            ("reactive_high", self.reactive_high),
            ("reactive_low", self.reactive_low),
            ("reactive_window_s", self.reactive_window_s),
            ("reactive_alone", self.reactive_alone),
        ];
        match numbers.iter().find(|(_, value)| !value.is_finite() || *value < 0.0) {
            Some((name, value)) => {
                Err(Failure::told(format!("planner.{name} = {value}: must be a number, not below 0")))
            }
            None => Ok(()),
        }
    }

    /// As a plan wants them.
    pub(crate) fn placement(&self) -> Settings {
        Settings {
            weights: Weights {
                headroom: self.weight_headroom,
                idle: self.weight_idle,
                nearness: self.weight_nearness,
                together: self.weight_together,
            },
            threshold: self.threshold,
            improvement_min: self.improvement_min,
            improvement_seen: self.improvement_seen,
            moves_max: self.moves_per_plan,
            bytes_max: self.bytes_per_plan,
            // A move is as long in a short hour as in a long one.
            copy_bytes_per_s: (self.copy_bytes_per_s * self.hour_seconds / HOUR_SECONDS_MAX).max(1.0),
            lead_hours: self.lead_hours,
            ..Settings::default()
        }
    }

    /// How many partitions there may be; none: they stay as they are.
    pub(crate) fn growth(&self) -> Option<Policy> {
        (self.partitions_max > 0).then_some(Policy {
            partitions_min: self.partitions_min,
            partitions_max: self.partitions_max,
            split_overload: self.split_overload,
            merge_below: self.merge_below,
        })
    }

    pub(crate) const fn rule(&self) -> ReactiveSettings {
        ReactiveSettings {
            high: self.reactive_high,
            low: self.reactive_low,
            window_s: self.reactive_window_s,
            hold_s: self.reactive_hold_s,
            rest_s: self.reactive_rest_s,
            alone: self.reactive_alone,
        }
    }

    /// Whoever is asked at all is worth its hours while there is room.
    pub(crate) const fn limits(&self) -> Limits {
        Limits { tracked: self.tracked, hourly: self.hourly, tracked_weight: 0.0, hourly_weight: 0.0 }
    }
}
