//! Sessions told as transcripts: who sends what, and what the other side gets.

use proptest::prelude::*;
use wire::rtp::Header;
use wire::rtp::rtcp::{self, Packet as RtcpPacket, ReportBlock, SenderInfo};

use super::*;
use crate::endpoint::{EndpointConfig, RATE, Source};
use crate::srtp::{self, Cipher};
use crate::tone::heard;

pub(super) const ANN: &str = "192.0.2.1:4000";
pub(super) const BOB: &str = "192.0.2.2:5000";
pub(super) const PEER_A: &str = "198.51.100.1:7000";
pub(super) const PEER_B: &str = "198.51.100.2:7000";
pub(super) const STRANGER: &str = "203.0.113.9:9";
const ID_A: u32 = 0xa0a0_a0a0;
const ID_B: u32 = 0xb0b0_b0b0;

pub(super) fn at(s: &str) -> SocketAddr {
    s.parse().unwrap()
}

pub(super) fn ms(ms: u64) -> Time {
    Time::from_millis(ms)
}

pub(super) fn phone(port: u16, announced: &str) -> Face {
    Face::Phone(PhoneFace { announced: Some(at(announced)), ..PhoneFace::new(port) })
}

fn peer(remote: &str, send_id: u32, receive_id: u32) -> Face {
    Face::Peer(PeerFace { remote: Some(at(remote)), send_id: Some(send_id), receive_id, protected: false })
}

fn talker(source: Source, seed: u64) -> Face {
    let config = EndpointConfig::new(source, Seed::from_number(seed));
    Face::Local(Box::new(Endpoint::new(config, Time::ZERO)))
}

pub(super) fn session(a: Face, b: Face, seed: u64) -> Session {
    Session::new(SessionConfig::new(a, b, Seed::from_number(seed)), Time::ZERO)
}

/// Two phones at one peer.
pub(super) fn two_phones() -> Session {
    session(phone(20_000, ANN), phone(20_002, BOB), 1)
}

/// A phone and another peer.
fn phone_and_peer() -> Session {
    session(phone(20_000, ANN), peer(PEER_B, ID_B, ID_A), 1)
}

/// A frame of the stream `ssrc`, its timestamp following its number.
pub(super) fn frame(ssrc: u32, sequence: u16) -> Vec<u8> {
    let header =
        Header { payload_type: 0, sequence, timestamp: u32::from(sequence) * 160, ssrc, marker: false };
    header.packet(&[0x55; 160])
}

/// Hands a packet in; says where it goes and what its header has become.
fn carry(s: &mut Session, now: Time, leg: Leg, from: &str, bytes: &[u8]) -> Option<(Forward, Header)> {
    let mut bytes = bytes.to_vec();
    let forward = s.handle_datagram(now, leg, at(from), &mut bytes)?;
    assert_eq!(forward.len, bytes.len());
    Some((forward, Packet::parse(&bytes).unwrap().header))
}

fn to(forward: Forward) -> (Socket, SocketAddr) {
    (forward.socket, forward.remote)
}

#[test]
fn two_phones_at_one_peer_hear_each_other_under_constant_ssrcs() {
    let mut s = two_phones();
    let (f, first) = carry(&mut s, ms(0), Leg::A, ANN, &frame(1, 10)).unwrap();
    assert_eq!(to(f), (Socket::Media(20_002), at(BOB)));
    assert_ne!(first.ssrc, 1);
    assert_eq!((first.sequence, first.timestamp), (10, 1_600), "the first source keeps its numbers");
    let (_, second) = carry(&mut s, ms(20), Leg::A, ANN, &frame(1, 11)).unwrap();
    assert_eq!(second.ssrc, first.ssrc);
    let (f, back) = carry(&mut s, ms(20), Leg::B, BOB, &frame(2, 7)).unwrap();
    assert_eq!(to(f), (Socket::Media(20_000), at(ANN)));
    assert_ne!(back.ssrc, first.ssrc);
    assert_eq!((s.stats(Leg::A).received, s.stats(Leg::B).sent), (2, 2));
    assert_eq!(s.poll_event(), Some(Event::Latched { leg: Leg::A, remote: at(ANN) }));
}

