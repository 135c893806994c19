//! A small world: agents that are peers of each other, phones that do what they are told, and a
//! network that loses datagrams.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use wire::seed::RngExt;
use wire::sip::digest::Challenge;
use wire::sip::{self, Message, Method, NameAddr, Uri, percent_decode};
use wire::{ConnectionId, HashAlgorithm, NodeId, Rng, Seed, Time};

use crate::dialog::Dialog;
use crate::transaction::{ClientId, Incoming, SentBy, ServerId, Transactions};
use crate::{Agent, Config, Event, Flow, RequestId, Target, Unchanged};

pub(super) const DOMAIN: &str = "home.example";

pub(super) fn sdp(who: &str) -> Vec<u8> {
    format!("v=0\r\no={who} 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n").into()
}

/// Who made a description, by its o= line.
pub(super) fn author(sdp: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(sdp).ok()?;
    Some(text.split("o=").nth(1)?.split(' ').next()?.to_owned())
}

/// One conversation of a phone.
pub(super) struct Talk {
    pub(super) dialog: Dialog,
    /// Whose sound it would hear: the author of the last description received.
    pub(super) hears: Option<String>,
    pub(super) over: bool,
    /// The ACK of our own 2xx came.
    pub(super) acknowledged: bool,
    ack: Option<Vec<u8>>,
}

/// A call that rings here.
pub(super) struct Ringing {
    pub(super) server: ServerId,
    pub(super) invite: Message,
    pub(super) tag: String,
    pub(super) over: bool,
}

/// What a phone does by itself when it is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    Ring,
    Answer,
    Refuse(u16),
    Silent,
}

pub(super) struct Phone {
    pub(super) name: String,
    pub(super) password: String,
    pub(super) here: SocketAddr,
    /// The agent as the phone sees it.
    pub(super) flow: Flow,
    pub(super) agent: usize,
    pub(super) habit: Habit,
    pub(super) tx: Transactions,
    pub(super) by: SentBy,
    pub(super) ringing: Vec<Ringing>,
    pub(super) talks: Vec<Talk>,
    /// Everything that came and was not a retransmission.
    pub(super) seen: Vec<Message>,
    /// Whether an ACK to an answer carries the description, because the INVITE had none.
    pub(super) late_offer: bool,
    pub(super) expires: u32,
    calls: BTreeMap<ClientId, Message>,
    registering: BTreeMap<ClientId, (Message, u32)>,
    transfer: Option<(usize, ClientId)>,
    cseq: u32,
    call_id: String,
}

impl Phone {
    pub(super) fn statuses(&self, method: &Method) -> Vec<u16> {
        let of = |m: &&Message| !m.is_request() && m.cseq().is_some_and(|c| c.method == *method);
        self.seen.iter().filter(of).map(Message::status).collect()
    }

    pub(super) fn got(&self, method: &Method) -> Vec<&Message> {
        self.seen.iter().filter(|m| m.is(method)).collect()
    }

    pub(super) fn last_talk(&self) -> &Talk {
        self.talks.last().expect("a talk")
    }

    pub(super) fn contact(&self) -> String {
        let tcp = if self.flow.is_reliable() { ";transport=tcp" } else { "" };
        format!("<sip:{}@{}{tcp}>", self.name, self.here)
    }

    fn host(&self) -> String {
        self.flow.remote().expect("a phone's flow").to_string()
    }

    /// A request outside any dialog.
    pub(super) fn fresh(&mut self, method: Method, uri: &str) -> Message {
        self.cseq += 1;
        let from = format!("\"{}\" <sip:{}@{}>;tag={}", self.name, self.name, self.host(), self.tx.token());
        Message::request(method.clone(), uri)
            .with("Max-Forwards", "70")
            .with("From", from)
            .with("To", format!("<{uri}>"))
            .with("Call-ID", self.tx.token())
            .with("CSeq", format!("{} {method}", self.cseq))
            .with("User-Agent", "scripted")
            .with("Contact", self.contact())
    }

    pub(super) fn send(&mut self, now: Time, message: Message) -> ClientId {
        self.tx.request(now, self.flow, message, &self.by.clone())
    }

