//! A peer that runs: one loop around one node, and everybody who may tell it something.
//!
//! Commands come from programs at the control socket (`serve/socket.rs`) and from handles of the Rust
//! API ([`crate::peer`]), and are carried out by `Command::execute` alike. Who asked is an `Asker`;
//! one that goes away is forgotten, and a call it made is hung up.

mod line;
mod socket;
mod watch;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use mio::{Token, Waker};
use node::{Config, Event, Identity, Level, Node, OpId, Outcome, OverlayOptions, Saved, User};
use serde_json::json;
use wire::domain::Word;
use wire::{KeyPair, PublicKey, Revocations, Seed, Stretch, Time, UnixTime};

use crate::admin::Admin;
use crate::authority::{self, Desk, Policy, Store};
use crate::command::{Answer, Command, Reply};
use crate::control;
use crate::home::{self, Certificate, CertificateFiles, Home};
use crate::logging::Logs;
use crate::resolver::Resolver;
use crate::run::{self, Bound, World, dtls};
use crate::stretcher::Stretcher;

pub(crate) use line::{Asker, Line};
use line::{Request, is_there};
use socket::ControlSocket;
use watch::Watches;

const LISTENER: Token = Token(1);
const WAKER: Token = Token(2);

/// State is written at most this often, and at least every five minutes.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// Commands of handles waiting for the loop.
const MAX_QUEUE: usize = 256;

/// Commands waiting for their outcome.
const MAX_WAITING: usize = 1_024;

/// A command other than a call that has no outcome by then has failed.
const LONGEST: Duration = Duration::from_secs(120);

/// How often an authority looks whether `authority revoke` changed its list.
const LOOK_AT_LIST: Duration = Duration::from_secs(2);

/// How often the loop looks for askers that went away.
const SWEEP: Duration = Duration::from_millis(200);

/// What a peer is told before it starts.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Identity, state and control socket. `None`: new keys, nothing is kept, and no control socket.
    pub data_dir: Option<PathBuf>,
    /// The peer port; `None` takes 127.0.0.1:7080 or a free one near it.
    pub listen: Option<SocketAddr>,
    /// Where phones register; `None` takes 127.0.0.1:5060 or a free one near it.
    pub sip: Option<SocketAddr>,
    /// Where phones register over TLS; `None` takes 127.0.0.1:5061 or a free one near it.
    pub sips: Option<SocketAddr>,
    /// The certificate that they are shown; `None`: this peer's own.
    pub certificate: Option<CertificateFiles>,
    /// Users to serve, as canonical addresses-of-record.
    pub users: Vec<String>,
    /// The rest.
    pub config: Config,
    /// The log, so that its level can be changed.
    pub logs: Option<Logs>,
    /// The settings and where they came from, for `config show`.
    pub settings: serde_json::Value,
    /// What this peer does about names that an authority gives.
    pub names: Names,
    /// Whom to ask what domains say of names; none: those that the system asks.
    pub dns: Vec<SocketAddr>,
    /// Whether [`run()`] says on standard output, as one JSON object, that the peer runs, and where.
    pub json: bool,
}

/// Names that an authority gives.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// How this peer gives them, if it is the authority.
    pub authority: Option<Policy>,
    /// The code of an invitation for the users of [`Options`].
    pub code: Option<String>,
}

/// Randomness of the operating system, the root of all chance in a peer.
pub fn fresh_seed() -> Result<Seed, String> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| format!("no randomness: {e}"))?;
    Ok(Seed(seed))
}

/// The calendar.
pub fn unix_now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime(since.map_or(0, |d| d.as_secs()))
}

