//! Opening and closing a store: jobs sent to its hosts, in order.
//!
//! The same code opens a store on threads with rings and on one thread in virtual time: it speaks to hosts through
//! links only.
//!
//! The order matters. Logs are verified, replayed and flushed; then the logs of the new incarnation are made; then
//! the superblock names them, which is the moment the old ones end (R1); only then are the old files reused and the
//! partitions served. A crash before that moment leaves the old logs in force, and replaying them again changes
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use async_executor::LocalExecutor;

use super::recovery::{self, Findings};
use crate::backup::restore;
use crate::cache::BlockCache;
use crate::counters::{Counters, CountersConfig};
use crate::error::{Error, Result};
use crate::ids::{EditNumber, Incarnation, PartitionId, ShardId};
use crate::io::disk::Disk;
use crate::key::RoutingKey;
use crate::options::Options;
use crate::partition::carve;
use crate::partition::restrict::Assigned;
use crate::partition::{self, Common, Partition};
use crate::segment::KeyRange;
use crate::shard::host::Host;
use crate::shard::link::Link;
use crate::shard::space::Space;
use crate::shard::{Owned, Parts, Shard, background};
use crate::superblock::{self, State, StoreId, Superblock};
use crate::table::{self, Change, GuestRef, Image, KEYS_END, LocalTable, Placed, Table, TableLog};
use crate::wal::slots::file_number;
use crate::wal::{LogId, Wal, WalConfig};

/// Names of the files that keep room back, one per shard.
const RESERVE_PREFIX: &str = "reserve-";
/// Co-accessed pairs of entities counted per shard.
const PAIRS_TRACKED: usize = 10_000;

/// What is opened, and how.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    /// Names the store if it is created now.
    pub(crate) fresh_id: StoreId,
}

/// Opens, or creates, the store through one link to each host.
///
/// # Errors
/// What creating, recovering or opening says.
pub(crate) async fn open(hosts: &[Link], request: Request) -> Result<Arc<Image>> {
    let request = Arc::new(request);
    let (state, named) = {
        let request = Arc::clone(&request);
        let first = move |host: Rc<Host>| async move {
            let state = superblock_of(&host.disk, &request).await?;
            give_up_reserves(&host.disk, &request).await?;
            let (log, _) = TableLog::open(table::place(&host.disk, &request.dir, state.store)).await?;
            let named: BTreeSet<PartitionId> = log.state().partitions.keys().copied().collect();
            carve::remove_unnamed(&host.disk, &request.dir, |id| named.contains(&id)).await?;
            host.keep_table(Rc::new(LocalTable::new(&host.runtime, log)));
            Ok::<_, Error>((state, named))
        };
        hosts[0].call(None, first).await??
    };
    let state = Arc::new(state);
    let findings = Arc::new(recover(hosts, &request, &state, named).await?);
    let incarnation = state.incarnation.next();
    on_all(hosts, |n| {
        let (request, state) = (Arc::clone(&request), Arc::clone(&state));
        hosts[n].call(None, move |host| async move { make_log(&host, &request, &state, incarnation).await })
    })
    .await?;
    switch(&hosts[0], &request, &state, incarnation).await?;
    let shards = hosts.len();
    let settle = move |host: Rc<Host>| async move {
        abort_moves(&*host.table()?).await?;
        deal(host.table()?, shards).await
    };
    let map = hosts[0].call(None, settle).await??;
    on_all(hosts, |n| {
        let (request, map, findings) = (Arc::clone(&request), Arc::clone(&map), Arc::clone(&findings));
        hosts[n].call(None, move |host| async move {
            serve_shard(&host, &request, map, &findings, incarnation).await
        })
    })
    .await?;
    hosts[0]
        .call(None, move |host| async move { remove_old_logs(&*host.disk, &request, incarnation).await })
        .await?;
    Ok(map)
}

