//! Two legs of one m-line joined: what comes in on one goes out on the other.
//!
//! A leg faces a *phone* (a pair of UDP ports, or one with rtcp-mux), another *peer* (the one peer
//! port, shared by all streams), or a *local* talker. Streams between peers are found by their SSRC:
//! each peer chooses, per leg, the *stream id* under which it wants to receive, and tells it in the
//! signalling. Ids are even; the odd number next to one names the peer itself, in the RTCP by which
//! two peers measure the path between them. Phones' own RTCP passes end to end, every SSRC in it
//! translated.
//!
//! Towards each leg the SSRC stays the same for the whole call, and sequence numbers and timestamps
//! go on where they were when the source behind them changes (a transfer, a forked answer), so that
//! a phone hears one stream whatever happens behind it.
//!
//! The hot path is [`Session::handle_rtp`]: it rewrites the packet where it lies, allocates nothing,
//! and says where to send it. It never moves a timeout forward, so a driver need not ask again after
//! each packet.

mod face;
mod leg;
mod whole;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use wire::rtp::rtcp::{Compound, Translation, strip_goodbye};
use wire::rtp::{self, Kind, Packet};
use wire::seed::RngExt;
use wire::{Rng, Seed, Socket, Time, Transmit};

use crate::endpoint::Endpoint;
use crate::mos::Quality;
use crate::payload::PayloadTypes;
use crate::report::FarReport;
use crate::srtp::{Keyed, Receiver, Tail};
use leg::{LegState, Route};

pub use face::{Direction, Face, Leg, PeerFace, PhoneFace};
pub use whole::MAX_WHOLE;

/// Events waiting to be read; a session has few, and the oldest says least.
const EVENTS_MAX: usize = 32;
/// Packets of local talkers and reports waiting to be sent: over a second of both.
const TRANSMITS_MAX: usize = 256;
/// Packets moved from local talkers in one go. Two talkers at one peer could otherwise answer each
/// other for ever.
const PUMP_MAX: usize = 128;
/// How often a leg that fell silent is looked at again.
const SILENT_CHECK: Duration = Duration::from_secs(1);
/// Silence that is told, unless the configuration says otherwise: long enough for any stall of a
/// network that recovers, short enough that a dead peer is noticed within five seconds.
pub const SILENCE_AFTER: Duration = Duration::from_secs(3);

/// Where to send the packet that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// From which socket.
    pub socket: Socket,
    /// To whom.
    pub remote: SocketAddr,
    /// How much of the buffer: RTCP may have become shorter.
    pub len: usize,
    /// What goes behind it.
    pub tail: Tail,
}

impl Forward {
    /// Bytes of the whole datagram.
    pub fn size(&self) -> usize {
        self.len + self.tail.len()
    }

    /// The whole datagram, in the buffer that the packet was handed in with.
    ///
    /// # Panics
    /// If there is no room for the tail: the buffer must be longer than what was read into it by [`Tail::MAX`].
    pub fn finish<'a>(&self, buffer: &'a mut [u8]) -> &'a [u8] {
        buffer[self.len..self.size()].copy_from_slice(&self.tail);
        &buffer[..self.size()]
    }
}

/// What happened to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A phone's media comes from here, and goes back here from now on.
    Latched {
        /// On which leg.
        leg: Leg,
        /// From where.
        remote: SocketAddr,
    },
    /// No media has come from a leg that ought to send.
    Silent {
        /// Which leg.
        leg: Leg,
        /// When it was last heard, or should have begun.
        since: Time,
    },
    /// Media comes again from a leg that was silent.
    Resumed {
        /// Which leg.
        leg: Leg,
    },
}

/// Why a session wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// To see whether a leg has fallen silent.
    Silence,
    /// A report to the other peer is due.
    Report,
    /// A local talker has something to say.
    Talker,
}

