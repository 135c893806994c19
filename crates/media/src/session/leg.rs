//! One leg of a session: who is there, what came from it, what goes to it.

use std::net::SocketAddr;

use wire::rtp::rtcp::{Compound, Packet as RtcpPacket, ReportBlock};
use wire::rtp::{Header, Kind, rewrite};
use wire::seed::RngExt;
use wire::{Rng, Seed, Socket, Time};

use super::{Direction, Face, Forward, LegStats, PeerFace, PhoneFace};
use crate::endpoint::Endpoint;
use crate::latch::{Latch, RELATCH_AFTER, Verdict};
use crate::payload::PayloadType;
use crate::reception::Reception;
use crate::report::{Reports, Sent};
use crate::srtp::{Keyed, Receiver, Tail};

/// Former addresses of a peer from which its packets are still taken: a path changes while packets
/// are under way, and a call that needs more paths than this at once has other worries.
const FORMER_PATHS: usize = 4;

/// So many packets in a row with used numbers are a phone that counts anew: networks repeat fewer at once.
const USED_IN_A_ROW: u8 = 4;

/// How many packets behind the stream a source has begun to count anew, and is not late (RFC 3550, appendix A.1).
const BEGUN_ANEW: u16 = 100;

/// How many packets behind the stream the tail of a former source may be.
const TAIL: u16 = 50;

/// The latches of a phone: one for each kind of packet.
#[derive(Debug)]
struct Latches {
    rtp: Latch,
    rtcp: Latch,
}

/// A face with what has been learnt about it.
#[derive(Debug)]
enum Party {
    Phone { face: PhoneFace, latches: Latches },
    Peer { face: PeerFace, former: [Option<SocketAddr>; FORMER_PATHS] },
    Local(Box<Endpoint>),
}

/// What keeps others from hearing or changing what passes on a leg.
#[derive(Debug)]
enum Guard {
    /// Nothing.
    Open,
    /// Keys, which are not there yet: until then nothing passes.
    Awaiting,
    /// These keys.
    Keyed(Box<Keyed>),
}

/// Where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// Out of a socket.
    Away(Forward),
    /// To the local talker, which has it already.
    Local,
}

/// A source heard on a leg, and what is added to its numbers on the way out.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamSource {
    pub(super) ssrc: u32,
    pub(super) sequence_offset: u16,
    pub(super) timestamp_offset: u32,
}

impl StreamSource {
    /// Whether a packet is so far behind the stream that its source must have begun to count anew: a phone that
    /// starts again with the same SSRC, or that went on counting while nobody listened. Its number was used, or
    /// will be, so the packet is joined on like one of another source.
    fn is_far_back(&self, header: &Header, standing: Option<Standing>) -> bool {
        standing.is_some_and(|s| {
            let behind = s.sequence.wrapping_sub(header.sequence.wrapping_add(self.sequence_offset));
            (BEGUN_ANEW..0x8000).contains(&behind)
        })
    }
}

/// Where the outgoing stream stands, so that the next source can go on from there.
#[derive(Debug, Clone, Copy)]
struct Standing {
    sequence: u16,
    timestamp: u32,
    at: Time,
    clock: u32,
}

impl Standing {
    /// The stream's clock at another moment.
    fn timestamp_at(&self, now: Time) -> u32 {
        let ticks = u128::from(now.since(self.at).as_micros() as u64) * u128::from(self.clock);
        self.timestamp.wrapping_add((ticks / 1_000_000) as u32)
    }
}

/// Packets that were not carried.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) refused: u64,
    pub(super) malformed: u64,
    pub(super) withheld: u64,
}

/// One leg.
#[derive(Debug)]
pub(super) struct LegState {
    party: Party,
    guard: Guard,
    /// Of RTCP, where it has keys of its own.
    rtcp_guard: Option<Guard>,
    pub(super) direction: Direction,
    // What comes from it.
    pub(super) reception: Reception,
    pub(super) reports: Reports,
    pub(super) payload_type: Option<u8>,
    /// When media last came; before that and after a change of direction, when it became due.
    pub(super) heard_or_due: Time,
    pub(super) silent: bool,
    last_media: Option<Time>,
    received_bytes: u64,
    /// The present source and the one before, whose late packets still pass.
    sources: [Option<StreamSource>; 2],
    /// The number of its last packet and how many came in a row whose numbers were used, if nothing has passed since.
    used_again: Option<(u16, u8)>,
    pub(super) counts: Counts,
    // What goes to it.
    ssrc: u32,
    standing: Option<Standing>,
    sent: Sent,
}

