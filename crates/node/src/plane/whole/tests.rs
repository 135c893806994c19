//! Two phones at two peers, and what they say and send each other.

use sip::{CallId, Flow, Leg, MediaPlane, Role, Side};
use wire::{HashAlgorithm, KeyPair, NodeId, Profile, Seed, Socket, Time};

use super::*;
use crate::plane::phone_leg::Policies;
use crate::plane::rig::{PORT, of_phone, udp};
use crate::plane::{Conceded, DtlsPolicy, Plane};
use wire::sdp::dtls::Fingerprint;

const CALL: CallId = CallId(1);
const ANN: &str = "192.0.2.9:4000";
const BOB: &str = "192.0.2.10:4000";
const PEERS: [&str; 2] = ["192.0.2.1:7080", "192.0.2.2:7080"];
const ZRTP: &str = "a=zrtp-hash:1.10 fe30efd02423cb054e50efd0248742ac7a52c8f91bc2df881ae642c371ba46df\r\n";
const HELLO: &[u8] = b"\x10\x00\x00\x01ZRTP\x00\x00\x00\x05PZ\x00\x1dHello   ";

fn handshake(of: u8, setup: &str) -> String {
    format!("a=fingerprint:{}\r\na=setup:{setup}\r\n", Fingerprint::of(&[of; 40]))
}

fn id(n: usize) -> NodeId {
    KeyPair::from_seed(Seed::from_number(n as u64)).public().node_id(HashAlgorithm::Sha256)
}

/// Ann's phone and peer, and Bob's.
struct Two {
    planes: [Plane; 2],
    phones: [Flow; 2],
    /// Which of Bob's calls it is: he may be called again with less.
    fork: u16,
}

impl Two {
    fn new(profile: Profile, end_to_end: EndToEndPolicy) -> Two {
        Two::with(profile, [0, 1].map(|_| Policies { end_to_end, ..Policies::default() }))
    }

    fn with(profile: Profile, policies: [Policies; 2]) -> Two {
        let plane = |n: usize| {
            let address: std::net::SocketAddr = PEERS[n].parse().unwrap();
            let seeds = [1, 2].map(|seed| Seed::from_number(seed + 10 * n as u64));
            let policies = Policies { fingerprint: Some(Fingerprint::of(&[n as u8; 40])), ..policies[n] };
            let mut plane = Plane::new(seeds, address.ip(), address, profile, (policies, None));
            (0..8).for_each(|p| plane.offer_port(PORT + 2 * p));
            plane.own = Some(id(n));
            plane.peers.insert(id(1 - n), PEERS[1 - n].parse().unwrap());
            plane
        };
        Two { planes: [plane(0), plane(1)], phones: [udp(ANN), udp(BOB)], fork: 0 }
    }

    /// What becomes of a description on its way from the phone of one to that of the other: between the peers, and at the end.
    fn say(&mut self, from: Side, sdp: &str, role: Role) -> Result<[String; 2], Refused> {
        let [here, there] = if from == Side::Caller { [0, 1] } else { [1, 0] };
        let between = self.pass(here, from, sdp, role)?;
        Ok([between.clone(), self.pass(there, from, &between, role)?])
    }

    fn pass(&mut self, at: usize, from: Side, sdp: &str, role: Role) -> Result<String, Refused> {
        let [mut caller, mut callee] = self.phones;
        *(if at == 0 { &mut callee } else { &mut caller }) = Flow::Peer(id(1 - at));
        let caller = Leg { side: Side::Caller, fork: 0, flow: caller };
        let callee = Leg { side: Side::Callee, fork: if at == 1 { self.fork } else { 0 }, flow: callee };
        let (from, toward) = if from == Side::Caller { (caller, callee) } else { (callee, caller) };
        let passed = self.planes[at].rewrite(Time::ZERO, CALL, from, toward, sdp.as_bytes(), role)?;
        Ok(String::from_utf8(passed).unwrap())
    }

