//! Where the sound of calls goes.
//!
//! Whenever a session description passes through the SIP agent, its addresses are replaced by ours
//! here: towards a phone by one of our media ports, towards another peer by our peer port and a
//! stream id under which we want to receive, towards a built-in user by nothing, since its sound
//! never leaves the process. Each media line of each fork has a [`media::Session`] that joins its two
//! sides. Packets find their session by the port or the stream id they arrive with.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use media::{
    Endpoint, EndpointConfig, Face, PayloadTypes, PeerFace, PhoneFace, Session, SessionConfig, Source,
};
use sip::{CallId, Flow, Leg, MediaPlane, Role, Side};
use wire::sdp::{Description, Direction};
use wire::{NodeId, Rng, Seed, Time, Transmit};

use crate::locals::ECHO;
use crate::report::RtpReport;
use crate::timers::Timers;

/// Port pairs kept ready, so that a call never waits for one: two for each side of two media lines
/// of two phones ringing at once.
pub(crate) const PORT_STOCK: usize = 8;

/// Most port pairs kept for reuse after their calls ended.
const PORT_KEEP: usize = 64;

/// Most sessions at once: a thousand calls with one media line, or fewer with more.
const MAX_SESSIONS: usize = 2_048;

/// The attribute between peers that says under which stream id one wants to receive.
const STREAM_ATTRIBUTE: &str = "x-openvoip-stream";

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
    kind: String,
    codec: String,
}

/// What was measured of a call's sound.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) rtp: RtpReport,
    pub(crate) mos: f64,
    pub(crate) codec: String,
    pub(crate) recording: Option<Vec<i16>>,
}

