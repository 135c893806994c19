//! Links: what protects all that two peers say to each other.
//!
//! A link is made on demand. The first message to an address waits while three frames go to and fro, which
//! also prove both addresses; it leaves with the third, one round trip later. From then on each message
//! is one sealed frame. Whoever lost its end of a link says so to the next frame, and a new link is
//! made; so is one that has served for a day.
//!
//! ```text
//!   asks   --- first --->   asked           the first is padded: it is as long as the second
//!          <-- second ---   asked           keeps its half for a few seconds
//!   asks   --- third ---->  asked           and at once what has waited, sealed
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `frame.rs` | the frames in a datagram |
//! | `suite.rs` | what a way to agree on keys is; `noise.rs`, `signed.rs`, `stand_in.rs` are such ways |
//!
//! Who asks is answered with no more than it sent, and by a bare cookie where too many ask at once. Nothing is
//! kept of who was only answered, but for as many halves as [`MAX_HALF_OPEN`].

mod frame;
mod noise;
mod signed;
mod stand_in;
mod suite;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use wire::{KeyPair, Profile, PublicKey, Rng, RngExt, Seed, Time, Window};

use crate::Proofs;
use crate::bounds::{CROWD, LIFE, MAX_LINKS, OVERLAP, RECENT, RENEW};
use crate::outbox::{Cargo, Outbox};
use crate::room::first_to_go;
use crate::waiting::{BEGINNING, Message, Waiting, beginning};
use frame::Frame;
pub(crate) use frame::OVERHEAD;
use suite::{Agreed, Cipher, Initiator, Responder, Suite};

/// Most addresses that asked and have not shown yet that they hear us.
const MAX_HALF_OPEN: usize = 128;

/// How long such a half is kept: longer than the repetitions of whoever asks.
const HALF_OPEN: Duration = Duration::from_secs(5);

/// First frames answered in a second, without a cookie and in all: each costs a third of a millisecond. The first
/// is twice what a peer gets from all its neighbours when it comes back after they lost it; what is beyond the second
/// waits, and asks again.
const ANSWERS_PER_S: [u32; 2] = [100, 300];

/// Pause before a first frame is sent again, doubled each time: two thirds of all paths on earth answer sooner.
const RETRY: Duration = Duration::from_millis(400);

/// First frames sent before the address is given up: within three seconds, when requests end too.
const SENDS: u8 = 3;

/// A counter that ends a link: no nonce comes twice.
const LAST_COUNTER: u32 = 1 << 31;

/// The third frame is repeated before a message until something comes back, at most so often: it may be lost.
const REPEAT_THIRD: Duration = Duration::from_millis(250);

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// A message, and who sealed it.
    Message(PublicKey, Vec<u8>),
    /// It served the link itself.
    Handled,
    /// Why it was dropped.
    Dropped(&'static str),
}

/// All links of a peer.
#[derive(Debug)]
pub(crate) struct Links {
    suite: Suite,
    keys: KeyPair,
    rng: Rng,
    links: BTreeMap<SocketAddr, Box<Link>>,
    /// Whose end of which link an index of ours names.
    indices: BTreeMap<u32, SocketAddr>,
    half_open: VecDeque<HalfOpen>,
    /// When a first frame is to be sent again.
    wakes: BTreeSet<(Time, SocketAddr)>,
    /// The second that lasts, and how many first frames came in it and how many were answered.
    answers: (Time, u32, u32),
}

/// A link to an address, made or in the making.
#[derive(Debug)]
struct Link {
    opening: Option<Opening>,
    session: Option<Session>,
    /// The one before: what was sealed with it may still be on its way.
    before: Option<Session>,
    waiting: Waiting,
    used: Time,
    /// When it was last made anew on somebody's word, or for somebody else than who has it.
    renewed: Option<Time>,
}

/// Asked, and not answered yet.
#[derive(Debug)]
struct Opening {
    index: u32,
    half: Box<dyn Initiator>,
    body: Vec<u8>,
    /// What the other side wants repeated, or zeros.
    cookie: [u8; 16],
    sends: u8,
    due: Time,
}

impl Opening {
    fn first(&self, suite: Suite) -> Vec<u8> {
        Frame::First { from: self.index, cookie: self.cookie, body: &self.body }.to_bytes(suite)
    }
}

/// Answered, and not heard of since.
#[derive(Debug)]
struct HalfOpen {
    index: u32,
    remote: SocketAddr,
    theirs: u32,
    half: Box<dyn Responder>,
    second: Vec<u8>,
    since: Time,
}

