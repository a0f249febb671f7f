//! What a connection does next. No I/O, no clock: the same seed gives the same operations.
//!
//! Invariant: every connection has a plan and a seed of its own, so that neither threads nor answers change it.

use std::sync::Arc;

use fastrand::Rng;

use super::clock::Nanos;
use super::keys::{Keys, Pick};
use super::layout::Layout;
use super::ledger::Ledger;
use super::mix::{Kind, Mix};
use super::trace::{Share, Trace};

/// YCSB's longest scan.
const SCAN_ROWS_MAX: u32 = 100;
/// Inserts of all connections begin anew at their first when they are more: a bound for what a run adds.
const INSERTS_MAX: u64 = 1 << 26;

/// One operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    pub(crate) cell: u64,
    /// Of a scan.
    pub(crate) rows: u32,
}

impl Operation {
    const fn new(kind: Kind, cell: u64) -> Self {
        Self { kind, cell, rows: 0 }
    }
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// Every cell is written once.
    Fill,
    /// Operations by chance.
    Mixed {
        mix: Mix,
        keys: Arc<Keys>,
        /// Each connection uses its own cells only.
        owned: bool,
        /// How many operations of all connections; none for no end.
        operations: Option<u64>,
    },
    /// What a trace says, each connection for its own entities.
    Traced(Arc<Trace>),
    /// Every cell that was ever written is read, by another connection than its owner.
    ReadBack(Arc<Ledger>),
}

/// One connection's operations.
#[derive(Debug)]
pub(crate) struct Plan {
    connection: u32,
    layout: Arc<Layout>,
    work: Work,
    random: Rng,
    /// How many operations are left; none for no end.
    left: Option<u64>,
    /// Where a fill or a read-back is; how many rows were inserted.
    position: u64,
    /// Its part of a trace.
    share: Option<Share>,
}

impl Plan {
    /// Of connection `connection`, which has inserted so many rows before.
    pub(crate) fn new(
        (connection, inserted): (u32, u64),
        layout: Arc<Layout>,
        work: Work,
        random: Rng,
    ) -> Self {
        let connections = u64::from(layout.connections);
        let (left, position) = match &work {
            Work::Fill | Work::ReadBack(_) | Work::Traced(_) => (None, 0),
            Work::Mixed { operations, .. } => {
                let share =
                    |all: u64| all / connections + u64::from(u64::from(connection) < all % connections);
                (operations.map(share), inserted)
            }
        };
        let share = match &work {
            Work::Traced(trace) => Some(trace.share(connection, layout.connections)),
            Work::Fill | Work::ReadBack(_) | Work::Mixed { .. } => None,
        };
        Self { connection, layout, work, random, left, position, share }
    }

    /// The next operation, which is due then; none at the end.
    pub(crate) fn next(&mut self, due: Nanos) -> Option<Operation> {
        match &self.work {
            Work::Fill => {
                let local = self.position;
                self.position += 1;
                let is_mine = local < self.layout.owned(self.connection);
                is_mine.then(|| Operation::new(Kind::Insert, self.layout.cell(self.connection, local)))
            }
            Work::ReadBack(ledger) => {
                let connections = u64::from(self.layout.connections);
                // Those of the connection before: what one was acknowledged, another one reads.
                let first = (u64::from(self.connection) + connections - 1) % connections;
                loop {
                    let cell = first + self.position * connections;
                    if cell >= ledger.len() {
                        return None;
                    }
                    self.position += 1;
                    if ledger.window(cell).sent > 0 {
                        return Some(Operation::new(Kind::Read, cell));
                    }
                }
            }
            Work::Mixed { .. } => self.mixed(),
            Work::Traced(trace) => {
                let (entity, kind) = trace.pick(self.share.as_mut()?, due, self.random.f64())?;
                let fields = self.layout.fields;
                Some(Operation::new(kind, entity * fields + self.random.u64(0..fields)))
            }
        }
    }

    fn mixed(&mut self) -> Option<Operation> {
        let Work::Mixed { mix, keys, owned, .. } = &self.work else { return None };
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        let kind = mix.pick(&mut self.random);
        if kind == Kind::Insert {
            let local = self.inserted_local(self.position);
            self.position += 1;
            return Some(Operation::new(kind, self.layout.cell(self.connection, local)));
        }
        let layout = &self.layout;
        let in_reach = |cell| if *owned { layout.nearest_owned(self.connection, cell) } else { cell };
        let cell = match keys.pick(&mut self.random) {
            Pick::Key(cell) => in_reach(cell),
            Pick::Newest(newer) => match newer.checked_sub(self.position) {
                Some(older) => in_reach(layout.cells() - 1 - older),
                None => layout.cell(self.connection, self.inserted_local(self.position - 1 - newer)),
            },
        };
        let mut operation = Operation::new(kind, cell);
        if kind == Kind::Scan {
            operation.rows = self.random.u32(1..=SCAN_ROWS_MAX);
        }
        Some(operation)
    }

