//! A conversation with a server in memory: one that keeps its word, and ones that do not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;

use super::client::{Books, Client, Common};
use super::end::End;
use super::keys::{Distribution, Keys};
use super::layout::{Data, Layout};
use super::ledger::Ledger;
use super::measure::Measure;
use super::mix::Mix;
use super::plan::{Plan, Work};
use super::reply::{Parsed, Reply, parse};
use super::value::Filling;
use super::violation::Violation;

const RUN: u64 = 42;
const STEPS: u64 = 600;

/// What a server does wrong, now and then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// Acknowledges a write and does not keep it.
    Forgets,
    /// Brings an old value back.
    GoesBack,
    /// Keeps half of a transaction.
    Tears,
    FlipsBits,
    /// Gives one key's value for another's.
    Mixes,
    /// Refuses writes; that is no fault.
    Refuses,
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A server of one connection.
struct Server {
    rows: Rows,
    older: Rows,
    fault: Fault,
    random: Rng,
    queued: Option<Vec<Vec<Vec<u8>>>>,
    /// A command of the transaction was refused, and so will EXEC be.
    is_aborted: bool,
}

impl Server {
    fn is_faulty(&mut self, fault: Fault) -> bool {
        self.fault == fault && self.random.u8(0..20) == 0
    }

    /// Executes the first command of the bytes; returns how long it is.
    fn execute(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let Ok(Parsed::Whole { reply: Reply::Array(words), bytes: length }) = parse(bytes) else {
            panic!("no command: {}", bytes.escape_ascii())
        };
        let word = |word| if let Reply::Bulk(bytes) = word { bytes.to_vec() } else { panic!("{word:?}") };
        let words: Vec<Vec<u8>> = words.map(word).collect();
        match (&words[0][..], self.queued.take()) {
            (b"MULTI", None) => {
                self.queued = Some(Vec::new());
                out.extend(b"+OK\r\n");
            }
            (b"EXEC", Some(_)) if std::mem::take(&mut self.is_aborted) => out.extend(b"-EXECABORT no\r\n"),
            (b"EXEC", Some(queued)) => self.execute_all(queued, out),
            (b"SET", Some(queued)) if self.is_faulty(Fault::Refuses) => {
                self.is_aborted = true;
                self.queued = Some(queued);
                out.extend(b"-OOM no room\r\n");
            }
            (_, Some(mut queued)) => {
                queued.push(words);
                self.queued = Some(queued);
                out.extend(b"+QUEUED\r\n");
            }
            (b"SET" | b"HSET", None) if self.is_faulty(Fault::Refuses) => out.extend(b"-OOM no room\r\n"),
            (_, None) => self.command(&words, out),
        }
        length
    }

    fn execute_all(&mut self, queued: Vec<Vec<Vec<u8>>>, out: &mut Vec<u8>) {
        out.extend(format!("*{}\r\n", queued.len()).bytes());
        let whole = self.rows.clone();
        for words in &queued {
            self.command(words, out);
        }
        let last = queued.last().expect("a transaction has commands");
        if last[0] == b"SET" && self.is_faulty(Fault::Tears) {
            // The last key keeps what it had.
            match whole.get(&last[1]) {
                Some(value) => self.rows.insert(last[1].clone(), value.clone()),
                None => self.rows.remove(&last[1]),
            };
        }
    }

    fn command(&mut self, words: &[Vec<u8>], out: &mut Vec<u8>) {
        match (&words[0][..], &words[1..]) {
            (b"GET", [key]) => self.get(key.clone(), out),
            (b"HGET", [key, field]) => self.get([key.clone(), field.clone()].join(&b' '), out),
            (b"SET", [key, value]) => self.set(key.clone(), value, b"+OK\r\n", out),
            (b"HSET", [key, field, value]) => {
                self.set([key.clone(), field.clone()].join(&b' '), value, b":1\r\n", out);
            }
            (b"HSCAN", [key, ..]) => self.scan(key, out),
            (name, _) => panic!("{}", name.escape_ascii()),
        }
    }

