//! One question to an admin endpoint, and its answer.
//!
//! HTTP/1.0: the answer is what comes until the connection ends.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::shell::Failure;

/// A plan of many entities takes seconds; else the node answers at once, or a shard of it does not run.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// A table with all guests that are told is well below.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Asks.
pub(crate) fn get(admin: &str, path: &str) -> Result<Value, Failure> {
    json(admin, &get_text(admin, path)?)
}

/// Asks for something that is not JSON.
pub(crate) fn get_text(admin: &str, path: &str) -> Result<String, Failure> {
    ask(admin, &format!("GET {path} HTTP/1.0\r\nHost: {admin}\r\n\r\n"))
}

/// Orders.
pub(crate) fn post(admin: &str, path: &str, order: &Value) -> Result<Value, Failure> {
    json(admin, &send(admin, path, "application/json", &order.to_string())?)
}

/// Hands over rows.
pub(crate) fn post_csv(admin: &str, path: &str, rows: &str) -> Result<Value, Failure> {
    json(admin, &send(admin, path, "text/csv", rows)?)
}

fn send(admin: &str, path: &str, kind: &str, body: &str) -> Result<String, Failure> {
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: {admin}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    ask(admin, &(head + body))
}

fn json(admin: &str, body: &str) -> Result<Value, Failure> {
    serde_json::from_str(body).map_err(|e| Failure::told(format!("not understood: the node at {admin}: {e}")))
}

fn ask(admin: &str, request: &str) -> Result<String, Failure> {
    let lost = |what: &str, e: &dyn std::fmt::Display| {
        Failure::told(format!("{what} the node at {admin}: {e}; --admin says where it tells of its health"))
    };
    let mut stream = TcpStream::connect(admin).map_err(|e| lost("connect to", &e))?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX)).map_err(|e| lost("wait for", &e))?;
    stream.write_all(request.as_bytes()).map_err(|e| lost("ask", &e))?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(|e| lost("read from", &e))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| lost("not understood:", &"no HTTP"))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(Failure::told(format!("refused by the node at {admin}: {}", body.trim_end()))),
    }
}

/// As it may stand in a query.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02x}");
        }
    }
    out
}
