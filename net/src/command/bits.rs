//! Commands on the bits of strings, the highest bit of the first byte being bit 0.

use super::table::Id;
use super::{Context, StringAt, integer, is};
use crate::data::fault::{Fault, Result, SYNTAX};
use crate::resp::Args;

/// Runs one of them.
pub(super) async fn run(id: Id, cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    match id {
        Id::Setbit => set(cx, args).await,
        Id::Getbit => get(cx, args).await,
        Id::Bitcount => count(cx, args).await,
        Id::Bitpos => position(cx, args).await,
        Id::Bitop => combine(cx, args).await,
        _ => super::bitfield::run(id, cx, args).await,
    }
}

/// A bit's place: one that a string may reach.
pub(super) fn offset(arg: &[u8], string_bytes_max: usize) -> Result<usize> {
    const OUT_OF_RANGE: Fault = Fault::text("ERR bit offset is not an integer or out of range");
    let bit = integer(arg).map_err(|_| OUT_OF_RANGE)?;
    let bit = usize::try_from(bit).map_err(|_| OUT_OF_RANGE)?;
    if bit / 8 >= string_bytes_max { Err(OUT_OF_RANGE) } else { Ok(bit) }
}

fn bit_at(bytes: &[u8], bit: usize) -> u8 {
    bytes.get(bit / 8).map_or(0, |byte| byte >> (7 - bit % 8) & 1)
}

async fn set(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    const NOT_A_BIT: Fault = Fault::text("ERR bit is not an integer or out of range");
    let bit = offset(&args[2], cx.string_bytes_max)?;
    let value = match integer(&args[3]).map_err(|_| NOT_A_BIT)? {
        0 => 0,
        1 => 1,
        _ => return Err(NOT_A_BIT),
    };
    let StringAt { path, bytes, expiry } = cx.string(&args[1]).await?;
    let mut bytes = bytes.unwrap_or_default();
    cx.reply.integer(i64::from(bit_at(&bytes, bit)));
    if bytes.len() <= bit / 8 {
        bytes.resize(bit / 8 + 1, 0);
    }
    let shift = 7 - bit % 8;
    bytes[bit / 8] = bytes[bit / 8] & !(1 << shift) | value << shift;
    cx.set_string(path, &bytes, expiry)
}

async fn get(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let bit = offset(&args[2], cx.string_bytes_max)?;
    let found = cx.string(&args[1]).await?;
    cx.reply.integer(i64::from(bit_at(&found.bytes.unwrap_or_default(), bit)));
    Ok(())
}

/// Whether a range counts in bits; bytes otherwise.
fn counts_bits(arg: Option<&[u8]>) -> Result<bool> {
    match arg {
        None => Ok(false),
        Some(unit) if is(unit, "BIT") => Ok(true),
        Some(unit) if is(unit, "BYTE") => Ok(false),
        Some(_) => Err(SYNTAX),
    }
}

/// The bits of a range that may count in either, both ends within, as places from the start.
fn bits_of(start: i64, end: i64, in_bits: bool, bytes: usize) -> (usize, usize) {
    let unit = if in_bits { 1 } else { 8 };
    let (start, end) = super::ranges::clamp(start, end, bytes * 8 / unit);
    (start * unit, end * unit)
}

async fn count(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let range = match args.len() {
        2 => None,
        4 | 5 => Some((integer(&args[2])?, integer(&args[3])?, counts_bits(args.get(4))?)),
        _ => return Err(SYNTAX),
    };
    let bytes = cx.string(&args[1]).await?.bytes.unwrap_or_default();
    let (start, end) = match range {
        None => (0, bytes.len() * 8),
        Some((start, end, in_bits)) => bits_of(start, end, in_bits, bytes.len()),
    };
    cx.reply.count(ones(&bytes, start, end));
    Ok(())
}

/// How many bits of `start..end` are set.
fn ones(bytes: &[u8], start: usize, end: usize) -> usize {
    let (first, last) = (start.div_ceil(8), end / 8);
    if first > last {
        return (start..end).filter(|&bit| bit_at(bytes, bit) == 1).count();
    }
    let edges = (start..first * 8).chain(last * 8..end).filter(|&bit| bit_at(bytes, bit) == 1).count();
    edges + bytes[first..last].iter().map(|byte| byte.count_ones() as usize).sum::<usize>()
}

