//! How heavy an entity is on an average hour of the last days, within bounds.

/// After a day an hour has half its weight: whoever is busy every night stays of interest by day.
const RATE: f64 = 0.0285;

/// Bounds of a fading mean.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interest {
    lower: f64,
    upper: f64,
}

impl Interest {
    /// Of hours that nobody saw: there may have been nothing in them, or as much as `upper`.
    pub(super) const fn unseen(upper: f64) -> Self {
        Self { lower: 0.0, upper }
    }

    pub(super) fn take(&mut self, lower: f64, upper: f64) {
        self.lower += RATE * (lower - self.lower);
        self.upper += RATE * (upper - self.upper);
    }

    /// It certainly had as much.
    pub(super) const fn lower(self) -> f64 {
        self.lower
    }

    /// It certainly had no more.
    pub(super) const fn upper(self) -> f64 {
        self.upper
    }
}