#[test]
fn any_payload_passes_untouched() {
    let mut s = two_phones();
    for payload_type in 0..128 {
        let header = Header { payload_type, marker: true, ssrc: 1, ..Header::default() };
        let payload = vec![payload_type; usize::from(payload_type)];
        let mut bytes = header.packet(&payload);
        if rtp::classify(&bytes) == Some(Kind::Rtcp) {
            continue; // 64 to 95 with the marker cannot be told from RTCP.
        }
        s.handle_datagram(ms(0), Leg::A, at(ANN), &mut bytes).unwrap();
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.payload, payload);
        assert_eq!((packet.header.payload_type, packet.header.marker), (payload_type, true));
    }
}

/// A phone at a peer and a phone at another one, between which everything is protected.
pub(super) fn protected(cipher: Cipher) -> [Session; 2] {
    let leg = |remote: &str, send_id, receive_id| {
        Face::Peer(PeerFace { remote: Some(at(remote)), send_id: Some(send_id), receive_id, protected: true })
    };
    let mut near = session(phone(20_000, ANN), leg(PEER_B, ID_B, ID_A), 1);
    let mut far = session(leg(PEER_A, ID_A, ID_B), phone(30_000, BOB), 2);
    let [there, back] = [1, 2].map(|n| srtp::Master::new([n; srtp::MASTER_LEN]));
    let keys = |out, back| Keyed {
        sender: srtp::Sender::new(cipher, out),
        receiver: srtp::Receiver::new(cipher, back),
    };
    near.set_keys(Leg::B, keys(&there, &back));
    far.set_keys(Leg::A, keys(&back, &there));
    [near, far]
}

/// Hands a packet in, and gives the datagram that goes on.
fn pass(s: &mut Session, now: Time, leg: Leg, from: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = [bytes, &[0; Tail::MAX]].concat();
    let forward = s.handle_datagram(now, leg, at(from), &mut buffer[..bytes.len()])?;
    Some(forward.finish(&mut buffer).to_vec())
}

#[test]
fn two_phones_hear_each_other_through_protected_legs() {
    for cipher in [Cipher::Aes, Cipher::Null] {
        let [mut near, mut far] = protected(cipher);
        for n in 0..200_u16 {
            let now = ms(u64::from(n) * 20);
            let number = 65_500_u16.wrapping_add(n);
            let sent = pass(&mut near, now, Leg::A, ANN, &frame(1, number)).unwrap();
            let readable = sent.windows(20).any(|w| w == [0x55; 20]);
            assert_eq!(readable, cipher == Cipher::Null);
            let heard = pass(&mut far, now, Leg::A, PEER_A, &sent).unwrap();
            assert_eq!(Packet::parse(&heard).unwrap().payload, [0x55; 160], "{number}");
            let back = pass(&mut far, now, Leg::B, BOB, &frame(2, n)).unwrap();
            assert!(pass(&mut near, now, Leg::B, PEER_B, &back).is_some());
        }
    }
}

#[test]
fn who_changes_repeats_or_invents_a_packet_between_protected_legs_is_not_heard() {
    let [mut near, mut far] = protected(Cipher::Aes);
    let sent = pass(&mut near, ms(0), Leg::A, ANN, &frame(1, 10)).unwrap();
    for at in 0..sent.len() {
        let mut changed = sent.clone();
        changed[at] ^= 4;
        assert_eq!(pass(&mut far, ms(0), Leg::A, PEER_A, &changed), None, "byte {at}");
    }
    assert_eq!(pass(&mut far, ms(0), Leg::A, PEER_A, &frame(ID_B, 10)), None, "in the clear");
    assert!(pass(&mut far, ms(0), Leg::A, STRANGER, &sent).is_some(), "it is genuine, whatever way it took");
    assert_eq!(pass(&mut far, ms(0), Leg::A, PEER_A, &sent), None, "again");
}

#[test]
fn a_phone_that_begins_to_count_anew_with_the_same_ssrc_goes_on_being_heard() {
    for (before, after) in [(30_000, 10_000), (50, 45_050), (20_000, 19_500)] {
        let [mut near, mut far] = protected(Cipher::Aes);
        let numbers = (before..before + 50).chain(after..after + 50);
        let mut heard = Vec::new();
        for (n, number) in numbers.enumerate() {
            let now = ms(n as u64 * 20);
            let sent = pass(&mut near, now, Leg::A, ANN, &frame(1, number)).expect("nothing is withheld");
            let bytes = pass(&mut far, now, Leg::A, PEER_A, &sent).expect("nothing is refused");
            heard.push(Packet::parse(&bytes).unwrap().header.sequence);
        }
        assert!(heard.windows(2).all(|w| w[1] == w[0].wrapping_add(1)), "{before} to {after}: {heard:?}");
    }
}

