use media::Leg::A;
use zeroize::Zeroizing;

use super::*;
use crate::plane::rig::{CALLEE, CALLER, PORT, Rig, of_phone, sound, tls, udp};
use crate::plane::{Policies, SdesPolicy};

const SAVP: &str = "UDP/TLS/RTP/SAVP";
const OURS: &[u8] = b"the certificate of the peer";
const THEIRS: &[u8] = b"the certificate of the phone";
const PHONE: &str = "192.0.2.9:4000";
const CLIENT_HELLO: [u8; 14] = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];

fn with(policy: DtlsPolicy) -> Rig {
    Rig::new(Policies { dtls: policy, fingerprint: Some(Fingerprint::of(OURS)), ..Policies::default() })
}

fn phone() -> sip::Flow {
    udp("192.0.2.9:5060")
}

fn lines(certificate: &[u8], setup: &str, more: &str) -> String {
    format!("a=fingerprint:{}\r\na=setup:{setup}\r\n{more}", Fingerprint::of(certificate))
}

fn offer(setup: &str) -> String {
    of_phone(SAVP, &lines(THEIRS, setup, ""))
}

fn master(byte: u8) -> Master {
    Zeroizing::new([byte; media::srtp::MASTER_LEN])
}

fn shaken(certificate: &[u8]) -> Result<HandshakeKeys, String> {
    let remote = PHONE.parse().unwrap();
    Ok(HandshakeKeys { remote, certificate: certificate.to_vec(), ours: master(1), theirs: master(2) })
}

impl Rig {
    fn handshakes(&mut self) -> Vec<Handshake> {
        std::iter::from_fn(|| self.0.poll_handshake()).collect()
    }

    fn shaken(&mut self, port: u16, outcome: Result<HandshakeKeys, String>) -> Result<(), String> {
        self.0.shaken(wire::Time::ZERO, port, outcome)
    }

    fn hear_at(&mut self, port: u16, from: &str, bytes: &[u8]) -> Vec<Handshake> {
        let mut bytes = bytes.to_vec();
        assert_eq!(self.0.pass_from_phone(wire::Time::ZERO, port, from.parse().unwrap(), &mut bytes), None);
        self.handshakes()
    }
}

fn sealed(sequence: u16) -> Vec<u8> {
    let mut packet = sound(sequence);
    let tail = Sender::new(Cipher::Aes, &master(2)).protect(&mut packet).unwrap();
    packet.extend_from_slice(&tail);
    packet
}

#[test]
fn a_phone_that_offers_a_handshake_is_let_begin_and_hears_itself_under_its_keys_and_nothing_passes_before() {
    let mut rig = with(DtlsPolicy::Accepted);
    let answer = rig.answer(phone(), &offer("actpass")).unwrap();
    assert!(answer.contains("UDP/TLS/RTP/SAVP 0") && answer.contains("a=setup:passive"), "{answer}");
    assert!(answer.contains(&Fingerprint::of(OURS).to_string()), "{answer}");
    let both = [PORT, PORT + 1].map(|port| Handshake::Begin { port, to: None });
    assert_eq!(rig.handshakes(), both, "RTCP has one of its own");
    assert_eq!((rig.echo(&sound(1)), rig.phone_leg()), (None, "none"));
    assert_eq!(rig.shaken(PORT, shaken(THEIRS)), Ok(()));
    assert_eq!(rig.phone_leg(), "dtls");
    assert_eq!(rig.echo(&sound(2)), None, "in clear");
    let heard = rig.echo(&sealed(3)).expect("its own echo");
    let mut opened = heard.clone();
    let len = Receiver::new(Cipher::Aes, &master(1)).open(&mut opened).expect("under our key");
    assert!(opened[12..len].iter().all(|byte| *byte == 0xd5) && heard[12..len] != opened[12..len]);
}

#[test]
fn a_phone_that_shows_another_certificate_than_it_named_is_told_of_and_not_heard_whatever_it_does_then() {
    let mut rig = with(DtlsPolicy::Accepted);
    rig.answer(phone(), &offer("active")).unwrap();
    let alarm = rig.shaken(PORT, shaken(b"of somebody between")).unwrap_err();
    assert!(alarm.contains("SOMEBODY MAY STAND BETWEEN"), "{alarm}");
    assert_eq!((rig.phone_leg(), rig.echo(&sealed(1)), rig.echo(&sound(2))), ("mismatch", None, None));
    assert_eq!(rig.shaken(PORT, shaken(THEIRS)), Ok(()));
    assert_eq!((rig.phone_leg(), rig.echo(&sealed(3))), ("mismatch", None));
    rig.handshakes();
    for again in [offer("active"), offer("passive"), of_phone(SAVP, &lines(b"another", "active", ""))] {
        rig.answer(phone(), &again).unwrap();
        assert_eq!((rig.handshakes(), rig.phone_leg(), rig.echo(&sealed(4))), (vec![], "mismatch", None));
    }
    let clear = rig.pass(CALLER, phone(), &of_phone("RTP/AVP", ""), Role::Offer);
    assert_eq!(clear, Err(refused(crate::plane::phone_leg::BETWEEN)));
    assert_eq!((rig.phone_leg(), rig.echo(&sound(5))), ("mismatch", None));
}

