//! A client that behaves: it knows every answer beforehand, byte by byte.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const KEYS: u32 = 2000;
const FIELDS: u32 = 50;
const CONNECTIONS: usize = 4;
const VALUE_BYTES_MAX: usize = 4096;
const PIPELINE: usize = 20;

/// It and what it was told.
pub(crate) struct Modest {
    address: SocketAddr,
    patience: Duration,
    connections: Vec<TcpStream>,
    strings: BTreeMap<u32, Vec<u8>>,
    fields: BTreeMap<u32, Vec<u8>>,
    count: u64,
    random: fastrand::Rng,
    /// The longest that an answer took.
    pub(crate) longest: Duration,
}

impl Modest {
    pub(crate) fn new(address: SocketAddr, patience: Duration, seed: u64) -> Self {
        Self {
            address,
            patience,
            connections: (0..CONNECTIONS).map(|_| connect(address, patience)).collect(),
            strings: BTreeMap::new(),
            fields: BTreeMap::new(),
            count: 0,
            random: fastrand::Rng::with_seed(seed),
            longest: Duration::ZERO,
        }
    }

    /// Writes every key once.
    pub(crate) fn fill(&mut self) {
        for key in 0..KEYS {
            let (request, answer) = self.set(key);
            self.ask(&request, &answer);
        }
    }

    /// Does so many things, one after the other.
    pub(crate) fn work(&mut self, count: usize) {
        for _ in 0..count {
            let (request, answer) = match self.random.u8(..8) {
                0 | 1 => self.set_any(),
                2 | 3 => self.get_any(),
                4 => self.field(),
                5 => self.counted(),
                6 => self.transaction(),
                _ => self.pipeline(),
            };
            self.ask(&request, &answer);
        }
        // Others come and go as well.
        let place = self.random.usize(..CONNECTIONS);
        self.connections[place] = connect(self.address, self.patience);
    }

    /// Reads everything that it ever wrote.
    pub(crate) fn check_everything(&mut self) {
        for key in 0..KEYS {
            let (request, answer) = self.get(key);
            self.ask(&request, &answer);
        }
        for field in 0..FIELDS {
            let answer = bulk(self.fields.get(&field));
            self.ask(&command(&[b"HGET", b"modest:hash", field.to_string().as_bytes()]), &answer);
        }
        self.ask(&command(&[b"GET", b"modest:count"]), &bulk(Some(&self.count.to_string().into_bytes())));
    }

    /// Waits until nobody else is connected, and nothing is held for anybody.
    pub(crate) fn alone(&mut self, within: Duration) {
        let deadline = Instant::now() + within;
        loop {
            let left =
                (self.info("clients", "connected_clients:"), self.info("memory", "mem_clients_normal:"));
            if left == (CONNECTIONS as u64, 0) {
                return;
            }
            assert!(Instant::now() < deadline, "connections and bytes that they hold are left: {left:?}");
        }
    }

    /// A number that INFO tells.
    pub(crate) fn info(&mut self, section: &str, name: &str) -> u64 {
        let stream = &mut self.connections[0];
        stream.write_all(&command(&[b"INFO", section.as_bytes()])).unwrap();
        let head = line(stream);
        let mut text = vec![0; head.strip_prefix('$').unwrap().parse::<usize>().unwrap() + 2];
        stream.read_exact(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap()
    }

    /// Sends a request and compares what comes back.
    fn ask(&mut self, request: &[u8], answer: &[u8]) {
        let stream = &mut self.connections[self.random.usize(..CONNECTIONS)];
        let began = Instant::now();
        let mut got = vec![0; answer.len()];
        let told = stream.write_all(request).and_then(|()| stream.read_exact(&mut got));
        let took = began.elapsed();
        self.longest = took.max(self.longest);
        let shown = |bytes: &[u8]| bytes[..bytes.len().min(300)].escape_ascii().to_string();
        told.unwrap_or_else(|e| panic!("after {took:?}: {e}, for {}", shown(request)));
        assert!(got == answer, "{}: {} instead of {}", shown(request), shown(&got), shown(answer));
    }

    fn set_any(&mut self) -> (Vec<u8>, Vec<u8>) {
        let key = self.random.u32(..KEYS);
        self.set(key)
    }

    fn get_any(&mut self) -> (Vec<u8>, Vec<u8>) {
        let key = self.random.u32(..KEYS);
        self.get(key)
    }

    fn set(&mut self, key: u32) -> (Vec<u8>, Vec<u8>) {
        let value = vec![self.random.u8(..); self.random.usize(..VALUE_BYTES_MAX)];
        let request = command(&[b"SET", &name(key), &value]);
        self.strings.insert(key, value);
        (request, b"+OK\r\n".to_vec())
    }

    fn get(&self, key: u32) -> (Vec<u8>, Vec<u8>) {
        (command(&[b"GET", &name(key)]), bulk(self.strings.get(&key)))
    }

    fn field(&mut self) -> (Vec<u8>, Vec<u8>) {
        let field = self.random.u32(..FIELDS);
        let value = self.random.u64(..).to_string().into_bytes();
        let request = command(&[b"HSET", b"modest:hash", field.to_string().as_bytes(), &value]);
        let is_new = self.fields.insert(field, value).is_none();
        (request, format!(":{}\r\n", u8::from(is_new)).into_bytes())
    }

    fn counted(&mut self) -> (Vec<u8>, Vec<u8>) {
        self.count += 1;
        (command(&[b"INCR", b"modest:count"]), format!(":{}\r\n", self.count).into_bytes())
    }

    /// Keys that are on different shards, as likely as not.
    fn transaction(&mut self) -> (Vec<u8>, Vec<u8>) {
        let mut request = command(&[b"MULTI"]);
        let mut answer = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n".to_vec();
        for (asked, told) in [self.set_any(), self.get_any(), self.set_any()] {
            request.extend_from_slice(&asked);
            answer.extend_from_slice(&told);
        }
        request.extend_from_slice(&command(&[b"EXEC"]));
        (request, answer)
    }

    fn pipeline(&mut self) -> (Vec<u8>, Vec<u8>) {
        let (mut request, mut answer) = (Vec::new(), Vec::new());
        for _ in 0..PIPELINE {
            let (asked, told) = if self.random.bool() { self.set_any() } else { self.get_any() };
            request.extend_from_slice(&asked);
            answer.extend_from_slice(&told);
        }
        (request, answer)
    }
}

/// A command's bytes.
pub(crate) fn command(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend_from_slice(&bulk(Some(arg)));
    }
    bytes
}

fn bulk(value: Option<impl AsRef<[u8]>>) -> Vec<u8> {
    let Some(value) = value else { return b"$-1\r\n".to_vec() };
    let value = value.as_ref();
    [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

fn name(key: u32) -> Vec<u8> {
    let mut name = String::new();
    write!(name, "modest:{key}").unwrap();
    name.into_bytes()
}

fn connect(address: SocketAddr, patience: Duration) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, patience).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    stream.set_write_timeout(Some(patience)).unwrap();
    stream
}

/// A line, a byte at a time: what follows stays unread.
fn line(stream: &mut TcpStream) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap().trim_end().to_owned()
}