    fn get(&mut self, mut key: Vec<u8>, out: &mut Vec<u8>) {
        if self.is_faulty(Fault::Mixes) {
            key = self.rows.keys().next().cloned().unwrap_or(key);
        }
        if self.is_faulty(Fault::GoesBack)
            && let Some(value) = self.older.get(&key)
        {
            self.rows.insert(key.clone(), value.clone());
        }
        match self.rows.get(&key).cloned() {
            None => out.extend(b"$-1\r\n"),
            Some(mut value) => {
                if self.is_faulty(Fault::FlipsBits) {
                    let at = self.random.usize(8..value.len());
                    value[at] ^= 1;
                }
                bulk(&value, out);
            }
        }
    }

    fn set(&mut self, key: Vec<u8>, value: &[u8], answer: &[u8], out: &mut Vec<u8>) {
        out.extend(answer);
        if !self.is_faulty(Fault::Forgets)
            && let Some(old) = self.rows.insert(key.clone(), value.to_vec())
        {
            self.older.insert(key, old);
        }
    }

    fn scan(&self, key: &[u8], out: &mut Vec<u8>) {
        let prefix = [key, b" "].concat();
        let found: Vec<_> = self.rows.iter().filter(|(row, _)| row.starts_with(&prefix)).collect();
        out.extend(format!("*2\r\n$1\r\n0\r\n*{}\r\n", found.len() * 2).bytes());
        for (row, value) in found {
            bulk(&row[prefix.len()..], out);
            bulk(value, out);
        }
    }
}

fn bulk(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend(format!("${}\r\n", bytes.len()).bytes());
    out.extend([bytes, b"\r\n"].concat());
}

fn common(data: Data) -> Arc<Common> {
    let members = if data == Data::Transactions { 3 } else { 1 };
    let fields = if data == Data::Hashes { 4 } else { 1 };
    let layout = Layout {
        data,
        prefix: "key:".into(),
        entities: 8,
        fields,
        members,
        connections: 1,
        names: Vec::new(),
    };
    Arc::new(Common {
        layout: Arc::new(layout),
        sizes: "44-90".parse().unwrap(),
        filling: Arc::new(Filling::new(Rng::with_seed(1))),
        depth: 4,
        run: RUN,
        end: Arc::new(End::new(Some(STEPS), Arc::default())),
    })
}

fn client(common: &Arc<Common>, work: Work, books: Books, seed: u64) -> Client {
    let plan = Plan::new((0, 0), common.layout.clone(), work, Rng::with_seed(seed));
    Client::new(common.clone(), 0, plan, None, books)
}

/// Talks to the end, with connections cut by chance; what the server executed of a cut one, chance decides too.
fn talk(client: &mut Client, server: &mut Server, cuts: bool, random: &mut Rng) -> Measure {
    let mut measure = Measure::new(false);
    let (mut requests, mut answers) = (Vec::new(), Vec::new());
    let mut now = 0;
    while !client.is_finished() {
        now += 1;
        assert!(now < STEPS * 10, "it ends");
        client.top_up(now, &mut requests);
        for _ in 0..random.u8(0..6) {
            if !requests.is_empty() {
                let length = server.execute(&requests, &mut answers);
                requests.drain(..length);
            }
        }
        if cuts && random.u8(0..30) == 0 {
            client.lost("cut", &mut measure);
            (requests, answers, server.queued) = (Vec::new(), Vec::new(), None);
            server.is_aborted = false;
        }
        while let Ok(Parsed::Whole { reply, bytes }) = parse(&answers) {
            client.reply(reply, now, &mut requests, &mut measure).unwrap();
            answers.drain(..bytes);
            if random.u8(0..3) == 0 {
                break;
            }
        }
    }
    measure
}

/// A run and its reading back.
fn verified(data: Data, fault: Fault, seed: u64) -> (Measure, Vec<Violation>) {
    let common = common(data);
    let mix: Mix = match data {
        Data::Hashes => "read=30,update=40,insert=3,scan=10,read_modify_write=10",
        Data::Strings | Data::Transactions => "read=30,update=50,insert=3,read_modify_write=10",
    }
    .parse()
    .unwrap();
    let keys = Arc::new(Keys::new(Distribution::Uniform, common.layout.cells()));
    let work = Work::Mixed { mix, keys, owned: true, operations: None };
    let own = Books::Own { ledger: Ledger::new(common.layout.cells()), untold: Vec::new() };
    let random = Rng::with_seed(seed + 1000);
    let (rows, older) = (Rows::new(), Rows::new());
    let mut server = Server { rows, older, fault, random: random.clone(), queued: None, is_aborted: false };
    let mut random = random;
    let mut run = client(&common, work, own, seed);
    let measure = talk(&mut run, &mut server, true, &mut random);
    let (books, mut violations) = run.into_books();
    let Books::Own { ledger, .. } = books else { panic!("they were its own") };
    let ledger = Arc::new(ledger);
    let mut back = client(&common, Work::ReadBack(ledger.clone()), Books::All(ledger.clone()), seed);
    let read = talk(&mut back, &mut server, true, &mut random);
    assert_eq!(read.operations(), ledger.written().count() as u64, "each is read back, cuts or not");
    violations.append(back.into_books().1);
    (measure, violations.kept)
}

