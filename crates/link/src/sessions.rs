//! Links over UDP that a provider makes: DTLS 1.3 ([`crate::provider`]).
//!
//! The table around the sessions: which address has one, what waits for it, whom it is for, and what a stranger can cost.
//!
//! ```text
//!   asks   --- hello --->      asked     padded by the provider: longer than all that answers it
//!          <-- answer ---      asked     keeps its half for a few seconds, and sends no more than it got
//!   asks   --- flight --->     asked     and at once what has waited, sealed
//! ```
//!
//! Beside the records of DTLS stand four frames, in the range of links of [`crate::Protocol`]. The token is the beginning
//! of the hello's random bytes: who did not see the hello cannot answer it.
//!
//! | first byte | then | |
//! |---|---|---|
//! | 120 cookie | token (8), cookie (16) | "say it again with this": too many ask |
//! | 121 lost | end of the record that came (8) | "that link is gone here" |
//! | 122 again | cookie (16), a hello | what was asked for |
//! | 123 answer | token (8), records that begin in the clear | the only ones in the clear beside a hello |
//!
//! | file | holds |
//! |---|---|
//! | `datagram.rs` | what a datagram is, by what stands in the clear |
//! | `half_open.rs` | who was answered and is not known yet |

mod datagram;
mod half_open;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use wire::{PublicKey, Time};

use crate::Proofs;
use crate::bounds::{CROWD, LIFE, MAX_LINKS, OVERLAP, RECENT, RENEW};
use crate::links::Opened;
use crate::outbox::{Cargo, Outbox};
use crate::provider::{Carrier, Outputs, Provider, Role, Session};
use crate::room::first_to_go;
use crate::waiting::{BEGINNING, Message, Waiting, beginning};
use datagram::{Kind, Random};
use half_open::{HalfOpen, Refusal};

/// How often a hello is said again with a cookie.
const MAX_AGAIN: u8 = 3;

/// A link that has carried so many messages is made anew: half of those after which DTLS would change its keys.
const LIFE_MESSAGES: u32 = 1 << 22;
/// Messages opened that were not fetched yet: all that one datagram can set free.
const MAX_HEARD: usize = 64;

/// What a record of DTLS 1.3 is longer than its message: head (5), type (1) and tag (16).
pub(crate) const OVERHEAD: usize = 22;

const COOKIE: u8 = 120;
const LOST: u8 = 121;
const AGAIN: u8 = 122;
const ANSWER: u8 = 123;

/// Bytes of a record by which it is known again: its end, and its head with its number.
const TAIL: usize = 8;
const HEAD: usize = 5;

/// Length of a cookie of [`Proofs`].
const COOKIE_LEN: usize = 16;

/// What a hello is known by to who answers it.
type Token = [u8; 8];

fn token(random: &Random) -> Token {
    *random.first_chunk().expect("longer")
}

/// All links of a peer that a provider makes.
#[derive(Debug)]
pub(crate) struct Sessions {
    provider: Option<Arc<dyn Provider>>,
    links: BTreeMap<SocketAddr, Box<Link>>,
    half_open: HalfOpen,
    /// When a link wants to be woken.
    wakes: BTreeSet<(Time, SocketAddr)>,
    /// What was opened and not fetched yet.
    heard: VecDeque<(SocketAddr, PublicKey, Vec<u8>)>,
}

/// A link to an address, made or in the making.
#[derive(Debug)]
struct Link {
    making: Option<Making>,
    standing: Option<Standing>,
    /// The session before, and since when there is another: what was sealed with it may still be on its way.
    before: Option<(Standing, Time)>,
    /// A hello that ours was greater than: repeated, it is not answered either.
    outdone: Option<Random>,
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
    /// The ends of the datagrams opened last, and how many were.
    opened: ([[u8; TAIL]; RECENT], usize),
}