/// The media plane of a peer.
pub(crate) struct Plane {
    sessions: BTreeMap<SessionKey, Entry>,
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
    pub(crate) fn new(seed: Seed, phone_ip: IpAddr, peer_address: SocketAddr) -> Self {
        Plane {
            sessions: BTreeMap::new(),
            by_port: BTreeMap::new(),
            by_stream: BTreeMap::new(),
            stock: VecDeque::new(),
            released: Vec::new(),
            timers: Timers::default(),
            dirty: Vec::new(),
            rng: seed.rng(),
            phone_ip,
            peer_address,
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
        self.pass(now, place, remote, bytes)
    }

    /// A packet from another peer, on the peer port.
    pub(crate) fn pass_from_peer(
        &mut self,
        now: Time,
        remote: SocketAddr,
        bytes: &mut [u8],
    ) -> Option<media::Forward> {
        let place = media::stream_of(bytes).and_then(|stream| self.by_stream.get(&stream)).copied();
        self.pass(now, place, remote, bytes)
    }

    fn pass(
        &mut self,
        now: Time,
        place: Option<(SessionKey, media::Leg)>,
        remote: SocketAddr,
        bytes: &mut [u8],
    ) -> Option<media::Forward> {
        let Some((key, leg)) = place else {
            self.strays += 1;
            return None;
        };
        let entry = self.sessions.get_mut(&key)?;
        let forward = entry.session.handle_datagram(now, leg, remote, bytes);
        if forward.is_none() {
            self.dirty.push(key);
        }
        forward
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
        Some(Heard { rtp, mos, codec: entry.codec.clone(), recording: None })
    }

    fn forget_fork(&mut self, key: SessionKey) {
        let Some(entry) = self.sessions.remove(&key) else { return };
        self.timers.cancel(key);
        entry.ports.into_iter().flatten().for_each(|port| self.give_back(port));
        for stream in entry.streams.into_iter().flatten() {
            self.by_stream.remove(&stream);
        }
    }

    fn keys_of(&self, call: CallId) -> Vec<SessionKey> {
        self.sessions.range((call, 0, 0)..=(call, u16::MAX, usize::MAX)).map(|(k, _)| *k).collect()
    }

    // ---- session descriptions ------------------------------------------------------------------

    /// The session of a media line, made when it is first spoken of.
    fn session(
        &mut self,
        now: Time,
        key: SessionKey,
        flows: [Flow; 2],
        description: &Description,
    ) -> Result<&mut Entry, u16> {
        if !self.sessions.contains_key(&key) {
            if self.sessions.len() >= MAX_SESSIONS {
                return Err(503);
            }
            let mut ports = [None; 2];
            let mut streams = [None; 2];
            let mut faces = Vec::with_capacity(2);
            for (index, flow) in flows.iter().enumerate() {
                let leg = media::Leg::BOTH[index];
                faces.push(match flow {
                    Flow::Udp(_) | Flow::Stream(..) => {
                        let Some(port) = self.stock.pop_front() else {
                            ports.into_iter().flatten().for_each(|p| self.give_back(p));
                            return Err(503);
                        };
                        ports[index] = Some(port);
                        self.by_port.insert(port, (key, leg));
                        let mut face = PhoneFace::new(port);
                        face.signalled_from = flow.remote().map(|a| a.ip());
                        Face::Phone(face)
                    }
                    Flow::Peer(peer) => {
                        let id = media::session::new_stream_id(&mut self.rng);
                        streams[index] = Some(id);
                        self.by_stream.insert(id, (key, leg));
                        let remote = self.peers.get(peer).copied();
                        Face::Peer(PeerFace { remote, send_id: None, receive_id: id })
                    }
                    Flow::Local(id) => Face::Local(Box::new(self.talker(now, *id))),
                });
            }
            let [a, b]: [Face; 2] = faces.try_into().expect("two flows make two faces");
            let config = SessionConfig::new(a, b, Seed::child_of(&mut self.rng));
            let session = Session::new(config, now);
            let kind = description.media.get(key.2).map(|m| m.kind.clone()).unwrap_or_default();
            let entry = Entry { session, ports, streams, flows, kind, codec: String::new() };
            self.sessions.insert(key, entry);
            self.dirty.push(key);
        }
        Ok(self.sessions.get_mut(&key).expect("made above"))
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
    ) -> Result<Vec<u8>, u16> {
        let mut description = Description::parse(sdp).map_err(|_| 488u16)?;
        let fork = if from.side == Side::Callee { from.fork } else { toward.fork };
        let (flows, from_leg) = match from.side {
            Side::Caller => ([from.flow, toward.flow], media::Leg::A),
            Side::Callee => ([toward.flow, from.flow], media::Leg::B),
        };
        let (phone_ip, peer_address) = (self.phone_ip, self.peer_address);
        for index in 0..description.media.len() {
            if description.media[index].port == 0 {
                continue;
            }
            let key = (call, fork, index);
            let entry = self.session(now, key, flows, &description)?;
            learn(entry, now, from_leg, from.flow, &description, index);
            if role == Role::Answer {
                agree(entry, &description, index);
            }
            let to = from_leg.other() as usize;
            let media = &mut description.media[index];
            media.remove_attribute(STREAM_ATTRIBUTE);
            match (entry.ports[to], entry.streams[to]) {
                (Some(port), _) => description.set_destination(index, SocketAddr::new(phone_ip, port)),
                (_, Some(stream)) => {
                    media.set_attribute(STREAM_ATTRIBUTE, &stream.to_string());
                    description.set_destination(index, peer_address);
                }
                // A built-in user: its sound never leaves the process.
                _ => {}
            }
            self.dirty.push(key);
        }
        description.set_origin(match toward.flow {
            Flow::Peer(_) => peer_address.ip(),
            _ => phone_ip,
        });
        Ok(description.to_bytes())
    }

    fn answered(&mut self, _now: Time, call: CallId, callee: Leg) {
        for key in self.keys_of(call) {
            if key.1 != callee.fork {
                self.forget_fork(key);
            }
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
    }
}

/// Takes from a description what concerns the leg that sent it.
fn learn(entry: &mut Entry, now: Time, leg: media::Leg, flow: Flow, description: &Description, index: usize) {
    let media = &description.media[index];
    match flow {
        Flow::Udp(_) | Flow::Stream(..) => {
            let rtp = description.destination(index).filter(|a| !a.ip().is_unspecified());
            let rtcp = description.rtcp_destination(index).filter(|a| !a.ip().is_unspecified());
            entry.session.set_announced(now, leg, rtp, rtcp, media.has("rtcp-mux"));
        }
        Flow::Peer(_) => {
            if let Some(id) = media.attribute(STREAM_ATTRIBUTE).and_then(|v| v.parse().ok()) {
                entry.session.set_send_id(leg, id);
            }
        }
        Flow::Local(_) => {}
    }
    entry.session.set_direction(now, leg, direction(description.direction(index)));
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
