//! What the table of commands says of each: how it is called, which keys it names, what it is for.
//!
//! Refuses to know what commands do. COMMAND, arity checks, routing and queueing all read from here.

use std::sync::LazyLock;

use foreshard_engine::hash::Map;

use super::rows::COMMANDS;
use crate::resp::{Args, Reply};

/// One command, or one subcommand, whose name is then `parent|child`.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) id: Id,
    pub(crate) name: &'static str,
    /// Arguments it takes, its name included; negative: at least so many.
    pub(crate) arity: i32,
    pub(crate) flags: u32,
    pub(crate) keys: Keys,
    pub(crate) group: Group,
    pub(crate) since: &'static str,
    pub(crate) summary: &'static str,
}

/// Where a command names its keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Keys {
    /// Argument of the first one; 0: there is none.
    pub(crate) first: usize,
    /// Argument of the last one; negative: from the end, -1 being the last argument.
    pub(crate) last: i32,
    pub(crate) step: usize,
}

/// What a command may do, and when.
pub(crate) mod flag {
    macro_rules! flags {
        ($($name:ident $bit:literal $text:literal;)*) => {
            $(pub(crate) const $name: u32 = 1 << $bit;)*
            /// Their names, as COMMAND INFO has them.
            pub(crate) const NAMES: &[(u32, &str)] = &[$(($name, $text)),*];
        };
    }

    flags! {
        WRITE 0 "write";
        READONLY 1 "readonly";
        DENYOOM 2 "denyoom";
        ADMIN 3 "admin";
        NOSCRIPT 4 "noscript";
        LOADING 5 "loading";
        STALE 6 "stale";
        SKIP_SLOWLOG 8 "skip_slowlog";
        FAST 9 "fast";
        NO_AUTH 10 "no_auth";
        ALLOW_BUSY 12 "allow_busy";
    }
}

/// What a command is about, as COMMAND DOCS names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Group {
    Bitmap,
    Connection,
    Generic,
    Hash,
    Server,
    String,
    Transactions,
}

/// Which command.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(clippy::enum_variant_names, reason = "named after the commands")]
pub(crate) enum Id {
    Get,
    Set,
    Setnx,
    Setex,
    Psetex,
    Getset,
    Getdel,
    Getex,
    Mget,
    Mset,
    Msetnx,
    Append,
    Strlen,
    Getrange,
    Setrange,
    Substr,
    Lcs,
    Incr,
    Incrby,
    Incrbyfloat,
    Decr,
    Decrby,
    Setbit,
    Getbit,
    Bitcount,
    Bitpos,
    Bitop,
    Bitfield,
    BitfieldRo,
    Hset,
    Hsetnx,
    Hget,
    Hmget,
    Hmset,
    Hdel,
    Hgetall,
    Hkeys,
    Hvals,
    Hlen,
    Hexists,
    Hstrlen,
    Hincrby,
    Hincrbyfloat,
    Hscan,
    Hrandfield,
    Type,
    Keys,
    Scan,
    Randomkey,
    Exists,
    Del,
    Unlink,
    Touch,
    Rename,
    Renamenx,
    Copy,
    Dbsize,
    Flushall,
    Flushdb,
    Expire,
    Pexpire,
    Expireat,
    Pexpireat,
    Ttl,
    Pttl,
    Expiretime,
    Pexpiretime,
    Persist,
    Object,
    ObjectEncoding,
    ObjectRefcount,
    ObjectIdletime,
    ObjectFreq,
    ObjectHelp,
    Memory,
    MemoryUsage,
    MemoryHelp,
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
    Ping,
    Echo,
    Auth,
    Hello,
    Select,
    Quit,
    Reset,
    Client,
    ClientId,
    ClientGetname,
    ClientSetname,
    ClientSetinfo,
    ClientList,
    ClientInfo,
    ClientKill,
    ClientNoEvict,
    ClientNoTouch,
    ClientReply,
    ClientHelp,
    Command,
    CommandCount,
    CommandDocs,
    CommandInfo,
    CommandList,
    CommandGetkeys,
    CommandHelp,
    Info,
    Config,
    ConfigGet,
    ConfigSet,
    ConfigResetstat,
    ConfigHelp,
    Time,
    Slowlog,
    SlowlogGet,
    SlowlogLen,
    SlowlogReset,
    SlowlogHelp,
    Latency,
    LatencyLatest,
    LatencyHistory,
    LatencyReset,
    LatencyDoctor,
    LatencyHelp,
}

impl Group {
    /// As COMMAND DOCS has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bitmap => "bitmap",
            Self::Connection => "connection",
            Self::Generic => "generic",
            Self::Hash => "hash",
            Self::Server => "server",
            Self::String => "string",
            Self::Transactions => "transactions",
        }
    }

    /// The category of rights that follows from it.
    const fn category(self) -> &'static str {
        match self {
            Self::Bitmap => "@bitmap",
            Self::Connection => "@connection",
            Self::Generic => "@keyspace",
            Self::Hash => "@hash",
            Self::Server => "",
            Self::String => "@string",
            Self::Transactions => "@transaction",
        }
    }
}

impl Command {
    /// Whether it may be called with so many arguments, its name included.
    pub(crate) fn admits(&self, arguments: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { arguments >= wanted } else { arguments == wanted }
    }

