//! Numbers that somebody else on this host sets, told among the metrics.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A set of gauges; clones share it.
#[derive(Clone, Debug)]
pub struct Gauges {
    /// Names, without the prefix that all have, and what each says.
    told: &'static [(&'static str, &'static str)],
    /// Bits of floating-point numbers.
    values: Arc<[AtomicU64]>,
}

impl Gauges {
    /// Gauges of these names, all 0.
    #[must_use]
    pub fn new(told: &'static [(&'static str, &'static str)]) -> Self {
        Self { told, values: told.iter().map(|_| AtomicU64::new(0)).collect() }
    }

    /// Sets one of them.
    ///
    /// # Panics
    /// When there is none of that name.
    pub fn set(&self, name: &str, value: f64) {
        let index = self.told.iter().position(|(other, _)| *other == name);
        self.values[index.expect("a gauge of that name")].store(value.to_bits(), Ordering::Relaxed);
    }

    pub(super) fn show(&self, text: &mut String) {
        for ((name, help), value) in self.told.iter().zip(self.values.iter()) {
            let value = f64::from_bits(value.load(Ordering::Relaxed));
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "# HELP foreshard_{name} {help}\n# TYPE foreshard_{name} gauge\nforeshard_{name} {value}\n"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_told() {
        let gauges = Gauges::new(&[("a", "One."), ("b", "Another.")]);
        gauges.set("b", 1.5);
        let mut text = String::new();
        gauges.show(&mut text);
        assert_eq!(
            text,
            "# HELP foreshard_a One.\n# TYPE foreshard_a gauge\nforeshard_a 0\n\
            # HELP foreshard_b Another.\n# TYPE foreshard_b gauge\nforeshard_b 1.5\n"
        );
    }
}
