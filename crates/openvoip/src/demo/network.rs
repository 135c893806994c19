//! The stage: peers on real UDP sockets of this machine, the phones beside them, and what was said.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use node::report::{CallReport, LookupReport};
use node::{
    Algorithm, Config, Event, Identity, LookupOptions, Node, OpId, Outcome, OverlayOptions, Saved, User,
};
use wire::{KeyPair, NodeId, ResourceId, Seed, Time};

use super::phones::Phone;
use super::picture::Picture;
use super::sound::Speaker;
use crate::run::{Bound, World};
use crate::serve::unix_now;

/// The user who calls, and who is called; each at a peer of their own.
pub(super) const ALICE: usize = 1;
pub(super) const BOB: usize = 2;

/// What everybody at the stage can see, for those who draw it.
#[derive(Default)]
pub(super) struct Scene {
    /// Peers that have joined, and how long it took.
    pub(super) online: usize,
    pub(super) joined_ms: Option<f64>,
    /// How bob was found, by whom, and when the picture began to tell of it.
    pub(super) lookup: Option<(usize, LookupReport, Instant)>,
    /// From dialling to the answer.
    pub(super) setup_ms: Option<f64>,
    /// From sending to bob's phone.
    pub(super) message_ms: Option<f64>,
}

/// The peers, the phones, and what was said.
pub(super) struct Stage {
    pub(super) world: World,
    pub(super) peers: usize,
    pub(super) phones: Vec<Phone>,
    pub(super) scene: Scene,
    /// What alice's peer says about calls.
    pub(super) calls: Vec<CallReport>,
    pub(super) picture: Option<Picture>,
    pub(super) speaker: Option<Speaker>,
    pub(super) started: Instant,
    sip: Vec<SocketAddr>,
    published: usize,
    done: BTreeMap<(usize, OpId), Outcome>,
    interrupted: Arc<AtomicBool>,
}

