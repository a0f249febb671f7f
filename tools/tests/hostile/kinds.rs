//! What hostile clients do. A round of each kind makes its connections, misuses them, and leaves.
//!
//! How the server answers is not looked at, but where a client only is slow: then its answers are right as well. That a
//! connection is refused or reset is what they deserve, and no failure.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use super::modest::command;

/// Where they do it.
pub(crate) struct Ground {
    address: SocketAddr,
}

/// One kind.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Of a round, at once.
    pub(crate) connections: usize,
    pub(crate) round: fn(&Ground, &mut fastrand::Rng),
}

const fn kind(name: &'static str, connections: usize, round: fn(&Ground, &mut fastrand::Rng)) -> Kind {
    Kind { name, connections, round }
}

const FEW: usize = 4;
const SOME: usize = 20;
const MANY: usize = 200;

pub(crate) const KINDS: [Kind; 14] = [
    kind("noise", SOME, noise),
    kind("a command with a byte changed", SOME, mangled),
    kind("lengths that cannot be", SOME, lengths),
    kind("a value that does not come whole", FEW, unfinished_value),
    kind("a million arguments", FEW, arguments),
    kind("a line without an end", SOME, endless_line),
    kind("transactions that are only queued", FEW, queued),
    kind("replies that nobody reads", FEW, unread),
    kind("replies that are read slowly", FEW, read_slowly),
    kind("commands that come a byte at a time", SOME, written_slowly),
    kind("silence", MANY, silence),
    kind("half a command, then half a connection", SOME, half_closed),
    kind("a reset in the middle of a reply", FEW, reset_within),
    kind("coming and going", MANY, churn),
];

/// A value of hostile clients, long enough that some replies fill all socket buffers.
const BIG: &[u8] = b"hostile:big";
const BIG_BYTES: usize = 4 << 20;
/// What they hold on to, they hold for this long.
const HOLD: Duration = Duration::from_millis(300);
/// A hostile client waits for nothing longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// But one that is only slow is answered.
const ANSWERED_WITHIN: Duration = super::ANSWERED_WITHIN;

impl Ground {
    pub(crate) const fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Writes what some of them read.
    pub(crate) fn prepare(&self) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(&command(&[b"SET", BIG, &vec![b'b'; BIG_BYTES]])).unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"+OK\r\n");
    }

    /// So many connections; fewer where they are refused.
    fn connect(&self, count: usize) -> Vec<TcpStream> {
        let connect = || {
            let stream = TcpStream::connect_timeout(&self.address, PATIENCE).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).ok()?;
            stream.set_write_timeout(Some(PATIENCE)).ok()?;
            Some(stream)
        };
        (0..count).filter_map(|_| connect()).collect()
    }
}

/// Sends, whether it is taken or not.
fn send(stream: &mut TcpStream, bytes: &[u8]) {
    let _refused = stream.write_all(bytes);
}

/// Reads until the end, or until nothing comes, but no more than `bytes_max`.
fn read_away(stream: &mut TcpStream, bytes_max: usize) {
    let (mut buffer, mut read) = (vec![0; 64 << 10], 0);
    while read < bytes_max
        && let Ok(count @ 1..) = stream.read(&mut buffer)
    {
        read += count;
    }
}

/// Leaves: in order, or with a reset.
fn leave(streams: Vec<TcpStream>, random: &mut fastrand::Rng) {
    for stream in streams {
        if random.bool() {
            let _ended = set_socket_linger(&stream, Some(Duration::ZERO));
        }
    }
}

fn noise(ground: &Ground, random: &mut fastrand::Rng) {
    let mut streams = ground.connect(SOME);
    for stream in &mut streams {
        let bytes: Vec<u8> = (0..random.usize(1..4000)).map(|_| random.u8(..)).collect();
        send(stream, &bytes);
        send(stream, b"\r\n");
        let _ended = stream.shutdown(Shutdown::Write);
        read_away(stream, 1 << 20);
    }
    leave(streams, random);
}

fn mangled(ground: &Ground, random: &mut fastrand::Rng) {
    let whole = [
        command(&[b"SET", b"hostile:a", b"value", b"EX", b"100"]),
        command(&[b"HSET", b"hostile:h", b"field", &[b'v'; 300]]),
        command(&[b"GETRANGE", b"hostile:a", b"0", b"-1"]),
        command(&[b"MULTI"]),
        command(&[b"INCRBY", b"hostile:n", b"7"]),
        command(&[b"EXEC"]),
    ]
    .concat();
    let mut streams = ground.connect(SOME);
    for stream in &mut streams {
        let mut bytes = whole.clone();
        let at = random.usize(..bytes.len());
        match random.u8(..3) {
            0 => bytes[at] ^= 1 << random.u8(..8),
            1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, random.u8(..)),
        }
        send(stream, &bytes);
        let _ended = stream.shutdown(Shutdown::Write);
        read_away(stream, 1 << 20);
    }
    leave(streams, random);
}

fn lengths(ground: &Ground, random: &mut fastrand::Rng) {
    let heads: [&[u8]; 9] = [
        b"*1000000000\r\n",
        b"*99999999999999999999\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$99999999999999999999\r\n",
        b"*3\r\n$3\r\nSET\r\n$9\r\nhostile:l\r\n$8388609\r\n",
        b"*2\r\n$3\r\nGET\r\n$+5\r\n",
        b"*2\r\n$3\r\nGET\r\n$1\r\nabcdef\r\n",
        b"*-5\r\n*0\r\n*\r\n",
        b"$5\r\nhello\r\n",
    ];
    let mut streams = ground.connect(SOME);
    for stream in &mut streams {
        send(stream, heads[random.usize(..heads.len())]);
        let _ended = stream.shutdown(Shutdown::Write);
        read_away(stream, 1 << 20);
    }
    leave(streams, random);
}

