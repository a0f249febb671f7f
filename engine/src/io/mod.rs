//! Everything that touches a device or the kernel: the disk interface, its two disks (ring and memory), the fault
//! wrapper, the ring, and the runtimes that drive a shard's tasks.

pub mod buffer;
pub mod disk;
pub mod fault;
pub mod long_turns;
pub mod memory;
pub mod ring;
pub mod runtime;
pub mod timers;
pub mod turns;
pub mod unpark;
pub mod virtual_time;
