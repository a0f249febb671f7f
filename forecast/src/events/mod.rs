//! Announced events: a promotion, a launch, a holiday, and what each kind of them does to a load.
//!
//! A [`Calendar`] holds what was announced; [`Dates`] are those of one entity. What an event did is the difference between
//! its hours and the same hours of ordinary days before, on the log scale, hour by hour from a little before its start to a
//! little after its end ([`Observed`]). [`Effects`] pools these differences by kind over all entities and draws each entity's
//! own towards the pool, so that an entity's first promotion is forecast from what others' did.
//!
//! [`Adjusted`] makes any method forecast with events: the method is shown the series without their effect, and the effect
//! of the hours ahead is added to its path. Whatever lag it looks at, a day, a week or a median over days, the effect's copy
//! at that lag is taken out, so that no event of the past echoes.
//!
//! Invariant: what is said at an origin depends on no event that was announced later, and on no hour after it.

mod adjusted;
mod calendar;
mod effects;

pub use adjusted::Adjusted;
pub use calendar::{Calendar, Dates, EVENTS_MAX, Event, EventError, KINDS_MAX, LENGTH_MAX, PATTERNS_MAX};
pub use effects::{Effects, EffectsOf, Observed};