    pub(super) fn register(&mut self, now: Time) -> ClientId {
        let uri = format!("sip:{}", self.host());
        let mut request = self.fresh(Method::Register, &uri);
        let aor = format!("<sip:{}@{}>", self.name, self.host());
        request.set("To", &aor);
        request.set("From", format!("{aor};tag=r"));
        request.set("Call-ID", &self.call_id);
        request.set("Expires", self.expires.to_string());
        let id = self.send(now, request.clone());
        self.registering.insert(id, (request, 0));
        id
    }

    fn challenged(&mut self, now: Time, id: ClientId, response: &Message) {
        let Some((mut request, tries)) = self.registering.remove(&id) else {
            return;
        };
        let Some(value) = response.header("WWW-Authenticate") else {
            return;
        };
        if response.status() != 401 || tries > 0 && !value.contains("stale=true") {
            return;
        }
        let challenge = Challenge::parse(value).expect("a challenge");
        let uri = request.uri().to_owned();
        let answer = challenge.answer(&self.name, &self.password, "REGISTER", &uri, "c0ffee");
        self.cseq += 1;
        request.set("CSeq", format!("{} REGISTER", self.cseq));
        request.set("Authorization", answer.to_value());
        let id = self.send(now, request.clone());
        self.registering.insert(id, (request, tries + 1));
    }

    pub(super) fn dial(&mut self, now: Time, whom: &str, extra: &[(&str, &str)]) -> ClientId {
        let uri = if whom.contains(':') { whom.to_owned() } else { format!("sip:{whom}@{}", self.host()) };
        let mut invite = self.fresh(Method::Invite, &uri);
        for (name, value) in extra {
            invite.set(name, value);
        }
        if !self.late_offer {
            invite = invite.with_body("application/sdp", sdp(&self.name));
        }
        let id = self.send(now, invite.clone());
        self.calls.insert(id, invite);
        id
    }

    pub(super) fn cancel(&mut self, now: Time, id: ClientId) {
        self.tx.cancel(now, id, None);
    }

    fn as_callee(&self, invite: &Message, tag: &str) -> Dialog {
        Dialog {
            flow: self.flow,
            call_id: invite.call_id().to_owned(),
            local: invite.to().expect("To").with_tag(tag),
            remote: invite.from().expect("From"),
            target: invite.contact().expect("Contact").uri,
            routes: invite.headers_named("Record-Route").map(str::to_owned).collect(),
            local_cseq: 100,
            remote_cseq: None,
            invite_cseq: 0,
            contact: self.contact(),
            unacknowledged: None,
            answered: None,
            peer: String::new(),
        }
    }

    fn as_caller(&self, invite: &Message, response: &Message) -> Dialog {
        Dialog {
            local: invite.from().expect("From"),
            remote: response.to().expect("To"),
            target: response.contact().expect("Contact in a 2xx").uri,
            local_cseq: invite.cseq().expect("CSeq").number,
            ..self.as_callee(invite, "")
        }
    }

    /// Answers what has rung longest.
    pub(super) fn answer(&mut self, now: Time) {
        let at = self.ringing.iter().position(|r| !r.over).expect("something rings");
        self.answer_at(now, at);
    }

    fn answer_at(&mut self, now: Time, at: usize) {
        let (invite, tag, server) = {
            let r = &mut self.ringing[at];
            r.over = true;
            (r.invite.clone(), r.tag.clone(), r.server)
        };
        let mut ok = Message::reply_to(&invite, 200, "").with("Contact", self.contact());
        ok.set_to_tag(&tag);
        let ok = ok.with_body("application/sdp", sdp(&self.name));
        self.tx.respond(now, server, &ok);
        let dialog = self.as_callee(&invite, &tag);
        let hears = author(&invite.body);
        self.talks.push(Talk { dialog, hears, over: false, acknowledged: false, ack: None });
    }

    pub(super) fn refuse(&mut self, now: Time, status: u16) {
        if let Some(r) = self.ringing.iter_mut().find(|r| !r.over) {
            r.over = true;
            let mut no = Message::reply_to(&r.invite, status, "");
            no.set_to_tag(&r.tag.clone());
            self.tx.respond(now, r.server, &no);
        }
    }