/// Counts of one leg, all from our point of view.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LegStats {
    /// RTP packets sent to it.
    pub sent: u64,
    /// Payload bytes sent to it.
    pub sent_bytes: u64,
    /// RTP packets received from it.
    pub received: u64,
    /// RTP bytes received from it, headers included.
    pub received_bytes: u64,
    /// Packets that never came from it (RFC 3550 appendix A.3).
    pub lost: u64,
    /// Interarrival jitter of what came from it (A.8).
    pub jitter_ms: f64,
    /// Round trip to it.
    pub rtt: Option<Duration>,
    /// What it said last about what it receives from us.
    pub far: Option<FarReport>,
    /// Packets refused: from a stranger, or of another stream.
    pub refused: u64,
    /// Packets that were not RTP or RTCP.
    pub malformed: u64,
    /// Packets that could not be sent to it, because it does not listen or its address is unknown.
    pub withheld: u64,
    /// Where it is.
    pub remote: Option<SocketAddr>,
    /// The payload type of the media that came last.
    pub payload_type: Option<u8>,
    /// When media last came.
    pub last_media: Option<Time>,
    /// When it last sent a sender report.
    pub last_report: Option<Time>,
}

/// What a session needs to know.
#[derive(Debug)]
pub struct SessionConfig {
    /// What its two legs face.
    pub faces: [Face; 2],
    /// The negotiated payload types; they mean the same on both legs.
    pub payload_types: PayloadTypes,
    /// How long a leg may be silent before it is told.
    pub silence_after: Duration,
    /// Our name in reports to other peers.
    pub cname: String,
    /// Its chance: SSRCs, report times.
    pub seed: Seed,
}

impl SessionConfig {
    /// Two legs joined, everything else at its default.
    pub fn new(a: Face, b: Face, seed: Seed) -> SessionConfig {
        SessionConfig {
            faces: [a, b],
            payload_types: PayloadTypes::default(),
            silence_after: SILENCE_AFTER,
            cname: String::from("peer"),
            seed,
        }
    }
}

/// The stream id under which a packet on the peer port travels; `None` if it is not RTP or RTCP.
pub fn stream_of(bytes: &[u8]) -> Option<u32> {
    rtp::sender_ssrc(bytes).map(|ssrc| ssrc & !1)
}

/// A fresh stream id: even, never zero, and too rare to guess.
pub fn new_stream_id(rng: &mut Rng) -> u32 {
    rng.random_range(1..=u32::MAX / 2) << 1
}

/// Two legs joined.
#[derive(Debug)]
pub struct Session {
    legs: [LegState; 2],
    types: PayloadTypes,
    silence_after: Duration,
    cname: String,
    /// Whether what phones send is carried as it is (`whole.rs`).
    whole: bool,
    rng: Rng,
    next_check: Time,
    events: VecDeque<Event>,
    transmits: VecDeque<Transmit>,
}

impl Session {
    /// A session that begins now, both parties sending. While a phone still rings, tell both legs
    /// [`Direction::RecvOnly`]: early media passes, and nobody's silence is counted.
    pub fn new(config: SessionConfig, now: Time) -> Session {
        let mut rng = config.seed.rng();
        let legs = config.faces.map(|face| LegState::new(face, now, &mut rng));
        Session {
            legs,
            types: config.payload_types,
            // Zero would wake the driver without end.
            silence_after: config.silence_after.max(Duration::from_millis(100)),
            cname: config.cname,
            whole: false,
            rng,
            next_check: now + config.silence_after.max(Duration::from_millis(100)),
            events: VecDeque::new(),
            transmits: VecDeque::new(),
        }
    }

    fn leg(&self, leg: Leg) -> &LegState {
        &self.legs[leg as usize]
    }

    fn leg_mut(&mut self, leg: Leg) -> &mut LegState {
        &mut self.legs[leg as usize]
    }

    /// The leg a packet came in on, and the one it goes out on.
    fn across(&mut self, leg: Leg) -> (&mut LegState, &mut LegState) {
        let [a, b] = &mut self.legs;
        match leg {
            Leg::A => (a, b),
            Leg::B => (b, a),
        }
    }

    // Commands.

    /// Another payload type was negotiated.
    pub fn set_payload_types(&mut self, types: PayloadTypes) {
        self.types = types;
    }

