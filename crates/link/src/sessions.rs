//! Links over UDP that a library makes: DTLS 1.3 ([`crate::library`]).
//!
//! The table around the sessions: which address has one, what waits for it, whom it is for, and what a stranger can cost.
//!
//! ```text
//!   asks   --- hello --->      asked     padded by the library: longer than all that answers it
//!          <-- flight ---      asked     keeps its half for a few seconds, and sends no more than it got
//!   asks   --- flight --->     asked     and at once what has waited, sealed
//! ```
//!
//! Beside the records of DTLS stand three frames, in the range of links of [`crate::Protocol`]:
//!
//! | first byte | then | |
//! |---|---|---|
//! | 120 cookie | cookie (16) | "say it again with this": too many ask |
//! | 121 lost | end of the record that came (8) | "that link is gone here" |
//! | 122 again | cookie (16), a hello | what was asked for |

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use wire::{PublicKey, Time};

use crate::Proofs;
use crate::library::{Carrier, Gifts, Library, Role, Session};
use crate::links::Opened;
use crate::outbox::{Cargo, Outbox};
use crate::room::first_to_go;
use crate::waiting::{BEGINNING, Message, Waiting, beginning};

/// Most links at once, and of one host before it is a crowd: as with links of our own.
const MAX_LINKS: usize = 1_024;
const CROWD: usize = MAX_LINKS / 8;

/// Most halves of who was answered and has not shown yet that it hears us, and how long each is kept.
const MAX_HALVES: usize = 128;
const HALF: Duration = Duration::from_secs(5);

/// Hellos answered in a second, without a cookie and in all: each costs a millisecond.
const ANSWERS_PER_S: [u32; 2] = [50, 150];

/// How often a hello is said again with a cookie.
const MAX_AGAIN: u8 = 3;

/// A link that has served for so long, or so many messages, is made anew; half of the messages after which DTLS would
/// change its keys.
const LIFE: Duration = Duration::from_secs(24 * 3_600);
const LIFE_MESSAGES: u32 = 1 << 22;

/// A link is made anew at most so often on somebody's word: each costs a handshake.
const RENEW: Duration = Duration::from_secs(1);

/// Records sent lately that are known again, should the network say that nobody listens where they went.
const RECENT: usize = 4;

/// Messages opened that were not fetched yet: all that one datagram can set free.
const MAX_HEARD: usize = 64;

/// What a record of DTLS 1.3 is longer than its message: head (5), type (1) and tag (16).
pub(crate) const OVERHEAD: usize = 22;

const COOKIE: u8 = 120;
const LOST: u8 = 121;
const AGAIN: u8 = 122;

/// Bytes of a record by which it is known again: its end, and its head with its number.
const TAIL: usize = 8;
const HEAD: usize = 5;

/// The random bytes of a hello, behind the heads of record and message, and the version.
const RANDOM: std::ops::Range<usize> = 27..59;
type Random = [u8; 32];

/// What a datagram of DTLS is to the table, by what stands in the clear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Asks for a session.
    Hello(Random),
    /// A message, or what the two ends of a session tell each other.
    Sealed,
    /// Part of a handshake.
    Handshake,
}

impl Kind {
    fn of(datagram: &[u8]) -> Kind {
        match datagram {
            [22, ..] if datagram.get(13) == Some(&1) => match datagram.get(RANDOM) {
                Some(random) => Kind::Hello(random.try_into().expect("32 bytes")),
                None => Kind::Handshake,
            },
            // The unified head of RFC 9147; handshakes are of epoch 2.
            [head @ 32..=63, ..] if head & 3 != 2 => Kind::Sealed,
            _ => Kind::Handshake,
        }
    }
}

/// All links of a peer that a library makes.
#[derive(Debug)]
pub(crate) struct Sessions {
    library: Option<Arc<dyn Library>>,
    links: BTreeMap<SocketAddr, Box<Link>>,
    halves: VecDeque<Half>,
    /// When a link wants to be woken.
    wakes: BTreeSet<(Time, SocketAddr)>,
    /// What was opened beside the message that was returned.
    heard: VecDeque<(PublicKey, Vec<u8>)>,
    /// The second that lasts, and how many hellos came in it and how many were answered.
    answers: (Time, u32, u32),
}

/// A link to an address, made or in the making.
#[derive(Debug)]
struct Link {
    making: Option<Making>,
    standing: Option<Standing>,
    waiting: Waiting,
    used: Time,
    renewed: Option<Time>,
    /// When it stands in `wakes`.
    wake: Option<Time>,
}

