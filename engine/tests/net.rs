//! Sockets through the ring, with and without operations that complete many times.
#![expect(clippy::unwrap_used, reason = "a test fails by its panic")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use foreshard_engine::io::ring::{Connection, RingConfig, RingRuntime, Setup};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Every way the ring can be set up here.
fn each_setup(check: impl Fn(&RingRuntime)) {
    for (setup, multishot) in [(Setup::Deferred, true), (Setup::Deferred, false), (Setup::Plain, true)] {
        check(&RingRuntime::new(&RingConfig { setup, multishot, ..RingConfig::default() }).unwrap());
    }
}

/// Connects; the kernel completes that without the listener's doing.
fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).unwrap()
}

async fn receive_exactly(connection: &Connection, len: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < len {
        all.extend_from_slice(&connection.receive().await.unwrap().expect("more is to come"));
    }
    all
}

#[test]
fn bytes_arrive_are_answered_and_end() {
    each_setup(|ring| {
        let listener = ring.net().listen(ANY).unwrap();
        for round in 0..10u8 {
            let mut client = connect(listener.address());
            client.write_all(&[round; 1000]).unwrap();
            ring.run(async {
                let connection = listener.accept().await.unwrap();
                assert_eq!(receive_exactly(&connection, 1000).await, [round; 1000]);
                let (bytes, sent) = connection.send(vec![round + 1; 5000]).await;
                sent.unwrap();
                assert_eq!(bytes.len(), 5000, "the buffer comes back");
                client.shutdown(std::net::Shutdown::Write).unwrap();
                assert!(connection.receive().await.unwrap().is_none());
            });
            let mut answer = Vec::new();
            ring.run(ring.runtime().yield_now());
            ring.run(ring.runtime().sleep(Duration::from_millis(1)));
            client.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, [round + 1; 5000]);
        }
    });
}

#[test]
fn more_than_all_buffers_hold_arrives_in_order() {
    each_setup(|ring| {
        let (runtime, listener) = (ring.runtime(), ring.net().listen(ANY).unwrap());
        let mut client = connect(listener.address());
        let total = 24 << 20;
        #[expect(clippy::disallowed_methods, reason = "a client is another process in life")]
        let sender = std::thread::spawn(move || {
            let bytes: Vec<u8> = (0..total).map(|n: u32| u8::try_from(n / 1000 % 251).unwrap()).collect();
            client.write_all(&bytes).unwrap();
        });
        ring.run(async {
            let connection = listener.accept().await.unwrap();
            let mut held = Vec::new();
            let mut count = 0u32;
            while let Some(received) = connection.receive().await.unwrap() {
                for &byte in received.iter() {
                    assert_eq!(u32::from(byte), count / 1000 % 251);
                    count += 1;
                }
                // A reader that lags, and holds on to some of what it got.
                held.push(received);
                if held.len() == 32 {
                    runtime.sleep(Duration::from_millis(1)).await;
                    held.clear();
                }
            }
            assert_eq!(count, total);
        });
        sender.join().unwrap();
    });
}

#[test]
fn a_reader_that_holds_on_to_all_it_got_holds_up_nobody() {
    let ring = RingRuntime::new(&RingConfig::default()).unwrap();
    let listener = ring.net().listen(ANY).unwrap();
    let mut greedy = connect(listener.address());
    let mut modest = connect(listener.address());
    ring.run(async {
        let (first, second) = (listener.accept().await.unwrap(), listener.accept().await.unwrap());
        // One buffer for each byte: sent and received one at a time, more than there are buffers.
        let mut held = Vec::new();
        for n in 0..400_u32 {
            greedy.write_all(&[u8::try_from(n % 251).unwrap()]).unwrap();
            held.push(first.receive().await.unwrap().unwrap());
        }
        modest.write_all(&[2]).unwrap();
        assert_eq!(receive_exactly(&second, 1).await, [2]);
        for (n, received) in (0_u32..).zip(&held) {
            assert_eq!(received[..], [u8::try_from(n % 251).unwrap()], "what is held stays as it came");
        }
    });
}

