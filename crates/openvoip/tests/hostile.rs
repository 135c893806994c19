//! Hostile bytes at every socket of the real program: it lives, it counts, it does not grow.

mod program;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use program::{ANY, Peer};
use serde_json::Value;
use sip::Flow;
use sip::transaction::SentBy;
use sip::ua::{UaConfig, UserAgent};
use tempfile::tempdir;
use wire::{ConnectionId, Rng, RngExt, Seed, Time, stun};

/// What memory may grow by while the flood goes on, once its first part has filled the tables and
/// buffers that have bounds: what the allocator keeps and rounds, and transactions that live for half
/// a minute. A leak of twenty bytes for each of a hundred thousand pieces would show.
const MAX_GROWTH: u64 = 2 << 20;

const REQUEST: &str = "OPTIONS sip:echo@openvoip SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKx\r\n\
Max-Forwards: 70\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\
Content-Length: 0\r\n\r\n";

/// Random bytes; two thirds of them begin as something that is parsed further.
fn hostile(rng: &mut Rng) -> Vec<u8> {
    let length = rng.random_range(0..1_400);
    let mut bytes = vec![0; length];
    bytes.iter_mut().for_each(|b| *b = rng.random());
    let kind: u8 = rng.random_range(0..6);
    let beginning: &[u8] = match kind {
        0 => &[0xC4, 1, 4, 1, 0x59, 0x6A, 0xBF, 0x0D],
        1 => &stun::binding_request([1; 12]),
        2 => &[0x80, 0, 0, 1],
        3 => REQUEST.as_bytes(),
        _ => &[],
    };
    let shared = beginning.len().min(bytes.len());
    bytes[..shared].copy_from_slice(&beginning[..shared]);
    if kind == 3 && !bytes.is_empty() {
        let at = rng.random_range(0..bytes.len());
        bytes[at] = rng.random();
    }
    bytes
}

/// Sends hostile bytes everywhere, as fast as one thread can, for that long; returns how many pieces.
fn flood(peer: &Peer, control: &std::path::Path, rng: &mut Rng, length: Duration) -> u64 {
    let (listen, sip) = (peer.at("listen"), peer.at("sip"));
    let udp = UdpSocket::bind(ANY).unwrap();
    let (end, mut sent) = (Instant::now() + length, 0);
    while Instant::now() < end {
        let mut stream = TcpStream::connect(listen).expect("the peer port accepts");
        let _ = stream.write_all(&hostile(rng));
        sent += 1;
        // Bytes by chance are hardly ever a request with a length that is none.
        let mut tcp = TcpStream::connect(sip).expect("the SIP port accepts");
        let _ = tcp.write_all(REQUEST.replace("Length: 0", "Length: -1").as_bytes());
        sent += 1;
        let mut tcp = TcpStream::connect(sip).expect("the SIP port accepts");
        let mut owner = UnixStream::connect(control).expect("the control socket accepts");
        for _ in 0..4 {
            let (line, piece) = ([hostile(rng), b"\n".to_vec()].concat(), hostile(rng));
            let _ = (tcp.write_all(&piece), owner.write_all(&line));
            sent += 2;
        }
        let _ = (tcp.shutdown(Shutdown::Write), owner.shutdown(Shutdown::Write));
        let wait = Some(Duration::from_millis(500));
        let _ = (tcp.set_read_timeout(wait), owner.set_read_timeout(wait));
        let _ = (tcp.read_to_end(&mut Vec::new()), owner.read_to_end(&mut Vec::new()));
        // Last, since they use up what a host without a phone is allowed: connections could say nothing.
        for _ in 0..40 {
            // A full socket buffer drops some: that is the flood's loss, not a fault.
            let _ = (udp.send_to(&hostile(rng), listen), udp.send_to(&hostile(rng), sip));
            sent += 2;
        }
    }
    sent
}

fn dropped(status: &Value) -> BTreeMap<String, u64> {
    let counts = status["dropped"].as_object().expect("counters").iter();
    counts.map(|(why, n)| (why.clone(), n.as_u64().expect("a count"))).collect()
}