/// Asked, and not answered yet.
#[derive(Debug)]
struct Making {
    session: Box<dyn Session>,
    hello: Vec<u8>,
    random: Random,
    again: u8,
}

/// Answered, and not known yet.
#[derive(Debug)]
struct Half {
    remote: SocketAddr,
    random: Random,
    session: Box<dyn Session>,
    since: Time,
    /// Bytes that came from there and went there: an address that is not proven gets no more than it sent.
    received: usize,
    sent: usize,
}

#[derive(Debug)]
struct Standing {
    session: Box<dyn Session>,
    peer: PublicKey,
    since: Time,
    sent: u32,
    /// The end of the record sent last.
    tail: [u8; TAIL],
    /// The heads of those sent last, and the beginnings of their messages.
    recent: [([u8; HEAD], [u8; BEGINNING]); RECENT],
}

impl Standing {
    fn new(now: Time, session: Box<dyn Session>, peer: PublicKey) -> Self {
        Standing { session, peer, since: now, sent: 0, tail: [0; TAIL], recent: Default::default() }
    }

    /// The record that holds a message; none if the session is over.
    fn seal(&mut self, now: Time, message: &[u8]) -> Option<Vec<u8>> {
        self.session.seal(now, message);
        let record = Gifts::of(&mut *self.session).bytes.into_iter().next()?;
        self.tail = *record.last_chunk()?;
        self.recent[self.sent as usize % RECENT] = (*record.first_chunk()?, beginning(message));
        self.sent += 1;
        Some(record)
    }

    fn is_worn(&self, now: Time) -> bool {
        now.since(self.since) > LIFE || self.sent >= LIFE_MESSAGES
    }
}

impl Sessions {
    /// Links by this library; without one nothing is sent and nothing heard.
    pub(crate) fn new(library: Option<Arc<dyn Library>>) -> Self {
        Sessions {
            library,
            links: BTreeMap::new(),
            halves: VecDeque::new(),
            wakes: BTreeSet::new(),
            heard: VecDeque::new(),
            answers: (Time::ZERO, 0, 0),
        }
    }

    // ---- out -----------------------------------------------------------------------------------

    /// Sends a message over the link to an address, once there is one.
    pub(crate) fn send(&mut self, now: Time, remote: SocketAddr, message: Message, out: &mut Outbox) {
        self.make_room(&remote);
        let link = self.links.entry(remote).or_insert_with(|| Box::new(Link::new(now)));
        link.used = now;
        let is_anothers = link.standing.as_ref().is_some_and(|s| !message.is_for(&s.peer));
        if is_anothers && !link.may_renew(now) {
            return out.count_drop("link of another");
        }
        let standing = link.standing.as_mut().filter(|_| !is_anothers);
        let sealed = standing.and_then(|s| Some((s.seal(now, &message.bytes)?, s.is_worn(now))));
        let is_worn = match sealed {
            Some((record, is_worn)) => {
                out.push_frame(remote, record, Cargo::Message(message.label));
                is_worn
            }
            None => {
                link.waiting.push(message, out);
                true
            }
        };
        if is_worn && link.making.is_none() {
            self.ask(now, remote, out);
        }
        self.reschedule(remote);
    }

    /// Asks an address for a link.
    fn ask(&mut self, now: Time, remote: SocketAddr, out: &mut Outbox) {
        let Some(library) = &self.library else { return out.count_drop("no library") };
        let mut session = library.begin(now, Carrier::Datagrams, Role::Asks, remote);
        let gifts = Gifts::of(&mut *session);
        let hello = gifts.bytes.first().cloned().unwrap_or_default();
        let Kind::Hello(random) = Kind::of(&hello) else { return out.count_drop("no hello") };
        gifts.bytes.into_iter().for_each(|bytes| out.push_frame(remote, bytes, Cargo::Asking));
        if let Some(link) = self.links.get_mut(&remote) {
            link.making = Some(Making { session, hello, random, again: 0 });
        }
    }

    fn make_room(&mut self, remote: &SocketAddr) {
        if self.links.len() < MAX_LINKS || self.links.contains_key(remote) {
            return;
        }
        let all = self.links.iter().map(|(at, link)| (*at, link.used)).collect();
        first_to_go(all, CROWD).into_iter().for_each(|oldest| self.forget(oldest));
    }

    fn forget(&mut self, remote: SocketAddr) {
        if let Some(wake) = self.links.remove(&remote).and_then(|link| link.wake) {
            self.wakes.remove(&(wake, remote));
        }
    }

