//! Protected mode: who may connect to a server without a password, told by addresses that are not this machine's loopback.
//!
//! In a network namespace of its own, where an address can be made up; where the kernel refuses namespaces, with an address
//! that this machine has.
#![expect(clippy::unwrap_used, reason = "a test fails by its panic")]
#![expect(
    clippy::print_stderr,
    reason = "who runs itself in a namespace reads there that it was not skipped"
)]

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;

use common::{Client, Node, Reply};
use foreshard_net::Config;

/// Set within the namespace: the address that is made up there (TEST-NET-2, RFC 5737).
const FOREIGN: &str = "FORESHARD_TEST_FOREIGN_ADDRESS";
const MADE_UP: &str = "198.51.100.1";
const NAME: &str = "without_a_password_only_clients_of_this_machine_may_connect";

#[test]
fn without_a_password_only_clients_of_this_machine_may_connect() {
    if let Some(foreign) = std::env::var(FOREIGN).ok().and_then(|text| text.parse().ok()) {
        return check(foreign);
    }
    if can_have_a_namespace() {
        let within = in_namespace("exec \"$0\" \"$@\"")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(FOREIGN, MADE_UP)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&within.stderr);
        assert!(within.status.success(), "{}{said}", String::from_utf8_lossy(&within.stdout));
        assert!(said.contains(CHECKED), "{said}");
        return;
    }
    match own_address() {
        Some(foreign) => check(foreign),
        None => eprintln!(
            "SKIPPED: the kernel refuses a network namespace (unshare --user --net, ip address add), and this machine has \
             no address but its loopback"
        ),
    }
}

const CHECKED: &str = "checked from a foreign address";

/// A shell in a network namespace that has [`MADE_UP`], and nothing else but its loopback.
fn in_namespace(then: &str) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("ip link set lo up && ip address add {MADE_UP}/32 dev lo && {then}");
    command.args(["--user", "--map-root-user", "--net", "--", "sh", "-c", &script]);
    command
}

fn can_have_a_namespace() -> bool {
    in_namespace("true").output().is_ok_and(|output| output.status.success())
}

/// An address by which this machine would reach another one. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

/// Two servers, one of which speaks both protocols of the Internet, and their clients. What is sent to an address of this
/// machine comes from that address.
fn check(foreign: IpAddr) {
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let listen: SocketAddr = listen.parse().unwrap();
        let node = Node::start_at(listen, common::options(2, 2), Config::default());
        let port = node.server.address().port();
        let mut near = Client::connect((Ipv4Addr::LOCALHOST, port).into());
        let far = || Client::connect((foreign, port).into());
        assert_eq!(near.say("PING"), Reply::line("+PONG"), "the loopback, at {listen}");
        for _ in 0..20 {
            let mut refused = far();
            let said = refused.read().unwrap().text();
            assert!(said.starts_with("-DENIED foreshard runs in protected mode"), "{said}");
            assert_eq!(refused.read(), None, "and closed");
        }
        assert!(near.say("INFO stats").text().contains("rejected_connections:20\r\n"));
        assert_eq!(near.say("CONFIG SET protected-mode no"), Reply::line("+OK"));
        assert_eq!(far().say("PING"), Reply::line("+PONG"), "protected mode is off");
        assert_eq!(near.say("CONFIG SET protected-mode yes requirepass secret"), Reply::line("+OK"));
        let mut guest = far();
        assert_eq!(guest.say("GET k"), Reply::line("-NOAUTH Authentication required."));
        assert_eq!(guest.say("AUTH secret"), Reply::line("+OK"));
        assert_eq!(guest.say("GET k"), Reply::Null, "there is a password, and it is right");
        assert_eq!(near.ask(&["CONFIG", "SET", "requirepass", ""]), Reply::line("+OK"));
        assert!(far().read().unwrap().text().starts_with("-DENIED"), "there is none again");
        assert_eq!(guest.say("PING"), Reply::line("+PONG"), "who is in stays in");
        node.stop();
    }
    eprintln!("{CHECKED}");
}
