//! A backup that a running node takes, asked for over HTTP.
//!
//! The request is of HTTP/1.0, so that the answer is its lines and then the end of the connection. A connection that
//! ends before the verdict is an error, and for the node the end of the backup.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::{Backup, PERIOD, say_progress};
use crate::shell::Failure;

/// The node says something twice a second; one that says nothing for this many periods is gone, or stopped.
const SILENT_PERIODS_MAX: u32 = 30;

/// The verdict's line.
pub(super) fn back_up(admin: &str, options: &Backup) -> Result<Value, Failure> {
    let to =
        options.to.to_str().ok_or_else(|| Failure::told("--to: the node is told it as JSON: give UTF-8"))?;
    let order = json!({
        "to": to, "limit": options.limit.unwrap_or(0), "keep": options.keep, "link": options.link,
    });
    let lost =
        |what: &str, e: &dyn std::fmt::Display| Failure::told(format!("{what} the node at {admin}: {e}"));
    let mut stream = TcpStream::connect(admin).map_err(|e| lost("connect to", &e))?;
    stream.set_read_timeout(Some(PERIOD * SILENT_PERIODS_MAX)).map_err(|e| lost("wait for", &e))?;
    let body = order.to_string();
    let request = format!(
        "POST /backup HTTP/1.0\r\nHost: {admin}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).map_err(|e| lost("ask", &e))?;
    let mut lines = BufReader::new(stream).lines();
    let mut next = || lines.next().transpose().map_err(|e| lost("read from", &e));
    let status = next()?.unwrap_or_default();
    while next()?.is_some_and(|header| !header.is_empty()) {}
    if status.split(' ').nth(1) != Some("200") {
        let why = next()?.unwrap_or(status);
        return Err(lost("refused by", &why));
    }
    let mut told = 0;
    while let Some(line) = next()? {
        let line: Value = serde_json::from_str(&line).map_err(|e| lost("not understood:", &e))?;
        match line["type"].as_str() {
            Some("backup") => return Ok(line),
            Some("error") => return Err(lost("no backup by", &line["what"].as_str().unwrap_or_default())),
            _ => {
                told += 1;
                // It tells more often than is of interest.
                if told % TOLD_PER_PERIOD == 0 {
                    let number = |name: &str| line[name].as_u64().unwrap_or_default();
                    say_progress(number("bytes_done"), number("bytes_total"));
                }
            }
        }
    }
    Err(lost("no verdict from", &"it ended the answer before the backup was done"))
}

const TOLD_PER_PERIOD: u32 = 4;
