//! Every command there is, as data: what follows from it is derived in `table`.
//!
//! Name, arity (the name counts; negative: at least so many), flags, places of the first and last key and the step
//! between keys, group, the Redis version it appeared in, and what it does.

use super::table::{Command, Group, Id, Keys, flag};

macro_rules! commands {
    ($($id:ident $name:literal $arity:literal [$($flag:ident)|*] ($first:literal, $last:literal, $step:literal)
        $group:ident $since:literal $summary:literal;)*) => {
        /// All commands.
        pub(crate) const COMMANDS: &[Command] = &[$(Command {
            id: Id::$id,
            name: $name,
            arity: $arity,
            flags: 0 $(| flag::$flag)*,
            keys: Keys { first: $first, last: $last, step: $step },
            group: Group::$group,
            since: $since,
            summary: $summary,
        }),*];
    };
}

commands! {
    Get "get" 2 [READONLY | FAST] (1, 1, 1) String "1.0.0"
        "The string at a key";
    Set "set" -3 [WRITE | DENYOOM] (1, 1, 1) String "1.0.0"
        "Makes a key a string";
    Setnx "setnx" 3 [WRITE | DENYOOM | FAST] (1, 1, 1) String "1.0.0"
        "Makes a key a string if there is no such key";
    Setex "setex" 4 [WRITE | DENYOOM] (1, 1, 1) String "2.0.0"
        "Makes a key a string that expires in so many seconds";
    Psetex "psetex" 4 [WRITE | DENYOOM] (1, 1, 1) String "2.6.0"
        "Makes a key a string that expires in so many milliseconds";
    Getset "getset" 3 [WRITE | DENYOOM | FAST] (1, 1, 1) String "1.0.0"
        "Makes a key a string and answers what it was";
    Getdel "getdel" 2 [WRITE | FAST] (1, 1, 1) String "6.2.0"
        "Answers a string and deletes its key";
    Getex "getex" -2 [WRITE | FAST] (1, 1, 1) String "6.2.0"
        "Answers a string and sets when its key expires";
    Mget "mget" -2 [READONLY | FAST] (1, -1, 1) String "1.0.0"
        "The strings at several keys";
    Mset "mset" -3 [WRITE | DENYOOM] (1, -1, 2) String "1.0.1"
        "Makes several keys strings, all at once";
    Msetnx "msetnx" -3 [WRITE | DENYOOM] (1, -1, 2) String "1.0.1"
        "Makes several keys strings, all at once, if there is none of them";
    Append "append" 3 [WRITE | DENYOOM | FAST] (1, 1, 1) String "2.0.0"
        "Adds to the end of a string";
    Strlen "strlen" 2 [READONLY | FAST] (1, 1, 1) String "2.2.0"
        "The length of a string";
    Getrange "getrange" 4 [READONLY] (1, 1, 1) String "2.4.0"
        "A part of a string";
    Setrange "setrange" 4 [WRITE | DENYOOM] (1, 1, 1) String "2.2.0"
        "Overwrites a part of a string";
    Substr "substr" 4 [READONLY] (1, 1, 1) String "1.0.0"
        "A part of a string; an older name of GETRANGE";
    Lcs "lcs" -3 [READONLY] (1, 2, 1) String "7.0.0"
        "The longest common subsequence of two strings";
    Incr "incr" 2 [WRITE | DENYOOM | FAST] (1, 1, 1) String "1.0.0"
        "Adds one to an integer";
    Incrby "incrby" 3 [WRITE | DENYOOM | FAST] (1, 1, 1) String "1.0.0"
        "Adds to an integer";
    Incrbyfloat "incrbyfloat" 3 [WRITE | DENYOOM | FAST] (1, 1, 1) String "2.6.0"
        "Adds to a number";
    Decr "decr" 2 [WRITE | DENYOOM | FAST] (1, 1, 1) String "1.0.0"
        "Subtracts one from an integer";
    Decrby "decrby" 3 [WRITE | DENYOOM | FAST] (1, 1, 1) String "1.0.0"
        "Subtracts from an integer";
    Setbit "setbit" 4 [WRITE | DENYOOM] (1, 1, 1) Bitmap "2.2.0"
        "Sets one bit of a string";
    Getbit "getbit" 3 [READONLY | FAST] (1, 1, 1) Bitmap "2.2.0"
        "One bit of a string";
    Bitcount "bitcount" -2 [READONLY] (1, 1, 1) Bitmap "2.6.0"
        "How many bits of a string are set";
    Bitpos "bitpos" -3 [READONLY] (1, 1, 1) Bitmap "2.8.7"
        "Where the first bit of a string is that is set, or that is not";
    Bitop "bitop" -4 [WRITE | DENYOOM] (2, -1, 1) Bitmap "2.6.0"
        "Combines strings bit by bit into a key";
    Bitfield "bitfield" -2 [WRITE | DENYOOM] (1, 1, 1) Bitmap "3.2.0"
        "Reads and changes integers of any width within a string";
    BitfieldRo "bitfield_ro" -2 [READONLY | FAST] (1, 1, 1) Bitmap "6.0.0"
        "Reads integers of any width within a string";
    Hset "hset" -4 [WRITE | DENYOOM | FAST] (1, 1, 1) Hash "2.0.0"
        "Sets fields of a hash";
    Hsetnx "hsetnx" 4 [WRITE | DENYOOM | FAST] (1, 1, 1) Hash "2.0.0"
        "Sets a field of a hash if there is no such field";
    Hget "hget" 3 [READONLY | FAST] (1, 1, 1) Hash "2.0.0"
        "A field of a hash";
    Hmget "hmget" -3 [READONLY | FAST] (1, 1, 1) Hash "2.0.0"
        "Several fields of a hash";
    Hmset "hmset" -4 [WRITE | DENYOOM | FAST] (1, 1, 1) Hash "2.0.0"
        "Sets fields of a hash";
    Hdel "hdel" -3 [WRITE | FAST] (1, 1, 1) Hash "2.0.0"
        "Removes fields of a hash";
    Hgetall "hgetall" 2 [READONLY] (1, 1, 1) Hash "2.0.0"
        "All fields of a hash and their values";
    Hkeys "hkeys" 2 [READONLY] (1, 1, 1) Hash "2.0.0"
        "The names of all fields of a hash";
    Hvals "hvals" 2 [READONLY] (1, 1, 1) Hash "2.0.0"
        "The values of all fields of a hash";
    Hlen "hlen" 2 [READONLY | FAST] (1, 1, 1) Hash "2.0.0"
        "How many fields a hash has";
    Hexists "hexists" 3 [READONLY | FAST] (1, 1, 1) Hash "2.0.0"
        "Whether a hash has a field";
    Hstrlen "hstrlen" 3 [READONLY | FAST] (1, 1, 1) Hash "3.2.0"
        "The length of a field's value";
    Hincrby "hincrby" 4 [WRITE | DENYOOM | FAST] (1, 1, 1) Hash "2.0.0"
        "Adds to an integer in a hash";
    Hincrbyfloat "hincrbyfloat" 4 [WRITE | DENYOOM | FAST] (1, 1, 1) Hash "2.6.0"
        "Adds to a number in a hash";
    Hscan "hscan" -3 [READONLY] (1, 1, 1) Hash "2.8.0"
        "Walks the fields of a hash";
    Hrandfield "hrandfield" -2 [READONLY] (1, 1, 1) Hash "6.2.0"
        "Fields of a hash, picked at random";
    Type "type" 2 [READONLY | FAST] (1, 1, 1) Generic "1.0.0"
        "What kind of value a key has";
    Keys "keys" 2 [READONLY] (0, 0, 0) Generic "1.0.0"
        "All keys that match a pattern";
    Scan "scan" -2 [READONLY] (0, 0, 0) Generic "2.8.0"
        "Walks the keys";
    Randomkey "randomkey" 1 [READONLY] (0, 0, 0) Generic "1.0.0"
        "A key, picked at random";
    Exists "exists" -2 [READONLY | FAST] (1, -1, 1) Generic "1.0.0"
        "How many of these keys there are";
    Del "del" -2 [WRITE] (1, -1, 1) Generic "1.0.0"
        "Deletes keys";
    Unlink "unlink" -2 [WRITE | FAST] (1, -1, 1) Generic "4.0.0"
        "Deletes keys";
    Touch "touch" -2 [READONLY | FAST] (1, -1, 1) Generic "3.2.1"
        "How many of these keys there are";
    Rename "rename" 3 [WRITE] (1, 2, 1) Generic "1.0.0"
        "Gives a key another name";
    Renamenx "renamenx" 3 [WRITE | FAST] (1, 2, 1) Generic "1.0.0"
        "Gives a key another name if that is free";
    Copy "copy" -3 [WRITE | DENYOOM] (1, 2, 1) Generic "6.2.0"
        "Copies a key";
    Dbsize "dbsize" 1 [READONLY | FAST] (0, 0, 0) Server "1.0.0"
        "How many keys there are";
    Flushall "flushall" -1 [WRITE] (0, 0, 0) Server "1.0.0"
        "Deletes all keys";
    Flushdb "flushdb" -1 [WRITE] (0, 0, 0) Server "1.0.0"
        "Deletes all keys";
    Expire "expire" -3 [WRITE | FAST] (1, 1, 1) Generic "1.0.0"
        "Has a key expire in so many seconds";
    Pexpire "pexpire" -3 [WRITE | FAST] (1, 1, 1) Generic "2.6.0"
        "Has a key expire in so many milliseconds";
    Expireat "expireat" -3 [WRITE | FAST] (1, 1, 1) Generic "1.2.0"
        "Has a key expire at a Unix time in seconds";
    Pexpireat "pexpireat" -3 [WRITE | FAST] (1, 1, 1) Generic "2.6.0"
        "Has a key expire at a Unix time in milliseconds";
    Ttl "ttl" 2 [READONLY | FAST] (1, 1, 1) Generic "1.0.0"
        "In how many seconds a key expires";
    Pttl "pttl" 2 [READONLY | FAST] (1, 1, 1) Generic "2.6.0"
        "In how many milliseconds a key expires";
    Expiretime "expiretime" 2 [READONLY | FAST] (1, 1, 1) Generic "7.0.0"
        "At which Unix time in seconds a key expires";
    Pexpiretime "pexpiretime" 2 [READONLY | FAST] (1, 1, 1) Generic "7.0.0"
        "At which Unix time in milliseconds a key expires";
    Persist "persist" 2 [WRITE | FAST] (1, 1, 1) Generic "2.2.0"
        "Has a key not expire";
    Object "object" -2 [] (0, 0, 0) Generic "2.2.3"
        "Looks at how a key is kept";
    ObjectEncoding "object|encoding" 3 [READONLY] (2, 2, 1) Generic "2.2.3"
        "How a value would be encoded in Redis";
    ObjectRefcount "object|refcount" 3 [READONLY] (2, 2, 1) Generic "2.2.3"
        "How many references a value has";
    ObjectIdletime "object|idletime" 3 [READONLY] (2, 2, 1) Generic "2.2.3"
        "For how long a key was not used";
    ObjectFreq "object|freq" 3 [READONLY] (2, 2, 1) Generic "4.0.0"
        "How often a key is used";
    ObjectHelp "object|help" 2 [LOADING | STALE] (0, 0, 0) Generic "6.2.0"
        "What OBJECT can do";
    Memory "memory" -2 [] (0, 0, 0) Server "4.0.0"
        "Looks at what keys take";
    MemoryUsage "memory|usage" -3 [READONLY] (2, 2, 1) Server "4.0.0"
        "How many bytes a key takes";
    MemoryHelp "memory|help" 2 [LOADING | STALE] (0, 0, 0) Server "4.0.0"
        "What MEMORY can do";
    Multi "multi" 1 [NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY] (0, 0, 0) Transactions "1.2.0"
        "Begins a transaction";
    Exec "exec" 1 [NOSCRIPT | LOADING | STALE | SKIP_SLOWLOG] (0, 0, 0) Transactions "1.2.0"
        "Runs the commands queued since MULTI, all at once";
    Discard "discard" 1 [NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY] (0, 0, 0) Transactions "2.0.0"
        "Forgets the commands queued since MULTI";
    Watch "watch" -2 [NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY] (1, -1, 1) Transactions "2.2.0"
        "Has the next EXEC do nothing if one of these keys has changed by then";
    Unwatch "unwatch" 1 [NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY] (0, 0, 0) Transactions "2.2.0"
        "Forgets the watched keys";
    Ping "ping" -1 [FAST] (0, 0, 0) Connection "1.0.0"
        "Answers";
    Echo "echo" 2 [LOADING | STALE | FAST] (0, 0, 0) Connection "1.0.0"
        "Answers what it was given";
    Auth "auth" -2 [NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY] (0, 0, 0) Connection "1.0.0"
        "Authenticates the connection";
    Hello "hello" -1 [NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY] (0, 0, 0) Connection "6.0.0"
        "Agrees on a protocol";
    Select "select" 2 [LOADING | STALE | FAST] (0, 0, 0) Connection "1.0.0"
        "Selects the database, of which there is one";
    Quit "quit" -1 [NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY] (0, 0, 0) Connection "1.0.0"
        "Closes the connection";
    Reset "reset" 1 [NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY] (0, 0, 0) Connection "6.2.0"
        "Makes the connection as it was when it was opened";
    Client "client" -2 [] (0, 0, 0) Connection "2.4.0"
        "Looks at connections";
    ClientId "client|id" 2 [NOSCRIPT | LOADING | STALE] (0, 0, 0) Connection "5.0.0"
        "The connection's number";
    ClientGetname "client|getname" 2 [NOSCRIPT | LOADING | STALE] (0, 0, 0) Connection "2.6.9"
        "The connection's name";
    ClientSetname "client|setname" 3 [NOSCRIPT | LOADING | STALE] (0, 0, 0) Connection "2.6.9"
        "Names the connection";
    ClientSetinfo "client|setinfo" -4 [NOSCRIPT | LOADING | STALE] (0, 0, 0) Connection "7.2.0"
        "Says which library and version the client is";
    ClientList "client|list" -2 [ADMIN | NOSCRIPT | LOADING | STALE] (0, 0, 0) Connection "2.4.0"
        "All connections";
    ClientInfo "client|info" 2 [NOSCRIPT | LOADING | STALE] (0, 0, 0) Connection "6.2.0"
        "This connection";
    ClientKill "client|kill" -3 [ADMIN | NOSCRIPT | LOADING | STALE] (0, 0, 0) Connection "2.4.0"
        "Closes connections";
    ClientNoEvict "client|no-evict" 3 [ADMIN | NOSCRIPT | LOADING | STALE] (0, 0, 0) Connection "7.0.0"
        "Keeps the connection from being closed for its memory";
    ClientNoTouch "client|no-touch" 3 [NOSCRIPT | LOADING | STALE] (0, 0, 0) Connection "7.2.0"
        "Keeps the connection's commands from counting as use of keys";
    ClientReply "client|reply" 3 [NOSCRIPT | LOADING | STALE] (0, 0, 0) Connection "3.2.0"
        "Turns replies off and on";
    ClientHelp "client|help" 2 [LOADING | STALE] (0, 0, 0) Connection "5.0.0"
        "What CLIENT can do";
    Command "command" -1 [LOADING | STALE] (0, 0, 0) Server "2.8.13"
        "All commands";
    CommandCount "command|count" 2 [LOADING | STALE] (0, 0, 0) Server "2.8.13"
        "How many commands there are";
    CommandDocs "command|docs" -2 [LOADING | STALE] (0, 0, 0) Server "7.0.0"
        "What commands do";
    CommandInfo "command|info" -2 [LOADING | STALE] (0, 0, 0) Server "2.8.13"
        "How commands are called";
    CommandList "command|list" -2 [LOADING | STALE] (0, 0, 0) Server "7.0.0"
        "The names of commands";
    CommandGetkeys "command|getkeys" -4 [LOADING | STALE] (0, 0, 0) Server "2.8.13"
        "The keys of a command line";
    CommandHelp "command|help" 2 [LOADING | STALE] (0, 0, 0) Server "5.0.0"
        "What COMMAND can do";
    Info "info" -1 [LOADING | STALE] (0, 0, 0) Server "1.0.0"
        "How the server is doing";
    Config "config" -2 [] (0, 0, 0) Server "2.0.0"
        "Looks at and changes the configuration";
    ConfigGet "config|get" -3 [ADMIN | NOSCRIPT | LOADING | STALE] (0, 0, 0) Server "2.0.0"
        "Configuration parameters by pattern";
    ConfigSet "config|set" -4 [ADMIN | NOSCRIPT | LOADING | STALE] (0, 0, 0) Server "2.0.0"
        "Sets configuration parameters";
    ConfigResetstat "config|resetstat" 2 [ADMIN | NOSCRIPT | LOADING | STALE] (0, 0, 0) Server "2.0.0"
        "Sets the counts of INFO to zero";
    ConfigHelp "config|help" 2 [LOADING | STALE] (0, 0, 0) Server "5.0.0"
        "What CONFIG can do";
    Time "time" 1 [LOADING | STALE | FAST] (0, 0, 0) Server "2.6.0"
        "The server's time";
    Slowlog "slowlog" -2 [] (0, 0, 0) Server "2.2.12"
        "Looks at commands that took long";
    SlowlogGet "slowlog|get" -2 [ADMIN | LOADING | STALE] (0, 0, 0) Server "2.2.12"
        "The last commands that took long";
    SlowlogLen "slowlog|len" 2 [ADMIN | LOADING | STALE] (0, 0, 0) Server "2.2.12"
        "How many commands the slow log has";
    SlowlogReset "slowlog|reset" 2 [ADMIN | LOADING | STALE] (0, 0, 0) Server "2.2.12"
        "Empties the slow log";
    SlowlogHelp "slowlog|help" 2 [LOADING | STALE] (0, 0, 0) Server "6.2.0"
        "What SLOWLOG can do";
    Latency "latency" -2 [] (0, 0, 0) Server "2.8.13"
        "Looks at what made clients wait";
    LatencyLatest "latency|latest" 2 [ADMIN | NOSCRIPT | LOADING | STALE] (0, 0, 0) Server "2.8.13"
        "The last spike of each event";
    LatencyHistory "latency|history" 3 [ADMIN | NOSCRIPT | LOADING | STALE] (0, 0, 0) Server "2.8.13"
        "The spikes of an event";
    LatencyReset "latency|reset" -2 [ADMIN | NOSCRIPT | LOADING | STALE] (0, 0, 0) Server "2.8.13"
        "Forgets the spikes of events";
    LatencyDoctor "latency|doctor" 2 [ADMIN | NOSCRIPT | LOADING | STALE] (0, 0, 0) Server "2.8.13"
        "Says what the spikes mean";
    LatencyHelp "latency|help" 2 [LOADING | STALE] (0, 0, 0) Server "2.8.13"
        "What LATENCY can do";
}
