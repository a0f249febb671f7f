//! A served store in a directory of its own, and a client that reads replies as they come.
#![allow(dead_code, reason = "each test uses what it needs of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by its panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use foreshard_engine::{Options, Store};
use foreshard_net::{Config, Server};

/// A store that is served until it is dropped.
pub(crate) struct Node {
    pub(crate) server: Server,
    pub(crate) store: Option<Store>,
    pub(crate) dir: tempfile::TempDir,
}

/// Small enough that a test flushes and compacts.
pub(crate) fn options(shards: usize, partitions: usize) -> Options {
    Options {
        shards,
        partitions,
        memory_bytes: 64 << 20,
        memtables_bytes: 16 << 20,
        memtable_bytes: 1 << 20,
        wal_file_bytes: 4 << 20,
        wal_cap_bytes: 64 << 20,
        reserve_bytes: 1 << 20,
        ..Options::default()
    }
}

impl Node {
    pub(crate) fn start(shards: usize, partitions: usize, config: Config) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), options(shards, partitions), config)
    }

    pub(crate) fn start_in(dir: tempfile::TempDir, options: Options, config: Config) -> Self {
        Self::start_with("127.0.0.1:0".parse().unwrap(), dir, options, config)
    }

    pub(crate) fn start_at(listen: SocketAddr, options: Options, config: Config) -> Self {
        Self::start_with(listen, tempfile::tempdir().unwrap(), options, config)
    }

    fn start_with(listen: SocketAddr, dir: tempfile::TempDir, options: Options, config: Config) -> Self {
        let shards = options.shards;
        let store = Store::open(dir.path().join("store"), options).unwrap();
        let server = Server::start(&store, shards, Config { listen, ..config }).unwrap();
        Self { server, store: Some(store), dir }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.server.address())
    }

    pub(crate) fn stop(mut self) -> tempfile::TempDir {
        let store = self.store.take().unwrap();
        self.server.stop(&store, Duration::from_secs(5)).unwrap();
        store.close().unwrap();
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }
}

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: BufReader<TcpStream>,
}

/// A reply, as it came.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Reply {
    /// `+`, `-`, `:` and the like, with their sign.
    Line(String),
    Bulk(Vec<u8>),
    Null,
    /// Its sign, and its elements; a map's keys and values in turn.
    Many(char, Vec<Self>),
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) fn send(&mut self, args: &[impl AsRef<[u8]>]) {
        let bytes = encode(args);
        self.raw(&bytes);
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    pub(crate) fn ask(&mut self, args: &[impl AsRef<[u8]>]) -> Reply {
        self.send(args);
        self.read().expect("a reply")
    }

    /// A command of words without blanks.
    pub(crate) fn say(&mut self, line: &str) -> Reply {
        self.ask(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// The next reply; none when the connection has ended.
    pub(crate) fn read(&mut self) -> Option<Reply> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(line.strip_suffix(b"\r\n").unwrap()).into_owned();
        let (sign, rest) = text.split_at(1);
        match sign {
            "$" | "=" if rest == "-1" => Some(Reply::Null),
            "$" | "=" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.stream.read_exact(&mut bytes).ok()?;
                bytes.truncate(bytes.len() - 2);
                Some(Reply::Bulk(bytes))
            }
            "_" => Some(Reply::Null),
            "*" | "%" | "~" if rest == "-1" => Some(Reply::Null),
            "*" | "%" | "~" => {
                let count = rest.parse::<usize>().unwrap() * if sign == "%" { 2 } else { 1 };
                let elements = (0..count).map(|_| self.read()).collect::<Option<_>>()?;
                Some(Reply::Many(sign.chars().next().unwrap(), elements))
            }
            _ => Some(Reply::Line(text)),
        }
    }
}

pub(crate) fn encode(args: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend_from_slice(format!("${}\r\n", arg.as_ref().len()).as_bytes());
        bytes.extend_from_slice(arg.as_ref());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

impl Reply {
    pub(crate) fn line(text: &str) -> Self {
        Self::Line(text.to_owned())
    }

    pub(crate) fn bulk(text: &str) -> Self {
        Self::Bulk(text.as_bytes().to_vec())
    }

    pub(crate) fn integer(&self) -> i64 {
        self.text().strip_prefix(':').unwrap_or_else(|| panic!("{self:?}")).parse().unwrap()
    }

    pub(crate) fn elements(&self) -> &[Self] {
        let Self::Many(_, elements) = self else { panic!("{self:?}") };
        elements
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Line(text) => text.clone(),
            Self::Null | Self::Many(..) => panic!("{self:?}"),
        }
    }
}
