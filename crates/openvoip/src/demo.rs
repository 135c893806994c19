//! A whole network on this machine: peers on real UDP sockets, two phones, a call that is heard.
//!
//! Everything is on 127.0.0.1 and nothing is left behind. The phones are SIP user agents of their own
//! with sockets of their own, registered at two different peers; whether they were heard is computed
//! from the samples they decoded.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use media::{Endpoint, EndpointConfig, Source};
use node::report::{CallReport, LookupReport};
use node::{
    Algorithm, Config, Event, Identity, LookupOptions, Node, OpId, Outcome, OverlayOptions, Saved, User,
};
use serde_json::json;
use sip::Flow;
use sip::transaction::SentBy;
use sip::ua::{UaConfig, UaEvent, UserAgent, g711_sdp};
use wire::sdp::Description;
use wire::{KeyPair, Seed, Time};

use crate::run::{Bound, World};
use crate::serve::unix_now;

/// How long the two talk.
const TALK: Duration = Duration::from_secs(4);

/// Most peers in one process here.
const MAX_PEERS: usize = 500;

/// A phone: a user agent, a talker, and their two sockets.
struct Phone {
    name: &'static str,
    ua: UserAgent,
    peer: SocketAddr,
    signalling: UdpSocket,
    sound: UdpSocket,
    talker: Option<Endpoint>,
    send_to: Option<SocketAddr>,
    hertz: f64,
    registered: bool,
    answered: Option<Instant>,
    ended: bool,
    text: Option<Instant>,
    seed: u64,
}

impl Phone {
    fn new(name: &'static str, peer: SocketAddr, hertz: f64, seed: u64) -> std::io::Result<Phone> {
        let signalling = UdpSocket::bind("127.0.0.1:0")?;
        let sound = UdpSocket::bind("127.0.0.1:0")?;
        signalling.set_nonblocking(true)?;
        sound.set_nonblocking(true)?;
        let port = signalling.local_addr()?.port();
        let config = UaConfig {
            user: name.into(),
            domain: "demo.test".into(),
            password: Some("demo".into()),
            flow: Flow::Udp(peer),
            sent_by: SentBy { host: "127.0.0.1".into(), port: Some(port) },
            expires: 600,
        };
        Ok(Phone {
            name,
            ua: UserAgent::new(config, Seed::from_number(seed)),
            peer,
            signalling,
            sound,
            talker: None,
            send_to: None,
            hertz,
            registered: false,
            answered: None,
            ended: false,
            text: None,
            seed,
        })
    }

    fn offer(&self) -> std::io::Result<Vec<u8>> {
        Ok(g711_sdp(self.sound.local_addr()?))
    }

    fn talk(&mut self, now: Time, sdp: &[u8]) {
        let config = EndpointConfig::new(Source::Tone(self.hertz), Seed::from_number(self.seed + 1));
        self.talker = Some(Endpoint::new(config, now));
        self.send_to = Description::parse(sdp).ok().and_then(|d| d.destination(0));
        self.answered = Some(Instant::now());
    }

    /// Takes what came and says what is due.
    fn act(&mut self, now: Time) -> std::io::Result<()> {
        let mut buffer = [0; 65_536];
        while let Some((len, from)) = received(&self.signalling, &mut buffer)? {
            self.ua.handle_message(now, Flow::Udp(from), &buffer[..len]);
        }
        if self.ua.poll_timeout().is_some_and(|(at, _)| at <= now) {
            self.ua.handle_timeout(now);
        }
        while let Some(event) = self.ua.poll_event() {
            self.handle_event(now, event)?;
        }
        while let Some((_, bytes)) = self.ua.poll_transmit() {
            self.signalling.send_to(&bytes, self.peer)?;
        }
        let Some(talker) = &mut self.talker else { return Ok(()) };
        while let Some((len, _)) = received(&self.sound, &mut buffer)? {
            talker.handle_packet(now, &buffer[..len]);
        }
        if talker.poll_timeout().is_some_and(|(at, _)| at <= now) {
            talker.handle_timeout(now);
        }
        while let (Some(packet), Some(to)) = (talker.poll_packet(), self.send_to) {
            let is_rtp = matches!(wire::rtp::classify(&packet), Some(wire::rtp::Kind::Rtp));
            if is_rtp {
                self.sound.send_to(&packet, to)?;
            }
        }
        Ok(())
    }