    /// Who sends and listens has changed (hold, resume), as the party at this leg has it.
    pub fn set_direction(&mut self, now: Time, leg: Leg, direction: Direction) {
        let deadline = now + self.silence_after;
        self.leg_mut(leg).set_direction(now, direction);
        self.next_check = self.next_check.min(deadline);
    }

    /// A phone announced where it listens (an answer, a re-INVITE). The same address as before
    /// keeps what was latched.
    pub fn set_announced(
        &mut self,
        now: Time,
        leg: Leg,
        rtp: Option<SocketAddr>,
        rtcp: Option<SocketAddr>,
        rtcp_mux: bool,
    ) {
        self.leg_mut(leg).announce(now, rtp, rtcp, rtcp_mux);
    }

    /// RTCP of the phone at a leg does not share the port of RTP, as it offered: the other party wants it apart.
    pub fn refuse_mux(&mut self, now: Time, leg: Leg) {
        self.leg_mut(leg).refuse_mux(now);
    }

    /// The other peer is to be reached here from now on: its address, or that of a relay.
    pub fn set_path(&mut self, leg: Leg, remote: SocketAddr) {
        self.leg_mut(leg).set_path(remote);
    }

    /// The other peer said under which id it wants to receive.
    pub fn set_send_id(&mut self, leg: Leg, id: u32) {
        self.leg_mut(leg).set_send_id(id);
    }

    /// The party at a protected leg agreed on keys with us. Gives those before, which know what was numbered
    /// under them: the same keys must not begin anew.
    pub fn set_keys(&mut self, leg: Leg, keys: Keyed) -> Option<Keyed> {
        self.leg_mut(leg).set_keys(keys)
    }

    /// What comes from the party at a leg with keys is under another one from now on.
    pub fn set_receiver(&mut self, leg: Leg, receiver: Receiver) {
        self.leg_mut(leg).set_receiver(receiver);
    }

    /// Whether nothing passes at a leg without keys: from now on until they are there, or no more.
    pub fn set_protected(&mut self, leg: Leg, protected: bool) {
        self.leg_mut(leg).set_protected(protected);
    }

    /// Nothing passes at a leg from now on before there are keys, whatever protected it before; with `of_rtcp_too`
    /// RTCP waits for its own ([`Session::set_rtcp_keys`]).
    pub fn await_keys(&mut self, leg: Leg, of_rtcp_too: bool) {
        self.leg_mut(leg).await_keys(of_rtcp_too);
    }

    /// The party at a leg agreed with us on keys of RTCP alone.
    pub fn set_rtcp_keys(&mut self, leg: Leg, keys: Keyed) {
        self.leg_mut(leg).set_rtcp_keys(keys);
    }

    /// Where packets of a kind go to the phone at a leg.
    pub fn phone_at(&self, leg: Leg, kind: Kind) -> Option<SocketAddr> {
        self.leg(leg).phone_at(kind)
    }

    /// Where the phone at a leg said that it listens: for RTP, and for RTCP if that has a port of its own.
    pub fn announced(&self, leg: Leg) -> [Option<SocketAddr>; 2] {
        self.leg(leg).announced()
    }

    /// The phone at a leg has proved to send packets of a kind from there: what it hears goes there.
    pub fn prove(&mut self, now: Time, leg: Leg, kind: Kind, address: SocketAddr) {
        self.leg_mut(leg).prove(now, kind, address);
    }

    /// Whether a leg is a phone that may send from there: where it was heard, or a host that it named.
    pub fn is_phone_at(&self, leg: Leg, from: SocketAddr) -> bool {
        self.leg(leg).is_phone_at(from)
    }

    /// Puts another party behind a leg (a transfer). The party at the other leg hears its stream go
    /// on; the counts of this leg begin anew.
    pub fn replace(&mut self, now: Time, leg: Leg, face: Face) {
        self.legs[leg as usize] = LegState::new(face, now, &mut self.rng);
        self.next_check = self.next_check.min(now + self.silence_after);
    }

    /// The talker at a leg.
    pub fn local(&self, leg: Leg) -> Option<&Endpoint> {
        self.leg(leg).local()
    }

