//! What a shadow has shown so far, and when that is enough to decide. No I/O, no clock.
//!
//! A wrong answer decides at once. Time is judged by counting: at most half of the shadow's reads may take longer than the
//! source's median and a margin, at most one in twenty longer than the source's 99th percentile and a margin. A share that
//! was counted is known to within its interval of confidence only; as long as a bound lies in it, more reads are wanted.
//!
//! A shadow that has just arrived reads from its device what the source has in memory: until it had time to get warm,
//! being too slow has it begin anew instead of being rejected.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::shadow::{Spread, Verdict};

/// How much longer than the source's a shadow's read may take: twice as long, or this much where that is more, which is
/// about what a device adds to a read.
const MEDIAN_MARGIN_NANOS: u64 = 500_000;
const TAIL_MARGIN_NANOS: u64 = 2_000_000;
const TIMES: u64 = 2;
/// Of the shadow's reads, so many may be over the one limit and the other.
const OVER_MEDIAN_MAX: f64 = 0.5;
const OVER_TAIL_MAX: f64 = 0.05;
/// Of the reads that were to be mirrored, so many may find the shadow too far behind to be asked.
const DROPPED_MAX: f64 = 0.2;
/// Standard deviations of the intervals: one decision in a hundred is a coincidence.
const DEVIATIONS: f64 = 2.58;
/// The source's 99th percentile is no number before it has seen twice as many.
const READS_MIN: u64 = 200;
/// Hot rows have been read again by then.
const WARM_AFTER: Duration = Duration::from_secs(2);
/// Longer reads are counted as this long.
const NANOS_MAX: u64 = 60_000_000_000;
/// More reads a second than a core has ever done.
const RATE_MAX: u64 = 1_000_000_000;

/// What has been seen.
#[derive(Debug)]
pub(super) struct Evidence {
    source: Histogram<u64>,
    shadow: Histogram<u64>,
    source_rate: Histogram<u64>,
    shadow_rate: Histogram<u64>,
    pub(super) equal: u64,
    pub(super) later: u64,
    pub(super) differing: u64,
    /// The first answer that was wrong, or why there was none.
    wrong: Option<String>,
    /// When the histograms of time began anew, because the shadow was cold.
    began_anew: u64,
    /// Reads mirrored and dropped when they did.
    dropped_before: (u64, u64),
}

/// What is decided on beside the evidence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) elapsed: Duration,
    pub(super) time_max: Duration,
    pub(super) mirrored: u64,
    pub(super) dropped: u64,
}

impl Default for Evidence {
    fn default() -> Self {
        let histogram = |max| {
            Histogram::new_with_bounds(1, max, 2).expect("the bounds are constants the histogram accepts")
        };
        Self {
            source: histogram(NANOS_MAX),
            shadow: histogram(NANOS_MAX),
            source_rate: histogram(RATE_MAX),
            shadow_rate: histogram(RATE_MAX),
            equal: 0,
            later: 0,
            differing: 0,
            wrong: None,
            began_anew: 0,
            dropped_before: (0, 0),
        }
    }
}

