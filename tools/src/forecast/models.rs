//! The methods by name, and the walk that each is judged and used by.

use foreshard_forecast::arima::Arima;
use foreshard_forecast::auto;
use foreshard_forecast::lstm::{Training, Turns};
use foreshard_forecast::prophet::Prophet;
use foreshard_forecast::walk::{NoRegressors, Plan, Walk};
use foreshard_forecast::{Autoregression, Climatology, DoubleSeasonal, Model, SeasonalNaive, Series};

use super::table::Table;
use crate::shell::Failure;

/// The blend of all methods that are worth it.
pub(crate) const AUTO: &str = "auto";
/// The network, which is trained over all entities before it forecasts any.
pub(crate) const LSTM: &str = "lstm";

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

/// A method by name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice {
    Auto,
    One(&'static dyn Model),
    /// Trained over all entities first.
    Lstm,
}

/// What is made once for a table, before any entity is forecast.
#[derive(Debug)]
pub(crate) struct Prepared {
    network: Option<Turns>,
    /// Which entities the costly methods are for.
    heavy: Vec<bool>,
}

impl Prepared {
    /// For origins from `first` to `last`. Trains the network, if one of the choices needs it.
    pub(crate) fn new(
        choices: &[Choice],
        table: &Table,
        (first, last): (i64, i64),
        seed: u64,
    ) -> Result<Self, Failure> {
        let all: Vec<&Series> = table.entities.values().collect();
        let heavy = auto::heaviest(&all, first);
        let at = auto::trainings(first, last);
        let learnt: Vec<&Series> =
            all.iter().zip(&heavy).filter(|entity| *entity.1).map(|entity| *entity.0).collect();
        let train = || Turns::train(&learnt, &at, Training::default(), seed);
        let network = match () {
            () if choices.iter().any(|choice| matches!(choice, Choice::Lstm)) => {
                let wrong = |e| Failure::told(format!("{LSTM} cannot be trained on this load: {e}"));
                Some(train().map_err(wrong)?)
            }
            // What cannot be trained takes no part.
            () if choices.iter().any(|choice| matches!(choice, Choice::Auto)) => train().ok(),
            () => None,
        };
        Ok(Self { network, heavy })
    }
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
    pub(crate) fn walk(self, prepared: &Prepared, entity: usize, series: &Series, plan: Plan) -> Walk {
        match (self, &prepared.network) {
            (Self::One(model), _) => Walk::run(model, series, &NoRegressors, plan),
            (Self::Lstm, Some(network)) => Walk::run(network, series, &NoRegressors, plan),
            (Self::Auto, Some(network)) if prepared.heavy[entity] => {
                auto::walk(&auto::heavy(network), series, &NoRegressors, plan)
            }
            (Self::Auto | Self::Lstm, _) => auto::walk(&auto::LIGHT, series, &NoRegressors, plan),
        }
    }
}

pub(crate) fn parse(name: &str) -> Result<Choice, String> {
    Choice::all().into_iter().find(|choice| choice.name() == name).ok_or_else(|| {
        let names: Vec<_> = Choice::all().into_iter().map(Choice::name).collect();
        format!("must be one of {}", names.join(", "))
    })
}
