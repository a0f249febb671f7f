//! What a node says of itself at its admin address.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::Result;
use crate::admin::get;

/// Its metrics at one moment, summed over shards, without the prefix that all names have.
#[derive(Clone, Debug, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Asks the node at `admin`.
    pub fn of(admin: SocketAddr) -> Result<Self> {
        Ok(Self::parse(&get(admin, "/metrics")?))
    }

    fn parse(body: &str) -> Self {
        let mut sums = BTreeMap::new();
        for line in body.lines().filter(|l| !l.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let value = value.parse().unwrap_or(0.0);
            let (name, labels) = name.split_once('{').unwrap_or((name, ""));
            let name = name.trim_start_matches("foreshard_");
            *sums.entry(name.to_owned()).or_insert(0.0) += value;
            // One label is more than a shard's number: what is counted.
            if let Some((_, of)) = labels.split_once("of=\"") {
                let of = of.split('"').next().unwrap_or_default();
                *sums.entry(format!("{name}/{of}")).or_insert(0.0) += value;
            }
        }
        Self(sums)
    }

    /// All that has a label `of`, by that.
    #[must_use]
    pub fn by_what(&self, name: &str) -> BTreeMap<String, f64> {
        let of = |(key, value): (&String, &f64)| {
            let (_, of) = key.split_once('/').filter(|(of, _)| *of == name)?;
            Some((of.to_owned(), *value))
        };
        self.0.iter().filter_map(of).collect()
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Result<f64> {
        self.0.get(name).copied().ok_or_else(|| format!("the node has no metric {name}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_summed_and_a_name_that_is_not_there_is_an_error() {
        let body = "# HELP foreshard_x X.\nforeshard_x{shard=\"0\"} 2\nforeshard_x{shard=\"1\"} 3.5\nforeshard_up 1\n";
        let metrics = Metrics::parse(body);
        assert!((metrics.get("x").unwrap() - 5.5).abs() < 1e-9);
        assert!((metrics.get("up").unwrap() - 1.0).abs() < 1e-9);
        assert!(metrics.get("y").is_err());
        let work = "foreshard_w{shard=\"0\",of=\"a\"} 2\nforeshard_w{shard=\"1\",of=\"a\"} 1\nforeshard_w{shard=\"0\",of=\"b\"} 4\n";
        let by_what = Metrics::parse(work).by_what("w");
        assert_eq!(by_what.into_iter().collect::<Vec<_>>(), [("a".to_owned(), 3.0), ("b".to_owned(), 4.0)]);
    }
}