    /// The talker at a leg, to command it. Ask for the timeout again afterwards.
    pub fn local_mut(&mut self, leg: Leg) -> Option<&mut Endpoint> {
        self.leg_mut(leg).local_mut()
    }

    // Packets.

    /// Takes a packet of either kind that came in on a leg; see [`Session::handle_rtp`].
    pub fn handle_datagram(
        &mut self,
        now: Time,
        leg: Leg,
        from: SocketAddr,
        packet: &mut [u8],
    ) -> Option<Forward> {
        match rtp::classify(packet) {
            Some(Kind::Rtp) if self.whole => {
                self.unpack(now, leg, from, packet);
                None
            }
            Some(Kind::Rtp) => self.handle_rtp(now, leg, from, packet),
            Some(Kind::Rtcp) => self.handle_rtcp(now, leg, from, packet),
            None => {
                self.leg_mut(leg).counts.malformed += 1;
                None
            }
        }
    }

    /// Takes an RTP packet that came in on a leg. Rewrites it where it lies and says where to send
    /// it; `None` if nowhere, or if a local talker has taken it.
    pub fn handle_rtp(
        &mut self,
        now: Time,
        leg: Leg,
        from: SocketAddr,
        packet: &mut [u8],
    ) -> Option<Forward> {
        let packet = self.leg_mut(leg).open(Kind::Rtp, packet)?;
        let Ok(header) = Packet::parse(packet).map(|p| p.header) else {
            self.leg_mut(leg).counts.malformed += 1;
            return None;
        };
        let kind = self.types.get(header.payload_type);
        let (inward, outward) = self.across(leg);
        let latched = inward.admit_rtp(now, from, header.ssrc)?;
        let resumed = inward.hear(now, &header, packet.len(), kind);
        let route = outward.take_rtp(now, inward, &header, packet, kind.clock);
        if latched {
            self.tell(Event::Latched { leg, remote: from });
        }
        if resumed {
            self.tell(Event::Resumed { leg });
        }
        match route? {
            Route::Away(forward) => Some(forward),
            Route::Local => {
                self.pump(now);
                None
            }
        }
    }

    /// Takes an RTCP packet that came in on a leg; like [`Session::handle_rtp`]. Other peers' own
    /// reports end here.
    pub fn handle_rtcp(
        &mut self,
        now: Time,
        leg: Leg,
        from: SocketAddr,
        packet: &mut [u8],
    ) -> Option<Forward> {
        let (inward, outward) = self.across(leg);
        let packet = inward.open(Kind::Rtcp, packet)?;
        let Ok(compound) = Compound::parse(packet) else {
            inward.counts.malformed += 1;
            return None;
        };
        let sender = rtp::sender_ssrc(packet)?;
        if !inward.admit_rtcp(now, from, sender) {
            inward.counts.refused += 1;
            return None;
        }
        if inward.hear_rtcp(now, sender, compound) {
            return None;
        }
        let translation = translation(inward, outward, sender)?;
        translation.apply(packet).ok()?;
        let len = strip_goodbye(packet);
        match outward.take_rtcp(now, &mut packet[..len])? {
            Route::Away(forward) => Some(forward),
            Route::Local => {
                self.pump(now);
                None
            }
        }
    }