#[test]
fn somebody_found_while_a_phone_waits_for_an_answer_in_clear_gets_none() {
    let mut rig = with(DtlsPolicy::Accepted);
    rig.answer(phone(), &offer("active")).unwrap();
    rig.pass(CALLER, phone(), &of_phone("RTP/AVP", ""), Role::Offer).unwrap();
    rig.shaken(PORT, shaken(b"of somebody between")).unwrap_err();
    let answer = rig.pass(CALLEE, phone(), &of_phone("RTP/AVP", ""), Role::Answer);
    assert_eq!(answer, Err(refused(crate::plane::phone_leg::BETWEEN)));
    assert_eq!((rig.phone_leg(), rig.echo(&sound(1))), ("mismatch", None));
}

#[test]
fn who_comes_with_another_certificate_after_the_phone_or_where_its_reports_go_does_not_end_the_call() {
    let mut rig = with(DtlsPolicy::Accepted);
    rig.answer(phone(), &offer("active")).unwrap();
    assert!(rig.shaken(PORT + 1, shaken(b"of a bystander")).is_err());
    assert_eq!(rig.phone_leg(), "none");
    rig.shaken(PORT, shaken(THEIRS)).unwrap();
    for (sequence, port) in [(1, PORT), (2, PORT + 1)] {
        let alarm = rig.shaken(port, shaken(b"of a bystander")).unwrap_err();
        assert!(!alarm.contains("nothing of the call"), "{alarm}");
        assert_eq!(rig.phone_leg(), "dtls");
        assert!(rig.echo(&sealed(sequence)).is_some());
    }
}

#[test]
fn sound_goes_to_where_the_phone_is_that_shook_hands_and_not_to_where_it_said() {
    let mut rig = with(DtlsPolicy::Accepted);
    rig.answer(phone(), &offer("active")).unwrap();
    for (kind, port) in [(Kind::Rtp, PORT), (Kind::Rtcp, PORT + 1)] {
        let there = SocketAddr::from(([192, 0, 2, 9], 61_000 + 100 * (port % 2)));
        let at = |rig: &Rig| rig.0.sessions.values().next().unwrap().session.phone_at(A, kind);
        let shaken =
            |certificate| shaken(certificate).map(|shaken| HandshakeKeys { remote: there, ..shaken });
        if kind == Kind::Rtcp {
            rig.shaken(port, shaken(b"another")).unwrap_err();
            assert_ne!(at(&rig), Some(there), "it was not the phone");
        }
        rig.shaken(port, shaken(THEIRS)).unwrap();
        assert_eq!(at(&rig), Some(there));
    }
}

#[test]
fn keys_of_a_handshake_are_not_shown() {
    let shown = format!("{:?}", shaken(THEIRS).unwrap());
    assert!(shown.contains("192.0.2.9:4000") && !shown.contains("[1, 1"), "{shown}");
}

#[test]
fn another_place_name_role_or_port_of_reports_means_another_handshake_and_a_hold_does_not() {
    let mux = "a=rtcp-mux\r\n";
    let said = |rig: &mut Rig, offer: &str| {
        rig.pass(CALLER, phone(), offer, Role::Offer).unwrap();
        rig.pass(CALLEE, phone(), &of_phone("RTP/AVP", mux), Role::Answer).unwrap()
    };
    let first = offer("active");
    for (again, is_new) in [
        (first.clone(), false),
        (offer("actpass"), false),
        (first.replace("c=IN IP4 192.0.2.9", "c=IN IP4 0.0.0.0"), false),
        (first.replace("c=IN IP4 192.0.2.9", "c=IN IP4 192.0.2.10"), true),
        (first.replace("audio 4000", "audio 4002"), true),
        (format!("{first}a=tls-id:another-handshake-of-it\r\n"), true),
        (format!("{first}{mux}"), true),
        (offer("passive"), true),
    ] {
        let mut rig = with(DtlsPolicy::Accepted);
        said(&mut rig, &first);
        rig.shaken(PORT, shaken(THEIRS)).unwrap();
        rig.handshakes();
        said(&mut rig, &again);
        assert_eq!((!rig.handshakes().is_empty(), rig.phone_leg() == "none"), (is_new, is_new), "{again}");
        said(&mut rig, &again);
        assert_eq!(rig.handshakes(), [], "the same again: {again}");
    }
}