impl Standing {
    fn new(now: Time, session: Box<dyn Session>, peer: PublicKey) -> Self {
        let (tail, recent, opened) = ([0; TAIL], Default::default(), Default::default());
        Standing { session, peer, since: now, sent: 0, tail, recent, opened }
    }

    /// Seals a message. The last of what is to be sent holds it, unless the session is over.
    fn seal(&mut self, now: Time, message: &[u8]) -> Outputs {
        self.session.seal(now, message);
        let outputs = Outputs::of(&mut *self.session);
        let record = outputs.bytes.last().filter(|_| !outputs.is_over);
        if let Some((head, tail)) = record.and_then(|r| r.first_chunk().zip(r.last_chunk())) {
            self.tail = *tail;
            self.recent[self.sent as usize % RECENT] = (*head, beginning(message));
            self.sent += 1;
        }
        outputs
    }

    fn open(&mut self, now: Time, datagram: &[u8]) -> Outputs {
        self.session.handle(now, datagram);
        let outputs = Outputs::of(&mut *self.session);
        if let (false, Some(tail)) = (outputs.messages.is_empty(), datagram.last_chunk()) {
            let (tails, count) = &mut self.opened;
            tails[*count % RECENT] = *tail;
            *count += 1;
        }
        outputs
    }

    /// Whether a datagram that it does not open is none of its peer's: not one that comes twice, nor the end of the
    /// handshake.
    fn is_strange(&self, now: Time, datagram: &[u8]) -> bool {
        now.since(self.since) >= RENEW && !self.opened.0.iter().any(|tail| datagram.ends_with(tail))
    }

    fn is_worn(&self, now: Time) -> bool {
        now.since(self.since) > LIFE || self.sent >= LIFE_MESSAGES
    }
}

impl Sessions {
    /// Links by this provider; without one nothing is sent and nothing heard.
    pub(crate) fn new(provider: Option<Arc<dyn Provider>>) -> Self {
        Sessions {
            provider,
            links: BTreeMap::new(),
            half_open: HalfOpen::default(),
            wakes: BTreeSet::new(),
            heard: VecDeque::new(),
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
        let waits = if is_anothers { Some(message) } else { self.send_over(now, remote, message, out) };
        let Some(link) = self.links.get_mut(&remote) else { return };
        let is_worn = waits.is_some() || link.standing.as_ref().is_none_or(|standing| standing.is_worn(now));
        waits.into_iter().for_each(|message| link.waiting.push(message, out));
        if is_worn && link.making.is_none() {
            self.ask(now, remote, out);
        }
        self.reschedule(remote);
    }

    /// Sends a message over the session that stands; back if there is none any more.
    fn send_over(
        &mut self,
        now: Time,
        remote: SocketAddr,
        message: Message,
        out: &mut Outbox,
    ) -> Option<Message> {
        let link = self.links.get_mut(&remote)?;
        let Some(standing) = &mut link.standing else { return Some(message) };
        let (mut outputs, peer) = (standing.seal(now, &message.bytes), standing.peer);
        let sealed = if outputs.is_over { None } else { outputs.bytes.pop() };
        outputs.bytes.into_iter().for_each(|bytes| out.push_frame(remote, bytes, Cargo::Asking));
        if outputs.is_over {
            link.standing = None;
        }
        self.hear(now, remote, peer, outputs.messages);
        match sealed {
            Some(record) => {
                out.push_frame(remote, record, Cargo::Message(message.label));
                None
            }
            None => Some(message),
        }
    }

    /// Asks an address for a link.
    fn ask(&mut self, now: Time, remote: SocketAddr, out: &mut Outbox) {
        let Some(provider) = &self.provider else { return out.count_drop("no provider") };
        let mut session = provider.begin(now, Carrier::Datagrams, Role::Asks, remote);
        let outputs = Outputs::of(&mut *session);
        let hello = outputs.bytes.first().cloned().unwrap_or_default();
        let Kind::Hello(random) = Kind::of(&hello) else { return out.count_drop("no hello") };
        outputs.bytes.into_iter().for_each(|bytes| out.push_frame(remote, bytes, Cargo::Asking));
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
            [AGAIN, rest @ ..] => match rest.split_first_chunk::<COOKIE_LEN>() {
                Some((cookie, hello)) if proofs.accept(now, remote, cookie) => {
                    self.handle_hello(now, remote, (hello, true), proofs, out)
                }
                _ => Opened::Dropped("link cookie"),
            },
            [ANSWER, rest @ ..] => self.handle_answer(now, remote, rest, proofs, out),
            _ => match Kind::of(datagram) {
                Kind::Hello(_) => self.handle_hello(now, remote, (datagram, false), proofs, out),
                // Said in the clear it could be anybody's word.
                Kind::Clear => Opened::Dropped("link clear"),
                kind => self.handle_records(now, remote, (datagram, kind), proofs, out),
            },
        };
        self.reschedule(remote);
        opened
    }

