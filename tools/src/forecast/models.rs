//! The methods by name, and the walk that each is judged and used by.

use foreshard_forecast::arima::Arima;
use foreshard_forecast::prophet::Prophet;
use foreshard_forecast::walk::{Plan, Walk};
use foreshard_forecast::{Autoregression, Climatology, DoubleSeasonal, Model, Mstl, SeasonalNaive, Series};

use super::given::Given;

/// The blend of all methods that are worth it.
pub(crate) const AUTO: &str = "auto";
/// The network, which is trained over entities before it forecasts any.
pub(crate) const LSTM: &str = "lstm";

/// Every method that learns each entity by itself.
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

/// A method by name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice {
    Auto,
    One(&'static dyn Model),
    /// Trained over the heavy entities first.
    Lstm,
}

impl Choice {
    /// Every one there is.
    pub(crate) fn all() -> Vec<Self> {
        MODELS.map(Self::One).into_iter().chain([Self::Lstm, Self::Auto]).collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => AUTO,
            Self::One(model) => model.name(),
            Self::Lstm => LSTM,
        }
    }

    /// Over the series of the entity of this index.
    pub(crate) fn walk(self, given: &Given, entity: usize, series: &Series, plan: Plan) -> Walk {
        match self {
            Self::One(model) => given.walk(model, entity, series, plan),
            Self::Lstm => given.walk(given.network(), entity, series, plan),
            Self::Auto => given.walk_auto(entity, series, plan),
        }
    }
}

pub(crate) fn parse(name: &str) -> Result<Choice, String> {
    Choice::all().into_iter().find(|choice| choice.name() == name).ok_or_else(|| {
        let names: Vec<_> = Choice::all().into_iter().map(Choice::name).collect();
        format!("must be one of {}", names.join(", "))
    })
}