#[test]
fn a_passive_phone_is_begun_with_once_it_says_where_it_is_and_stays_passive() {
    let mut rig = with(DtlsPolicy::Accepted);
    let nowhere = offer("passive").replace("c=IN IP4 192.0.2.9", "c=IN IP4 0.0.0.0");
    rig.answer(phone(), &nowhere).unwrap();
    assert!(!rig.handshakes().iter().any(|wanted| matches!(wanted, Handshake::Begin { .. })));
    rig.answer(phone(), &offer("passive")).unwrap();
    let to = Some(PHONE.parse().unwrap());
    assert!(rig.handshakes().contains(&Handshake::Begin { port: PORT, to }));
    let answer = rig.answer(phone(), &offer("actpass")).unwrap();
    assert!(answer.contains("a=setup:active"), "{answer}");
    assert_eq!(rig.handshakes(), []);
}

#[test]
fn an_offer_in_clear_that_is_refused_changes_nothing_of_what_the_phone_is_offered() {
    let mut rig = with(DtlsPolicy::Accepted);
    rig.answer(phone(), &offer("active")).unwrap();
    rig.pass(CALLER, phone(), &of_phone("RTP/AVP", ""), Role::Offer).unwrap();
    let again = rig.pass(CALLEE, phone(), &of_phone("RTP/AVP", ""), Role::Offer).unwrap();
    assert!(again.contains(SAVP) && again.contains("a=fingerprint"), "{again}");
}

#[test]
fn a_handshake_that_comes_to_nothing_leaves_silence_and_the_next_offer_begins_another() {
    let mut rig = with(DtlsPolicy::Accepted);
    rig.answer(phone(), &offer("active")).unwrap();
    rig.handshakes();
    assert!(rig.shaken(PORT, Err("no cipher".into())).unwrap_err().contains("no cipher"));
    assert_eq!((rig.phone_leg(), rig.echo(&sealed(1)), rig.echo(&sound(2))), ("none", None, None));
    rig.answer(phone(), &offer("active")).unwrap();
    assert_eq!(rig.handshakes().len(), 2);
}

#[test]
fn where_the_phone_is_passive_this_peer_begins_where_the_phone_listens() {
    let mut rig = with(DtlsPolicy::Accepted);
    let answer = rig.answer(phone(), &offer("passive")).unwrap();
    assert!(answer.contains("a=setup:active"), "{answer}");
    let to = [4000, 4001].map(|port| Some(SocketAddr::new(PHONE.parse::<SocketAddr>().unwrap().ip(), port)));
    let begun = [(PORT, to[0]), (PORT + 1, to[1])].map(|(port, to)| Handshake::Begin { port, to });
    assert_eq!(rig.handshakes(), begun);
}

#[test]
fn one_handshake_serves_both_where_rtcp_shares_the_port_and_else_reports_have_keys_of_their_own() {
    for (mux, ports) in [("a=rtcp-mux\r\n", 1), ("", 2)] {
        let mut rig = with(DtlsPolicy::Offered);
        rig.called(phone(), 0).unwrap();
        rig.answered(phone(), &of_phone(SAVP, &lines(THEIRS, "active", mux))).unwrap();
        let begun = rig.handshakes().iter().filter(|h| matches!(h, Handshake::Begin { .. })).count();
        assert_eq!(begun, ports, "{mux}");
        rig.shaken(PORT, shaken(THEIRS)).unwrap();
        // A receiver report about nobody.
        let mut report = vec![0x80, 201, 0, 1, 0, 0, 0, 5];
        let tail = Sender::new(Cipher::Aes, &master(2)).protect_rtcp(&mut report).unwrap();
        report.extend_from_slice(&tail);
        let refused = |rig: &Rig| rig.0.sessions.values().next().unwrap().session.refused(media::Leg::B);
        let port = PORT + u16::from(ports == 2);
        rig.hear_at(port, PHONE, &report);
        assert_eq!(refused(&rig), u64::from(ports == 2), "{mux}");
        if ports == 2 {
            rig.shaken(PORT + 1, shaken(THEIRS)).unwrap();
            rig.hear_at(port, PHONE, &report);
            assert_eq!(refused(&rig), 1, "it is opened now");
        }
    }
}

