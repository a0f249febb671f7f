//! BITFIELD: integers of 1 to 64 bits anywhere in a string, the highest bit first.

use super::table::Id;
use super::{Context, StringAt, integer, is};
use crate::data::fault::{Fault, Result, SYNTAX};
use crate::resp::Args;

/// An integer type: `i` or `u`, and its width. Unsigned ones have at most 63 bits, so that a reply holds them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Type {
    signed: bool,
    bits: u32,
}

/// What happens to a number that does not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    kind: Type,
    offset: usize,
    action: Action,
    overflow: Overflow,
}

/// Runs BITFIELD, or BITFIELD_RO.
pub(super) async fn run(id: Id, cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let operations = parse(args, cx.string_bytes_max)?;
    let writes = operations.iter().any(|op| op.action != Action::Get);
    if writes && id == Id::BitfieldRo {
        return Err(Fault::text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    let StringAt { path, bytes, expiry } = cx.string(&args[1]).await?;
    let mut bytes = bytes.unwrap_or_default();
    if writes {
        let end = operations.iter().filter(|op| op.action != Action::Get).map(Operation::end_byte).max();
        let len = bytes.len().max(end.unwrap_or(0));
        cx.check_length(len)?;
        bytes.resize(len, 0);
    }
    cx.reply.array(operations.len());
    for operation in &operations {
        match operation.apply(&mut bytes) {
            Some(answer) => cx.reply.integer(answer),
            None => cx.reply.null(),
        }
    }
    if writes { cx.set_string(path, &bytes, expiry) } else { Ok(()) }
}

fn parse(args: Args<'_>, string_bytes_max: usize) -> Result<Vec<Operation>> {
    let mut operations = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut rest = args.from(2);
    while let Some(word) = rest.next() {
        if is(word, "OVERFLOW")
            && let Some(how) = rest.next()
        {
            overflow = match how.to_ascii_uppercase().as_slice() {
                b"WRAP" => Overflow::Wrap,
                b"SAT" => Overflow::Saturate,
                b"FAIL" => Overflow::Fail,
                _ => return Err(Fault::text("ERR Invalid OVERFLOW type specified")),
            };
            continue;
        }
        let (get, set, add) = (is(word, "GET"), is(word, "SET"), is(word, "INCRBY"));
        if !(get && rest.len() >= 2 || (set || add) && rest.len() >= 3) {
            return Err(SYNTAX);
        }
        let kind = Type::parse(rest.next().unwrap_or_default())?;
        let offset = parse_offset(rest.next().unwrap_or_default(), kind.bits, string_bytes_max)?;
        let action = if get {
            Action::Get
        } else {
            let number = integer(rest.next().unwrap_or_default())?;
            if set { Action::Set(number) } else { Action::Add(number) }
        };
        operations.push(Operation { kind, offset, action, overflow });
    }
    Ok(operations)
}

fn parse_offset(arg: &[u8], bits: u32, string_bytes_max: usize) -> Result<usize> {
    const OUT_OF_RANGE: Fault = Fault::text("ERR bit offset is not an integer or out of range");
    let (digits, unit) = match arg.strip_prefix(b"#") {
        Some(digits) => (digits, i64::from(bits)),
        None => (arg, 1),
    };
    let offset = integer(digits).ok().and_then(|n| n.checked_mul(unit)).ok_or(OUT_OF_RANGE)?;
    let offset = usize::try_from(offset).map_err(|_| OUT_OF_RANGE)?;
    let end = offset.checked_add(bits as usize).ok_or(OUT_OF_RANGE)?;
    if end.div_ceil(8) > string_bytes_max { Err(OUT_OF_RANGE) } else { Ok(offset) }
}

impl Type {
    fn parse(arg: &[u8]) -> Result<Self> {
        const INVALID: Fault = Fault::text(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        );
        let (signed, digits) = match arg.split_first() {
            Some((b'i' | b'I', digits)) => (true, digits),
            Some((b'u' | b'U', digits)) => (false, digits),
            _ => return Err(INVALID),
        };
        let bits = integer(digits).ok().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        if bits == 0 || bits > 63 + u32::from(signed) {
            return Err(INVALID);
        }
        Ok(Self { signed, bits })
    }

    const fn max(self) -> i128 {
        (1 << (self.bits - self.signed as u32)) - 1
    }

    const fn min(self) -> i128 {
        if self.signed { -(1 << (self.bits - 1)) } else { 0 }
    }

    /// The number whose lowest bits these are.
    const fn of_bits(self, number: i128) -> i128 {
        let cut = number & ((1 << self.bits) - 1);
        if self.signed && cut > self.max() { cut - (1 << self.bits) } else { cut }
    }

    fn fit(self, number: i128, overflow: Overflow) -> Option<i128> {
        if (self.min()..=self.max()).contains(&number) {
            return Some(number);
        }
        match overflow {
            Overflow::Wrap => Some(self.of_bits(number)),
            Overflow::Saturate => Some(number.clamp(self.min(), self.max())),
            Overflow::Fail => None,
        }
    }
}

impl Operation {
    fn end_byte(&self) -> usize {
        (self.offset + self.kind.bits as usize).div_ceil(8)
    }

    /// Its answer; none where the number did not fit and nothing was changed.
    fn apply(&self, bytes: &mut [u8]) -> Option<i64> {
        let before = self.read(bytes);
        let answer = match self.action {
            Action::Get => before,
            Action::Set(number) => {
                // A negative number stands for the same bits in an unsigned type.
                let number =
                    if self.kind.signed { i128::from(number) } else { i128::from(number.cast_unsigned()) };
                let number = self.kind.fit(number, self.overflow)?;
                self.write(bytes, number);
                before
            }
            Action::Add(amount) => {
                let sum = self.kind.fit(before + i128::from(amount), self.overflow)?;
                self.write(bytes, sum);
                sum
            }
        };
        i64::try_from(answer).ok()
    }

    fn read(&self, bytes: &[u8]) -> i128 {
        let bits = self.offset..self.offset + self.kind.bits as usize;
        let number = bits.fold(0, |number, bit| {
            let byte = bytes.get(bit / 8).copied().unwrap_or(0);
            number << 1 | i128::from(byte >> (7 - bit % 8) & 1)
        });
        self.kind.of_bits(number)
    }

    fn write(&self, bytes: &mut [u8], number: i128) {
        for n in 0..self.kind.bits {
            let bit = self.offset + n as usize;
            let value = u8::from(number >> (self.kind.bits - 1 - n) & 1 == 1);
            let shift = 7 - bit % 8;
            bytes[bit / 8] = bytes[bit / 8] & !(1 << shift) | value << shift;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(kind: &str, action: Action, overflow: Overflow, bytes: &mut [u8]) -> Option<i64> {
        let kind = Type::parse(kind.as_bytes()).unwrap();
        Operation { kind, offset: 3, action, overflow }.apply(bytes)
    }

    #[test]
    fn every_width_holds_its_ends_and_wraps_past_them() {
        for bits in 1..=64u32 {
            for signed in [true, false] {
                let kind = Type { signed, bits };
                if bits > 63 + u32::from(signed) {
                    continue;
                }
                let name = format!("{}{bits}", if signed { 'i' } else { 'u' });
                let (max, min) = (i64::try_from(kind.max()).unwrap(), i64::try_from(kind.min()).unwrap());
                let mut bytes = [0; 10];
                apply(&name, Action::Set(max), Overflow::Wrap, &mut bytes);
                assert_eq!(apply(&name, Action::Get, Overflow::Wrap, &mut bytes), Some(max), "{name}");
                assert_eq!(apply(&name, Action::Add(1), Overflow::Fail, &mut bytes), None);
                assert_eq!(apply(&name, Action::Add(1), Overflow::Saturate, &mut bytes), Some(max));
                assert_eq!(apply(&name, Action::Add(1), Overflow::Wrap, &mut bytes), Some(min));
                assert_eq!(apply(&name, Action::Add(-1), Overflow::Saturate, &mut bytes), Some(min));
            }
        }
    }

    #[test]
    fn types_out_of_range_are_refused() {
        for name in ["", "i", "u64", "i65", "i0", "x8", "u-1", "8"] {
            assert!(Type::parse(name.as_bytes()).is_err(), "{name}");
        }
    }
}