/// Verifies and replays the last opening's logs.
async fn recover(
    hosts: &[Link],
    request: &Arc<Request>,
    state: &Arc<State>,
    named: BTreeSet<PartitionId>,
) -> Result<Findings> {
    if state.incarnation == Incarnation(0) {
        return Ok(Findings::default());
    }
    let surveys = on_each(usize::from(state.shards), |n| {
        let (request, state) = (Arc::clone(request), Arc::clone(state));
        let shard = ShardId(u16::try_from(n).unwrap_or(u16::MAX));
        hosts[n % hosts.len()]
            .call(None, move |host| async move { recovery::survey(&host, &request.dir, &state, shard).await })
    })
    .await?;
    let mut findings = Findings::of(surveys);
    findings.named = named;
    let groups = std::mem::take(&mut findings.groups);
    let findings = Arc::new(findings);
    on_each(groups.len(), |n| {
        let (request, state, findings) = (Arc::clone(request), Arc::clone(state), Arc::clone(&findings));
        let group = groups[n].clone();
        hosts[n % hosts.len()].call(None, move |host| async move {
            recovery::replay(&host, &request.dir, &state, &request.options, group, findings).await
        })
    })
    .await?;
    Arc::try_unwrap(findings).map_err(|_| Error::Closed)
}

/// The superblock, that of a new store if there is none.
async fn superblock_of(disk: &Rc<dyn Disk>, request: &Request) -> Result<State> {
    let dir = &request.dir;
    if disk.exists(&dir.join(superblock::FILE_NAME)).await? {
        let (superblock, repaired) = Superblock::open(disk, dir).await?;
        if let Some(repaired) = repaired {
            tracing::warn!(
                "superblock: the copy at offset {} was damaged: {}",
                repaired.offset,
                repaired.what
            );
        }
        return Ok(superblock.state().clone());
    }
    restore::refuse_unfinished(disk, dir).await?;
    disk.create_dir(&dir.join("partitions")).await?;
    disk.create_dir(&dir.join("wal")).await?;
    let shards = u16::try_from(request.options.shards).unwrap_or(u16::MAX);
    let first = table::State::first(&table::State::even_ranges(request.options.partitions), shards)
        .map_err(|what| Error::misuse(format!("partition table: {what}")))?;
    for id in first.partitions.keys() {
        partition::open::create(disk, dir, *id, &request.options).await?;
    }
    TableLog::create(table::place(disk, dir, request.fresh_id), first).await?;
    disk.sync_dir(&dir.join("partitions")).await?;
    disk.sync_dir(dir).await?;
    // A store whose own name a power loss takes back is lost with all that is durable in it.
    if let Some(parent) = dir.parent() {
        disk.sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }).await?;
    }
    let state = State {
        store: request.fresh_id,
        incarnation: Incarnation(0),
        shards: 1,
        wal_file_bytes: request.options.wal_file_bytes,
    };
    Ok(Superblock::create(disk, dir, state).await?.state().clone())
}

/// Ends the moves that were under way: whoever moved an entity is gone, and nothing of it counts that was not committed.
async fn abort_moves(table: &dyn Table) -> Result<()> {
    while let Some((&id, open)) = table.image().open_moves().first_key_value() {
        let entity = open.entity.escape_ascii();
        match table.change(Change::AbortMove { id }).await? {
            Ok(_) => tracing::warn!(
                "move {id} of entity \"{entity}\" was under way when the store stopped: aborted"
            ),
            Err(refusal) => tracing::warn!("aborting move {id} of entity \"{entity}\": {refusal}"),
        }
    }
    Ok(())
}

/// Where everything is. Where there is another number of shards than before, partitions are dealt out anew.
async fn deal(table: Rc<dyn Table>, shards: usize) -> Result<Arc<Image>> {
    let shards = u16::try_from(shards).unwrap_or(u16::MAX);
    while table.image().state().shards != shards {
        let change = table.image().state().dealt_to(shards);
        if let Err(refusal) = table.change(change.into()).await? {
            tracing::warn!("dealing partitions out to {shards} shards again: {refusal}");
        }
    }
    Ok(table.image())
}

/// Removes the reserves of the last opening: a device may be full, and recovery needs room to flush what it replays.
/// Each shard takes its own again at the end, as far as there is room; there may be fewer shards.
async fn give_up_reserves(disk: &Rc<dyn Disk>, request: &Request) -> Result<()> {
    for name in disk.list(&request.dir).await?.iter().filter(|name| name.starts_with(RESERVE_PREFIX)) {
        disk.remove(&request.dir.join(name)).await?;
    }
    Ok(())
}

