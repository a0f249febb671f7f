//! A client's state, and what happens to each of its commands.
//!
//! Invariants:
//! - commands are run in the order in which they came, each to its end, before the next one (R5);
//! - the tickets kept here cover everything that the replies gathered so far tell.

use std::rc::Rc;

use foreshard_engine::entry::Expiry;
use foreshard_engine::ids::ShardId;
use foreshard_engine::io::runtime::Nanos;
use foreshard_engine::table::Home;
use foreshard_engine::{Error, Op, Shard, Ticket};

use super::clients::Client;
use super::front::Front;
use super::holdings::Room;
use super::round::Decoded;
use super::route;
use super::stats::{Slow, add};
use crate::command::session::transactions::Begun;
use crate::command::table::{self, Command, Id, flag};
use crate::command::{self, STRING_BYTES_MAX};
use crate::data::fault::{Fault, Result};
use crate::data::layout;
use crate::data::tx::later;
use crate::data::value::{Value, encode_string};
use crate::resp::decode::kept;
use crate::resp::reply::REPLY_BYTES_MAX;
use crate::resp::{Args, Protocol, Reply};

/// One client's session.
#[derive(Debug)]
pub(crate) struct Session {
    front: Rc<Front>,
    shard: Rc<Shard>,
    client: Rc<Client>,
    protocol: Protocol,
    is_authenticated: bool,
    is_closing: bool,
    /// What the replies so far depend on, here and on other shards.
    ticket: Option<Ticket>,
    elsewhere: Vec<(ShardId, Ticket)>,
    /// When the command that is run began: when the one before it ended, or when it came.
    began: Nanos,
    /// Replies gathered and not sent.
    replies: usize,
    answers: Replies,
    /// What MULTI and WATCH have begun.
    pub(crate) begun: Begun,
    /// Rows are built here, so that SET allocates nothing.
    scratch_row: Vec<u8>,
}

/// Whether the client wants replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Replies {
    /// To everything.
    On,
    /// To nothing.
    Off,
    /// After CLIENT REPLY SKIP, which has none itself.
    SkipThisAndNext,
    /// Not to the next command.
    SkipNext,
}

impl Session {
    /// A client that has just connected.
    pub(crate) fn new(front: Rc<Front>, shard: Rc<Shard>, client: Rc<Client>) -> Self {
        let is_authenticated = front.config.borrow().requirepass.is_empty();
        Self {
            front,
            shard,
            client,
            protocol: Protocol::default(),
            is_authenticated,
            is_closing: false,
            ticket: None,
            elsewhere: Vec::new(),
            began: Nanos::default(),
            replies: 0,
            answers: Replies::On,
            begun: Begun::default(),
            scratch_row: Vec::new(),
        }
    }

    /// The next command is run from `now` on.
    pub(crate) const fn begin(&mut self, now: Nanos) {
        self.began = now;
    }

    /// Runs a command that was decoded from `input`; its reply is appended to `out`.
    pub(crate) async fn execute(&mut self, decoded: &Decoded, input: &[u8], out: &mut Vec<u8>) {
        let (args, is_last) = (decoded.args(input), decoded.is_last_of(input));
        if decoded.command.is_none() && is_http(args) {
            // A web page that somebody looks at, or a server that was talked into it: what follows is not a client's.
            tracing::warn!(peer = %self.client.peer, "an HTTP request: the connection is closed");
            self.close();
            return;
        }
        let mark = out.len();
        let result = match self.admit(decoded.command, args) {
            Ok(command) if self.begun.is_queued(command.id) => self.queue(command, args, out),
            Ok(command) => {
                self.client.command.set(command.name);
                let result = if command.id == Id::Get {
                    self.get(args, &decoded.storage, is_last, out).await
                } else if command.id == Id::Set && args.len() == 3 {
                    self.set(args, &decoded.storage, is_last, out).await
                } else {
                    Box::pin(self.run(command, args, is_last, out)).await
                };
                self.ran(command, args, out.get(mark) == Some(&b'-') || result.is_err());
                result
            }
            Err(fault) => {
                add(&self.front.stats.errors, 1);
                self.begun.break_off();
                Err(fault)
            }
        };
        if let Err(fault) = result {
            out.truncate(mark);
            self.reply(out).error(&fault.reply());
        } else if out.len() > REPLY_BYTES_MAX {
            out.truncate(mark);
            let text = format!(
                "ERR the reply is longer than {REPLY_BYTES_MAX} bytes; what the command changed stands"
            );
            self.reply(out).error(&text);
        }
        match self.answers {
            Replies::On => {}
            Replies::Off => out.truncate(mark),
            Replies::SkipThisAndNext => {
                out.truncate(mark);
                self.answers = Replies::SkipNext;
            }
            Replies::SkipNext => {
                out.truncate(mark);
                self.answers = Replies::On;
            }
        }
        if out.len() > mark {
            self.replied();
        }
    }

