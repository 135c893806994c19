//! Where the sound of calls goes.
//!
//! Each media line of each fork of a call has a [`media::Session`] that joins its two sides. Packets find
//! their session by the port or the stream id they arrive with.
//!
//! | file | holds |
//! |---|---|
//! | `describe.rs` | session descriptions on their way through: our addresses in, sessions made and told |
//! | `keying.rs` | the keys that two peers agree on in them |
//! | `digits.rs` | what two people read to each other to know that nobody stands between |
//! | `phone_leg.rs` | what protects the sound between a phone and its peer |
//! | `dtls.rs` | keys of a handshake that they make |
//! | `sdes.rs` | keys that they say in descriptions |
//! | `whole.rs` | keys that two phones agree on with each other |

mod describe;
mod digits;
mod dtls;
mod keying;
mod phone_leg;
#[cfg(test)]
mod rig;
mod sdes;
mod whole;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use media::srtp::Cipher;
use media::{Session, Source};
use sip::{CallId, Flow};
use wire::rtp::Kind;
use wire::{NodeId, Profile, Rng, Seed, Time, Transmit};

use crate::locals::ECHO;
use crate::networks::{Carries, NetworkRules};
use crate::report::RtpReport;
use crate::timers::Timers;
use digits::{Digits, Ends};
use dtls::Wanted;
use keying::Keying;
use phone_leg::{Conceded, PhoneLeg};
use whole::Passing;

pub use dtls::{DtlsPolicy, Handshake, HandshakeKeys};
pub(crate) use keying::NO_KEY;
pub(crate) use phone_leg::Policies;
pub use sdes::SdesPolicy;
pub use whole::EndToEndPolicy;

/// What comes to a media port, if both kinds do not come to one.
fn kind_at(port: u16) -> Kind {
    if port.is_multiple_of(2) { Kind::Rtp } else { Kind::Rtcp }
}

/// Port pairs kept ready, so that a call never waits for one: two for each side of two media lines
/// of two phones ringing at once.
pub(crate) const PORT_STOCK: usize = 8;

/// Most port pairs kept for reuse after their calls ended.
const PORT_KEEP: usize = 64;

/// Most sessions at once: a thousand calls with one media line, or fewer with more.
const MAX_SESSIONS: usize = 2_048;

/// A media line of a fork of a call.
type SessionKey = (CallId, u16, usize);

/// What a built-in user says and hears.
pub(crate) struct Talker {
    pub(crate) source: Source,
    pub(crate) record: bool,
}

struct Entry {
    session: Session,
    ports: [Option<u16>; 2],
    streams: [Option<u32>; 2],
    flows: [Flow; 2],
    /// Of the sides that are other peers, where sound is protected.
    keys: [Option<Keying>; 2],
    /// Of the sides that are phones.
    phones: [Option<Box<PhoneLeg>>; 2],
    /// Of keys that the phones at its two ends agree on.
    passing: Passing,
    kind: String,
    codec: String,
    /// The line was turned down: port 0 in the description that passed last.
    refused: bool,
}

/// What was measured of a call's sound.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) rtp: RtpReport,
    pub(crate) mos: f64,
    pub(crate) codec: String,
    /// `srtp`, `signed` or `none`: the least that protects any of its media.
    pub(crate) secured: &'static str,
    /// What the two people can compare, once both peers know it.
    pub(crate) digits: Option<String>,
    /// `dtls`, `sdes` or `none`: the least that protects any of it between phones here and this peer; `mismatch` if one
    /// showed another certificate than it named, `end_to_end` where they agreed to make keys with each other.
    pub(crate) phone_leg: &'static str,
    pub(crate) recording: Option<Vec<i16>>,
}

/// The media plane of a peer.
pub(crate) struct Plane {
    sessions: BTreeMap<SessionKey, Entry>,
    /// Of the forks of calls with one other peer.
    digits: BTreeMap<(CallId, u16), Digits>,
    by_port: BTreeMap<u16, (SessionKey, media::Leg)>,
    by_stream: BTreeMap<u32, (SessionKey, media::Leg)>,
    stock: VecDeque<u16>,
    released: Vec<u16>,
    timers: Timers<SessionKey>,
    dirty: Vec<SessionKey>,
    rng: Rng,
    /// The address phones are told to send sound to.
    pub(crate) phone_ip: IpAddr,
    /// The address named to other peers; they use the path they know.
    pub(crate) peer_address: SocketAddr,
    /// What protects sound between peers.
    cipher: Option<Cipher>,
    /// What protects it between phones and us.
    policies: Policies,
    /// Where that must be otherwise.
    networks: Option<Arc<NetworkRules>>,
    /// Chance for that alone.
    key_rng: Rng,
    /// Forks of calls that are offered less, since the phone took no more.
    conceded: BTreeMap<(CallId, u16), Conceded>,
    /// What the handshakes of phones need of the world.
    handshakes: VecDeque<Handshake>,
    /// Who we are, once we know: the keys of sound depend on it.
    pub(crate) own: Option<NodeId>,
    /// Where the peers of our calls are.
    pub(crate) peers: BTreeMap<NodeId, SocketAddr>,
    /// Built-in users.
    pub(crate) talkers: BTreeMap<u32, Talker>,
    /// Packets that belong to no call.
    pub(crate) strays: u64,
    /// What was measured of calls that have just ended.
    pub(crate) finished: BTreeMap<CallId, Heard>,
}