#[test]
fn a_handshake_is_made_with_the_phone_of_a_call_that_agreed_to_one_and_with_nobody_else() {
    let mut rig = with(DtlsPolicy::Accepted);
    assert_eq!(rig.hear_at(PORT, PHONE, &CLIENT_HELLO), [], "there is no call");
    rig.pass(CALLER, phone(), &offer("active"), Role::Offer).unwrap();
    assert_eq!(rig.hear_at(PORT, PHONE, &CLIENT_HELLO), [], "it was not answered");
    rig.pass(CALLEE, phone(), &of_phone("RTP/AVP", ""), Role::Answer).unwrap();
    rig.handshakes();
    assert_eq!(rig.hear_at(PORT, "203.0.113.9:4000", &CLIENT_HELLO), [], "a stranger");
    assert_eq!(rig.hear_at(PORT, PHONE, &[22; 3_000]), [], "too long");
    let (port, remote) = (PORT, PHONE.parse().unwrap());
    let heard = |remote, likely| Handshake::Heard { port, remote, likely, bytes: CLIENT_HELLO.to_vec() };
    assert_eq!(rig.hear_at(PORT, PHONE, &CLIENT_HELLO), [heard(remote, true)]);
    let elsewhere = "192.0.2.9:9";
    let heard = heard(elsewhere.parse().unwrap(), false);
    assert_eq!(rig.hear_at(PORT, elsewhere, &CLIENT_HELLO), [heard], "another port of its host");
    assert_eq!(rig.hear_at(PORT + 2, PHONE, &CLIENT_HELLO), [], "another port");
}

#[test]
fn the_same_certificate_goes_on_under_the_same_keys_and_another_means_another_handshake() {
    let mut rig = with(DtlsPolicy::Accepted);
    rig.answer(phone(), &offer("actpass")).unwrap();
    rig.shaken(PORT, shaken(THEIRS)).unwrap();
    rig.handshakes();
    let held = rig.answer(phone(), &offer("actpass").replace("o=- 1 1", "o=- 1 2")).unwrap();
    assert!(held.contains("a=setup:passive"), "{held}");
    assert_eq!((rig.handshakes().len(), rig.phone_leg()), (0, "dtls"));
    assert!(rig.echo(&sealed(1)).is_some());
    let other = of_phone(SAVP, &lines(b"another", "actpass", ""));
    rig.answer(phone(), &other).unwrap();
    assert_eq!((rig.handshakes().len(), rig.phone_leg(), rig.echo(&sealed(2))), (2, "none", None));
}

#[test]
fn a_phone_may_leave_for_no_keys_and_its_handshake_ends_with_the_call() {
    let mut rig = with(DtlsPolicy::Accepted);
    rig.answer(phone(), &offer("actpass")).unwrap();
    rig.shaken(PORT, shaken(THEIRS)).unwrap();
    rig.handshakes();
    let plain = rig.answer(phone(), &of_phone("RTP/AVP", "")).unwrap();
    assert!(plain.contains(" RTP/AVP 0") && !plain.contains("fingerprint"), "{plain}");
    assert_eq!(rig.phone_leg(), "none");
    assert_eq!(rig.handshakes(), [PORT, PORT + 1].map(|port| Handshake::End { port }));
    assert!(rig.echo(&sound(1)).is_some());
    rig.answer(phone(), &offer("actpass")).unwrap();
    rig.handshakes();
    sip::MediaPlane::close(&mut rig.0, wire::Time::ZERO, crate::plane::rig::CALL);
    assert_eq!(rig.handshakes(), [PORT, PORT + 1].map(|port| Handshake::End { port }));
}

#[test]
fn who_is_called_is_offered_a_handshake_then_keys_then_nothing_as_the_owner_has_it() {
    let asked = |policy, flow: fn() -> sip::Flow| with(policy).called(flow(), 0).unwrap();
    assert!(asked(DtlsPolicy::Accepted, phone).contains(" RTP/AVP 0"));
    assert!(asked(DtlsPolicy::Accepted, tls).contains(" RTP/SAVP 0"));
    let mut rig = with(DtlsPolicy::Offered);
    let offers = [0, 1, 2].map(|fork| {
        let offer = rig.called(tls(), fork).unwrap();
        let refused = sip::Leg { side: CALLEE, fork, flow: tls() };
        let again = sip::MediaPlane::concede(&mut rig.0, crate::plane::rig::CALL, refused, fork + 1);
        assert_eq!(again, fork < 2, "{offer}");
        offer
    });
    assert!(offers[0].contains(SAVP) && offers[0].contains("a=setup:actpass"), "{}", offers[0]);
    assert!(!offers[0].contains("crypto"), "{}", offers[0]);
    assert!(offers[1].contains(" RTP/SAVP 0") && !offers[1].contains("fingerprint"), "{}", offers[1]);
    assert!(offers[2].contains(" RTP/AVP 0") && !offers[2].contains("crypto"), "{}", offers[2]);
}

