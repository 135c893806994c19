//! Session descriptions on their way through a call.
//!
//! Whenever one passes the SIP agent, its addresses are replaced by ours here: towards a phone by one of our
//! media ports, towards another peer by our peer port, a stream id under which we want to receive and a key,
//! towards a built-in user by nothing, since its sound never leaves the process.

use std::net::SocketAddr;
use std::time::Duration;

use media::{
    Endpoint, EndpointConfig, Face, PayloadTypes, PeerFace, PhoneFace, Session, SessionConfig, Source,
};
use sip::{CallId, Flow, Leg, MediaPlane, Refused, Role, Side};
use wire::sdp::{Description, Direction};
use wire::{NodeId, Seed, Time};

use super::digits::{Digits, NUMBER_ATTRIBUTE, PROMISE_ATTRIBUTE};
use super::keying::{KEY_ATTRIBUTE, Keying, NO_KEY};
use super::phone_leg::{PhoneLeg, Said, Terms, refused};
use super::whole::Passing;
use super::{Entry, MAX_SESSIONS, Plane, SessionKey};

/// The attribute between peers that says under which stream id one wants to receive.
const STREAM_ATTRIBUTE: &str = "x-openvoip-stream";

/// What stands in a media line between peers only.
const BETWEEN_PEERS: [&str; 4] = [STREAM_ATTRIBUTE, KEY_ATTRIBUTE, PROMISE_ATTRIBUTE, NUMBER_ATTRIBUTE];

/// Why a phone is refused.
const OTHER_NETWORK: &str = "the phone wants its sound in a network that has another rule than its own";

impl Plane {
    /// The session of a media line, made when it is first spoken of.
    fn session(
        &mut self,
        now: Time,
        key: SessionKey,
        flows: [Flow; 2],
        description: &Description,
    ) -> Result<&mut Entry, Refused> {
        if !self.sessions.contains_key(&key) {
            if self.sessions.len() >= MAX_SESSIONS {
                return Err(503.into());
            }
            let mut ports = [None; 2];
            let mut streams = [None; 2];
            let mut keys = [None, None];
            let mut phones = [None, None];
            let mut faces = Vec::with_capacity(2);
            for (index, flow) in flows.iter().enumerate() {
                let leg = media::Leg::BOTH[index];
                faces.push(match flow {
                    Flow::Udp(_) | Flow::Stream(..) | Flow::Tls(..) => {
                        let Some(port) = self.stock.pop_front() else {
                            ports.into_iter().flatten().for_each(|p| self.give_back(p));
                            for stream in streams.into_iter().flatten() {
                                self.by_stream.remove(&stream);
                            }
                            return Err(503.into());
                        };
                        ports[index] = Some(port);
                        self.by_port.insert(port, (key, leg));
                        let mut face = PhoneFace::new(port);
                        // The phone that was called would have no more; the one that calls may.
                        let conceded =
                            self.conceded.get(&(key.0, key.1)).filter(|_| leg == media::Leg::B).copied();
                        let seed = Seed::child_of(&mut self.key_rng);
                        phones[index] = Some(Box::new(PhoneLeg::new(seed, conceded.unwrap_or_default())));
                        face.signalled_from = flow.remote().map(|a| a.ip());
                        Face::Phone(face)
                    }
                    Flow::Peer(peer) => {
                        let id = media::session::new_stream_id(&mut self.rng);
                        streams[index] = Some(id);
                        self.by_stream.insert(id, (key, leg));
                        let remote = self.peers.get(peer).copied();
                        let cipher = self.cipher;
                        keys[index] = cipher.map(|c| Keying::new(c, Seed::child_of(&mut self.rng)));
                        let protected = cipher.is_some();
                        Face::Peer(PeerFace { remote, send_id: None, receive_id: id, protected })
                    }
                    Flow::Local(id) => Face::Local(Box::new(self.talker(now, *id))),
                });
            }
            let [a, b]: [Face; 2] = faces.try_into().expect("two flows make two faces");
            let config = SessionConfig::new(a, b, Seed::child_of(&mut self.rng));
            let session = Session::new(config, now);
            let kind = description.media.get(key.2).map(|m| m.kind.clone()).unwrap_or_default();
            let (passing, codec, refused) = (Passing::default(), String::new(), false);
            let entry = Entry { session, ports, streams, flows, keys, phones, passing, kind, codec, refused };
            self.sessions.insert(key, entry);
            self.dirty.push(key);
        }
        Ok(self.sessions.get_mut(&key).expect("made above"))
    }

