//! Phones at this peer, and SIP from other peers: what the agent wants, node by node.
//!
//! An INVITE's way: a phone sends it, the agent answers 100 and asks for a route; if the callee is
//! served here it goes to their phones, else the directory finds their peers and it goes there in a
//! Tunnel. At the other peer it arrives as SIP from a peer, asks for a route again, and rings.

use std::cell::OnceCell;
use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use sip::{Agent, Flow, LockOut, Prefix, RequestId, Target};
use wire::domain::{Word, domain_of};
use wire::sdp::dtls::Fingerprint;
use wire::{ConnectionId, NodeId, Profile, Seed, Socket, Time, Transmit};

use crate::call::{Call, CallState, Calls, KEY_CHANGED, MISTYPED, NOT_CERTIFIED, NOT_PROVEN};
use crate::config::{Config, Saved};
use crate::directory::{Resolved, ResolvedFor, UNPROVEN, canonical_aor};
use crate::domains::why_not;
use crate::event::{Event, Level};
use crate::locals::{DIGITS, ECHO, INBOX, Locals, NO_DIGITS};
use crate::networks::NetworkRules;
use crate::node::Node;
use crate::pins::short;
use crate::plane::{DtlsPolicy, EndToEndPolicy, HandshakeKeys, Plane, Policies, SdesPolicy};
use crate::report::{CallReport, InboxMessage, LockOutStatus, PhoneStatus};

/// Most addresses for sound; beyond it those are forgotten whose contacts are, which are bounded.
const MAX_MET: usize = 4_096;

/// What is said of a number under which no key stands that makes it.
const NOBODY: &str =
    "Nobody here has that number: they may have been away for hours, or be in another overlay";

/// Everything that concerns phones and calls.
pub(crate) struct Phones {
    pub(crate) agent: Agent,
    pub(crate) plane: Plane,
    pub(crate) calls: Calls,
    pub(crate) locals: Locals,
    pub(crate) inbox: VecDeque<InboxMessage>,
    /// Peers that were asked whether they live and have not answered yet.
    asked: BTreeSet<NodeId>,
    /// Whether ports for sound are worth keeping ready.
    has_phones: bool,
    /// Ports asked for and not given yet.
    ports_asked_for: usize,
}

/// What phones and calls need once there are any.
struct Recipe {
    seed: Seed,
    /// What a phone means by a bare name, or by one at our address: the home of our users.
    domain: Box<str>,
    sip: SocketAddr,
    sips: SocketAddr,
    phones_from: Arc<[Prefix]>,
    phone_ip: IpAddr,
    listen: SocketAddr,
    profile: Profile,
    sdes: SdesPolicy,
    dtls: DtlsPolicy,
    end_to_end: EndToEndPolicy,
    rare: Option<Box<Rare>>,
    now: Time,
}

/// What few of the many peers of a simulation have.
struct Rare {
    fingerprint: Option<Arc<Fingerprint>>,
    networks: Option<Arc<NetworkRules>>,
}

/// The phones of a peer, made when somebody first asks for them: a peer that only holds the overlay
/// up has none, and its agent, media plane and built-in users would be most of it.
pub(crate) struct LazyPhones {
    made: OnceCell<Box<Phones>>,
    recipe: Recipe,
}

impl LazyPhones {
    pub(crate) fn new(config: &Config, domain: String, seed: Seed, now: Time, saved: &Saved) -> Self {
        let phone_ip = config.phone_ip();
        let (sip, listen, profile) = (config.sip, config.listen, config.profile);
        let (sdes, dtls, end_to_end) = (config.sdes, config.dtls, config.end_to_end);
        let rare = Rare { fingerprint: config.fingerprint.clone(), networks: config.networks.clone() };
        let rare = (rare.fingerprint.is_some() || rare.networks.is_some()).then(|| Box::new(rare));
        let sips = config.sips.unwrap_or(sip);
        let phones_from = config.phones_from.clone();
        let recipe = Recipe {
            seed,
            domain: domain.into(),
            sip,
            sips,
            phones_from,
            phone_ip,
            listen,
            profile,
            sdes,
            dtls,
            end_to_end,
            rare,
            now,
        };
        let mut phones = LazyPhones { made: OnceCell::new(), recipe };
        if !saved.inbox.is_empty() {
            phones.inbox = saved.inbox.iter().cloned().collect();
        }
        phones
    }