/// Keys that both sides hold.
#[derive(Debug)]
struct Session {
    index: u32,
    theirs: u32,
    peer: PublicKey,
    cipher: Box<dyn Cipher>,
    since: Time,
    sent: u32,
    seen: Window,
    /// The beginnings of the messages sent last, each at its counter's place.
    recent: [[u8; BEGINNING]; RECENT],
    /// The end of the frame sent last.
    tail: [u8; 8],
    /// The third frame, while nothing has come back yet, and when it was sent last.
    third: Option<(Vec<u8>, Time)>,
}

impl Session {
    fn new(now: Time, index: u32, theirs: u32, agreed: Agreed) -> Self {
        let Agreed { peer, cipher } = agreed;
        Session {
            index,
            theirs,
            peer,
            cipher,
            since: now,
            sent: 0,
            seen: Window::default(),
            recent: Default::default(),
            tail: [0; 8],
            third: None,
        }
    }

    fn seal(&mut self, suite: Suite, message: &[u8]) -> Vec<u8> {
        let head = frame::sealed_head(suite, self.theirs, self.sent);
        let body = self.cipher.seal(&head, self.sent, message);
        self.recent[self.sent as usize % RECENT] = beginning(message);
        self.sent += 1;
        let sealed = [&head[..], &body].concat();
        self.tail = frame::tail(&sealed).expect("a tag is longer");
        sealed
    }

    fn open(&mut self, suite: Suite, counter: u32, body: &[u8]) -> Result<Vec<u8>, &'static str> {
        if counter >= LAST_COUNTER || !self.seen.is_new(u64::from(counter)) {
            return Err("link replay");
        }
        let head = frame::sealed_head(suite, self.index, counter);
        let message = self.cipher.open(&head, counter, body).ok_or("link forged")?;
        self.seen.note(u64::from(counter));
        self.third = None;
        Ok(message)
    }

    /// The beginning of a message that went with this counter, if it was one of the last.
    fn sent_with(&self, counter: u32) -> Option<[u8; BEGINNING]> {
        let is_recent = counter < self.sent && self.sent - counter <= RECENT as u32;
        is_recent.then(|| self.recent[counter as usize % RECENT])
    }

    /// Whether a new one should take its place.
    fn is_worn(&self, now: Time) -> bool {
        now.since(self.since) > LIFE || self.sent >= LAST_COUNTER / 2
    }
}

impl Links {
    /// Links of this profile; `None` where messages stand in the clear.
    pub(crate) fn new(profile: Profile, keys: &KeyPair, seed: Seed) -> Option<Self> {
        Some(Links {
            suite: Suite::of(profile, keys.signatures())?,
            keys: keys.clone(),
            rng: seed.rng(),
            links: BTreeMap::new(),
            indices: BTreeMap::new(),
            half_open: VecDeque::new(),
            wakes: BTreeSet::new(),
            answers: (Time::ZERO, 0, 0),
        })
    }

    // ---- out -----------------------------------------------------------------------------------

    /// Sends a message over the link to an address, once there is one.
    pub(crate) fn send(&mut self, now: Time, remote: SocketAddr, message: Message, out: &mut Outbox) {
        self.make_room(&remote);
        let link = self.links.entry(remote).or_insert_with(|| Box::new(Link::new(now)));
        link.used = now;
        let is_over = link.session.as_ref().is_some_and(|s| now.since(s.since) > OVERLAP);
        if let Some(before) = link.before.take_if(|_| is_over) {
            self.indices.remove(&before.index);
        }
        let is_anothers = link.session.as_ref().is_some_and(|s| !message.is_for(&s.peer));
        if is_anothers && !link.may_renew(now) {
            return out.count_drop("link of another");
        }
        let usable = link.session.as_mut().filter(|s| s.sent < LAST_COUNTER && !is_anothers);
        let worn = match usable {
            Some(session) => {
                if let Some((third, at)) = &mut session.third
                    && now.since(*at) >= REPEAT_THIRD
                {
                    *at = now;
                    out.push_frame(remote, third.clone(), Cargo::Asking);
                }
                out.push_frame(
                    remote,
                    session.seal(self.suite, &message.bytes),
                    Cargo::Message(message.label),
                );
                session.is_worn(now)
            }
            None => {
                link.waiting.push(message, out);
                true
            }
        };
        if worn && link.opening.is_none() {
            self.ask(now, remote, out);
        }
    }