    /// Takes what another peer says of the digits of a call.
    fn hear_of_digits(
        &mut self,
        fork: (CallId, u16),
        from: Leg,
        promise: Option<&str>,
        number: Option<&str>,
    ) {
        match (from.flow, from.side, promise, number) {
            (Flow::Peer(_), Side::Caller, Some(promise), _) if !self.digits.contains_key(&fork) => {
                let read = Digits::of_callee(promise, &mut self.rng);
                self.digits.extend(read.map(|digits| (fork, digits)));
            }
            (Flow::Peer(_), Side::Callee, _, Some(number)) => {
                self.digits.get_mut(&fork).into_iter().for_each(|digits| digits.answered(number));
            }
            _ => {}
        }
    }

    /// What another peer is told of them: an attribute and its value.
    fn say_of_digits(
        &mut self,
        (call, fork): (CallId, u16),
        from: Leg,
        toward: Leg,
    ) -> Option<(&'static str, String)> {
        let entry = self.sessions.get(&(call, fork, 0))?;
        let (Flow::Peer(peer), false) = (toward.flow, matches!(from.flow, Flow::Peer(_))) else {
            return None;
        };
        match from.side {
            Side::Caller => {
                let us = (self.own?, entry.keys[media::Leg::B as usize].as_ref()?.ours());
                let digits =
                    self.digits.entry((call, fork)).or_insert_with(|| Digits::of_caller(&mut self.rng));
                Some((PROMISE_ATTRIBUTE, digits.promise(us, peer)?))
            }
            Side::Callee => Some((NUMBER_ATTRIBUTE, self.digits.get(&(call, fork))?.number()?)),
        }
    }

    /// Refuses a phone that wants sound where not the same may go as where it is signalled from.
    fn check_networks(&self, flow: &Flow, description: &Description) -> Result<(), Refused> {
        if self.networks.is_none() || flow.remote().is_none() {
            return Ok(());
        }
        let carries = self.carries_to(flow);
        let mut all = (0..description.media.len())
            .flat_map(|index| [description.destination(index), description.rtcp_destination(index)])
            .flatten()
            .filter(|to| !to.ip().is_unspecified());
        if all.all(|to| self.carries(to.ip()) == carries) { Ok(()) } else { Err(refused(OTHER_NETWORK)) }
    }

    fn talker(&mut self, now: Time, id: u32) -> Endpoint {
        let talker = self.talkers.get(&id);
        let source = talker.map_or(Source::Silence, |t| t.source.clone());
        let record = talker.is_some_and(|t| t.record);
        let mut config = EndpointConfig::new(source, Seed::child_of(&mut self.rng));
        if !record {
            config.record_for = Duration::ZERO;
        }
        Endpoint::new(config, now)
    }
}