    /// When the partitions that a command goes to, and this core, may do it; none: at once.
    pub(crate) async fn due(&self, decoded: &Decoded, input: &[u8]) -> Option<Nanos> {
        let (command, args) = (decoded.command?, decoded.args(input));
        let is_exec = command.id == Id::Exec;
        let is_run = is_exec || (command.is_data() && !self.begun.is_queued(command.id));
        if !is_run || !command.admits(args.len()) {
            return None;
        }
        let mut homes: Vec<Home> = Vec::new();
        let mut storage = Vec::new();
        let mut add = |key: &[u8]| {
            storage.clear();
            // A key over its limit is refused where it is used.
            if layout::encode(key, &mut storage).is_ok() {
                let home = self.shard.map().home_of(&storage);
                if !homes.iter().any(|other| other.partition == home.partition) {
                    homes.push(home);
                }
            }
        };
        if is_exec {
            self.begun.commands().for_each(|(command, args)| command.keys(args).for_each(&mut add));
        } else {
            command.keys(args).for_each(&mut add);
        }
        // A store that closes says so to the command.
        self.shard.due(&homes).await.ok().flatten()
    }

    fn queue(&mut self, command: &'static Command, args: Args<'_>, out: &mut Vec<u8>) -> Result<()> {
        self.begun.queue(command, args)?;
        self.client.queued.set(self.begun.queued());
        self.reply(out).status("QUEUED");
        Ok(())
    }

    /// Returns when everything that `out` tells is committed. Where that cannot be, every reply becomes an error: what
    /// they tell might be lost.
    pub(crate) async fn settle(&mut self, out: &mut Vec<u8>) {
        let mut settled = Ok(());
        if let Some(ticket) = self.ticket.take() {
            let began = self.shard.runtime().now();
            settled = self.shard.committed(ticket).await;
            self.note_wait(self.shard.runtime().now().since(began));
        }
        for (shard, ticket) in std::mem::take(&mut self.elsewhere) {
            let commit = move |shard: Rc<Shard>| async move { shard.committed(ticket).await };
            settled = settled.and(self.shard.on_shard(shard, commit).await);
        }
        let replies = std::mem::take(&mut self.replies);
        if let Err(e) = settled {
            out.clear();
            let text = Fault::from(e).reply();
            for _ in 0..replies {
                self.reply(out).error(&text);
            }
        }
    }

