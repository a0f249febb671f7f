//! The methods by name, and the walk that each is judged and used by.

use foreshard_forecast::arima::Arima;
use foreshard_forecast::prophet::Prophet;
use foreshard_forecast::walk::{Plan, Walk};
use foreshard_forecast::{
    Autoregression, Climatology, DoubleSeasonal, Model, SeasonalNaive, Series, WEEK, blend,
};

use super::given::Given;

/// The blend of all methods that cost little.
pub(crate) const AUTO: &str = "auto";
/// The network, which is trained over all entities before it forecasts any.
pub(crate) const LSTM: &str = "lstm";
/// Hours between the origins of error paths: every part of the day has its turn.
pub(crate) const STEP: usize = 6;
/// Between fits; in between a method is updated.
pub(crate) const REFIT: usize = WEEK;

/// Every method that learns each entity by itself.
pub(crate) const MODELS: [&dyn Model; 7] = [
    &SeasonalNaive::DAILY,
    &Climatology::LAST_WEEK,
    &Climatology::FADING,
    &DoubleSeasonal,
    &Autoregression,
    &Arima::DEFAULT,
    &Prophet::DEFAULT,
];
/// What is blended. Seasonal naive is what the others are measured by, and adds only noise.
const BLENDED: [&dyn Model; 4] =
    [&Climatology::LAST_WEEK, &Climatology::FADING, &DoubleSeasonal, &Autoregression];

/// A method by name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice {
    Auto,
    One(&'static dyn Model),
    /// Trained over all entities first.
    Lstm,
}

impl Choice {
    /// Over the series of the entity of this index.
    pub(crate) fn walk(self, given: &Given, entity: usize, series: &Series, plan: Plan) -> Walk {
        match self {
            Self::One(model) => given.walk(model, entity, series, plan),
            Self::Lstm => given.walk(given.network(), entity, series, plan),
            Self::Auto => blend(series, &BLENDED.map(|model| given.walk(model, entity, series, plan))),
        }
    }
}

pub(crate) fn parse(name: &str) -> Result<Choice, String> {
    match name {
        AUTO => return Ok(Choice::Auto),
        LSTM => return Ok(Choice::Lstm),
        _ => {}
    }
    let model = MODELS.into_iter().find(|model| model.name() == name);
    model.map(Choice::One).ok_or_else(|| {
        let names: Vec<_> = MODELS.iter().map(|model| model.name()).collect();
        format!("must be {AUTO} or one of {}, {LSTM}", names.join(", "))
    })
}
