//! Built-in users: nobody needs a phone to try a peer.
//!
//! `echo` answers every call and gives back what it hears. Who dials `*55` is told the digits of the call that
//! their phone holds (`plane/digits.rs`). The inbox takes messages for users whose phones are off. And every
//! call or message of the command line is made by a user agent of its own, which goes away when it is done.
//! They speak SIP to the agent like any phone, but over [`Flow::Local`], so nothing of it leaves the process.

use std::collections::BTreeMap;
use std::time::Duration;

use media::Source;
use sip::Flow;
use sip::transaction::SentBy;
use sip::ua::{self, Handle, UaConfig, UaEvent, UserAgent, g711_sdp};
use wire::{Seed, Time};

use crate::directory::canonical_aor;
use crate::event::{Event, OpId, Outcome};
use crate::node::{Alarm, Node};
use crate::pins::MARK;
use crate::plane::Talker;
use crate::report::{CallReport, InboxMessage, MessageReport};

/// The built-in user that gives back what it hears.
pub(crate) const ECHO: u32 = 0;

/// The built-in user that keeps messages.
pub(crate) const INBOX: u32 = 1;

/// The built-in user that says the digits of a call.
pub(crate) const DIGITS: u32 = 2;

/// The domain of built-in users.
pub(crate) const BUILT_IN: &str = "local.invalid";

/// What a keypad dials for it.
const DIGITS_CODE: &str = "*55";

/// The status when it has nothing to say: Conditional Request Failed (RFC 3903).
pub(crate) const NO_DIGITS: u16 = 412;

/// Numbers of user agents made for one call or message.
const FIRST_OWN: u32 = 16;

/// Most calls and messages of the command line at once.
const MAX_OWN: usize = 256;

/// What protects a message that does not leave this peer.
const LOCAL: &str = "local";

/// How a call of the command line shall be.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    /// What to play: 16-bit samples at 8 kHz, once. `None` plays a tone of 440 Hz.
    pub play: Option<Vec<i16>>,
    /// Whether to keep what is heard.
    pub record: bool,
    /// Hang up this long after the answer.
    pub duration: Option<Duration>,
}

struct Own {
    ua: UserAgent,
    op: OpId,
    handle: Option<Handle>,
    duration: Option<Duration>,
    started: Time,
    is_call: bool,
    /// What protects a message to other peers.
    protected: Option<&'static str>,
    done: bool,
}

/// The built-in users.
pub(crate) struct Locals {
    echo: UserAgent,
    inbox: UserAgent,
    digits: UserAgent,
    own: BTreeMap<u32, Own>,
    next: u32,
}

fn user_agent(id: u32, user: &str, domain: &str, seed: Seed) -> UserAgent {
    let config = UaConfig {
        user: user.to_owned(),
        domain: domain.to_owned(),
        password: None,
        flow: Flow::Local(id),
        sent_by: SentBy { host: BUILT_IN.into(), port: None },
        expires: 3_600,
    };
    UserAgent::new(config, seed)
}

impl Locals {
    pub(crate) fn new(seed: Seed, _now: Time) -> Self {
        let mut rng = seed.rng();
        Locals {
            echo: user_agent(ECHO, "echo", BUILT_IN, Seed::child_of(&mut rng)),
            inbox: user_agent(INBOX, "inbox", BUILT_IN, Seed::child_of(&mut rng)),
            digits: user_agent(DIGITS, "digits", BUILT_IN, Seed::child_of(&mut rng)),
            own: BTreeMap::new(),
            next: FIRST_OWN,
        }
    }

    fn all(&mut self) -> impl Iterator<Item = (u32, &mut UserAgent)> {
        let own = self.own.iter_mut().map(|(id, own)| (*id, &mut own.ua));
        let built_in = [(ECHO, &mut self.echo), (INBOX, &mut self.inbox), (DIGITS, &mut self.digits)];
        built_in.into_iter().chain(own)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let own = self.own.values().map(|o| &o.ua);
        [&self.echo, &self.inbox, &self.digits]
            .into_iter()
            .chain(own)
            .filter_map(|ua| ua.poll_timeout().map(|(at, _)| at))
            .min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        for (_, ua) in self.all() {
            if ua.poll_timeout().is_some_and(|(at, _)| at <= now) {
                ua.handle_timeout(now);
            }
        }
        self.own.retain(|_, own| !own.done || own.ua.poll_timeout().is_some());
    }

    pub(crate) fn handle_message(&mut self, now: Time, id: u32, bytes: &[u8]) {
        if let Some((_, ua)) = self.all().find(|(i, _)| *i == id) {
            ua.handle_message(now, Flow::Local(id), bytes);
        }
    }

    /// A message of this user agent goes to other peers, protected so.
    pub(crate) fn note_protection(&mut self, id: u32, protected: &'static str) {
        self.own.get_mut(&id).into_iter().for_each(|own| own.protected = Some(protected));
    }