/// Runs a peer until it is told to end: `openvoip up` and `openvoip bootstrap`.
///
/// # Errors
/// In words for the person who started it.
pub fn run(options: Options) -> Result<(), String> {
    let data_dir = options.data_dir.clone();
    let json = options.json;
    let (service, line) = Service::open(options)?;
    let status = service.world.node(service.index).status(service.world.now());
    let users: Vec<&str> = status.users.iter().map(|u| u.aor.as_str()).collect();
    if json {
        let body = json!({
            "schema": "openvoip.up/1", "listen": line.peer_address, "sip": line.sip_address,
            "sips": line.sips_address, "users": users, "data_dir": data_dir, "public_key": status.public_key,
        });
        let _ = writeln!(std::io::stdout(), "{body}");
    }
    eprintln!("peer      {}", line.peer_address);
    let names = if users.is_empty() { String::new() } else { format!(" as one of: {}", users.join(", ")) };
    eprintln!("phones    register at {} (UDP or TCP), {} (TLS){names}", line.sip_address, line.sips_address);
    if let Some(dir) = data_dir {
        let dir = dir.display();
        eprintln!("next      openvoip --data-dir {dir} phone add NAME --password PASSWORD");
        eprintln!("          openvoip --data-dir {dir} call echo");
    }
    // The peer says goodbye when the last line to it is gone. A second Ctrl-C means now.
    let mut line = Some(line);
    let _ = ctrlc::set_handler(move || match line.take() {
        Some(line) => line.hang_up(),
        None => std::process::exit(130),
    });
    service.run(None, || {})
}

/// What an authority tells everybody.
struct Office {
    store: Store,
    keys: KeyPair,
    founder: Option<PublicKey>,
    /// The number of the list that was published last.
    told: Option<u64>,
    looked: Time,
}

impl Office {
    /// The list of revoked keys, if it is another one than was published.
    fn list(&mut self) -> Result<Option<Revocations>, String> {
        let Some(founder) = self.founder else { return Ok(None) };
        let list = authority::revocations(&self.store, &self.keys, founder, unix_now())?;
        Ok((self.told.replace(list.number) != Some(list.number)).then_some(list))
    }
}

struct Waiting {
    asker: Asker,
    since: Time,
    is_call: bool,
}

/// One running peer.
pub(crate) struct Service {
    world: World,
    index: usize,
    admin: Admin,
    socket: Option<ControlSocket>,
    requests: Receiver<Request>,
    waiting: BTreeMap<OpId, Waiting>,
    watches: Watches,
    stretcher: Stretcher,
    /// What keys of users here cost, as it is kept.
    stretches: BTreeMap<PublicKey, Stretch>,
    resolver: Resolver,
    office: Option<Office>,
    /// Who wants to know when the peer has ended.
    leaving: Vec<Asker>,
    told: Vec<Event>,
    online: Option<Box<dyn FnOnce()>>,
    dirty: bool,
    /// Whether the last attempt to write it failed.
    unsaved: bool,
    saved: Instant,
    swept: Time,
    is_leaving: bool,
    left: bool,
}