#[test]
fn a_phone_that_begins_anew_after_a_few_packets_loses_four_of_them_and_packets_sent_twice_are_heard_once() {
    let [mut near, mut far] = protected(Cipher::Aes);
    let mut pass_on = |n: u64, number| {
        let sent = pass(&mut near, ms(n * 20), Leg::A, ANN, &frame(1, number))?;
        pass(&mut far, ms(n * 20), Leg::A, PEER_A, &sent)
    };
    let again = (0..50).chain(0..50).enumerate();
    let heard = again.filter(|(n, number)| pass_on(*n as u64, *number).is_some()).count();
    assert_eq!(heard, 96);
    // Three at once are repeated, again and again.
    let twice = (0..17).flat_map(|n| [0, 1, 2, 0, 1, 2].map(|at| 50 + 3 * n + at)).enumerate();
    let heard = twice.filter(|(n, number)| pass_on(100 + *n as u64, *number).is_some()).count();
    assert_eq!(heard, 51);
}

#[test]
fn nothing_passes_a_protected_leg_before_there_are_keys() {
    let face = PeerFace { remote: Some(at(PEER_B)), send_id: Some(ID_B), receive_id: ID_A, protected: true };
    let mut near = session(phone(20_000, ANN), Face::Peer(face), 1);
    assert_eq!(pass(&mut near, ms(0), Leg::A, ANN, &frame(1, 10)), None);
    assert_eq!(pass(&mut near, ms(0), Leg::B, PEER_B, &frame(ID_A, 10)), None);
    near.handle_timeout(ms(60_000));
    assert_eq!(near.poll_transmit(), None, "reports neither");
    let counts = near.stats(Leg::B);
    assert_eq!((counts.sent, counts.received, counts.refused), (0, 0, 1));
}

#[test]
fn a_phone_that_was_asked_for_keys_neither_speaks_nor_hears_before_it_has_said_them() {
    let mut s = two_phones();
    s.set_protected(Leg::B, true);
    assert_eq!(pass(&mut s, ms(0), Leg::A, ANN, &frame(1, 10)), None);
    assert_eq!(pass(&mut s, ms(0), Leg::B, BOB, &frame(2, 10)), None);
    let [ours, theirs] = [1, 2].map(|n| srtp::Master::new([n; srtp::MASTER_LEN]));
    let sender = srtp::Sender::new(Cipher::Aes, &ours);
    let receiver = srtp::Receiver::new(Cipher::Aes, &theirs);
    assert!(s.set_keys(Leg::B, Keyed { sender, receiver }).is_none());
    let mut sent = pass(&mut s, ms(20), Leg::A, ANN, &frame(1, 11)).expect("now there are keys");
    assert_eq!(srtp::Receiver::new(Cipher::Aes, &ours).open(&mut sent), Some(frame(1, 11).len()));
    let mut said = frame(2, 11);
    let tail = srtp::Sender::new(Cipher::Aes, &theirs).protect(&mut said).unwrap();
    let heard = pass(&mut s, ms(20), Leg::B, BOB, &[said, tail.to_vec()].concat()).expect("under its key");
    assert_eq!(heard[12..], frame(2, 11)[12..]);
    s.set_protected(Leg::B, false);
    assert!(pass(&mut s, ms(40), Leg::B, BOB, &frame(2, 12)).is_some(), "it was agreed to do without");
}

#[test]
fn reports_between_peers_measure_the_path_of_protected_legs() {
    let [mut near, mut far] = protected(Cipher::Aes);
    for now in (0..60_000).step_by(20).map(ms) {
        near.handle_timeout(now);
        far.handle_timeout(now);
        while let Some(mut report) = near.poll_transmit() {
            assert_eq!(far.handle_datagram(now, Leg::A, at(PEER_A), &mut report.bytes), None);
        }
        while let Some(mut report) = far.poll_transmit() {
            assert_eq!(near.handle_datagram(now, Leg::B, at(PEER_B), &mut report.bytes), None);
        }
    }
    assert!(near.stats(Leg::B).rtt.unwrap() < Duration::from_millis(1));
    assert_eq!((near.stats(Leg::B).refused, far.stats(Leg::A).refused), (0, 0));
}

