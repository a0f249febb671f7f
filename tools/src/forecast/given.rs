//! What methods are given beside an entity's own hours: announced events, and a network trained over all entities.

use std::num::NonZeroUsize;
use std::path::Path;

use foreshard_forecast::events::{Adjusted, Effects, EffectsOf, Observed};
use foreshard_forecast::lstm::{Lstm, Training};
use foreshard_forecast::scenarios::Scenarios;
use foreshard_forecast::walk::{NoRegressors, Plan, Walk};
use foreshard_forecast::{Model, Series};

use super::models::Choice;
use super::table::Table;
use super::{events, work};
use crate::shell::Failure;

/// Made once for a table.
#[derive(Debug, Default)]
pub(crate) struct Given {
    effects: Option<Effects>,
    network: Option<Lstm>,
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
        Ok(Self { effects: Some(Effects::pool(observed)), network: None })
    }

    /// Trains the network on what lies before `until`, if one of the choices needs it.
    pub(crate) fn train(
        &mut self,
        choices: &[Choice],
        table: &Table,
        until: i64,
        (steps, seed): (u32, u64),
    ) -> Result<(), Failure> {
        if choices.iter().any(|choice| matches!(choice, Choice::Lstm)) {
            let series = table.entities.values().map(|series| (series.start(), series.before(until)));
            let series: Vec<(i64, &[f32])> = series.collect();
            let batches = usize::try_from(steps).unwrap_or(usize::MAX);
            let training = Training { batches, ..Training::default() };
            let mut progress = work::Progress::new("training the network, step", training.batches);
            let network = Lstm::train(&series, training, seed, |batch| progress.reached(batch));
            let network =
                network.map_err(|e| Failure::told(format!("lstm cannot be trained on this load: {e}")))?;
            self.network = Some(network);
        }
        Ok(())
    }

    /// # Panics
    /// When it was not trained.
    pub(crate) fn network(&self) -> &Lstm {
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
        Self { effects: None, network: self.network.clone() }
    }

    /// The series of the entity of this index as if it had no events, as far as they are known at `origin`.
    pub(crate) fn ordinary(&self, entity: usize, series: &Series, origin: i64) -> Series {
        match &self.effects {
            Some(effects) => effects.of(entity).without(series, origin),
            None => series.clone(),
        }
    }

    /// The effects of events ahead, added to what may come without them.
    pub(crate) fn with_events(&self, entity: usize, scenarios: Scenarios, origin: i64) -> Scenarios {
        match &self.effects {
            Some(effects) => {
                let effects = effects.of(entity);
                let hours = (origin..).take(scenarios.horizon());
                scenarios.shifted(&hours.map(|hour| effects.effect(hour, origin)).collect::<Vec<f32>>())
            }
            None => scenarios,
        }
    }

    /// Walks a method over the series of the entity of this index.
    pub(crate) fn walk(&self, model: &dyn Model, entity: usize, series: &Series, plan: Plan) -> Walk {
        match &self.effects {
            Some(effects) => Walk::run(&Adjusted(model), series, &effects.of(entity), plan),
            None => Walk::run(model, series, &NoRegressors, plan),
        }
    }
}
