//! What methods are given beside an entity's own hours: announced events, and a network trained over entities.

use std::num::NonZeroUsize;
use std::path::Path;

use foreshard_forecast::events::{Adjusted, Effects, EffectsOf, Observed};
use foreshard_forecast::lstm::{Training, Turns};
use foreshard_forecast::scenarios::Scenarios;
use foreshard_forecast::walk::{NoRegressors, Plan, Walk};
use foreshard_forecast::{Model, Series, auto};

use super::models::{Choice, LSTM};
use super::table::Table;
use super::{events, work};
use crate::shell::Failure;

/// Made once for a table. By default there is nothing.
#[derive(Debug, Default)]
pub(crate) struct Given {
    effects: Option<Effects>,
    network: Option<Turns>,
    /// Which entities the costly methods are for; none unless told.
    heavy: Vec<bool>,
}

impl Given {
    /// Reads the events, if there is a file of them, and learns what they did to each entity.
    pub(crate) fn read(events: Option<&Path>, table: &Table, threads: NonZeroUsize) -> Result<Self, Failure> {
        let Some(path) = events else { return Ok(Self::default()) };
        let calendar = events::read(path, table)?;
        let entities: Vec<(&String, &Series)> = table.entities.iter().collect();
        let observed =
            work::map(&entities, threads, "comparing events with ordinary days", |(name, series)| {
                Observed::new(series, calendar.of(name))
            });
        tracing::info!(events = calendar.len(), "events were read");
        Ok(Self { effects: Some(Effects::pool(observed)), ..Self::default() })
    }

    /// Prepares what the choices need for origins from `first` to `last`: which entities are heavy, and the network, trained
    /// over these in turns, so that no origin is asked of one that has seen what came.
    pub(crate) fn train(
        &mut self,
        choices: &[Choice],
        table: &Table,
        (first, last): (i64, i64),
        (steps, seed): (u32, u64),
    ) -> Result<(), Failure> {
        let is_by_name = choices.iter().any(|choice| matches!(choice, Choice::Lstm));
        if !is_by_name && !choices.iter().any(|choice| matches!(choice, Choice::Auto)) {
            return Ok(());
        }
        let all: Vec<&Series> = table.entities.values().collect();
        self.heavy = auto::heaviest(&all, first);
        let learnt: Vec<&Series> =
            all.iter().zip(&self.heavy).filter(|entity| *entity.1).map(|entity| *entity.0).collect();
        let at = auto::trainings(first, last);
        let batches = usize::try_from(steps).unwrap_or(usize::MAX);
        let training = Training { batches, ..Training::default() };
        let mut progress =
            work::Progress::new("training the network, step", training.batches.saturating_mul(at.len()));
        let trained = Turns::train(&learnt, &at, training, seed, |step| progress.reached(step));
        self.network = match trained {
            Ok(network) => Some(network),
            Err(e) if is_by_name => {
                return Err(Failure::told(format!("{LSTM} cannot be trained on this load: {e}")));
            }
            // What cannot be trained takes no part in the blend.
            Err(_) => None,
        };
        Ok(())
    }

    /// # Panics
    /// When it was not trained.
    pub(crate) fn network(&self) -> &Turns {
        self.network.as_ref().expect("trained before it is asked")
    }

    /// What events do, if there are any.
    pub(crate) const fn effects(&self) -> Option<&Effects> {
        self.effects.as_ref()
    }

    /// Those of the entity of this index, if it has any.
    pub(crate) fn events_of(&self, entity: usize) -> Option<EffectsOf<'_>> {
        self.effects.as_ref().map(|effects| effects.of(entity)).filter(|of| !of.dates().is_empty())
    }

    /// The same without events.
    pub(crate) fn without_events(&self) -> Self {
        Self { effects: None, network: self.network.clone(), heavy: self.heavy.clone() }
    }

    /// The series of the entity of this index as if it had no events, as far as they are known at `origin`.
    pub(crate) fn ordinary(&self, entity: usize, series: &Series, origin: i64) -> Series {
        self.events_of(entity).map_or_else(|| series.clone(), |events| events.without(series, origin))
    }

    /// The effects of events ahead, added to what may come without them.
    pub(crate) fn with_events(&self, entity: usize, scenarios: Scenarios, origin: i64) -> Scenarios {
        match self.events_of(entity) {
            Some(events) => {
                let hours = (origin..).take(scenarios.horizon());
                scenarios.shifted(&hours.map(|hour| events.effect(hour, origin)).collect::<Vec<f32>>())
            }
            None => scenarios,
        }
    }

    /// Walks a method over the series of the entity of this index.
    pub(crate) fn walk(&self, model: &dyn Model, entity: usize, series: &Series, plan: Plan) -> Walk {
        match self.events_of(entity) {
            Some(events) => Walk::run(&Adjusted(model), series, &events, plan),
            None => Walk::run(model, series, &NoRegressors, plan),
        }
    }

    /// Walks the blend: the costly methods take part for heavy entities.
    pub(crate) fn walk_auto(&self, entity: usize, series: &Series, plan: Plan) -> Walk {
        let is_heavy = self.heavy.get(entity).copied().unwrap_or(false);
        let members = match &self.network {
            Some(network) if is_heavy => auto::heavy(network),
            _ => auto::LIGHT.to_vec(),
        };
        match self.events_of(entity) {
            Some(events) => auto::walk_with_events(&members, series, events, plan),
            None => auto::walk(&members, series, &NoRegressors, plan),
        }
    }

    /// What may come of the entity of this index, which was walked with this.
    pub(crate) fn scenarios(&self, entity: usize, series: &Series, walk: &Walk, origin: i64) -> Scenarios {
        Scenarios::with_events(series, walk, origin, self.events_of(entity))
    }
}
