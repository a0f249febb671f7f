//! What is counted: requests, bytes and time.

use zerocopy::FromZeros;

use super::heavy::Tally;

/// What one request, or one tick, cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromZeros)]
#[repr(C)]
pub struct Load {
    /// Rows or commands read, as the caller counts them.
    pub reads: u64,
    /// Rows or commands written.
    pub writes: u64,
    /// Bytes that came in.
    pub bytes_in: u64,
    /// Bytes that went out.
    pub bytes_out: u64,
    /// Time of the core it took.
    pub service_nanos: u64,
}

/// A partition's load, and what failed in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PartitionLoad {
    /// What was served.
    pub load: Load,
    /// Requests that failed.
    pub errors: u64,
}

/// How often.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromZeros)]
#[repr(C)]
pub(super) struct Count(pub(super) u64);

impl Load {
    /// By what entities compete for a place: nanoseconds, plus one for each byte and request. A byte weighs about
    /// what a core needs to check, copy and compress it; a request weighs something even where the clock is coarse.
    #[must_use]
    pub const fn weight(&self) -> u64 {
        self.service_nanos
            .saturating_add(self.bytes_in)
            .saturating_add(self.bytes_out)
            .saturating_add(self.reads)
            .saturating_add(self.writes)
    }

    /// Adds `other`, component by component.
    pub const fn add(&mut self, other: &Self) {
        self.reads = self.reads.saturating_add(other.reads);
        self.writes = self.writes.saturating_add(other.writes);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.service_nanos = self.service_nanos.saturating_add(other.service_nanos);
    }

    /// As much as `operations` like this one, whose service time is that of all of them already.
    pub(super) const fn counted_for(&self, operations: u32) -> Self {
        let times = operations as u64;
        Self {
            reads: self.reads.saturating_mul(times),
            writes: self.writes.saturating_mul(times),
            bytes_in: self.bytes_in.saturating_mul(times),
            bytes_out: self.bytes_out.saturating_mul(times),
            service_nanos: self.service_nanos,
        }
    }

    fn zip(&self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            reads: f(self.reads, other.reads),
            writes: f(self.writes, other.writes),
            bytes_in: f(self.bytes_in, other.bytes_in),
            bytes_out: f(self.bytes_out, other.bytes_out),
            service_nanos: f(self.service_nanos, other.service_nanos),
        }
    }
}

impl Tally for Load {
    #[inline]
    fn weight(&self) -> u64 {
        self.weight()
    }

    #[inline]
    fn add(&mut self, other: &Self) {
        self.add(other);
    }

    fn max(&mut self, other: &Self) {
        *self = self.zip(other, u64::max);
    }

    fn min(&self, bound: u64) -> Self {
        self.zip(self, |a, _| a.min(bound))
    }
}

impl Tally for Count {
    fn weight(&self) -> u64 {
        self.0
    }

    fn add(&mut self, other: &Self) {
        self.0 = self.0.saturating_add(other.0);
    }

    fn max(&mut self, other: &Self) {
        self.0 = self.0.max(other.0);
    }

    fn min(&self, bound: u64) -> Self {
        Self(self.0.min(bound))
    }
}
