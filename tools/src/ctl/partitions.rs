//! Orders about partitions: split, merge, hand over; and what became of them.

use clap::{Args, Subcommand};
use foreshard_engine::key::RoutingKey;
use serde_json::{Value, json};

use super::{Ctl, http, show, tell, verdict, wait};
use crate::Verdict;
use crate::shell::Failure;

/// How long to stay.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Stay {
    /// Return when it has begun.
    #[arg(long)]
    no_wait: bool,
}

/// What to do with partitions.
#[derive(Subcommand, Clone, Debug)]
pub(super) enum Partitions {
    /// Split a partition, where half of its load lies below unless told where; returns when it is done.
    #[command(
        after_help = "Clients read and write it all the while; no data is rewritten. --show only tells where.\n\
        Exit status: 0 it is done, 1 everything is as it was, 2 it is not known.\n\
        Examples: foreshard ctl split 3\n          \
        foreshard ctl split 3 --show\n          \
        foreshard ctl split 3 --at 2000000000000000 --no-wait\n          \
        foreshard ctl split 3 --from-entity customer:7"
    )]
    Split {
        /// The partition's number.
        id: u32,
        /// The first routing key of the upper part, in hexadecimal as `ctl table` shows it.
        #[arg(long, value_parser = key)]
        at: Option<u64>,
        /// The entity with which the upper part begins.
        #[arg(long, conflicts_with = "at")]
        from_entity: Option<String>,
        /// Only tell where it would be split.
        #[arg(long, conflicts_with_all = ["at", "from_entity", "no_wait"])]
        show: bool,
        #[command(flatten)]
        stay: Stay,
    },
    /// Give an entity that is at home a partition of its own, by two splits; returns when it has one.
    #[command(after_help = "For an entity that is more than a partition can carry beside others.\n\
        Example: foreshard ctl isolate customer:7")]
    Isolate {
        /// The entity's name.
        name: String,
    },
    /// Have a partition take in another one, whose range lies beside its own; returns when it is done.
    #[command(after_help = "If they are on different shards, the other one comes to this one's first.\n\
        Example: foreshard ctl merge 3 4")]
    Merge {
        /// The partition that stays.
        into: u32,
        /// The one that is no more.
        from: u32,
        #[command(flatten)]
        stay: Stay,
    },
    /// Hand a partition over to another shard; returns when it is done.
    #[command(after_help = "Example: foreshard ctl hand-over 3 --to 1")]
    HandOver {
        /// The partition's number.
        id: u32,
        /// The shard that gets it.
        #[arg(long)]
        to: u16,
        #[command(flatten)]
        stay: Stay,
    },
    /// Splits, merges and hand-overs under way, and those that have ended.
    #[command(after_help = "Example: foreshard ctl changes")]
    Changes,
    /// Cancel one for which nobody waits yet.
    #[command(after_help = "Example: foreshard ctl cancel-change 4")]
    CancelChange {
        /// The change's number.
        id: u64,
    },
}

/// Runs one of them.
pub(super) fn run(ctl: &Ctl, what: &Partitions) -> Result<Verdict, Failure> {
    match what {
        Partitions::Split { id, show: true, .. } => {
            tell(ctl, &http::get(&ctl.admin, &format!("/split-point?id={id}"))?, show::split_point)
        }
        Partitions::Split { id, at, from_entity, stay, .. } => {
            let at = at.or_else(|| from_entity.as_ref().map(|name| RoutingKey::of(name.as_bytes()).0));
            order(ctl, "/split", &json!({ "partition": id, "at": at }), *stay)
        }
        Partitions::Isolate { name } => isolate(ctl, name),
        Partitions::Merge { into, from, stay } => {
            order(ctl, "/merge", &json!({ "into": into, "from": from }), *stay)
        }
        Partitions::HandOver { id, to, stay } => {
            order(ctl, "/hand-over", &json!({ "partition": id, "to": to }), *stay)
        }
        Partitions::Changes => tell(ctl, &http::get(&ctl.admin, "/changes")?, show::changes),
        Partitions::CancelChange { id } => {
            tell(ctl, &http::post(&ctl.admin, "/cancel-change", &json!({ "id": id }))?, show::fields)
        }
    }
}

fn order(ctl: &Ctl, path: &str, order: &Value, stay: Stay) -> Result<Verdict, Failure> {
    let begun = http::post(&ctl.admin, path, order)?;
    if stay.no_wait {
        return tell(ctl, &begun, show::fields);
    }
    let ended = wait(ctl, "change", &begun["change"])?;
    tell(ctl, &ended, show::changed)?;
    Ok(verdict(&ended))
}

/// Cuts off what lies below an entity, and what lies above it, where there can be anything.
fn isolate(ctl: &Ctl, name: &str) -> Result<Verdict, Failure> {
    let at = http::get(&ctl.admin, &format!("/entity?name={}", http::escaped(name.as_bytes())))?;
    if at["is_guest"] == true {
        return Err(Failure::told(format!(
            "{name} is a guest of partition {}: move it home first",
            at["partition"]
        )));
    }
    let routing = RoutingKey::of(name.as_bytes()).0;
    let mut partition = at["partition"].clone();
    for (border, goes_with_upper) in [(routing, true), (routing + 1, false)] {
        let told = http::get(&ctl.admin, &format!("/partition?id={partition}"))?;
        let is_inside = told["start"].as_u64() < Some(border) && Some(border) < told["end"].as_u64();
        if !is_inside {
            continue;
        }
        let begun = http::post(&ctl.admin, "/split", &json!({ "partition": partition, "at": border }))?;
        let ended = wait(ctl, "change", &begun["change"])?;
        if !matches!(verdict(&ended), Verdict::Sound) {
            tell(ctl, &ended, show::changed)?;
            return Ok(verdict(&ended));
        }
        if goes_with_upper {
            partition = ended["other"].clone();
        }
    }
    tell(ctl, &http::get(&ctl.admin, &format!("/partition?id={partition}"))?, show::fields)
}

/// A routing key as the table shows it.
fn key(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16)
        .map_err(|e| format!("a routing key in hexadecimal, as ctl table shows it: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_routing_key_is_read_as_it_is_shown() {
        assert_eq!(key("2000000000000000"), Ok(1 << 61));
        assert_eq!(key("0x0000000000000010"), Ok(16));
        for broken in ["", "0x", "g", "-1", "10000000000000000"] {
            assert!(key(broken).is_err(), "{broken}");
        }
    }
}
