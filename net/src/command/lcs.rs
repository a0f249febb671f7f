//! LCS: the longest common subsequence of two strings.
//!
//! The table has a cell per pair of bytes, of four bytes each; its size is bounded, and it is filled in slices.

use super::{Context, integer, is};
use crate::data::fault::{Fault, Result, SYNTAX};
use crate::resp::Args;

/// Cells of the table: 64 MiB of them, a hundred milliseconds of work.
const CELLS_MAX: usize = 16 << 20;
/// Cells where only the length is asked for, of which two rows are kept: as many as Redis takes, a second of work.
const CELLS_OF_LENGTH_MAX: usize = 128 << 20;

#[derive(Clone, Copy, Default, Debug)]
struct Options {
    len: bool,
    matches: bool,
    match_lengths: bool,
    match_len_min: i64,
}

/// A run of bytes that both strings have: where it begins in each, and its length.
type Match = (usize, usize, usize);

/// Runs it.
pub(super) async fn run(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    const NOT_STRINGS: Fault = Fault::text("ERR The specified keys must contain string values");
    let a = cx.string(&args[1]).await.map_err(|e| not_strings(e, NOT_STRINGS))?.bytes.unwrap_or_default();
    let b = cx.string(&args[2]).await.map_err(|e| not_strings(e, NOT_STRINGS))?.bytes.unwrap_or_default();
    let options = options(args)?;
    let cells = (a.len() + 1).saturating_mul(b.len() + 1);
    let most = if options.len { CELLS_OF_LENGTH_MAX } else { CELLS_MAX };
    if cells > most {
        return Err(Fault::told(format!(
            "ERR Insufficient memory, transient memory for LCS exceeds {} bytes",
            most * size_of::<u32>()
        )));
    }
    if options.len {
        let len = length(cx, &a, &b).await;
        cx.reply.count(len);
        return Ok(());
    }
    let table = fill(cx, &a, &b).await;
    let len = table[cells - 1] as usize;
    let (common, matches) = trace(&table, &a, &b, len);
    if !options.matches {
        cx.reply.bulk(&common);
        return Ok(());
    }
    let least = usize::try_from(options.match_len_min).unwrap_or(0);
    let shown: Vec<Match> = matches.into_iter().filter(|m| m.2 >= least).collect();
    cx.reply.map(2);
    cx.reply.bulk(b"matches");
    cx.reply.array(shown.len());
    for (in_a, in_b, len) in shown {
        cx.reply.array(2 + usize::from(options.match_lengths));
        for start in [in_a, in_b] {
            cx.reply.array(2);
            cx.reply.count(start);
            cx.reply.count(start + len - 1);
        }
        if options.match_lengths {
            cx.reply.count(len);
        }
    }
    cx.reply.bulk(b"len");
    cx.reply.count(len);
    Ok(())
}

fn not_strings(fault: Fault, instead: Fault) -> Fault {
    match fault {
        Fault::Reply(text) if text.starts_with("WRONGTYPE") => instead,
        Fault::Reply(_) | Fault::Conflict | Fault::Moved(_) | Fault::Engine(_) => fault,
    }
}

fn options(args: Args<'_>) -> Result<Options> {
    let mut options = Options::default();
    let mut rest = args.from(3);
    while let Some(option) = rest.next() {
        if is(option, "IDX") {
            options.matches = true;
        } else if is(option, "LEN") {
            options.len = true;
        } else if is(option, "WITHMATCHLEN") {
            options.match_lengths = true;
        } else if is(option, "MINMATCHLEN")
            && let Some(least) = rest.next()
        {
            options.match_len_min = integer(least)?.max(0);
        } else {
            return Err(SYNTAX);
        }
    }
    if options.len && options.matches {
        return Err(Fault::text("ERR If you want both the length and indexes, please just use IDX."));
    }
    Ok(options)
}

/// Only the length: of the table two rows are kept, as long as the shorter string.
async fn length(cx: &Context<'_>, a: &[u8], b: &[u8]) -> usize {
    let (long, short) = if a.len() < b.len() { (b, a) } else { (a, b) };
    let (mut before, mut row) = (vec![0u32; short.len() + 1], vec![0u32; short.len() + 1]);
    let mut slice = cx.tx.shard().runtime().slice();
    for one in long {
        for (m, other) in short.iter().enumerate() {
            row[m + 1] = if one == other { before[m] + 1 } else { before[m + 1].max(row[m]) };
        }
        std::mem::swap(&mut before, &mut row);
        slice.pause().await;
    }
    before.last().map_or(0, |len| *len as usize)
}

/// Lengths of the longest common subsequences of all pairs of prefixes, a row per prefix of `a`.
async fn fill(cx: &Context<'_>, a: &[u8], b: &[u8]) -> Vec<u32> {
    let width = b.len() + 1;
    let mut table = vec![0u32; (a.len() + 1) * width];
    let mut slice = cx.tx.shard().runtime().slice();
    for (n, from_a) in a.iter().enumerate() {
        let (before, row) = table[n * width..(n + 2) * width].split_at_mut(width);
        for (m, from_b) in b.iter().enumerate() {
            row[m + 1] = if from_a == from_b { before[m] + 1 } else { before[m + 1].max(row[m]) };
        }
        slice.pause().await;
    }
    table
}

/// The subsequence, and its runs from the last to the first.
fn trace(table: &[u32], a: &[u8], b: &[u8], len: usize) -> (Vec<u8>, Vec<Match>) {
    let width = b.len() + 1;
    let (mut common, mut matches) = (Vec::with_capacity(len), Vec::new());
    let (mut n, mut m) = (a.len(), b.len());
    let mut run: Option<Match> = None;
    while n > 0 && m > 0 {
        if a[n - 1] == b[m - 1] {
            (n, m) = (n - 1, m - 1);
            common.push(a[n]);
            run = Some((n, m, run.map_or(0, |r| r.2) + 1));
        } else {
            matches.extend(run.take());
            if table[(n - 1) * width + m] > table[n * width + m - 1] {
                n -= 1;
            } else {
                m -= 1;
            }
        }
    }
    matches.extend(run);
    common.reverse();
    (common, matches)
}
