//! Makes a trace of shops whose promotions have an effect of one kind, and the calendar of them:
//! `cargo run -p foreshard-forecast --example promotions TRACE.csv EVENTS.csv [SEED]`. Each shop's first promotion comes at
//! its own time, so that what is known of it then is what it did to others.
//!
//! `foreshard forecast backtest --in TRACE.csv --metric requests --horizon 24 --last 40d --events EVENTS.csv` says what the
//! calendar is worth; the lines "first, learnt from others" are of first promotions of a kind that three others had.
#![expect(
    clippy::disallowed_methods,
    reason = "an example program: it writes the files that it was asked for"
)]

#[path = "../tests/shops/mod.rs"]
mod shops;

use std::fmt::Write as _;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (trace, events, seed) = match arguments.as_slice() {
        [trace, events] => (trace, events, 1),
        [trace, events, seed] => (trace, events, seed.parse()?),
        _ => return Err("usage: promotions TRACE.csv EVENTS.csv [SEED]".into()),
    };
    let mut rows = "time,entity,requests\n".to_owned();
    let mut calendar = "name,kind,entities,from,to,announced\n".to_owned();
    for shop in &shops::shops(seed) {
        for (hour, load) in (shops::START..).zip(&shop.loads) {
            writeln!(rows, "{},{},{load:.3}", hour * 3600, shop.name)?;
        }
        for event in &shop.promotions {
            let [from, to, announced] = [event.from, event.to, event.announced].map(|hour| hour * 3600);
            writeln!(
                calendar,
                "sale of {},{},{},{from},{to},{announced}",
                shop.name, event.kind, event.entities
            )?;
        }
    }
    std::fs::write(trace, rows)?;
    Ok(std::fs::write(events, calendar)?)
}