impl MediaPlane for Plane {
    fn rewrite(
        &mut self,
        now: Time,
        call: CallId,
        from: Leg,
        toward: Leg,
        sdp: &[u8],
        role: Role,
    ) -> Result<Vec<u8>, Refused> {
        let mut description = Description::parse(sdp).map_err(|_| Refused::from(488))?;
        let own = self.own;
        let fork = if from.side == Side::Callee { from.fork } else { toward.fork };
        let (flows, from_leg) = match from.side {
            Side::Caller => ([from.flow, toward.flow], media::Leg::A),
            Side::Callee => ([toward.flow, from.flow], media::Leg::B),
        };
        let (phone_ip, peer_address) = (self.phone_ip, self.peer_address);
        let policies = [from.flow, toward.flow].map(|flow| self.carries_to(&flow).restrict(self.policies));
        let [heard, told] = [Terms::of(policies[0], &from.flow), Terms::of(policies[1], &toward.flow)];
        self.check_networks(&from.flow, &description)?;
        let said = Said::take(&mut description, matches!(from.flow, Flow::Peer(_)));
        for (index, said) in said.iter().enumerate() {
            let key = (call, fork, index);
            let [stream, offered, promise, number] =
                BETWEEN_PEERS.map(|name| description.media[index].attribute(name).map(str::to_owned));
            // What is between peers reaches no phone.
            BETWEEN_PEERS.iter().for_each(|name| description.media[index].remove_attribute(name));
            if description.media[index].port == 0 {
                let media = &mut description.media[index];
                if let Some(entry) = self.sessions.get_mut(&key) {
                    entry.refused = true;
                    let phone = &entry.phones[from_leg.other() as usize];
                    phone.iter().for_each(|phone| phone.demand(media));
                }
                continue;
            }
            let is_reached = is_where_it_is_signalled(&from.flow, &description, index);
            let entry = self.session(now, key, flows, &description)?;
            let whole = said.whole.as_ref().filter(|whole| {
                policies.iter().all(|policies| whole.way.is_allowed(policies.end_to_end))
                    && (role == Role::Answer || is_reached || whole.begins() || entry.passing.is_agreed())
            });
            let mut way = whole.map(|whole| whole.way);
            let agrees = entry.passing.judge(role, way)?;
            let agreed = whole.filter(|_| agrees);
            entry.refused = false;
            learn(entry, now, from_leg, from.flow, &description, index);
            if let Flow::Peer(peer) = from.flow {
                if let Some(id) = stream.and_then(|text| text.parse().ok()) {
                    entry.session.set_send_id(from_leg, id);
                }
                agree_on_keys(entry, own, peer, from_leg, offered.as_deref())?;
            }
            if let Some(phone) = &mut entry.phones[from_leg as usize] {
                match agreed {
                    Some(whole) => phone.hear_whole(&mut entry.session, from_leg, said, whole.way)?,
                    None => phone.hear(&mut entry.session, from_leg, said, role, heard)?,
                }
            }
            if role == Role::Answer {
                agree(entry, &description, index);
                if !description.media[index].has("rtcp-mux") {
                    entry.session.refuse_mux(now, from_leg.other());
                }
            }
            let to = from_leg.other() as usize;
            let media = &mut description.media[index];
            if let Some(phone) = &mut entry.phones[to] {
                let (session, leg) = (&mut entry.session, from_leg.other());
                match (agreed, whole, role) {
                    (Some(whole), ..) => phone.say_whole(session, leg, media, whole)?,
                    (None, Some(whole), Role::Offer) => {
                        let asked = phone.ask_whole(session, leg, media, whole, told)?;
                        way = way.filter(|_| asked);
                    }
                    _ => phone.say(session, leg, media, role, told)?,
                }
            }
            entry.passing.settle(role, way, agrees);
            entry.session.set_whole(agrees);
            match (entry.ports[to], entry.streams[to]) {
                (Some(port), _) => description.set_destination(index, SocketAddr::new(phone_ip, port)),
                (_, Some(stream)) => {
                    media.set_attribute(STREAM_ATTRIBUTE, &stream.to_string());
                    if let Some(keys) = &entry.keys[to] {
                        media.set_attribute(KEY_ATTRIBUTE, &keys.offer());
                    }
                    // An offer promises nothing that we could not do without it.
                    let passed = agreed.or(whole.filter(|_| role == Role::Offer));
                    passed.iter().for_each(|whole| whole.say_to_peer(media));
                    description.set_destination(index, peer_address);
                }
                // A built-in user: its sound never leaves the process.
                _ => {}
            }
            if index == 0 {
                self.hear_of_digits((call, fork), from, promise.as_deref(), number.as_deref());
                if let Some((name, value)) = self.say_of_digits((call, fork), from, toward) {
                    description.media[index].set_attribute(name, &value);
                }
            }
            self.ask_for_handshakes(key);
            self.dirty.push(key);
        }
        description.set_origin(match toward.flow {
            Flow::Peer(_) => peer_address.ip(),
            _ => phone_ip,
        });
        Ok(description.to_bytes())
    }

