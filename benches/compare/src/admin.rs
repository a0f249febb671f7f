//! Orders to a node at its admin address, and what it answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Result;

/// An answer that takes longer is none: a planner may be busy with a plan.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Between two looks at how far a change is.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What the node at `admin` answers at `path`.
pub fn get(admin: SocketAddr, path: &str) -> Result<String> {
    answer(admin, path, "GET", "")
}

/// What the node at `admin` answers to a question, or an order.
pub fn ask(admin: SocketAddr, path: &str, order: Option<&Value>) -> Result<Value> {
    let said = match order {
        None => get(admin, path),
        Some(order) => answer(admin, path, "POST", &order.to_string()),
    };
    Ok(serde_json::from_str(&said?)?)
}

fn answer(admin: SocketAddr, path: &str, method: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let kind = "Content-Type: application/json\r\nContent-Length";
    let request = format!("{method} {path} HTTP/1.0\r\nHost: bench\r\n{kind}: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("an answer without a body")?;
    if head.split(' ').nth(1) == Some("200") {
        Ok(body.to_owned())
    } else {
        Err(format!("{method} {path}: {}", body.trim_end()).into())
    }
}

/// A name as it stands in a path.
#[must_use]
pub fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().fold(String::new(), |mut out, byte| {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02x}");
        }
        out
    })
}

/// Has partitions changed, and waits until that has ended: what became of it.
pub fn change(admin: SocketAddr, path: &str, order: &Value) -> Result<Value> {
    let begun = ask(admin, path, Some(order))?;
    let asks = format!("/changes?change={}", begun["change"]);
    loop {
        let all = ask(admin, &asks, None)?;
        let all = all["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
        match all.iter().find(|one| one["change"] == begun["change"]) {
            Some(one) if one["is_over"] == true => return Ok(one.clone()),
            Some(_) => std::thread::sleep(LOOK_EVERY),
            None => return Err(format!("the node does not know change {begun}").into()),
        }
    }
}

/// Something that an operator could ask for: a partition split, merged or handed over, or an entity moved, of those that
/// `names` gives.
pub fn any_order(
    admin: SocketAddr,
    random: &mut fastrand::Rng,
    names: &mut dyn FnMut(&mut fastrand::Rng) -> String,
) -> Result<(&'static str, Value)> {
    /// More are merged rather than split.
    const PARTITIONS_MAX: usize = 24;
    let table = ask(admin, "/table", None)?;
    let mut partitions: Vec<&Value> =
        table["partitions"].as_array().ok_or("a table without partitions")?.iter().collect();
    partitions.sort_by_key(|partition| partition["start"].as_u64());
    let at = random.usize(..partitions.len());
    let (one, next) = (partitions[at], partitions[(at + 1) % partitions.len()]);
    let shards = table["shards"].as_u64().ok_or("a table without shards")?;
    Ok(match random.u8(..6) {
        0 | 1 if partitions.len() < PARTITIONS_MAX => ("/split", json!({ "partition": one["partition"] })),
        0..=2 => ("/merge", json!({ "into": one["partition"], "from": next["partition"] })),
        3 => ("/hand-over", json!({ "partition": one["partition"], "to": random.u64(..shards) })),
        _ => ("/move", json!({ "entity": names(random), "to": one["partition"] })),
    })
}