    /// Moves what local talkers have to say to the other leg.
    fn pump(&mut self, now: Time) {
        for _ in 0..PUMP_MAX {
            let mut moved = false;
            for leg in Leg::BOTH {
                let Some(mut packet) = self.local_mut(leg).and_then(Endpoint::poll_packet) else {
                    continue;
                };
                moved = true;
                if let Some(forward) = self.carry_local(now, leg, &mut packet) {
                    packet.truncate(forward.len);
                    packet.extend_from_slice(&forward.tail);
                    self.push(forward.socket, forward.remote, packet);
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn carry_local(&mut self, now: Time, leg: Leg, packet: &mut [u8]) -> Option<Forward> {
        let route = match rtp::classify(packet)? {
            Kind::Rtp => {
                let header = Packet::parse(packet).ok()?.header;
                let kind = self.types.get(header.payload_type);
                let (inward, outward) = self.across(leg);
                inward.hear(now, &header, packet.len(), kind);
                outward.take_rtp(now, inward, &header, packet, kind.clock)
            }
            Kind::Rtcp => {
                let (inward, outward) = self.across(leg);
                let translation = translation(inward, outward, rtp::sender_ssrc(packet)?)?;
                translation.apply(packet).ok()?;
                let len = strip_goodbye(packet);
                outward.take_rtcp(now, &mut packet[..len])
            }
        };
        match route? {
            Route::Away(forward) => Some(forward),
            Route::Local => None,
        }
    }

    // Time.

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        for leg in Leg::BOTH {
            if let Some(report) = self.legs[leg as usize].due_report(now, &self.cname) {
                self.push(report.0, report.1, report.2);
            }
            if let Some(local) = self.local_mut(leg)
                && local.poll_timeout().is_some_and(|(at, _)| at <= now)
            {
                local.handle_timeout(now);
            }
        }
        self.pump(now);
        if self.next_check <= now {
            self.check_silence(now);
        }
    }

    fn check_silence(&mut self, now: Time) {
        let mut next = now + self.silence_after;
        for leg in Leg::BOTH {
            let silence_after = self.silence_after;
            let state = self.leg_mut(leg);
            if state.local().is_some() || !state.direction.sends() {
                continue;
            }
            let since = state.heard_or_due;
            if now.since(since) < silence_after {
                next = next.min(since + silence_after);
                continue;
            }
            next = next.min(now + SILENT_CHECK);
            if !std::mem::replace(&mut state.silent, true) {
                self.tell(Event::Silent { leg, since });
            }
        }
        self.next_check = next;
    }

    /// When to call [`Session::handle_timeout`], and why. Asking again is needed only after a
    /// timeout or a command, not after a packet.
    pub fn poll_timeout(&self) -> Option<(Time, Reason)> {
        let legs = self.legs.iter().flat_map(|leg| {
            let report = leg.next_report().map(|at| (at, Reason::Report));
            let talker = leg.local().and_then(Endpoint::poll_timeout);
            report.into_iter().chain(talker.map(|(at, _)| (at, Reason::Talker)))
        });
        legs.chain([(self.next_check, Reason::Silence)]).min()
    }

    /// The next datagram of our own to send: a report, or a packet of a local talker.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn push(&mut self, socket: Socket, remote: SocketAddr, bytes: Vec<u8>) {
        if self.transmits.len() < TRANSMITS_MAX {
            self.transmits.push_back(Transmit { socket, remote, bytes });
        }
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    // Measurements.

    /// The counts of a leg.
    pub fn stats(&self, leg: Leg) -> LegStats {
        self.leg(leg).stats()
    }

    /// How many packets from a leg were refused, or were none: whoever handed one in sees whether it was.
    pub fn refused(&self, leg: Leg) -> u64 {
        let counts = &self.leg(leg).counts;
        counts.refused + counts.malformed
    }

    /// How what comes from a leg sounds at our side of it, estimated; `None` before anything came.
    pub fn quality(&self, leg: Leg) -> Option<Quality> {
        let state = self.leg(leg);
        let codec = self.types.get(state.payload_type?).codec;
        let rtt = state.reports.rtt().unwrap_or_default();
        Some(Quality::of_stream(codec, &state.reception, rtt))
    }
}

/// How RTCP from `sender` at the inward leg reads at the outward one; `None` before the outward leg
/// has an SSRC.
fn translation(inward: &LegState, outward: &LegState, sender: u32) -> Option<Translation> {
    // What the reporter hears from us under one SSRC came in at the other leg under another.
    let subject = match (inward.ssrc_out(), outward.source()) {
        (Some(ours), Some(theirs)) => (ours, theirs.ssrc),
        _ => (0, 0),
    };
    let sequence_offset = outward.source().map_or(0, |s| u32::from(s.sequence_offset));
    Some(Translation {
        sender: outward.ssrc_out()?,
        timestamp_offset: inward.source_of(sender).map_or(0, |s| s.timestamp_offset),
        subject,
        sequence_offset: sequence_offset.wrapping_neg(),
    })
}

#[cfg(test)]
mod tests;
