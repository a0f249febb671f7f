//! A client that pipelines transactions over several entities, in an open loop, while they move: each counts all of them up, and
//! every answer has to be the next one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Result;

/// An answer that takes longer is none.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Transactions that are sent before the first of them is answered.
const PIPELINE: u32 = 4;

/// Transactions on their way.
#[derive(Debug)]
pub struct Transactions {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Done>>,
}

/// What came of them.
#[derive(Clone, Debug)]
pub struct Done {
    /// Transactions.
    pub count: u64,
    /// The longest time from when a pipeline was due to its last answer.
    pub longest: Duration,
}

impl Transactions {
    /// Begins to count all of `keys` up together, `per_second` times a second.
    pub fn start(server: SocketAddr, keys: Vec<String>, per_second: u32) -> Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = std::thread::Builder::new().spawn(move || count(stream, &keys, per_second, &ended))?;
        Ok(Self { stop, thread })
    }

    /// Ends it: how many there were. An answer that was not the next number is an error.
    pub fn end(self) -> Result<Done> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_panic| "the thread of the transactions panicked")?
    }
}

fn count(stream: TcpStream, keys: &[String], per_second: u32, ended: &AtomicBool) -> Result<Done> {
    let mut stream = BufReader::new(stream);
    let increments: String = keys.iter().map(|key| format!("INCR {key}\r\n")).collect();
    let pipeline = format!("MULTI\r\n{increments}EXEC\r\n").repeat(PIPELINE as usize);
    let (begin, step) = (Instant::now(), Duration::from_secs(1) * PIPELINE / per_second.max(1));
    let mut done = Done { count: 0, longest: Duration::ZERO };
    while !ended.load(Ordering::Relaxed) {
        let due = begin + step.mul_f64((done.count / u64::from(PIPELINE)) as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.get_mut().write_all(pipeline.as_bytes())?;
        for _ in 0..PIPELINE {
            done.count += 1;
            answered(&mut stream, keys, done.count)?;
        }
        done.longest = done.longest.max(due.elapsed());
    }
    Ok(done)
}

/// Reads the answers to one transaction: each key is at `expected`.
fn answered(stream: &mut BufReader<TcpStream>, keys: &[String], expected: u64) -> Result<()> {
    let told = std::iter::once("+OK".to_owned())
        .chain(keys.iter().map(|_| "+QUEUED".to_owned()))
        .chain(std::iter::once(format!("*{}", keys.len())))
        .chain(keys.iter().map(|_| format!(":{expected}")));
    for wanted in told {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if line.trim_end() != wanted {
            return Err(format!("transaction {expected} over {keys:?}: {line:?}, not {wanted:?}").into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that answers every EXEC with the number of transactions so far, or, from `wrong` on, with one less.
    fn served(wrong: u64) -> Result<Done> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::Builder::new().spawn(move || {
            let (mut out, _) = listener.accept().unwrap();
            let mut executed = 0;
            for line in BufReader::new(out.try_clone().unwrap()).lines().map_while(std::io::Result::ok) {
                let answer = match &line[..4] {
                    "MULT" => "+OK\r\n".to_owned(),
                    "INCR" => "+QUEUED\r\n".to_owned(),
                    _ => {
                        executed += 1;
                        let n = if executed >= wrong { executed - 1 } else { executed };
                        format!("*2\r\n:{n}\r\n:{n}\r\n")
                    }
                };
                if out.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        });
        let keys = vec!["{a}:m".to_owned(), "{b}:m".to_owned()];
        let transactions = Transactions::start(address, keys, 4000).unwrap();
        let begin = Instant::now();
        while !transactions.thread.is_finished() && begin.elapsed() < Duration::from_millis(100) {
            std::thread::yield_now();
        }
        let done = transactions.end();
        server.unwrap().join().unwrap();
        done
    }

    #[test]
    fn answers_in_order_are_counted_and_one_told_twice_is_an_error() {
        assert!(served(u64::MAX).unwrap().count >= u64::from(PIPELINE));
        let error = served(3).unwrap_err().to_string();
        assert!(error.starts_with("transaction 3 over") && error.contains("\":2"), "{error}");
    }
}