#[test]
fn who_insists_on_handshakes_calls_and_is_called_by_nobody_without() {
    for plain in [of_phone("RTP/AVP", ""), of_phone("RTP/SAVP", "")] {
        let refusal = refused("this peer demands a handshake for sound (DTLS-SRTP)");
        let called = with(DtlsPolicy::Always).pass(CALLER, tls(), &plain, Role::Offer);
        assert_eq!(called, Err(refusal));
    }
    let mut rig = with(DtlsPolicy::Always);
    assert!(rig.called(phone(), 0).unwrap().contains(SAVP));
    let left = sip::Leg { side: CALLEE, fork: 0, flow: phone() };
    assert!(!sip::MediaPlane::concede(&mut rig.0, crate::plane::rig::CALL, left, 1));
    let insists = Policies { sdes: SdesPolicy::Always, ..Policies::default() };
    let mut keys = Rig::new(Policies { fingerprint: Some(Fingerprint::of(OURS)), ..insists });
    assert!(keys.answer(phone(), &offer("actpass")).is_ok(), "keys of a handshake are keys");
}

#[test]
fn a_phone_is_spoken_to_in_the_profile_in_which_it_spoke_and_others_are_not() {
    let mut rig = with(DtlsPolicy::Accepted);
    let offer = offer("actpass").replace(SAVP, "UDP/TLS/RTP/SAVPF");
    let inward = rig.pass(CALLER, phone(), &offer, Role::Offer).unwrap();
    assert!(inward.contains(" RTP/AVP 0"), "{inward}");
    let answer = rig.pass(CALLEE, phone(), &of_phone("RTP/AVP", ""), Role::Answer).unwrap();
    assert!(answer.contains(" UDP/TLS/RTP/SAVPF 0"), "{answer}");
    let again = rig.pass(CALLEE, phone(), &of_phone("RTP/AVP", ""), Role::Offer).unwrap();
    assert!(again.contains(" UDP/TLS/RTP/SAVPF 0") && again.contains("a=setup:actpass"), "{again}");
}

#[test]
fn certificates_of_a_whole_session_count_and_what_cannot_be_agreed_on_is_refused_in_words() {
    let of_session =
        offer("actpass").replace("t=0 0\r\n", &format!("t=0 0\r\n{}", lines(THEIRS, "active", "")));
    let of_session = of_session.rsplit_once("a=fingerprint").unwrap().0.to_owned();
    assert!(with(DtlsPolicy::Accepted).answer(phone(), &of_session).is_ok(), "{of_session}");
    let good = lines(THEIRS, "actpass", "");
    let no_handshakes = "this peer makes no handshakes for sound (DTLS-SRTP)";
    for (policy, lines, why) in [
        (DtlsPolicy::Never, &*good, no_handshakes),
        (DtlsPolicy::Accepted, "a=setup:active\r\n", "no a=fingerprint by sha-256"),
        (DtlsPolicy::Accepted, "a=fingerprint:sha-1 AB:CD\r\n", "no a=fingerprint by sha-256"),
        (DtlsPolicy::Accepted, "a=fingerprint:sha-256 AB:CD\r\n", "malformed a=fingerprint"),
        (DtlsPolicy::Accepted, &good.replace("actpass", "holdconn"), "unusable a=setup"),
    ] {
        let passed = with(policy).pass(CALLER, phone(), &of_phone(SAVP, lines), Role::Offer);
        assert_eq!(passed, Err(refused(why)), "{lines}");
    }
    let mut asked = with(DtlsPolicy::Offered);
    asked.called(phone(), 0).unwrap();
    for (profile, lines, why) in [("RTP/AVP", "", NOT_ANSWERED), (SAVP, &*good, "unusable a=setup")] {
        assert_eq!(asked.answered(phone(), &of_phone(profile, lines)), Err(refused(why)));
    }
    let mut without = Rig::new(Policies::default());
    assert_eq!(without.answer(phone(), &offer("active")), Err(refused(no_handshakes)));
    assert!(without.0.sessions.values().all(|e| e.session.stats(A).sent == 0));
}