    /// A call that both phones describe so; what Bob is offered, and what Ann is answered.
    fn call(&mut self, offer: &str, answer: &str) -> Result<[String; 2], Refused> {
        let [_, offered] = self.say(Side::Caller, offer, Role::Offer)?;
        let [_, answered] = self.say(Side::Callee, answer, Role::Answer)?;
        Ok([offered, answered])
    }

    /// What Bob's phone gets of a datagram of Ann's.
    fn heard_by_bob(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let sound = |plane: &mut Plane| {
            let mut sent = Vec::new();
            plane.drain(&mut sent);
            sent
        };
        let forward =
            self.planes[0].pass_from_phone(Time::ZERO, PORT, ANN.parse().unwrap(), &mut bytes.to_vec());
        assert_eq!(forward, None, "what is carried whole leaves in a packet of its own");
        let between = sound(&mut self.planes[0]).into_iter().find(|t| t.socket == Socket::Peer)?;
        assert!(!between.bytes.windows(bytes.len()).any(|w| w == bytes));
        self.planes[1].pass_from_peer(Time::ZERO, PEERS[0].parse().unwrap(), &mut between.bytes.clone());
        let heard = sound(&mut self.planes[1]).into_iter().find(|t| matches!(t.socket, Socket::Media(_)))?;
        assert_eq!(heard.remote, BOB.parse().unwrap());
        Some(heard.bytes)
    }

    /// The call is taken by the phone of Bob's that was asked last.
    fn taken(&mut self) {
        for (n, plane) in self.planes.iter_mut().enumerate() {
            let leg =
                Leg { side: Side::Callee, fork: if n == 1 { self.fork } else { 0 }, flow: self.phones[1] };
            plane.answered(Time::ZERO, CALL, leg);
        }
    }

    fn phone_legs(&self) -> [&'static str; 2] {
        [0, 1].map(|n| self.planes[n].heard(CALL).unwrap().phone_leg)
    }
}

fn described(profile: &str, lines: &str) -> String {
    of_phone(profile, lines)
}

/// The same, of Bob's phone.
fn bobs(profile: &str, lines: &str) -> String {
    of_phone(profile, lines).replace("192.0.2.9", "192.0.2.10")
}

#[test]
fn two_phones_that_have_zrtp_are_told_so_and_what_they_send_is_carried_as_it_is() {
    let mut two = Two::new(Profile::Secure, EndToEndPolicy::Zrtp);
    let bob = ZRTP.replace("fe30", "aaaa");
    let [offered, answered] = two.call(&described("RTP/AVP", ZRTP), &bobs("RTP/AVP", &bob)).unwrap();
    assert!(offered.contains(ZRTP) && answered.contains(&bob), "{offered}{answered}");
    assert!(!offered.contains("x-openvoip") && !answered.contains("x-openvoip"));
    assert_eq!(two.heard_by_bob(HELLO).as_deref(), Some(HELLO));
    assert_eq!(two.phone_legs(), ["end_to_end"; 2]);
    assert_eq!(two.planes[0].heard(CALL).unwrap().secured, "srtp", "the peers protect it once more");
}

#[test]
fn a_phone_that_has_no_zrtp_is_heard_by_one_that_has_and_nothing_is_carried() {
    let mut two = Two::new(Profile::Secure, EndToEndPolicy::Zrtp);
    let [offered, answered] = two.call(&described("RTP/AVP", ZRTP), &bobs("RTP/AVP", "")).unwrap();
    assert!(offered.contains(ZRTP) && !answered.contains("zrtp"), "{offered}{answered}");
    assert_eq!((two.heard_by_bob(HELLO), two.phone_legs()), (None, ["none"; 2]));
}

