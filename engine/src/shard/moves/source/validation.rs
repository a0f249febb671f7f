//! A move on probation: clients ask the source, and some of what they ask, the shadow too.
//!
//! Lanes of their own ask it, a few reads at once, so that neither clients nor the log wait for what it says. A read is
//! asked of it once everything that the source's answer can have seen has been carried there; what differs is asked once
//! more of both, because a write may have been on its way.
//!
//! Time is what a read takes on either core, and what it waits there for its turn.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::super::evidence::{Evidence, Seen};
use super::super::shadow::{ShadowReport, Shadowing, Verdict};
use super::{Halt, LAG_BYTES_MAX, Move, Phase, Stream, TAP_BYTES_MAX};
use crate::error::{Error, Result};
use crate::ids::{MoveId, ShardId};
use crate::io::runtime::{Nanos, Task};
use crate::key;
use crate::partition::Partition;
use crate::partition::mirror::{Agreement, Answer, Mirror, Noted};
use crate::shard::Shard;
use crate::signal::Signal;

/// Who ask the shadow at once, each so much: as many reads under way as several clients have.
const LANES: usize = 4;
const ASKED_AT_ONCE: usize = 16;
/// How often what was written meanwhile is carried over: what a mirrored read waits for.
const ROUND: Duration = Duration::from_millis(1);
/// How often it is looked at what has come, and more is mirrored if that was little.
const STEP: Duration = Duration::from_millis(100);
/// By how much more.
const RAMP: f64 = 2.0;
/// What differs is looked at so often: each time that it was a write under way is rarer than the last.
const LOOKS_MAX: usize = 3;

/// How a move is validated, and how far that is.
#[derive(Debug)]
pub(super) struct Probation {
    how: Shadowing,
    watch: RefCell<Option<Rc<Watch>>>,
}

/// What the lanes and those who carry the log share.
#[derive(Debug)]
struct Watch {
    id: MoveId,
    to: ShardId,
    partition: Rc<Partition>,
    mirror: Rc<Mirror>,
    evidence: RefCell<Evidence>,
    began: Nanos,
    /// How long it took in all, and what was decided.
    decided: RefCell<Option<(Duration, Verdict, String)>>,
    /// Rows of the tap that the shadow has.
    carried: Cell<u64>,
    carried_on: Signal,
}

impl Probation {
    pub(super) const fn new(how: Shadowing) -> Self {
        Self { how, watch: RefCell::new(None) }
    }

    /// What is known by now.
    pub(super) fn report(&self, now: Nanos) -> Option<ShadowReport> {
        self.watch.borrow().as_ref().map(|watch| watch.report(now))
    }
}

impl Move {
    /// Validates it, if it is to be and was not yet. None: so much was written meanwhile that the base has to begin anew.
    pub(super) async fn proven(&self, shard: &Rc<Shard>, mut stream: Stream) -> Result<Option<Stream>, Halt> {
        let bytes = self.progress.base_bytes.get() + self.progress.linked_bytes.get();
        let is_decided = self.probation.watch.borrow().as_ref().is_some_and(|watch| watch.is_decided());
        if is_decided || !self.probation.how.policy.wants(bytes) {
            return Ok(Some(stream));
        }
        self.enter(Phase::Shadow)?;
        let watch = Rc::new(self.watch(shard, &stream));
        *self.probation.watch.borrow_mut() = Some(Rc::clone(&watch));
        stream.tap.crowd_above(TAP_BYTES_MAX / 2);
        let lanes: Vec<Task<()>> =
            (0..LANES).map(|_| shard.runtime().spawn(Rc::clone(&watch).lane(Rc::clone(shard)))).collect();
        let carried = self.carry_meanwhile(shard, &mut stream, &watch).await;
        drop(lanes);
        if !carried? {
            return Ok(None);
        }
        if let Some((_, Verdict::Rejected, why)) = &*watch.decided.borrow() {
            return Err(Halt::Rejected(why.clone()));
        }
        // What has come since the last round.
        self.follow(shard, &mut stream).await.map(|near| near.then_some(stream))
    }