impl LegState {
    pub(super) fn new(face: Face, now: Time, rng: &mut Rng) -> LegState {
        let protected = matches!(face, Face::Peer(PeerFace { protected: true, .. }));
        let party = match face {
            Face::Phone(face) => {
                let latches = Latches {
                    rtp: Latch::new(face.announced, face.signalled_from),
                    rtcp: Latch::new(rtcp_address(&face), face.signalled_from),
                };
                Party::Phone { face, latches }
            }
            Face::Peer(face) => Party::Peer { face, former: [None; FORMER_PATHS] },
            Face::Local(endpoint) => Party::Local(endpoint),
        };
        LegState {
            party,
            guard: if protected { Guard::Awaiting } else { Guard::Open },
            rtcp_guard: None,
            direction: Direction::default(),
            reception: Reception::default(),
            reports: Reports::new(now, Seed::child_of(rng)),
            payload_type: None,
            heard_or_due: now,
            silent: false,
            last_media: None,
            received_bytes: 0,
            sources: [None; 2],
            used_again: None,
            counts: Counts::default(),
            ssrc: rng.random(),
            standing: None,
            sent: Sent::default(),
        }
    }

    pub(super) fn local(&self) -> Option<&Endpoint> {
        if let Party::Local(endpoint) = &self.party { Some(endpoint) } else { None }
    }

    pub(super) fn local_mut(&mut self) -> Option<&mut Endpoint> {
        if let Party::Local(endpoint) = &mut self.party { Some(endpoint) } else { None }
    }

    // Commands.

    pub(super) fn set_direction(&mut self, now: Time, direction: Direction) {
        if direction.sends() && !self.direction.sends() {
            (self.heard_or_due, self.silent) = (now, false);
            if let Party::Phone { latches, .. } = &mut self.party {
                latches.rtp.excuse_silence(now);
            }
        }
        self.direction = direction;
        if let Party::Local(endpoint) = &mut self.party {
            endpoint.set_sending(now, direction.sends());
        }
    }

    pub(super) fn announce(
        &mut self,
        now: Time,
        rtp: Option<SocketAddr>,
        rtcp: Option<SocketAddr>,
        rtcp_mux: bool,
    ) {
        if let Party::Phone { face, latches } = &mut self.party {
            (face.announced, face.announced_rtcp, face.rtcp_mux) = (rtp, rtcp, rtcp_mux);
            latches.rtp.announce(now, rtp);
            latches.rtcp.announce(now, rtcp_address(face));
        }
    }

    pub(super) fn refuse_mux(&mut self, now: Time) {
        if let Party::Phone { face, latches } = &mut self.party
            && std::mem::take(&mut face.rtcp_mux)
        {
            latches.rtcp.announce(now, rtcp_address(face));
        }
    }

    pub(super) fn set_path(&mut self, remote: SocketAddr) {
        if let Party::Peer { face, former, .. } = &mut self.party
            && let Some(old) = face.remote.replace(remote).filter(|old| *old != remote)
            && !former.contains(&Some(old))
        {
            former.rotate_right(1);
            former[0] = Some(old);
        }
    }

    pub(super) fn set_send_id(&mut self, id: u32) {
        if let Party::Peer { face, .. } = &mut self.party {
            face.send_id = Some(id & !1);
        }
    }

    pub(super) fn set_keys(&mut self, new: Keyed) -> Option<Keyed> {
        match &mut self.guard {
            Guard::Open => None,
            guard => match std::mem::replace(guard, Guard::Keyed(Box::new(new))) {
                Guard::Keyed(old) => Some(*old),
                Guard::Open | Guard::Awaiting => None,
            },
        }
    }

    pub(super) fn set_receiver(&mut self, receiver: Receiver) {
        if let Guard::Keyed(keys) = &mut self.guard {
            keys.receiver = receiver;
        }
    }

    pub(super) fn set_rtcp_keys(&mut self, keys: Keyed) {
        if let Some(guard) = &mut self.rtcp_guard {
            *guard = Guard::Keyed(Box::new(keys));
        }
    }

    pub(super) fn await_keys(&mut self, of_rtcp_too: bool) {
        self.guard = Guard::Awaiting;
        self.rtcp_guard = of_rtcp_too.then_some(Guard::Awaiting);
    }

