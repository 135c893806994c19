//! Streams: TCP towards addresses where UDP does not get through.
//!
//! A stream is a path to an address and nothing more: the same datagrams go over it, each behind its length
//! (`framer.rs`), so that links, proofs and P2PP above know nothing of it. It leaves from the peer port and arrives
//! there, and so both ends have the address that they have over UDP. The world holds the sockets. It is told which
//! stream to open or to close, and tells which did.
//!
//! ```text
//!   unheard   a first message went, by UDP; if another follows and still nobody was heard,
//!   opening   the world is asked for a stream; what leaves meanwhile goes by UDP and is kept,
//!   open      and goes over the stream once it stands, as does all that follows
//!   closed    it was in use: the next message opens it anew, whatever UDP does
//!   refused   nobody accepts one; not tried again for a while
//! ```
//!
//! Where the peer uses no UDP the first message asks for a stream.

mod framer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use wire::{Socket, Time, Transmit};

use crate::demux::Protocol;
use crate::room::first_to_go;
pub use framer::{BadLength, Framer, MAX_FRAME, frame};

/// Most streams at once; beyond it the one silent longest is closed.
const MAX_OPEN: usize = 256;

/// A host with more streams than this is a crowd: when room is needed, its streams go first.
const CROWD: usize = MAX_OPEN / 8;

/// Most streams being opened at once, and messages that wait for each.
const MAX_OPENING: usize = 16;
const MAX_WAITING: usize = 16;

/// Most addresses of every other state; beyond it the one that is forgotten soonest goes.
const MAX_REMEMBERED: usize = 256;

/// A peer that was not heard this long after the first message is tried by TCP too with the next. Two thirds of all
/// paths on earth answer sooner than in the first; where others are heard over UDP, who is silent is dead, slow or busy
/// far oftener than cut off from UDP.
const PATIENCE: Duration = Duration::from_millis(300);
const PATIENCE_WITH_UDP: Duration = Duration::from_millis(1_200);

/// UDP works here as long after something was heard over it.
const WORKS: Duration = Duration::from_secs(60);

/// How long a first message counts as unanswered: who is silent is asked again within that time.
const UNHEARD: Duration = Duration::from_secs(60);

/// How long a stream may take to open: two SYNs, and no longer than requests last.
const OPENING: Duration = Duration::from_secs(3);

/// By then a new stream must have brought a whole datagram: whoever opens one has something to say.
const FIRST: Duration = Duration::from_secs(5);

/// By then a datagram must be whole whose beginning came: it leaves its sender at once, and may be lost often.
const WHOLE: Duration = Duration::from_secs(10);

/// A stream over which nothing goes for so long is closed: longer than live entries of tables are quiet but where
/// nobody leaves; there a new stream costs next to nothing.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// How long it is known of an address that it was reached over a stream: as long as an address is proven.
const CLOSED: Duration = Duration::from_secs(7_200);

/// Pause before an address that took no stream is asked again.
const REFUSED: Duration = Duration::from_secs(30);

/// Addresses tried for the first time: one in so long, in the mean, and those of `BURST` at once. A dead one costs two
/// SYNs; where UDP works they are a twentieth of the budget of upkeep, and where none is used nothing else is spent on it.
const ATTEMPT: Duration = Duration::from_secs(1);
const ATTEMPT_WITH_UDP: Duration = Duration::from_secs(10);
const ATTEMPT_WITHOUT_UDP: Duration = Duration::from_millis(100);
const BURST: Duration = Duration::from_secs(15);

/// What a datagram over a stream is longer than over UDP, about: a TCP header with timestamps (32) for one of UDP (8),
/// and its length.
pub(crate) const SURPLUS: usize = 26;

/// What it takes to open and to close a stream, about, less the headers that are counted for every datagram: a SYN, and
/// two segments without data.
pub(crate) const HANDSHAKE: usize = 136;

/// What the world shall do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Open a stream to this address, from the peer port.
    Open(SocketAddr),
    /// Close the stream to this address, or stop opening it.
    Close(SocketAddr),
}

/// The way of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// So it goes.
    Found(Transmit),
    /// It waits for a stream.
    Later,
    /// There is none.
    None,
}

