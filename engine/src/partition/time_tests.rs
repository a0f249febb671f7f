//! Partition time in the log, when there is hardly room for it.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::Options;
use crate::entry::Expiry;
use crate::io::disk::{Disk, DiskOp};
use crate::io::fault::{Fault, FaultDisk, Rule, When};
use crate::io::memory::{MemoryConfig, MemoryDisk};
use crate::io::virtual_time::VirtualRuntime;
use crate::store::simulated::SimulatedStore;

fn options() -> Options {
    Options {
        partitions: 1,
        wal_file_bytes: 64 << 10,
        wal_cap_bytes: 1 << 20,
        reserve_bytes: 64 << 10,
        ..Options::default()
    }
}

#[test]
fn readers_of_rows_that_expire_leave_a_log_that_waits_for_a_slow_flush_its_reserve() {
    const ROWS: u32 = 400;
    let world = VirtualRuntime::new(1);
    let runtimes = [world.runtime()];
    let memory = Rc::new(MemoryDisk::new(&runtimes[0], 1, MemoryConfig::default())) as Rc<dyn Disk>;
    let disk = FaultDisk::new(memory, &runtimes[0], 1);
    world.block_on(async {
        let shared = Rc::new(disk.clone());
        let store = SimulatedStore::open(&runtimes, shared, Path::new("/s"), options(), 1).await.unwrap();
        let client = store.client().unwrap();
        let first = runtimes[0].wall_ms() + 1000;
        for n in 0..ROWS {
            let expiry = Expiry(first + u64::from(n));
            client.put_until(b"entity", &n.to_be_bytes(), b"value", expiry).await.unwrap();
        }
        let path_contains = ".seg".to_owned();
        let fault = Fault::Slow(Duration::from_secs(10));
        disk.add(Rule { ops: vec![DiskOp::Write], path_contains, when: When::From(1), fault });
        let until_first = first.saturating_sub(runtimes[0].wall_ms());
        runtimes[0].sleep(Duration::from_millis(until_first)).await;
        for n in 0..ROWS {
            // Each is seen to have expired at a time that no record says yet, in a batch of its own.
            let found = client.get(b"entity", &n.to_be_bytes()).await.unwrap();
            assert_eq!(found, None, "row {n}");
            runtimes[0].sleep(Duration::from_millis(1)).await;
        }
        disk.heal();
        client.put(b"entity", b"last", b"value").await.unwrap();
        store.close().await.unwrap();
    });
}
