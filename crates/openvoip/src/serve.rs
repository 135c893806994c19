//! A peer that runs: `openvoip up` and `openvoip bootstrap`.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Token};
use node::{Config, Event, Level, Node};
use serde_json::{Value, json};
use wire::{Seed, UnixTime};

use crate::admin::Admin;
use crate::control::{self, Reply, Waiting};
use crate::home::Home;
use crate::logging::Logs;
use crate::run::{Bound, World};

const LISTENER: Token = Token(1);

/// Front ends connected at once.
const MAX_CLIENTS: usize = 64;

/// State is written at most this often.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// What `up` and `bootstrap` are told.
pub struct Options {
    /// Identity, state and control socket.
    pub data_dir: PathBuf,
    /// The peer port; `None` takes 127.0.0.1:7080 or a free one near it.
    pub listen: Option<SocketAddr>,
    /// Where phones register; `None` takes 127.0.0.1:5060 or a free one near it.
    pub sip: Option<SocketAddr>,
    /// Users to serve.
    pub users: Vec<String>,
    /// The rest.
    pub config: Config,
    /// The log, so that its level can be changed.
    pub logs: Option<Logs>,
    /// The settings and where they came from, for `config show`.
    pub settings: Value,
    /// Whether to say on standard output, as one JSON object, that the peer runs, and where.
    pub json: bool,
}

struct Client {
    stream: UnixStream,
    input: Vec<u8>,
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

/// Runs a peer until it is told to end.
pub fn run(options: Options) -> Result<(), String> {
    let home = Home::open(&options.data_dir)?;
    refuse_a_second_peer(&options.data_dir)?;
    let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let bound = Bound::new(
        options.listen.unwrap_or(loopback(7_080)),
        options.listen.is_some(),
        options.sip.unwrap_or(loopback(5_060)),
        options.sip.is_some(),
    )?;
    let (peer, sip) = (bound.peer_address, bound.sip_address);
    let identity = home.identity(&options.users)?;
    // Last of what may fail, so that a peer that never ran leaves no socket behind.
    let mut control = listen(&options.data_dir)?;
    let users: Vec<String> = identity.users.iter().map(|u| u.aor.clone()).collect();
    let config = Config { listen: peer, sip, ..options.config };
    let mut world = World::new().map_err(|e| e.to_string())?;
    let node = Node::new(config, identity, home.saved(), fresh_seed()?, world.now(), unix_now());
    let index = world.add(node, bound).map_err(|e| e.to_string())?;
    world.registry().register(&mut control, LISTENER, Interest::READABLE).map_err(|e| e.to_string())?;

    if options.json {
        let body = json!({
            "listen": peer, "sip": sip, "users": users, "data_dir": options.data_dir,
            "public_key": world.node(index).public_key().to_string(),
        });
        let mut body = control::answer("up", 0, body);
        body.as_object_mut().map(|o| o.remove("exit"));
        println!("{body}");
    }
    eprintln!("peer      {peer}");
    let names = if users.is_empty() { String::new() } else { format!(" as one of: {}", users.join(", ")) };
    eprintln!("phones    register at {sip} (UDP or TCP){names}");
    let dir = options.data_dir.display();
    eprintln!("next      openvoip --data-dir {dir} phone add NAME --password PASSWORD");
    eprintln!("          openvoip --data-dir {dir} call echo");

    let end = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&end);
    let _ = ctrlc::set_handler(move || {
        if handler.swap(true, Ordering::SeqCst) {
            std::process::exit(130); // The second time means now.
        }
    });

    let mut server = Server {
        admin: Admin { home, logs: options.logs, settings: options.settings },
        clients: BTreeMap::new(),
        waiting: Waiting::new(),
        next: 2,
        dirty: false,
        saved: Instant::now(),
        left: false,
    };
    let phones = server.admin.home.phones();
    let mut told = Vec::new();
    let mut tell = |_: usize, event: Event| told.push(event);
    world.with(index, &mut tell, |node, now| {
        phones.iter().for_each(|(user, password)| node.add_phone(now, user, password));
    });
    let mut leaving = false;
    while !server.left {
        let mut tell = |_: usize, event: Event| told.push(event);
        if end.load(Ordering::SeqCst) && !std::mem::replace(&mut leaving, true) {
            world.with(index, &mut tell, |node, now| node.leave(now));
        }
        let ready = world.turn(Duration::from_millis(500), &mut tell).map_err(|e| e.to_string())?;
        for token in ready {
            match token {
                LISTENER => server.accept(&mut control, &world),
                token => server.read(token, &mut world, index, &mut told),
            }
        }
        for event in std::mem::take(&mut told) {
            server.handle_event(event);
        }
        server.save_if_due(world.node(index));
    }
    server.admin.home.save(&world.node(index).save())?;
    let _ = std::fs::remove_file(Home::control_socket(&options.data_dir));
    Ok(())
}

/// Two peers on one directory would be one identity at two places.
fn refuse_a_second_peer(data_dir: &std::path::Path) -> Result<(), String> {
    if std::os::unix::net::UnixStream::connect(Home::control_socket(data_dir)).is_ok() {
        return Err(format!(
            "a peer runs on {} already: stop it with `openvoip --data-dir {} down`, or choose another \
             directory with --data-dir",
            data_dir.display(),
            data_dir.display()
        ));
    }
    Ok(())
}