    /// The command that a call of this user agent serves.
    pub(crate) fn op_of(&self, id: u32) -> Option<OpId> {
        self.own.get(&id).map(|own| own.op)
    }
}

impl Node {
    /// Calls somebody from here, as a user of this peer. The outcome comes when the call has ended.
    pub fn call(&mut self, now: Time, from: &str, to: &str, options: CallOptions) -> OpId {
        let op = self.new_op();
        let Some(id) = self.new_own(now, op, from, true) else { return op };
        let source = match options.play {
            Some(samples) => Source::Samples { samples, repeat: false },
            None => Source::Tone(440.0),
        };
        let talker = Talker { source, record: options.record };
        self.phones.plane.talkers.insert(id, talker);
        let to = canonical_aor(to, &self.default_domain());
        let own = self.phones.locals.own.get_mut(&id).expect("made above");
        own.duration = options.duration;
        let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
        own.handle = Some(own.ua.invite(now, &to, g711_sdp(nowhere)));
        self.drain(now);
        op
    }

    /// Ends a call that `call` began.
    pub fn hang_up(&mut self, now: Time, op: OpId) {
        self.hang_up_op(now, op);
        self.drain(now);
    }

    /// Sends a text message as a user of this peer.
    pub fn message(&mut self, now: Time, from: &str, to: &str, text: &str) -> OpId {
        let op = self.new_op();
        let Some(id) = self.new_own(now, op, from, false) else { return op };
        let to = canonical_aor(to, &self.default_domain());
        let own = self.phones.locals.own.get_mut(&id).expect("made above");
        own.handle = Some(own.ua.message(now, &to, "text/plain", text.as_bytes()));
        self.drain(now);
        op
    }