impl Plane {
    pub(crate) fn new(
        [seed, key_seed]: [Seed; 2],
        phone_ip: IpAddr,
        peer_address: SocketAddr,
        profile: Profile,
        (policies, networks): (Policies, Option<Arc<NetworkRules>>),
    ) -> Self {
        Plane {
            sessions: BTreeMap::new(),
            digits: BTreeMap::new(),
            by_port: BTreeMap::new(),
            by_stream: BTreeMap::new(),
            stock: VecDeque::new(),
            released: Vec::new(),
            timers: Timers::default(),
            dirty: Vec::new(),
            rng: seed.rng(),
            phone_ip,
            peer_address,
            cipher: keying::cipher(profile),
            policies: Policies { end_to_end: policies.end_to_end.under(profile), ..policies },
            networks,
            key_rng: key_seed.rng(),
            conceded: BTreeMap::new(),
            handshakes: VecDeque::new(),
            own: None,
            peers: BTreeMap::new(),
            talkers: BTreeMap::from([(ECHO, Talker { source: Source::Echo, record: false })]),
            strays: 0,
            finished: BTreeMap::new(),
        }
    }

    // ---- ports ---------------------------------------------------------------------------------

    /// A bound pair of ports to use.
    pub(crate) fn offer_port(&mut self, port: u16) {
        self.stock.push_back(port);
    }

    /// How many pairs are missing from the stock.
    pub(crate) fn ports_wanted(&self) -> usize {
        PORT_STOCK.saturating_sub(self.stock.len())
    }

    /// A pair that is not needed any more.
    pub(crate) fn poll_released(&mut self) -> Option<u16> {
        self.released.pop()
    }

    fn give_back(&mut self, port: u16) {
        self.by_port.remove(&port);
        if self.stock.len() < PORT_KEEP {
            self.stock.push_back(port);
        } else {
            self.released.push(port);
        }
    }

    // ---- packets -------------------------------------------------------------------------------

    /// A packet from a phone, on one of our media ports.
    pub(crate) fn pass_from_phone(
        &mut self,
        now: Time,
        port: u16,
        remote: SocketAddr,
        bytes: &mut [u8],
    ) -> Option<media::Forward> {
        let place = self.by_port.get(&(port & !1)).copied();
        if self.networks.is_some() && place.is_some_and(|place| !self.stands_there(place, remote.ip())) {
            self.strays += 1;
            return None;
        }
        if dtls::is_handshake(bytes) && !self.is_whole(place) {
            self.hear_handshake(port, remote, bytes);
            return None;
        }
        self.pass(now, place, Some(kind_at(port)), remote, bytes)?
    }

    /// What may go over the network of an address.
    fn carries(&self, ip: IpAddr) -> Carries {
        self.networks.as_ref().map(|networks| networks.carries(ip)).unwrap_or_default()
    }

    /// What may go to a phone where it is signalled from.
    fn carries_to(&self, flow: &Flow) -> Carries {
        flow.remote().map(|remote| self.carries(remote.ip())).unwrap_or_default()
    }

    /// Whether a phone's sound may come from an address: as much goes there as where it is signalled from.
    fn stands_there(&self, (key, leg): (SessionKey, media::Leg), ip: IpAddr) -> bool {
        let flow = self.sessions.get(&key).map(|entry| entry.flows[leg as usize]);
        flow.is_none_or(|flow| self.carries_to(&flow) == self.carries(ip))
    }

    /// Whether the phone there agreed on keys with the phone at the other end, so that its handshakes are not for us.
    fn is_whole(&self, place: Option<(SessionKey, media::Leg)>) -> bool {
        let entry = place.and_then(|(key, _)| self.sessions.get(&key));
        entry.is_some_and(|entry| entry.session.is_whole())
    }

    /// A packet from another peer, on the peer port; `None` if it is not of a call of ours.
    pub(crate) fn pass_from_peer(
        &mut self,
        now: Time,
        remote: SocketAddr,
        bytes: &mut [u8],
    ) -> Option<Option<media::Forward>> {
        let place = media::stream_of(bytes).and_then(|stream| self.by_stream.get(&stream)).copied();
        self.pass(now, place, None, remote, bytes)
    }

