//! What the engine refuses, in one place. Every limit is checked before anything is allocated for it.

/// A row's value: 8 MiB.
pub const VALUE_BYTES_MAX: usize = 8 << 20;
/// A row key within its entity: 16 KiB.
pub const ROW_BYTES_MAX: usize = 16 << 10;
/// An entity's name: 1 KiB.
pub const ENTITY_BYTES_MAX: usize = 1 << 10;
/// A storage key: routing key, escaped entity (each zero byte takes two), its terminator, row.
pub const STORAGE_KEY_BYTES_MAX: usize = ROUTING_KEY_BYTES + 2 * ENTITY_BYTES_MAX + 2 + ROW_BYTES_MAX;
/// A routing key: Redis slot (2 bytes) and 6 bytes of hash.
pub const ROUTING_KEY_BYTES: usize = 8;
/// All rows of one write batch in one partition, encoded: 16 MiB. A batch is one WAL record, and a record
/// never spans two log files.
pub const BATCH_BYTES_MAX: usize = 16 << 20;
/// Rows in one write batch. Bounds the time a batch holds the shard between two yields.
pub const BATCH_ROWS_MAX: usize = 1 << 20;
/// Partitions in one store.
pub const PARTITIONS_MAX: usize = 1 << 16;
/// Entities placed outside of their home partition: twice what a store is meant for. They are kept in memory, once a host.
pub const GUESTS_MAX: usize = 1 << 21;
/// Moves of entities under way at once: far more than a host's cores and disks can copy side by side.
pub const MOVES_OPEN_MAX: usize = 1 << 10;
/// Shards in one opening of a store.
pub const SHARDS_MAX: usize = 1 << 10;

const _: () = assert!(STORAGE_KEY_BYTES_MAX <= u16::MAX as usize, "a key's length is stored in two bytes");
const _: () =
    assert!(VALUE_BYTES_MAX + STORAGE_KEY_BYTES_MAX + 64 <= BATCH_BYTES_MAX, "any row fits a batch");
