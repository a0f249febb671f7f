//! The methods by name, and the walk that each is judged and used by.

use foreshard_forecast::arima::Arima;
use foreshard_forecast::prophet::Prophet;
use foreshard_forecast::walk::{NoRegressors, Plan, Walk};
use foreshard_forecast::{
    Autoregression, Climatology, DoubleSeasonal, Model, Mstl, SeasonalNaive, Series, WEEK, blend,
};

/// The blend of all methods that cost little.
pub(crate) const AUTO: &str = "auto";
/// Hours between the origins of error paths: every part of the day has its turn.
pub(crate) const STEP: usize = 6;
/// Between fits; in between a method is updated.
pub(crate) const REFIT: usize = WEEK;

/// Every method there is.
pub(crate) const MODELS: [&dyn Model; 8] = [
    &SeasonalNaive::DAILY,
    &Climatology::LAST_WEEK,
    &Climatology::FADING,
    &DoubleSeasonal,
    &Autoregression,
    &Arima::DEFAULT,
    &Prophet::DEFAULT,
    &Mstl,
];
/// What is blended. Seasonal naive is what the others are measured by, and adds only noise.
const BLENDED: [&dyn Model; 4] =
    [&Climatology::LAST_WEEK, &Climatology::FADING, &DoubleSeasonal, &Autoregression];

/// A method by name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice {
    Auto,
    One(&'static dyn Model),
}

impl Choice {
    pub(crate) fn walk(self, series: &Series, plan: Plan) -> Walk {
        match self {
            Self::One(model) => Walk::run(model, series, &NoRegressors, plan),
            Self::Auto => blend(series, &BLENDED.map(|model| Walk::run(model, series, &NoRegressors, plan))),
        }
    }
}

pub(crate) fn parse(name: &str) -> Result<Choice, String> {
    if name == AUTO {
        return Ok(Choice::Auto);
    }
    let model = MODELS.into_iter().find(|model| model.name() == name);
    model.map(Choice::One).ok_or_else(|| {
        let names: Vec<_> = MODELS.iter().map(|model| model.name()).collect();
        format!("must be {AUTO} or one of {}", names.join(", "))
    })
}
