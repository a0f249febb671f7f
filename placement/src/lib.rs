//! Where entities should be: a cluster and its forecast loads in, a plan of moves out. Pure: no I/O, no clock, no
//! randomness.
//!
//! A [`Snapshot`] is what is known: partitions with their capacities, entities with where they are, what moving them
//! costs, and their loads to come as joint paths ([`Paths`]). [`plan()`] looks for the moves that avoid most overload
//! for what they cost, and says of every entity that it looked at why it moves or why it does not. [`overload`] is what
//! is avoided, [`score`] how it is weighed against the cost, [`target`] where an entity may go, [`schedule`] when a move
//! begins, [`growth`] which partitions split or merge, [`gather`] who joins those it is named together with. [`Reactive`] is the rule for what nobody saw coming: it looks at the last seconds and at nothing else.
//!
//! What a node keeps between its plans: [`history`] of what was counted, [`forecasts`] that follow it, the [`delay`] of shards, the [`ledger`] of what
//! was said and done. [`situation`] makes a snapshot of these; [`foresight`] makes paths of what a model was walked over.

pub mod delay;
pub mod forecasts;
pub mod foresight;
pub mod gather;
pub mod growth;
pub mod history;
pub mod ledger;
pub mod overload;
mod paths;
mod plan;
mod reactive;
pub mod schedule;
pub mod score;
pub mod sim;
pub mod situation;
mod snapshot;
pub mod target;
mod unit;

pub use paths::{Paths, Shape};
pub use plan::{Fate, Kept, Move, Outlook, Plan, plan};
pub use reactive::{Reaction, Reactive, ReactiveSettings, Seen};
pub use snapshot::{
    CoAccess, Dimension, Entity, Hold, Invalid, Loads, Partition, Settings, Snapshot, State, Weights,
};

/// To the precision that paths are kept in.
#[expect(clippy::cast_possible_truncation, reason = "rounding to the kept precision is what is asked for")]
fn narrow(value: f64) -> f32 {
    value as f32
}
