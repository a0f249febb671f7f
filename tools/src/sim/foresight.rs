//! What planners are told of the hours to come: what was known, or what will be.

use foreshard_placement::sim::{Foresee, World};
use foreshard_placement::{Paths, Shape, foresight};

use super::fleet::Fleet;

/// Hours that a plan looks ahead.
pub(crate) const HORIZON: usize = 24;

/// Forecasts from the hours before.
#[derive(Debug)]
pub(crate) struct Known<'a>(pub(crate) &'a Fleet);

/// The trace itself.
#[derive(Debug)]
pub(crate) struct Future<'a>(pub(crate) &'a World);

impl Foresee for Known<'_> {
    fn shape(&self) -> Shape {
        foresight::shape(HORIZON)
    }

    fn paths(&self, entity: usize, hour: usize) -> Paths {
        let origin = self.0.start + i64::try_from(hour).unwrap_or(i64::MAX - self.0.start);
        foresight::paths(&self.0.series[entity], &self.0.walks[entity], origin, HORIZON)
    }
}

impl Foresee for Future<'_> {
    fn shape(&self) -> Shape {
        Shape { paths: 1, hours: HORIZON }
    }

    fn paths(&self, entity: usize, hour: usize) -> Paths {
        let loads = &self.0.loads[entity];
        let last = loads.last().copied().unwrap_or(0.0);
        let course: Vec<f32> =
            (hour..hour + HORIZON).map(|hour| loads.get(hour).copied().unwrap_or(last)).collect();
        Paths::certain(&course, self.shape())
    }
}