#[test]
fn any_bytes_at_any_socket_are_counted_and_dropped_and_memory_stays_flat() {
    let dir = tempdir().unwrap();
    // In the open, where the most of it is read; over links the rest is dropped unread.
    let peer = Peer::ready(dir.path(), &["up", "--user", "alice@demo.test", "--profile", "open"]);
    let (control, mut rng) = (dir.path().join("control.sock"), Seed::from_number(7).rng());
    flood(&peer, &control, &mut rng, Duration::from_secs(4));
    let before = peer.status();
    let (was, mut sent, mut rounds) = (dropped(&before), 0, 0);
    let expected = [
        "unknown",
        "p2pp malformed",
        "stun",
        "stream garbage",
        "sip malformed",
        "sip stream",
        "media of no call",
    ];
    // On a busy machine few connections are made in five seconds, and not each of them says something wrong.
    let (after, is) = loop {
        sent += flood(&peer, &control, &mut rng, Duration::from_secs(5));
        rounds += 1;
        let after = peer.status();
        let is = dropped(&after);
        match expected.into_iter().find(|why| is.get(*why) <= was.get(*why)) {
            None => break (after, is),
            Some(why) => assert!(rounds < 12, "{why} does not rise: {was:?} {is:?}"),
        }
    };
    let rss = |status: &Value| status["rss_bytes"].as_u64().expect("a number");
    let growth = rss(&after).saturating_sub(rss(&before));
    eprintln!("{sent} pieces, dropped {is:?}, memory {} and {growth} more", rss(&before));
    assert!(rss(&before) > 0 && growth <= MAX_GROWTH, "{growth} bytes more after {sent} pieces");
    assert_eq!(after["online"], true);
    peer.down();
}

/// Registers a phone over a connection; returns the connection.
fn registered(peer: &mut Peer) -> TcpStream {
    let sip = peer.at("sip");
    let mut tcp = TcpStream::connect(sip).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let local = tcp.local_addr().unwrap();
    let flow = Flow::Stream(ConnectionId(1), sip);
    let config = UaConfig {
        user: "alice".into(),
        domain: "demo.test".into(),
        password: Some("pear-lamp-37".into()),
        flow,
        sent_by: SentBy { host: local.ip().to_string(), port: Some(local.port()) },
        expires: 600,
    };
    let mut ua = UserAgent::new(config, Seed::from_number(1));
    ua.register(Time::ZERO);
    // The request, the challenge, the request with its answer, and that it is accepted.
    for _ in 0..2 {
        while let Some((_, bytes)) = ua.poll_transmit() {
            tcp.write_all(&bytes).unwrap();
        }
        let mut buffer = [0; 4_096];
        let len = tcp.read(&mut buffer).unwrap();
        ua.handle_message(Time::ZERO, flow, &buffer[..len]);
    }
    peer.wait_until("the phone is registered", 5, |p| p.status()["phones"][0]["online"] == true);
    tcp
}

#[test]
fn a_phone_that_asks_and_never_reads_is_closed_and_forgotten() {
    let dir = tempdir().unwrap();
    let mut peer = Peer::ready(dir.path(), &["up", "--user", "alice@demo.test"]);
    peer.get(&["phone", "add", "alice@demo.test", "--password", "pear-lamp-37"]);
    let mut tcp = registered(&mut peer);
    tcp.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    // Answers fill the socket's buffers, then the peer's own bounded one; then it has had enough.
    let many = REQUEST.repeat(64);
    let mut asked = 0;
    while tcp.write_all(many.as_bytes()).is_ok() && asked < 1_000_000 {
        asked += 64;
    }
    assert!(asked < 1_000_000, "it was never closed");
    peer.wait_until("the phone is gone", 5, |p| p.status()["phones"][0]["online"] == false);
    peer.down();
}

#[test]
fn connections_held_open_keep_no_phone_out() {
    let dir = tempdir().unwrap();
    let mut peer = Peer::ready(dir.path(), &["up", "--user", "alice@demo.test"]);
    peer.get(&["phone", "add", "alice@demo.test", "--password", "pear-lamp-37"]);
    let sip = peer.at("sip");
    let hold = || (0..100).map(|_| TcpStream::connect(sip).unwrap()).collect::<Vec<_>>();
    let before = hold();
    let _phone = registered(&mut peer);
    let after = hold();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(peer.status()["phones"][0]["online"], true, "{} and {} held", before.len(), after.len());
    peer.down();
}
