//! Commands on parts of strings.

use super::table::Id;
use super::{Context, StringAt, integer};
use crate::data::fault::{Fault, Result};
use crate::resp::Args;

/// Runs one of them.
pub(super) async fn run(id: Id, cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    match id {
        Id::Append => append(cx, args).await,
        Id::Strlen => {
            let found = cx.string(&args[1]).await?;
            cx.reply.count(found.bytes.map_or(0, |bytes| bytes.len()));
            Ok(())
        }
        Id::Setrange => set_range(cx, args).await,
        _ => get_range(cx, args).await,
    }
}

async fn append(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let StringAt { path, bytes, expiry } = cx.string(&args[1]).await?;
    let mut bytes = bytes.unwrap_or_default();
    cx.check_length(bytes.len() + args[2].len())?;
    bytes.extend_from_slice(&args[2]);
    cx.reply.count(bytes.len());
    cx.set_string(path, &bytes, expiry)
}

async fn get_range(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let (start, end) = (integer(&args[2])?, integer(&args[3])?);
    let found = cx.string(&args[1]).await?;
    let bytes = found.bytes.unwrap_or_default();
    let (start, end) = clamp(start, end, bytes.len());
    cx.reply.bulk(&bytes[start..end]);
    Ok(())
}

/// A range with both ends within, negative ones from the end, as places in a string of `len`.
pub(super) fn clamp(start: i64, end: i64, len: usize) -> (usize, usize) {
    if start < 0 && end < 0 && start > end {
        return (0, 0);
    }
    let place = |n: i64| match usize::try_from(n) {
        Ok(n) => n,
        Err(_) => len.saturating_sub(usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    let (start, end) = (place(start), place(end).saturating_add(1).min(len));
    if start >= end { (0, 0) } else { (start, end) }
}

async fn set_range(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let offset =
        usize::try_from(integer(&args[2])?).map_err(|_| Fault::text("ERR offset is out of range"))?;
    let part = &args[3];
    let StringAt { path, bytes, expiry } = cx.string(&args[1]).await?;
    let mut bytes = bytes.unwrap_or_default();
    if part.is_empty() {
        cx.reply.count(bytes.len());
        return Ok(());
    }
    let end = offset.saturating_add(part.len());
    cx.check_length(end)?;
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(part);
    cx.reply.count(bytes.len());
    cx.set_string(path, &bytes, expiry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_clamped_as_redis_does() {
        let cases = [
            ((0, 3), (0, 4)),
            ((-3, -1), (2, 5)),
            ((0, -1), (0, 5)),
            ((10, 100), (0, 0)),
            ((-1, -3), (0, 0)),
            ((3, 1), (0, 0)),
            ((-100, 1), (0, 2)),
            ((0, -100), (0, 1)),
            ((i64::MIN, i64::MAX), (0, 5)),
        ];
        for ((start, end), want) in cases {
            assert_eq!(clamp(start, end, 5), want, "{start}..={end}");
        }
        assert_eq!(clamp(0, -1, 0), (0, 0));
    }
}
