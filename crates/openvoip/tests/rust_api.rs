//! The Rust API on real sockets: the example runs, futures can be dropped, the end is told.

#[path = "../examples/store_and_find.rs"]
#[allow(dead_code)]
mod store_and_find;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use node::CallOptions;
use openvoip::control;
use openvoip::peer::{Error, Options, Peer};
use pollster::block_on;
use serde_json::json;

const HOUR: Duration = Duration::from_secs(3_600);

fn options() -> Options {
    let any = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    Options { listen: any, sip: any, ..Options::default() }
}

fn alone() -> Peer {
    block_on(Peer::start(options())).unwrap()
}

/// Waits until something holds, at most ten seconds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_example_stores_finds_watches_and_removes() {
    block_on(store_and_find::store_and_find()).unwrap();
}

#[test]
fn bytes_that_are_no_text_come_back_as_they_were() {
    let peer = alone();
    let value = vec![0, 0xff, 0xc3, b'\n', 0x80];
    block_on(peer.publish("bytes", value.clone(), HOUR)).unwrap();
    let record = block_on(peer.lookup("bytes")).unwrap().unwrap();
    assert_eq!(record.value, value);
    assert!(
        record.expires <= HOUR && record.expires > HOUR - Duration::from_secs(60),
        "{:?}",
        record.expires
    );
}

#[test]
fn what_cannot_be_done_is_an_error_and_what_is_not_there_is_none() {
    let peer = alone();
    assert_eq!(block_on(peer.lookup("nothing")), Ok(None));
    let error = block_on(peer.remove("nothing")).unwrap_err();
    assert!(matches!(error, Error::Failed { code: 404, .. }), "{error}");
    let error = block_on(peer.publish("large", vec![0; 801], HOUR)).unwrap_err();
    assert!(matches!(&error, Error::Failed { reason, .. } if reason.contains("800 bytes")), "{error}");
    assert!(block_on(peer.publish("just right", vec![0; 800], HOUR)).is_ok());
    assert!(!block_on(peer.lookup_user("nobody@nowhere.test")).unwrap().found);
}

#[test]
fn a_later_publish_takes_the_place_of_one_under_way_and_says_so() {
    let founder = alone();
    let mut second = options();
    second.config.bootstrap = vec![founder.address()];
    let peer = block_on(Peer::start(second)).unwrap();
    // Two peers need less than a millisecond to store a value: now and then the first is quicker than we.
    let errors: Vec<_> = (0..20)
        .filter_map(|n| {
            let key = format!("k{n}");
            let (first, second) = block_on(async {
                let mut first = std::pin::pin!(peer.publish(key.clone(), "1", HOUR));
                let mut second = std::pin::pin!(peer.publish(key.clone(), "2", HOUR));
                std::future::poll_fn(|cx| {
                    assert!(first.as_mut().poll(cx).is_pending() && second.as_mut().poll(cx).is_pending());
                    std::task::Poll::Ready(())
                })
                .await;
                (first.await, second.await)
            });
            assert!(second.is_ok());
            assert_eq!(block_on(founder.lookup(&key)).unwrap().unwrap().value, b"2");
            first.err()
        })
        .collect();
    assert!(!errors.is_empty());
    assert!(errors.iter().all(|e| e.to_string().contains("a later command took its place")), "{errors:?}");
}

#[test]
fn handles_are_cloned_and_sent_and_the_end_is_told_to_all() {
    let peer = alone();
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let peer = peer.clone();
            std::thread::spawn(move || block_on(peer.publish(format!("key {n}"), "v", HOUR)))
        })
        .collect();
    assert!(threads.into_iter().all(|t| t.join().unwrap().is_ok()));
    let mut watch = peer.subscribe("key 1", HOUR).unwrap();
    assert!(block_on(watch.next()).flatten().is_some());
    let other = peer.clone();
    assert_eq!(block_on(peer.shutdown()), Ok(()));
    assert_eq!(block_on(watch.next()), None);
    eventually("the other handle knows", || block_on(other.status()).err() == Some(Error::Stopped));
}

#[test]
fn the_last_handle_dropped_ends_the_peer() {
    let peer = alone();
    let (address, second) = (peer.address(), peer.clone());
    drop(peer);
    assert!(block_on(second.status()).unwrap().online);
    drop(second);
    eventually("the port is free", || std::net::UdpSocket::bind(address).is_ok());
}

#[test]
fn a_call_whose_future_is_dropped_is_hung_up() {
    let peer = alone();
    let call = {
        let peer = peer.clone();
        let (give_up, mut given_up) = futures_channel::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            block_on(async {
                let mut call = std::pin::pin!(peer.call("echo", CallOptions::default()));
                std::future::poll_fn(|cx| {
                    assert!(call.as_mut().poll(cx).is_pending(), "the call ended by itself");
                    std::pin::Pin::new(&mut given_up).poll(cx).map(drop)
                })
                .await;
            });
        });
        (thread, give_up)
    };
    let calls = || block_on(peer.status()).unwrap().calls;
    eventually("the call is up", || calls() == 1);
    call.1.send(()).unwrap();
    call.0.join().unwrap();
    eventually("the call is hung up", || calls() == 0);
}

#[test]
fn a_call_and_a_message_come_to_their_reports() {
    let mut alice = options();
    alice.users = vec!["alice@api.test".into()];
    let alice = block_on(Peer::start(alice)).unwrap();
    let options = CallOptions { play: None, record: true, duration: Some(Duration::from_secs(1)) };
    let call = block_on(alice.call("echo", options)).unwrap();
    assert_eq!((call.state.as_str(), call.failure), ("ended", None));
    let heard = call.recording.unwrap();
    // The tone went to echo and came back.
    assert!(media::heard(&heard, 8_000, 440.0).at_least(0.6), "{} samples", heard.len());
    let message = block_on(alice.message("nobody@api.test", "hello")).unwrap();
    assert_eq!((message.state.as_str(), message.status), ("failed", 404));
}

#[test]
fn a_peer_that_cannot_start_says_why() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let refused = Options { listen: Some(taken.local_addr().unwrap()), ..options() };
    let error = block_on(Peer::start(refused)).unwrap_err();
    assert!(matches!(&error, Error::Start(reason) if reason.contains("cannot use")), "{error}");
}

#[test]
fn the_command_line_looks_into_a_peer_of_an_application() {
    let dir = tempfile::tempdir().unwrap();
    let peer = block_on(Peer::start(Options { data_dir: Some(dir.path().into()), ..options() })).unwrap();
    block_on(peer.publish("k", "from the application", HOUR)).unwrap();
    let ask = |request| control::ask(dir.path(), &request, Duration::from_secs(5));
    assert_eq!(ask(json!({ "command": "get", "key": "k" }))["value"], "from the application");
    assert_eq!(ask(json!({ "command": "put", "key": "l", "value": { "hex": "00ff" } }))["exit"], 0);
    assert_eq!(block_on(peer.lookup("l")).unwrap().unwrap().value, [0, 0xff]);
    assert_eq!(ask(json!({ "command": "get", "key": "l" }))["value_hex"], "00ff");
    assert_eq!(ask(json!({ "command": "down" }))["stopped"], true);
    eventually("the handle knows", || block_on(peer.status()).err() == Some(Error::Stopped));
    assert_eq!(ask(json!({ "command": "status" }))["exit"], control::exit::NOT_RUNNING);
}
