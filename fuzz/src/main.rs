//! The fuzzer: libFuzzer around one target, named by the environment variable `FUZZ_TARGET`.
//!
//! One binary for all targets, so that the engine is compiled and linked once with instrumentation.

#![no_main]

use std::sync::OnceLock;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let names = foreshard_fuzz::TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(" ");
        let target = foreshard_fuzz::find(&name).unwrap_or_else(|| panic!("FUZZ_TARGET is one of: {names}"));
        TARGET.set(target.run).expect("set once");
    },
    |data: &[u8]| TARGET.get().expect("init ran")(data)
);