    /// Asks an address for a link, for which nobody has asked it yet.
    fn ask(&mut self, now: Time, remote: SocketAddr, out: &mut Outbox) {
        let index = self.free_index();
        let (half, mut body) = self.suite.initiate(&self.keys, Seed::child_of(&mut self.rng));
        body.resize(self.suite.padded_first(), 0);
        let due = now + RETRY;
        let opening = Opening { index, half, body, cookie: [0; 16], sends: 1, due };
        out.push_frame(remote, opening.first(self.suite), Cargo::Asking);
        let Some(link) = self.links.get_mut(&remote) else { return };
        link.opening = Some(opening);
        self.indices.insert(index, remote);
        self.wakes.insert((due, remote));
    }

    fn free_index(&mut self) -> u32 {
        loop {
            let index = self.rng.random();
            if !self.indices.contains_key(&index) && self.half_open.iter().all(|h| h.index != index) {
                return index;
            }
        }
    }

    /// Where there is no room for another link, forgets the one that was silent longest, of the host with most
    /// links if that is a crowd.
    fn make_room(&mut self, remote: &SocketAddr) {
        if self.links.len() < MAX_LINKS || self.links.contains_key(remote) {
            return;
        }
        let all = self.links.iter().map(|(at, link)| (*at, link.used)).collect();
        if let Some(oldest) = first_to_go(all, CROWD) {
            self.forget(oldest);
        }
    }

    fn forget(&mut self, remote: SocketAddr) {
        let Some(link) = self.links.remove(&remote) else { return };
        for index in link.opening.iter().map(|o| o.index).chain(link.sessions().map(|s| s.index)) {
            self.indices.remove(&index);
        }
        if let Some(opening) = link.opening {
            self.wakes.remove(&(opening.due, remote));
        }
    }

    // ---- in ------------------------------------------------------------------------------------

    /// Takes a frame that arrived.
    pub(crate) fn handle(
        &mut self,
        now: Time,
        remote: SocketAddr,
        datagram: &[u8],
        proofs: &mut Proofs,
        out: &mut Outbox,
    ) -> Opened {
        match Frame::parse(self.suite, datagram) {
            Some(Frame::First { from, cookie, body }) => {
                self.handle_first(now, remote, (from, cookie, body), proofs, out)
            }
            Some(Frame::Second { to, from, body }) => {
                self.handle_second(now, remote, (to, from, body), proofs, out)
            }
            Some(Frame::Third { to, body }) => self.handle_third(now, remote, (to, body), proofs, out),
            Some(Frame::Sealed { to, counter, body }) => {
                self.handle_sealed(now, remote, (to, counter, body), out)
            }
            Some(Frame::Cookie { to, cookie }) => self.handle_cookie(remote, to, cookie, out),
            Some(Frame::Lost { to, tail }) => self.handle_lost(now, remote, (to, tail), out),
            None => Opened::Dropped("link frame"),
        }
    }

    fn handle_first(
        &mut self,
        now: Time,
        remote: SocketAddr,
        (from, cookie, body): (u32, [u8; 16], &[u8]),
        proofs: &mut Proofs,
        out: &mut Outbox,
    ) -> Opened {
        // A shorter one would be answered with more than it is.
        if body.len() != self.suite.padded_first() {
            return Opened::Dropped("link frame");
        }
        let asked = self.links.get(&remote).and_then(|l| l.opening.as_ref());
        if asked.is_some_and(|opening| opening.index > from) {
            return Opened::Handled; // Both asked at once; the greater index is answered, by the other.
        }
        self.half_open.retain(|h| now.since(h.since) < HALF_OPEN);
        if let Some(half) = self.half_open.iter().find(|h| h.remote == remote && h.theirs == from) {
            out.push_frame(remote, half.second.clone(), Cargo::Answering);
            return Opened::Handled;
        }
        if self.is_flooded(now) {
            if !proofs.accept(now, remote, &cookie) {
                let cookie = proofs.cookie(now, remote);
                let answer = Frame::Cookie { to: from, cookie }.to_bytes(self.suite);
                out.push_frame(remote, answer, Cargo::Answering);
                return Opened::Dropped("link cookie");
            }
            if self.answers.2 >= ANSWERS_PER_S[1] {
                return Opened::Dropped("link flood");
            }
        }
        self.answers.2 += 1;
        let Some((half, body)) = self.suite.respond(&self.keys, Seed::child_of(&mut self.rng), body) else {
            return Opened::Dropped("link forged");
        };
        let index = self.free_index();
        let second = Frame::Second { to: from, from: index, body: &body }.to_bytes(self.suite);
        out.push_frame(remote, second.clone(), Cargo::Answering);
        if self.half_open.len() >= MAX_HALF_OPEN {
            self.half_open.pop_front();
        }
        self.half_open.push_back(HalfOpen { index, remote, theirs: from, half, second, since: now });
        Opened::Handled
    }