    /// The phones, if anybody asked for them yet.
    pub(crate) fn made(&self) -> Option<&Phones> {
        self.made.get().map(|phones| &**phones)
    }

    fn set_sip(&mut self, sip: SocketAddr) {
        self.recipe.sip = sip;
        if let Some(phones) = self.made.get_mut() {
            phones.agent.set_sockets(sip, sip);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<(Time, &'static str)> {
        self.made()?.poll_timeout()
    }
}

/// Where phones may stand: where the owner says, else at home, and then in the network around an address of their
/// own choice too. A list of its own for each peer would be much where there are thousands, so there is none before
/// the first phone.
fn phones_from(from: &[Prefix], registrars: [IpAddr; 2]) -> impl Iterator<Item = Prefix> {
    let is_default = *from == *Prefix::at_home();
    let elsewhere =
        move |ip: &IpAddr| !ip.is_unspecified() && !from.iter().any(|prefix| prefix.contains(*ip));
    let around = registrars.into_iter().filter(move |ip| is_default && elsewhere(ip)).map(Prefix::around);
    from.iter().copied().chain(around)
}

impl Deref for LazyPhones {
    type Target = Phones;
    fn deref(&self) -> &Phones {
        self.made.get_or_init(|| Box::new(Phones::new(&self.recipe)))
    }
}

impl DerefMut for LazyPhones {
    fn deref_mut(&mut self) -> &mut Phones {
        let _: &Phones = Deref::deref(&*self);
        self.made.get_mut().expect("made on the line before")
    }
}

impl Phones {
    fn new(recipe: &Recipe) -> Self {
        let mut rng = recipe.seed.rng();
        let agent = sip::Config {
            domain: recipe.domain.to_ascii_lowercase(),
            aliases: Vec::new(),
            udp: recipe.sip,
            tcp: recipe.sip,
            tls: recipe.sips,
            server: concat!("OpenVoIP/", env!("CARGO_PKG_VERSION")).into(),
            phones_from: phones_from(&recipe.phones_from, [recipe.sip.ip(), recipe.sips.ip()]).collect(),
        };
        let [of_agent, of_plane, of_locals, of_keys] = std::array::from_fn(|_| Seed::child_of(&mut rng));
        let Recipe { phone_ip, listen, profile, sdes, dtls, end_to_end, .. } = *recipe;
        let rare = recipe.rare.as_ref();
        let fingerprint = rare.and_then(|rare| rare.fingerprint.as_deref().copied());
        let networks = rare.and_then(|rare| rare.networks.clone());
        let policies = Policies { sdes, dtls, end_to_end, fingerprint };
        Phones {
            agent: Agent::new(agent, of_agent),
            plane: Plane::new([of_plane, of_keys], phone_ip, listen, profile, (policies, networks)),
            calls: Calls::default(),
            locals: Locals::new(of_locals, recipe.now),
            inbox: VecDeque::new(),
            asked: BTreeSet::new(),
            has_phones: false,
            ports_asked_for: 0,
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<(Time, &'static str)> {
        [
            self.agent.poll_timeout(),
            self.plane.poll_timeout().map(|at| (at, "media")),
            self.locals.poll_timeout().map(|at| (at, "built-in user")),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }

    pub(crate) fn locked_out(&self, now: Time) -> Vec<LockOutStatus> {
        self.agent.locked_out(now).iter().map(locked_out).collect()
    }

    pub(crate) fn active_calls(&self) -> usize {
        self.calls.live.len()
    }

    pub(crate) fn registered(&self) -> Vec<PhoneStatus> {
        let phones_of = |user: &str| -> Vec<PhoneStatus> {
            let status = |contact: &str| PhoneStatus {
                user: user.to_owned(),
                contact: contact.to_owned(),
                online: true,
                number: None,
            };
            self.agent.phones(user).map(|(contact, _, _)| status(contact)).collect()
        };
        let mut phones = Vec::new();
        for user in self.agent.users() {
            let registered = phones_of(user);
            if registered.is_empty() {
                phones.push(PhoneStatus { user: user.to_owned(), ..PhoneStatus::default() });
            }
            phones.extend(registered);
        }
        phones
    }

    /// Peers through which calls go, each once.
    pub(crate) fn peers_in_calls(&self) -> BTreeSet<NodeId> {
        self.calls.live.values().flat_map(Call::peers).collect()
    }

    pub(crate) fn is_being_asked(&self, peer: &NodeId) -> bool {
        self.asked.contains(peer)
    }

    pub(crate) fn asked(&mut self, peer: NodeId) {
        self.asked.insert(peer);
        self.calls.live.values_mut().filter(|c| c.peers().any(|p| p == peer)).for_each(|c| c.recover(true));
    }

    pub(crate) fn not_asked(&mut self, peer: &NodeId) {
        if self.asked.remove(peer) {
            let of_peer = |c: &&mut Call| c.peers().any(|p| p == *peer);
            self.calls.live.values_mut().filter(of_peer).for_each(|c| c.recover(false));
        }
    }
}

impl Node {
    // ---- settings ------------------------------------------------------------------------------

    /// Lets a phone register as `user` with `password`.
    pub fn add_phone(&mut self, now: Time, user: &str, password: &str) {
        let aor = canonical_aor(user, &self.default_domain());
        self.phones.agent.add_user(&aor, password);
        self.phones.has_phones = true;
        self.drain(now);
    }

    /// Forgets a phone credential; registered phones of the user are dropped.
    pub fn remove_phone(&mut self, now: Time, user: &str) {
        let aor = canonical_aor(user, &self.default_domain());
        self.phones.agent.remove_user(&aor);
        self.drain(now);
    }

    /// Forgives the wrong passwords of a user, of an IP address, or of everybody; returns who was locked out.
    pub fn unlock_phones(&mut self, now: Time, who: Option<&str>) -> Vec<LockOutStatus> {
        let who = who.map(|who| match who.parse::<IpAddr>() {
            Ok(_) => who.to_owned(),
            Err(_) => canonical_aor(who, &self.default_domain()),
        });
        self.phones.agent.unlock(now, who.as_deref()).iter().map(locked_out).collect()
    }

    /// Whether phones may stand there and speak to this socket. The world closes connections from elsewhere at once.
    pub fn expects_phones_from(&self, ip: IpAddr, secure: bool) -> bool {
        if self.config.networks.as_ref().is_some_and(|networks| !networks.lets_phones(ip, secure)) {
            return false;
        }
        let registrars = [self.config.sip, self.config.sips.unwrap_or(self.config.sip)];
        let mut from = phones_from(&self.config.phones_from, registrars.map(|address| address.ip()));
        from.any(|prefix| prefix.contains(ip))
    }

    /// Whether one who connects from there may have the work of a TLS handshake done: a few of everybody who is
    /// unproven, out of the allowance for requests.
    pub fn may_shake_hands(&mut self, now: Time, ip: IpAddr) -> bool {
        self.phones.agent.may_shake_hands(now, ip)
    }

    /// Whether a phone is registered over that connection.
    pub fn has_phone_on(&self, connection: ConnectionId) -> bool {
        self.phones.agent.has_phone_on(connection)
    }

    /// The world could not bind so many of the ports it was asked for. They are asked for again.
    pub fn refuse_media_ports(&mut self, count: usize) {
        self.phones.ports_asked_for = self.phones.ports_asked_for.saturating_sub(count);
    }

    /// Gives a bound pair of UDP ports for sound, named by the even one.
    pub fn offer_media_port(&mut self, port: u16) {
        self.phones.plane.offer_port(port);
        self.phones.ports_asked_for = self.phones.ports_asked_for.saturating_sub(1);
    }

    /// A handshake that was asked for ([`Handshake::Begin`](crate::Handshake::Begin)) has come to its end: what it came to,
    /// or why it came to nothing.
    pub fn handle_handshake(&mut self, now: Time, port: u16, outcome: Result<HandshakeKeys, String>) {
        if let Err(alarm) = self.phones.plane.shaken(now, port, outcome) {
            self.log(Level::Warn, "phone", alarm);
        }
        self.drain(now);
    }

    /// Says at which address phones find this peer, once the sockets are bound.
    pub fn set_sip_address(&mut self, sip: SocketAddr) {
        self.config.sip = sip;
        self.phones.set_sip(sip);
    }

    // ---- views ---------------------------------------------------------------------------------

    /// Calls under way and the latest that ended, oldest first.
    pub fn calls(&self, now: Time) -> Vec<CallReport> {
        let live = self.phones.calls.live.iter();
        let live = live.map(|(id, call)| call.report(now, self.phones.plane.heard(*id)));
        self.phones.calls.history.iter().cloned().chain(live).collect()
    }

    /// Messages received, oldest first.
    pub fn inbox(&self) -> impl Iterator<Item = &InboxMessage> {
        self.phones.inbox.iter()
    }

    // ---- what arrives --------------------------------------------------------------------------

    pub(crate) fn handle_phone_signalling(
        &mut self,
        now: Time,
        socket: Socket,
        remote: SocketAddr,
        bytes: &[u8],
    ) {
        let flow = match socket {
            Socket::SipStream(connection) => Flow::Stream(connection, remote),
            Socket::SipTls(connection) => Flow::Tls(connection, remote),
            _ => Flow::Udp(remote),
        };
        let first = !self.phones.agent.drops().contains_key(sip::STRANGER);
        if first && !self.expects_phones_from(remote.ip(), matches!(flow, Flow::Tls(..))) {
            // Once: the Internet is full of scanners, and the owner has one new phone.
            let text =
                format!("{remote} asks like a phone and gets no answer; if it is yours, see [phones] from");
            self.log(Level::Info, "phone", text);
        }
        let phones = &mut *self.phones;
        let understood = phones.agent.handle_message(now, flow, bytes, &mut phones.plane);
        if let (false, Some(connection)) = (understood, flow.connection()) {
            self.emit(Event::CloseStream(connection));
        }
    }

    pub(crate) fn close_phone_stream(&mut self, now: Time, connection: ConnectionId) {
        let phones = &mut *self.phones;
        phones.agent.handle_stream_closed(now, connection, &mut phones.plane);
    }

    /// SIP from another peer.
    pub(crate) fn handle_peer_signalling(
        &mut self,
        now: Time,
        from: NodeId,
        sip: &[u8],
        protection: &'static str,
    ) {
        self.meet_for_sound(from);
        let phones = &mut *self.phones;
        phones.agent.handle_peer_message(now, from, sip, protection, &mut phones.plane);
    }

    /// A call with this peer may begin: its sound will go to where it is, under keys that depend on who we both
    /// are. Whoever is reached through others only has no address here, and agrees on keys all the same.
    fn meet_for_sound(&mut self, peer: NodeId) {
        let plane = &mut self.phones.plane;
        plane.own = self.standing.as_ref().map(|s| s.id);
        if let Some(contact) = self.tunnels.contact(&peer) {
            if plane.peers.len() >= MAX_MET {
                plane.peers.retain(|id, _| self.tunnels.contact(id).is_some());
            }
            plane.peers.insert(peer, contact.address);
        }
    }

    pub(crate) fn handle_phone_media(
        &mut self,
        now: Time,
        port: u16,
        remote: SocketAddr,
        bytes: &mut [u8],
    ) -> Option<media::Forward> {
        let forward = self.phones.plane.pass_from_phone(now, port, remote, bytes);
        self.book_media(now, forward.as_ref());
        forward
    }

    pub(crate) fn handle_peer_media(
        &mut self,
        now: Time,
        remote: SocketAddr,
        bytes: &mut [u8],
    ) -> Option<media::Forward> {
        use crate::ledger::Function;
        self.ledger.received(now, Function::Media, &remote, bytes.len());
        let forward = self.phones.plane.pass_from_peer(now, remote, bytes)?;
        self.tunnels.heard(now, remote);
        forward
    }

    fn book_media(&mut self, now: Time, forward: Option<&media::Forward>) {
        if let Some(forward) = forward.filter(|f| f.socket == Socket::Peer) {
            let function = crate::ledger::Function::Media;
            self.ledger.sent(now, function, &forward.remote, forward.size());
        }
    }

    /// A peer of a call answers no more.
    pub(crate) fn handle_peer_lost(&mut self, now: Time, peer: NodeId) {
        let was_asked = self.phones.asked.remove(&peer);
        let silent = self.tunnels.contact(&peer).and_then(|c| self.tunnels.last_heard(c.address));
        // It may have said something after all while the question was under way.
        let alive = was_asked && silent.is_some_and(|at| now.since(at).as_millis() < 1_000);
        if !alive {
            let phones = &mut *self.phones;
            phones.agent.peer_lost(now, peer, &mut phones.plane);
        }
    }

    pub(crate) fn handle_phones_timeout(&mut self, now: Time) {
        if self.phones.made().is_none() {
            return;
        }
        let phones = &mut *self.phones;
        phones.plane.handle_timeout(now);
        if phones.agent.poll_timeout().is_some_and(|(at, _)| at <= now) {
            phones.agent.handle_timeout(now, &mut phones.plane);
        }
        phones.locals.handle_timeout(now);
    }

    // ---- what the agent and the sessions want --------------------------------------------------

    pub(crate) fn drain_phones(&mut self, now: Time) {
        if self.phones.made().is_none() {
            return;
        }
        // Built-in users and the agent talk to each other here, so go on until all is said.
        loop {
            let mut quiet = true;
            while let Some((flow, bytes)) = self.phones.agent.poll_transmit() {
                quiet = false;
                self.send_signalling(now, flow, bytes);
            }
            while let Some(event) = self.phones.agent.poll_event() {
                quiet = false;
                self.handle_agent_event(now, event);
            }
            quiet &= !self.drain_locals(now);
            if quiet {
                break;
            }
        }
        self.drain_media(now);
    }

    fn drain_media(&mut self, now: Time) {
        let mut packets: Vec<Transmit> = Vec::new();
        for _silent_peer in self.phones.plane.drain(&mut packets) {
            self.watch_calls(now);
        }
        for packet in packets {
            if packet.socket == Socket::Peer {
                let function = crate::ledger::Function::Media;
                self.ledger.sent(now, function, &packet.remote, packet.bytes.len());
            }
            self.transmit(packet.socket, packet.remote, packet.bytes);
        }
        while let Some(handshake) = self.phones.plane.poll_handshake() {
            self.emit(Event::Handshake(handshake));
        }
        while let Some(port) = self.phones.plane.poll_released() {
            self.emit(Event::MediaPortReleased(port));
        }
        let wanted = self.phones.plane.ports_wanted();
        if self.phones.has_phones && wanted > self.phones.ports_asked_for {
            self.emit(Event::MediaPortsWanted(wanted - self.phones.ports_asked_for));
            self.phones.ports_asked_for = wanted;
        }
    }

    fn send_signalling(&mut self, now: Time, flow: Flow, bytes: Vec<u8>) {
        match flow {
            Flow::Udp(remote) => self.transmit(Socket::Sip, remote, bytes),
            Flow::Stream(connection, remote) => {
                self.transmit(Socket::SipStream(connection), remote, bytes);
            }
            Flow::Tls(connection, remote) => self.transmit(Socket::SipTls(connection), remote, bytes),
            Flow::Peer(peer) => self.send_sip(now, peer, &bytes),
            Flow::Local(id) => self.phones.locals.handle_message(now, id, &bytes),
        }
    }

    fn handle_agent_event(&mut self, now: Time, event: sip::Event) {
        match event {
            sip::Event::Route { request, call, from, to, source, .. } => {
                if let Flow::Peer(peer) = source
                    && let Some(shown) = self.doubt_caller(&from, peer)
                {
                    self.phones.agent.show_sender_as(request, &shown);
                }
                let mut to = canonical_aor(&to, &self.default_domain());
                // Only people dial. A number of ours means a user here, whoever says it.
                let meant = match source {
                    Flow::Peer(_) | Flow::Local(ECHO) => None,
                    _ => self.meaning(&to),
                };
                let meant = match self.user_by_proof(meant.as_ref().unwrap_or(&to)) {
                    Some(user) if !self.is_served(&to) => Some(user),
                    _ => meant,
                };
                if let Some(name) = &meant {
                    self.phones.agent.readdress(request, name);
                    to.clone_from(name);
                }
                if let Some(call) = call.and_then(|c| self.phones.calls.live.get_mut(&c)) {
                    call.advance(CallState::Resolving);
                    meant.iter().for_each(|name| call.name_callee(name));
                }
                self.find_route(now, request, call.is_some(), to, source);
            }
            sip::Event::RouteCancelled { request } => self.cancel_proof(request),
            sip::Event::Registered { user, contact, new: true, .. } => {
                self.emit(Event::Phone { user, contact, online: true });
            }
            sip::Event::Unregistered { user, contact, .. } => {
                self.emit(Event::Phone { user, contact, online: false });
            }
            sip::Event::WrongPassword { user, remote, locked, .. } => {
                let hint = locked.map(|lock| locked_out(&lock)).map(
                    |LockOutStatus { who, seconds, lift, .. }| {
                        format!("; {who} is locked out for {seconds} s, unless you lift it: {lift}")
                    },
                );
                let text = format!("wrong password for {user} from {remote}{}", hint.unwrap_or_default());
                self.log(Level::Warn, "phone", text);
                self.emit(Event::WrongPassword { user, remote });
            }
            sip::Event::CallStarted(record) => {
                let op = match record.source {
                    Flow::Local(id) => self.phones.locals.op_of(id),
                    _ => None,
                };
                self.phones.calls.live.insert(record.call, Call::new(&record, op));
                self.watch_calls(now);
            }
            sip::Event::Ringing { call, .. } => {
                self.call_changed(now, call, |c| c.advance(CallState::Ringing))
            }
            sip::Event::Answered { call, flow } => {
                self.call_changed(now, call, |c| c.establish(now, flow));
                self.limit_call(now, call);
                self.watch_calls(now);
            }
            sip::Event::Ended { call, cause, status, reason } => {
                self.call_ended(now, call, cause, status, &reason);
            }
            _ => {}
        }
    }

    fn call_changed(&mut self, now: Time, id: sip::CallId, change: impl FnOnce(&mut Call)) {
        if let Some(call) = self.phones.calls.live.get_mut(&id) {
            change(call);
            let report = call.report(now, None);
            self.emit(Event::Call(report));
        }
    }

    fn call_ended(&mut self, now: Time, id: sip::CallId, cause: sip::Cause, status: u16, reason: &str) {
        let heard = self.phones.plane.finished.remove(&id);
        let Some(mut call) = self.phones.calls.live.remove(&id) else { return };
        call.end(now, cause, status, reason);
        let mut report = call.report(now, heard);
        self.emit(Event::Call(CallReport { recording: None, ..report.clone() }));
        if let Some(op) = call.op {
            self.finish_call_op(now, op, report.clone());
        }
        report.recording = None;
        self.phones.calls.remember(report);
    }

    // ---- routes --------------------------------------------------------------------------------

    /// Whether this peer serves a user of that name.
    pub(crate) fn is_user(&self, aor: &str) -> bool {
        self.identity.users.iter().any(|u| u.aor == aor)
    }

    /// The name for which dialled digits stand, if they are none themselves.
    pub(crate) fn meaning(&self, dialled: &str) -> Option<String> {
        let home = self.default_domain().to_lowercase();
        let (keys, _) = dialled.split_once('@').filter(|(_, domain)| *domain == home)?;
        let name = self.config.dial.name(keys, &home)?;
        (!self.is_served(dialled)).then_some(name)
    }

    /// Whether that is the name of a user here, with a phone or without.
    fn is_served(&self, name: &str) -> bool {
        let has_phone = |phones: &Phones| phones.agent.resolve_user(name).is_some();
        self.is_user(name) || self.phones.made().is_some_and(has_phone)
    }

    /// The agent asks where a request shall go.
    fn find_route(&mut self, now: Time, request: RequestId, is_call: bool, to: String, source: Flow) {
        match self.built_in(to.split('@').next().unwrap_or_default(), source) {
            Some(Ok(user)) => {
                self.route(now, request, vec![Target::Local(user)]);
                // What it says is for this call alone.
                self.phones.plane.talkers.remove(&DIGITS);
                return;
            }
            Some(Err(why)) => return self.refuse_route(now, request, NO_DIGITS, why),
            None => {}
        }
        let served = self.phones.agent.resolve_user(&to);
        let has_phone = served.as_ref().is_some_and(|u| self.phones.agent.phones(u).next().is_some());
        let is_ours = served.is_some() || self.is_user(&to);
        match (served.filter(|_| has_phone), is_ours) {
            (Some(user), _) => self.route(now, request, vec![Target::User(user)]),
            // No phone there: a message waits in the inbox.
            (None, true) if !is_call => self.route(now, request, vec![Target::Local(INBOX)]),
            (None, true) => {
                let reason = self.why_unregistered(now, &to, source);
                self.refuse_route(now, request, 480, &reason);
            }
            (None, false) if matches!(source, Flow::Peer(_)) => {
                self.refuse_route(now, request, 404, "No such user here");
            }
            (None, false) => {
                let purpose = ResolvedFor::Sip(request, to.clone(), source);
                self.resolve(now, &to, purpose);
            }
        }
    }

    /// That no phone of a user is there; and to people at this peer, if it is locked out.
    fn why_unregistered(&self, now: Time, user: &str, source: Flow) -> String {
        let is_theirs = |lock: &LockOut| lock.user() == Some(user) && !matches!(source, Flow::Peer(_));
        let locked = self.phones.agent.locked_out(now).into_iter().find(is_theirs);
        let hint = locked
            .map(|lock| locked_out(&lock))
            .map(|lock| format!(": {} is locked out, {}; to lift it: {}", lock.who, lock.why, lock.lift));
        format!("The phone is not registered{}", hint.unwrap_or_default())
    }

    /// The directory knows, or knows not, where a request shall go.
    pub(crate) fn route_request(&mut self, now: Time, request: RequestId, user: String, outcome: Resolved) {
        match outcome {
            Resolved::Unknown if self.proof_in(&user).is_some() => {
                self.refuse_route(now, request, 404, NOBODY);
            }
            Resolved::Unknown => self.refuse_route(now, request, 404, "Nobody has that name"),
            Resolved::Mistyped(slip) => self.refuse_route(now, request, MISTYPED, &slip.to_string()),
            Resolved::Unproven => self.refuse_route(now, request, 503, UNPROVEN),
            Resolved::Offline => self.refuse_route(now, request, 480, "None of the user's peers is there"),
            Resolved::Uncertified(flaw) => {
                self.refuse_route(now, request, NOT_CERTIFIED, &format!("{user} is not certified: {flaw}"));
            }
            Resolved::NotOfDomain(word @ Word::Key(..)) => {
                self.refuse_route(now, request, 480, &why_not(&user, word));
            }
            Resolved::NotOfDomain(word) => {
                let known = self.pins.owner(&user).map(short);
                let accept = |key| format!(". If {key} is theirs: openvoip pins accept {user} {key}");
                let hint = known.map(accept).unwrap_or_default();
                self.refuse_route(now, request, NOT_PROVEN, &(why_not(&user, word) + &hint));
            }
            Resolved::KeyChanged(keys, said) => {
                let [known, found] = keys.map(short);
                let says =
                    said.zip(domain_of(&user)).map(|(way, domain)| format!(", says {domain} by {way}"));
                let reason = format!(
                    "Key of {user} changed from {known} to {found}{}. If it is theirs: openvoip pins accept {user} {found}",
                    says.unwrap_or_default()
                );
                self.emit(Event::KeyChanged { name: user, known, found, calls: false });
                self.refuse_route(now, request, KEY_CHANGED, &reason);
            }
            Resolved::Peers(peers) => {
                let mut targets = Vec::new();
                for contact in peers {
                    self.tunnels.meet(now, contact);
                    self.meet_for_sound(contact.id);
                    targets.push(Target::Peer { node: contact.id, user: user.clone() });
                }
                self.route(now, request, targets);
            }
        }
    }

    fn route(&mut self, now: Time, request: RequestId, targets: Vec<Target>) {
        let phones = &mut *self.phones;
        phones.agent.route(now, request, targets, &mut phones.plane);
    }

    fn refuse_route(&mut self, now: Time, request: RequestId, status: u16, reason: &str) {
        let phones = &mut *self.phones;
        phones.agent.reject(now, request, status, reason, &mut phones.plane);
    }
}

/// A lock-out as it is told to the owner, with what lifts it.
fn locked_out(lock: &LockOut) -> LockOutStatus {
    LockOutStatus {
        who: lock.who.to_string(),
        why: format!("{} wrong passwords", lock.failures),
        seconds: lock.seconds,
        lift: format!("openvoip phone unlock {}", lock.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phones_stand_at_home_or_around_the_address_that_the_owner_gave_them_or_where_the_owner_says() {
        let heard = |sip: &str, from: Arc<[Prefix]>, phone: &str| {
            let sip: SocketAddr = sip.parse().unwrap();
            phones_from(&from, [sip.ip(); 2]).any(|prefix| prefix.contains(phone.parse().unwrap()))
        };
        let home = Prefix::at_home;
        let one: Arc<[Prefix]> = ["198.51.100.7".parse().unwrap()].into();
        assert!(heard("192.0.2.1:5060", home(), "192.0.2.9") && heard("192.0.2.1:5060", home(), "10.1.2.3"));
        assert!(
            !heard("192.0.2.1:5060", home(), "198.51.100.7") && !heard("0.0.0.0:5060", home(), "192.0.2.9")
        );
        assert!(
            heard("192.0.2.1:5060", one.clone(), "198.51.100.7")
                && !heard("192.0.2.1:5060", one, "192.0.2.9")
        );
    }
}
