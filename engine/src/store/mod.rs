//! A store: a directory, its shards' threads, and the way in.
//!
//! `open` holds the order of opening, `recovery` what happens to the last opening's logs, `client`
//! what callers use. This file starts and joins the threads.

pub mod client;
pub(crate) mod cut;
pub(crate) mod open;
pub(crate) mod recovery;
mod replays;
pub mod simulated;

use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use futures_lite::future::block_on;

use self::client::Client;
use self::open::Request;
use crate::error::{Error, Result};
use crate::ids::ShardId;
use crate::io::ring::{RingConfig, RingRuntime};
use crate::io::unpark::Unpark;
use crate::options::Options;
use crate::shard::Shard;
use crate::shard::host::{self, Host};
use crate::shard::link::{Inbox, Link, link};
use crate::superblock::StoreId;
use crate::table::Image;

/// Clients that may ask to be let in while a shard is busy; more wait.
const ARRIVALS_MAX: usize = 64;

/// An open store. Dropping it closes it; [`Store::close`] says how that went.
///
/// ```no_run
/// use foreshard_engine::{Options, Store, WriteBatch, block_on};
///
/// let store = Store::open("/var/lib/example", Options::default())?;
/// let client = store.client()?;
/// block_on(async {
///     client.put(b"customer:7", b"name", b"Ada").await?;
///     let mut batch = WriteBatch::new();
///     batch.put(b"customer:7", b"city", b"London")?;
///     batch.put(b"customer:8", b"name", b"Alan")?;
///     client.write(batch).await?;
///     assert_eq!(client.get(b"customer:7", b"name").await?.as_deref(), Some(&b"Ada"[..]));
///     Ok::<_, foreshard_engine::Error>(())
/// })?;
/// store.close()?;
/// # Ok::<(), foreshard_engine::Error>(())
/// ```
pub struct Store {
    dir: PathBuf,
    map: Arc<Image>,
    doors: Vec<Door>,
    threads: Threads,
    /// Held as long as the store is open.
    _lock: std::fs::File,
}

/// The shards' threads.
type Threads = Vec<JoinHandle<Result<()>>>;

/// Where a shard lets new callers in.
#[derive(Clone)]
struct Door {
    unpark: Unpark,
    arrivals: SyncSender<Inbox>,
}

impl Store {
    /// Opens the store in `dir`, or creates it there.
    ///
    /// # Errors
    /// [`Error::Misuse`] for options that do not fit together or a directory in use; [`Error::Unsupported`] when the
    /// kernel lacks what the ring needs; [`Error::Corrupt`] when what was durable is damaged: nothing was changed,
    /// `foreshard repair` salvages; [`Error::Io`].
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self> {
        options.check()?;
        let dir = dir.as_ref().to_path_buf();
        let lock = lock(&dir)?;
        let (doors, threads) = start_threads(&options)?;
        let mut store =
            Self { dir: dir.clone(), map: Arc::new(Image::nowhere()), doors, threads, _lock: lock };
        let request = Request { dir, options, fresh_id: random_id()? };
        let hosts = store.links()?;
        store.map = block_on(open::open(&hosts, request))?;
        block_on(connect(&hosts, &store.doors))?;
        Ok(store)
    }

    /// A way in for one caller.
    ///
    /// # Errors
    /// [`Error::Closed`] when a shard has ended.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::new(Arc::clone(&self.map), self.links()?))
    }

    /// Runs `work` on a shard's own thread, where operations on that shard's rows cost no hand-over: for servers and
    /// benchmarks that are themselves one thread per core.
    ///
    /// # Errors
    /// [`Error::Misuse`] when there is no such shard; [`Error::Closed`].
    pub fn on_shard<T, W, F>(&self, shard: usize, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(Rc<Shard>) -> F + Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let links = self.links()?;
        let link = links.get(shard).ok_or_else(|| {
            Error::misuse(format!("shard {shard}: the store was opened with {}", self.doors.len()))
        })?;
        block_on(link.call(None, |host| async move {
            let shard = Rc::clone(host.shard()?);
            Ok(work(shard).await)
        }))?
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its partitions and their shards, as it was opened.
    #[must_use]
    pub fn map(&self) -> &Image {
        &self.map
    }

    /// Closes the store: what was acknowledged is durable on return, whatever [`Options::durability`] says.
    ///
    /// # Errors
    /// What kept the logs from saying so.
    pub fn close(mut self) -> Result<()> {
        self.shut_down()
    }

    fn shut_down(&mut self) -> Result<()> {
        if self.threads.is_empty() {
            return Ok(());
        }
        let closed = self.links().and_then(|hosts| block_on(open::close(&hosts)));
        let ended = std::mem::take(&mut self.threads).into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(Error::Stopped("a shard's thread panicked".into())))
        });
        // All are joined, whatever the first says.
        let ended: Vec<Result<()>> = ended.collect();
        ended.into_iter().fold(closed, Result::and)
    }

    fn links(&self) -> Result<Vec<Link>> {
        self.doors.iter().map(Door::enter).collect()
    }
}