    /// The owner's number of its insert `n`.
    fn inserted_local(&self, n: u64) -> u64 {
        let inserts_max = (INSERTS_MAX / u64::from(self.layout.connections)).max(1);
        self.layout.owned(self.connection) + n % inserts_max
    }

    /// Whether each operation has to be done in the end, and not just as many as time allows.
    pub(crate) const fn is_exhaustive(&self) -> bool {
        match self.work {
            Work::Fill | Work::ReadBack(_) => true,
            Work::Mixed { .. } | Work::Traced(_) => false,
        }
    }

    /// Randomness for what belongs to an operation.
    pub(crate) fn random(&mut self) -> &mut Rng {
        &mut self.random
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::keys::Distribution;
    use super::super::layout::Data;
    use super::super::ledger::Window;
    use super::*;

    const CONNECTIONS: u32 = 3;

    fn layout() -> Arc<Layout> {
        let prefix = "key:".into();
        Arc::new(Layout {
            data: Data::Hashes,
            prefix,
            entities: 10,
            fields: 4,
            members: 1,
            connections: CONNECTIONS,
            names: Vec::new(),
        })
    }

    fn plan(connection: u32, work: Work) -> Plan {
        Plan::new((connection, 0), layout(), work, Rng::with_seed(u64::from(connection)))
    }

    fn mixed(mix: &str, distribution: Distribution, owned: bool, operations: Option<u64>) -> Work {
        let keys = Arc::new(Keys::new(distribution, layout().cells()));
        Work::Mixed { mix: mix.parse().unwrap(), keys, owned, operations }
    }

    fn all(mut plan: Plan) -> Vec<Operation> {
        std::iter::from_fn(move || plan.next(0)).take(10_000).collect()
    }

    #[test]
    fn a_fill_writes_every_cell_once() {
        let cells: Vec<u64> =
            (0..CONNECTIONS).flat_map(|c| all(plan(c, Work::Fill))).map(|operation| operation.cell).collect();
        assert_eq!(cells.len(), 40);
        assert_eq!(cells.into_iter().collect::<BTreeSet<_>>(), (0..40).collect());
    }

    #[test]
    fn reading_back_reaches_every_written_cell_once_and_by_another_than_its_owner() {
        let mut ledger = Ledger::default();
        let written = [0, 1, 5, 39, 47];
        for cell in written {
            ledger.learn(cell, Window { acknowledged: 0, sent: 1 });
        }
        let ledger = Arc::new(ledger);
        let mut seen = Vec::new();
        for connection in 0..CONNECTIONS {
            seen.extend(all(plan(connection, Work::ReadBack(ledger.clone()))).into_iter().map(|o| o.cell));
        }
        seen.sort_unstable();
        assert_eq!(seen, written);
    }

    #[test]
    fn operations_are_shared_out_to_the_last_one() {
        for operations in [0, 1, 2, 3, 100, 101] {
            let work = mixed("read=1", Distribution::Uniform, false, Some(operations));
            let counts = (0..CONNECTIONS).map(|c| all(plan(c, work.clone())).len() as u64);
            assert_eq!(counts.sum::<u64>(), operations);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_operations_and_another_does_not() {
        let zipf = Distribution::Zipf { theta: 0.99, scrambled: true };
        let work = mixed("read=50,update=40,scan=10", zipf, false, Some(300));
        assert_eq!(all(plan(1, work.clone())), all(plan(1, work.clone())));
        assert_ne!(all(plan(1, work.clone())), all(plan(2, work)));
    }

    #[test]
    fn an_owner_uses_its_own_cells_only() {
        for distribution in [Distribution::Uniform, Distribution::Latest { theta: 0.9 }] {
            for connection in 0..CONNECTIONS {
                let work = mixed("read=80,insert=20", distribution, true, Some(600));
                let operations = all(plan(connection, work));
                assert!(operations.iter().all(|operation| layout().owner(operation.cell).0 == connection));
            }
        }
    }

    #[test]
    fn the_latest_are_those_inserted_and_what_is_read_was_there() {
        let work = mixed("read=50,insert=50", Distribution::Latest { theta: 0.99 }, false, Some(9000));
        let mut there: BTreeSet<u64> = (0..layout().cells()).collect();
        let mut newest_read = 0;
        let mut newest = 39;
        for operation in all(plan(1, work)) {
            if operation.kind == Kind::Insert {
                assert!(there.insert(operation.cell), "inserted once");
                newest = operation.cell;
            } else {
                assert!(there.contains(&operation.cell));
                newest_read += u32::from(operation.cell == newest);
            }
        }
        // Of 40 ranks at theta 0.99 the first has 23 %.
        assert!((290..420).contains(&newest_read), "of about 1500 reads: {newest_read}");
    }
}