    /// Somebody asks: a half takes it, unless it is told something else instead.
    fn handle_hello(
        &mut self,
        now: Time,
        remote: SocketAddr,
        (hello, has_cookie): (&[u8], bool),
        proofs: &mut Proofs,
        out: &mut Outbox,
    ) -> Opened {
        let Kind::Hello(random) = Kind::of(hello) else { return Opened::Dropped("link clear") };
        if let Some(link) = self.links.get_mut(&remote) {
            // Both asked at once; the greater is answered, by the other.
            if link.making.as_ref().is_some_and(|making| making.random > random) {
                link.outdone = Some(random);
            }
            if link.outdone == Some(random) {
                return Opened::Handled;
            }
        }
        if !self.half_open.has(now, remote, &random) {
            let Some(provider) = &self.provider else { return Opened::Dropped("no provider") };
            match self.half_open.admit(now, has_cookie.then_some(remote.ip())) {
                Ok(()) => {}
                Err(Refusal::Flood) => return Opened::Dropped("link flood"),
                Err(Refusal::Cookie) => {
                    let cookie = [&[COOKIE][..], &token(&random), &proofs.cookie(now, remote)].concat();
                    if cookie.len() <= hello.len() {
                        out.push_frame(remote, cookie, Cargo::Answering);
                    }
                    return Opened::Dropped("link cookie");
                }
            }
            let session = provider.begin(now, Carrier::Datagrams, Role::Asked, remote);
            self.half_open.add(now, remote, random, session);
        }
        self.half_open.handle(now, remote, Kind::Hello(random), hello);
        self.collect(now, remote, proofs, out);
        Opened::Handled
    }

    /// What begins in the clear is taken only from who saw our hello.
    fn handle_answer(
        &mut self,
        now: Time,
        remote: SocketAddr,
        rest: &[u8],
        proofs: &mut Proofs,
        out: &mut Outbox,
    ) -> Opened {
        let making = self.links.get_mut(&remote).and_then(|link| link.making.as_mut());
        let Some((making, (said, records))) = making.zip(rest.split_first_chunk()) else {
            return Opened::Dropped("link unknown");
        };
        if token(&making.random) != *said {
            return Opened::Dropped("link forged");
        }
        making.session.handle(now, records);
        self.collect(now, remote, proofs, out);
        Opened::Handled
    }

    /// Protected records: whoever can open them.
    fn handle_records(
        &mut self,
        now: Time,
        remote: SocketAddr,
        (datagram, kind): (&[u8], Kind),
        proofs: &mut Proofs,
        out: &mut Outbox,
    ) -> Opened {
        self.half_open.handle(now, remote, kind, datagram);
        if let Some(making) = self.links.get_mut(&remote).and_then(|link| link.making.as_mut()) {
            making.session.handle(now, datagram);
        }
        let is_strange = !self.open(now, remote, datagram, out) && !self.half_open.knows(&remote);
        self.collect(now, remote, proofs, out);
        match self.heard.front() {
            Some((at, ..)) if *at == remote => {
                let (_, peer, message) = self.poll_heard().expect("looked at");
                Opened::Message(peer, message)
            }
            _ if is_strange => {
                if let (Kind::Sealed, Some(tail)) = (kind, datagram.last_chunk::<TAIL>())
                    && datagram.len() >= OVERHEAD
                {
                    out.push_frame(remote, [&[LOST][..], tail].concat(), Cargo::Answering);
                }
                Opened::Dropped("link unknown")
            }
            _ => Opened::Handled,
        }
    }