    fn watch(&self, shard: &Shard, stream: &Stream) -> Watch {
        let (partition, share) = (Rc::clone(&stream.partition), self.probation.how.share);
        let mirror = partition.mirror(&self.start, &self.end, &stream.tap, share, self.id.0);
        Watch {
            id: self.id,
            to: self.to.shard,
            partition,
            mirror,
            evidence: RefCell::default(),
            began: shard.runtime().now(),
            decided: RefCell::new(None),
            carried: Cell::new(0),
            carried_on: Signal::default(),
        }
    }

    /// Carries over what is written until there is a verdict. False: the tap did not hold it.
    async fn carry_meanwhile(
        &self,
        shard: &Rc<Shard>,
        stream: &mut Stream,
        watch: &Watch,
    ) -> Result<bool, Halt> {
        let mut step = Step { at: watch.began, ..Step::default() };
        let mut lag = 0;
        while !watch.is_decided() {
            self.enter(Phase::Shadow)?;
            if stream.tap.is_broken() {
                let abort = stream.sender.abort();
                self.say(shard, stream, abort, Vec::new()).await?;
                return Ok(false);
            }
            // In one turn: what was given so far is in the tap, or was carried.
            let (given, waits) = (stream.tap.given(), stream.tap.bytes());
            self.drain(shard, stream).await?;
            watch.carried.set(given);
            watch.carried_on.notify();
            // Whoever writes faster than this carries over is slowed.
            if waits > LAG_BYTES_MAX.max(lag) {
                stream.tap.crowd_above((waits / 2).max(LAG_BYTES_MAX / 2));
            }
            lag = waits;
            watch.look(shard.runtime().now(), &mut step, &self.probation.how);
            if stream.tap.bytes() <= LAG_BYTES_MAX {
                shard.runtime().sleep(ROUND).await;
            }
        }
        Ok(true)
    }
}

/// Counts at the last step.
#[derive(Clone, Copy, Default, Debug)]
struct Step {
    at: Nanos,
    mirrored: u64,
    answered: u64,
}

impl Watch {
    fn is_decided(&self) -> bool {
        self.decided.borrow().is_some()
    }