    fn concede(&mut self, call: CallId, refused: Leg, fork: u16) -> bool {
        let keys = (call, refused.fork, 0)..=(call, refused.fork, usize::MAX);
        let legs = self.sessions.range(keys).flat_map(|(_, e)| &e.phones[media::Leg::B as usize]);
        let conceded = legs.filter_map(|phone| phone.may_concede(self.policies)).next();
        if let Some(conceded) = conceded {
            for key in self.keys_of(call).into_iter().filter(|key| key.1 == refused.fork) {
                self.forget_fork(key);
            }
            self.conceded.insert((call, fork), conceded);
        }
        conceded.is_some()
    }

    fn answered(&mut self, _now: Time, call: CallId, callee: Leg) {
        for key in self.keys_of(call) {
            match self.sessions.get_mut(&key).filter(|_| key.1 == callee.fork) {
                Some(entry) => entry.passing.take(),
                None => self.forget_fork(key),
            }
        }
    }

    fn opening(&mut self, call: CallId, callee: Leg) -> Option<String> {
        let ends = self.ends((call, callee.fork, 0))?;
        self.digits.get_mut(&(call, callee.fork))?.open(ends)
    }

    fn opened(&mut self, call: CallId, callee: Leg, opening: &str) {
        let ends = self.ends((call, callee.fork, 0));
        if let (Some(ends), Some(digits)) = (ends, self.digits.get_mut(&(call, callee.fork))) {
            digits.opened(opening, ends);
        }
    }

    fn close(&mut self, _now: Time, call: CallId) {
        if let Some(mut heard) = self.heard(call) {
            for key in self.keys_of(call) {
                let Some(entry) = self.sessions.get_mut(&key) else { continue };
                for leg in media::Leg::BOTH {
                    let talker = entry.session.local_mut(leg).map(Endpoint::take_recording);
                    heard.recording = heard.recording.or(talker.filter(|r| !r.is_empty()));
                }
            }
            self.finished.insert(call, heard);
        }
        for key in self.keys_of(call) {
            self.forget_fork(key);
        }
        self.conceded.retain(|(of, _), _| *of != call);
    }
}

/// Whether a phone wants its sound where it is signalled from: behind a NAT it names an address that nobody reaches before it
/// has sent something itself.
fn is_where_it_is_signalled(flow: &Flow, description: &Description, index: usize) -> bool {
    let named = description.destination(index).map(|to| to.ip().to_canonical());
    flow.remote().is_none_or(|remote| named == Some(remote.ip().to_canonical()))
}

/// Takes from a description what concerns the leg that sent it.
fn learn(entry: &mut Entry, now: Time, leg: media::Leg, flow: Flow, description: &Description, index: usize) {
    let media = &description.media[index];
    match flow {
        Flow::Udp(_) | Flow::Stream(..) | Flow::Tls(..) => {
            let rtp = description.destination(index).filter(|a| !a.ip().is_unspecified());
            let rtcp = description.rtcp_destination(index).filter(|a| !a.ip().is_unspecified());
            entry.session.set_announced(now, leg, rtp, rtcp, media.has("rtcp-mux"));
        }
        Flow::Peer(_) | Flow::Local(_) => {}
    }
    entry.session.set_direction(now, leg, direction(description.direction(index)));
}