#[test]
fn readers_that_lag_behind_hold_no_buffers_that_others_need() {
    let ring = RingRuntime::new(&RingConfig::default()).unwrap();
    let (runtime, listener) = (ring.runtime(), ring.net().listen(ANY).unwrap());
    let mut talkers: Vec<TcpStream> = (0..100).map(|_| connect(listener.address())).collect();
    ring.run(async {
        let mut laggards = Vec::new();
        for talker in &mut talkers {
            let laggard = listener.accept().await.unwrap();
            talker.write_all(&[0]).unwrap();
            assert_eq!(receive_exactly(&laggard, 1).await, [0]);
            laggards.push(laggard);
        }
        // Each byte takes a buffer of its own; a hundred times ten are more than there are.
        for byte in 1..=10 {
            for talker in &mut talkers {
                talker.write_all(&[byte]).unwrap();
            }
            runtime.sleep(Duration::from_millis(1)).await;
        }
        let mut modest = connect(listener.address());
        let connection = listener.accept().await.unwrap();
        modest.write_all(&[77]).unwrap();
        assert_eq!(receive_exactly(&connection, 1).await, [77]);
        for laggard in &laggards {
            assert_eq!(
                receive_exactly(laggard, 10).await,
                [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
                "nothing is lost"
            );
        }
    });
}

#[test]
fn a_hundred_connections_are_served_at_once_and_closed() {
    each_setup(|ring| {
        let (runtime, listener) = (ring.runtime(), ring.net().listen(ANY).unwrap());
        let mut clients: Vec<TcpStream> = (0..100).map(|_| connect(listener.address())).collect();
        for (number, client) in (0u8..).zip(&mut clients) {
            client.write_all(&[number; 100]).unwrap();
        }
        ring.run(async {
            let mut served = Vec::new();
            for _ in 0..100 {
                let connection = listener.accept().await.unwrap();
                served.push(runtime.spawn(async move {
                    let bytes = receive_exactly(&connection, 100).await;
                    connection.send(bytes).await.1.unwrap();
                }));
            }
            for task in served {
                task.await;
            }
            runtime.sleep(Duration::from_millis(1)).await;
        });
        for (number, client) in (0u8..).zip(&mut clients) {
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, [number; 100]);
        }
    });
}

#[test]
fn shutdown_wakes_the_receiver_and_dropping_the_runtime_ends_everything() {
    each_setup(|ring| {
        let (runtime, listener) = (ring.runtime(), Rc::new(ring.net().listen(ANY).unwrap()));
        let client = connect(listener.address());
        ring.run(async {
            let connection = Rc::new(listener.accept().await.unwrap());
            let waiting = Rc::clone(&connection);
            let received = runtime.spawn(async move { waiting.receive().await.unwrap().is_none() });
            runtime.sleep(Duration::from_millis(1)).await;
            connection.shutdown();
            assert!(received.await);
        });
        // Left in flight when the runtime is dropped: an accept and a receive.
        let endless = Rc::clone(&listener);
        runtime
            .spawn(async move { endless.accept().await.unwrap().receive().await.unwrap().is_some() })
            .detach();
        let _second = connect(listener.address());
        ring.run(runtime.sleep(Duration::from_millis(1)));
        drop(client);
    });
}

#[test]
fn two_shards_listen_at_one_address() {
    let ring = RingRuntime::new(&RingConfig::default()).unwrap();
    let first = ring.net().listen(ANY).unwrap();
    let second = ring.net().listen(first.address()).unwrap();
    assert_eq!(first.address(), second.address());
}

#[test]
fn a_peer_whose_connection_is_reset_can_write_no_more_although_nothing_is_unread() {
    each_setup(|ring| {
        let (runtime, listener) = (ring.runtime(), ring.net().listen(ANY).unwrap());
        for is_reset in [false, true] {
            let mut client = connect(listener.address());
            client.write_all(&[1; 1000]).unwrap();
            ring.run(async {
                let connection = listener.accept().await.unwrap();
                assert_eq!(receive_exactly(&connection, 1000).await, [1; 1000]);
                if is_reset {
                    connection.reset();
                } else {
                    connection.shutdown();
                }
                assert!(connection.receive().await.unwrap().is_none(), "who receives is told as well");
            });
            // It is closed by the ring, behind the last operation on it.
            ring.run(runtime.sleep(Duration::from_millis(1)));
            // Both have heard that nothing more comes; the kernel of one has heard that nothing more is taken.
            assert_eq!(client.read(&mut [0]).map_err(|e| e.kind()), Ok(0));
            let written = client.write(&[1]).map_err(|e| e.kind());
            let told = if is_reset { Err(std::io::ErrorKind::BrokenPipe) } else { Ok(1) };
            assert_eq!(written, told);
        }
    });
}