/// Makes a shard's log of the new incarnation; nobody knows of it yet.
async fn make_log(host: &Host, request: &Request, state: &State, incarnation: Incarnation) -> Result<()> {
    let next = State { incarnation, ..state.clone() };
    let dir = next.wal_dir(&request.dir, host.id);
    if let Some(parent) = dir.parent() {
        host.disk.create_dir(parent).await?;
        host.disk.create_dir(&dir).await?;
        host.disk.sync_dir(parent).await?;
        host.disk.sync_dir(&request.dir.join("wal")).await?;
    }
    let options = &request.options;
    let config = WalConfig {
        id: LogId { store: state.store, incarnation, shard: host.id },
        dir,
        file_bytes: options.wal_file_bytes,
        cap_bytes: options.wal_cap_bytes,
        batch_bytes_max: options.wal_batch_bytes,
        durability: options.durability,
    };
    host.keep_log(Wal::create(&host.runtime, Rc::clone(&host.disk), config).await?);
    Ok(())
}

/// Makes the new logs the store's: from here on the old ones are history.
async fn switch(
    first: &Link,
    request: &Arc<Request>,
    state: &Arc<State>,
    incarnation: Incarnation,
) -> Result<()> {
    let (request, state) = (Arc::clone(request), Arc::clone(state));
    first
        .call(None, move |host| async move {
            let (mut superblock, _) = Superblock::open(&host.disk, &request.dir).await?;
            let shards = u16::try_from(request.options.shards).unwrap_or(u16::MAX);
            let wal_file_bytes = request.options.wal_file_bytes;
            superblock.update(State { incarnation, shards, wal_file_bytes, ..(*state).clone() }).await
        })
        .await?
}

/// Removes what is left of logs that are not the store's: those of earlier incarnations once shards have taken the files
/// they can use, those that an opening with more shards left unfinished. What cannot be removed is found again at the next
/// opening.
async fn remove_old_logs(disk: &dyn Disk, request: &Request, incarnation: Incarnation) {
    let wal = request.dir.join("wal");
    let current = wal.join(incarnation.to_string());
    let removed = async {
        for old in numbered(disk, &wal).await?.into_values().filter(|dir| *dir != current) {
            for log in numbered(disk, &old).await?.into_values() {
                remove_log(disk, &log).await?;
            }
            disk.remove_dir(&old).await?;
        }
        let shards = request.options.shards as u64;
        for (_, log) in numbered(disk, &current).await?.range(shards..) {
            remove_log(disk, log).await?;
        }
        disk.sync_dir(&current).await?;
        disk.sync_dir(&wal).await
    };
    if let Err(error) = removed.await {
        tracing::warn!(%error, "something of an old log stays behind");
    }
}

/// The directories in `dir` that are named by a number.
async fn numbered(disk: &dyn Disk, dir: &Path) -> Result<BTreeMap<u64, PathBuf>> {
    let names = disk.list(dir).await?;
    let number = |name: &String| name.parse().ok().filter(|number: &u64| number.to_string() == *name);
    Ok(names.iter().filter_map(|name| Some((number(name)?, dir.join(name)))).collect())
}

async fn remove_log(disk: &dyn Disk, dir: &Path) -> Result<()> {
    for name in disk.list(dir).await?.iter().filter(|name| file_number(name).is_some()) {
        disk.remove(&dir.join(name)).await?;
    }
    disk.remove_dir(dir).await
}