    /// Another first frame came: whether they are too many by now to be answered without a proof.
    fn is_flooded(&mut self, now: Time) -> bool {
        if now.since(self.answers.0) >= Duration::from_secs(1) {
            self.answers = (now, 0, 0);
        }
        self.answers.1 += 1;
        self.answers.1 > ANSWERS_PER_S[0]
    }

    fn handle_second(
        &mut self,
        now: Time,
        remote: SocketAddr,
        (to, from, body): (u32, u32, &[u8]),
        proofs: &mut Proofs,
        out: &mut Outbox,
    ) -> Opened {
        let is_ours = |link: &&mut Box<Link>| link.opening.as_ref().is_some_and(|o| o.index == to);
        let Some(link) = self.links.get_mut(&remote).filter(is_ours) else {
            return Opened::Dropped("link unknown");
        };
        let Some(opening) = link.opening.take() else { return Opened::Dropped("link unknown") };
        self.wakes.remove(&(opening.due, remote));
        let Some((third, agreed)) = opening.half.finish(body) else {
            // Whoever forged it has seen our frame, and could have kept it from its way as well.
            self.indices.remove(&to);
            return Opened::Dropped("link forged");
        };
        let third = Frame::Third { to: from, body: &third }.to_bytes(self.suite);
        out.push_frame(remote, third.clone(), Cargo::Asking);
        let session = Session { third: Some((third, now)), ..Session::new(now, to, from, agreed) };
        self.stand(now, remote, session, proofs, out);
        Opened::Handled
    }

    fn handle_third(
        &mut self,
        now: Time,
        remote: SocketAddr,
        (to, body): (u32, &[u8]),
        proofs: &mut Proofs,
        out: &mut Outbox,
    ) -> Opened {
        let Some(at) = self.half_open.iter().position(|h| h.index == to && h.remote == remote) else {
            // Repeated, by somebody who has not heard from us since.
            return match self.indices.get(&to) {
                Some(_) => Opened::Handled,
                None => Opened::Dropped("link unknown"),
            };
        };
        let half = self.half_open.remove(at).expect("found above");
        let Some(agreed) = half.half.finish(body) else { return Opened::Dropped("link forged") };
        self.make_room(&remote);
        self.links.entry(remote).or_insert_with(|| Box::new(Link::new(now)));
        self.stand(now, remote, Session::new(now, to, half.theirs, agreed), proofs, out);
        Opened::Handled
    }

    /// A link stands: what has waited for it goes.
    fn stand(
        &mut self,
        now: Time,
        remote: SocketAddr,
        mut session: Session,
        proofs: &mut Proofs,
        out: &mut Outbox,
    ) {
        proofs.prove(now, remote);
        let Some(link) = self.links.get_mut(&remote) else { return };
        if let Some(opening) = link.opening.take() {
            self.wakes.remove(&(opening.due, remote));
            self.indices.remove(&opening.index);
        }
        for message in link.waiting.take_for(&session.peer, out) {
            out.push_frame(remote, session.seal(self.suite, &message.bytes), Cargo::Message(message.label));
        }
        self.indices.insert(session.index, remote);
        if let Some(oldest) = std::mem::replace(&mut link.before, link.session.replace(session)) {
            self.indices.remove(&oldest.index);
        }
    }

    fn handle_sealed(
        &mut self,
        now: Time,
        remote: SocketAddr,
        (to, counter, body): (u32, u32, &[u8]),
        out: &mut Outbox,
    ) -> Opened {
        let link = self.indices.get(&to).and_then(|at| self.links.get_mut(at));
        let Some((link, is_before)) = link.and_then(|link| {
            let is_before = link.before.as_ref().is_some_and(|s| s.index == to);
            let is_there = is_before || link.session.as_ref().is_some_and(|s| s.index == to);
            is_there.then_some((link, is_before))
        }) else {
            // As long as what it answers, or shorter: its end is in it.
            if let Some(tail) = frame::tail(body).filter(|_| body.len() >= suite::TAG) {
                out.push_frame(remote, Frame::Lost { to, tail }.to_bytes(self.suite), Cargo::Answering);
            }
            return Opened::Dropped("link unknown");
        };
        let session = if is_before { &mut link.before } else { &mut link.session };
        let session = session.as_mut().expect("found above");
        match session.open(self.suite, counter, body) {
            Ok(message) => {
                let peer = session.peer;
                link.used = now;
                Opened::Message(peer, message)
            }
            Err(why) => Opened::Dropped(why),
        }
    }