    /// Whom a name means that every peer has, called by one of its phones: `echo`, or who says to the phone the
    /// digits of the call it holds. The error is what to tell it, under [`NO_DIGITS`].
    pub(crate) fn built_in(&mut self, user: &str, source: Flow) -> Option<Result<u32, &'static str>> {
        match user {
            "echo" => Some(Ok(ECHO)),
            DIGITS_CODE if !matches!(source, Flow::Peer(_)) => {
                let phones = &mut *self.phones;
                let all: Vec<String> =
                    phones.calls.of_phone(source).filter_map(|call| phones.plane.digits(call)).collect();
                let digits = match &all[..] {
                    [] => return Some(Err("No call with digits: hold one with somebody at another peer")),
                    [digits] if digits.bytes().all(|b| b.is_ascii_digit()) => digits,
                    [_] => return Some(Err("Mismatch: somebody may stand between the two of you")),
                    _ => return Some(Err("Several calls have digits: keep the one you mean")),
                };
                let source = Source::Samples { samples: media::voice::digits(digits), repeat: true };
                phones.plane.talkers.insert(DIGITS, Talker { source, record: false });
                Some(Ok(DIGITS))
            }
            _ => None,
        }
    }

    /// A user agent for one call or message.
    fn new_own(&mut self, now: Time, op: OpId, from: &str, is_call: bool) -> Option<u32> {
        if self.phones.locals.own.len() >= MAX_OWN {
            self.failed(op, 503, "too many calls and messages at once");
            return None;
        }
        let from = canonical_aor(from, &self.default_domain());
        let (user, domain) = from.split_once('@').unwrap_or((&from, "local"));
        let id = self.phones.locals.next;
        self.phones.locals.next = id.checked_add(1).unwrap_or(FIRST_OWN);
        let ua = user_agent(id, user, domain, Seed::child_of(&mut self.rng));
        let own =
            Own { ua, op, handle: None, duration: None, started: now, is_call, protected: None, done: false };
        self.phones.locals.own.insert(id, own);
        Some(id)
    }

    /// Carries what built-in users say to the agent; `true` if there was anything.
    pub(crate) fn drain_locals(&mut self, now: Time) -> bool {
        let mut messages = Vec::new();
        let mut events = Vec::new();
        for (id, ua) in self.phones.locals.all() {
            while let Some((_, bytes)) = ua.poll_transmit() {
                messages.push((id, bytes));
            }
            while let Some(event) = ua.poll_event() {
                events.push((id, event));
            }
        }
        let busy = !messages.is_empty() || !events.is_empty();
        for (id, bytes) in messages {
            let phones = &mut *self.phones;
            phones.agent.handle_message(now, Flow::Local(id), &bytes, &mut phones.plane);
        }
        for (id, event) in events {
            self.handle_local_event(now, id, event);
        }
        busy
    }

    fn handle_local_event(&mut self, now: Time, id: u32, event: UaEvent) {
        match event {
            UaEvent::Incoming { handle, offer, .. } if id == ECHO => {
                // Whatever codec is offered comes back as it came.
                let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
                let sdp = offer.unwrap_or_else(|| g711_sdp(nowhere));
                self.phones.locals.echo.answer(now, handle, sdp);
            }
            UaEvent::Incoming { handle, offer, .. } if id == DIGITS => {
                let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
                let digits = &mut self.phones.locals.digits;
                match offer.map_or_else(|| Some(g711_sdp(nowhere)), |offer| ua::sdp::answer(&offer, nowhere))
                {
                    Some(sdp) => digits.answer(now, handle, sdp),
                    None => digits.reject(now, handle, 488, ""),
                }
            }
            UaEvent::Incoming { handle, .. } if id == INBOX => {
                self.phones.locals.inbox.reject(now, handle, 480, "");
            }
            UaEvent::MessageReceived { from, body, .. } if id == ECHO => {
                self.phones.locals.echo.message(now, &from, "text/plain", &body);
            }
            UaEvent::MessageReceived { from, display, to, id, protected, body, .. } => {
                let message = InboxMessage {
                    message_id: id,
                    from,
                    to,
                    text: String::from_utf8_lossy(&body).into_owned(),
                    time: self.unix(now).0,
                    state: "delivered".into(),
                    protected: protected.unwrap_or_else(|| LOCAL.into()),
                    key_changed: display.contains(MARK),
                };
                self.keep_message(message);
            }
            UaEvent::MessageResult { status, reason, .. } => self.message_answered(now, id, status, reason),
            // Nobody is moved by a transfer: a built-in user stays where it is, and says so.
            UaEvent::Referred { handle, .. } => {
                if let Some((_, ua)) = self.phones.locals.all().find(|(i, _)| *i == id) {
                    ua.refer_progress(now, handle, 603, "");
                }
            }
            UaEvent::Failed { .. } | UaEvent::Ended { .. } => {
                // The agent tells the same with more detail; see `finish_call_op`.
            }
            _ => {}
        }
    }

    fn keep_message(&mut self, message: InboxMessage) {
        if self.phones.inbox.len() >= self.config.inbox_limit.max(1) {
            self.phones.inbox.pop_front();
        }
        self.phones.inbox.push_back(message.clone());
        self.emit(Event::Inbox(message));
        self.emit(Event::Save);
    }

    fn message_answered(&mut self, now: Time, id: u32, status: u16, reason: String) {
        let Some(own) = self.phones.locals.own.get_mut(&id) else { return };
        own.done = true;
        let delivered = (200..300).contains(&status);
        let report = MessageReport {
            message_id: format!("{:x}", own.op.0),
            state: if delivered { "delivered" } else { "failed" }.into(),
            protected: if delivered { own.protected.unwrap_or(LOCAL) } else { "" }.into(),
            reason: if delivered { String::new() } else { format!("{status} {reason}") },
            time_ms: now.since(own.started).as_secs_f64() * 1e3,
            status,
        };
        let op = own.op;
        self.done(op, Outcome::Message(report));
    }

    /// A call has been answered: a time limit begins to run.
    pub(crate) fn limit_call(&mut self, now: Time, call: sip::CallId) {
        let op = self.phones.calls.live.get(&call).and_then(|c| c.op);
        let own = self.phones.locals.own.values().find(|o| Some(o.op) == op && o.is_call);
        if let Some((op, duration)) = own.and_then(|o| Some((o.op, o.duration?))) {
            self.timers.set(Alarm::CallLimit(op), now + duration);
        }
    }

    /// A call of the command line has ended.
    pub(crate) fn finish_call_op(&mut self, _now: Time, op: OpId, report: CallReport) {
        let id = self.phones.locals.own.iter().find(|(_, o)| o.op == op).map(|(id, _)| *id);
        if let Some(id) = id {
            self.phones.plane.talkers.remove(&id);
            if let Some(own) = self.phones.locals.own.get_mut(&id) {
                own.done = true;
            }
            self.timers.cancel(Alarm::CallLimit(op));
            self.done(op, Outcome::Call(report));
        }
    }

    pub(crate) fn hang_up_op(&mut self, now: Time, op: OpId) {
        let own = self.phones.locals.own.values_mut().find(|o| o.op == op && o.is_call);
        if let Some((own, handle)) = own.and_then(|o| o.handle.map(|h| (o, h))) {
            own.ua.hang_up(now, handle);
        }
    }

    /// Ends every call: the peer shuts down.
    pub(crate) fn end_all_calls(&mut self, now: Time, why: &str) {
        let calls: Vec<sip::CallId> = self.phones.calls.live.keys().copied().collect();
        for call in calls {
            let phones = &mut *self.phones;
            phones.agent.hang_up(now, call, 480, why, &mut phones.plane);
        }
    }
}
