//! A server of the Redis protocol in this process: strings, hashes, transactions, and faults on demand.
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A key, or a key and a field, and the value.
pub(crate) type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
type Command = Vec<Vec<u8>>;

/// What a server does other than it should.
#[derive(Clone, Default)]
pub(crate) struct Manners {
    pub(crate) password: Option<String>,
    /// Every so many commands a connection is cut, before or after the command is executed in turn.
    pub(crate) cut_every: Option<u64>,
    /// Every so many writes one is acknowledged and not kept.
    pub(crate) forget_every: Option<u64>,
    /// Before this command it sleeps.
    pub(crate) stall: Option<(u64, Duration)>,
    /// This command is never answered, nor any later one of its connection.
    pub(crate) hang: Option<u64>,
    /// Commands are logged.
    pub(crate) logs: bool,
    /// The first connections that greet are told that data is being loaded.
    pub(crate) loading_greetings: u64,
}

struct State {
    rows: Mutex<Rows>,
    log: Mutex<Vec<Vec<u8>>>,
    manners: Manners,
    commands: AtomicU64,
    writes: AtomicU64,
    greetings: AtomicU64,
}

/// A server that listens as long as this process lives.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Server {
    pub(crate) fn start(manners: Manners, rows: Rows) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            rows: Mutex::new(rows),
            log: Mutex::default(),
            manners,
            commands: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            greetings: AtomicU64::new(0),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let state = shared.clone();
                std::thread::spawn(move || serve(&state, socket.unwrap()));
            }
        });
        Self { address, state }
    }

    pub(crate) fn rows(&self) -> Rows {
        lock(&self.state.rows).clone()
    }

    pub(crate) fn log(&self) -> Vec<Vec<u8>> {
        lock(&self.state.log).clone()
    }
}

fn serve(state: &State, socket: TcpStream) {
    socket.set_nodelay(true).unwrap();
    let mut input = BufReader::new(socket.try_clone().unwrap());
    let mut output = socket;
    let mut is_known = state.manners.password.is_none();
    let mut queued: Option<Vec<Command>> = None;
    while let Some(command) = read_command(&mut input) {
        let number = state.commands.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some((_, pause)) = state.manners.stall.filter(|(at, _)| *at == number) {
            std::thread::sleep(pause);
        }
        while state.manners.hang == Some(number) {
            std::thread::park();
        }
        if state.manners.logs {
            lock(&state.log).push(command.join(&b' '));
        }
        let cut = state.manners.cut_every.filter(|every| number.is_multiple_of(*every));
        if cut.is_some_and(|every| (number / every).is_multiple_of(2)) {
            return;
        }
        let mut answer = Vec::new();
        if let Some(granted) = greeting(state, &command, is_known) {
            is_known |= granted.starts_with(b"+") && command[0] != b"PING";
            answer = granted;
        } else {
            transact(state, command, &mut queued, &mut answer);
        }
        if cut.is_some() || output.write_all(&answer).is_err() {
            return;
        }
    }
}

/// The answer to what comes before requests, or a refusal to do anything.
fn greeting(state: &State, command: &Command, is_known: bool) -> Option<Vec<u8>> {
    let password = state.manners.password.as_deref().unwrap_or("").as_bytes();
    Some(match &command[0][..] {
        b"AUTH" if command.last().unwrap() == password => b"+OK\r\n".to_vec(),
        b"AUTH" => b"-WRONGPASS invalid username-password pair\r\n".to_vec(),
        b"HELLO" => b"*2\r\n$5\r\nproto\r\n:2\r\n".to_vec(),
        b"CLIENT" => b":0\r\n".to_vec(),
        _ if !is_known => b"-NOAUTH Authentication required.\r\n".to_vec(),
        b"PING" => {
            let number = state.greetings.fetch_add(1, Ordering::Relaxed);
            let is_loading = number < state.manners.loading_greetings;
            if is_loading { b"-LOADING data is loaded\r\n".to_vec() } else { b"+PONG\r\n".to_vec() }
        }
        _ => return None,
    })
}

fn transact(state: &State, command: Command, queued: &mut Option<Vec<Command>>, answer: &mut Vec<u8>) {
    match (&command[0][..], queued.take()) {
        (b"MULTI", None) => {
            *queued = Some(Vec::new());
            answer.extend(b"+OK\r\n");
        }
        (b"EXEC", Some(commands)) => {
            let mut rows = lock(&state.rows);
            answer.extend(format!("*{}\r\n", commands.len()).bytes());
            commands.iter().for_each(|command| execute(state, command, &mut rows, answer));
        }
        (_, Some(mut commands)) => {
            commands.push(command);
            *queued = Some(commands);
            answer.extend(b"+QUEUED\r\n");
        }
        (_, None) => execute(state, &command, &mut lock(&state.rows), answer),
    }
}

fn execute(state: &State, command: &Command, rows: &mut Rows, answer: &mut Vec<u8>) {
    let row = |key: &[u8], field: &[u8]| [key, b" ", field].concat();
    match (&command[0][..], &command[1..]) {
        (b"GET", [key]) => put(rows.get(key), answer),
        (b"HGET", [key, field]) => put(rows.get(&row(key, field)), answer),
        (b"SET", [key, value]) => {
            keep(state, key.clone(), value, rows);
            answer.extend(b"+OK\r\n");
        }
        (b"HSET", [key, field, value]) => {
            keep(state, row(key, field), value, rows);
            answer.extend(b":1\r\n");
        }
        (b"HSCAN", [key, _, _, count]) => {
            let count: usize = String::from_utf8(count.clone()).unwrap().parse().unwrap();
            let prefix = row(key, b"");
            let found: Vec<_> = rows.iter().filter(|(row, _)| row.starts_with(&prefix)).take(count).collect();
            answer.extend(format!("*2\r\n$1\r\n0\r\n*{}\r\n", found.len() * 2).bytes());
            for (row, value) in found {
                put(Some(&row[prefix.len()..].to_vec()), answer);
                put(Some(value), answer);
            }
        }
        (name, _) => answer.extend(format!("-ERR unknown command '{}'\r\n", name.escape_ascii()).bytes()),
    }
}

fn keep(state: &State, row: Vec<u8>, value: &[u8], rows: &mut Rows) {
    let number = state.writes.fetch_add(1, Ordering::Relaxed) + 1;
    if state.manners.forget_every.is_none_or(|every| !number.is_multiple_of(every)) {
        rows.insert(row, value.to_vec());
    }
}

fn put(value: Option<&Vec<u8>>, answer: &mut Vec<u8>) {
    match value {
        None => answer.extend(b"$-1\r\n"),
        Some(value) => {
            answer.extend(format!("${}\r\n", value.len()).bytes());
            answer.extend([value, &b"\r\n"[..]].concat());
        }
    }
}

/// The next command; none when the connection ends.
fn read_command(input: &mut impl BufRead) -> Option<Command> {
    let mut line = String::new();
    let mut header = |input: &mut dyn BufRead| -> Option<usize> {
        line.clear();
        input.read_line(&mut line).ok()?;
        line.trim_end().get(1..)?.parse().ok()
    };
    let words = header(input)?;
    let mut command = Vec::new();
    for _ in 0..words {
        let length = header(input)?;
        let mut word = vec![0; length + 2];
        input.read_exact(&mut word).ok()?;
        word.truncate(length);
        command.push(word);
    }
    Some(command)
}
