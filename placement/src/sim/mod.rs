//! A modelled cluster in virtual time: the same trace under several policies.
//!
//! [`World`] is what all of them are given: a trace, homes by routing key, capacities, sizes, and load within the hour
//! ([`Bursts`]). [`run`] carries one policy through it, second by second. A violation-second is a partition-second whose
//! arrivals exceed capacity, or whose queue exceeds 100 ms of it. Those in which one entity would have been as late in a
//! partition of its own, or that lie in an hour in which one has more than a partition can do, are counted apart: no placement
//! helps.

mod bursts;
mod run;
mod world;

pub use bursts::Bursts;
pub use run::{Foresee, Made, Outcome, Policy, run};
pub use world::{Sizes, World};