impl Door {
    /// A link to the shard.
    fn enter(&self) -> Result<Link> {
        let (link, inbox) = link(self.unpark.clone());
        self.arrivals.send(inbox).map_err(|_gone| Error::Closed)?;
        self.unpark.unpark();
        Ok(link)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(e) = self.shut_down() {
            tracing::error!("closing {}: {e}", self.dir.display());
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("dir", &self.dir)
            .field("shards", &self.doors.len())
            .finish_non_exhaustive()
    }
}

/// Links every shard to every other, and lets the first one tell all of them what becomes of the partition table.
async fn connect(hosts: &[Link], doors: &[Door]) -> Result<()> {
    for (from, host) in hosts.iter().enumerate() {
        let to_others = || -> Result<Vec<Option<Link>>> {
            let doors = doors.iter().enumerate();
            doors.map(|(to, door)| if to == from { Ok(None) } else { door.enter().map(Some) }).collect()
        };
        let (links, control) = (to_others()?, to_others()?);
        host.call(None, move |host| async move {
            host.shard()?.connect(links, control);
            Ok::<(), Error>(())
        })
        .await??;
    }
    hosts[0].call(None, |host| async move { host.publish_table() }).await?
}

/// Takes the directory for this process.
#[expect(clippy::disallowed_methods, reason = "a lock is an open file of the process, not data on the disk")]
pub(crate) fn lock(dir: &Path) -> Result<std::fs::File> {
    let io = |operation: &'static str, path: &Path| {
        let path = path.to_path_buf();
        move |e| Error::io(operation, &path, e)
    };
    let missing: Vec<&Path> =
        dir.ancestors().skip(1).take_while(|at| !at.as_os_str().is_empty() && !at.exists()).collect();
    std::fs::create_dir_all(dir).map_err(io("create directory", dir))?;
    // The store's own name is made durable when it is created; here, those of the directories above it.
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(io("sync directory", parent))?;
    }
    let path = dir.join("LOCK");
    let open = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = open.map_err(io("open", &path))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Error::misuse(format!("{} is open in another process", dir.display())))
        }
        Err(e) => Err(Error::io("lock", &path, e.into())),
    }
}

/// One thread per shard, each with its ring; they take jobs from here on.
fn start_threads(options: &Options) -> Result<(Vec<Door>, Threads)> {
    let mut doors = Vec::with_capacity(options.shards);
    let mut threads = Vec::with_capacity(options.shards);
    for n in 0..options.shards {
        let id = ShardId(u16::try_from(n).unwrap_or(u16::MAX));
        let core = options.cores.get(n).copied();
        let (arrivals, inboxes) = sync_channel(ARRIVALS_MAX);
        let (ready, started) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(format!("shard-{n}"))
            .spawn(move || run_shard(id, core, ready, inboxes))
            .map_err(|e| Error::io("start thread", Path::new("shard"), e))?;
        threads.push(thread);
        let unpark = started.recv().map_err(|_| Error::Closed)??;
        doors.push(Door { unpark, arrivals });
    }
    Ok((doors, threads))
}

/// A shard's thread: makes its ring, says that it is there, and runs jobs until it is closed.
fn run_shard(
    id: ShardId,
    core: Option<usize>,
    ready: oneshot::Sender<Result<Unpark>>,
    inboxes: Receiver<Inbox>,
) -> Result<()> {
    let ring = match pin(core).and_then(|()| RingRuntime::new(&RingConfig::default())) {
        Ok(ring) => ring,
        Err(e) => {
            let _unheard = ready.send(Err(e));
            return Ok(());
        }
    };
    let net = ring.net_source();
    let host = Rc::new(Host::new(id, ring.runtime(), ring.disk(), Some(net)));
    let _unheard = ready.send(Ok(ring.runtime().unpark_handle()));
    ring.run(host::serve(host, inboxes));
    Ok(())
}

fn pin(core: Option<usize>) -> Result<()> {
    let Some(core) = core else { return Ok(()) };
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores)
        .map_err(|e| Error::misuse(format!("option cores: cannot run on core {core}: {e}")))
}

/// Sixteen bytes nobody else has.
///
/// # Errors
/// [`Error::Io`] when the kernel has no random bytes.
pub fn random_id() -> Result<StoreId> {
    let mut id = [0; 16];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::io("getrandom", Path::new("/dev/urandom"), e.into()))?;
    Ok(StoreId(id))
}
