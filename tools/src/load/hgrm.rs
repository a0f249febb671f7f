//! Percentiles in the text form that HdrHistogram's plotter reads. Values in microseconds. No I/O.

use std::fmt::Write;

use hdrhistogram::Histogram;

/// Lines for every halving of the distance to 100 %.
const TICKS_PER_HALVING: u32 = 5;
/// What three digits need.
const SUB_BUCKETS: u32 = 2048;
const NANOS_PER_MICRO: f64 = 1000.0;

/// The text.
pub(crate) fn text(histogram: &Histogram<u64>) -> String {
    let mut out =
        format!("{:>14} {:>16} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut count = 0;
    for tick in histogram.iter_quantiles(TICKS_PER_HALVING) {
        count += tick.count_since_last_iteration();
        let value = tick.value_iterated_to() as f64 / NANOS_PER_MICRO;
        let quantile = tick.quantile_iterated_to();
        let _infallible = write!(out, "{value:>14.3} {quantile:>16.12} {count:>10}");
        if quantile < 1.0 {
            let _infallible = write!(out, " {:>14.2}", 1.0 / (1.0 - quantile));
        }
        out.push('\n');
    }
    let micros = |nanos: f64| nanos / NANOS_PER_MICRO;
    let _infallible = writeln!(
        out,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]\n#[Max     = {:>12.3}, Total count    = {:>12}]\n\
        #[Buckets = {:>12}, SubBuckets     = {:>12}]",
        micros(histogram.mean()),
        micros(histogram.stdev()),
        micros(histogram.max() as f64),
        histogram.len(),
        histogram.buckets(),
        SUB_BUCKETS
    );
    out
}

#[cfg(test)]
mod tests {
    use super::super::measure::histogram;
    use super::*;

    #[test]
    fn percentiles_rise_to_all_there_is() {
        let mut all = histogram();
        for n in 1..=10_000_u64 {
            all.record(n * 1000).unwrap();
        }
        let text = text(&all);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        assert!(rows.len() > 20);
        for pair in rows.windows(2) {
            assert!(pair[0][0] <= pair[1][0] && pair[0][1] < pair[1][1] && pair[0][2] <= pair[1][2]);
        }
        let half = rows.iter().find(|row| row[1] >= 0.5).unwrap();
        assert!((half[0] - 5000.0).abs() < 10.0, "microseconds: {half:?}");
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2], last.len()), (1.0, 10_000.0, 3));
        assert!(text.contains("Total count    =        10000]"), "{text}");
    }
}
