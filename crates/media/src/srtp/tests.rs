use proptest::prelude::*;
use sipx_rtp::srtp::{Context as Theirs, Profile};
use wire::rtp::Header;

use super::*;

const MASTER: &str = "e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6";

fn bytes(hex: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
}

fn master() -> Master {
    Zeroizing::new(bytes(MASTER).try_into().unwrap())
}

fn pair(cipher: Cipher) -> (Sender, Receiver) {
    (Sender::new(cipher, &master()), Receiver::new(cipher, &master()))
}

fn packet(sequence: u16) -> Vec<u8> {
    let header = Header { sequence, ssrc: 0xcafe_babe, timestamp: 160, ..Header::default() };
    header.packet(format!("sound number {sequence}").as_bytes())
}

fn protected(sender: &mut Sender, sequence: u16) -> Vec<u8> {
    let mut bytes = packet(sequence);
    let tail = sender.protect(&mut bytes).unwrap();
    bytes.extend_from_slice(&tail);
    bytes
}

fn opened(receiver: &mut Receiver, packet: &[u8]) -> Option<Vec<u8>> {
    let mut packet = packet.to_vec();
    let len = receiver.open(&mut packet)?;
    packet.truncate(len);
    Some(packet)
}

/// RFC 3711, appendix B.3: the keys that are derived. The vector asks for a key of the tag of 94 bytes, of which
/// HMAC-SHA1 takes the first twenty.
#[test]
fn keys_are_derived_as_in_rfc_3711_appendix_b_3() {
    let keys = Keys::derive(Cipher::Aes, &master(), 0);
    assert_eq!(keys.salt[..], bytes("30cbbc08863d8c85d49db34a9ae1")[..]);
    let mut stream = [0; 16];
    let named = Keys { aes: Aes128::new_from_slice(&bytes("c61e7a93744f39ee10734afe3ff7a087")).ok(), ..keys };
    let again = Keys::derive(Cipher::Aes, &master(), 0);
    named.crypt(1, 2, &mut stream);
    again.crypt(1, 2, &mut stream);
    assert_eq!(stream, [0; 16], "the same key makes the same stream");
    let auth = bytes("cebe321f6ff7716b6fd4ab49af256a156d38baa4");
    let by_vector = Hmac::<Sha1>::new_from_slice(&auth).unwrap().chain_update(b"x\0\0\0\x07").finalize();
    assert_eq!(again.tag(b"x", 7).finalize(), by_vector);
}

/// RFC 3711, appendix B.2: counter mode.
#[test]
fn the_keystream_is_that_of_rfc_3711_appendix_b_2() {
    let keys = Keys {
        aes: Aes128::new_from_slice(&bytes("2b7e151628aed2a6abf7158809cf4f3c")).ok(),
        salt: bytes("f0f1f2f3f4f5f6f7f8f9fafbfcfd").try_into().unwrap(),
        mac: Hmac::new_from_slice(&[]).unwrap(),
    };
    let mut stream = [0; 48];
    keys.crypt(0, 0, &mut stream);
    let expected =
        "e03ead0935c95e80e166b16dd92b4eb4d23513162b02d0f72a43a2fe4a5f97ab41e95b3bb0a2e8dd477901e4fca894c0";
    assert_eq!(stream[..], bytes(expected)[..]);
}

#[test]
fn another_implementation_reads_what_we_protect_and_we_what_it_does() {
    let (key, salt) = (bytes(&MASTER[..32]), bytes(&MASTER[32..]));
    let theirs = || Theirs::new(Profile::AesCm128HmacSha1_80, &key, &salt).unwrap();
    let (mut sender, mut receiver) = pair(Cipher::Aes);
    let (mut their_receiver, mut their_sender) = (theirs(), theirs());
    for number in 30_000..200_000_u32 {
        let sequence = number as u16;
        let ours = protected(&mut sender, sequence);
        assert_eq!(their_receiver.unprotect(&ours).unwrap(), packet(sequence), "{number}");
        let protected = their_sender.protect(&packet(sequence)).unwrap();
        assert_eq!(opened(&mut receiver, &protected).unwrap(), packet(sequence), "{number}");
    }
    let report = [0x80, 201, 0, 1, 0, 0, 0, 5, 1, 2, 3, 4];
    for _ in 0..3 {
        let mut ours = report.to_vec();
        let tail = sender.protect_rtcp(&mut ours).unwrap();
        ours.extend_from_slice(&tail);
        assert_eq!(their_receiver.unprotect_rtcp(&ours).unwrap(), report);
        let mut protected = their_sender.protect_rtcp(&report).unwrap();
        let len = receiver.open_rtcp(&mut protected).unwrap();
        assert_eq!(protected[..len], report);
    }
}

#[test]
fn with_short_tags_sound_is_six_bytes_shorter_and_reports_are_not() {
    let (sender, receiver) = pair(Cipher::Aes);
    let (mut sender, mut receiver) = (sender.with_short_tags(), receiver.with_short_tags());
    let (mut long, _) = pair(Cipher::Aes);
    let (with_short, with_long) = (protected(&mut sender, 1), protected(&mut long, 1));
    assert_eq!(with_short, with_long[..with_long.len() - 6], "the same, cut off");
    assert_eq!(opened(&mut receiver, &with_short), Some(packet(1)));
    assert_eq!(sender.protect_rtcp(&mut [0x80, 201, 0, 1, 0, 0, 0, 5]).unwrap().len(), INDEX_LEN + TAG_LEN);
    assert_eq!(opened(&mut receiver, &protected(&mut long, 2)), None, "one suite is not taken for the other");
}