/// The streams of a peer, and which addresses need one.
#[derive(Debug)]
pub(crate) struct Streams {
    /// Whether the peer sends and receives over UDP.
    udp: bool,
    paths: BTreeMap<SocketAddr, Path>,
    /// Each path once, at its `due` or earlier: of streams, which wake this peer, and of the others, which are forgotten
    /// when something wakes it.
    wakes: BTreeSet<(Time, SocketAddr)>,
    lapses: BTreeSet<(Time, SocketAddr)>,
    wishes: VecDeque<Wish>,
    /// When something was last heard over UDP.
    udp_heard: Option<Time>,
    /// When all streams that were asked for would have been, one by one.
    paced: Time,
    /// Those asked for that are not booked yet.
    asked: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Path {
    state: State,
    /// When it stands in `wakes` or `lapses`.
    wake: Time,
}

#[derive(Debug)]
enum State {
    Unheard {
        since: Time,
        refused: bool,
    },
    /// What waits, since when; and until when the address is known to be reached so, if it is.
    Opening {
        waiting: Vec<Vec<u8>>,
        since: Time,
        known: Option<Time>,
    },
    Open(Box<Open>),
    Closed {
        until: Time,
    },
    Refused {
        until: Time,
        known: Option<Time>,
    },
}

#[derive(Debug)]
struct Open {
    framer: Framer,
    since: Time,
    used: Time,
    /// When the datagram began that is not whole yet.
    begun: Time,
    /// Whether it brought a datagram that was of use.
    is_confirmed: bool,
}

impl State {
    /// Whether there is a stream, or shall be one.
    fn is_stream(&self) -> bool {
        matches!(self, State::Open(_) | State::Opening { .. })
    }

    /// When something must have happened.
    fn due(&self) -> Time {
        match self {
            State::Unheard { since, .. } => *since + UNHEARD,
            State::Opening { since, .. } => *since + OPENING,
            State::Closed { until } | State::Refused { until, .. } => *until,
            State::Open(open) => open.due(),
        }
    }
}

impl Open {
    fn new(now: Time) -> Self {
        Open { framer: Framer::default(), since: now, used: now, begun: now, is_confirmed: false }
    }

    fn due(&self) -> Time {
        let whole = if self.framer.is_within() { self.begun + WHOLE } else { self.used + IDLE };
        if self.is_confirmed { whole } else { whole.min(self.since + FIRST) }
    }
}

impl Streams {
    /// No streams yet, beside UDP or in its place.
    pub(crate) fn new(udp: bool) -> Self {
        Streams {
            udp,
            paths: BTreeMap::new(),
            wakes: BTreeSet::new(),
            lapses: BTreeSet::new(),
            wishes: VecDeque::new(),
            udp_heard: None,
            paced: Time::ZERO,
            asked: Vec::new(),
        }
    }

    pub(crate) fn poll_wish(&mut self) -> Option<Wish> {
        wire::queue::pop_front(&mut self.wishes)
    }

    /// Where to streams were asked for since this was last asked.
    pub(crate) fn take_asked(&mut self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.asked)
    }

    pub(crate) fn is_open(&self, remote: &SocketAddr) -> bool {
        self.paths.get(remote).is_some_and(|path| matches!(path.state, State::Open(_)))
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.count_of(|state| matches!(state, State::Open(_)))
    }

    fn count_of(&self, select: impl Fn(&State) -> bool) -> usize {
        self.paths.values().filter(|path| select(&path.state)).count()
    }

    // ---- out -----------------------------------------------------------------------------------

    /// Chooses the way of a datagram. An address that is proven was heard over UDP, unless it had a stream.
    pub(crate) fn send(&mut self, now: Time, transmit: Transmit, is_proven: bool) -> Way {
        let remote = transmit.remote;
        if self.paths.get(&remote).is_some_and(|path| !path.state.is_stream() && path.wake <= now) {
            self.lapse(now, remote);
        }
        let patience = if self.udp_works(now) { PATIENCE_WITH_UDP } else { PATIENCE };
        match self.paths.get_mut(&remote).map(|path| &mut path.state) {
            // Longer than anything of ours: passed on for somebody else.
            Some(State::Open(_)) if transmit.bytes.len() > MAX_FRAME => return Way::None,
            Some(State::Open(open)) => {
                open.used = now;
                let bytes = frame(&transmit.bytes);
                return Way::Found(Transmit { socket: Socket::PeerStream, remote, bytes });
            }
            Some(State::Opening { waiting, .. }) => keep(waiting, &transmit.bytes),
            Some(State::Closed { until }) => {
                let known = Some(*until);
                self.open(now, remote, &transmit.bytes, known);
            }
            Some(State::Unheard { since, refused }) if *refused || now.since(*since) >= patience => {
                self.try_to_open(now, remote, &transmit.bytes);
            }
            Some(State::Unheard { .. } | State::Refused { .. }) => {}
            None if !self.udp => self.try_to_open(now, remote, &transmit.bytes),
            None if !is_proven => self.set(remote, State::Unheard { since: now, refused: false }),
            None => {}
        }
        match self.paths.get(&remote).map(|path| &path.state) {
            _ if self.udp => Way::Found(transmit),
            Some(State::Opening { .. }) => Way::Later,
            _ => Way::None,
        }
    }