    /// Gives a datagram to the sessions that stand; `false` if it is none of theirs.
    fn open(&mut self, now: Time, remote: SocketAddr, datagram: &[u8], out: &mut Outbox) -> bool {
        let Some(link) = self.links.get_mut(&remote) else { return false };
        link.before.take_if(|(_, until)| now.since(*until) > OVERLAP);
        let mut is_theirs = false;
        let mut messages = Vec::new();
        if let Some(standing) = &mut link.standing {
            let outputs = standing.open(now, datagram);
            is_theirs = !standing.is_strange(now, datagram);
            outputs.bytes.into_iter().for_each(|bytes| out.push_frame(remote, bytes, Cargo::Answering));
            messages.extend(outputs.messages.into_iter().map(|message| (standing.peer, message)));
            if outputs.is_over {
                link.standing = None;
                is_theirs = true;
            }
        }
        if let Some((before, _)) = link.before.as_mut().filter(|_| messages.is_empty()) {
            let outputs = before.open(now, datagram);
            is_theirs |= !before.is_strange(now, datagram);
            messages.extend(outputs.messages.into_iter().map(|message| (before.peer, message)));
            link.before.take_if(|_| outputs.is_over);
        }
        for (peer, message) in messages {
            self.hear(now, remote, peer, vec![message]);
        }
        self.forget_empty(remote);
        is_theirs
    }

    /// The next message that was opened and is not fetched yet: whence it came, and whose it is.
    pub(crate) fn poll_heard(&mut self) -> Option<(SocketAddr, PublicKey, Vec<u8>)> {
        wire::queue::pop_front(&mut self.heard)
    }

    /// Whether a handshake may be made with somebody who opened a stream: they are counted with the others.
    pub(crate) fn may_answer_stream(&mut self, now: Time, host: IpAddr) -> bool {
        self.half_open.admit(now, Some(host)).is_ok()
    }

    /// Takes what the sessions with an address have to give.
    fn collect(&mut self, now: Time, remote: SocketAddr, proofs: &mut Proofs, out: &mut Outbox) {
        for known in self.half_open.collect(remote, out) {
            self.make_room(&remote);
            self.links.entry(remote).or_insert_with(|| Box::new(Link::new(now)));
            self.stand(now, remote, Standing::new(now, known.session, known.peer), proofs, out);
            self.hear(now, remote, known.peer, known.messages);
        }
        self.collect_made(now, remote, proofs, out);
        self.collect_standing(now, remote, out);
    }

    fn collect_made(&mut self, now: Time, remote: SocketAddr, proofs: &mut Proofs, out: &mut Outbox) {
        let Some(link) = self.links.get_mut(&remote) else { return };
        let Some(making) = &mut link.making else { return };
        let outputs = Outputs::of(&mut *making.session);
        outputs.bytes.into_iter().for_each(|bytes| out.push_frame(remote, bytes, Cargo::Asking));
        if let Some(peer) = outputs.peer {
            let making = link.making.take().expect("looked at above");
            self.stand(now, remote, Standing::new(now, making.session, peer), proofs, out);
            self.hear(now, remote, peer, outputs.messages);
        } else if outputs.is_over {
            (link.making, link.before, link.outdone) = (None, None, None);
            if !link.waiting.take().is_empty() {
                out.count_drop("link unanswered");
            }
            self.forget_empty(remote);
        }
    }

