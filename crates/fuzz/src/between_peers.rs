//! P2PP messages and records, frames of links, streams, STUN, and letters.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use link::streams::{Framer, MAX_FRAME};
use link::{Endpoint, Received, Wish};
use node::Profile;
use node::ratchet::Letter;
use node::storage::Devices;
use wire::p2pp::{Builder, Header, Message, Object, Record};
use wire::{HashAlgorithm, KeyPair, Seed, Time, stun};

/// A P2PP message reads the same after it was written again, and no hop's change breaks it.
pub fn p2pp(bytes: &[u8]) {
    let _ = Header::parse(bytes);
    let Ok(message) = Message::parse(bytes) else { return };
    message.objects().for_each(|o| look_inside(&o));
    for hash in HashAlgorithm::ALL {
        let _ = message.signer(hash);
    }
    let written = write(&message);
    let again = Message::parse(&written).expect("what we write we can read");
    assert_eq!(again.header, message.header);
    assert_eq!(again.objects().count(), message.objects().count());
    assert_eq!(write(&again), written, "the second writing differs from the first");

    let mut forwarded = bytes.to_vec();
    Header::patch_for_next_hop(&mut forwarded, 1, 500);
    Header::patch_class(&mut forwarded, wire::p2pp::Class::Response);
    let forwarded = Message::parse(&forwarded).expect("a hop changes a message and does not break it");
    assert_eq!((forwarded.header.ttl, forwarded.header.deadline_ms), (1, 500));
    let longer = Builder::resume(&message).with(&Object::Expires(1)).finish();
    if let Ok(longer) = Message::parse(&longer) {
        assert_eq!(longer.objects().count(), message.objects().count() + 1);
    }
}

fn write(message: &Message<'_>) -> Vec<u8> {
    let mut builder = Builder::new(&message.header);
    message.objects().for_each(|o| {
        builder.push(&o);
    });
    builder.finish()
}

fn look_inside(object: &Object<'_>) {
    assert!(!format!("{object:?}").is_empty());
    match object {
        Object::PeerInfo(info) => {
            let _ = info.contact();
        }
        Object::RoutingTable(peers) | Object::NeighborTable(peers) => {
            assert!(peers.contacts().count() <= peers.iter().count());
        }
        Object::Resource(found) => {
            let _ = found.verify();
            assert_eq!(found.to_record().as_ref(), *found);
        }
        _ => {}
    }
}

/// A stranger's stream brings the same datagrams however it is cut, in each of which stands what it sent; one that is
/// nothing to a peer is closed once and says nothing more, and one that stops is closed in time.
pub fn stream(bytes: &[u8]) {
    let (size, bytes) = bytes.split_first().map_or((1, bytes), |(size, rest)| (usize::from(*size) + 1, rest));
    let whole = cut(bytes, bytes.len().max(1));
    assert_eq!(cut(bytes, size), whole);
    let carried: usize = whole.0.iter().map(|datagram| datagram.len() + 2).sum();
    assert!(carried <= bytes.len() && whole.0.iter().all(|d| (1..=MAX_FRAME).contains(&d.len())));

    let remote = SocketAddr::from(([192, 0, 2, 1], 7080));
    for profile in Profile::ALL {
        let mut now = Time::from_secs(10);
        let keys = KeyPair::from_seed(Seed::from_number(1));
        let mut endpoint = Endpoint::new(profile, &keys, Seed::from_number(2));
        endpoint.use_streams(true);
        endpoint.handle_stream_opened(now, remote);
        for piece in bytes.chunks(size) {
            let mut rest = piece;
            while endpoint.handle_piece(now, remote, &mut rest).is_some() {}
            assert!(rest.is_empty());
            std::iter::from_fn(|| endpoint.poll_transmit()).for_each(drop);
        }
        while let Some(due) = endpoint.poll_timeout() {
            assert!(due > now || endpoint.count_streams() == 0, "time stands still");
            now = due;
            endpoint.handle_timeout(now);
        }
        let wishes: Vec<Wish> = std::iter::from_fn(|| endpoint.poll_stream()).collect();
        assert_eq!((wishes, endpoint.count_streams()), (vec![Wish::Close(remote)], 0));
    }
}

/// The datagrams of a stream that comes in pieces of this size, and whether it ended in one that is too long.
fn cut(bytes: &[u8], size: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut framer, mut datagrams) = (Framer::default(), Vec::new());
    for mut piece in bytes.chunks(size) {
        loop {
            match framer.next(&mut piece) {
                Ok(Some(datagram)) => datagrams.push(datagram),
                Ok(None) => break,
                Err(_) => return (datagrams, true),
            }
        }
    }
    (datagrams, false)
}

/// A frame from a stranger, in either profile, is answered with no more than it was, and so is what it may lead
/// to: the first byte is the profile's, the rest is anything.
pub fn link(bytes: &[u8]) {
    let remote = SocketAddr::from(([192, 0, 2, 1], 7080));
    let mut now = Time::from_secs(10);
    for (profile, suite) in [(Profile::Secure, 80), (Profile::Signed, 96)] {
        let keys = KeyPair::from_seed(Seed::from_number(1));
        let mut endpoint = Endpoint::new(profile, &keys, Seed::from_number(2));
        for frame in bytes.chunks(200) {
            let mut frame = frame.to_vec();
            frame[0] = suite + frame[0] % 16;
            let received = endpoint.handle_datagram(now, remote, &frame);
            assert!(!matches!(received, Received::Sealed(..)), "nobody has a link");
            let answered = std::iter::from_fn(|| endpoint.poll_transmit()).map(|t| t.bytes.len());
            assert!(answered.sum::<usize>() <= frame.len());
            now += std::time::Duration::from_millis(100);
            endpoint.handle_timeout(now);
            assert_eq!(endpoint.poll_timeout(), None, "nothing of ours is under way");
        }
    }
}

/// A record reads the same after it was written again; so does what user records hold.
pub fn record(bytes: &[u8]) {
    if let Some((devices, claim)) = Devices::read(bytes) {
        assert_eq!(devices.with(&claim).as_deref(), Some(bytes));
    }
    let Ok(record) = Record::from_bytes(bytes) else { return };
    assert_eq!(record.to_bytes(), bytes);
    let _ = record.as_ref().verify();
    assert_eq!(record.as_ref().summary().sequence, record.sequence);
    if let Some(devices) = Devices::parse(&record.value) {
        assert!(devices.0.len() <= Devices::MAX);
    }
}

/// A STUN answer is short, and reports the address that was asked from.
pub fn stun(bytes: &[u8]) {
    let v4 = SocketAddr::from(([192, 0, 2, 1], 4_000));
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 4_000);
    for remote in [v4, v6] {
        let Some(answer) = stun::answer(bytes, remote) else { continue };
        assert!(answer.len() <= 64, "an answer of {} bytes", answer.len());
        let mapped = stun::mapped_address(&answer, &bytes[8..20]);
        assert!(mapped.is_none_or(|m| m == remote));
    }
    if let Some(transaction) = bytes.get(8..20) {
        let _ = stun::mapped_address(bytes, transaction);
    }
}

/// What stands in an envelope is SIP or a letter, and a letter reads the same after it was written again.
pub fn letter(bytes: &[u8]) {
    let Some(letter) = Letter::parse(bytes) else { return };
    assert!(Letter::is_one(bytes), "and no SIP");
    assert_eq!(letter.to_bytes(), bytes);
}