impl Evidence {
    /// A read took so long here and there.
    pub(super) fn took(&mut self, source: Duration, shadow: Duration) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.source.saturating_record(nanos(source));
        self.shadow.saturating_record(nanos(shadow));
    }

    /// So many reads a second were mirrored, and so many answered.
    pub(super) fn rates(&mut self, source: u64, shadow: u64) {
        self.source_rate.saturating_record(source);
        self.shadow_rate.saturating_record(shadow);
    }

    /// The shadow said something else, or nothing.
    pub(super) fn is_wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// How many reads have been answered.
    pub(super) fn answered(&self) -> u64 {
        self.equal + self.later + self.differing
    }

    /// Whether reads that were mirrored faster would bring a decision nearer: a shadow that is slow and cold gets warm with
    /// time alone.
    pub(super) fn wants_more(&self) -> bool {
        self.began_anew == 0 || self.shadow.len() >= READS_MIN
    }

    pub(super) fn spreads(&self) -> [Spread; 4] {
        [&self.source, &self.shadow, &self.source_rate, &self.shadow_rate].map(Spread::of)
    }

    /// The verdict and its reason, if there is one yet.
    pub(super) fn decide(&mut self, seen: &Seen) -> Option<(Verdict, String)> {
        if let Some(wrong) = &self.wrong {
            return Some((Verdict::Rejected, wrong.clone()));
        }
        let is_over = seen.elapsed >= seen.time_max;
        match self.pace(seen) {
            Pace::Bears(why) => return Some((Verdict::Accepted, why)),
            Pace::Fails(why) if is_over || seen.elapsed >= WARM_AFTER => {
                return Some((Verdict::Rejected, why));
            }
            Pace::Fails(_) => self.begin_anew(seen),
            Pace::Open => {}
        }
        is_over.then(|| {
            let (reads, time) = (self.shadow.len(), seen.time_max);
            let why = if reads < READS_MIN {
                format!("{reads} reads were compared in {time:?}, and {READS_MIN} are needed")
            } else {
                format!("{reads} reads in {time:?} are neither slow nor fast enough: {}", self.compared())
            };
            (Verdict::Inconclusive, why)
        })
    }

    fn begin_anew(&mut self, seen: &Seen) {
        self.source.reset();
        self.shadow.reset();
        self.began_anew += 1;
        self.dropped_before = (seen.mirrored, seen.dropped);
    }

    fn pace(&self, seen: &Seen) -> Pace {
        let reads = self.shadow.len();
        if reads < READS_MIN {
            return self.kept_up(seen);
        }
        let limit = |quantile: f64, margin: u64| {
            let at = self.source.value_at_quantile(quantile);
            (at * TIMES).max(at + margin)
        };
        let over = |limit: u64| {
            let within = self.shadow.count_between(0, limit);
            Share { part: reads.saturating_sub(within), of: reads }
        };
        let (median, tail) = (limit(0.5, MEDIAN_MARGIN_NANOS), limit(0.99, TAIL_MARGIN_NANOS));
        let (over_median, over_tail) = (over(median), over(tail));
        for (share, most, limit) in [(over_median, OVER_MEDIAN_MAX, median), (over_tail, OVER_TAIL_MAX, tail)]
        {
            if share.least() > most {
                return Pace::Fails(format!(
                    "it is slow: {} of {reads} reads took more than {:?}; {}",
                    share.part,
                    Duration::from_nanos(limit),
                    self.compared()
                ));
            }
        }
        if over_median.most() <= OVER_MEDIAN_MAX && over_tail.most() <= OVER_TAIL_MAX {
            return Pace::Bears(format!("{reads} reads: {}", self.compared()));
        }
        self.kept_up(seen)
    }

    /// Where times do not decide, whether it answered what it was asked.
    fn kept_up(&self, seen: &Seen) -> Pace {
        let (mirrored, dropped) =
            (seen.mirrored - self.dropped_before.0, seen.dropped - self.dropped_before.1);
        let lost = Share { part: dropped, of: mirrored + dropped };
        if mirrored + dropped >= READS_MIN && lost.least() > DROPPED_MAX {
            return Pace::Fails(format!(
                "it does not keep up: {dropped} of {} reads could not be mirrored",
                mirrored + dropped
            ));
        }
        Pace::Open
    }

    /// Both in one line.
    fn compared(&self) -> String {
        let shown = |histogram: &Histogram<u64>| {
            let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
            format!("{:?} / {:?}", at(0.5), at(0.99))
        };
        format!("p50 / p99 {} at the source, {} at the shadow", shown(&self.source), shown(&self.shadow))
    }
}

enum Pace {
    Bears(String),
    Fails(String),
    Open,
}

/// A share that was counted.
#[derive(Clone, Copy, Debug)]
struct Share {
    part: u64,
    of: u64,
}

impl Share {
    /// It is hardly less.
    fn least(self) -> f64 {
        let (middle, half) = self.interval();
        middle - half
    }

    /// It is hardly more.
    fn most(self) -> f64 {
        let (middle, half) = self.interval();
        middle + half
    }