#[test]
fn a_phone_that_takes_another_ssrc_is_heard_and_of_each_every_packet_once() {
    let (_, mut receiver) = pair(Cipher::Aes);
    let of = |ssrc: u32, sequence: u16| {
        let (mut sender, _) = pair(Cipher::Aes);
        let mut packet = Header { sequence, ssrc, ..Header::default() }.packet(b"sound");
        let tail = sender.protect(&mut packet).unwrap();
        packet.extend_from_slice(&tail);
        packet
    };
    for (ssrc, sequence) in [(1, 60_000), (2, 5), (1, 60_001), (2, 6)] {
        assert!(opened(&mut receiver, &of(ssrc, sequence)).is_some(), "{ssrc} {sequence}");
        assert!(opened(&mut receiver, &of(ssrc, sequence)).is_none(), "{ssrc} {sequence} again");
    }
}

#[test]
fn with_the_null_cipher_everything_stays_readable_and_nothing_can_be_changed() {
    let (mut sender, mut receiver) = pair(Cipher::Null);
    let sent = protected(&mut sender, 1);
    assert_eq!(sent[..sent.len() - TAG_LEN], packet(1));
    for at in 0..sent.len() {
        let mut changed = sent.clone();
        changed[at] ^= 1;
        assert_eq!(opened(&mut receiver, &changed), None, "byte {at}");
    }
    assert_eq!(opened(&mut receiver, &sent), Some(packet(1)));
}

#[test]
fn with_aes_the_header_is_all_that_can_be_read() {
    let (mut sender, mut receiver) = pair(Cipher::Aes);
    let sent = protected(&mut sender, 1);
    let plain = packet(1);
    assert_eq!(sent[..rtp::HEADER_LEN], plain[..rtp::HEADER_LEN]);
    let same = sent[rtp::HEADER_LEN..].iter().zip(&plain[rtp::HEADER_LEN..]).filter(|(a, b)| a == b).count();
    assert!(same < 4, "{same} bytes of the payload stand as they were");
    assert_eq!(opened(&mut receiver, &sent), Some(plain));
}

#[test]
fn one_cipher_is_not_talked_down_to_the_other() {
    let (mut aes, mut open_aes) = pair(Cipher::Aes);
    let (mut null, mut open_null) = pair(Cipher::Null);
    let report = [0x80, 201, 0, 1, 0, 0, 0, 5];
    for (sender, receiver) in [(&mut aes, &mut open_null), (&mut null, &mut open_aes)] {
        let mut packet = report.to_vec();
        let tail = sender.protect_rtcp(&mut packet).unwrap();
        packet.extend_from_slice(&tail);
        assert_eq!(receiver.open_rtcp(&mut packet), None);
    }
}

#[test]
fn a_packet_is_heard_once_and_late_ones_are_heard() {
    let (mut sender, mut receiver) = pair(Cipher::Aes);
    let sent: Vec<_> = (1..=5).map(|n| protected(&mut sender, n)).collect();
    for at in [4, 0, 2, 1, 3] {
        assert!(opened(&mut receiver, &sent[at]).is_some(), "{at}");
        assert!(opened(&mut receiver, &sent[at]).is_none(), "{at} again");
    }
}

#[test]
fn a_number_is_used_once() {
    let (mut sender, _) = pair(Cipher::Aes);
    protected(&mut sender, 7);
    let mut other = Header { sequence: 7, ..Header::default() }.packet(b"something else");
    let before = other.clone();
    assert_eq!(sender.protect(&mut other), None);
    assert_eq!(other, before);
}

#[test]
fn packets_that_change_places_where_the_number_wraps_are_all_heard() {
    let (mut sender, mut receiver) = pair(Cipher::Aes);
    for sequence in [65_533, 65_535, 1, 65_534, 0, 2, 3] {
        let sent = protected(&mut sender, sequence);
        assert_eq!(opened(&mut receiver, &sent), Some(packet(sequence)), "{sequence}");
    }
}

#[test]
fn what_is_no_packet_is_no_packet() {
    let (mut sender, mut receiver) = pair(Cipher::Aes);
    for len in 0..rtp::HEADER_LEN {
        assert_eq!(sender.protect(&mut vec![0x80; len]), None);
    }
    assert_eq!(sender.protect_rtcp(&mut [0x80, 201, 0, 1]), None);
    for len in 0..40 {
        assert_eq!(receiver.open(&mut vec![0x80; len]), None);
        assert_eq!(receiver.open_rtcp(&mut vec![0x80; len]), None);
    }
}

proptest! {
    /// However packets are lost, doubled and change places within a window, who hears one hears what was said.
    #[test]
    fn nothing_is_heard_that_was_not_said(
        start: u16, steps in prop::collection::vec((0u16..60, any::<bool>(), any::<bool>()), 0..400),
    ) {
        let (mut sender, mut receiver) = pair(Cipher::Aes);
        let mut sequence = start & 0x7fff;
        for (ahead, back, lost) in steps {
            let this = if back { sequence.wrapping_sub(ahead) } else { sequence.wrapping_add(ahead) };
            if !back { sequence = this; }
            let mut bytes = packet(this);
            let Some(tail) = sender.protect(&mut bytes) else { continue };
            bytes.extend_from_slice(&tail);
            if !lost && let Some(heard) = opened(&mut receiver, &bytes) {
                prop_assert_eq!(heard, packet(this));
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_and_change_nothing(junk in prop::collection::vec(any::<u8>(), 0..80)) {
        let (mut sender, mut receiver) = pair(Cipher::Aes);
        prop_assert_eq!(opened(&mut receiver, &junk), None);
        prop_assert_eq!(receiver.open_rtcp(&mut junk.clone()), None);
        let sent = protected(&mut sender, 1);
        prop_assert_eq!(opened(&mut receiver, &sent), Some(packet(1)));
    }
}
