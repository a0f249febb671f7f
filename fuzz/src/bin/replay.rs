//! `replay TARGET FILE...`: runs inputs without the fuzzer around them: for a debugger, and for a finding's panic.

#[expect(clippy::disallowed_methods, reason = "a program that reads findings")]
fn main() {
    let mut args = std::env::args().skip(1);
    let target = args.next().as_deref().and_then(foreshard_fuzz::find).expect("replay TARGET FILE...");
    for path in args {
        println!("{path}");
        (target.run)(&std::fs::read(&path).expect("a file to read"));
    }
}