#[test]
fn two_phones_make_one_handshake_through_both_peers() {
    let mut two = Two::new(Profile::Secure, EndToEndPolicy::Any);
    let (offer, answer) = (handshake(7, "actpass"), handshake(8, "active"));
    let both = two.call(&described("UDP/TLS/RTP/SAVPF", &offer), &bobs("UDP/TLS/RTP/SAVP", &answer));
    let [offered, answered] = both.unwrap();
    assert!(offered.contains("UDP/TLS/RTP/SAVP 0\r\n") && offered.contains(&offer), "{offered}");
    assert!(answered.contains("UDP/TLS/RTP/SAVPF 0\r\n") && answered.contains(&answer), "{answered}");
    let hello = [&[22, 0xfe, 0xfd][..], &[3; 60]].concat();
    assert_eq!(two.heard_by_bob(&hello), Some(hello));
    assert_eq!(two.phone_legs(), ["end_to_end"; 2]);
    for plane in &mut two.planes {
        assert_eq!(plane.poll_handshake(), None, "no peer makes one");
    }
}

#[test]
fn a_phone_that_refuses_the_others_handshake_is_called_again_without_and_each_peer_has_its_own_leg() {
    let mut two = Two::new(Profile::Secure, EndToEndPolicy::Any);
    let offer = described("UDP/TLS/RTP/SAVP", &handshake(7, "actpass"));
    let [between, offered] = two.say(Side::Caller, &offer, Role::Offer).unwrap();
    assert!(offered.contains("UDP/TLS/RTP/SAVP 0"), "{offered}");
    let refused = Leg { side: Side::Callee, fork: 0, flow: two.phones[1] };
    assert!(two.planes[1].concede(CALL, refused, 1), "488");
    two.fork = 1;
    let offered = two.pass(1, Side::Caller, &between, Role::Offer).unwrap();
    assert!(offered.contains("RTP/AVP 0") && !offered.contains("fingerprint"), "{offered}");
    let [between, answered] = two.say(Side::Callee, &bobs("RTP/AVP", ""), Role::Answer).unwrap();
    assert!(!between.contains("whole"), "{between}");
    let own = Fingerprint::of(&[0; 40]).to_string();
    assert!(answered.contains(&own) && answered.contains("a=setup:passive"), "{answered}");
    assert_eq!(two.phone_legs()[1], "none");
    assert!(!two.planes[0].concede(CALL, refused, 2), "the phone that calls concedes nothing");
}

#[test]
fn a_phone_that_answers_a_handshake_without_one_is_refused() {
    let mut two = Two::new(Profile::Secure, EndToEndPolicy::Any);
    two.say(Side::Caller, &described("UDP/TLS/RTP/SAVP", &handshake(7, "actpass")), Role::Offer).unwrap();
    let refused = two.say(Side::Callee, &bobs("RTP/AVP", ""), Role::Answer).unwrap_err();
    assert_eq!(refused.status, 488);
}

#[test]
fn nothing_is_carried_whole_where_everything_must_be_readable_nor_where_the_owner_says_never() {
    let never = Two::new(Profile::Secure, EndToEndPolicy::Never);
    let signed = Two::new(Profile::Signed, EndToEndPolicy::Any);
    let one_only = [EndToEndPolicy::Zrtp, EndToEndPolicy::Never];
    let one_only = one_only.map(|end_to_end| Policies { end_to_end, ..Policies::default() });
    for mut two in [never, signed, Two::with(Profile::Secure, one_only)] {
        let [offered, answered] = two.call(&described("RTP/AVP", ZRTP), &bobs("RTP/AVP", ZRTP)).unwrap();
        assert!(!offered.contains("zrtp") && !answered.contains("zrtp"), "{offered}{answered}");
        assert_eq!(two.phone_legs(), ["none"; 2]);
    }
}