    /// Asks for a stream to an address that may have none, unless too many such were tried.
    fn try_to_open(&mut self, now: Time, remote: SocketAddr, bytes: &[u8]) {
        if self.paced > now + BURST {
            return;
        }
        let pause = match self.udp_works(now) {
            _ if !self.udp => ATTEMPT_WITHOUT_UDP,
            true => ATTEMPT_WITH_UDP,
            false => ATTEMPT,
        };
        self.paced = self.paced.max(now) + pause;
        self.open(now, remote, bytes, None);
    }

    /// Asks the world for a stream.
    fn open(&mut self, now: Time, remote: SocketAddr, bytes: &[u8], known: Option<Time>) {
        if self.count_of(|state| matches!(state, State::Opening { .. })) >= MAX_OPENING {
            return;
        }
        self.asked.push(remote);
        self.wishes.push_back(Wish::Open(remote));
        self.set(remote, State::Opening { waiting: vec![bytes.to_vec()], since: now, known });
    }

    // ---- what the world tells ------------------------------------------------------------------

    fn udp_works(&self, now: Time) -> bool {
        self.udp_heard.is_some_and(|at| now.since(at) < WORKS)
    }

    /// Something came from an address by UDP: it needs no stream.
    pub(crate) fn heard(&mut self, now: Time, remote: SocketAddr) {
        self.udp_heard = Some(now);
        match self.paths.get(&remote).map(|path| &path.state) {
            Some(State::Unheard { .. }) => self.forget(remote),
            Some(State::Opening { .. }) => {
                self.wishes.push_back(Wish::Close(remote));
                self.forget(remote);
            }
            _ => {}
        }
    }

    /// Nobody listens at an address by UDP, says the network: the next message asks for a stream. Whether one is there or
    /// on its way, so that nothing is lost.
    pub(crate) fn handle_unreachable(&mut self, remote: SocketAddr) -> bool {
        let Some(path) = self.paths.get_mut(&remote) else { return false };
        if let State::Unheard { refused, .. } = &mut path.state {
            *refused = true;
        }
        path.state.is_stream()
    }

    /// A stream stands. Returns what has waited for it; nothing if the other side opened it.
    pub(crate) fn handle_opened(&mut self, now: Time, remote: SocketAddr) -> Option<Vec<Vec<u8>>> {
        if !self.is_open(&remote) {
            self.make_room(now, &remote);
        }
        let before = self.paths.get_mut(&remote).map(|path| &mut path.state);
        let waited = match before {
            Some(State::Opening { waiting, .. }) => Some(std::mem::take(waiting)),
            _ => None,
        };
        self.set(remote, State::Open(Box::new(Open::new(now))));
        waited
    }

    /// A stream is gone, or could not be opened.
    pub(crate) fn handle_closed(&mut self, now: Time, remote: SocketAddr) {
        match self.paths.get(&remote).map(|path| &path.state) {
            Some(State::Opening { known, .. }) => {
                let known = *known;
                self.set(remote, State::Refused { until: now + REFUSED, known });
            }
            Some(State::Open(_)) => self.close(now, remote),
            _ => {}
        }
    }