    /// What waits for a link to an address goes another way.
    pub(crate) fn give_up(&mut self, remote: SocketAddr) -> Vec<Message> {
        let waiting = self.links.get_mut(&remote).map(|link| link.waiting.take());
        self.forget(remote);
        waiting.unwrap_or_default()
    }

    // ---- in ------------------------------------------------------------------------------------

    /// Takes a datagram that arrived: records of DTLS, or a frame beside them.
    pub(crate) fn handle(
        &mut self,
        now: Time,
        remote: SocketAddr,
        datagram: &[u8],
        proofs: &mut Proofs,
        out: &mut Outbox,
    ) -> Opened {
        let opened = match datagram {
            [COOKIE, cookie @ ..] => self.handle_cookie(remote, cookie, out),
            [LOST, tail @ ..] => self.handle_lost(now, remote, tail, out),
            [AGAIN, rest @ ..] => match rest.split_first_chunk::<16>() {
                Some((cookie, hello)) if proofs.accept(now, remote, cookie) => {
                    self.handle_records(now, remote, hello, proofs, out)
                }
                _ => Opened::Dropped("link cookie"),
            },
            _ => self.handle_records(now, remote, datagram, proofs, out),
        };
        self.reschedule(remote);
        opened
    }

    fn handle_records(
        &mut self,
        now: Time,
        remote: SocketAddr,
        datagram: &[u8],
        proofs: &mut Proofs,
        out: &mut Outbox,
    ) -> Opened {
        let kind = Kind::of(datagram);
        if let Kind::Hello(random) = kind
            && let Err(answer) = self.meet(now, remote, random, datagram.len(), proofs, out)
        {
            return answer;
        }
        let mut is_known = false;
        for half in self.halves.iter_mut().filter(|half| half.remote == remote) {
            if !matches!(kind, Kind::Hello(random) if random != half.random) {
                is_known = true;
                half.received += datagram.len();
                half.session.handle(now, datagram);
            }
        }
        if let Some(link) = self.links.get_mut(&remote).filter(|_| !matches!(kind, Kind::Hello(_))) {
            is_known |= link.making.is_some() || link.standing.is_some();
            link.used = now;
            link.making.iter_mut().for_each(|making| making.session.handle(now, datagram));
            link.standing.iter_mut().for_each(|standing| standing.session.handle(now, datagram));
        }
        if !is_known {
            if let Some(tail) = datagram.last_chunk::<TAIL>().filter(|_| kind == Kind::Sealed)
                && datagram.len() >= OVERHEAD
            {
                out.push_frame(remote, [&[LOST][..], tail].concat(), Cargo::Answering);
            }
            return Opened::Dropped("link unknown");
        }
        self.collect(now, remote, proofs, out);
        self.poll_heard().map_or(Opened::Handled, |(peer, message)| Opened::Message(peer, message))
    }

    /// The next message that was opened beside the one returned.
    pub(crate) fn poll_heard(&mut self) -> Option<(PublicKey, Vec<u8>)> {
        wire::queue::pop_front(&mut self.heard)
    }

    /// Somebody says hello: makes a half that shall take it, unless there is one, or says what becomes of it instead.
    fn meet(
        &mut self,
        now: Time,
        remote: SocketAddr,
        random: Random,
        len: usize,
        proofs: &Proofs,
        out: &mut Outbox,
    ) -> Result<(), Opened> {
        let asked = self.links.get(&remote).and_then(|link| link.making.as_ref());
        if asked.is_some_and(|making| making.random > random) {
            return Err(Opened::Handled); // Both asked at once; the greater is answered, by the other.
        }
        self.halves.retain(|half| now.since(half.since) < HALF);
        if self.halves.iter().any(|half| half.remote == remote && half.random == random) {
            return Ok(());
        }
        let Some(library) = self.library.clone() else { return Err(Opened::Dropped("no library")) };
        if self.is_flooded(now) {
            if !proofs.is_proven(now, remote) {
                let cookie = [&[COOKIE][..], &proofs.cookie(now, remote)].concat();
                if cookie.len() <= len {
                    out.push_frame(remote, cookie, Cargo::Answering);
                }
                return Err(Opened::Dropped("link cookie"));
            }
            if self.answers.2 >= ANSWERS_PER_S[1] {
                return Err(Opened::Dropped("link flood"));
            }
        }
        self.answers.2 += 1;
        if self.halves.len() >= MAX_HALVES {
            self.halves.pop_front();
        }
        let session = library.begin(now, Carrier::Datagrams, Role::Asked, remote);
        self.halves.push_back(Half { remote, random, session, since: now, received: 0, sent: 0 });
        Ok(())
    }