#[test]
fn a_handshake_is_passed_on_only_where_both_owners_let_it_and_else_each_peer_makes_its_own() {
    let policies = [EndToEndPolicy::Any, EndToEndPolicy::Zrtp];
    let policies =
        policies.map(|end_to_end| Policies { end_to_end, dtls: DtlsPolicy::Offered, ..Policies::default() });
    for policies in [policies, [policies[1], policies[0]]] {
        let mut two = Two::with(Profile::Secure, policies);
        let offer = described("UDP/TLS/RTP/SAVP", &handshake(7, "actpass"));
        let [offered, answered] =
            two.call(&offer, &bobs("UDP/TLS/RTP/SAVP", &handshake(8, "active"))).unwrap();
        let [ann, bob] = [0, 1].map(|n| Fingerprint::of(&[n; 40]).to_string());
        assert!(offered.contains(&bob) && answered.contains(&ann), "{offered}{answered}");
    }
}

#[test]
fn a_held_call_stays_whole_and_a_phone_that_leaves_its_keys_out_is_refused() {
    let mut two = Two::new(Profile::Secure, EndToEndPolicy::Zrtp);
    let (ann, bob) = (described("RTP/AVP", ZRTP), bobs("RTP/AVP", ZRTP));
    two.call(&ann, &bob).unwrap();
    two.taken();
    two.call(&format!("{ann}a=sendonly\r\n"), &format!("{bob}a=recvonly\r\n")).unwrap();
    assert_eq!(two.heard_by_bob(HELLO).as_deref(), Some(HELLO));
    let elsewhere = described("RTP/AVP", "").replace("audio 4000", "audio 5000");
    let refused = two.say(Side::Caller, &elsewhere, Role::Offer).unwrap_err();
    assert_eq!(refused, Refused { status: 488, why: KEYS_OF_THEIR_OWN });
    let announced = two.planes[0].sessions[&(CALL, 0, 0)].session.announced(media::Leg::A);
    assert_eq!(announced[0], Some(ANN.parse().unwrap()), "nothing has changed");
    assert_eq!(two.heard_by_bob(HELLO).as_deref(), Some(HELLO));
    // What was offered before is still answered, though another offer crossed it.
    two.say(Side::Callee, &bob, Role::Answer).unwrap();
}

#[test]
fn of_two_phones_that_ring_the_one_that_takes_the_call_decides_whatever_the_other_said_before() {
    for (profile, policy, lines) in [
        ("RTP/AVP", EndToEndPolicy::Zrtp, [ZRTP.to_owned(), ZRTP.to_owned()]),
        ("UDP/TLS/RTP/SAVP", EndToEndPolicy::Any, [handshake(7, "actpass"), handshake(8, "active")]),
    ] {
        let mut two = Two::new(Profile::Secure, policy);
        let [between, _] = two.say(Side::Caller, &described(profile, &lines[0]), Role::Offer).unwrap();
        two.say(Side::Callee, &bobs(profile, &lines[1]), Role::Answer).unwrap();
        assert_eq!(two.heard_by_bob(HELLO).as_deref(), Some(HELLO), "{profile}: the first sends early sound");
        two.fork = 1;
        two.planes[1].conceded.insert((CALL, 1), Conceded::Whole);
        two.pass(1, Side::Caller, &between, Role::Offer).unwrap();
        let [_, answered] = two.say(Side::Callee, &bobs("RTP/AVP", ""), Role::Answer).unwrap();
        two.taken();
        assert!(!answered.contains("zrtp") && answered.contains(profile), "{answered}");
        assert_eq!(answered.contains("a=setup:passive"), profile != "RTP/AVP", "{answered}");
        assert!(!two.planes[0].sessions[&(CALL, 0, 0)].session.is_whole());
        assert_eq!(two.phone_legs(), ["none"; 2]);
    }
}

#[test]
fn a_phone_that_was_asked_and_says_nothing_of_it_while_it_rings_is_refused_again_and_called_without() {
    let mut two = Two::new(Profile::Secure, EndToEndPolicy::Any);
    two.say(Side::Caller, &described("UDP/TLS/RTP/SAVP", &handshake(7, "actpass")), Role::Offer).unwrap();
    for _ in 0..2 {
        assert!(two.say(Side::Callee, &bobs("RTP/AVP", ""), Role::Answer).is_err());
    }
    let refused = Leg { side: Side::Callee, fork: 0, flow: two.phones[1] };
    assert!(two.planes[1].concede(CALL, refused, 1));
}