const ALL: [Data; 3] = [Data::Strings, Data::Hashes, Data::Transactions];

#[test]
fn a_server_that_keeps_its_word_is_never_accused_however_often_connections_are_cut() {
    for seed in 0..40 {
        for data in ALL {
            for fault in [Fault::None, Fault::Refuses] {
                let (measure, violations) = verified(data, fault, seed);
                assert_eq!(violations, [], "seed {seed} {data:?} {fault:?}");
                assert!(measure.operations() > 100 && measure.errors().contains_key("cut"));
                assert_eq!(measure.errors().contains_key("OOM no room"), fault == Fault::Refuses);
            }
        }
    }
}

#[test]
fn a_server_that_does_not_is_accused_of_what_it_did() {
    for (fault, data, expected) in [
        (Fault::Forgets, Data::Strings, "lost"),
        (Fault::Forgets, Data::Hashes, "lost"),
        (Fault::Forgets, Data::Transactions, "torn"),
        (Fault::GoesBack, Data::Strings, "lost"),
        (Fault::GoesBack, Data::Hashes, "lost"),
        (Fault::GoesBack, Data::Transactions, "torn"),
        (Fault::Tears, Data::Transactions, "torn"),
        (Fault::FlipsBits, Data::Strings, "damaged"),
        (Fault::FlipsBits, Data::Transactions, "damaged"),
        (Fault::Mixes, Data::Strings, "misplaced"),
        (Fault::Mixes, Data::Hashes, "misplaced"),
    ] {
        for seed in 0..10 {
            let (_, violations) = verified(data, fault, seed);
            let kinds: BTreeSet<&str> = violations.iter().map(|violation| violation.what.as_str()).collect();
            assert!(kinds.contains(expected), "seed {seed} {fault:?} {data:?}: {kinds:?}");
        }
    }
}

#[test]
fn requests_do_not_depend_on_how_answers_come() {
    let requests = |seed: u64, chunk: usize| {
        let common = common(Data::Strings);
        let keys = Arc::new(Keys::new(Distribution::Uniform, 8));
        let work =
            Work::Mixed { mix: "read=1,update=1".parse().unwrap(), keys, owned: false, operations: Some(50) };
        let mut client = client(&common, work, Books::None, seed);
        let (mut all, mut answers, mut measure) = (Vec::new(), Vec::new(), Measure::new(false));
        let (rows, older) = (Rows::new(), Rows::new());
        let mut server = Server {
            rows,
            older,
            fault: Fault::None,
            random: Rng::with_seed(0),
            queued: None,
            is_aborted: false,
        };
        let mut executed = 0;
        for now in 0..STEPS {
            client.top_up(now.min(STEPS - 1), &mut all);
            for _ in 0..chunk {
                if executed < all.len() {
                    executed += server.execute(&all[executed..], &mut answers);
                }
            }
            while let Ok(Parsed::Whole { reply, bytes }) = parse(&answers) {
                client.reply(reply, now, &mut all, &mut measure).unwrap();
                answers.drain(..bytes);
            }
        }
        assert!(client.is_finished());
        assert_eq!(measure.operations(), 50);
        all
    };
    assert!(requests(5, 1) == requests(5, 4), "the same seed");
    assert!(requests(5, 1) != requests(6, 1), "another seed");
}

#[test]
fn an_answer_that_nothing_asked_for_is_an_error() {
    let common = common(Data::Strings);
    let mut client = client(&common, Work::Fill, Books::None, 1);
    let mut measure = Measure::new(false);
    let error = client.reply(Reply::Simple(b"OK"), 1, &mut Vec::new(), &mut measure).unwrap_err();
    assert!(error.contains("nothing asked for"));
}