fn unfinished_value(ground: &Ground, random: &mut fastrand::Rng) {
    let head = b"*3\r\n$3\r\nSET\r\n$9\r\nhostile:v\r\n$8388000\r\n";
    let mut streams = ground.connect(FEW);
    for stream in &mut streams {
        send(stream, head);
        send(stream, &vec![b'v'; random.usize(..8_388_000)]);
    }
    std::thread::sleep(HOLD);
    leave(streams, random);
}

fn arguments(ground: &Ground, random: &mut fastrand::Rng) {
    let empty = b"$0\r\n\r\n".repeat(1000);
    let mut streams = ground.connect(FEW);
    for stream in &mut streams {
        send(stream, b"*1000000\r\n$4\r\nMGET\r\n");
        for _ in 0..random.usize(1..1000) {
            send(stream, &empty);
        }
    }
    std::thread::sleep(HOLD);
    leave(streams, random);
}

fn endless_line(ground: &Ground, random: &mut fastrand::Rng) {
    let mut streams = ground.connect(SOME);
    for stream in &mut streams {
        send(stream, &vec![b'l'; random.usize(1..200 << 10)]);
    }
    std::thread::sleep(HOLD);
    leave(streams, random);
}

fn queued(ground: &Ground, random: &mut fastrand::Rng) {
    let set = command(&[b"SET", b"hostile:q", &vec![b'q'; 256 << 10]]);
    let ping = command(&[b"PING"]).repeat(1000);
    let mut streams = ground.connect(FEW);
    for stream in &mut streams {
        send(stream, &command(&[b"MULTI"]));
        for _ in 0..random.usize(1..40) {
            send(stream, if random.bool() { &set } else { &ping });
        }
    }
    std::thread::sleep(HOLD);
    leave(streams, random);
}

fn unread(ground: &Ground, random: &mut fastrand::Rng) {
    let mut streams = ground.connect(FEW);
    for stream in &mut streams {
        send(stream, &command(&[b"MGET", BIG, BIG, BIG, BIG, BIG, BIG]).repeat(random.usize(1..30)));
    }
    std::thread::sleep(HOLD);
    leave(streams, random);
}

fn read_slowly(ground: &Ground, random: &mut fastrand::Rng) {
    let mut streams = ground.connect(FEW);
    for stream in &mut streams {
        send(stream, &command(&[b"GET", BIG]).repeat(5));
    }
    for _ in 0..100 {
        for stream in &mut streams {
            let mut part = [0; 100];
            let _nothing = stream.read(&mut part);
        }
        std::thread::sleep(HOLD / 100);
    }
    leave(streams, random);
}

fn written_slowly(ground: &Ground, random: &mut fastrand::Rng) {
    let mut streams = ground.connect(SOME);
    let commands: Vec<Vec<u8>> = (0..streams.len())
        .map(|n| {
            let key = format!("hostile:slow:{n}").into_bytes();
            [command(&[b"SET", &key, &key]), command(&[b"STRLEN", &key])].concat()
        })
        .collect();
    for at in 0..commands[0].len() {
        for (stream, bytes) in streams.iter_mut().zip(&commands) {
            stream.write_all(bytes.get(at..=at).unwrap_or_default()).expect("it breaks no rule");
        }
        std::thread::sleep(HOLD / 200);
    }
    for (n, (stream, bytes)) in streams.iter_mut().zip(&commands).enumerate() {
        stream.write_all(&bytes[commands[0].len()..]).expect("it breaks no rule");
        stream.set_read_timeout(Some(ANSWERED_WITHIN)).unwrap();
        let answer = format!("+OK\r\n:{}\r\n", format!("hostile:slow:{n}").len());
        let mut got = vec![0; answer.len()];
        stream.read_exact(&mut got).expect("an answer");
        assert_eq!(String::from_utf8_lossy(&got), answer);
    }
    leave(streams, random);
}

fn silence(ground: &Ground, random: &mut fastrand::Rng) {
    let streams = ground.connect(MANY);
    std::thread::sleep(HOLD);
    leave(streams, random);
}

/// What was whole before is answered.
fn half_closed(ground: &Ground, random: &mut fastrand::Rng) {
    let mut streams = ground.connect(SOME);
    for stream in &mut streams {
        send(stream, &command(&[b"ECHO", b"still here"]));
        send(stream, b"*3\r\n$3\r\nSET\r\n$9\r\nhostile:x\r\n$100\r\nnot a hundred");
        stream.shutdown(Shutdown::Write).expect("it is connected");
    }
    for stream in &mut streams {
        stream.set_read_timeout(Some(ANSWERED_WITHIN)).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).expect("closed in order");
        assert_eq!(String::from_utf8_lossy(&got), "$10\r\nstill here\r\n");
    }
    leave(streams, random);
}

fn reset_within(ground: &Ground, random: &mut fastrand::Rng) {
    let mut streams = ground.connect(FEW);
    for stream in &mut streams {
        send(stream, &command(&[b"GET", BIG]).repeat(3));
        read_away(stream, random.usize(..BIG_BYTES));
        let _ended = set_socket_linger(&*stream, Some(Duration::ZERO));
    }
}

fn churn(ground: &Ground, random: &mut fastrand::Rng) {
    for stream in ground.connect(MANY) {
        leave(vec![stream], random);
    }
}