    /// Sends a request within the last talk.
    pub(super) fn within(
        &mut self,
        now: Time,
        method: Method,
        edit: impl FnOnce(Message) -> Message,
    ) -> ClientId {
        let at = self.talks.iter().rposition(|t| !t.over).expect("a talk");
        self.within_talk(now, at, method, edit)
    }

    pub(super) fn within_talk(
        &mut self,
        now: Time,
        at: usize,
        method: Method,
        edit: impl FnOnce(Message) -> Message,
    ) -> ClientId {
        let request = edit(self.talks[at].dialog.request(method.clone()));
        let id = self.send(now, request.clone());
        if method == Method::Invite {
            self.calls.insert(id, request);
        }
        id
    }

    pub(super) fn hang_up(&mut self, now: Time) {
        let at = self.talks.iter().rposition(|t| !t.over).expect("a talk");
        self.talks[at].over = true;
        self.within_talk(now, at, Method::Bye, |m| m);
    }

    fn talk_of(&mut self, message: &Message, ours_in_to: bool) -> Option<usize> {
        let (to, from) = (message.to_tag()?, message.from_tag()?);
        let (ours, theirs) = if ours_in_to { (to, from) } else { (from, to) };
        self.talks.iter().position(|t| {
            t.dialog.call_id == message.call_id()
                && t.dialog.local_tag() == ours
                && t.dialog.remote_tag() == theirs
        })
    }

    fn receive(&mut self, now: Time, flow: Flow, bytes: &[u8]) {
        let Ok(message) = sip::parse(bytes) else {
            return;
        };
        match self.tx.receive(now, flow, message) {
            Incoming::Request { id, message } => {
                self.seen.push(message.clone());
                self.request(now, id, message);
            }
            Incoming::Cancel { invite, message } => {
                self.seen.push(message);
                if let Some(r) = self.ringing.iter_mut().find(|r| r.server == invite) {
                    r.over = true;
                    let mut no = Message::reply_to(&r.invite, 487, "");
                    no.set_to_tag(&r.tag.clone());
                    self.tx.respond(now, invite, &no);
                }
            }
            Incoming::Ack(message) => self.acked(message),
            Incoming::Response { id, message } => {
                let repeated = message.status() >= 200 && self.seen.contains(&message);
                if !repeated {
                    self.seen.push(message.clone());
                }
                self.response(now, id, message);
            }
            Incoming::Absorbed => {}
        }
    }

    fn acked(&mut self, ack: Message) {
        if let Some(at) = self.talk_of(&ack, true) {
            self.talks[at].acknowledged = true;
            if let Some(who) = author(&ack.body) {
                self.talks[at].hears = Some(who);
            }
            if let Some((_, server)) = self.talks[at].dialog.unacknowledged.take() {
                self.tx.acknowledge(server);
            }
            for r in &self.ringing {
                if r.invite.call_id() == ack.call_id() {
                    self.tx.acknowledge(r.server);
                }
            }
            self.seen.push(ack);
        }
    }

    fn request(&mut self, now: Time, id: ServerId, request: Message) {
        let ok = |m: &Message| Message::reply_to(m, 200, "");
        match request.method() {
            Some(Method::Invite) if request.to_tag().is_some() => {
                let Some(at) = self.talk_of(&request, true) else {
                    return;
                };
                let mut reply = ok(&request).with("Contact", self.contact());
                reply = reply.with_body("application/sdp", sdp(&self.name));
                if let Some(who) = author(&request.body) {
                    self.talks[at].hears = Some(who);
                }
                self.talks[at].dialog.unacknowledged = Some((0, id));
                self.tx.respond(now, id, &reply);
            }
            Some(Method::Invite) => self.called(now, id, request),
            Some(Method::Bye) => {
                if let Some(at) = self.talk_of(&request, true) {
                    self.talks[at].over = true;
                }
                self.tx.respond(now, id, &ok(&request));
            }
            Some(Method::Refer) => {
                self.tx.respond(now, id, &Message::reply_to(&request, 202, ""));
                self.transfer(now, &request);
            }
            _ => {
                let mut reply = ok(&request);
                if reply.to_tag().is_none() {
                    reply.set_to_tag("t");
                }
                self.tx.respond(now, id, &reply);
            }
        }
    }