impl Service {
    /// Binds the ports and begins to join.
    pub(crate) fn open(options: Options) -> Result<(Service, Line), String> {
        let home = options.data_dir.as_deref().map(Home::open).transpose()?;
        let mut world = World::new().map_err(|e| e.to_string())?;
        let open = |dir: &PathBuf| ControlSocket::open(dir, world.registry(), LISTENER);
        let socket = options.data_dir.as_ref().map(open).transpose()?;
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let bound = Bound::new(
            options.listen.unwrap_or(loopback(7_080)),
            options.listen.is_some(),
            options.sip.unwrap_or(loopback(5_060)),
            options.sip.is_some(),
        )?;
        let certificate = |address| certificate(&home, options.certificate.as_ref(), address, &options.users);
        let sips = options.sips.unwrap_or(loopback(5_061));
        let shown = dtls::Identity::fresh()?;
        let fingerprint = Some(Arc::new(shown.fingerprint));
        let bound = bound.with_tls(sips, options.sips.is_some(), certificate)?.with_dtls(shown);
        let (peer_address, sip_address) = (bound.peer_address, bound.sip_address);
        let sips_address = bound.sips_address.unwrap_or(sips);
        let (identity, saved) = match &home {
            Some(home) => (home.identity(&options.users, &options.config.overlay)?, home.saved()),
            None => (passing_identity(&options.users, &options.config.overlay)?, Saved::default()),
        };
        let overlay = options.config.overlay.clone();
        let founder = options.config.charter.as_ref().map(|charter| charter.founder);
        let sips = Some(sips_address);
        let config = Config { listen: peer_address, sip: sip_address, sips, fingerprint, ..options.config };
        let now = world.now();
        let provider = run::provider(&config, &identity.peer)?;
        let node = Node::with_provider(provider, config, identity, saved, fresh_seed()?, (now, unix_now()));
        let index = world.add(node, bound).map_err(|e| e.to_string())?;
        let waker = Arc::new(Waker::new(world.registry(), WAKER).map_err(|e| e.to_string())?);
        let (sender, requests) = sync_channel(MAX_QUEUE);
        let phones = home.as_ref().map(Home::phones).unwrap_or_default();
        let stretches = home.as_ref().map(Home::stretches).unwrap_or_default();
        let mut service = Service {
            world,
            index,
            admin: Admin { home, logs: options.logs, settings: options.settings },
            socket,
            requests,
            waiting: BTreeMap::new(),
            watches: Watches::new(fresh_seed()?, now),
            stretcher: Stretcher::new(Arc::clone(&waker)),
            stretches,
            resolver: Resolver::new(Arc::clone(&waker), options.dns),
            office: None,
            leaving: Vec::new(),
            told: Vec::new(),
            online: None,
            unsaved: false,
            dirty: false,
            saved: Instant::now(),
            swept: now,
            is_leaving: false,
            left: false,
        };
        service.node(|node, now| {
            phones.iter().for_each(|(user, password)| node.add_phone(now, user, password));
        });
        if let (Some(policy), Some(home)) = (options.names.authority, &service.admin.home) {
            let dir = home.path().to_owned();
            let keys = home.identity(&[], &overlay)?.peer;
            service.office = Some(Office {
                store: Store::new(dir.clone()),
                keys: keys.clone(),
                founder,
                told: None,
                looked: now,
            });
            service.node(|node, _| node.register(Box::new(Desk::new(dir, keys, policy))));
        }
        let code = options.names.code.unwrap_or_default();
        for user in options.users.iter().filter(|_| !code.is_empty()) {
            service.node(|node, now| node.enrol(now, user, &code));
        }
        Ok((service, Line { sender, waker, peer_address, sip_address, sips_address }))
    }