    /// The next datagram of what came out of a stream. What it takes of the piece is gone from there.
    ///
    /// # Errors
    /// Why the stream is closed: it says nothing that a peer says.
    pub(crate) fn handle_piece(
        &mut self,
        now: Time,
        remote: SocketAddr,
        piece: &mut &[u8],
    ) -> Result<Option<Vec<u8>>, &'static str> {
        let Some(State::Open(open)) = self.paths.get_mut(&remote).map(|path| &mut path.state) else {
            *piece = &[];
            return Ok(None);
        };
        if !open.framer.is_within() {
            open.begun = now;
        }
        let datagram = match open.framer.next(piece) {
            Ok(Some(datagram)) => datagram,
            Ok(None) => {
                self.reschedule(remote);
                return Ok(None);
            }
            Err(BadLength) => {
                *piece = &[];
                return Err(self.hang_up(remote));
            }
        };
        open.used = now;
        if matches!(Protocol::of(&datagram), Protocol::Dtls | Protocol::TurnChannel | Protocol::Unknown) {
            *piece = &[];
            return Err(self.hang_up(remote));
        }
        Ok(Some(datagram))
    }

    /// Something went over the stream of an address.
    pub(crate) fn note_use(&mut self, now: Time, remote: &SocketAddr) {
        if let Some(State::Open(open)) = self.paths.get_mut(remote).map(|path| &mut path.state) {
            open.used = now;
        }
    }

    /// What came last over the stream of an address was of use.
    pub(crate) fn confirm(&mut self, remote: SocketAddr) {
        if let Some(State::Open(open)) = self.paths.get_mut(&remote).map(|path| &mut path.state) {
            open.is_confirmed = true;
        }
    }

    /// Closes the stream of somebody who is no peer, and is not to get another.
    pub(crate) fn hang_up(&mut self, remote: SocketAddr) -> &'static str {
        self.wishes.push_back(Wish::Close(remote));
        self.forget(remote);
        "stream garbage"
    }

    /// Closes the stream of a peer that has said that it ends.
    pub(crate) fn end(&mut self, now: Time, remote: SocketAddr) {
        self.wishes.push_back(Wish::Close(remote));
        self.close(now, remote);
    }

    /// Notes that a stream is no more; one that was of use is opened again when needed.
    fn close(&mut self, now: Time, remote: SocketAddr) {
        match self.paths.get(&remote).map(|path| &path.state) {
            Some(State::Open(open)) if open.is_confirmed => {
                self.set(remote, State::Closed { until: now + CLOSED });
            }
            _ => self.forget(remote),
        }
    }

    // ---- time ----------------------------------------------------------------------------------

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.wakes.first().map(|(at, _)| *at)
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        while let Some((_, remote)) = self.lapses.first().copied().filter(|(at, _)| *at <= now) {
            self.lapse(now, remote);
        }
        while let Some((_, remote)) = self.wakes.first().copied().filter(|(at, _)| *at <= now) {
            let path = self.paths.get(&remote).expect("a wake is some path's");
            if path.state.due() > now {
                self.reschedule(remote);
                continue;
            }
            self.wishes.push_back(Wish::Close(remote));
            self.handle_closed(now, remote);
        }
    }

    // ---- the book ------------------------------------------------------------------------------

    fn set(&mut self, remote: SocketAddr, state: State) {
        self.forget(remote);
        if !state.is_stream() && self.lapses.len() >= MAX_REMEMBERED {
            let soonest = self.lapses.first().map(|(_, at)| *at);
            soonest.into_iter().for_each(|at| self.forget(at));
        }
        self.paths.insert(remote, Path { state, wake: Time::ZERO });
        self.reschedule(remote);
    }

    /// Notes when a path is due, which may be earlier than it was.
    fn reschedule(&mut self, remote: SocketAddr) {
        let Some(path) = self.paths.get_mut(&remote) else { return };
        let clock = if path.state.is_stream() { &mut self.wakes } else { &mut self.lapses };
        clock.remove(&(path.wake, remote));
        path.wake = path.state.due();
        clock.insert((path.wake, remote));
    }

    /// The time of a path without a stream is over. Who was reached over one once is tried again after a pause.
    fn lapse(&mut self, now: Time, remote: SocketAddr) {
        match self.paths.get(&remote).map(|path| &path.state) {
            Some(&State::Refused { known: Some(until), .. }) if until > now => {
                self.set(remote, State::Closed { until });
            }
            _ => self.forget(remote),
        }
    }

    fn forget(&mut self, remote: SocketAddr) {
        if let Some(path) = self.paths.remove(&remote) {
            let clock = if path.state.is_stream() { &mut self.wakes } else { &mut self.lapses };
            clock.remove(&(path.wake, remote));
        }
    }

    /// Where there is no room for another stream, closes the one that was silent longest, of the host with most
    /// streams if that is a crowd. One that brought nothing yet goes first.
    fn make_room(&mut self, now: Time, remote: &SocketAddr) {
        let open = |(at, path): (&SocketAddr, &Path)| match &path.state {
            State::Open(open) => Some((*at, (open.is_confirmed, open.used))),
            _ => None,
        };
        let all: Vec<(SocketAddr, (bool, Time))> = self.paths.iter().filter_map(open).collect();
        if all.len() < MAX_OPEN {
            return;
        }
        if let Some(oldest) = first_to_go(all, CROWD).filter(|at| at != remote) {
            self.wishes.push_back(Wish::Close(oldest));
            self.close(now, oldest);
        }
    }
}

/// Keeps what waits for a stream; what waits already was only repeated.
fn keep(waiting: &mut Vec<Vec<u8>>, bytes: &[u8]) {
    if waiting.len() < MAX_WAITING && waiting.iter().all(|waits| waits != bytes) {
        waiting.push(bytes.to_vec());
    }
}

#[cfg(test)]
mod tests;
