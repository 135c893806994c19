//! For tests: one phone at a media plane, and the built-in user who echoes.

use std::sync::Arc;

use sip::{CallId, Flow, Leg, MediaPlane, Refused, Role, Side};
use wire::rtp::Header;
use wire::{ConnectionId, Profile, Seed, Time};

use super::{Plane, Policies};
use crate::locals::ECHO;
use crate::networks::NetworkRules;

pub(super) const CALL: CallId = CallId(1);
pub(super) const CALLER: Side = Side::Caller;
pub(super) const CALLEE: Side = Side::Callee;
/// The first port for sound.
pub(super) const PORT: u16 = 20_000;

/// A description of a phone's, with these lines about its sound.
pub(super) fn of_phone(profile: &str, lines: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 {profile} 0\r\n{lines}"
    )
}

pub(super) fn tls() -> Flow {
    Flow::Tls(ConnectionId(1), "192.0.2.9:40000".parse().unwrap())
}

pub(super) fn udp(address: &str) -> Flow {
    Flow::Udp(address.parse().unwrap())
}

pub(super) fn sound(sequence: u16) -> Vec<u8> {
    Header { sequence, ssrc: 5, ..Header::default() }.packet(&[0xd5; 160])
}

/// A plane with ports, a phone at one side of a call and the built-in user who echoes at the other.
pub(super) struct Rig(pub(super) Plane);

impl Rig {
    pub(super) fn new(policies: Policies) -> Rig {
        Rig::with(Profile::Open, policies, None)
    }

    pub(super) fn with(profile: Profile, policies: Policies, networks: Option<Arc<NetworkRules>>) -> Rig {
        let address: std::net::SocketAddr = "192.0.2.1:7080".parse().unwrap();
        let seeds = [1, 2].map(Seed::from_number);
        let mut plane = Plane::new(seeds, address.ip(), address, profile, (policies, networks));
        (0..8).for_each(|n| plane.offer_port(PORT + 2 * n));
        Rig(plane)
    }

    /// What becomes of a description on its way between a phone and the built-in user who echoes.
    pub(super) fn pass(&mut self, from: Side, phone: Flow, sdp: &str, role: Role) -> Result<String, Refused> {
        let callee = Leg { side: CALLEE, fork: 0, flow: Flow::Local(ECHO) };
        let caller = Leg { side: CALLER, fork: 0, flow: phone };
        let (from, toward) = if from == CALLER { (caller, callee) } else { (callee, caller) };
        let passed = self.0.rewrite(Time::ZERO, CALL, from, toward, sdp.as_bytes(), role)?;
        Ok(String::from_utf8(passed).unwrap())
    }

    /// What a phone is answered that calls with this offer.
    pub(super) fn answer(&mut self, phone: Flow, offer: &str) -> Result<String, Refused> {
        let inward = self.pass(CALLER, phone, offer, Role::Offer)?;
        assert!(inward.contains("m=audio 4000 RTP/AVP"), "{inward}");
        let is_between =
            |line: &str| ["a=crypto", "a=fingerprint", "a=setup"].iter().any(|a| line.starts_with(a));
        assert!(!inward.lines().any(is_between), "{inward}");
        self.pass(CALLEE, phone, &of_phone("RTP/AVP", ""), Role::Answer)
    }

    /// What a phone is offered that is called, as that fork.
    pub(super) fn called(&mut self, phone: Flow, fork: u16) -> Result<String, Refused> {
        let toward = Leg { side: CALLEE, fork, flow: phone };
        let from = Leg { side: CALLER, fork: 0, flow: Flow::Local(ECHO) };
        let offer = of_phone("RTP/AVP", "");
        let passed = self.0.rewrite(Time::ZERO, CALL, from, toward, offer.as_bytes(), Role::Offer)?;
        Ok(String::from_utf8(passed).unwrap())
    }

    pub(super) fn answered(&mut self, phone: Flow, answer: &str) -> Result<Vec<u8>, Refused> {
        let from = Leg { side: CALLEE, fork: 0, flow: phone };
        let toward = Leg { side: CALLER, fork: 0, flow: Flow::Local(ECHO) };
        self.0.rewrite(Time::ZERO, CALL, from, toward, answer.as_bytes(), Role::Answer)
    }

    /// What a phone hears at the first port that sends this to the echo.
    pub(super) fn echo(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = packet.to_vec();
        self.0.pass_from_phone(Time::ZERO, PORT, "192.0.2.9:4000".parse().unwrap(), &mut bytes);
        let mut sent = Vec::new();
        self.0.drain(&mut sent);
        sent.into_iter()
            .map(|t| t.bytes)
            .find(|bytes| wire::rtp::classify(bytes) == Some(wire::rtp::Kind::Rtp))
    }

    pub(super) fn phone_leg(&self) -> &'static str {
        self.0.phone_leg(CALL)
    }
}