/// The control socket; one left behind by a peer that died is replaced.
fn listen(data_dir: &std::path::Path) -> Result<UnixListener, String> {
    let path = Home::control_socket(data_dir);
    let _ = std::fs::remove_file(&path);
    let listener =
        UnixListener::bind(&path).map_err(|e| format!("cannot listen on {}: {e}", path.display()))?;
    use std::os::unix::fs::PermissionsExt;
    let only_us = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&path, only_us).map_err(|e| e.to_string())?;
    Ok(listener)
}

struct Server {
    admin: Admin,
    clients: BTreeMap<Token, Client>,
    waiting: Waiting,
    next: usize,
    dirty: bool,
    saved: Instant,
    left: bool,
}

impl Server {
    fn accept(&mut self, listener: &mut UnixListener, world: &World) {
        while let Ok((mut stream, _)) = listener.accept() {
            if self.clients.len() >= MAX_CLIENTS {
                continue;
            }
            // Tokens below 1,000 are ours; skip those in use.
            while self.clients.contains_key(&Token(self.next)) || self.next < 2 {
                self.next = (self.next + 1) % 1_000;
            }
            let token = Token(self.next);
            self.next = (self.next + 1) % 1_000;
            if world.registry().register(&mut stream, token, Interest::READABLE).is_ok() {
                self.clients.insert(token, Client { stream, input: Vec::new() });
            }
        }
    }

    fn read(&mut self, token: Token, world: &mut World, index: usize, told: &mut Vec<Event>) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let mut buffer = [0; 16_384];
        loop {
            match client.stream.read(&mut buffer) {
                Ok(0) => {
                    self.clients.remove(&token);
                    return;
                }
                Ok(len) => client.input.extend_from_slice(&buffer[..len]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.clients.remove(&token);
                    return;
                }
            }
            if client.input.len() > control::MAX_REQUEST {
                self.clients.remove(&token);
                return;
            }
        }
        while let Some(end) = self.clients.get(&token).and_then(|c| c.input.iter().position(|b| *b == b'\n'))
        {
            let Some(client) = self.clients.get_mut(&token) else { return };
            let line: Vec<u8> = client.input.drain(..=end).collect();
            let request: Value = serde_json::from_slice(&line).unwrap_or(Value::Null);
            self.carry_out(token, &request, world, index, told);
        }
    }

    fn carry_out(
        &mut self,
        token: Token,
        request: &Value,
        world: &mut World,
        index: usize,
        told: &mut Vec<Event>,
    ) {
        let mut tell = |_: usize, event: Event| told.push(event);
        tracing::debug!("command {}", control::text(request, "command"));
        let admin = &mut self.admin;
        let reply = world.with(index, &mut tell, |node, now| {
            admin.handle(node, now, request).unwrap_or_else(|| control::handle(node, now, request))
        });
        match reply {
            Reply::Now(value) => self.reply(token, &value),
            Reply::Later(op, thing) => {
                self.waiting.insert(op, (token, thing));
            }
            Reply::Leave => {
                world.with(index, &mut tell, |node, now| node.leave(now));
                self.reply(token, &control::answer("down", 0, json!({ "stopped": true })));
            }
        }
    }

    fn reply(&mut self, token: Token, value: &Value) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let mut line = value.to_string().into_bytes();
        line.push(b'\n');
        let mut rest = &line[..];
        // The other end is a local program that reads: a short wait is all it ever takes.
        for _ in 0..200 {
            match client.stream.write(rest) {
                Ok(written) if written == rest.len() => return,
                Ok(written) => rest = &rest[written..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
                Err(_) => return,
            }
        }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Done { op, outcome } => {
                if let Some((token, thing)) = self.waiting.remove(&op) {
                    self.reply(token, &control::outcome(thing, outcome));
                }
            }
            Event::Save => self.dirty = true,
            Event::Left => self.left = true,
            Event::Online => tracing::info!("online"),
            Event::Offline { reason } => tracing::warn!("{reason}"),
            Event::Published { aor } => tracing::info!("{aor} is published"),
            Event::NameTaken { aor } => tracing::warn!("{aor} belongs to somebody else's key"),
            Event::Phone { user, contact, online } => {
                tracing::info!("phone of {user} {}: {contact}", if online { "registered" } else { "left" });
            }
            Event::Log { level, target, message } => match level {
                Level::Debug => tracing::debug!(part = target, "{message}"),
                Level::Info => tracing::info!(part = target, "{message}"),
                Level::Warn => tracing::warn!(part = target, "{message}"),
            },
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

    fn save_if_due(&mut self, node: &Node) {
        let due = self.dirty || self.saved.elapsed() > Duration::from_secs(300);
        if due && self.saved.elapsed() > SAVE_EVERY {
            self.dirty = false;
            self.saved = Instant::now();
            if let Err(e) = self.admin.home.save(&node.save()) {
                tracing::warn!("{e}");
            }
        }
    }
}