    /// Where a step is over: decides, or has more mirrored.
    fn look(&self, now: Nanos, step: &mut Step, how: &Shadowing) {
        let passed = now.since(step.at);
        if passed < STEP.min(how.time_max) {
            return;
        }
        let totals = self.mirror.totals();
        let mut evidence = self.evidence.borrow_mut();
        let answered = evidence.answered();
        let a_second = |count: u64| {
            let nanos = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX).max(1);
            count.saturating_mul(1_000_000_000) / nanos
        };
        evidence.rates(a_second(totals.noted - step.mirrored), a_second(answered - step.answered));
        let seen = Seen {
            elapsed: now.since(self.began),
            time_max: how.time_max,
            mirrored: totals.noted,
            dropped: totals.dropped,
        };
        if let Some((verdict, why)) = evidence.decide(&seen) {
            tracing::info!("move {}: shadow {}: {why}", self.id, verdict.name());
            *self.decided.borrow_mut() = Some((seen.elapsed, verdict, why));
        } else if evidence.wants_more() && 2 * (answered - step.answered) >= totals.noted - step.mirrored {
            // More than it answers would wait, and tell nothing.
            self.mirror.set_share((self.mirror.share() * RAMP).min(1.0));
        }
        *step = Step { at: now, mirrored: totals.noted, answered };
    }

    /// Asks the shadow what was noted, as it comes.
    async fn lane(self: Rc<Self>, shard: Rc<Shard>) {
        loop {
            let told = self.carried_on.changed();
            let noted = self.mirror.take(ASKED_AT_ONCE, self.carried.get());
            if noted.is_empty() {
                told.await;
                continue;
            }
            if let Err(e) = self.ask_all(&shard, noted).await {
                return self.evidence.borrow_mut().is_wrong(format!("it cannot be read: {e}"));
            }
        }
    }

    async fn ask_all(&self, shard: &Rc<Shard>, noted: Vec<Noted>) -> Result<()> {
        let began = shard.runtime().now();
        shard.runtime().yield_now().await;
        let waited = shard.runtime().now().since(began);
        let keys = noted.iter().map(|read| read.key.clone()).collect();
        let answers = self.ask(shard, keys).await?;
        if answers.len() != noted.len() {
            return Err(Error::misuse("a shadow that answers another number of questions"));
        }
        for (read, (answer, took)) in noted.into_iter().zip(answers) {
            let agreement = self.judge(shard, &read, answer).await?;
            let mut evidence = self.evidence.borrow_mut();
            if let Some(read) = read.took {
                evidence.took(read + waited, took);
            }
            match agreement {
                Agreement::Equal => evidence.equal += 1,
                Agreement::Later => evidence.later += 1,
                Agreement::Altered | Agreement::Differs => {
                    evidence.differing += 1;
                    evidence.is_wrong(wrong(&read, answer));
                }
            }
        }
        Ok(())
    }

    /// Whether the shadow's answer is the source's; where it is not, both are asked again.
    async fn judge(&self, shard: &Rc<Shard>, read: &Noted, answer: Answer) -> Result<Agreement> {
        let mut agreement = read.answer.compare(read.from, answer);
        let mut looks = 0;
        while agreement == Agreement::Differs && looks < LOOKS_MAX {
            looks += 1;
            let (source, from) = self.partition.answer_of(&read.key).await?;
            let given = self.mirror.given();
            self.carried_on.until(|| self.carried.get() >= given).await;
            let again = self.ask(shard, vec![read.key.clone()]).await?;
            let Some((copy, _)) = again.first() else { return Ok(agreement) };
            agreement = source.compare(from, *copy);
        }
        Ok(agreement)
    }

    async fn ask(&self, shard: &Rc<Shard>, keys: Vec<Vec<u8>>) -> Result<Vec<(Answer, Duration)>> {
        let id = self.id;
        shard.on_control(self.to, move |shard| async move { shard.ask_shadow(id, &keys).await }).await
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a million")]
    fn report(&self, now: Nanos) -> ShadowReport {
        let (totals, evidence) = (self.mirror.totals(), self.evidence.borrow());
        let decided = self.decided.borrow();
        let [source, shadow, source_rate, shadow_rate] = evidence.spreads();
        let (elapsed, verdict, reason) = match &*decided {
            Some((elapsed, verdict, reason)) => (*elapsed, Some(*verdict), reason.clone()),
            None => (now.since(self.began), None, String::new()),
        };
        ShadowReport {
            verdict,
            reason,
            elapsed,
            share_ppm: (self.mirror.share() * 1e6).round() as u32,
            reads: totals.reads,
            mirrored: totals.noted,
            dropped: totals.dropped,
            equal: evidence.equal,
            later: evidence.later,
            differing: evidence.differing,
            source,
            shadow,
            source_rate,
            shadow_rate,
        }
    }
}

/// Which row is wrong, and how: a value is nobody's business, a version says enough.
fn wrong(read: &Noted, copy: Answer) -> String {
    let row = key::decode(&read.key).map_or_else(|| read.key.clone(), |(_, row)| row.to_vec());
    let shown = |answer: Answer| match answer {
        Answer::Row { version, hash, .. } => format!("version {}, hash {hash:016x}", version.0),
        Answer::Absent(_) => "no row".to_owned(),
        Answer::Expired => "an expired row".to_owned(),
    };
    let (source, copy) = (shown(read.answer), shown(copy));
    format!("row \"{}\" is not the same: {source} at the source, {copy} at the shadow", row.escape_ascii())
}