    /// Passes on what came from another peer, or from a phone to our port of this kind.
    fn pass(
        &mut self,
        now: Time,
        place: Option<(SessionKey, media::Leg)>,
        port: Option<Kind>,
        remote: SocketAddr,
        bytes: &mut [u8],
    ) -> Option<Option<media::Forward>> {
        let Some((key, leg)) = place else {
            self.strays += 1;
            return None;
        };
        let session = &mut self.sessions.get_mut(&key)?.session;
        let refused = session.refused(leg);
        let forward = match port.filter(|_| session.is_whole()) {
            Some(kind) => {
                session.carry(now, leg, kind, remote, bytes);
                None
            }
            None => session.handle_datagram(now, leg, remote, bytes),
        };
        let taken = session.refused(leg) == refused;
        if forward.is_none() {
            self.dirty.push(key);
        }
        taken.then_some(forward)
    }

    // ---- handshakes ----------------------------------------------------------------------------

    /// The phone at a media port.
    fn phone_at(&mut self, port: u16) -> Option<(&mut Session, &mut PhoneLeg, media::Leg)> {
        let (key, leg) = *self.by_port.get(&(port & !1))?;
        let entry = self.sessions.get_mut(&key)?;
        Some((&mut entry.session, entry.phones[leg as usize].as_deref_mut()?, leg))
    }

    /// A datagram of a handshake: it is made with the phone of a call that agreed to one, and with nobody else.
    fn hear_handshake(&mut self, port: u16, remote: SocketAddr, bytes: &[u8]) {
        let likely = self.phone_at(port).and_then(|(session, phone, leg)| {
            let expected = phone.expects_handshake() && session.is_phone_at(leg, remote);
            expected.then(|| session.phone_at(leg, kind_at(port)) == Some(remote))
        });
        match likely {
            Some(likely) => {
                let heard = Handshake::Heard { port, remote, likely, bytes: bytes.to_vec() };
                self.handshakes.push_back(heard);
            }
            None => self.strays += 1,
        }
    }

    /// Takes what a handshake came to; the error says in words what is wrong with it.
    pub(crate) fn shaken(
        &mut self,
        now: Time,
        port: u16,
        outcome: Result<HandshakeKeys, String>,
    ) -> Result<(), String> {
        let Some((session, phone, leg)) = self.phone_at(port) else { return Ok(()) };
        phone.shaken(now, session, leg, kind_at(port), outcome)
    }

    /// What the handshakes of phones need of the world.
    pub(crate) fn poll_handshake(&mut self) -> Option<Handshake> {
        self.handshakes.pop_front()
    }