    /// Runs until it is told to end. Calls `online` when the peer is in the overlay; with `patience`,
    /// gives up if that takes longer.
    pub(crate) fn run(
        mut self,
        patience: Option<Duration>,
        online: impl FnOnce() + 'static,
    ) -> Result<(), String> {
        self.online = Some(Box::new(online));
        let deadline = patience.map(|p| self.world.now() + p);
        while !self.left {
            self.turn()?;
            if self.online.is_some() && deadline.is_some_and(|d| self.world.now() >= d) {
                return Err(
                    "no peer of the overlay answered: is one of the bootstrap addresses right?".into()
                );
            }
        }
        self.save()?;
        if let Some(socket) = &self.socket {
            socket.hide();
        }
        for asker in std::mem::take(&mut self.leaving) {
            self.answer(asker, Answer::Stopped);
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), String> {
        let longest = self.watches.pause(self.world.now(), Duration::from_millis(500));
        let told = &mut self.told;
        let mut tell = |_: usize, event: Event| told.push(event);
        let ready = self.world.turn(longest, &mut tell).map_err(|e| e.to_string())?;
        for ready in ready {
            match (ready.token, &mut self.socket) {
                (LISTENER, Some(socket)) => socket.accept(self.world.registry()),
                (WAKER, _) | (_, None) => {}
                (client, Some(socket)) => {
                    if ready.hung_up {
                        socket.close(client);
                    }
                    socket.flush(client);
                    for line in socket.read(client) {
                        self.take_line(client, &line);
                    }
                }
            }
        }
        self.take_requests();
        self.take_stretched();
        self.take_words();
        if self.world.now() >= self.swept + SWEEP {
            self.sweep();
        }
        self.look_after_watches();
        self.look_after_list();
        for event in std::mem::take(&mut self.told) {
            self.handle_event(event);
        }
        self.save_if_due();
        Ok(())
    }

    /// Gives the node a command.
    fn node<T>(&mut self, command: impl FnOnce(&mut Node, Time) -> T) -> T {
        let told = &mut self.told;
        self.world.with(self.index, &mut |_, event| told.push(event), command)
    }

    // ---- commands ------------------------------------------------------------------------------

    fn take_line(&mut self, client: Token, line: &[u8]) {
        match control::read(line) {
            Ok(command) => {
                let asker = Asker::Client(client, command.thing());
                self.carry_out(Request { command, asker });
            }
            Err(failure) => {
                if let Some(socket) = &mut self.socket {
                    socket.send(client, &failure);
                }
            }
        }
    }

    fn take_requests(&mut self) {
        for _ in 0..MAX_QUEUE {
            match self.requests.try_recv() {
                Ok(request) => self.carry_out(request),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => return self.leave(),
            }
        }
    }

    fn carry_out(&mut self, Request { command, asker }: Request) {
        if !is_there(&self.socket, &asker) {
            return;
        }
        if self.waiting.len() >= MAX_WAITING || self.watches.len() >= watch::MAX_WATCHES {
            let is_watch = matches!(command, Command::Watch { .. });
            if is_watch || self.waiting.len() >= MAX_WAITING {
                return self.answer(asker, Answer::failed(503, "too many commands are under way"));
            }
        }
        let is_call = matches!(command, Command::Call { .. });
        tracing::debug!("command about {}", command.thing());
        let Service { world, index, told, admin, .. } = self;
        let mut tell = |_: usize, event: Event| told.push(event);
        match world.with(*index, &mut tell, |node, now| command.execute(node, now, admin)) {
            Reply::Now(answer) => self.answer(asker, answer),
            Reply::Later(op) => {
                let since = self.world.now();
                self.waiting.insert(op, Waiting { asker, since, is_call });
            }
            Reply::Watch(key, every) => self.watches.add(self.world.now(), key, every, asker),
            Reply::Leave => {
                self.leaving.push(asker);
                self.leave();
            }
        }
    }

    fn leave(&mut self) {
        if !std::mem::replace(&mut self.is_leaving, true) {
            self.node(|node, now| node.leave(now));
        }
    }

    fn answer(&mut self, asker: Asker, answer: Answer) {
        match (asker, &mut self.socket) {
            (Asker::Client(client, thing), Some(socket)) => {
                socket.send(client, &control::render(thing, answer));
            }
            (Asker::Client(..), None) => {}
            (Asker::Once(sender), _) => drop(sender.send(answer)),
            (Asker::Every(mut sender), _) => drop(sender.try_send(answer)),
        }
    }

    /// Forgets askers that went away, and ends commands that never ended.
    fn sweep(&mut self) {
        let now = self.world.now();
        self.swept = now;
        let socket = &self.socket;
        self.watches.retain(|asker| is_there(socket, asker));
        let is_over =
            |w: &Waiting| !is_there(socket, &w.asker) || (!w.is_call && now.since(w.since) > LONGEST);
        let over: Vec<OpId> = self.waiting.iter().filter(|(_, w)| is_over(w)).map(|(op, _)| *op).collect();
        for op in over {
            let Some(waiting) = self.waiting.remove(&op) else { continue };
            if waiting.is_call {
                self.node(|node, now| node.hang_up(now, op));
            }
            self.answer(waiting.asker, Answer::failed(408, "no outcome in time"));
        }
        // A program that has closed its sending side stays until its last answer is sent.
        for client in self.socket.as_ref().map(ControlSocket::finished).unwrap_or_default() {
            let is_his = |asker: &Asker| matches!(asker, Asker::Client(c, _) if *c == client);
            let waits = self.waiting.values().any(|w| is_his(&w.asker))
                || self.leaving.iter().any(is_his)
                || self.watches.any(is_his);
            if let (false, Some(socket)) = (waits, &mut self.socket) {
                socket.close(client);
            }
        }
    }

    fn look_after_watches(&mut self) {
        let now = self.world.now();
        let Service { watches, world, index, told, .. } = self;
        while watches.look(now, |key| {
            world.with(*index, &mut |_, event| told.push(event), |node, now| node.get(now, key))
        }) {}
    }

    /// As an authority: publishes which keys lost their names, when that has changed.
    fn look_after_list(&mut self) {
        let now = self.world.now();
        let is_online = self.world.node(self.index).is_online();
        let Some(office) = self.office.as_mut().filter(|o| is_online && now >= o.looked + LOOK_AT_LIST)
        else {
            return;
        };
        office.looked = now;
        match office.list() {
            Ok(Some(list)) => self.node(|node, now| node.publish_revocations(now, list)),
            Ok(None) => {}
            Err(e) => tracing::warn!("the list of revoked keys: {e}"),
        }
    }

    /// What a key costs is wanted: one of a user here was worked out once and kept.
    fn stretch(&mut self, key: PublicKey) {
        let kept = self.stretches.get(&key).copied();
        if kept.is_some() || !self.stretcher.want(key) {
            self.node(|node, now| node.handle_stretched(now, key, kept));
        }
    }

    fn take_stretched(&mut self) {
        while let Some((key, stretch)) = self.stretcher.done() {
            self.node(|node, now| node.handle_stretched(now, key, stretch));
            let Some(stretch) = stretch.filter(|_| self.world.node(self.index).is_users_key(&key)) else {
                continue;
            };
            self.stretches.insert(key, stretch);
            let kept = self.admin.home.as_ref().map_or(Ok(()), |home| home.keep_stretches(&self.stretches));
            if let Err(e) = kept {
                tracing::warn!("{e}; it is worked out again at the next start");
            }
        }
    }

    /// What a domain says of a name is wanted.
    fn ask_domain(&mut self, name: &str) {
        if !self.resolver.want(name) {
            self.node(|node, now| node.handle_domain_said(now, name, Word::Silent, Duration::ZERO));
        }
    }

    fn take_words(&mut self) {
        while let Some((name, (word, ttl))) = self.resolver.done() {
            self.node(|node, now| node.handle_domain_said(now, &name, word, ttl));
        }
    }

    // ---- what the node says --------------------------------------------------------------------

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Done { op, outcome } => self.handle_done(op, outcome),
            Event::Save => self.dirty = true,
            Event::Document(bytes) => self.keep_documents(&bytes),
            Event::Left => self.left = true,
            Event::Online => {
                tracing::info!("online");
                if let Some(online) = self.online.take() {
                    online();
                }
            }
            Event::Offline { reason } => tracing::warn!("{reason}"),
            Event::Published { aor } => tracing::info!("{aor} is published"),
            Event::Crowded { name, ours: true } => {
                tracing::warn!(
                    "strangers crowd around {name}: its record is kept in the region around as well"
                );
            }
            Event::Crowded { name, ours: false } => {
                tracing::warn!("strangers crowd around {name}: they may want to hide it");
            }
            Event::NameTaken { aor } => tracing::warn!("{aor} belongs to somebody else's key"),
            Event::KeyChanged { name, known, found, calls: false } => tracing::warn!(
                "the key of {name} changed from {known} to {found}: not called. Ask them on another way; if it \
                 is theirs: openvoip pins accept {name}"
            ),
            Event::KeyChanged { name, known, found, calls: true } => tracing::warn!(
                "{name}, known by {known}, calls or writes from another peer, {found}: a thief, or a new \
                 machine; openvoip lookup {name} learns the new ones of the key that is known"
            ),
            Event::Phone { user, contact, online } => {
                tracing::info!("phone of {user} {}: {contact}", if online { "registered" } else { "left" });
            }
            Event::Log { level, target, message } => match level {
                Level::Debug => tracing::debug!(part = target, "{message}"),
                Level::Info => tracing::info!(part = target, "{message}"),
                Level::Warn => tracing::warn!(part = target, "{message}"),
            },
            Event::StretchWanted(key) => self.stretch(key),
            Event::DomainWanted(name) => self.ask_domain(&name),
            Event::SetLogFilter(level) => self.admin.set_log(&level),
            Event::Inbox(message) => {
                // Who and how much, never what.
                let (from, to, bytes) = (&message.from, &message.to, message.text.len());
                tracing::info!("message {from} -> {to}, {bytes} bytes: {}", message.state);
            }
            Event::Call(call) => tracing::info!("call {} -> {}: {}", call.from, call.to, call.state),
            _ => {}
        }
    }

    fn handle_done(&mut self, op: OpId, outcome: Outcome) {
        if let Some(waiting) = self.waiting.remove(&op) {
            return self.answer(waiting.asker, Answer::Ended(Box::new(outcome)));
        }
        let found = match outcome {
            Outcome::Value(value) => Some(value),
            _ => None,
        };
        let (now, socket) = (self.world.now(), &mut self.socket);
        self.watches.looked(now, op, found, |asker, key, value| match (&asker, socket) {
            (Asker::Client(client, thing), Some(socket)) => {
                socket.send(*client, &control::render(thing, Answer::Changed(key.to_owned(), value)));
                true
            }
            _ => asker.tell(key, value),
        });
    }

    // ---- what survives -------------------------------------------------------------------------

    fn save(&mut self) -> Result<(), String> {
        self.saved = Instant::now();
        let saved = self.world.node(self.index).save();
        let outcome = self.admin.home.as_ref().map_or(Ok(()), |home| home.save(&saved));
        // What could not be written is tried again, until the disk has room.
        self.dirty = outcome.is_err();
        outcome
    }

    /// Keeps newer documents of the overlay. What cannot be written others bring again after the next start.
    fn keep_documents(&self, bytes: &[u8]) {
        let kept = self.admin.home.as_ref().map_or(Ok(()), |home| home.keep_documents(bytes));
        if let Err(e) = kept {
            tracing::warn!("the overlay's new document holds and is not kept: {e}");
        }
    }

    fn save_if_due(&mut self) {
        let due = self.dirty || self.saved.elapsed() > Duration::from_secs(300);
        if due && self.saved.elapsed() > SAVE_EVERY {
            let outcome = self.save();
            match (&outcome, std::mem::replace(&mut self.unsaved, outcome.is_err())) {
                (Err(e), false) => tracing::warn!("{e}; it is tried again, and this peer goes on"),
                (Ok(()), true) => tracing::info!("what this peer keeps is written again"),
                _ => {}
            }
        }
    }
}