#[test]
fn streams_between_peers_travel_under_the_receivers_ids() {
    let mut near = phone_and_peer();
    let mut far = session(peer(PEER_A, ID_A, ID_B), phone(30_000, BOB), 2);
    let mut bytes = frame(1, 10);
    let f = near.handle_rtp(ms(0), Leg::A, at(ANN), &mut bytes).unwrap();
    assert_eq!(to(f), (Socket::Peer, at(PEER_B)));
    assert_eq!(stream_of(&bytes), Some(ID_B));
    let f = far.handle_rtp(ms(5), Leg::A, at(PEER_A), &mut bytes).unwrap();
    assert_eq!(to(f), (Socket::Media(30_000), at(BOB)));
    // A packet of another stream does not belong here.
    let mut other = frame(ID_B + 2, 11);
    assert_eq!(far.handle_rtp(ms(5), Leg::A, at(PEER_A), &mut other), None);
    assert_eq!(far.stats(Leg::A).refused, 1);
}

#[test]
fn nothing_is_sent_before_the_other_peer_has_named_its_id_and_path() {
    let face = PeerFace { remote: None, send_id: None, receive_id: ID_A, protected: false };
    let mut s = session(phone(20_000, ANN), Face::Peer(face), 1);
    assert!(carry(&mut s, ms(0), Leg::A, ANN, &frame(1, 1)).is_none());
    s.set_path(Leg::B, at(PEER_B));
    assert!(carry(&mut s, ms(0), Leg::A, ANN, &frame(1, 2)).is_none());
    s.set_send_id(Leg::B, ID_B);
    let (_, header) = carry(&mut s, ms(0), Leg::A, ANN, &frame(1, 3)).unwrap();
    assert_eq!((header.ssrc, s.stats(Leg::B).withheld), (ID_B, 2));
}

#[test]
fn early_media_is_heard_before_the_path_is_known() {
    let face = PeerFace { remote: None, send_id: None, receive_id: ID_A, protected: false };
    let mut s = session(phone(20_000, ANN), Face::Peer(face), 1);
    let (f, _) = carry(&mut s, ms(0), Leg::B, PEER_B, &frame(ID_A, 1)).unwrap();
    assert_eq!(to(f), (Socket::Media(20_000), at(ANN)));
}

#[test]
fn a_phone_behind_a_nat_is_answered_where_it_is_heard_from() {
    let mut s = two_phones();
    carry(&mut s, ms(0), Leg::A, "198.51.100.77:61000", &frame(1, 1)).unwrap();
    let (f, _) = carry(&mut s, ms(0), Leg::B, BOB, &frame(2, 1)).unwrap();
    assert_eq!(f.remote, at("198.51.100.77:61000"));
}

#[test]
fn a_stranger_can_neither_steal_nor_spoil_a_stream() {
    let mut s = two_phones();
    carry(&mut s, ms(0), Leg::A, ANN, &frame(1, 1)).unwrap();
    for t in [1, 2_500, 60_000] {
        assert!(carry(&mut s, ms(t), Leg::A, STRANGER, &frame(9, 1)).is_none());
    }
    let (f, _) = carry(&mut s, ms(60_001), Leg::B, BOB, &frame(2, 1)).unwrap();
    assert_eq!(f.remote, at(ANN));
    assert_eq!(s.stats(Leg::A).refused, 3);
    assert_eq!(s.stats(Leg::A).received, 1);
}

#[test]
fn a_stranger_who_knows_the_stream_id_cannot_speak_over_a_peer_nor_move_it() {
    let mut s = phone_and_peer();
    carry(&mut s, ms(0), Leg::B, PEER_B, &frame(ID_A, 1)).unwrap();
    assert!(carry(&mut s, ms(20), Leg::B, STRANGER, &frame(ID_A, 2)).is_none());
    carry(&mut s, ms(9_000), Leg::B, STRANGER, &frame(ID_A, 3));
    let (f, _) = carry(&mut s, ms(9_000), Leg::A, ANN, &frame(1, 1)).unwrap();
    assert_eq!(f.remote, at(PEER_B));
}

#[test]
fn packets_under_way_on_a_former_path_still_arrive() {
    let mut s = phone_and_peer();
    carry(&mut s, ms(0), Leg::B, PEER_B, &frame(ID_A, 1)).unwrap();
    s.set_path(Leg::B, at("198.51.100.9:7000"));
    assert!(carry(&mut s, ms(20), Leg::B, PEER_B, &frame(ID_A, 2)).is_some());
    assert!(carry(&mut s, ms(20), Leg::B, "198.51.100.9:7000", &frame(ID_A, 3)).is_some());
    let (f, _) = carry(&mut s, ms(20), Leg::A, ANN, &frame(1, 1)).unwrap();
    assert_eq!(f.remote, at("198.51.100.9:7000"));
}

