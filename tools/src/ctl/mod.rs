//! `foreshard ctl`: asks a running node, through its admin endpoint, where things are, and has it move them.
//!
//! What the node answers is JSON, which is shown as it is or as a table (`show`); nothing is known here that the node does
//! not say.

pub(crate) mod http;
mod partitions;
mod planning;
mod show;

use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::partitions::Partitions;
use self::planning::Planning;
use crate::Verdict;
use crate::shell::Failure;

/// A node asked.
#[derive(Args, Clone, Debug)]
pub(crate) struct Ctl {
    /// The node's admin endpoint.
    #[arg(long, default_value = "127.0.0.1:7381", global = true)]
    admin: String,
    /// The node's answer as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

/// What to ask, or to do.
#[derive(Subcommand, Clone, Debug)]
enum What {
    /// How the node is doing.
    #[command(after_help = "Example: foreshard ctl status")]
    Status,
    /// Which partition has which range, which entities are placed elsewhere, and what moves.
    #[command(after_help = "Example: foreshard ctl table --json")]
    Table,
    /// Where an entity is, how large, and how much it is asked.
    #[command(after_help = "An entity is a key's {hash tag}, or the whole key.\n\
        Example: foreshard ctl entity customer:7")]
    Entity {
        /// Its name.
        name: String,
    },
    /// How much a partition holds and does.
    #[command(after_help = "Example: foreshard ctl partition 3")]
    Partition {
        /// Its number.
        id: u32,
    },
    /// Move an entity to a partition, or home; returns when it is done, unless told not to wait.
    #[command(after_help = "Clients read and write it all the while.\n\
        Exit status: 0 it is there, 1 everything is as it was, 2 it is not known.\n\
        Examples: foreshard ctl move customer:7 --to 3\n          foreshard ctl move customer:7 --home --no-wait\n          \
        foreshard ctl move customer:7 --to 3 --shadow always\n          foreshard ctl move customer:7 --back")]
    Move {
        /// The entity's name.
        name: String,
        /// The partition that gets it.
        #[arg(long, required_unless_present_any = ["home", "back"], conflicts_with_all = ["home", "back"])]
        to: Option<u32>,
        /// The partition in whose range it is.
        #[arg(long, conflicts_with = "back")]
        home: bool,
        /// The partition that its last move took it from.
        #[arg(long)]
        back: bool,
        /// Whether some of its reads are mirrored to the target, and compared, before it goes: always, never or above:SIZE,
        /// as above:64MiB. Unless given, as the node is set.
        #[arg(long, value_name = "POLICY")]
        shadow: Option<String>,
        /// Return when it has begun.
        #[arg(long)]
        no_wait: bool,
    },
    /// Cancel a move that is not yet at its end.
    #[command(after_help = "Example: foreshard ctl cancel 42")]
    Cancel {
        /// The move's number.
        id: u64,
    },
    /// Moves under way and how far they are, and those that have ended.
    #[command(after_help = "Example: foreshard ctl moves")]
    Moves,
    /// What shards and partitions may do a second, in cost units, and who waits for that; set one of them.
    #[command(
        after_help = "A cost unit is about a microsecond of a core. What is set holds until the node stops: [capacity] of its \
        configuration keeps it.\n\
        Examples: foreshard ctl capacity\n          foreshard ctl capacity --partition 3 --units 50000\n          \
        foreshard ctl capacity --shard 0 --units 0       no limit"
    )]
    Capacity {
        /// Of this partition.
        #[arg(long, conflicts_with = "shard", requires = "units")]
        partition: Option<u32>,
        /// Of this shard.
        #[arg(long, requires = "units")]
        shard: Option<u16>,
        /// Cost units a second; 0: no limit. Alone: of every partition that has none of its own.
        #[arg(long)]
        units: Option<f64>,
    },
    /// Have a shard's disk be slow on purpose, to see beforehand what that does.
    #[command(
        after_help = "Writes take so much longer, and nothing else changes; reading what is not committed waits with them. \
        It ends with 0, or with the node.\n\
        Example: foreshard ctl drill --shard 1 --log-delay-ms 50"
    )]
    Drill {
        /// Which shard.
        #[arg(long)]
        shard: u16,
        /// Milliseconds that each flush of its log takes longer; 0: none.
        #[arg(long)]
        log_delay_ms: u64,
    },
    /// What the shadow of a move showed: source and target side by side, and the verdict.
    #[command(after_help = "Example: foreshard ctl shadow 42")]
    Shadow {
        /// The move's number.
        id: u64,
    },
    #[command(flatten)]
    Partitions(Partitions),
    #[command(flatten)]
    Planning(Planning),
}