    pub(super) fn set_protected(&mut self, protected: bool) {
        self.rtcp_guard = None;
        match (&self.guard, protected) {
            (Guard::Open, true) => self.guard = Guard::Awaiting,
            (_, false) => self.guard = Guard::Open,
            _ => {}
        }
    }

    // Protection.

    #[inline]
    fn guard(&mut self, kind: Kind) -> &mut Guard {
        match (kind, &mut self.rtcp_guard) {
            (Kind::Rtcp, Some(guard)) => guard,
            _ => &mut self.guard,
        }
    }

    /// Opens a packet that came from a protected leg, where it lies; `None` if it is not genuine.
    #[inline]
    pub(super) fn open<'a>(&mut self, kind: Kind, packet: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let opened = match (self.guard(kind), kind) {
            (Guard::Open, _) => return Some(packet),
            (Guard::Awaiting, _) => None,
            (Guard::Keyed(keys), Kind::Rtp) => keys.receiver.open(packet),
            (Guard::Keyed(keys), Kind::Rtcp) => keys.receiver.open_rtcp(packet),
        };
        let Some(len) = opened else {
            self.counts.refused += 1;
            return None;
        };
        packet.get_mut(..len)
    }

    /// Protects a packet that goes to a protected leg, where it lies; `None` if it must not be sent.
    #[inline]
    fn protect(&mut self, kind: Kind, packet: &mut [u8]) -> Option<Tail> {
        let protected = match (self.guard(kind), kind) {
            (Guard::Open, _) => return Some(Tail::default()),
            (Guard::Awaiting, _) => None,
            (Guard::Keyed(keys), Kind::Rtp) => keys.sender.protect(packet),
            (Guard::Keyed(keys), Kind::Rtcp) => keys.sender.protect_rtcp(packet),
        };
        self.counts.withheld += u64::from(protected.is_none());
        protected
    }

    /// Whether nothing can be sent there yet.
    #[inline]
    pub(super) fn awaits_keys(&self) -> bool {
        matches!(self.guard, Guard::Awaiting)
    }

    /// Whether what comes from there has proved to be the peer's, from wherever.
    fn is_genuine(&self) -> bool {
        matches!(&self.party, Party::Peer { face, .. } if face.protected)
    }

    /// Where packets of a kind go, if it is a phone.
    pub(super) fn phone_at(&self, kind: Kind) -> Option<SocketAddr> {
        let to = match kind {
            Kind::Rtp => self.rtp_destination(),
            Kind::Rtcp => self.rtcp_destination(),
        };
        let to = to??.1;
        matches!(self.party, Party::Phone { .. }).then_some(to)
    }

    /// Where a phone said that it listens: for RTP, and for RTCP if that has a port of its own.
    pub(super) fn announced(&self) -> [Option<SocketAddr>; 2] {
        match &self.party {
            Party::Phone { face, .. } => [face.announced, face.announced_rtcp.filter(|_| !face.rtcp_mux)],
            _ => [None; 2],
        }
    }

    /// The phone has proved to send packets of a kind from there.
    pub(super) fn prove(&mut self, now: Time, kind: Kind, address: SocketAddr) {
        if let Party::Phone { latches, .. } = &mut self.party {
            match kind {
                Kind::Rtp => latches.rtp.prove(now, address),
                Kind::Rtcp => latches.rtcp.prove(now, address),
            }
        }
    }

    /// Whether it is a phone that may send from there: where it was heard, or a host that it named.
    pub(super) fn is_phone_at(&self, from: SocketAddr) -> bool {
        let Party::Phone { latches: Latches { rtp, rtcp }, .. } = &self.party else { return false };
        [rtp, rtcp].iter().any(|latch| latch.latched() == Some(from) || latch.is_phone_host(from.ip()))
    }

    // Inward.

    /// Whether an RTP packet belongs here; `Some(true)` if it latched a phone anew.
    #[inline]
    pub(super) fn admit_rtp(&mut self, now: Time, from: SocketAddr, ssrc: u32) -> Option<bool> {
        let genuine = self.is_genuine();
        let verdict = match &mut self.party {
            Party::Phone { latches, .. } => latches.rtp.admit(now, from, self.direction.sends()),
            Party::Peer { face, former, .. } => {
                // A stranger who guessed the id is heard only while the peer is not; where we send
                // is for signalling to say, so no packet can move it.
                let known = genuine || face.remote == Some(from) || former.contains(&Some(from));
                let quiet = self.last_media.is_none_or(|at| now.since(at) >= RELATCH_AFTER);
                let admitted = ssrc == face.receive_id && (known || quiet || face.remote.is_none());
                if admitted { Verdict::Admit } else { Verdict::Refuse }
            }
            Party::Local(_) => Verdict::Refuse,
        };
        match verdict {
            Verdict::Admit => Some(false),
            Verdict::AdmitAndLatch => Some(true),
            Verdict::Refuse => {
                self.counts.refused += 1;
                None
            }
        }
    }

    /// Counts an admitted packet; says whether it ended a silence.
    #[inline]
    pub(super) fn hear(&mut self, now: Time, header: &Header, len: usize, kind: PayloadType) -> bool {
        self.reception.count(now, header, kind.timed.then_some(kind.clock));
        self.received_bytes += len as u64;
        self.heard_or_due = now;
        self.last_media = Some(now);
        if kind.timed {
            self.payload_type = Some(header.payload_type);
        }
        std::mem::take(&mut self.silent)
    }

    /// Counts something else that an admitted party sent; says whether it ended a silence.
    pub(super) fn hear_something(&mut self, now: Time) -> bool {
        self.heard_or_due = now;
        std::mem::take(&mut self.silent)
    }

    pub(super) fn admit_rtcp(&mut self, now: Time, from: SocketAddr, sender: u32) -> bool {
        let genuine = self.is_genuine();
        match &mut self.party {
            Party::Phone { latches, .. } => {
                // RTCP comes from the host that the media comes from.
                let host = latches.rtp.destination().map(|a| a.ip());
                let ours = host == Some(from.ip()) || latches.rtcp.is_phone_host(from.ip());
                ours && latches.rtcp.admit(now, from, true) != Verdict::Refuse
            }
            Party::Peer { face, former, .. } => {
                let known = genuine || face.remote == Some(from) || former.contains(&Some(from));
                sender & !1 == face.receive_id && (known || face.remote.is_none())
            }
            Party::Local(_) => false,
        }
    }

    /// Reads admitted RTCP; says whether it was another peer's own report, which ends here.
    pub(super) fn hear_rtcp(&mut self, now: Time, sender: u32, compound: Compound<'_>) -> bool {
        let between_peers = match &self.party {
            Party::Peer { .. } => sender & 1 == 1,
            _ => false,
        };
        let measured = between_peers || matches!(self.party, Party::Phone { .. });
        if measured && let Some(subject) = self.ssrc_out() {
            self.reports.hear(now, compound, subject);
        }
        between_peers
    }

    /// The source heard at present.
    pub(super) fn source(&self) -> Option<StreamSource> {
        self.sources[0]
    }

    /// A source heard at present or before.
    pub(super) fn source_of(&self, ssrc: u32) -> Option<StreamSource> {
        self.sources.iter().flatten().copied().find(|s| s.ssrc == ssrc)
    }

    /// The source of a packet; a new one is made to go on where the outgoing stream stands.
    #[inline]
    fn source_for(&mut self, now: Time, header: &Header, standing: Option<Standing>) -> StreamSource {
        match self.sources[0] {
            Some(source) if source.ssrc == header.ssrc && !source.is_far_back(header, standing) => source,
            _ => self.other_source(now, header, standing),
        }
    }

    /// A packet had a number that was used: repeated on its way, late, or of a phone that begins to count anew after
    /// a few packets. After some of them in a row its source is joined on like another one.
    fn number_was_used(&mut self, header: &Header) {
        let before = self.used_again.filter(|(last, _)| last.wrapping_add(1) == header.sequence);
        let in_a_row = before.map_or(1, |(_, count)| count + 1);
        self.used_again = Some((header.sequence, in_a_row));
        if in_a_row >= USED_IN_A_ROW {
            (self.sources[0], self.used_again) = (None, None);
        }
    }

    fn other_source(&mut self, now: Time, header: &Header, standing: Option<Standing>) -> StreamSource {
        // The tail of the source before passes in its place; a source that comes back for good is
        // too far behind for that, and is joined on like a new one.
        if let (Some(former), Some(s)) = (self.source_of(header.ssrc), standing) {
            let behind = s.sequence.wrapping_sub(header.sequence).wrapping_sub(former.sequence_offset);
            if behind < TAIL {
                return former;
            }
        }
        let (sequence_offset, timestamp_offset) = match standing {
            // Below 2^15, so that who misses the first packets does not miss that the number wrapped (RFC
            // 3711, section 3.3.1).
            None => (header.sequence & 0x8000, 0),
            Some(s) => (
                s.sequence.wrapping_add(1).wrapping_sub(header.sequence),
                s.timestamp_at(now).wrapping_sub(header.timestamp),
            ),
        };
        let source = StreamSource { ssrc: header.ssrc, sequence_offset, timestamp_offset };
        let last = self.sources[0].filter(|s| s.ssrc != header.ssrc);
        self.sources = [Some(source), last];
        source
    }

    // Outward.

    /// The SSRC of what goes to this leg; `None` before the other peer has named one.
    #[inline]
    pub(super) fn ssrc_out(&self) -> Option<u32> {
        match &self.party {
            Party::Peer { face, .. } => face.send_id,
            _ => Some(self.ssrc),
        }
    }

    /// Where RTP goes: `None` if nowhere is known, `Some(None)` for a local talker.
    #[inline]
    fn rtp_destination(&self) -> Option<Option<(Socket, SocketAddr)>> {
        match &self.party {
            Party::Phone { face, latches } => {
                latches.rtp.destination().map(|to| Some((Socket::Media(face.port), to)))
            }
            Party::Peer { face, .. } => face.remote.map(|to| Some((Socket::Peer, to))),
            Party::Local(_) => Some(None),
        }
    }

    fn rtcp_destination(&self) -> Option<Option<(Socket, SocketAddr)>> {
        match &self.party {
            Party::Phone { face, latches } if !face.rtcp_mux => {
                // Where its media really comes from, plus one, unless its RTCP was heard itself.
                let guess = || {
                    let rtp = latches.rtp.latched().filter(|_| face.announced_rtcp.is_none())?;
                    Some(SocketAddr::new(rtp.ip(), rtp.port().checked_add(1)?))
                };
                let to = latches.rtcp.latched().or_else(guess).or(latches.rtcp.destination())?;
                Some(Some((Socket::Media(face.port.wrapping_add(1)), to)))
            }
            _ => self.rtp_destination(),
        }
    }

    /// Takes an RTP packet from the other leg, rewrites it and says where it goes.
    #[inline]
    pub(super) fn take_rtp(
        &mut self,
        now: Time,
        from: &mut LegState,
        header: &Header,
        packet: &mut [u8],
        clock: u32,
    ) -> Option<Route> {
        let ready = self.direction.listens() && !self.awaits_keys();
        let (Some(ssrc), Some(destination), true) = (self.ssrc_out(), self.rtp_destination(), ready) else {
            self.counts.withheld += 1;
            return None;
        };
        let source = from.source_for(now, header, self.standing);
        let sequence = header.sequence.wrapping_add(source.sequence_offset);
        let timestamp = header.timestamp.wrapping_add(source.timestamp_offset);
        rewrite(packet, ssrc, sequence, timestamp).ok()?;
        let ahead = |s: Standing| (sequence.wrapping_sub(s.sequence) as i16) > 0;
        if self.standing.is_none_or(ahead) {
            self.standing = Some(Standing { sequence, timestamp, at: now, clock });
        }
        let route = match destination {
            Some((socket, remote)) => {
                let Some(tail) = self.protect(Kind::Rtp, packet) else {
                    from.number_was_used(header);
                    return None;
                };
                from.used_again = None;
                Route::Away(Forward { socket, remote, len: packet.len(), tail })
            }
            None => {
                self.local_mut()?.handle_packet(now, packet);
                Route::Local
            }
        };
        self.sent.packets += 1;
        self.sent.bytes += packet.len().saturating_sub(wire::rtp::HEADER_LEN) as u64;
        Some(route)
    }

    /// Takes translated RTCP from the other leg and says where it goes.
    pub(super) fn take_rtcp(&mut self, now: Time, packet: &mut [u8]) -> Option<Route> {
        if packet.is_empty() {
            return None;
        }
        let destination = self.rtcp_destination()?;
        if matches!(self.party, Party::Phone { .. })
            && let Ok(compound) = Compound::parse(packet)
            && let Some(RtcpPacket::SenderReport(info, _)) = compound.packets().next()
        {
            // Its answer will tell the round trip to the phone.
            self.reports.remember(now, info.ntp);
        }
        Some(match destination {
            Some((socket, remote)) => {
                let tail = self.protect(Kind::Rtcp, packet)?;
                Route::Away(Forward { socket, remote, len: packet.len(), tail })
            }
            None => {
                self.local_mut()?.handle_packet(now, packet);
                Route::Local
            }
        })
    }

    /// Takes a datagram of the phone at the other leg as it is; what leaves, and where to. Whether the party listens is
    /// between the two phones.
    pub(super) fn take_whole(
        &mut self,
        now: Time,
        kind: Kind,
        datagram: &[u8],
    ) -> Option<(Socket, SocketAddr, Vec<u8>)> {
        let destination = match kind {
            Kind::Rtp => self.rtp_destination(),
            Kind::Rtcp => self.rtcp_destination(),
        };
        let ready = destination.flatten().zip(self.ssrc_out()).filter(|_| !self.awaits_keys());
        let Some(((socket, remote), ssrc)) = ready else {
            self.counts.withheld += 1;
            return None;
        };
        let mut bytes = match &self.party {
            Party::Peer { .. } => {
                let (sequence, timestamp) =
                    self.standing.map_or((0, 0), |s| (s.sequence.wrapping_add(1), s.timestamp));
                let clock = self.standing.map_or(0, |s| s.clock);
                self.standing = Some(Standing { sequence, timestamp, at: now, clock });
                let payload_type = super::whole::payload_type(kind);
                Header { marker: false, payload_type, sequence, timestamp, ssrc }.packet(datagram)
            }
            _ => datagram.to_vec(),
        };
        let tail = self.protect(Kind::Rtp, &mut bytes)?;
        bytes.extend_from_slice(&tail);
        self.sent.packets += 1;
        self.sent.bytes += datagram.len() as u64;
        Some((socket, remote, bytes))
    }

    // Reports between peers.

    pub(super) fn next_report(&self) -> Option<Time> {
        matches!(self.party, Party::Peer { .. }).then(|| self.reports.next())
    }

    /// The report to the other peer, if it is due: where it goes, and its bytes.
    pub(super) fn due_report(&mut self, now: Time, cname: &str) -> Option<(Socket, SocketAddr, Vec<u8>)> {
        let Party::Peer { face, .. } = &self.party else {
            return None;
        };
        if self.reports.next() > now {
            return None;
        }
        // A report without a stream still carries the times that measure the path.
        let silent = ReportBlock { ssrc: face.receive_id, ..ReportBlock::default() };
        let block = self.reception.report(face.receive_id).unwrap_or(silent);
        self.sent.timestamp = self.standing.map_or(0, |s| s.timestamp_at(now));
        // Composed even when it cannot be sent, for that schedules the next.
        let ssrc = face.send_id.unwrap_or(0) | 1;
        let mut bytes = self.reports.compose(now, ssrc, cname, self.sent, Some(block));
        let remote = face.send_id.and(face.remote)?;
        let tail = self.protect(Kind::Rtcp, &mut bytes)?;
        bytes.extend_from_slice(&tail);
        Some((Socket::Peer, remote, bytes))
    }

    pub(super) fn stats(&self) -> LegStats {
        let remote = match &self.party {
            Party::Phone { latches, .. } => latches.rtp.destination(),
            Party::Peer { face, .. } => face.remote,
            Party::Local(_) => None,
        };
        LegStats {
            sent: self.sent.packets,
            sent_bytes: self.sent.bytes,
            received: self.reception.received(),
            received_bytes: self.received_bytes,
            lost: self.reception.lost(),
            jitter_ms: self.reception.jitter_ms(),
            rtt: self.reports.rtt(),
            far: self.reports.far(),
            refused: self.counts.refused,
            malformed: self.counts.malformed,
            withheld: self.counts.withheld,
            remote,
            payload_type: self.payload_type,
            last_media: self.last_media,
            last_report: self.reports.last_heard(),
        }
    }
}

/// Where a phone's SDP says that it listens for RTCP.
fn rtcp_address(face: &PhoneFace) -> Option<SocketAddr> {
    face.announced_rtcp.or_else(|| {
        let rtp = face.announced?;
        Some(SocketAddr::new(rtp.ip(), rtp.port().checked_add(1)?))
    })
}