#[test]
fn a_transfer_goes_on_in_the_same_stream() {
    let mut s = two_phones();
    let (_, first) = carry(&mut s, ms(0), Leg::A, ANN, &frame(1, 500)).unwrap();
    s.replace(ms(100), Leg::A, phone(20_004, "192.0.2.3:4000"));
    let (_, next) = carry(&mut s, ms(200), Leg::A, "192.0.2.3:4000", &frame(77, 9)).unwrap();
    assert_eq!(next.ssrc, first.ssrc);
    assert_eq!(next.sequence, 501);
    assert_eq!(next.timestamp, first.timestamp + 1_600, "200 ms later on the stream's clock");
    let (f, _) = carry(&mut s, ms(200), Leg::B, BOB, &frame(2, 1)).unwrap();
    assert_eq!(to(f), (Socket::Media(20_004), at("192.0.2.3:4000")));
}

#[test]
fn a_phone_that_changes_its_ssrc_is_joined_on_and_its_old_tail_fits_in() {
    let mut s = two_phones();
    let sequences: Vec<u16> = [(1, 100), (1, 101), (2, 7), (1, 102), (2, 8), (1, 300)]
        .into_iter()
        .enumerate()
        .map(|(i, (ssrc, n))| {
            let now = ms(20 * i as u64);
            carry(&mut s, now, Leg::A, ANN, &frame(ssrc, n)).unwrap().1.sequence
        })
        .collect();
    assert_eq!(sequences, [100, 101, 102, 102, 103, 104], "the late 102 collides, and nothing jumps");
}

#[test]
fn hold_withholds_media_from_a_party_that_does_not_listen() {
    let mut s = two_phones();
    s.set_direction(ms(0), Leg::A, Direction::SendOnly);
    s.set_direction(ms(0), Leg::B, Direction::RecvOnly);
    assert!(carry(&mut s, ms(1), Leg::A, ANN, &frame(1, 1)).is_some(), "music on hold");
    assert!(carry(&mut s, ms(1), Leg::B, BOB, &frame(2, 1)).is_none());
    s.set_direction(ms(2), Leg::A, Direction::SendRecv);
    assert!(carry(&mut s, ms(2), Leg::B, BOB, &frame(2, 2)).is_some());
}

// RTCP.

fn sender_report(ssrc: u32, ntp: u64, block: Option<ReportBlock>) -> Vec<u8> {
    let info = SenderInfo { ssrc, ntp, timestamp: 1_000, packets: 5, octets: 800 };
    let mut out = Vec::new();
    rtcp::write_sender_report(&info, block.as_slice(), &mut out);
    rtcp::write_source_description(ssrc, "ann@192.0.2.1", &mut out);
    out
}