    /// Whether it has a flag.
    pub(crate) const fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The keys that `args`, which it admits, name.
    pub(crate) fn keys<'a>(&self, args: Args<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let len = args.len();
        let last = match usize::try_from(self.keys.last) {
            Ok(last) => last,
            Err(_) => len.saturating_sub(self.keys.last.unsigned_abs() as usize),
        };
        let end = if self.keys.first == 0 { 0 } else { (last + 1).min(len) };
        (self.keys.first..end).step_by(self.keys.step.max(1)).filter_map(move |n| args.get(n))
    }

    /// The first key that `args` name.
    pub(crate) fn first_key<'a>(&self, args: Args<'a>) -> Option<&'a [u8]> {
        if self.keys.first == 0 { None } else { args.get(self.keys.first) }
    }

    /// The name without its parent's.
    pub(crate) fn own_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, own)| own)
    }

    /// The command it is a subcommand of.
    pub(crate) fn parent(&self) -> Option<&'static str> {
        self.name.split_once('|').map(|(parent, _)| parent)
    }

    /// Its subcommands.
    pub(crate) fn subcommands(&self) -> impl Iterator<Item = &'static Self> + use<> {
        let name = self.name;
        COMMANDS.iter().filter(move |c| c.parent() == Some(name))
    }

    /// The flags' names.
    pub(crate) fn flag_names(&self) -> Vec<&'static str> {
        flag::NAMES.iter().filter(|(flag, _)| self.is(*flag)).map(|(_, name)| *name).collect()
    }

    /// Categories of rights, as they follow from flags and group.
    pub(crate) fn categories(&self) -> Vec<&'static str> {
        let mut categories = Vec::new();
        let has_keys = self.keys.first > 0 || self.group == Group::Generic;
        for (flag, category) in [(flag::WRITE, "@write"), (flag::READONLY, "@read")] {
            if self.is(flag) && has_keys {
                categories.push(category);
            }
        }
        if !self.group.category().is_empty() {
            categories.push(self.group.category());
        }
        if self.is(flag::ADMIN) {
            categories.extend(["@admin", "@dangerous"]);
        }
        categories.push(if self.is(flag::FAST) { "@fast" } else { "@slow" });
        categories
    }
}

/// The command with this name, in any case; a subcommand by `parent|child`.
pub(crate) fn find(name: &[u8]) -> Option<&'static Command> {
    let mut lower = [0; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    BY_NAME.get(&*lower).map(|named| named.command)
}

/// The command that `args` call: a subcommand where there is one of that name.
pub(crate) fn find_called(args: Args<'_>) -> Option<&'static Command> {
    let name = args.get(0)?;
    let mut lower = [0; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    // Only this function puts a parent's name before its child's.
    let named = BY_NAME.get(&*lower).filter(|named| !named.is_child)?;
    match args.get(1) {
        Some(second) if named.is_parent => find(&[named.command.name.as_bytes(), b"|", second].concat()),
        _ => Some(named.command),
    }
}

/// Answers what the subcommands of `command` are.
pub(crate) fn help(reply: &mut Reply<'_>, command: &str) {
    let Some(command) = find(command.as_bytes()) else { return };
    reply.array(1 + 2 * command.subcommands().count());
    let name = command.name.to_ascii_uppercase();
    reply.status(&format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for sub in command.subcommands() {
        reply.status(&sub.own_name().to_ascii_uppercase());
        reply.status(&format!("    {}.", sub.summary));
    }
}

/// Commands that are not subcommands.
pub(crate) fn top_level() -> impl ExactSizeIterator<Item = &'static Command> + Clone {
    TOP_LEVEL.iter().copied()
}

/// A command, and what every call of it asks.
#[derive(Clone, Copy, Debug)]
struct Named {
    command: &'static Command,
    is_parent: bool,
    is_child: bool,
}

static BY_NAME: LazyLock<Map<&'static [u8], Named>> = LazyLock::new(|| {
    let named = |command: &'static Command| Named {
        command,
        is_parent: command.subcommands().next().is_some(),
        is_child: command.parent().is_some(),
    };
    COMMANDS.iter().map(|command| (command.name.as_bytes(), named(command))).collect()
});
static TOP_LEVEL: LazyLock<Vec<&'static Command>> =
    LazyLock::new(|| COMMANDS.iter().filter(|c| c.parent().is_none()).collect());

/// The longest name, rounded up.
const NAME_BYTES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::decode::OwnedArgs;

    #[test]
    fn rows_are_in_the_order_of_their_ids_and_names_fit() {
        for (n, command) in COMMANDS.iter().enumerate() {
            assert_eq!(command.id as usize, n, "{}", command.name);
            assert!(command.name.len() <= NAME_BYTES_MAX && command.summary.len() < 80);
            assert_eq!(find(command.name.to_uppercase().as_bytes()).unwrap().id, command.id);
        }
    }

    #[test]
    fn keys_are_where_the_row_says() {
        let keys = |line: &[&str]| -> Vec<String> {
            let args = OwnedArgs::from_iter(line);
            let command = find_called(args.as_args()).unwrap();
            command.keys(args.as_args()).map(|k| String::from_utf8_lossy(k).into_owned()).collect()
        };
        assert_eq!(keys(&["get", "a"]), ["a"]);
        assert_eq!(keys(&["MSET", "a", "1", "b", "2"]), ["a", "b"]);
        assert_eq!(keys(&["bitop", "and", "d", "a", "b"]), ["d", "a", "b"]);
        assert_eq!(keys(&["object", "encoding", "k"]), ["k"]);
        assert_eq!(keys(&["del", "a", "b", "c"]), ["a", "b", "c"]);
        assert!(keys(&["ping"]).is_empty());
    }
}