/// Takes the key of a peer, where sound is protected.
fn agree_on_keys(
    entry: &mut Entry,
    own: Option<NodeId>,
    peer: NodeId,
    leg: media::Leg,
    offered: Option<&str>,
) -> Result<(), u16> {
    let Some(keys) = &mut entry.keys[leg as usize] else { return Ok(()) };
    let ids = [own.ok_or(NO_KEY)?, peer];
    keys.learn(ids, offered, |agreed| entry.session.set_keys(leg, agreed))
}

/// Takes from an answer which codecs were agreed on.
fn agree(entry: &mut Entry, description: &Description, index: usize) {
    let codecs = description.media[index].codecs();
    let mut types = PayloadTypes::default();
    for codec in &codecs {
        types.set(codec.payload_type, &codec.name, codec.clock);
    }
    entry.session.set_payload_types(types);
    let Some(first) = codecs.first() else { return };
    entry.codec = first.name.clone();
    let law = match first.name.to_ascii_uppercase().as_str() {
        "PCMA" => media::Law::A,
        _ => media::Law::Mu,
    };
    for leg in media::Leg::BOTH {
        if let Some(talker) = entry.session.local_mut(leg) {
            talker.set_law(law, first.payload_type);
        }
    }
}

fn direction(direction: Direction) -> media::Direction {
    match direction {
        Direction::SendRecv => media::Direction::SendRecv,
        Direction::SendOnly => media::Direction::SendOnly,
        Direction::RecvOnly => media::Direction::RecvOnly,
        Direction::Inactive => media::Direction::Inactive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::{Plane, Policies};
    use wire::{HashAlgorithm, KeyPair, Profile};

    const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\n\
                         m=audio 7080 RTP/AVP 0\r\na=x-openvoip-stream:8\r\n";

    fn plane(profile: Profile) -> Plane {
        let address: SocketAddr = "192.0.2.1:7080".parse().unwrap();
        let mut plane = Plane::new(
            [1, 2].map(Seed::from_number),
            address.ip(),
            address,
            profile,
            (Policies::default(), None),
        );
        plane.own = Some(id(1));
        plane
    }

    fn id(n: u64) -> NodeId {
        KeyPair::from_seed(Seed::from_number(n)).public().node_id(HashAlgorithm::Sha256)
    }

    /// What becomes of a description from another peer on its way to a built-in user, and of one back.
    fn pass(plane: &mut Plane, sdp: &str) -> Result<[String; 2], Refused> {
        let caller = Leg { side: Side::Caller, fork: 0, flow: Flow::Peer(id(2)) };
        let callee = Leg { side: Side::Callee, fork: 0, flow: Flow::Local(crate::locals::ECHO) };
        let text = |sdp: Vec<u8>| String::from_utf8(sdp).unwrap();
        let there =
            plane.rewrite(Time::ZERO, CallId(1), caller, callee, sdp.as_bytes(), Role::Offer).map(text)?;
        let back =
            plane.rewrite(Time::ZERO, CallId(1), callee, caller, there.as_bytes(), Role::Answer).map(text)?;
        Ok([there, back])
    }

    #[test]
    fn a_call_from_another_peer_without_a_key_is_refused_where_sound_is_protected() {
        assert!(pass(&mut plane(Profile::Open), OFFER).is_ok());
        for profile in [Profile::Signed, Profile::Secure] {
            for offer in [OFFER.to_owned(), format!("{OFFER}a=x-openvoip-key:AAAA\r\n")] {
                assert_eq!(pass(&mut plane(profile), &offer), Err(NO_KEY.into()), "{profile}");
            }
        }
    }

    #[test]
    fn every_line_of_every_fork_of_every_call_has_a_key_of_its_own_which_stays_the_same() {
        let mut plane = plane(Profile::Secure);
        let phone = Flow::Local(crate::locals::ECHO);
        let offer = OFFER.replace("a=x-openvoip-stream:8\r\n", "");
        let offer = format!("{offer}m=video 7082 RTP/AVP 96\r\n");
        let mut offered = |call: u64, fork: u16| -> Vec<String> {
            let from = Leg { side: Side::Caller, fork: 0, flow: phone };
            let toward = Leg { side: Side::Callee, fork, flow: Flow::Peer(id(2)) };
            let sdp = plane.rewrite(Time::ZERO, CallId(call), from, toward, offer.as_bytes(), Role::Offer);
            let sdp = String::from_utf8(sdp.unwrap()).unwrap();
            sdp.lines().filter_map(|l| l.strip_prefix("a=x-openvoip-key:")).map(str::to_owned).collect()
        };
        let all: Vec<String> =
            [(1, 0), (1, 1), (2, 0)].into_iter().flat_map(|(c, f)| offered(c, f)).collect();
        assert_eq!(std::collections::BTreeSet::from_iter(&all).len(), 6, "{all:?}");
        assert_eq!(offered(1, 0), all[..2]);
    }

    #[test]
    fn a_call_for_which_there_are_no_ports_leaves_nothing_behind() {
        let mut plane = plane(Profile::Open);
        let from = Leg { side: Side::Caller, fork: 0, flow: Flow::Peer(id(2)) };
        let phone = Flow::Udp("10.0.0.9:5060".parse().unwrap());
        let toward = Leg { side: Side::Callee, fork: 0, flow: phone };
        let refused = plane.rewrite(Time::ZERO, CallId(1), from, toward, OFFER.as_bytes(), Role::Offer);
        assert_eq!((refused, plane.by_stream.len(), plane.sessions.len()), (Err(503.into()), 0, 0));
    }

    #[test]
    fn a_line_that_is_refused_makes_no_call_unprotected() {
        let far = Keying::new(media::srtp::Cipher::Aes, Seed::from_number(3));
        let video = "m=video 7080 RTP/AVP 96\r\na=x-openvoip-stream:10\r\n";
        let key = format!("a={KEY_ATTRIBUTE}:{}\r\n", far.offer());
        let mut plane = plane(Profile::Secure);
        let (caller, callee) = (Flow::Peer(id(2)), Flow::Local(crate::locals::ECHO));
        let [caller, callee] =
            [(Side::Caller, caller), (Side::Callee, callee)].map(|(side, flow)| Leg { side, fork: 0, flow });
        let offer = format!("{OFFER}{key}{video}{key}");
        plane.rewrite(Time::ZERO, CallId(1), caller, callee, offer.as_bytes(), Role::Offer).unwrap();
        let answer = format!("{OFFER}{video}").replace("video 7080", "video 0");
        plane.rewrite(Time::ZERO, CallId(1), callee, caller, answer.as_bytes(), Role::Answer).unwrap();
        assert_eq!(plane.heard(CallId(1)).unwrap().secured, "srtp");
        // A line that is there without an agreement.
        plane.sessions.get_mut(&(CallId(1), 0, 1)).unwrap().keys = [const { None }; 2];
        assert_eq!(plane.heard(CallId(1)).unwrap().secured, "srtp");
        plane.sessions.get_mut(&(CallId(1), 0, 1)).unwrap().refused = false;
        assert_eq!(plane.heard(CallId(1)).unwrap().secured, "none");
    }

    #[test]
    fn keys_are_for_peers_and_never_reach_a_phone() {
        let mut far = Keying::new(media::srtp::Cipher::Aes, Seed::from_number(3));
        let offer = format!("{OFFER}a={KEY_ATTRIBUTE}:{}\r\n", far.offer());
        let mut plane = plane(Profile::Secure);
        let refused =
            format!("{offer}m=video 0 RTP/AVP 96\r\na=x-openvoip-stream:6\r\na={KEY_ATTRIBUTE}:AAAA\r\n");
        let [there, back] = pass(&mut plane, &refused).unwrap();
        assert!(!there.contains("x-openvoip"), "{there}");
        let key = back.lines().find_map(|l| l.strip_prefix("a=x-openvoip-key:"));
        assert!(far.learn([id(2), id(1)], key, |_| None).is_ok());
        let [_, again] = pass(&mut plane, &refused).unwrap();
        assert_eq!(again, back, "the same description twice has the same key");
    }
}