/// The certificate that phones are shown: the owner's, else this peer's own. Says so if it does not name the address.
fn certificate(
    home: &Option<Home>,
    files: Option<&CertificateFiles>,
    address: SocketAddr,
    users: &[String],
) -> Result<Certificate, String> {
    let certificate = match (files, home) {
        (Some(files), _) => return home::read_certificate(files),
        (None, Some(home)) => home.certificate(address, users)?,
        (None, None) => home::passing_certificate(address)?,
    };
    if let (Some(home), false) = (home, address.ip().is_unspecified() || certificate.names(address.ip())) {
        let file = home.certificate_file();
        tracing::warn!(
            "{} does not name {}: some phones refuse it. Remove it and its key, and another is made",
            file.display(),
            address.ip()
        );
    }
    Ok(certificate)
}

/// Keys that live as long as the peer.
fn passing_identity(users: &[String], overlay: &OverlayOptions) -> Result<Identity, String> {
    let fresh = || fresh_seed().map(KeyPair::from_seed);
    let user = |aor: &String| Ok(User { aor: aor.clone(), keys: fresh()? });
    let users = users.iter().map(user).collect::<Result<Vec<User>, String>>()?;
    Ok(Identity { peer: crate::home::new_key(overlay.hash, overlay.difficulty)?, users })
}