    /// Whether a command may run, and which it is.
    fn admit(&self, command: Option<&'static Command>, args: Args<'_>) -> Result<&'static Command> {
        let command = command.ok_or_else(|| unknown(args))?;
        if !command.admits(args.len()) {
            let name = command.name;
            return Err(Fault::told(format!("ERR wrong number of arguments for '{name}' command")));
        }
        if !self.is_authenticated && !command.is(flag::NO_AUTH) {
            return Err(Fault::text("NOAUTH Authentication required."));
        }
        Ok(command)
    }

    /// GET of a key of this shard, its value copied from where it lies to where it is sent from.
    async fn get(&mut self, args: Args<'_>, storage: &[u8], is_last: bool, out: &mut Vec<u8>) -> Result<()> {
        let key = args.get(1).unwrap_or_default();
        layout::check(key)?;
        let entity = layout::entity_of(key);
        let begin = out.len();
        let (found, ticket) = loop {
            // An answer that was given, and whose partition went before it could be left, is no answer.
            out.truncate(begin);
            let home = self.shard.map().home_of(storage);
            if home.shard != self.shard.id() {
                return Box::pin(self.forward(home.shard, Id::Get, args, is_last, out)).await;
            }
            let mut reply = Reply::new(out, self.protocol);
            let answer = |row: Option<foreshard_engine::Row<'_>>| match row {
                Some(row) => {
                    reply.bulk(Value::decode(row.value)?.string()?);
                    Ok(true)
                }
                None => {
                    reply.null();
                    Ok::<_, Fault>(false)
                }
            };
            match self.shard.observe(home, entity, storage, answer).await {
                // Each time round the table has changed.
                Err(Error::Moved { version }) => self.shard.knows(version).await?,
                found => break found?,
            }
        };
        self.ticket = later(self.ticket, ticket);
        let hit = found?;
        add(if hit { &self.front.stats.hits } else { &self.front.stats.misses }, 1);
        Ok(())
    }

    /// SET without options of a key of this shard: nothing is read.
    async fn set(&mut self, args: Args<'_>, storage: &[u8], is_last: bool, out: &mut Vec<u8>) -> Result<()> {
        let (key, value) = (args.get(1).unwrap_or_default(), args.get(2).unwrap_or_default());
        layout::check(key)?;
        self.scratch_row.clear();
        if value.len() <= STRING_BYTES_MAX {
            encode_string(value, &mut self.scratch_row);
        }
        let ticket = loop {
            let home = self.shard.map().home_of(storage);
            if home.shard != self.shard.id() || value.len() > STRING_BYTES_MAX {
                return Box::pin(self.forward(home.shard, Id::Set, args, is_last, out)).await;
            }
            let op = Op::Put { key: storage, value: &self.scratch_row, expiry: Expiry::NEVER };
            match self.shard.apply_one(home, layout::entity_of(key), &op).await {
                // It was not done. Each time round the table has changed.
                Err(Error::Moved { version }) => self.shard.knows(version).await?,
                done => break done?,
            }
        };
        self.ticket = later(self.ticket, Some(ticket));
        out.extend_from_slice(b"+OK\r\n");
        Ok(())
    }

    async fn run(
        &mut self,
        command: &'static Command,
        args: Args<'_>,
        is_last: bool,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let room = Room::of(&self.front, command.id).await;
        if self.client.is_cut() {
            return Err(Fault::text("ERR this connection is closed"));
        }
        let mark = out.len();
        let result = self.run_it(command, args, is_last, out).await;
        room.built(out.len().saturating_sub(mark));
        result
    }

    async fn run_it(
        &mut self,
        command: &'static Command,
        args: Args<'_>,
        is_last: bool,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if !command.is_data() {
            return command::session::run(command, self, args, out).await;
        }
        match route::owner_of(&self.shard, command, args) {
            Some(owner) if owner != self.shard.id() => {
                self.forward(owner, command.id, args, is_last, out).await
            }
            _ => {
                let ticket = command::run_alone(&self.shard, command.id, args, self.protocol, out).await;
                self.ticket = later(self.ticket, ticket);
                Ok(())
            }
        }
    }

    async fn forward(
        &mut self,
        owner: ShardId,
        id: Id,
        args: Args<'_>,
        is_last: bool,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        add(&self.front.stats.forwarded, 1);
        let command = &command::rows::COMMANDS[id as usize];
        let (reply, ticket) =
            route::forward(&self.shard, owner, command, args, self.protocol, is_last).await?;
        out.extend_from_slice(&reply);
        if let Some(ticket) = ticket {
            match self.elsewhere.iter_mut().find(|(shard, _)| *shard == owner) {
                Some((_, latest)) if latest.batch >= ticket.batch => {}
                Some((_, latest)) => *latest = ticket,
                None => self.elsewhere.push((owner, ticket)),
            }
        }
        Ok(())
    }

    /// Counts a command that has run, and keeps it if it was slow.
    fn ran(&mut self, command: &'static Command, args: Args<'_>, failed: bool) {
        let now = self.shard.runtime().now();
        let took = now.since(std::mem::replace(&mut self.began, now));
        self.front.stats.called(command.id, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), failed);
        let config = self.front.config.borrow();
        let micros = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        let threshold = config.slowlog_log_slower_than;
        // What EXEC runs has no entry of its own.
        let is_skipped = command.is(flag::SKIP_SLOWLOG) && command.id != Id::Exec;
        if threshold < 0 || micros < threshold || is_skipped {
            return;
        }
        let entry = Slow {
            id: 0,
            unix_seconds: self.shard.runtime().wall_ms() / 1000,
            micros: micros.unsigned_abs(),
            args: shortened(command.id, args),
            peer: self.client.peer.to_string(),
            name: self.client.name(),
        };
        self.front.stats.was_slow(entry, config.slowlog_max_len);
    }

    fn note_wait(&self, waited: std::time::Duration) {
        let threshold = self.front.config.borrow().latency_monitor_threshold;
        let millis = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        if threshold > 0 && millis >= threshold {
            self.front.stats.waited(self.shard.runtime().wall_ms() / 1000, millis);
        }
    }

    /// What it keeps for the client between commands.
    pub(crate) fn held_bytes(&self) -> usize {
        self.begun.bytes()
    }

    /// Gives up memory that long commands took.
    pub(crate) fn release(&mut self, bytes_max: usize) {
        self.scratch_row = kept(std::mem::take(&mut self.scratch_row), bytes_max);
    }

    /// The replies gathered depend on this too.
    pub(crate) fn depends_on(&mut self, ticket: Option<Ticket>) {
        self.ticket = later(self.ticket, ticket);
    }

    /// Which replies the client wants.
    /// The next command is not answered; nothing changes where none is.
    pub(crate) fn skip_next_reply(&mut self) {
        if self.answers != Replies::Off {
            self.answers = Replies::SkipThisAndNext;
        }
    }

    pub(crate) const fn replies_are(&mut self, answers: Replies) {
        self.answers = answers;
    }

    /// The shard that the client is connected to.
    pub(crate) const fn shard(&self) -> &Rc<Shard> {
        &self.shard
    }

    /// The server's part on this shard.
    pub(crate) const fn front(&self) -> &Rc<Front> {
        &self.front
    }

    /// How others see this client.
    pub(crate) const fn client(&self) -> &Rc<Client> {
        &self.client
    }

    /// What the client speaks.
    pub(crate) const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// What the client speaks from here on.
    pub(crate) fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.client.protocol.set(protocol);
    }

    /// Where a reply is written.
    pub(crate) const fn reply<'a>(&self, out: &'a mut Vec<u8>) -> Reply<'a> {
        Reply::new(out, self.protocol)
    }

    /// Whether the client has said the password, or there is none.
    pub(crate) const fn is_authenticated(&self) -> bool {
        self.is_authenticated
    }

    /// Checks a password; whether it is right.
    pub(crate) fn authenticate(&mut self, user: &[u8], password: &[u8]) -> bool {
        let config = self.front.config.borrow();
        let right = user == b"default"
            && (config.requirepass.is_empty() || same(config.requirepass.as_bytes(), password));
        drop(config);
        self.is_authenticated |= right;
        right
    }

    /// As it was at the beginning.
    pub(crate) fn reset(&mut self) {
        self.set_protocol(Protocol::Resp2);
        self.is_authenticated = self.front.config.borrow().requirepass.is_empty();
        self.begun = Begun::default();
        self.client.queued.set(None);
        self.answers = Replies::On;
        let _named = self.client.set_name(b"");
        self.client.no_evict.set(false);
        self.client.no_touch.set(false);
    }

    /// Ends the connection after this reply.
    pub(crate) fn close(&mut self) {
        self.is_closing = true;
    }

    /// Whether it ends.
    pub(crate) const fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// One more reply is gathered.
    pub(crate) fn replied(&mut self) {
        self.replies += 1;
    }
}