    /// Too many ask: we ask again with the cookie.
    fn handle_cookie(&mut self, remote: SocketAddr, to: u32, cookie: [u8; 16], out: &mut Outbox) -> Opened {
        let opening = self.links.get_mut(&remote).and_then(|l| l.opening.as_mut());
        let Some(opening) = opening.filter(|o| o.index == to && o.cookie != cookie && o.sends < 2 * SENDS)
        else {
            return Opened::Dropped("link unknown");
        };
        (opening.cookie, opening.sends) = (cookie, opening.sends + 1);
        out.push_frame(remote, opening.first(self.suite), Cargo::Asking);
        Opened::Handled
    }

    /// The other side does not know the link that our last frame went over. Only who saw that frame can say so.
    fn handle_lost(
        &mut self,
        now: Time,
        remote: SocketAddr,
        (to, tail): (u32, [u8; 8]),
        out: &mut Outbox,
    ) -> Opened {
        let Some(link) = self.links.get_mut(&remote) else { return Opened::Dropped("link unknown") };
        let is_ours = link.session.as_ref().is_some_and(|s| s.theirs == to && s.tail == tail);
        if !is_ours || !link.may_renew(now) {
            return Opened::Dropped("link unknown");
        }
        let session = link.session.take().expect("looked at above");
        let is_opening = link.opening.is_some();
        self.indices.remove(&session.index);
        if !is_opening {
            self.ask(now, remote, out);
        }
        Opened::Handled
    }

    /// The beginnings of messages that did not arrive, as the network says of a frame of ours, of which it quotes
    /// as much as it likes. What waits for a link that was refused does not wait any longer.
    pub(crate) fn refused(&mut self, remote: SocketAddr, quoted: &[u8]) -> Vec<[u8; BEGINNING]> {
        let Some(link) = self.links.get_mut(&remote) else { return Vec::new() };
        if let Some((head, _)) = quoted.split_first_chunk::<9>() {
            let of = |session: &Session| {
                let counter = u32::from_be_bytes(*head.last_chunk().expect("nine bytes"));
                let is_ours = *head == frame::sealed_head(self.suite, session.theirs, counter);
                is_ours.then(|| session.sent_with(counter))?
            };
            if let Some(message) = link.sessions().find_map(of) {
                return vec![message];
            }
        }
        let asked = link.opening.as_ref().is_some_and(|opening| {
            let head = [&[self.suite.first_byte()][..], &opening.index.to_be_bytes()].concat();
            quoted.starts_with(&head)
        });
        if !asked {
            return Vec::new();
        }
        let waited = link.waiting.take();
        if link.session.is_none() {
            self.forget(remote);
        }
        waited.iter().map(|message| beginning(&message.bytes)).collect()
    }

    // ---- time ----------------------------------------------------------------------------------

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// First frames that nobody answered are sent again, or given up with what waits for them.
    pub(crate) fn handle_timeout(&mut self, now: Time, out: &mut Outbox) {
        while let Some((_, remote)) = self.wakes.first().copied().filter(|(at, _)| *at <= now) {
            self.wakes.pop_first();
            let Some(link) = self.links.get_mut(&remote) else { continue };
            let Some(opening) = &mut link.opening else { continue };
            if opening.sends >= SENDS {
                let index = opening.index;
                link.opening = None;
                link.waiting.take();
                out.count_drop("link unanswered");
                self.indices.remove(&index);
                if link.session.is_none() {
                    self.forget(remote);
                }
                continue;
            }
            out.push_frame(remote, opening.first(self.suite), Cargo::Asking);
            opening.due = now + RETRY * (1 << opening.sends);
            opening.sends += 1;
            self.wakes.insert((opening.due, remote));
        }
    }

    /// How many links stand.
    pub(crate) fn len(&self) -> usize {
        self.links.values().filter(|l| l.session.is_some()).count()
    }
}

impl Link {
    fn new(now: Time) -> Self {
        Link {
            opening: None,
            session: None,
            before: None,
            waiting: Waiting::default(),
            used: now,
            renewed: None,
        }
    }

    fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.session.iter().chain(&self.before)
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
