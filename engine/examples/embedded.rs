//! A store inside a program: open, write, scan an entity, read as of a snapshot, see who caused what load, close.
//!
//! `cargo run --release -p foreshard-engine --example embedded`

use std::error::Error;

use foreshard_engine::entry::Expiry;
use foreshard_engine::{Client, Options, PageLimit, Store, WriteBatch, block_on, key};

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    // Two threads, each with a ring and a log; a small machine's memory, and a log that a temporary directory holds.
    let options = Options {
        shards: 2,
        memory_bytes: 64 << 20,
        memtables_bytes: 16 << 20,
        memtable_bytes: 4 << 20,
        wal_file_bytes: 4 << 20,
        wal_cap_bytes: 32 << 20,
        reserve_bytes: 4 << 20,
        ..Options::default()
    };
    let store = Store::open(dir.path(), options.clone())?;
    println!("opened {} with {} shards", dir.path().display(), options.shards);
    block_on(use_it(&store.client()?))?;
    store.close()?;
    println!("closed");

    // Another number of shards finds the same rows.
    let store = Store::open(dir.path(), Options { shards: 1, ..options })?;
    let client = store.client()?;
    let name = block_on(client.get(b"customer:7", b"name"))?;
    println!("opened again with 1 shard: customer:7 name = {}", text(name.as_deref()));
    store.close()?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn use_it(client: &Client) -> Result<(), Box<dyn Error>> {
    // All of a batch or nothing, also across a crash and whatever partitions it touches. Durable when it returns.
    let mut batch = WriteBatch::new();
    batch.put(b"customer:7", b"name", b"Ada")?;
    batch.put(b"customer:7", b"city", b"London")?;
    batch.put(b"customer:8", b"name", b"Alan")?;
    let in_an_hour = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_millis() + 3_600_000;
    batch.put_until(b"customer:7", b"session", b"f3a9", Expiry(u64::try_from(in_an_hour)?))?;
    client.write(batch).await?;
    println!("wrote 4 rows of 2 customers in one batch, durably");

    let snapshot = client.snapshot().await?;
    client.put(b"customer:7", b"city", b"Paris").await?;

    let limit = PageLimit { rows: 100, bytes: 1 << 20 };
    println!("customer:7, all rows:");
    for row in client.scan(b"customer:7", b"", limit).await?.rows {
        let (_, name) = key::decode(&row.key).ok_or("every key in a store decodes")?;
        println!("  {} = {}", text(Some(name)), text(Some(&row.value)));
    }
    let before = client.get_at(&snapshot, b"customer:7", b"city").await?;
    println!("customer:7 city as of the snapshot = {}", text(before.as_deref()));

    client.flush().await?;
    println!("customer:7 takes {} bytes in segments", client.stored_bytes(b"customer:7").await?);
    for tick in client.ticks().await? {
        for entity in tick.entities() {
            let load = entity.load.lower;
            println!(
                "counted: {} {} reads, {} writes, {} bytes in",
                text(entity.name),
                load.reads,
                load.writes,
                load.bytes_in
            );
        }
    }
    Ok(())
}

fn text(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "(none)".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
}