    /// Another hello came: whether they are too many by now to be answered without a proof.
    fn is_flooded(&mut self, now: Time) -> bool {
        if now.since(self.answers.0) >= Duration::from_secs(1) {
            self.answers = (now, 0, 0);
        }
        self.answers.1 += 1;
        self.answers.1 > ANSWERS_PER_S[0]
    }

    /// Whether a handshake may be made with somebody who opened a stream: they are counted with the others.
    pub(crate) fn may_answer_stream(&mut self, now: Time) -> bool {
        self.is_flooded(now);
        let may = self.answers.2 < ANSWERS_PER_S[1];
        self.answers.2 += u32::from(may);
        may
    }

    /// Takes what the sessions with an address have to give.
    fn collect(&mut self, now: Time, remote: SocketAddr, proofs: &mut Proofs, out: &mut Outbox) {
        let mut at = 0;
        while let Some(half) = self.halves.get_mut(at) {
            if half.remote != remote {
                at += 1;
                continue;
            }
            let gifts = Gifts::of(&mut *half.session);
            for bytes in gifts.bytes {
                if gifts.peer.is_some() || half.sent + bytes.len() <= half.received {
                    half.sent += bytes.len();
                    out.push_frame(remote, bytes, Cargo::Answering);
                }
            }
            match gifts.peer {
                Some(peer) => {
                    let half = self.halves.remove(at).expect("looked at above");
                    self.make_room(&remote);
                    self.links.entry(remote).or_insert_with(|| Box::new(Link::new(now)));
                    self.stand(now, remote, Standing::new(now, half.session, peer), proofs, out);
                    self.hear(peer, gifts.messages);
                }
                None if gifts.is_over => drop(self.halves.remove(at)),
                None => at += 1,
            }
        }
        self.collect_made(now, remote, proofs, out);
        self.collect_standing(remote, out);
    }

    fn collect_made(&mut self, now: Time, remote: SocketAddr, proofs: &mut Proofs, out: &mut Outbox) {
        let Some(link) = self.links.get_mut(&remote) else { return };
        let Some(making) = &mut link.making else { return };
        let gifts = Gifts::of(&mut *making.session);
        gifts.bytes.into_iter().for_each(|bytes| out.push_frame(remote, bytes, Cargo::Asking));
        if let Some(peer) = gifts.peer {
            let making = link.making.take().expect("looked at above");
            self.stand(now, remote, Standing::new(now, making.session, peer), proofs, out);
            self.hear(peer, gifts.messages);
        } else if gifts.is_over {
            link.making = None;
            if !link.waiting.take().is_empty() {
                out.count_drop("link unanswered");
            }
            self.forget_empty(remote);
        }
    }

    fn collect_standing(&mut self, remote: SocketAddr, out: &mut Outbox) {
        let Some(link) = self.links.get_mut(&remote) else { return };
        let Some(standing) = &mut link.standing else { return };
        let (gifts, peer) = (Gifts::of(&mut *standing.session), standing.peer);
        gifts.bytes.into_iter().for_each(|bytes| out.push_frame(remote, bytes, Cargo::Answering));
        if gifts.is_over {
            link.standing = None;
            self.forget_empty(remote);
        }
        self.hear(peer, gifts.messages);
    }

    fn forget_empty(&mut self, remote: SocketAddr) {
        if self.links.get(&remote).is_some_and(|link| link.making.is_none() && link.standing.is_none()) {
            self.forget(remote);
        }
    }

    fn hear(&mut self, peer: PublicKey, messages: Vec<Vec<u8>>) {
        let room = MAX_HEARD.saturating_sub(self.heard.len());
        self.heard.extend(messages.into_iter().take(room).map(|message| (peer, message)));
    }

    /// A link stands: what has waited for it goes.
    fn stand(
        &mut self,
        now: Time,
        remote: SocketAddr,
        mut standing: Standing,
        proofs: &mut Proofs,
        out: &mut Outbox,
    ) {
        proofs.prove(now, remote);
        let Some(link) = self.links.get_mut(&remote) else { return };
        link.making = None;
        for message in link.waiting.take_for(&standing.peer, out) {
            if let Some(record) = standing.seal(now, &message.bytes) {
                out.push_frame(remote, record, Cargo::Message(message.label));
            }
        }
        link.standing = Some(standing);
    }

