//! The command line of `foreshard import`, and what a Redis address says.

use clap::Args;

/// `foreshard import ..`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Copies strings and hashes with their expiry; other types are counted and left. What is written at the source meanwhile \
may or may not be copied: for an exact copy let nobody write there. It may be run again: each key is replaced by what \
the source has. Expiry of single hash fields is not copied.\n\
Passwords: in the address, or out of other users' sight in the environment: FORESHARD_FROM_PASSWORD, FORESHARD_TO_PASSWORD.\n\
Examples:\n  \
    foreshard import --from redis://127.0.0.1:6379 --to 127.0.0.1:7379\n  \
    foreshard import --from redis://reader:secret@cache.example.org:6379/2 --to redis://127.0.0.1:7379 --json\n\
Exit status: 0 everything was copied, 1 something was not, 2 it could not be done."
)]
pub(crate) struct Import {
    /// The Redis to copy: `redis://HOST:PORT`, `redis://USER:PASSWORD@HOST:PORT/DATABASE`.
    #[arg(long, value_name = "ADDRESS", value_parser = Address::parse)]
    pub(super) from: Address,
    /// The server to copy to, with the same form of address.
    #[arg(long, value_name = "ADDRESS", value_parser = Address::parse, default_value = "127.0.0.1:7379")]
    pub(super) to: Address,
    /// Only keys that match this pattern, as SCAN has it.
    #[arg(long = "match", value_name = "PATTERN")]
    pub(super) pattern: Option<String>,
    /// One JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// A server, and how to be let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Address {
    pub(super) host: String,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: u32,
}

/// The port of a Redis that names none.
const REDIS_PORT: &str = ":6379";

impl Address {
    fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("redis://").unwrap_or(text);
        if rest.contains("://") {
            return Err("must be redis://HOST:PORT or HOST:PORT; TLS is not supported".to_owned());
        }
        let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
        let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = if database.is_empty() { Ok(0) } else { database.parse() };
        let database = database.map_err(|_| "the database must be a number".to_owned())?;
        if host.is_empty() {
            return Err("a host is missing".to_owned());
        }
        let is_whole = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let host = if is_whole { host.to_owned() } else { format!("{host}{REDIS_PORT}") };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or(("", login))) {
            None => (None, None),
            Some((user, password)) => {
                let user = decoded(user)?;
                (Some(user).filter(|user| !user.is_empty()), Some(decoded(password)?))
            }
        };
        Ok(Self { host, user, password, database })
    }
}

/// Percent signs and two digits as the bytes they stand for.
fn decoded(text: &str) -> Result<String, String> {
    let wrong = || "after a % in user or password come two hexadecimal digits".to_owned();
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or_else(wrong)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| "user and password must be UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_other_clients_read_them() {
        let address = |host: &str, user: Option<&str>, password: Option<&str>, database| Address {
            host: host.to_owned(),
            user: user.map(str::to_owned),
            password: password.map(str::to_owned),
            database,
        };
        for (text, expected) in [
            ("redis://h:1", address("h:1", None, None, 0)),
            ("h", address("h:6379", None, None, 0)),
            ("redis://h/3", address("h:6379", None, None, 3)),
            ("redis://:p%40ss@h:1/", address("h:1", None, Some("p@ss"), 0)),
            ("redis://u:p:q@[::1]:7", address("[::1]:7", Some("u"), Some("p:q"), 0)),
        ] {
            assert_eq!(Address::parse(text), Ok(expected), "{text}");
        }
        for wrong in ["rediss://h:1", "redis://", "redis://h:1/x", "redis://u:%4@h", "redis://u:%zz@h"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