fn first_report(bytes: &[u8]) -> (SenderInfo, Vec<ReportBlock>) {
    match Compound::parse(bytes).unwrap().packets().next().unwrap() {
        RtcpPacket::SenderReport(info, blocks) => (info, blocks.iter().collect()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rtcp_means_the_same_to_both_phones_across_two_peers() {
    let mut near = phone_and_peer();
    let mut far = session(peer(PEER_A, ID_A, ID_B), phone(30_000, BOB), 2);
    // Media first, so that every stream has its names: Ann speaks as 1, Bob as 2.
    let (mut ann, mut bob) = (frame(1, 10), frame(2, 20));
    near.handle_rtp(ms(0), Leg::A, at(ANN), &mut ann).unwrap();
    far.handle_rtp(ms(1), Leg::A, at(PEER_A), &mut ann).unwrap();
    far.handle_rtp(ms(1), Leg::B, at(BOB), &mut bob).unwrap();
    near.handle_rtp(ms(2), Leg::B, at(PEER_B), &mut bob).unwrap();
    let ann_as_bob_knows_her = rtp::sender_ssrc(&ann).unwrap();
    let bob_as_ann_knows_him = rtp::sender_ssrc(&bob).unwrap();
    // Ann reports on what she hears; Bob must read it as about his own stream.
    let about_bob = ReportBlock { ssrc: bob_as_ann_knows_him, highest_sequence: 20, ..Default::default() };
    let mut report = sender_report(1, 42, Some(about_bob));
    let f = near.handle_rtcp(ms(3), Leg::A, at("192.0.2.1:4001"), &mut report).unwrap();
    assert_eq!(to(f), (Socket::Peer, at(PEER_B)));
    assert_eq!(first_report(&report).0.ssrc, ID_B);
    assert_eq!(stream_of(&report), Some(ID_B));
    let f = far.handle_rtcp(ms(4), Leg::A, at(PEER_A), &mut report).unwrap();
    assert_eq!(to(f), (Socket::Media(30_001), at("192.0.2.2:5001")));
    let (info, blocks) = first_report(&report);
    assert_eq!((info.ssrc, info.ntp), (ann_as_bob_knows_her, 42));
    assert_eq!(blocks, [ReportBlock { ssrc: 2, ..about_bob }]);
}

#[test]
fn translated_reports_follow_the_numbers_of_a_joined_stream() {
    let mut s = two_phones();
    carry(&mut s, ms(0), Leg::B, BOB, &frame(2, 100)).unwrap();
    let (_, joined) = carry(&mut s, ms(20), Leg::B, BOB, &frame(3, 9_000)).unwrap();
    carry(&mut s, ms(20), Leg::A, ANN, &frame(1, 1)).unwrap();
    let block =
        ReportBlock { ssrc: joined.ssrc, highest_sequence: u32::from(joined.sequence), ..Default::default() };
    let mut report = sender_report(1, 1, Some(block));
    s.handle_rtcp(ms(30), Leg::A, at("192.0.2.1:4001"), &mut report).unwrap();
    let about = first_report(&report).1[0];
    assert_eq!((about.ssrc, about.highest_sequence & 0xffff), (3, 9_000));
    let mut report = sender_report(3, 1, None);
    s.handle_rtcp(ms(30), Leg::B, at("192.0.2.2:5001"), &mut report).unwrap();
    let shift = joined.timestamp.wrapping_sub(9_000 * 160);
    assert_eq!(first_report(&report).0.timestamp, 1_000u32.wrapping_add(shift));
}

#[test]
fn goodbyes_do_not_end_a_stream_that_goes_on() {
    let mut s = two_phones();
    carry(&mut s, ms(0), Leg::A, ANN, &frame(1, 1)).unwrap();
    let mut bytes = sender_report(1, 1, None);
    let kept = bytes.len();
    rtcp::write_goodbye(1, &mut bytes);
    let f = s.handle_rtcp(ms(1), Leg::A, at("192.0.2.1:4001"), &mut bytes).unwrap();
    assert_eq!(f.len, kept);
}

#[test]
fn rtcp_of_a_stranger_is_refused_and_muxed_rtcp_stays_on_its_port() {
    let mut s = two_phones();
    s.set_announced(ms(0), Leg::B, Some(at(BOB)), None, true);
    carry(&mut s, ms(0), Leg::A, ANN, &frame(1, 1)).unwrap();
    let mut report = sender_report(1, 1, None);
    assert_eq!(s.handle_datagram(ms(1), Leg::A, at(STRANGER), &mut report), None);
    let f = s.handle_datagram(ms(1), Leg::A, at("192.0.2.1:4001"), &mut report).unwrap();
    assert_eq!(to(f), (Socket::Media(20_002), at(BOB)));
}

#[test]
fn a_phones_receiver_report_tells_its_round_trip() {
    let mut s = two_phones();
    carry(&mut s, ms(0), Leg::A, ANN, &frame(1, 1)).unwrap();
    let (_, bob) = carry(&mut s, ms(0), Leg::B, BOB, &frame(2, 1)).unwrap();
    let ntp = rtcp::ntp(ms(77));
    s.handle_rtcp(ms(100), Leg::B, at("192.0.2.2:5001"), &mut sender_report(2, ntp, None)).unwrap();
    let block = ReportBlock {
        ssrc: bob.ssrc,
        last_sr: rtcp::ntp_middle(ntp),
        delay_since_last_sr: 65_536,
        ..Default::default()
    };
    let mut answer = sender_report(1, 5, Some(block));
    s.handle_rtcp(ms(1_130), Leg::A, at("192.0.2.1:4001"), &mut answer).unwrap();
    assert_eq!(s.stats(Leg::A).rtt, Some(Duration::from_millis(30)));
}

/// Two sessions joined by a wire of `delay` ms, losing one packet of `lose_every` on the way from
/// near to far; runs for `millis`.
fn run(near: &mut Session, far: &mut Session, delay: u64, lose_every: usize, millis: u64) {
    let mut wire: VecDeque<(u64, bool, Vec<u8>)> = VecDeque::new();
    let mut n = 0;
    for t in 0..millis {
        let now = ms(t);
        for s in [&mut *near, &mut *far] {
            if s.poll_timeout().is_some_and(|(at, _)| at <= now) {
                s.handle_timeout(now);
                assert!(s.poll_timeout().is_some_and(|(at, _)| at > now));
            }
        }
        while let Some((due, to_far, mut bytes)) = wire.pop_front() {
            if due > t {
                wire.push_front((due, to_far, bytes));
                break;
            }
            match to_far {
                true => far.handle_datagram(now, Leg::A, at(PEER_A), &mut bytes),
                false => near.handle_datagram(now, Leg::B, at(PEER_B), &mut bytes),
            };
        }
        while let Some(out) = near.poll_transmit() {
            let media = rtp::classify(&out.bytes) == Some(Kind::Rtp);
            n += usize::from(media);
            if !(media && lose_every > 0 && n % lose_every == 0) {
                wire.push_back((t + delay, true, out.bytes));
            }
        }
        while let Some(out) = far.poll_transmit() {
            wire.push_back((t + delay, false, out.bytes));
        }
    }
}

fn two_talkers(a: Source, b: Source) -> (Session, Session) {
    let near = session(talker(a, 11), peer(PEER_B, ID_B, ID_A), 1);
    let far = session(peer(PEER_A, ID_A, ID_B), talker(b, 12), 2);
    (near, far)
}

#[test]
fn two_talkers_at_two_peers_hear_each_other_and_the_path_is_measured() {
    let (mut near, mut far) = two_talkers(Source::Tone(440.0), Source::Tone(1_000.0));
    run(&mut near, &mut far, 40, 0, 8_000);
    let at_near = heard(near.local(Leg::A).unwrap().recording(), RATE, 1_000.0);
    let at_far = heard(far.local(Leg::B).unwrap().recording(), RATE, 440.0);
    assert!(at_near.at_least(7.7) && at_near.gaps == 0, "{at_near:?}");
    assert!(at_far.at_least(7.7) && at_far.gaps == 0, "{at_far:?}");
    for (s, leg) in [(&near, Leg::B), (&far, Leg::A)] {
        let rtt = s.stats(leg).rtt.expect("measured by the second report");
        assert!((79..=81).contains(&rtt.as_millis()), "{rtt:?}");
        assert_eq!(s.stats(leg).lost, 0);
        assert!(s.quality(leg).unwrap().mos > 4.2, "{:?}", s.quality(leg));
    }
}

#[test]
fn the_far_side_reports_the_losses_it_sees() {
    let (mut near, mut far) = two_talkers(Source::Tone(440.0), Source::Silence);
    run(&mut near, &mut far, 10, 10, 20_000);
    let stats = far.stats(Leg::A);
    assert!((stats.lost as f64 / 1_000.0 - 0.1).abs() < 0.005, "{stats:?}");
    let told = near.stats(Leg::B).far.unwrap();
    assert!(told.lost > 50 && (20..32).contains(&told.fraction_lost), "{told:?}");
    assert!(far.quality(Leg::A).unwrap().mos < near.quality(Leg::B).unwrap().mos);
}

#[test]
fn echo_at_another_peer_returns_the_tone() {
    let (mut near, mut far) = two_talkers(Source::Tone(440.0), Source::Echo);
    run(&mut near, &mut far, 20, 0, 3_000);
    assert!(heard(near.local(Leg::A).unwrap().recording(), RATE, 440.0).at_least(2.8));
}

#[test]
fn two_talkers_at_one_peer_need_no_network() {
    let mut s = session(talker(Source::Tone(440.0), 1), talker(Source::Echo, 2), 1);
    (0..150).for_each(|i| s.handle_timeout(ms(20 * i)));
    assert!(heard(s.local(Leg::A).unwrap().recording(), RATE, 440.0).at_least(2.8));
    assert_eq!(s.poll_transmit(), None);
}

// Silence.

fn events(s: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| s.poll_event()).filter(|e| !matches!(e, Event::Latched { .. })).collect()
}

#[test]
fn a_leg_that_falls_silent_is_told_once_and_told_again_when_it_resumes() {
    let mut s = two_phones();
    s.set_direction(ms(0), Leg::B, Direction::RecvOnly);
    carry(&mut s, ms(500), Leg::A, ANN, &frame(1, 1)).unwrap();
    let mut told = Vec::new();
    while let Some((at, _)) = s.poll_timeout().filter(|(at, _)| *at < ms(20_000)) {
        s.handle_timeout(at);
        told.extend(events(&mut s).into_iter().map(|e| (at, e)));
    }
    assert_eq!(told, [(ms(3_500), Event::Silent { leg: Leg::A, since: ms(500) })]);
    carry(&mut s, ms(20_000), Leg::A, ANN, &frame(1, 2)).unwrap();
    assert_eq!(events(&mut s), [Event::Resumed { leg: Leg::A }]);
}

#[test]
fn a_party_on_hold_may_be_silent_and_is_expected_again_after_it() {
    let mut s = two_phones();
    for leg in Leg::BOTH {
        s.set_direction(ms(0), leg, Direction::Inactive);
    }
    (0..100).for_each(|i| s.handle_timeout(ms(1_000 * i)));
    assert_eq!(events(&mut s), []);
    s.set_direction(ms(100_000), Leg::B, Direction::SendRecv);
    s.handle_timeout(ms(102_999));
    assert_eq!(events(&mut s), []);
    s.handle_timeout(ms(103_000));
    assert_eq!(events(&mut s), [Event::Silent { leg: Leg::B, since: ms(100_000) }]);
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Packet(bool, u8, Vec<u8>),
    Direction(bool, u8),
    Path(u8),
    Announce(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        (any::<u16>(), 0u32..4).prop_map(|(n, s)| frame(s, n)),
        any::<u16>().prop_map(|n| frame(ID_A, n)),
        (0u32..4, any::<u64>()).prop_map(|(s, n)| sender_report(s, n, None)),
        any::<u64>().prop_map(|n| sender_report(
            ID_A | 1,
            n,
            Some(ReportBlock { ssrc: ID_B, ..Default::default() })
        )),
    ];
    prop_oneof![
        (0u64..4_000).prop_map(Step::Wait),
        (any::<bool>(), 0u8..4, bytes).prop_map(|(l, h, b)| Step::Packet(l, h, b)),
        (any::<bool>(), 0u8..4).prop_map(|(l, d)| Step::Direction(l, d)),
        (0u8..4).prop_map(Step::Path),
        (0u8..4).prop_map(Step::Announce),
    ]
}

proptest! {
    #[test]
    fn whatever_comes_timeouts_advance_and_nothing_panics(
        steps in prop::collection::vec(step(), 0..120), kind in 0..4,
    ) {
        let mut s = match kind {
            0 => two_phones(),
            1 => phone_and_peer(),
            2 => session(talker(Source::Echo, 1), peer(PEER_B, ID_B, ID_A), 1),
            _ => session(talker(Source::Tone(440.0), 1), talker(Source::Echo, 2), 1),
        };
        let host = |n: u8| SocketAddr::from(([192, 0, 2, n], 4_000));
        let leg = |b: bool| if b { Leg::B } else { Leg::A };
        let mut now = Time::ZERO;
        for step in steps {
            match step {
                Step::Wait(millis) => {
                    now += Duration::from_millis(millis);
                    s.handle_timeout(now);
                    prop_assert!(s.poll_timeout().is_some_and(|(at, _)| at > now));
                }
                Step::Packet(l, h, mut bytes) => {
                    let before = s.poll_timeout();
                    if let Some(f) = s.handle_datagram(now, leg(l), host(h), &mut bytes) {
                        prop_assert!(f.len <= bytes.len());
                    }
                    prop_assert!(s.poll_timeout() >= before, "a packet moves no timeout forward");
                }
                Step::Direction(l, d) => {
                    let all = [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive];
                    s.set_direction(now, leg(l), all[usize::from(d)]);
                }
                Step::Path(h) => s.set_path(Leg::B, host(h)),
                Step::Announce(h) => s.set_announced(now, Leg::A, Some(host(h)), None, h == 1),
            }
            prop_assert!(s.transmits.len() <= TRANSMITS_MAX);
            while s.poll_transmit().is_some() {}
            for l in Leg::BOTH {
                let _ = (s.stats(l), s.quality(l));
            }
        }
    }
}
