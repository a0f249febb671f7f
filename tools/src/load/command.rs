//! The commands that read, write and scan a cell. No I/O.
//!
//! Invariant: a command has as many answers as `answers` says, and the last one is what it came to.

use std::sync::Arc;

use super::layout::{Data, Layout};
use super::request::{command, decimal, word, words};

/// Puts commands into a buffer.
#[derive(Debug)]
pub(crate) struct Commands {
    layout: Arc<Layout>,
    /// The name being put; kept for its memory.
    name: Vec<u8>,
}

impl Commands {
    pub(crate) fn new(layout: Arc<Layout>) -> Self {
        Self { layout, name: Vec::new() }
    }

    /// How many answers a read or a write has: a transaction one for MULTI, for each command, and for EXEC.
    pub(crate) fn answers(&self) -> u32 {
        let is_transaction = self.layout.data == Data::Transactions;
        if is_transaction { u32::from(self.layout.members) + 2 } else { 1 }
    }

    /// Reads the cell.
    pub(crate) fn read(&mut self, cell: u64, out: &mut Vec<u8>) {
        match self.layout.data {
            Data::Strings => {
                words(out, 2);
                word(out, b"GET");
                self.key(cell, 0, out);
            }
            Data::Hashes => {
                words(out, 3);
                word(out, b"HGET");
                self.key(cell, 0, out);
                self.field(cell, out);
            }
            Data::Transactions => {
                command(out, &[b"MULTI"]);
                for member in 0..self.layout.members {
                    words(out, 2);
                    word(out, b"GET");
                    self.key(cell, member, out);
                }
                command(out, &[b"EXEC"]);
            }
        }
    }

    /// Writes the cell; `value` puts, as a word, what a member is to have.
    pub(crate) fn write(&mut self, cell: u64, out: &mut Vec<u8>, mut value: impl FnMut(u16, &mut Vec<u8>)) {
        match self.layout.data {
            Data::Strings => {
                words(out, 3);
                word(out, b"SET");
                self.key(cell, 0, out);
                value(0, out);
            }
            Data::Hashes => {
                words(out, 4);
                word(out, b"HSET");
                self.key(cell, 0, out);
                self.field(cell, out);
                value(0, out);
            }
            Data::Transactions => {
                command(out, &[b"MULTI"]);
                for member in 0..self.layout.members {
                    words(out, 3);
                    word(out, b"SET");
                    self.key(cell, member, out);
                    value(member, out);
                }
                command(out, &[b"EXEC"]);
            }
        }
    }

    /// Scans the hash that the cell is in; `rows` is a hint to the server.
    pub(crate) fn scan(&mut self, cell: u64, rows: u32, out: &mut Vec<u8>) {
        words(out, 5);
        word(out, b"HSCAN");
        self.key(cell, 0, out);
        word(out, b"0");
        word(out, b"COUNT");
        self.name.clear();
        decimal(&mut self.name, u64::from(rows), 1);
        word(out, &self.name);
    }

    fn key(&mut self, cell: u64, member: u16, out: &mut Vec<u8>) {
        self.name.clear();
        self.layout.put_key(cell, member, &mut self.name);
        word(out, &self.name);
    }

    fn field(&mut self, cell: u64, out: &mut Vec<u8>) {
        self.name.clear();
        self.layout.put_field(cell, &mut self.name);
        word(out, &self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(data: Data, put: impl FnOnce(&mut Commands, &mut Vec<u8>)) -> String {
        let prefix = "k".into();
        let layout =
            Layout { data, prefix, entities: 9, fields: 4, members: 2, connections: 1, names: Vec::new() };
        let mut out = Vec::new();
        put(&mut Commands::new(Arc::new(layout)), &mut out);
        let text = String::from_utf8(out).unwrap();
        let is_word = |line: &&str| !line.starts_with(['*', '$']);
        text.split("\r\n").filter(is_word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn commands_are_these_words() {
        let value = |member: u16, out: &mut Vec<u8>| word(out, format!("v{member}").as_bytes());
        let read = |data| text(data, |commands, out| commands.read(6, out));
        let write = |data| text(data, |commands, out| commands.write(6, out, value));
        assert_eq!(read(Data::Hashes), "HGET k000000000001 f00000002 ");
        assert_eq!(write(Data::Hashes), "HSET k000000000001 f00000002 v0 ");
        let (a, b) = ("k{000000000006:0}", "k{000000000006:1}");
        assert_eq!(read(Data::Transactions), format!("MULTI GET {a} GET {b} EXEC "));
        assert_eq!(write(Data::Transactions), format!("MULTI SET {a} v0 SET {b} v1 EXEC "));
        let scan = text(Data::Hashes, |commands, out| commands.scan(6, 17, out));
        assert_eq!(scan, "HSCAN k000000000001 0 COUNT 17 ");
    }
}
