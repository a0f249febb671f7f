//! `foreshard repair`: what is provably whole in a damaged store, written into a new one.
//!
//! Per partition: the blocks of its segments that are whole, and the records of the logs up to where their chain breaks,
//! merged; of each row the newest version that was found, deletes and expiry applied. It goes through the engine's
//! public interface, like any caller's writes. Prepared transactions without a decision are left out, as recovery does.
//!
//! Where the table is whole, rows of entities that it places elsewhere are left out: they are what a move left behind, or
//! was bringing. In the new store every entity is at home.
//!
//! What is lost may have held newer versions or deletes of rows that are found elsewhere: such rows are kept, counted,
//! and said to be possibly stale.
//!
//! Invariants:
//! - the source is read through a disk that refuses changes;
//! - the target is empty when it begins, and is not touched before the source was read once.

mod gather;
mod logs;
mod scratch;
mod write;

use std::path::Path;

use foreshard_engine::Options;
use foreshard_engine::ids::{Incarnation, PartitionId, ShardId};
use foreshard_engine::superblock::State;
use foreshard_engine::table::{self, Image};
use foreshard_engine::wal::LogId;
use serde_json::json;

use self::gather::Gathered;
use self::logs::Logs;
use self::write::Target;
use crate::Verdict;
use crate::cli::Repair;
use crate::finding::{Findings, Severity};
use crate::inspect::{partition_dirs, survey_dirs};
use crate::lock;
use crate::output::Output;
use crate::shell::{self, Failure, Reads, Tools};
use crate::survey;
use crate::text::count;

/// What the new store may use while it is filled: it is opened with the owner's own options later.
const MEMORY_BYTES: usize = 256 << 20;

/// What the source consists of, as far as it can be known.
#[derive(Debug)]
struct Plan {
    /// The superblock and the partition table say so.
    is_certain: bool,
    /// Where everything is, if the table says so.
    image: Option<Image>,
    partitions: Vec<PartitionId>,
    /// The logs' directories, and what identifies them; none where even that is lost.
    logs: Vec<(std::path::PathBuf, Option<(LogId, u64)>)>,
}

/// What was salvaged in all.
#[derive(Clone, Copy, Default, Debug)]
struct Totals {
    rows: u64,
    stale: u64,
    undecided: u64,
    /// All rows were provably there: damage, if any, was to what they can do without.
    is_lossless: bool,
}

/// Runs the command.
pub(crate) fn run(request: &Repair) -> Result<Verdict, Failure> {
    let source = lock::resolve(&request.source)?;
    if !["partitions", "wal", "SUPER"].iter().any(|name| source.join(name).exists()) {
        return Err(Failure::told(format!("{}: no store is here", source.display())));
    }
    let _kept_closed = lock::keep_closed(&source)?;
    write::check_target(&source, &request.into)?;
    // Never mapped: this is what a device with bad sectors is given to.
    shell::run(Reads::Ring, async |tools| {
        let mut findings = Findings::default();
        let mut output = Output::new(request.json, false);
        let plan = plan(tools, &source, &mut findings).await?;
        let logs = Logs::read(tools, &plan.logs, &mut findings, &mut output).await?;
        let target = Target::create(&request.into, options(&plan))?;
        let salvaged = salvage(tools, &source, &plan, logs, &target, (&mut findings, &mut output)).await;
        let closed = target.close();
        let totals = salvaged?;
        closed?;
        finish(findings, output, &totals, &request.into)
    })
}

fn finish(findings: Findings, output: Output, totals: &Totals, into: &Path) -> Result<Verdict, Failure> {
    let lost = if totals.is_lossless {
        "nothing was lost"
    } else {
        "something was, or may have been, lost: see what is damaged"
    };
    let mut text = format!("{} salvaged into {}; {lost}", count(totals.rows, "row"), into.display());
    if totals.stale > 0 {
        text +=
            &format!("; of {} a newer version or a delete may have been lost", count(totals.stale, "row"));
    }
    let value = json!({
        "into": into.display().to_string(), "rows": totals.rows, "rows_possibly_stale": totals.stale,
        "transactions_undecided": totals.undecided, "lost": !totals.is_lossless,
    });
    let verdict = if totals.is_lossless { Verdict::Sound } else { Verdict::Damaged };
    output.verdict(&findings, verdict, (value, &text))
}

async fn plan(tools: &Tools, source: &Path, findings: &mut Findings) -> Result<Plan, Failure> {
    if let Some(state) = survey::superblock::survey(tools, source, findings).await? {
        return plan_of(tools, source, &state, findings).await;
    }
    findings.add(
        Severity::Note,
        source,
        0,
        "without a superblock, partitions and logs are those whose directories are here",
    );
    let partitions = partition_dirs(tools, source).await?;
    let mut logs = Vec::new();
    for dir in survey_dirs(tools, source).await? {
        let id = survey::log::identify(tools, &dir).await?;
        logs.push((dir, id));
    }
    Ok(Plan { is_certain: false, image: None, partitions, logs })
}

async fn plan_of(
    tools: &Tools,
    source: &Path,
    state: &State,
    findings: &mut Findings,
) -> Result<Plan, Failure> {
    let place = source.join(table::DIR_NAME);
    let table = survey::table::survey(tools, &place, state.store, findings, &mut Output::silent()).await?;
    let image = table.map(Image::of);
    let partitions = match &image {
        Some(image) => image.state().partitions.keys().copied().collect(),
        None => {
            let what = "without the partition table, partitions are those whose directories are here";
            findings.add(Severity::Note, source, 0, what);
            partition_dirs(tools, source).await?
        }
    };
    let shards = if state.incarnation == Incarnation(0) { 0 } else { state.shards };
    let logs = (0..shards).map(ShardId).map(|shard| {
        let id = LogId { store: state.store, incarnation: state.incarnation, shard };
        (state.wal_dir(source, shard), Some((id, state.wal_file_bytes)))
    });
    Ok(Plan { is_certain: image.is_some(), image, partitions, logs: logs.collect() })
}

fn options(plan: &Plan) -> Options {
    Options {
        partitions: plan.partitions.len().max(1),
        memory_bytes: MEMORY_BYTES,
        memtables_bytes: MEMORY_BYTES / 2,
        wal_cap_bytes: 4 * Options::default().wal_file_bytes,
        ..Options::default()
    }
}

async fn salvage(
    tools: &Tools,
    source: &Path,
    plan: &Plan,
    logs: Logs,
    target: &Target,
    (findings, output): (&mut Findings, &mut Output),
) -> Result<Totals, Failure> {
    let undecided = logs.undecided(findings);
    let is_lossless = plan.is_certain && logs.are_whole;
    let mut totals = Totals { undecided, is_lossless, ..Totals::default() };
    for &id in &plan.partitions {
        let gathered = Gathered::read(tools, source, id, &logs, target.scratch(), findings).await?;
        totals.is_lossless &= gathered.is_lossless;
        let rows = target.write(tools, id, plan.image.as_ref(), gathered).await?;
        let value = json!({
            "partition": id.0, "rows": rows.written, "rows_possibly_stale": rows.stale,
            "rows_elsewhere": rows.elsewhere,
        });
        let mut text = format!("partition {id}: {} salvaged", count(rows.written, "row"));
        if rows.elsewhere > 0 {
            text += &format!(", {} of entities that are elsewhere left out", count(rows.elsewhere, "row"));
        }
        output.item("partition", value, &text)?;
        totals.rows += rows.written;
        totals.stale += rows.stale;
    }
    Ok(totals)
}
