//! Moves: begun when their hour has come, watched until they end, and told to the ledger.

use std::collections::BTreeMap;

use foreshard_engine::ids::{PartitionId, ShardId};
use foreshard_engine::shard::moves::progress::{MoveStatus, Phase};
use foreshard_engine::shard::moves::watch::AFTER;
use foreshard_engine::{Error, Result, Shard, block_on};
use foreshard_forecast::store::EntityId;
use foreshard_placement::ledger::{Ended, Entry, Ledger, Why};
use foreshard_placement::{Seen, situation};

use super::hours::instant;
use super::keep::KeptMove;
use super::made::Basis;
use super::mind::{Mind, entity_of};

/// Requests a second that are not worth being remembered.
const SMOOTHED_MIN: f64 = 1e-3;

impl Mind {
    /// Carries out what the last plan says is to begin in this hour, and what the rule for seconds asks for.
    pub(super) fn act(&mut self) -> Result<()> {
        self.watch()?;
        let reaction = self.react();
        if self.memory.paused {
            return Ok(());
        }
        self.look_after()?;
        let mut orders = self.backs();
        orders.extend(self.due());
        // The rule for seconds is for what the plan, told of what is seen, has no answer to.
        if let Some((busy, reaction)) = reaction
            && !orders.iter().any(|order| self.partition_of(order.entity).is_some_and(|at| at.0 == busy))
        {
            orders.extend(reaction);
        }
        for order in orders {
            if self.ledger.open().count() >= self.settings.moves_at_once {
                break;
            }
            self.begin(order)?;
        }
        Ok(())
    }

    /// Asks which of those that have moved fare worse since, as their shards see it.
    fn look_after(&mut self) -> Result<()> {
        let hours = AFTER.as_secs_f64() / self.settings.hour_seconds;
        let since = self.hours.now() - hours;
        if !self.ledger.watched(since).any(|entry| entry.worse.is_none()) {
            return Ok(());
        }
        let worse = self.of_all_shards(Shard::regressions)?;
        let mut is_known = true;
        for (id, what) in worse {
            is_known &= !self.ledger.worsened(id.0, &what);
        }
        if !is_known {
            self.keep_moves();
        }
        Ok(())
    }

    /// Those that go back to where they came from, because they fare worse where they are; once each, and where there is room for
    /// them in every hour ahead.
    fn backs(&self) -> Vec<Order> {
        let Some(made) = &self.made else { return Vec::new() };
        let may_go = |entry: &Entry| {
            let is_there = self.partition_of(entry.entity).is_some_and(|at| at.0 == entry.to);
            let Some(to) = made.snapshot.partitions.iter().position(|one| one.id == entry.from) else {
                return false;
            };
            let index = made.placed.iter().position(|placed| placed.entity == entry.entity);
            let fits =
                index.is_none_or(|index| situation::has_room(&made.snapshot, &made.outlook, index, to, 0.0));
            !self.is_held(entry.entity) && is_there && fits && !self.refused.contains(&entry.entity)
        };
        let all = self.ledger.to_take_back().filter(|entry| may_go(entry));
        all.map(|entry| Order { entity: entry.entity, to: entry.from, why: Why::Back { of: entry.id } })
            .collect()
    }

    /// Whether somebody has pinned or excluded it.
    fn is_held(&self, entity: EntityId) -> bool {
        let name = self.history.name(entity).and_then(|name| std::str::from_utf8(name).ok());
        name.is_some_and(|name| self.memory.held.contains_key(name))
    }

    /// What the last plan has begin at once, and was not begun yet.
    fn due(&self) -> Vec<Order> {
        let Some(made) = self.made.as_ref().filter(|made| made.hour == self.history.hour()) else {
            return Vec::new();
        };
        let mut orders = Vec::new();
        for one in made.plan.moves.iter().filter(|one| one.begin == 0) {
            let why = Why::Planned {
                score: one.score,
                avoided: one.avoided,
                cost: one.cost,
                needed: made.hour + i64::try_from(one.needed).unwrap_or(0),
            };
            // What is needed now, by what is seen, was not foreseen.
            let why = if made.from == Basis::Seen && one.needed == 0 { Why::Reactive } else { why };
            let to = made.snapshot.partitions[one.to].id;
            orders.extend(one.entities.iter().map(|&index| Order {
                entity: made.placed[index].entity,
                to,
                why,
            }));
        }
        for one in &made.joining {
            let to = made.snapshot.partitions[one.to].id;
            orders.push(Order {
                entity: made.placed[one.entity].entity,
                to,
                why: Why::Joining { gain: one.gain },
            });
        }
        for &index in &made.homeward {
            let placed = &made.placed[index];
            let to = made.snapshot.partitions[placed.home].id;
            orders.push(Order { entity: placed.entity, to, why: Why::Homeward });
        }
        // Once begun, an entity is open or rests; and one may have been pinned, or excluded, since the plan was made.
        let hour = self.history.hour();
        let is_new = |entity: EntityId| {
            let is_open = self.ledger.open().any(|entry| entry.entity == entity);
            !is_open
                && !self.is_held(entity)
                && !self.refused.contains(&entity)
                && self.rests_until(entity).is_none_or(|until| until <= hour)
        };
        orders.retain(|order| is_new(order.entity));
        orders
    }