    fn collect_standing(&mut self, now: Time, remote: SocketAddr, out: &mut Outbox) {
        let Some(link) = self.links.get_mut(&remote) else { return };
        let Some(standing) = &mut link.standing else { return };
        let (outputs, peer) = (Outputs::of(&mut *standing.session), standing.peer);
        outputs.bytes.into_iter().for_each(|bytes| out.push_frame(remote, bytes, Cargo::Answering));
        if outputs.is_over {
            link.standing = None;
        }
        self.hear(now, remote, peer, outputs.messages);
        self.forget_empty(remote);
    }

    fn forget_empty(&mut self, remote: SocketAddr) {
        let is_there = |link: &Link| {
            let has_session = link.making.is_some() || link.standing.is_some() || link.before.is_some();
            has_session || !link.waiting.is_empty()
        };
        if self.links.get(&remote).is_some_and(|link| !is_there(link)) {
            self.forget(remote);
        }
    }

    fn hear(&mut self, now: Time, remote: SocketAddr, peer: PublicKey, messages: Vec<Vec<u8>>) {
        if let Some(link) = self.links.get_mut(&remote).filter(|_| !messages.is_empty()) {
            link.used = now;
        }
        let room = MAX_HEARD.saturating_sub(self.heard.len());
        self.heard.extend(messages.into_iter().take(room).map(|message| (remote, peer, message)));
    }

    /// A link stands: what has waited for it goes.
    fn stand(
        &mut self,
        now: Time,
        remote: SocketAddr,
        standing: Standing,
        proofs: &mut Proofs,
        out: &mut Outbox,
    ) {
        proofs.prove(now, remote);
        let Some(link) = self.links.get_mut(&remote) else { return };
        link.making = None;
        let waited = link.waiting.take_for(&standing.peer, out);
        if let Some(before) = link.standing.replace(standing) {
            link.before = Some((before, now));
        }
        for message in waited {
            if self.send_over(now, remote, message, out).is_some() {
                out.count_drop("link over");
            }
        }
    }

    /// Too many ask: we ask again with the cookie.
    fn handle_cookie(&mut self, remote: SocketAddr, rest: &[u8], out: &mut Outbox) -> Opened {
        let making = self.links.get_mut(&remote).and_then(|link| link.making.as_mut());
        let Some(making) = making.filter(|making| making.again < MAX_AGAIN) else {
            return Opened::Dropped("link unknown");
        };
        match rest.split_first_chunk() {
            Some((said, cookie)) if *said == token(&making.random) && cookie.len() == COOKIE_LEN => {
                making.again += 1;
                out.push_frame(remote, [&[AGAIN], cookie, &making.hello].concat(), Cargo::Asking);
                Opened::Handled
            }
            _ => Opened::Dropped("link forged"),
        }
    }

    /// The other side does not know the link that our last record went over. Only who saw that record can say so; what
    /// it sends by that link is still opened for a while.
    fn handle_lost(&mut self, now: Time, remote: SocketAddr, tail: &[u8], out: &mut Outbox) -> Opened {
        let Some(link) = self.links.get_mut(&remote) else { return Opened::Dropped("link unknown") };
        let is_ours = link.standing.as_ref().is_some_and(|s| s.sent > 0 && s.tail == tail);
        if !is_ours || !link.may_renew(now) {
            return Opened::Dropped("link unknown");
        }
        link.before = link.standing.take().map(|standing| (standing, now));
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
        let asked = Kind::asked(quoted);
        if link.making.as_ref().is_none_or(|making| asked != Some(making.random)) {
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
        self.half_open.poll_timeout().into_iter().chain(self.wakes.first().map(|(at, _)| *at)).min()
    }

    /// Sends again what was not answered, and gives up what never was.
    pub(crate) fn handle_timeout(&mut self, now: Time, proofs: &mut Proofs, out: &mut Outbox) {
        let mut due: BTreeSet<_> = self.half_open.handle_timeout(now).into_iter().collect();
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
            before: None,
            outdone: None,
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

#[cfg(test)]
mod tests;