    /// Wilson, Probable inference, the law of succession, and statistical inference (1927): the interval's middle, and half
    /// its width.
    #[expect(clippy::cast_precision_loss, reason = "counts of reads")]
    fn interval(self) -> (f64, f64) {
        let (count, square) = (self.of.max(1) as f64, DEVIATIONS * DEVIATIONS);
        let share = self.part as f64 / count;
        let scale = 1.0 + square / count;
        let middle = (share + square / (2.0 * count)) / scale;
        let spread = (share * (1.0 - share) / count + square / (4.0 * count * count)).sqrt();
        (middle, DEVIATIONS * spread / scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Seen =
        Seen { elapsed: Duration::from_secs(5), time_max: Duration::from_secs(10), mirrored: 0, dropped: 0 };

    fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    /// So many reads, of which at the shadow `slow` in a thousand take as long as `late`, and the others `usual`.
    fn evidence(reads: u64, slow: u64, usual: u64, late: u64) -> Evidence {
        let mut evidence = Evidence::default();
        let mut random = fastrand::Rng::with_seed(reads);
        for _ in 0..reads {
            let shadow = if random.u64(..1000) < slow { late } else { usual };
            evidence.took(micros(random.u64(80..120)), micros(shadow));
        }
        evidence
    }

    fn verdict(evidence: &mut Evidence, seen: &Seen) -> Option<Verdict> {
        evidence.decide(seen).map(|(verdict, _)| verdict)
    }

    #[test]
    fn as_fast_is_accepted_and_slow_in_the_middle_or_in_the_tail_is_rejected() {
        assert_eq!(verdict(&mut evidence(1000, 10, 110, 5000), &LATE), Some(Verdict::Accepted));
        assert_eq!(verdict(&mut evidence(1000, 0, 900, 0), &LATE), Some(Verdict::Rejected));
        assert_eq!(verdict(&mut evidence(1000, 150, 100, 5000), &LATE), Some(Verdict::Rejected));
    }

    #[test]
    fn few_reads_decide_nothing_and_time_runs_out() {
        assert_eq!(verdict(&mut evidence(199, 0, 100, 0), &LATE), None);
        let over = Seen { elapsed: LATE.time_max, ..LATE };
        assert_eq!(verdict(&mut evidence(199, 0, 100, 0), &over), Some(Verdict::Inconclusive));
        // As many over the limit as may be: neither.
        assert_eq!(verdict(&mut evidence(300, 50, 100, 5000), &LATE), None);
    }

    #[test]
    fn a_shadow_that_is_cold_begins_anew() {
        let early = Seen { elapsed: Duration::from_millis(500), ..LATE };
        let mut cold = evidence(1000, 900, 100, 5000);
        assert_eq!(verdict(&mut cold, &early), None);
        assert_eq!(cold.spreads()[1].count, 0);
        for _ in 0..500 {
            cold.took(micros(100), micros(100));
        }
        assert_eq!(verdict(&mut cold, &LATE), Some(Verdict::Accepted));
    }

    #[test]
    fn a_wrong_answer_decides_at_once_and_so_does_not_keeping_up() {
        let mut wrong = evidence(10, 0, 100, 0);
        wrong.is_wrong("a row".to_owned());
        assert_eq!(wrong.decide(&LATE), Some((Verdict::Rejected, "a row".to_owned())));
        let behind = Seen { mirrored: 300, dropped: 300, ..LATE };
        assert_eq!(verdict(&mut evidence(10, 0, 100, 0), &behind), Some(Verdict::Rejected));
    }

    #[test]
    fn intervals_are_those_of_wilson() {
        // R: prop.test without correction; half of 1000, none of 200.
        let half = Share { part: 500, of: 1000 };
        assert!((half.least() - 0.4593).abs() < 1e-3 && (half.most() - 0.5407).abs() < 1e-3);
        let none = Share { part: 0, of: 200 };
        assert!(none.least().abs() < 1e-9 && (none.most() - 0.0322).abs() < 1e-3);
    }
}
