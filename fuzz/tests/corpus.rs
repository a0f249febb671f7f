//! Every committed input, once: without instrumentation, so that an ordinary `cargo test` replays what fuzzing found.

use std::path::Path;

#[test]
#[expect(clippy::disallowed_methods, reason = "the corpus is files that git keeps")]
fn every_target_takes_its_corpus() {
    for target in foreshard_fuzz::TARGETS {
        let dir = Path::new("corpus").join(target.name);
        let mut paths: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!paths.is_empty(), "{} has no corpus", target.name);
        paths.sort();
        for path in paths {
            println!("{}", path.display());
            (target.run)(&std::fs::read(&path).unwrap());
        }
    }
}