    fn begin(&mut self, order: Order) -> Result<()> {
        let Order { entity, to, why } = order;
        let Some(name) = self.history.name(entity).map(<[u8]>::to_vec) else { return Ok(()) };
        let Some(from) = self.partition_of(entity) else { return Ok(()) };
        let moved = name.clone();
        let begun = self.client.on(ShardId(0), move |shard| async move {
            Ok(shard.begin_move(&moved, Some(PartitionId(to))).await)
        });
        match block_on(begun)? {
            Ok(id) => {
                tracing::info!(
                    "{} goes from partition {from} to {to}: {}",
                    name.escape_ascii(),
                    why_text(&why)
                );
                self.moved.insert(entity, self.history.hour());
                let (from, began) = (from.0, self.hours.now());
                let id = id.0;
                self.ledger.begin(Entry {
                    id,
                    entity,
                    name,
                    from,
                    to,
                    why,
                    began,
                    ended: None,
                    judged: None,
                    worse: None,
                });
                if matches!(why, Why::Back { .. }) {
                    self.returned.insert(entity, self.history.hour());
                }
            }
            // Its partition changes, or enough is under way: the next look may do.
            Err(e @ Error::TryAgain { .. }) => tracing::debug!("{} waits: {e}", name.escape_ascii()),
            // Somebody else moves it, or the table has changed: the next plan looks again.
            Err(e) => {
                tracing::warn!("{} stays in partition {from}: {e}", name.escape_ascii());
                self.refused.insert(entity);
            }
        }
        Ok(())
    }

    /// Tells the ledger of moves that have ended.
    fn watch(&mut self) -> Result<()> {
        let open: Vec<u64> = self.ledger.open().map(|entry| entry.id).collect();
        if open.is_empty() {
            return Ok(());
        }
        let known: Vec<MoveStatus> = self.of_all_shards(|shard| shard.moves())?;
        let at = self.hours.now();
        let mut has_ended = false;
        for id in open {
            let status = known.iter().find(|status| status.id.0 == id);
            if let Some(status) = status.filter(|status| status.phase == Phase::Rejected) {
                self.penalize(status.to.0);
            }
            let ended = match status {
                Some(status) if status.phase.is_over() => Ended {
                    at,
                    how: status.phase.name().to_owned(),
                    bytes: status.base_bytes + status.linked_bytes + status.log_bytes,
                    pause: status.pause.unwrap_or_default().as_secs_f64(),
                },
                Some(_) => continue,
                // It was under way when the node ended: opening the store made it done or gone.
                None => Ended { at, how: self.end_of(id).to_owned(), bytes: 0, pause: 0.0 },
            };
            self.ledger.end(id, ended);
            has_ended = true;
        }
        if has_ended {
            self.keep_moves();
        }
        Ok(())
    }