async fn position(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let bit = match integer(&args[2])? {
        0 => 0,
        1 => 1,
        _ => return Err(Fault::text("ERR The bit argument must be 1 or 0.")),
    };
    if args.len() > 6 {
        return Err(SYNTAX);
    }
    let in_bits = counts_bits(args.get(5))?;
    let start = args.get(3).map_or(Ok(0), integer)?;
    let has_end = args.len() > 4;
    let end = args.get(4).map_or(Ok(-1), integer)?;
    let Some(bytes) = cx.string(&args[1]).await?.bytes else {
        // A string of no bytes is followed by zeros without end.
        cx.reply.integer(if bit == 1 { -1 } else { 0 });
        return Ok(());
    };
    let (start, end) = bits_of(start, end, in_bits, bytes.len());
    let found = first_of(&bytes, start, end, bit);
    let found = match found {
        Some(found) => i64::try_from(found).unwrap_or(i64::MAX),
        // Without an end, the string is followed by zeros.
        None if bit == 0 && !has_end && start < end => i64::try_from(bytes.len() * 8).unwrap_or(i64::MAX),
        None => -1,
    };
    cx.reply.integer(found);
    Ok(())
}

/// The first bit of `start..end` that is `wanted`.
fn first_of(bytes: &[u8], start: usize, end: usize, wanted: u8) -> Option<usize> {
    let skipped = if wanted == 1 { 0x00 } else { 0xff };
    let mut bit = start;
    while bit < end {
        if bit.is_multiple_of(8) && bit + 8 <= end && bytes[bit / 8] == skipped {
            bit += 8;
        } else if bit_at(bytes, bit) == wanted {
            return Some(bit);
        } else {
            bit += 1;
        }
    }
    None
}

async fn combine(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let operation: fn(u8, u8) -> u8 = match args[1].to_ascii_uppercase().as_slice() {
        b"AND" => |a, b| a & b,
        b"OR" => |a, b| a | b,
        b"XOR" => |a, b| a ^ b,
        b"NOT" if args.len() == 4 => |a, _| !a,
        b"NOT" => return Err(Fault::text("ERR BITOP NOT must be called with a single source key.")),
        _ => return Err(SYNTAX),
    };
    let mut sources = Vec::with_capacity(args.len() - 3);
    for key in args.from(3) {
        sources.push(cx.string(key).await?.bytes.unwrap_or_default());
    }
    let len = sources.iter().map(Vec::len).max().unwrap_or(0);
    let mut sources = sources.into_iter();
    let mut result = sources.next().unwrap_or_default();
    result.resize(len, 0);
    if is(&args[1], "NOT") {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    for source in sources {
        for (n, byte) in result.iter_mut().enumerate() {
            *byte = operation(*byte, source.get(n).copied().unwrap_or(0));
        }
    }
    let (path, held) = cx.look_up(&args[2]).await?;
    cx.reply.count(len);
    match held {
        Some(held) if len == 0 => cx.delete(path, &held),
        None if len == 0 => Ok(()),
        _ => cx.set_string(path, &result, foreshard_engine::entry::Expiry::NEVER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_and_searching_agree_with_looking_at_each_bit() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2000 {
            let bytes: Vec<u8> =
                (0..random.usize(0..6)).map(|_| *random.choice(&[0x00, 0xff, 0x0f, 0x81]).unwrap()).collect();
            let end = random.usize(0..=bytes.len() * 8);
            let start = random.usize(0..=end);
            let each =
                |wanted: u8| (start..end).filter(|&bit| bit_at(&bytes, bit) == wanted).collect::<Vec<_>>();
            assert_eq!(ones(&bytes, start, end), each(1).len(), "{bytes:?} {start}..{end}");
            for wanted in [0, 1] {
                assert_eq!(first_of(&bytes, start, end, wanted), each(wanted).first().copied());
            }
        }
    }
}
