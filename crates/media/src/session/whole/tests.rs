//! Datagrams that two phones send each other under keys of their own.

use proptest::prelude::*;

use crate::session::tests::{ANN, BOB, PEER_A, PEER_B, STRANGER, at, frame, ms, protected, two_phones};
use crate::session::*;
use crate::srtp::Cipher;

/// The first message of ZRTP, as far as a peer sees it (RFC 6189, section 5).
const HELLO: &[u8] = b"\x10\x00\x00\x01ZRTP\x00\x00\x00\x05PZ\x00\x1dHello   ";

/// What leaves a session, its tails with it.
fn sent(s: &mut Session) -> Vec<(Socket, SocketAddr, Vec<u8>)> {
    std::iter::from_fn(|| s.poll_transmit()).map(|t| (t.socket, t.remote, t.bytes)).collect()
}

fn whole(mut sessions: [Session; 2]) -> [Session; 2] {
    sessions.iter_mut().for_each(|s| s.set_whole(true));
    sessions
}

/// What Bob gets of a datagram of Ann's that came to that port of her peer, and what went between the peers.
fn across(
    near: &mut Session,
    far: &mut Session,
    kind: Kind,
    bytes: &[u8],
) -> Option<(SocketAddr, Vec<u8>, Vec<u8>)> {
    let from = if kind == Kind::Rtp { ANN } else { "192.0.2.1:4001" };
    near.carry(ms(20), Leg::A, kind, at(from), bytes);
    let (socket, remote, between) = sent(near).pop()?;
    assert_eq!((socket, remote), (Socket::Peer, at(PEER_B)));
    let mut arrived = between.clone();
    assert_eq!(far.handle_datagram(ms(30), Leg::A, at(PEER_A), &mut arrived), None);
    let (socket, remote, heard) = sent(far).pop()?;
    assert_eq!(socket, Socket::Media(if kind == Kind::Rtp { 30_000 } else { 30_001 }));
    Some((remote, heard, between))
}

#[test]
fn whatever_a_phone_sends_reaches_the_other_as_it_is_and_nobody_between_the_peers_reads_it() {
    let [mut near, mut far] = whole(protected(Cipher::Aes));
    let sealed_rtcp = [&[0x80, 200, 0, 6][..], &[7; 30]].concat();
    let all = [
        (Kind::Rtp, HELLO.to_vec()),
        (Kind::Rtp, [&[22, 0xfe, 0xfd][..], &[3; 60]].concat()),
        (Kind::Rtp, frame(77, 9)),
        (Kind::Rtcp, sealed_rtcp),
        (Kind::Rtp, frame(77, 10)),
    ];
    for (kind, datagram) in all {
        let (remote, heard, between) = across(&mut near, &mut far, kind, &datagram).unwrap();
        let port = if kind == Kind::Rtp { BOB } else { "192.0.2.2:5001" };
        assert_eq!((remote, &heard), (at(port), &datagram));
        assert!(!between.windows(16).any(|w| w == &datagram[..16]));
        assert_eq!(between.len(), datagram.len() + 12 + 10);
    }
    let stats = far.stats(Leg::A);
    assert_eq!(
        (stats.received, stats.lost, stats.malformed),
        (2, 0, 0),
        "sound alone is counted, by its own numbers"
    );
    assert_eq!((near.stats(Leg::A).received, near.stats(Leg::B).sent), (2, 5));
}

#[test]
fn two_phones_at_one_peer_get_each_others_datagrams_with_the_ssrc_that_they_were_sent_with() {
    let mut s = two_phones();
    s.set_whole(true);
    for datagram in [HELLO.to_vec(), frame(77, 9)] {
        s.carry(ms(0), Leg::A, Kind::Rtp, at(ANN), &datagram);
        assert_eq!(sent(&mut s), [(Socket::Media(20_002), at(BOB), datagram)]);
    }
}