    /// How a move has ended that no shard knows of.
    fn end_of(&self, id: u64) -> &'static str {
        let entry = self.ledger.open().find(|entry| entry.id == id);
        let at = entry.and_then(|entry| Some((entry.to, self.partition_of(entry.entity)?.0)));
        if at.is_some_and(|(to, at)| to == at) { "done" } else { "failed" }
    }

    /// Looks at the last seconds: a partition that was too busy for too long is planned for at once, from what is seen. Tells
    /// which it is, and what the rule for what nobody foresaw asks for.
    fn react(&mut self) -> Option<(u32, Option<Order>)> {
        let seconds = self.rule.since.elapsed().as_secs_f64();
        if seconds < 1.0 {
            return None;
        }
        self.rule.since = instant();
        let counted = std::mem::take(&mut self.rule.partitions);
        let of_entities = std::mem::take(&mut self.rule.entities);
        self.smooth(&of_entities, seconds);
        if !self.settings.reactive {
            return None;
        }
        let ids = self.partition_ids();
        let share = |requests: f64, id: PartitionId| requests / seconds / self.capacity(id);
        let partitions: Vec<f64> =
            ids.iter().map(|id| share(counted.get(&id.0).copied().unwrap_or(0.0), *id)).collect();
        let takes: Vec<bool> = ids.iter().map(|id| self.takes(*id)).collect();
        let (mut who, mut entities, mut smoothed) = (Vec::new(), Vec::new(), Vec::new());
        let (mut at, mut movable) = (Vec::new(), Vec::new());
        for (entity, requests) in of_entities {
            let Some(id) = self.partition_of(entity) else { continue };
            let Some(index) = ids.iter().position(|other| *other == id) else { continue };
            let rests = self.rests_until(entity).is_some_and(|until| until > self.history.hour());
            who.push(entity);
            entities.push(share(requests, id));
            smoothed.push(self.rule.smoothed.get(&entity).map_or(0.0, |load| load / self.capacity(id)));
            at.push(index);
            movable.push(!self.is_held(entity) && !rests);
        }
        let seen = Seen {
            partitions: &partitions,
            takes: &takes,
            entities: &entities,
            smoothed: &smoothed,
            at: &at,
            movable: &movable,
        };
        // Counts come several seconds at once where hours are long: each of these seconds was like their mean.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "seconds between two ticks"
        )]
        let passed = seconds.round() as u64;
        let numbers: Vec<u32> = ids.iter().map(|id| id.0).collect();
        self.rule.rule.partitions_are(&numbers);
        let worst = (0..passed).filter_map(|_| self.rule.rule.trouble(&seen)).last()?;
        let order = self.rule.rule.answer(worst, &seen).and_then(|reaction| {
            let to = ids.get(reaction.to)?.0;
            Some(Order { entity: *who.get(reaction.entity)?, to, why: Why::Reactive })
        });
        match self.plan(Basis::Seen) {
            Ok(made) => self.made = Some(made),
            Err(why) => tracing::warn!("no plan for what is seen: {why}"),
        }
        Some((ids.get(worst)?.0, order))
    }

    /// What is seen of entities, as the rule smooths partitions. Whoever is forgotten has no load that is worth it.
    fn smooth(&mut self, requests: &BTreeMap<EntityId, f64>, seconds: f64) {
        let weight = 1.0 - (-seconds / self.settings.reactive_window_s.max(1.0)).exp();
        let smoothed = &mut self.rule.smoothed;
        for entity in requests.keys() {
            smoothed.entry(*entity).or_default();
        }
        for (entity, smoothed) in smoothed.iter_mut() {
            let now = requests.get(entity).copied().unwrap_or(0.0) / seconds;
            *smoothed += weight * (now - *smoothed);
        }
        smoothed.retain(|_, smoothed| *smoothed > SMOOTHED_MIN);
    }
}

/// A move to be begun.
struct Order {
    entity: EntityId,
    to: u32,
    why: Why,
}

/// The moves, as they are kept.
pub(super) fn kept(ledger: &Ledger) -> Vec<KeptMove> {
    let moves = ledger.moves();
    moves
        .map(|entry| KeptMove {
            id: entry.id,
            name: entry.name.clone(),
            from: entry.from,
            to: entry.to,
            why: match entry.why {
                Why::Planned { score, avoided, cost, needed } => Some((score, avoided, cost, needed)),
                Why::Reactive | Why::Homeward | Why::Joining { .. } | Why::Back { .. } => None,
            },
            back: match entry.why {
                Why::Back { of } => Some(of),
                Why::Planned { .. } | Why::Reactive | Why::Homeward | Why::Joining { .. } => None,
            },
            worse: entry.worse.clone(),
            joining: match entry.why {
                Why::Joining { gain } => Some(gain),
                Why::Planned { .. } | Why::Reactive | Why::Homeward | Why::Back { .. } => None,
            },
            is_reactive: entry.why == Why::Reactive,
            began: entry.began,
            ended: entry.ended.as_ref().map(|ended| (ended.at, ended.how.clone(), ended.bytes, ended.pause)),
        })
        .collect()
}

/// Back from [`kept`].
pub(super) fn entry(kept: &KeptMove) -> Entry {
    let name = kept.name.clone();
    let why = match (kept.why, kept.joining, kept.back) {
        (Some((score, avoided, cost, needed)), ..) => Why::Planned { score, avoided, cost, needed },
        (None, Some(gain), _) => Why::Joining { gain },
        (None, None, Some(of)) => Why::Back { of },
        (None, None, None) if kept.is_reactive => Why::Reactive,
        (None, None, None) => Why::Homeward,
    };
    let ended = kept.ended.clone().map(|(at, how, bytes, pause)| Ended { at, how, bytes, pause });
    Entry {
        id: kept.id,
        entity: entity_of(&name),
        name,
        from: kept.from,
        to: kept.to,
        why,
        began: kept.began,
        ended,
        judged: None,
        worse: kept.worse.clone(),
    }
}

/// As people read it.
pub(super) fn why_text(why: &Why) -> String {
    match why {
        Why::Planned { score, avoided, cost, needed } => format!(
            "planned: score {score:.2}, avoids {avoided:.3} overloaded hours for {cost:.3}, before hour {needed}"
        ),
        Why::Reactive => "its partition is too busy, and nobody had seen that coming".to_owned(),
        Why::Homeward => "its home has room for it again".to_owned(),
        Why::Back { of } => format!("it fares worse since move {of}, which is taken back"),
        Why::Joining { gain } => {
            format!("it joins those that it is named together with, by {gain:.2} shares of its commands")
        }
    }
}