/// Opens a shard's partitions and starts it.
async fn serve_shard(
    host: &Rc<Host>,
    request: &Request,
    map: Arc<Image>,
    findings: &Findings,
    incarnation: Incarnation,
) -> Result<()> {
    let options = &request.options;
    let cache = Rc::new(BlockCache::new(0));
    let common =
        Common::new(host.runtime.clone(), Rc::clone(&host.disk), request.dir.clone(), cache, options.clone());
    common.open_log(host.take_log()?);
    let common = Rc::new(common);
    let mut counters = Counters::new(CountersConfig {
        entities_tracked: options.tracked_entities,
        pairs_tracked: PAIRS_TRACKED,
    });
    let mut partitions = BTreeMap::new();
    let (mut left, mut witnessed) = (Vec::new(), None);
    let here = map.state().partitions.iter().filter(|(_, entry)| entry.placed.shard == host.id);
    for id in here.map(|(id, _)| *id) {
        let witness: EditNumber = findings.witnesses.get(&id).copied().unwrap_or_default();
        let partition = Rc::new(Partition::open(Rc::clone(&common), &request.dir, id, witness).await?);
        let placed = assigned(&map, id).unwrap_or_else(|| unreachable!("the table names it"));
        let restricted = partition.restrict(&placed).await?;
        left.extend(restricted.into_iter().map(|changed| (Rc::clone(&partition), changed)));
        witnessed = Some(common.wal().witness(id, partition.manifest.last())?);
        partitions.insert(id, Rc::new(Owned { partition, slot: counters.open_partition(id) }));
    }
    if let Some(last) = witnessed {
        // R2: no log goes that says which edits there were before this one says so.
        common.wal().durable(last).await?;
    }
    // Old files are dealt out to the shards; each renames its own into its log.
    let files = findings.files.iter().skip(usize::from(host.id.0)).step_by(options.shards).cloned().collect();
    common.wal().adopt(files).await?;
    let reserve = request.dir.join(format!("{RESERVE_PREFIX}{}", host.id.0));
    // Recovery on a full device may have to go on in another manifest file.
    let bytes = (options.reserve_bytes / options.shards as u64).max(options.manifest_file_bytes as u64);
    let space = Space::open(Rc::clone(&host.disk), reserve, bytes).await?;
    let shard = Rc::new(Shard::new(
        host.id,
        common,
        map,
        Parts { incarnation, partitions, counters, space, net: host.net.clone() },
    ));
    host.open(Rc::clone(&shard), background::start(&shard));
    for (partition, changed) in left {
        shard.clean_up(&partition, changed);
    }
    Ok(())
}

/// What the table places in a partition; none: it names no such partition.
pub(crate) fn assigned(image: &Image, id: PartitionId) -> Option<Assigned> {
    let state = image.state();
    let entry = state.partitions.get(&id)?;
    let Placed { start, end, .. } = entry.placed;
    // Keys that are no storage key sort anywhere: the first and the last range have no border there.
    let first = if start == RoutingKey(0) { Vec::new() } else { start.to_bytes().to_vec() };
    let end = (end < KEYS_END).then(|| end.to_bytes().to_vec());
    let is_elsewhere = |guest: &GuestRef<'_>| guest.guest.partition != id;
    let away = image.guests_of_home(id).filter(is_elsewhere);
    Some(Assigned {
        version: image.version(),
        range: KeyRange::new(first, end),
        range_version: entry.version,
        guests: image.guests_in(id).map(|guest| guest.prefix.to_vec()).collect(),
        away: away.map(|guest| (guest.prefix.to_vec(), guest.guest.version)).collect(),
    })
}

/// Stops a shard: what was acknowledged is durable, and the log says so.
///
/// # Errors
/// What the log says.
pub(crate) async fn close(hosts: &[Link]) -> Result<()> {
    let closed = on_all(hosts, |n| hosts[n].call(None, |host| async move { host.shut_down().await })).await;
    for link in hosts {
        // A host that is gone is closed.
        let _gone = link.call(None, |host| async move { host.close() }).await;
    }
    closed.map(|_| ())
}

async fn on_all<T, F>(hosts: &[Link], job: impl Fn(usize) -> F) -> Result<Vec<T>>
where
    F: Future<Output = Result<Result<T>>>,
{
    on_each(hosts.len(), job).await
}

/// Runs `count` jobs side by side; the first error, once all have ended.
pub(super) async fn on_each<T, F>(count: usize, job: impl Fn(usize) -> F) -> Result<Vec<T>>
where
    F: Future<Output = Result<Result<T>>>,
{
    let executor = LocalExecutor::new();
    let tasks: Vec<_> = (0..count).map(|n| executor.spawn(job(n))).collect();
    let all = async {
        let mut results = Vec::with_capacity(count);
        for task in tasks {
            results.push(task.await.flatten());
        }
        results
    };
    executor.run(all).await.into_iter().collect()
}
