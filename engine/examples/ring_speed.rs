//! What the ring costs: random reads at a depth, and durable writes one after another.
//!
//! `cargo run --release --example ring_speed -- FILE read DEPTH SECONDS` or `.. FILE write synced|sync SECONDS`, on a
//! file that was written before (fio's will do).
#![expect(clippy::print_stdout, reason = "a program's output")]

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use foreshard_engine::io::buffer::AlignedBuf;
use foreshard_engine::io::disk::{File, OpenMode, Write};
use foreshard_engine::io::ring::{RingConfig, RingRuntime};
use foreshard_engine::io::runtime::Runtime;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let usage = "FILE read DEPTH SECONDS | FILE write synced|sync SECONDS";
    let mut next = || arguments.next().expect(usage);
    let (path, what, how) = (next(), next(), next());
    let limit = Duration::from_secs(next().parse().expect(usage));
    let ring = RingRuntime::new(&RingConfig::default()).expect("a ring");
    let (runtime, disk) = (ring.runtime(), ring.disk());
    ring.run(async {
        let file = disk.open(Path::new(&path), OpenMode::ReadWrite).await.expect("the file");
        match what.as_str() {
            "read" => read(&runtime, &file, how.parse().expect(usage), limit).await,
            "write" => write(&runtime, &file, how == "synced", limit).await,
            _ => panic!("{usage}"),
        }
    });
    println!("{:?}", runtime.turns());
}

async fn read(runtime: &Runtime, file: &Rc<dyn File>, depth: u64, limit: Duration) {
    let blocks = file.size().await.expect("a size") / 4096;
    let (begin, cpu) = (runtime.now(), cpu());
    let done = Rc::new(Cell::new(0u64));
    let readers = (0..depth).map(|seed| {
        let (runtime, file, done) = (runtime.clone(), Rc::clone(file), Rc::clone(&done));
        let task = runtime.clone();
        task.spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut buf = AlignedBuf::zeroed(4096);
            while runtime.now().since(begin) < limit {
                let (back, read) = file.read_at(buf, random.u64(..blocks) * 4096).await;
                assert_eq!(read.expect("a read"), 4096);
                buf = back;
                done.set(done.get() + 1);
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await;
    }
    report("reads", done.get(), runtime.now().since(begin), cpu);
}

async fn write(runtime: &Runtime, file: &Rc<dyn File>, synced: bool, limit: Duration) {
    let blocks = file.size().await.expect("a size") / 16384;
    let (begin, cpu) = (runtime.now(), cpu());
    let mut done = 0;
    let mut buf = AlignedBuf::zeroed(16384);
    while runtime.now().since(begin) < limit {
        let how = if synced { Write::Synced } else { Write::Plain };
        let (back, written) = file.write_at(buf, done % blocks * 16384, how).await;
        written.expect("a write");
        if !synced {
            file.sync().await.expect("a sync");
        }
        buf = back;
        done += 1;
    }
    report("durable writes", done, runtime.now().since(begin), cpu);
}

fn report(what: &str, count: u64, took: Duration, cpu_before: Duration) {
    let cpu = cpu().saturating_sub(cpu_before).as_secs_f64();
    let count_f = f64::from(u32::try_from(count).expect("a count"));
    let each = took.as_secs_f64() / count_f * 1e6;
    println!(
        "{count} {what}: {:.0}/s, {each:.1} us each; {:.0}% of a core, {:.2} us of it each",
        count_f / took.as_secs_f64(),
        cpu / took.as_secs_f64() * 100.0,
        cpu / count_f * 1e6
    );
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