#[test]
fn a_stranger_is_not_carried_nor_is_what_would_not_go_in_one_piece() {
    let [mut near, mut far] = whole(protected(Cipher::Aes));
    assert!(across(&mut near, &mut far, Kind::Rtp, HELLO).is_some());
    near.carry(ms(21), Leg::A, Kind::Rtp, at(STRANGER), HELLO);
    near.carry(ms(21), Leg::A, Kind::Rtcp, at(STRANGER), HELLO);
    assert_eq!(near.stats(Leg::A).refused, 2);
    for len in [0, MAX_WHOLE + 1] {
        near.carry(ms(22), Leg::A, Kind::Rtp, at(ANN), &vec![0x10; len]);
    }
    assert_eq!(near.stats(Leg::A).malformed, 2);
    assert_eq!(sent(&mut near), []);
}

#[test]
fn what_is_changed_or_repeated_between_the_peers_reaches_no_phone() {
    let [mut near, mut far] = whole(protected(Cipher::Aes));
    let (_, _, between) = across(&mut near, &mut far, Kind::Rtp, HELLO).unwrap();
    for at_byte in 0..between.len() {
        let mut changed = between.clone();
        changed[at_byte] ^= 1;
        far.handle_datagram(ms(40), Leg::A, at(PEER_A), &mut changed);
    }
    far.handle_datagram(ms(40), Leg::A, at(PEER_A), &mut between.clone());
    assert_eq!(sent(&mut far), []);
}

#[test]
fn a_peer_that_expects_sound_plays_nothing_of_what_is_carried_and_the_other_way_round() {
    let [mut near, mut far] = protected(Cipher::Aes);
    near.set_whole(true);
    near.carry(ms(0), Leg::A, Kind::Rtp, at(ANN), HELLO);
    let (_, _, mut bytes) = sent(&mut near).pop().unwrap();
    far.handle_datagram(ms(1), Leg::A, at(PEER_A), &mut bytes).expect("it is passed to the phone as RTP");
    let played = Packet::parse(&bytes[..HELLO.len() + 12]).unwrap().header.payload_type;
    assert!([20, 21].contains(&played), "under a number that means no codec");
    far.set_whole(true);
    near.set_whole(false);
    let mut bytes = frame(1, 1);
    let forward = near.handle_rtp(ms(2), Leg::A, at(ANN), &mut bytes).unwrap();
    bytes.extend_from_slice(&forward.tail);
    far.handle_datagram(ms(3), Leg::A, at(PEER_A), &mut bytes);
    assert_eq!((sent(&mut far), far.stats(Leg::A).malformed), (vec![], 1));
}

#[test]
fn peers_go_on_measuring_the_path_between_them() {
    let mut sessions = whole(protected(Cipher::Aes));
    for t in (0..12_000).step_by(20) {
        for (here, there, leg, from) in [(0, 1, Leg::A, PEER_A), (1, 0, Leg::B, PEER_B)] {
            if sessions[here].poll_timeout().is_some_and(|(at, _)| at <= ms(t)) {
                sessions[here].handle_timeout(ms(t));
            }
            for (_, _, mut bytes) in sent(&mut sessions[here]) {
                sessions[there].handle_datagram(ms(t + 10), leg, at(from), &mut bytes);
            }
        }
    }
    assert!(sessions[0].stats(Leg::B).rtt.is_some() && sessions[1].stats(Leg::A).rtt.is_some());
}

proptest! {
    #[test]
    fn any_bytes_pass_or_are_dropped_and_nothing_panics(
        datagrams in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..90), any::<bool>()), 0..40),
    ) {
        let [mut near, mut far] = whole(protected(Cipher::Aes));
        for (bytes, is_rtcp) in datagrams {
            let kind = if is_rtcp { Kind::Rtcp } else { Kind::Rtp };
            let heard = across(&mut near, &mut far, kind, &bytes).map(|(_, heard, _)| heard);
            prop_assert_eq!(heard, (!bytes.is_empty()).then(|| bytes.clone()));
            far.handle_datagram(ms(50), Leg::A, at(PEER_A), &mut bytes.clone());
            sent(&mut far);
        }
    }
}