    fn handle_event(&mut self, now: Time, event: UaEvent) -> std::io::Result<()> {
        match event {
            UaEvent::Registered => self.registered = true,
            UaEvent::Incoming { handle, offer: Some(offer), .. } => {
                self.ua.ring(now, handle);
                self.talk(now, &offer);
                let answer = self.offer()?;
                self.ua.answer(now, handle, answer);
            }
            UaEvent::Answered { sdp, .. } => self.talk(now, &sdp),
            UaEvent::Ended { .. } | UaEvent::Failed { .. } => self.ended = true,
            UaEvent::MessageReceived { .. } => self.text = Some(Instant::now()),
            _ => {}
        }
        Ok(())
    }

    fn heard(&self, hertz: f64) -> bool {
        let samples = self.talker.as_ref().map(|t| t.recording().to_vec()).unwrap_or_default();
        media::heard(&samples, 8_000, hertz).at_least(TALK.as_secs_f64() * 0.7)
    }
}

fn received(socket: &UdpSocket, buffer: &mut [u8]) -> std::io::Result<Option<(usize, SocketAddr)>> {
    match socket.recv_from(buffer) {
        Ok(got) => Ok(Some(got)),
        Err(e) if e.kind() == ErrorKind::WouldBlock || e.kind() == ErrorKind::ConnectionRefused => Ok(None),
        Err(e) => Err(e),
    }
}

/// The peers, the phones, and what was said.
struct Stage {
    world: World,
    phones: Vec<Phone>,
    online: usize,
    published: usize,
    done: BTreeMap<OpId, Outcome>,
    calls: Vec<CallReport>,
}

impl Stage {
    /// Lets the world turn until `until` says so, at most `longest`.
    fn run(&mut self, longest: Duration, until: impl Fn(&Stage) -> bool) -> std::io::Result<bool> {
        let end = Instant::now() + longest;
        while !until(self) {
            if Instant::now() >= end {
                return Ok(false);
            }
            let mut told = Vec::new();
            let pace = if self.phones.is_empty() { 20 } else { 2 };
            self.world.turn(Duration::from_millis(pace), &mut |index, event| told.push((index, event)))?;
            for (_, event) in told {
                match event {
                    Event::Online => self.online += 1,
                    Event::Published { .. } => self.published += 1,
                    Event::Done { op, outcome } => drop(self.done.insert(op, outcome)),
                    Event::Call(report) => self.calls.push(report),
                    _ => {}
                }
            }
            let now = self.world.now();
            for phone in &mut self.phones {
                phone.act(now)?;
            }
        }
        Ok(true)
    }
}

fn peer(
    world: &mut World,
    n: usize,
    algorithm: Algorithm,
    seed: u64,
    bootstrap: Option<SocketAddr>,
) -> Result<(usize, SocketAddr, SocketAddr), String> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let bound = Bound::new(any, true, any, true)?;
    let (listen, sip) = (bound.peer_address, bound.sip_address);
    let user = match n {
        1 => Some("alice@demo.test"),
        2 => Some("bob@demo.test"),
        _ => None,
    };
    let base = seed.wrapping_mul(1_000_003).wrapping_add(n as u64);
    let key = |salt: u64| KeyPair::from_seed(Seed::from_number(base.wrapping_mul(4).wrapping_add(salt)));
    let users = user.map(|aor| User { aor: aor.into(), keys: key(1) }).into_iter().collect();
    let identity = Identity { peer: key(0), users };
    let config = Config {
        listen,
        sip,
        bootstrap: bootstrap.into_iter().collect(),
        overlay: OverlayOptions { name: "demo".into(), algorithm, ..OverlayOptions::default() },
        ..Config::default()
    };
    let seed = Seed::from_number(base.wrapping_mul(4).wrapping_add(2));
    let node = Node::new(config, identity, Saved::default(), seed, world.now(), unix_now());
    let index = world.add(node, bound).map_err(|e| e.to_string())?;
    Ok((index, listen, sip))
}