    /// Asks the world for the handshakes that a description brought, and to forget those that it ended.
    fn ask_for_handshakes(&mut self, key: SessionKey) {
        let Some(entry) = self.sessions.get_mut(&key) else { return };
        for leg in media::Leg::BOTH {
            let (phone, port) = (&mut entry.phones[leg as usize], entry.ports[leg as usize]);
            let wanted = phone.as_mut().and_then(|phone| phone.take_wanted());
            let (Some(wanted), Some(port)) = (wanted, port) else { continue };
            for port in [port, port + 1] {
                let kind = kind_at(port);
                let to = entry.session.phone_at(leg, kind);
                self.handshakes.push_back(match wanted {
                    // RTCP shares it.
                    Wanted::Begin { of_rtcp_too: false, .. } if kind == Kind::Rtcp => Handshake::End { port },
                    Wanted::Begin { we_begin: false, .. } => Handshake::Begin { port, to: None },
                    // Where the phone listens may come later.
                    Wanted::Begin { .. } if to.is_some() => Handshake::Begin { port, to },
                    Wanted::Begin { .. } | Wanted::End => Handshake::End { port },
                });
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        while let Some(key) = self.timers.pop_due(now) {
            if let Some(entry) = self.sessions.get_mut(&key) {
                entry.session.handle_timeout(now);
                self.dirty.push(key);
            }
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.timers.next().map(|(at, _)| *at)
    }

    /// Collects what sessions want sent; returns peers whose sound has stopped.
    pub(crate) fn drain(&mut self, out: &mut Vec<Transmit>) -> Vec<NodeId> {
        let mut silent = Vec::new();
        let mut keys = std::mem::take(&mut self.dirty);
        keys.sort_unstable();
        keys.dedup();
        for key in keys.drain(..) {
            let Some(entry) = self.sessions.get_mut(&key) else { continue };
            while let Some(transmit) = entry.session.poll_transmit() {
                out.push(transmit);
            }
            while let Some(event) = entry.session.poll_event() {
                if let media::Event::Silent { leg, .. } = event
                    && let Flow::Peer(peer) = entry.flows[leg as usize]
                {
                    silent.push(peer);
                }
            }
            if let Some((at, _)) = entry.session.poll_timeout() {
                self.timers.set(key, at);
            }
        }
        self.dirty = keys;
        silent
    }

    // ---- what was heard ------------------------------------------------------------------------

    /// What is measured of a call's first medium right now.
    pub(crate) fn heard(&self, call: CallId) -> Option<Heard> {
        let entries = self.sessions.range((call, 0, 0)..=(call, u16::MAX, usize::MAX));
        let entry = entries.map(|(_, e)| e).min_by_key(|e| e.kind != "audio")?;
        // The near side is the one in this house: a phone or a built-in user, the caller's if both.
        let near = if matches!(entry.flows[0], Flow::Peer(_)) { media::Leg::B } else { media::Leg::A };
        let (ours, theirs) = (entry.session.stats(near), entry.session.stats(near.other()));
        let rtp = RtpReport {
            sent: ours.received,
            received: theirs.received,
            lost: theirs.lost,
            jitter_ms: theirs.jitter_ms,
        };
        let mos = if theirs.received == 0 {
            0.0
        } else {
            entry.session.quality(near.other()).map_or(0.0, |q| q.mos)
        };
        let (secured, phone_leg, digits) = (self.secured(call), self.phone_leg(call), self.digits(call));
        let codec = entry.codec.clone();
        Some(Heard { rtp, mos, codec, secured, phone_leg, digits, recording: None })
    }

    /// What the people of a call can compare, once it was answered and acknowledged.
    pub(crate) fn digits(&self, call: CallId) -> Option<String> {
        let mut forks = self.digits.range((call, 0)..=(call, u16::MAX));
        forks.find_map(|(&(call, fork), digits)| digits.digits(self.ends((call, fork, 0))?))
    }

    /// The two peers of a media line and their keys, if it passes between us and one other.
    fn ends(&self, key: SessionKey) -> Option<Ends> {
        let entry = self.sessions.get(&key).filter(|entry| !entry.refused)?;
        let us = |keys: &Keying| Some((self.own?, keys.ours()));
        match (&entry.flows, &entry.keys) {
            ([Flow::Peer(_), Flow::Peer(_)], _) => None,
            ([Flow::Peer(peer), _], [Some(keys), _]) => Some([(*peer, keys.theirs()?), us(keys)?]),
            ([_, Flow::Peer(peer)], [_, Some(keys)]) => Some([us(keys)?, (*peer, keys.theirs()?)]),
            _ => None,
        }
    }

    /// The media of a call that were not turned down.
    fn media_of(&self, call: CallId) -> impl Iterator<Item = &Entry> {
        let entries = self.sessions.range((call, 0, 0)..=(call, u16::MAX, usize::MAX));
        entries.map(|(_, e)| e).filter(|e| !e.refused)
    }

    /// What protects all media of a call between phones here and this peer.
    fn phone_leg(&self, call: CallId) -> &'static str {
        const FROM_THE_LEAST: [&str; 5] = ["mismatch", "none", "end_to_end", "sdes", "dtls"];
        let phones = self.media_of(call).flat_map(|e| e.phones.iter().flatten());
        let all: Vec<&'static str> = phones.map(|phone| phone.protection()).collect();
        FROM_THE_LEAST.into_iter().find(|least| all.contains(least)).unwrap_or("none")
    }

    /// What protects all media of a call between peers: `none` as long as one of them is not.
    fn secured(&self, call: CallId) -> &'static str {
        let sides = self.media_of(call).flat_map(|e| e.flows.iter().zip(&e.keys));
        let between_peers = sides.filter(|(flow, _)| matches!(flow, Flow::Peer(_)));
        let agreed: Option<Vec<Cipher>> =
            between_peers.map(|(_, keys)| keys.as_ref().and_then(Keying::agreed)).collect();
        agreed.and_then(|all| all.first().copied()).map_or("none", keying::name)
    }

    fn forget_fork(&mut self, key: SessionKey) {
        self.digits.remove(&(key.0, key.1));
        let Some(entry) = self.sessions.remove(&key) else { return };
        self.timers.cancel(key);
        for (phone, port) in entry.phones.iter().zip(entry.ports) {
            if let (Some(true), Some(port)) = (phone.as_ref().map(|phone| phone.expects_handshake()), port) {
                let ends = [port, port + 1].map(|port| Handshake::End { port });
                self.handshakes.extend(ends);
            }
        }
        entry.ports.into_iter().flatten().for_each(|port| self.give_back(port));
        for stream in entry.streams.into_iter().flatten() {
            self.by_stream.remove(&stream);
        }
    }

    fn keys_of(&self, call: CallId) -> Vec<SessionKey> {
        self.sessions.range((call, 0, 0)..=(call, u16::MAX, usize::MAX)).map(|(k, _)| *k).collect()
    }
}