impl Stage {
    /// Binds the sockets and lets every peer begin to join. All keys follow from `seed`.
    pub(super) fn new(
        peers: usize,
        algorithm: Algorithm,
        seed: u64,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Stage, String> {
        let mut world = World::new().map_err(|e| e.to_string())?;
        let started = Instant::now();
        let (founder, first_sip) = add_peer(&mut world, 0, algorithm, seed, None)?;
        let mut sip = vec![first_sip];
        for n in 1..peers {
            sip.push(add_peer(&mut world, n, algorithm, seed, Some(founder))?.1);
            world.with(n, &mut |_, _| {}, |_, _| {});
        }
        Ok(Stage {
            world,
            peers,
            phones: Vec::new(),
            scene: Scene::default(),
            calls: Vec::new(),
            picture: None,
            speaker: None,
            started,
            sip,
            published: 0,
            done: BTreeMap::new(),
            interrupted,
        })
    }

    /// Lets the world turn until `until` says so, at most `longest`; `false` if it took longer.
    ///
    /// # Errors
    /// In words, if a socket fails or somebody pressed Ctrl-C.
    pub(super) fn run(&mut self, longest: Duration, until: impl Fn(&Stage) -> bool) -> Result<bool, String> {
        let end = Instant::now() + longest;
        while !until(self) {
            if self.interrupted.load(Ordering::SeqCst) {
                return Err("interrupted".into());
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            self.turn().map_err(|e| e.to_string())?;
        }
        Ok(true)
    }

    fn turn(&mut self) -> std::io::Result<()> {
        let mut told = Vec::new();
        // Phones are not in the poll: look at them every other millisecond.
        let pace = if self.phones.is_empty() { 20 } else { 2 };
        self.world.turn(Duration::from_millis(pace), &mut |index, event| told.push((index, event)))?;
        for (index, event) in told {
            match event {
                Event::Online => self.scene.online += 1,
                Event::Published { .. } => self.published += 1,
                Event::Done { op, outcome } => drop(self.done.insert((index, op), outcome)),
                Event::Call(report) if index == ALICE => self.calls.push(report),
                _ => {}
            }
        }
        let now = self.world.now();
        for phone in &mut self.phones {
            phone.act(now)?;
        }
        if let (Some(speaker), Some(bob)) = (&mut self.speaker, self.phones.get(1)) {
            speaker.play(bob.samples());
        }
        // Taken out while it looks at the stage.
        if let Some(mut picture) = self.picture.take() {
            picture.draw(self);
            self.picture = Some(picture);
        }
        Ok(())
    }

    /// Waits until every peer has joined and both users can be found.
    pub(super) fn join(&mut self, longest: Duration) -> Result<bool, String> {
        let joined = self.run(longest, |s| s.scene.online >= s.peers && s.published >= 2)?;
        self.scene.joined_ms = Some(ms(self.started.elapsed()));
        Ok(joined)
    }

    /// Gives alice and bob a phone each; `false` if one could not register in time.
    pub(super) fn plug_phones_in(&mut self, seed: u64, longest: Duration) -> Result<bool, String> {
        let now = self.world.now();
        for (name, index, hertz) in [("alice", ALICE, 440.0), ("bob", BOB, 1_000.0)] {
            self.world.with(index, &mut |_, _| {}, |node, now| node.add_phone(now, name, "demo"));
            let at = self.sip[index];
            let phone = Phone::new(name, at, hertz, seed.wrapping_add(at.port().into()));
            let mut phone = phone.map_err(|e| e.to_string())?;
            phone.register(now);
            self.phones.push(phone);
        }
        self.run(longest, |s| s.phones.iter().all(|p| p.registered))
    }

    /// A peer that holds no record of bob's, if there is one, looks him up.
    pub(super) fn look_bob_up(&mut self, longest: Duration) -> Result<LookupReport, String> {
        let place = bobs_place();
        let seeker =
            (3..self.peers).rev().find(|n| !self.world.node(*n).holds(&place)).unwrap_or(self.peers - 1);
        let options =
            LookupOptions { fresh: true, trace: self.picture.is_some(), ..LookupOptions::default() };
        let mut told = Vec::new();
        let op = self.world.with(seeker, &mut |_, event| told.push(event), |node, now| {
            node.lookup_user(now, "bob@demo.test", options)
        });
        self.run(longest, |s| s.done.contains_key(&(seeker, op)))?;
        let report = match self.done.remove(&(seeker, op)) {
            Some(Outcome::Lookup(report)) => report,
            _ => LookupReport::default(),
        };
        self.scene.lookup = Some((seeker, report.clone(), Instant::now()));
        Ok(report)
    }

    /// Whether alice's peer has reported a call in this state.
    pub(super) fn call_in(&self, state: &str) -> Option<&CallReport> {
        self.calls.iter().rev().find(|call| call.state == state)
    }

    pub(super) fn node_id(&self, index: usize) -> Option<NodeId> {
        self.world.node(index).node_id()
    }

    pub(super) fn now(&self) -> Time {
        self.world.now()
    }
}

/// Where bob's record stands in the overlay.
pub(super) fn bobs_place() -> ResourceId {
    node::directory::place_of_user(wire::HashAlgorithm::Sha256, "bob@demo.test")
}

pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Adds a peer; returns the addresses of its peer port and its SIP port.
fn add_peer(
    world: &mut World,
    n: usize,
    algorithm: Algorithm,
    seed: u64,
    bootstrap: Option<SocketAddr>,
) -> Result<(SocketAddr, SocketAddr), String> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let bound = Bound::new(any, true, any, true)?;
    let (listen, sip) = (bound.peer_address, bound.sip_address);
    let user = match n {
        ALICE => Some("alice@demo.test"),
        BOB => Some("bob@demo.test"),
        _ => None,
    };
    let base = seed.wrapping_mul(1_000_003).wrapping_add(n as u64);
    let chance = |salt: u64| Seed::from_number(base.wrapping_mul(4).wrapping_add(salt));
    let key = |salt| KeyPair::from_seed(chance(salt));
    let users = user.map(|aor| User { aor: aor.into(), keys: key(1) }).into_iter().collect();
    let identity = Identity { peer: key(0), users };
    let config = Config {
        listen,
        sip,
        sips: None,
        bootstrap: bootstrap.into_iter().collect(),
        overlay: OverlayOptions { name: "demo".into(), algorithm, ..OverlayOptions::default() },
        numbers: false,
        ..Config::default()
    };
    let node = Node::new(config, identity, Saved::default(), chance(2), world.now(), unix_now());
    world.add(node, bound).map_err(|e| e.to_string())?;
    Ok((listen, sip))
}
