//! An open loop on one counter of one entity: a request is due at a time fixed ahead, and its delay counts from then, so
//! that a server that has it wait is charged for all that wait behind it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Result;

/// A request without an answer for so long is lost.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Requests that are sent at once, at most: a writer that was away for long is not to fill the socket in one call.
const BURST_MAX: usize = 1024;

/// Requests on their way to one entity.
#[derive(Debug)]
pub struct Probe {
    stop: Arc<AtomicBool>,
    writer: JoinHandle<std::io::Result<u64>>,
    reader: JoinHandle<std::io::Result<Vec<Answer>>>,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// When it was due.
    pub due: Instant,
    /// From then to its answer.
    pub delay: Duration,
    /// The counter, or what was wrong.
    pub said: Result<u64, String>,
}

impl Probe {
    /// Begins to count `key` up, `per_second` times a second.
    pub fn start(server: SocketAddr, key: &str, per_second: u32) -> Result<Self> {
        let mut stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (begin, step) = (Instant::now(), Duration::from_secs(1) / per_second.max(1));
        let lines = BufReader::new(stream.try_clone()?);
        let request = format!("INCR {key}\r\n");
        let ended = Arc::clone(&stop);
        let writer = std::thread::Builder::new().spawn(move || {
            let mut sent = 0_u64;
            while !ended.load(Ordering::Relaxed) {
                let due = begin + step.mul_f64(sent as f64);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                // Whatever has come to be due meanwhile goes out at once: at tens of thousands a second a call each is too slow.
                let due_by_now = begin.elapsed().as_nanos() / step.as_nanos().max(1) + 1;
                let burst = usize::try_from(due_by_now.saturating_sub(u128::from(sent))).unwrap_or(BURST_MAX);
                let burst = burst.clamp(1, BURST_MAX);
                stream.write_all(request.repeat(burst).as_bytes())?;
                sent += burst as u64;
            }
            // The reader reads to the end of what was answered.
            stream.write_all(b"QUIT\r\n")?;
            Ok(sent)
        })?;
        let reader = std::thread::Builder::new().spawn(move || {
            let mut answers = Vec::new();
            for line in lines.lines() {
                let line = line?;
                if line == "+OK" {
                    break;
                }
                let due = begin + step.mul_f64(answers.len() as f64);
                let said = line.strip_prefix(':').and_then(|n| n.parse().ok()).ok_or(line);
                answers.push(Answer { due, delay: Instant::now().saturating_duration_since(due), said });
            }
            Ok(answers)
        })?;
        Ok(Self { stop, writer, reader })
    }

    /// Ends it: all answers, in order.
    pub fn end(self) -> Result<Vec<Answer>> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.writer.join().map_err(|_panic| "the probe's writer panicked")??;
        let answers = self.reader.join().map_err(|_panic| "the probe's reader panicked")??;
        if answers.len() as u64 != sent {
            return Err(format!("{sent} requests, and {} answers", answers.len()).into());
        }
        Ok(answers)
    }
}

/// Everything that is wrong with the answers to somebody who alone counts from `from` on: errors, and numbers that are not
/// the next one.
#[must_use]
pub fn wrong(answers: &[Answer], from: u64) -> Vec<String> {
    let expected = from + 1..;
    let pairs = answers.iter().zip(expected);
    pairs
        .filter_map(|(answer, expected)| match &answer.said {
            Ok(n) if *n == expected => None,
            Ok(n) => Some(format!("counted {n}, not {expected}")),
            Err(said) => Some(said.clone()),
        })
        .collect()
}

/// The longest delay of what was due within a time.
#[must_use]
pub fn longest(answers: &[Answer], from: Instant, to: Instant) -> Option<Duration> {
    answers.iter().filter(|a| (from..to).contains(&a.due)).map(|a| a.delay).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(due: Instant, millis: u64, said: Result<u64, String>) -> Answer {
        Answer { due, delay: Duration::from_millis(millis), said }
    }

    #[test]
    fn a_number_that_is_left_out_or_told_twice_is_wrong_and_so_is_an_error() {
        let now = Instant::now();
        let answers = [Ok(8), Ok(9), Ok(9), Err("-TRYAGAIN".to_owned())].map(|said| answer(now, 1, said));
        assert_eq!(wrong(&answers[..2], 7), Vec::<String>::new());
        assert_eq!(wrong(&answers, 7), ["counted 9, not 10", "-TRYAGAIN"]);
    }

    #[test]
    fn delays_count_where_they_were_due() {
        let now = Instant::now();
        let at = |millis| now + Duration::from_millis(millis);
        let answers = [answer(at(0), 9, Ok(1)), answer(at(5), 3, Ok(2)), answer(at(10), 7, Ok(3))];
        assert_eq!(longest(&answers, at(1), at(10)), Some(Duration::from_millis(3)));
        assert_eq!(longest(&answers, at(11), at(20)), None);
    }
}