    fn called(&mut self, now: Time, id: ServerId, invite: Message) {
        let tag = self.tx.token();
        let mut ring = Message::reply_to(&invite, 180, "").with("Contact", self.contact());
        ring.set_to_tag(&tag);
        let replaced = invite.header("Replaces").map(str::to_owned);
        let known = replaced.as_ref().map(|r| {
            self.talks.iter().position(|t| {
                let d = &t.dialog;
                *r == format!("{};to-tag={};from-tag={}", d.call_id, d.local_tag(), d.remote_tag())
            })
        });
        self.ringing.push(Ringing { server: id, invite, tag, over: false });
        let at = self.ringing.len() - 1;
        match known {
            Some(None) => return self.refuse(now, 481),
            Some(Some(old)) => {
                self.answer_at(now, at);
                self.talks[old].over = true;
                self.within_talk(now, old, Method::Bye, |m| m);
                return;
            }
            None => {}
        }
        match self.habit {
            Habit::Silent => {}
            Habit::Refuse(status) => self.refuse(now, status),
            Habit::Ring => self.tx.respond(now, id, &ring),
            Habit::Answer => {
                self.tx.respond(now, id, &ring);
                self.answer_at(now, at);
            }
        }
    }

    /// Does what a REFER asks for and tells how it went.
    fn transfer(&mut self, now: Time, refer: &Message) {
        let Some(talk) = self.talk_of(refer, true) else {
            return;
        };
        let to = NameAddr::parse(refer.header("Refer-To").expect("Refer-To")).expect("an address");
        let mut uri = Uri::parse(&to.uri).expect("a URI");
        let replaces = uri
            .headers
            .take()
            .and_then(|h| h.split('&').find_map(|f| f.strip_prefix("Replaces=").map(percent_decode)));
        let extra: Vec<(&str, &str)> = replaces.iter().map(|r| ("Replaces", r.as_str())).collect();
        self.notify(now, talk, "SIP/2.0 100 Trying", "active");
        let id = self.dial(now, &uri.to_string(), &extra);
        self.transfer = Some((talk, id));
    }

    fn notify(&mut self, now: Time, talk: usize, frag: &str, state: &str) {
        let (frag, state) = (frag.to_owned(), state.to_owned());
        self.within_talk(now, talk, Method::Notify, |m| {
            m.with("Event", "refer").with("Subscription-State", state).with_body("message/sipfrag", frag)
        });
    }

    fn response(&mut self, now: Time, id: ClientId, response: Message) {
        if response.status() < 200 {
            return;
        }
        self.challenged(now, id, &response);
        if let Some((talk, _)) = self.transfer.filter(|(_, call)| *call == id) {
            self.transfer = None;
            let frag = format!("SIP/2.0 {} {}", response.status(), response.reason());
            self.notify(now, talk, &frag, "terminated");
        }
        let Some(invite) = self.calls.get(&id).cloned() else {
            return;
        };
        if !(200..300).contains(&response.status()) {
            return;
        }
        let at = match self.talk_of(&response, false) {
            Some(at) => at,
            None => {
                let dialog = self.as_caller(&invite, &response);
                self.talks.push(Talk { dialog, hears: None, over: false, acknowledged: true, ack: None });
                self.talks.len() - 1
            }
        };
        if let Some(who) = author(&response.body) {
            self.talks[at].hears = Some(who);
        }
        let number = response.cseq().expect("CSeq").number;
        let mut ack = self.talks[at].dialog.request_numbered(Method::Ack, number);
        ack.push_via(&self.tx.fresh_via(&self.flow, &self.by));
        if invite.body.is_empty() {
            ack = ack.with_body("application/sdp", sdp(&self.name));
        }
        self.talks[at].ack = Some(ack.to_bytes());
        self.tx.send(self.flow, ack.to_bytes());
    }
}

#[derive(Clone)]
enum Place {
    Agent(usize),
    Phone(usize),
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) agents: Vec<Agent>,
    pub(super) phones: Vec<Phone>,
    pub(super) events: Vec<(usize, Event)>,
    /// Share of UDP datagrams lost.
    pub(super) loss: f64,
    /// Leaves `Route` events to the test.
    pub(super) manual: bool,
    /// Agents nothing reaches any more.
    pub(super) dead: Vec<usize>,
    rng: Rng,
    seq: u64,
    queue: BTreeMap<(Time, u64), (Place, Flow, Vec<u8>)>,
    connections: u64,
}

