//! The conformance suite: the `Disk` contract, run on every disk there is.
#![expect(clippy::unwrap_used, reason = "a test fails by its panic")]

mod conformance;

use std::path::Path;
use std::rc::Rc;

use foreshard_engine::io::disk::Disk;
use foreshard_engine::io::fault::FaultDisk;
use foreshard_engine::io::memory::{MemoryConfig, MemoryDisk};
use foreshard_engine::io::ring::{RingConfig, RingRuntime, Setup};
use foreshard_engine::io::virtual_time::VirtualRuntime;

#[test]
fn the_memory_disk_conforms() {
    for latency_nanos in [0..1, 1..1_000_000] {
        let virtual_time = VirtualRuntime::new(1);
        let runtime = virtual_time.runtime();
        let config = MemoryConfig { latency_nanos, ..MemoryConfig::default() };
        let disk: Rc<dyn Disk> = Rc::new(MemoryDisk::new(&runtime, 1, config));
        virtual_time.block_on(conformance::check(disk, Path::new("/")));
    }
}

#[test]
fn the_fault_wrapper_without_faults_conforms() {
    let virtual_time = VirtualRuntime::new(1);
    let runtime = virtual_time.runtime();
    let memory = Rc::new(MemoryDisk::new(&runtime, 1, MemoryConfig::default()));
    let disk: Rc<dyn Disk> = Rc::new(FaultDisk::new(memory, &runtime, 1));
    virtual_time.block_on(conformance::check(disk, Path::new("/")));
}

/// Runs the suite on the file system that holds `parent`.
fn the_ring_conforms_in(parent: &Path, setup: Setup, direct: bool) {
    let dir = tempfile::tempdir_in(parent).unwrap();
    // A small ring: the suite's overlapping operations fill it.
    let ring = RingRuntime::new(&RingConfig { entries: 32, setup, direct, ..RingConfig::default() }).unwrap();
    assert_eq!(ring.setup(), setup);
    ring.run(conformance::check(ring.disk(), dir.path()));
}

#[test]
fn the_ring_disk_conforms_with_direct_io() {
    the_ring_conforms_in(Path::new(env!("CARGO_TARGET_TMPDIR")), Setup::Deferred, true);
}

#[test]
fn the_ring_disk_conforms_as_older_kernels_set_it_up() {
    for setup in [Setup::Plain, Setup::Cooperative] {
        the_ring_conforms_in(Path::new(env!("CARGO_TARGET_TMPDIR")), setup, true);
    }
}

#[test]
fn the_ring_disk_conforms_without_direct_io() {
    the_ring_conforms_in(Path::new(env!("CARGO_TARGET_TMPDIR")), Setup::Deferred, false);
}

#[test]
fn the_ring_disk_conforms_on_tmpfs() {
    the_ring_conforms_in(Path::new("/dev/shm"), Setup::Deferred, true);
}