#[test]
fn a_phone_that_cannot_be_called_again_is_asked_for_no_handshake_with_the_other() {
    let mut two = Two::new(Profile::Secure, EndToEndPolicy::Any);
    // Ann called without a description, so that Bob offers.
    let offer = bobs("UDP/TLS/RTP/SAVP", &handshake(8, "actpass"));
    let [_, offered] = two.say(Side::Callee, &offer, Role::Offer).unwrap();
    assert!(offered.contains("RTP/AVP 0") && !offered.contains("fingerprint"), "{offered}");
    let [_, answered] = two.say(Side::Caller, &described("RTP/AVP", ""), Role::Answer).unwrap();
    assert!(answered.contains(&Fingerprint::of(&[1; 40]).to_string()), "with his own peer: {answered}");
}

#[test]
fn a_phone_behind_a_nat_shakes_hands_with_its_own_peer_unless_it_begins() {
    for (setup, passed) in [("actpass", false), ("passive", false), ("active", true)] {
        let mut two = Two::new(Profile::Secure, EndToEndPolicy::Any);
        two.phones[0] = udp("203.0.113.5:40000");
        let offer = described("UDP/TLS/RTP/SAVP", &handshake(7, setup));
        let [between, _] = two.say(Side::Caller, &offer, Role::Offer).unwrap();
        assert_eq!(between.contains("whole:dtls"), passed, "{setup}: {between}");
    }
}

#[test]
fn nobody_shakes_hands_with_who_names_no_certificate() {
    let mut two = Two::new(Profile::Secure, EndToEndPolicy::Any);
    let offer = described("UDP/TLS/RTP/SAVP", &handshake(7, "actpass"));
    two.say(Side::Caller, &offer, Role::Offer).unwrap();
    assert!(two.say(Side::Callee, &bobs("UDP/TLS/RTP/SAVP", "a=setup:active\r\n"), Role::Answer).is_err());
}

#[test]
fn rtcp_goes_to_a_port_of_its_own_if_the_other_phone_does_not_share_one() {
    let mut two = Two::new(Profile::Secure, EndToEndPolicy::Any);
    let offer = format!("{}a=rtcp-mux\r\n", handshake(7, "actpass"));
    let answer = handshake(8, "active");
    two.call(&described("UDP/TLS/RTP/SAVP", &offer), &bobs("UDP/TLS/RTP/SAVP", &answer)).unwrap();
    let session = &two.planes[0].sessions[&(CALL, 0, 0)].session;
    assert_eq!(
        session.phone_at(media::Leg::A, wire::rtp::Kind::Rtcp),
        Some("192.0.2.9:4001".parse().unwrap())
    );
}

#[test]
fn what_a_phone_writes_for_peers_means_nothing() {
    let mut two = Two::new(Profile::Secure, EndToEndPolicy::Any);
    let forged = format!("a={WHOLE_ATTRIBUTE}:dtls\r\n{}", handshake(7, "actpass"));
    let [between, offered] = two.say(Side::Caller, &described("RTP/AVP", &forged), Role::Offer).unwrap();
    for description in [between, offered] {
        assert!(
            !description.contains(WHOLE_ATTRIBUTE) && !description.contains("fingerprint"),
            "{description}"
        );
    }
}

#[test]
fn no_more_lines_are_passed_on_than_phones_have() {
    let mut two = Two::new(Profile::Secure, EndToEndPolicy::Zrtp);
    let [_, offered] = two.say(Side::Caller, &described("RTP/AVP", &ZRTP.repeat(30)), Role::Offer).unwrap();
    assert_eq!(offered.matches("zrtp-hash").count(), MAX_LINES);
}