pub(super) fn node(agent: usize) -> NodeId {
    NodeId(HashAlgorithm::Sha256.digest(&[agent as u8]))
}

pub(super) fn agent_address(agent: usize) -> SocketAddr {
    format!("192.168.{agent}.1:5060").parse().unwrap()
}

pub(super) fn config(agent: usize) -> Config {
    Config {
        domain: DOMAIN.into(),
        aliases: Vec::new(),
        udp: agent_address(agent),
        tcp: agent_address(agent),
        tls: agent_address(agent),
        server: "openvoip".into(),
        phones_from: ["0.0.0.0/0".parse().unwrap()].into(),
    }
}

impl World {
    pub(super) fn new(agents: usize) -> World {
        let mut rng = Seed::from_number(42).rng();
        let agent = |n: usize, rng: &mut Rng| Agent::new(config(n), Seed::child_of(rng));
        World {
            now: Time::from_secs(1),
            agents: (0..agents).map(|n| agent(n, &mut rng)).collect(),
            phones: Vec::new(),
            events: Vec::new(),
            loss: 0.0,
            manual: false,
            dead: Vec::new(),
            rng,
            seq: 0,
            queue: BTreeMap::new(),
            connections: 0,
        }
    }

    /// A phone of `name`, known to its agent, not registered yet.
    pub(super) fn phone(&mut self, agent: usize, name: &str, tcp: bool) -> usize {
        self.agents[agent].add_user(&format!("{name}@{DOMAIN}"), "secret");
        let number = self.phones.len();
        let here: SocketAddr = format!("192.168.{agent}.{}:5060", 10 + number).parse().unwrap();
        self.connections += 1;
        let flow = match tcp {
            true => Flow::Stream(ConnectionId(self.connections), agent_address(agent)),
            false => Flow::Udp(agent_address(agent)),
        };
        let mut tx = Transactions::new(Seed::child_of(&mut self.rng));
        self.phones.push(Phone {
            name: name.into(),
            password: "secret".into(),
            here,
            flow,
            agent,
            habit: Habit::Ring,
            by: SentBy { host: here.ip().to_string(), port: Some(here.port()) },
            ringing: Vec::new(),
            talks: Vec::new(),
            seen: Vec::new(),
            late_offer: false,
            expires: 600,
            calls: BTreeMap::new(),
            registering: BTreeMap::new(),
            transfer: None,
            cseq: 0,
            call_id: tx.token(),
            tx,
        });
        number
    }

    /// A registered phone.
    pub(super) fn registered(&mut self, agent: usize, name: &str) -> usize {
        let phone = self.phone(agent, name, false);
        self.phones[phone].register(self.now);
        self.run(5.0);
        assert!(self.phones[phone].statuses(&Method::Register).contains(&200), "{name} registered");
        phone
    }

    /// The phone's side of its flow as the agent sees it.
    pub(super) fn flow_of(&self, phone: usize) -> Flow {
        let p = &self.phones[phone];
        match p.flow {
            Flow::Stream(connection, _) => Flow::Stream(connection, p.here),
            _ => Flow::Udp(p.here),
        }
    }

    fn post(&mut self, to: Place, flow: Flow, bytes: Vec<u8>) {
        let lossy = matches!(flow, Flow::Udp(_));
        if lossy && self.loss > 0.0 && self.rng.random_bool(self.loss) {
            return;
        }
        self.seq += 1;
        let at = self.now + Duration::from_millis(5);
        self.queue.insert((at, self.seq), (to, flow, bytes));
    }