    /// Too many ask: we ask again with the cookie.
    fn handle_cookie(&mut self, remote: SocketAddr, cookie: &[u8], out: &mut Outbox) -> Opened {
        let making = self.links.get_mut(&remote).and_then(|link| link.making.as_mut());
        let Some(making) = making.filter(|m| m.again < MAX_AGAIN && cookie.len() == 16) else {
            return Opened::Dropped("link unknown");
        };
        making.again += 1;
        out.push_frame(remote, [&[AGAIN], cookie, &making.hello].concat(), Cargo::Asking);
        Opened::Handled
    }

    /// The other side does not know the link that our last record went over. Only who saw that record can say so.
    fn handle_lost(&mut self, now: Time, remote: SocketAddr, tail: &[u8], out: &mut Outbox) -> Opened {
        let Some(link) = self.links.get_mut(&remote) else { return Opened::Dropped("link unknown") };
        let is_ours = link.standing.as_ref().is_some_and(|s| s.sent > 0 && s.tail == tail);
        if !is_ours || !link.may_renew(now) {
            return Opened::Dropped("link unknown");
        }
        link.standing = None;
        if link.making.is_none() {
            self.ask(now, remote, out);
        }
        Opened::Handled
    }

    /// The beginnings of messages that did not arrive, as the network says of a datagram of ours, of which it quotes
    /// as much as it likes. What waits for a link that was refused does not wait any longer.
    pub(crate) fn refused(&mut self, remote: SocketAddr, quoted: &[u8]) -> Vec<[u8; BEGINNING]> {
        let Some(link) = self.links.get_mut(&remote) else { return Vec::new() };
        if let (Some(standing), Some(head)) = (&link.standing, quoted.first_chunk::<HEAD>())
            && let Some((_, message)) = standing.recent.iter().find(|(of, _)| of == head)
        {
            return vec![*message];
        }
        let is_hello = Kind::of(quoted);
        if !link.making.as_ref().is_some_and(|making| is_hello == Kind::Hello(making.random)) {
            return Vec::new();
        }
        let waited = link.waiting.take();
        if link.standing.is_none() {
            self.forget(remote);
        }
        waited.iter().map(|message| beginning(&message.bytes)).collect()
    }

    // ---- time ----------------------------------------------------------------------------------

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let halves = self.halves.iter().filter_map(|half| half.session.poll_timeout());
        halves.chain(self.wakes.first().map(|(at, _)| *at)).min()
    }

    /// Sends again what was not answered, and gives up what never was.
    pub(crate) fn handle_timeout(&mut self, now: Time, proofs: &mut Proofs, out: &mut Outbox) {
        let is_due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        let mut due = BTreeSet::new();
        for half in self.halves.iter_mut().filter(|half| is_due(half.session.poll_timeout())) {
            half.session.handle_timeout(now);
            due.insert(half.remote);
        }
        for (_, remote) in self.wakes.iter().take_while(|(at, _)| *at <= now) {
            let Some(link) = self.links.get_mut(remote) else { continue };
            link.making.iter_mut().for_each(|making| making.session.handle_timeout(now));
            link.standing.iter_mut().for_each(|standing| standing.session.handle_timeout(now));
            due.insert(*remote);
        }
        for remote in due {
            self.collect(now, remote, proofs, out);
            self.reschedule(remote);
        }
    }

    /// Notes when the link to an address wants to be woken.
    fn reschedule(&mut self, remote: SocketAddr) {
        let Some(link) = self.links.get_mut(&remote) else { return };
        let making = link.making.iter().filter_map(|making| making.session.poll_timeout());
        let standing = link.standing.iter().filter_map(|standing| standing.session.poll_timeout());
        let wake = making.chain(standing).min();
        if link.wake != wake {
            if let Some(before) = std::mem::replace(&mut link.wake, wake) {
                self.wakes.remove(&(before, remote));
            }
            self.wakes.extend(wake.map(|at| (at, remote)));
        }
    }

    /// How many links stand.
    pub(crate) fn len(&self) -> usize {
        self.links.values().filter(|link| link.standing.is_some()).count()
    }
}

impl Link {
    fn new(now: Time) -> Self {
        Link {
            making: None,
            standing: None,
            waiting: Waiting::default(),
            used: now,
            renewed: None,
            wake: None,
        }
    }

    /// Whether it may be made anew on a word now; it is, then.
    fn may_renew(&mut self, now: Time) -> bool {
        let may = self.renewed.is_none_or(|at| now.since(at) >= RENEW);
        if may {
            self.renewed = Some(now);
        }
        may
    }
}