/// Whether it is a line of an HTTP request, where a command is expected.
fn is_http(args: Args<'_>) -> bool {
    let first = args.get(0).unwrap_or_default();
    first.eq_ignore_ascii_case(b"post") || first.eq_ignore_ascii_case(b"host:")
}

/// Which of a command's arguments are secrets.
fn is_secret(id: Id, args: Args<'_>, n: usize) -> bool {
    let is_at = |at: usize, word: &[u8]| args.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word));
    if id == Id::Auth {
        n > 0
    } else if id == Id::Hello {
        n > 2 && (is_at(n - 1, b"auth") || n > 3 && is_at(n - 2, b"auth"))
    } else {
        id == Id::ConfigSet && n > 2 && n % 2 == 1 && is_at(n - 1, b"requirepass")
    }
}

/// As the slow log keeps them: few arguments, none long, no passwords.
fn shortened(id: Id, args: Args<'_>) -> Vec<Vec<u8>> {
    const ARGUMENTS_MAX: usize = 32;
    const BYTES_MAX: usize = 128;
    let shown = if args.len() > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { args.len() };
    let mut kept: Vec<Vec<u8>> = args
        .from(0)
        .take(shown)
        .enumerate()
        .map(|(n, arg)| match arg.get(..BYTES_MAX) {
            _ if is_secret(id, args, n) => b"(redacted)".to_vec(),
            Some(head) if arg.len() > BYTES_MAX => {
                let more = arg.len() - BYTES_MAX;
                [head, format!("... ({more} more bytes)").as_bytes()].concat()
            }
            _ => arg.to_vec(),
        })
        .collect();
    if shown < args.len() {
        kept.push(format!("... ({} more arguments)", args.len() - shown).into_bytes());
    }
    kept
}

/// Compares in a time that does not tell how much of a guess was right.
fn same(secret: &[u8], guess: &[u8]) -> bool {
    let differs = (0..guess.len()).fold(secret.len() ^ guess.len(), |differs, n| {
        differs | usize::from(secret.get(n % secret.len().max(1)).copied().unwrap_or(0) ^ guess[n])
    });
    differs == 0
}

fn unknown(args: Args<'_>) -> Fault {
    const SHOWN_MAX: usize = 128;
    let show =
        |bytes: &[u8], max: usize| String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).into_owned();
    let name = args.get(0).unwrap_or_default();
    if let Some(command) = table::find(name)
        && let Some(second) = args.get(1)
        && !name.contains(&b'|')
    {
        return Fault::told(format!(
            "ERR unknown subcommand '{}'. Try {} HELP.",
            show(second, SHOWN_MAX),
            command.name.to_uppercase()
        ));
    }
    let mut shown = String::new();
    for arg in args.from(1) {
        if shown.len() >= SHOWN_MAX {
            break;
        }
        shown.push_str(&format!("'{}' ", show(arg, SHOWN_MAX - shown.len())));
    }
    Fault::told(format!("ERR unknown command '{}', with args beginning with: {shown}", show(name, SHOWN_MAX)))
}