    fn collect(&mut self) {
        for n in 0..self.agents.len() {
            while let Some((flow, bytes)) = self.agents[n].poll_transmit() {
                match flow {
                    Flow::Peer(to) => {
                        let other = (0..self.agents.len()).find(|o| node(*o) == to);
                        if let Some(other) = other.filter(|o| !self.dead.contains(o)) {
                            self.post(Place::Agent(other), Flow::Peer(node(n)), bytes);
                        }
                    }
                    _ => {
                        let found = (0..self.phones.len()).find(|p| self.flow_of(*p) == flow);
                        if let Some(phone) = found {
                            let flow = self.phones[phone].flow;
                            self.post(Place::Phone(phone), flow, bytes);
                        }
                    }
                }
            }
            let mut events = VecDeque::new();
            while let Some(event) = self.agents[n].poll_event() {
                events.push_back(event);
            }
            for event in events {
                self.events.push((n, event.clone()));
                if let Event::Route { request, to, .. } = event
                    && !self.manual
                {
                    self.route(n, request, &to);
                }
            }
        }
        for p in 0..self.phones.len() {
            while self.phones[p].tx.poll_event().is_some() {}
            while let Some((_, bytes)) = self.phones[p].tx.poll_transmit() {
                let (agent, flow) = (self.phones[p].agent, self.flow_of(p));
                if !self.dead.contains(&agent) {
                    self.post(Place::Agent(agent), flow, bytes);
                }
            }
        }
    }

    fn route(&mut self, n: usize, request: RequestId, to: &str) {
        let owner = (0..self.agents.len()).find(|a| self.agents[*a].users().any(|u| u == to));
        let targets = match owner {
            Some(owner) if owner == n => vec![Target::User(to.into())],
            Some(owner) => vec![Target::Peer { node: node(owner), user: to.into() }],
            None => Vec::new(),
        };
        self.agents[n].route(self.now, request, targets, &mut Unchanged);
    }

    fn next(&self) -> Option<Time> {
        let agents = self.agents.iter().filter_map(|a| a.poll_timeout()).map(|(t, _)| t);
        let phones = self.phones.iter().filter_map(|p| p.tx.poll_timeout()).map(|(t, _)| t);
        let queue = self.queue.keys().next().map(|(t, _)| *t);
        agents.chain(phones).chain(queue).min()
    }

    /// Lets so many seconds pass.
    pub(super) fn run(&mut self, seconds: f64) {
        let end = self.now + Duration::from_secs_f64(seconds);
        self.collect_all();
        while let Some(at) = self.next().filter(|at| *at <= end) {
            assert!(at >= self.now, "time runs forward");
            self.now = at;
            while let Some(entry) = self.queue.first_entry().filter(|e| e.key().0 <= at) {
                let (place, flow, bytes) = entry.remove();
                match place {
                    Place::Agent(a) => {
                        self.agents[a].handle_message(at, flow, &bytes, &mut Unchanged);
                    }
                    Place::Phone(p) => self.phones[p].receive(at, flow, &bytes),
                }
            }
            for agent in &mut self.agents {
                agent.handle_timeout(at, &mut Unchanged);
                assert!(agent.poll_timeout().is_none_or(|(next, _)| next > at), "timeouts advance");
            }
            for phone in &mut self.phones {
                phone.tx.handle_timeout(at);
            }
            self.collect_all();
        }
        self.now = end;
    }

    fn collect_all(&mut self) {
        // Answering a Route makes new messages, hence twice.
        self.collect();
        self.collect();
    }

    pub(super) fn inject(&mut self, agent: usize, flow: Flow, bytes: &[u8]) {
        self.agents[agent].handle_message(self.now, flow, bytes, &mut Unchanged);
    }

    /// Why the calls through that agent ended, in order.
    pub(super) fn ends(&self, agent: usize) -> Vec<(crate::Cause, u16)> {
        let ended = |e: &(usize, Event)| match e {
            (a, Event::Ended { cause, status, .. }) if *a == agent => Some((*cause, *status)),
            _ => None,
        };
        self.events.iter().filter_map(ended).collect()
    }

    /// Lets everything that lingers pass and sees that nothing is left.
    pub(super) fn nothing_is_left(&mut self) {
        self.run(400.0);
        for agent in &self.agents {
            assert_eq!(agent.remembered(), (0, 0));
            assert!(agent.transactions.holds_nothing());
            assert_eq!(agent.live_calls(), 0);
            assert!(agent.served.is_empty() && agent.asked.is_empty(), "no reference is left");
            assert!(agent.dialogs.is_empty() && agent.waiting.is_empty());
        }
    }
}