/// Runs the demonstration; returns the exit code.
pub fn run(peers: usize, overlay: Algorithm, seed: u64, check: bool, json: bool) -> i32 {
    let peers = peers.clamp(3, MAX_PEERS);
    match play(peers, overlay, seed) {
        Ok(mut report) => {
            let ok = report["failures"].as_array().is_some_and(Vec::is_empty);
            report["ok"] = json!(ok);
            report["schema"] = json!("openvoip.demo/1");
            if json {
                println!("{report}");
            }
            eprintln!(
                "{}",
                if ok { "everything was as it should be" } else { "something went wrong, see above" }
            );
            i32::from(check && !ok)
        }
        Err(e) => {
            eprintln!("openvoip: the demonstration could not run: {e}");
            1
        }
    }
}

fn play(peers: usize, overlay: Algorithm, seed: u64) -> Result<serde_json::Value, String> {
    let io = |e: std::io::Error| e.to_string();
    let mut failures: Vec<String> = Vec::new();
    let world = World::new().map_err(io)?;
    let mut stage = Stage {
        world,
        phones: Vec::new(),
        online: 0,
        published: 0,
        done: BTreeMap::new(),
        calls: Vec::new(),
    };

    let start = Instant::now();
    let (_, founder, _) = peer(&mut stage.world, 0, overlay, seed, None)?;
    let mut sip = Vec::new();
    for n in 1..peers {
        sip.push(peer(&mut stage.world, n, overlay, seed, Some(founder))?.2);
        stage.world.with(n, &mut |_, _| {}, |_, _| {});
    }
    let joined = stage.run(Duration::from_secs(20), |s| s.online >= peers && s.published >= 2).map_err(io)?;
    let joined_ms = start.elapsed().as_secs_f64() * 1e3;
    expect(&mut failures, joined, "not every peer joined within 20 s");
    eprintln!(" {} of {peers} peers joined ({overlay}, sha-256)   {joined_ms:.0} ms", stage.online);

    for (n, user) in [(1, "alice"), (2, "bob")] {
        stage.world.with(n, &mut |_, _| {}, |node, now| node.add_phone(now, user, "demo"));
    }
    let now = stage.world.now();
    for (name, at, hertz) in [("alice", sip[0], 440.0), ("bob", sip[1], 1_000.0)] {
        let mut phone = Phone::new(name, at, hertz, seed + at.port() as u64).map_err(io)?;
        phone.ua.register(now);
        stage.phones.push(phone);
    }
    let registered =
        stage.run(Duration::from_secs(5), |s| s.phones.iter().all(|p| p.registered)).map_err(io)?;
    expect(&mut failures, registered, "a phone could not register");
    let names: Vec<&str> = stage.phones.iter().map(|p| p.name).collect();
    eprintln!(" phones of {} registered at two peers", names.join(" and "));

    let lookup = look_up(&mut stage, peers)?;
    expect(&mut failures, lookup.found, "bob was not found");
    eprintln!(" bob is found: {} hops, {:.1} ms", lookup.hops, lookup.time_ms);

    let dialled = Instant::now();
    let offer = stage.phones[0].offer().map_err(io)?;
    let now = stage.world.now();
    let call = stage.phones[0].ua.invite(now, "bob@demo.test", offer);
    let answered = stage.run(Duration::from_secs(5), |s| s.phones[0].answered.is_some()).map_err(io)?;
    expect(&mut failures, answered, "the call was not answered");
    let at = stage.phones[0].answered.unwrap_or_else(Instant::now);
    let setup_ms = at.duration_since(dialled).as_secs_f64() * 1e3;
    eprintln!(" alice calls bob: answered after {setup_ms:.1} ms");
    stage.run(TALK, |_| false).map_err(io)?;
    let now = stage.world.now();
    stage.phones[0].ua.hang_up(now, call);
    stage
        .run(Duration::from_secs(3), |s| s.phones[1].ended && s.calls.iter().any(|c| c.state == "ended"))
        .map_err(io)?;
    let heard = [stage.phones[0].heard(1_000.0), stage.phones[1].heard(440.0)];
    expect(&mut failures, heard[0], "alice did not hear bob");
    expect(&mut failures, heard[1], "bob did not hear alice");
    let report = stage.calls.iter().rev().find(|c| c.state == "ended").cloned().unwrap_or_default();
    eprintln!(
        " bob heard alice: {}, alice heard bob: {}   {}, MOS {:.1} (estimated), {} lost",
        heard[1], heard[0], report.path, report.mos, report.rtp.lost
    );

    let sent = Instant::now();
    let now = stage.world.now();
    stage.phones[0].ua.message(now, "bob@demo.test", "text/plain", b"hello bob");
    let delivered = stage.run(Duration::from_secs(5), |s| s.phones[1].text.is_some()).map_err(io)?;
    expect(&mut failures, delivered, "the message did not arrive");
    let message_ms = sent.elapsed().as_secs_f64() * 1e3;
    eprintln!(" alice writes to bob: delivered after {message_ms:.1} ms");

    let elapsed = start.elapsed().as_secs_f64();
    let mut rates: Vec<f64> =
        (0..peers).map(|n| stage.world.node(n).maintenance_bytes_sent() as f64 / elapsed).collect();
    rates.sort_by(f64::total_cmp);
    Ok(json!({
        "peers": peers,
        "joined_ms": joined_ms,
        "lookup": { "found": lookup.found, "hops": lookup.hops, "time_ms": lookup.time_ms },
        "call": {
            "setup_ms": setup_ms,
            "path": report.path,
            "reason": "both peers are on this machine",
            "heard_by_caller": heard[0],
            "heard_by_callee": heard[1],
            "mos": report.mos,
        },
        "message": { "delivered": delivered, "time_ms": message_ms },
        // Over these few seconds, joining included: not the mean of a day.
        "maintenance_bytes_per_s": {
            "mean": rates.iter().sum::<f64>() / peers as f64,
            "p99": rates[(peers * 99 / 100).min(peers - 1)],
        },
        "failures": failures,
    }))
}

/// The last peer looks bob up, unless it holds his record itself: then another one.
fn look_up(stage: &mut Stage, peers: usize) -> Result<LookupReport, String> {
    let place = node::directory::place_of_user(wire::HashAlgorithm::Sha256, "bob@demo.test");
    let seeker = (3..peers).rev().find(|n| !stage.world.node(*n).holds(&place)).unwrap_or(peers - 1);
    let mut told = Vec::new();
    let options = LookupOptions { fresh: true, ..LookupOptions::default() };
    let op = stage.world.with(seeker, &mut |_, event| told.push(event), |node, now| {
        node.lookup_user(now, "bob@demo.test", options)
    });
    stage.run(Duration::from_secs(5), |s| s.done.contains_key(&op)).map_err(|e| e.to_string())?;
    Ok(match stage.done.remove(&op) {
        Some(Outcome::Lookup(report)) => report,
        _ => LookupReport::default(),
    })
}

fn expect(failures: &mut Vec<String>, good: bool, otherwise: &str) {
    if !good {
        failures.push(otherwise.to_owned());
        eprintln!(" NOT AS IT SHOULD BE: {otherwise}");
    }
}
