//! What was done, counted: everything that costs follow from.

use crate::counters::Load;

/// Counts of what work consists of; the [cost](super::cost) is a sum over them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Work {
    /// Times that the core had nothing to do and waited for more: what it then finds has come together.
    pub wakes: u64,
    /// Receives from a connection, each with whatever commands came together.
    pub turns: u64,
    /// Commands.
    pub commands: u64,
    /// Bytes that crossed a socket.
    pub socket_bytes: u64,
    /// Operations on rows.
    pub operations: u64,
    /// Rows that were looked up.
    pub reads: u64,
    /// Rows beyond the first that pages had.
    pub page_rows: u64,
    /// Rows that were written.
    pub writes: u64,
    /// Bytes of rows that were written.
    pub bytes_in: u64,
    /// Bytes of rows that were read.
    pub bytes_out: u64,
    /// Batches of the log.
    pub log_batches: u64,
}

impl Work {
    /// An operation on rows.
    #[must_use]
    pub const fn of_operation(load: &Load) -> Self {
        let Load { reads, writes, bytes_in, bytes_out, service_nanos: _ } = *load;
        Self { operations: 1, reads, writes, bytes_in, bytes_out, ..Self::NONE }
    }

    /// The rows of a page, beside the operation that reads it.
    #[must_use]
    pub const fn of_page(rows: usize) -> Self {
        Self { page_rows: (rows as u64).saturating_sub(1), ..Self::NONE }
    }

    /// Commands that came together, beside their operations.
    #[must_use]
    pub const fn of_commands(commands: u64, socket_bytes: u64) -> Self {
        Self { turns: 1, commands, socket_bytes, ..Self::NONE }
    }

    /// Nothing.
    pub const NONE: Self = Self {
        wakes: 0,
        turns: 0,
        commands: 0,
        socket_bytes: 0,
        operations: 0,
        reads: 0,
        page_rows: 0,
        writes: 0,
        bytes_in: 0,
        bytes_out: 0,
        log_batches: 0,
    };

    /// The counts by their names.
    #[must_use]
    pub const fn counts(&self) -> [(&'static str, u64); 11] {
        [
            ("wakes", self.wakes),
            ("turns", self.turns),
            ("commands", self.commands),
            ("socket_bytes", self.socket_bytes),
            ("operations", self.operations),
            ("reads", self.reads),
            ("page_rows", self.page_rows),
            ("writes", self.writes),
            ("bytes_in", self.bytes_in),
            ("bytes_out", self.bytes_out),
            ("log_batches", self.log_batches),
        ]
    }

    /// Adds what else was done.
    #[inline]
    pub fn add(&mut self, more: &Self) {
        self.wakes += more.wakes;
        self.turns += more.turns;
        self.commands += more.commands;
        self.socket_bytes += more.socket_bytes;
        self.operations += more.operations;
        self.reads += more.reads;
        self.page_rows += more.page_rows;
        self.writes += more.writes;
        self.bytes_in += more.bytes_in;
        self.bytes_out += more.bytes_out;
        self.log_batches += more.log_batches;
    }
}