/// How often it is looked how far a move is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs one of them.
pub(crate) fn run(ctl: &Ctl) -> Result<Verdict, Failure> {
    let get = |path: &str| http::get(&ctl.admin, path);
    match &ctl.what {
        What::Status => tell(ctl, &get("/status")?, show::status),
        What::Table => tell(ctl, &get("/table")?, show::table),
        What::Entity { name } => {
            tell(ctl, &get(&format!("/entity?name={}", http::escaped(name.as_bytes())))?, show::fields)
        }
        What::Partition { id } => tell(ctl, &get(&format!("/partition?id={id}"))?, show::fields),
        What::Partitions(what) => partitions::run(ctl, what),
        What::Planning(what) => planning::run(ctl, what),
        What::Moves => tell(ctl, &get("/moves")?, show::moves),
        What::Cancel { id } => {
            tell(ctl, &http::post(&ctl.admin, "/cancel", &json!({ "id": id }))?, show::fields)
        }
        What::Capacity { units: None, .. } => tell(ctl, &get("/capacity")?, show::capacity),
        What::Capacity { partition, shard, units } => {
            let order = json!({ "partition": partition, "shard": shard, "units": units });
            tell(ctl, &http::post(&ctl.admin, "/capacity", &order)?, show::capacity)
        }
        What::Drill { shard, log_delay_ms } => {
            let order = json!({ "shard": shard, "log_delay_ms": log_delay_ms });
            tell(ctl, &http::post(&ctl.admin, "/drill", &order)?, show::fields)
        }
        What::Shadow { id } => {
            let moves = get(&format!("/moves?move={id}"))?;
            let mut all = moves["moves"].as_array().into_iter().flatten();
            match all.find(|one| one["move"] == *id) {
                None => Err(Failure::told(format!("the node knows no move {id}: see foreshard ctl moves"))),
                Some(one) if one["shadow"].is_null() => Err(Failure::told(format!(
                    "move {id} has no shadow: give foreshard ctl move --shadow always, or set moves.shadow of the node"
                ))),
                Some(one) => tell(ctl, &one["shadow"], show::shadow),
            }
        }
        What::Move { name, to, back, no_wait, shadow, .. } => {
            let order = json!({ "entity": name, "to": to, "back": back, "shadow": shadow });
            let begun = http::post(&ctl.admin, "/move", &order)?;
            if *no_wait {
                return tell(ctl, &begun, show::fields);
            }
            let ended = wait(ctl, "move", &begun["move"])?;
            tell(ctl, &ended, show::moved)?;
            Ok(verdict(&ended))
        }
    }
}

/// What becomes the exit status of what was waited for.
fn verdict(ended: &Value) -> Verdict {
    match ended["phase"].as_str() {
        Some("done") => Verdict::Sound,
        Some("cancelled" | "failed" | "rejected") => Verdict::Damaged,
        _ => Verdict::Unreadable,
    }
}

/// Waits until a `kind` of work, a move or a change of partitions, has ended.
fn wait(ctl: &Ctl, kind: &str, id: &Value) -> Result<Value, Failure> {
    let all = format!("{kind}s");
    loop {
        let told = http::get(&ctl.admin, &format!("/{all}?{kind}={id}"))?;
        let list = told[&all].as_array().map(Vec::as_slice).unwrap_or_default();
        match list.iter().find(|one| one[kind] == *id) {
            Some(one) if one["is_over"] == true => return Ok(one.clone()),
            Some(_) => sleep(),
            None => return Err(Failure::told(format!("the node does not know {kind} {id} any more"))),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a program that waits for another one")]
fn sleep() {
    std::thread::sleep(LOOK_EVERY);
}

fn tell(ctl: &Ctl, answer: &Value, text: fn(&Value) -> String) -> Result<Verdict, Failure> {
    let mut out = std::io::stdout().lock();
    if ctl.json {
        writeln!(out, "{answer}")?;
    } else {
        out.write_all(text(answer).as_bytes())?;
    }
    out.flush()?;
    Ok(Verdict::Sound)
}
