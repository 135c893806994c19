//! Real peers in this process, each with its own sockets on 127.0.0.1 and one user.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use node::{Algorithm, Config, Event, Identity, Node, OpId, Outcome, OverlayOptions, Profile, Saved, User};
use wire::{KeyPair, Rng, Seed, Time};

use crate::run::{Bound, World};
use crate::serve::unix_now;
use crate::system;

/// Peers that join at once; more would measure the queue in front of the first peer.
const JOINING_AT_ONCE: usize = 32;

/// Sockets of a peer: peer port, and UDP and TCP for phones.
const SOCKETS: u64 = 3;

/// The address-of-record of a peer's user.
pub(super) fn user(n: usize) -> String {
    format!("user{n}@lab.test")
}

/// What every overlay of a laboratory is called.
pub(super) const OVERLAY_NAME: &str = "lab.test";

/// The peers, and what they said.
pub(super) struct Peers {
    pub(super) world: World,
    /// Numbers of the peers that have not been killed.
    pub(super) living: Vec<usize>,
    pub(super) rng: Rng,
    overlay: Algorithm,
    profile: Profile,
    addresses: Vec<SocketAddr>,
    /// Who is not in the overlay yet, and whose user is not published and read back.
    joining: BTreeSet<usize>,
    publishing: BTreeSet<usize>,
    gone: BTreeSet<usize>,
    done: BTreeMap<(usize, OpId), Outcome>,
}

impl Peers {
    /// Nobody yet. All keys follow from the seed.
    pub(super) fn new(overlay: Algorithm, profile: Profile, seed: u64) -> std::io::Result<Peers> {
        Ok(Peers {
            world: World::new()?,
            living: Vec::new(),
            rng: Seed::from_number(seed).rng(),
            overlay,
            profile,
            addresses: Vec::new(),
            joining: BTreeSet::new(),
            publishing: BTreeSet::new(),
            gone: BTreeSet::new(),
            done: BTreeMap::new(),
        })
    }

    /// Starts more peers and waits until all are in the overlay and their users are published;
    /// `progress` is told how many joined. Gives the numbers of those for whom that took too long.
    ///
    /// # Errors
    /// In words, if the system does not give enough sockets.
    pub(super) fn join(
        &mut self,
        count: usize,
        progress: &mut dyn FnMut(String),
    ) -> Result<BTreeSet<usize>, String> {
        let first = self.addresses.len();
        system::allow_open_files((first + count) as u64 * SOCKETS + 64)?;
        let end = Instant::now() + Duration::from_secs(30) + Duration::from_millis(100) * count as u32;
        let left = || end.saturating_duration_since(Instant::now());
        let in_words = |e: std::io::Error| e.to_string();
        // Nobody waits for those who were late before.
        self.joining.clear();
        self.publishing.clear();
        for n in first..first + count {
            self.add()?;
            self.turn(left(), |peers| peers.joining.len() < JOINING_AT_ONCE).map_err(in_words)?;
            if (n + 1).is_multiple_of(250) {
                progress(format!("{} peers joined", n + 1 - self.joining.len()));
            }
        }
        self.turn(left(), |peers| peers.joining.is_empty() && peers.publishing.is_empty())
            .map_err(in_words)?;
        Ok(self.joining.union(&self.publishing).copied().collect())
    }

    fn add(&mut self) -> Result<(), String> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound = Bound::new(any, true, any, true)?;
        let n = self.addresses.len();
        let mut key = || KeyPair::from_seed(Seed::child_of(&mut self.rng));
        let identity = Identity { peer: key(), users: vec![User { aor: user(n), keys: key() }] };
        let oldest = self.living.iter().min().map(|n| self.addresses[*n]);
        let config = Config {
            listen: bound.peer_address,
            sip: bound.sip_address,
            sips: None,
            bootstrap: oldest.into_iter().collect(),
            overlay: OverlayOptions {
                name: OVERLAY_NAME.into(),
                algorithm: self.overlay,
                ..OverlayOptions::default()
            },
            profile: self.profile,
            numbers: false,
            ..Config::default()
        };
        let seed = Seed::child_of(&mut self.rng);
        let node = Node::new(config, identity, Saved::default(), seed, self.world.now(), unix_now());
        self.addresses.push(bound.peer_address);
        let index = self.world.add(node, bound).map_err(|e| e.to_string())?;
        self.living.push(index);
        self.joining.insert(index);
        self.publishing.insert(index);
        // What it wants to send first lies ready.
        self.tell(index, |_, _| {});
        Ok(())
    }

    /// Ends a peer without a goodbye. Its ports are closed, or, `silently`, stay open and unread as if its
    /// cable had been cut: the system then tells nobody.
    pub(super) fn kill(&mut self, n: usize, silently: bool) -> std::io::Result<()> {
        self.living.retain(|living| *living != n);
        if silently {
            return self.world.freeze(n);
        }
        self.world.kill(n);
        Ok(())
    }

    /// Lets a peer say goodbye and end, which takes a second at most.
    pub(super) fn leave(&mut self, n: usize) -> std::io::Result<()> {
        self.tell(n, |node, now| node.leave(now));
        self.turn(Duration::from_secs(5), |peers| peers.gone.contains(&n))?;
        self.kill(n, false)
    }

    /// Gives a peer a command.
    pub(super) fn tell<T>(&mut self, n: usize, command: impl FnOnce(&mut Node, Time) -> T) -> T {
        let mut told = Vec::new();
        let result = self.world.with(n, &mut |_, event| told.push(event), command);
        told.into_iter().for_each(|event| self.note(n, event));
        result
    }

    /// Waits for what an operation of a peer comes to; `None` if that takes longer.
    pub(super) fn outcome(
        &mut self,
        n: usize,
        op: OpId,
        longest: Duration,
    ) -> std::io::Result<Option<Outcome>> {
        self.turn(longest, |peers| peers.done.contains_key(&(n, op)))?;
        Ok(self.done.remove(&(n, op)))
    }

    /// Lets the peers work for at most `longest`, or until `until`; says whether that came to be.
    pub(super) fn turn(
        &mut self,
        longest: Duration,
        until: impl Fn(&Peers) -> bool,
    ) -> std::io::Result<bool> {
        let end = Instant::now() + longest;
        while !until(self) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let mut told = Vec::new();
            self.world
                .turn(left.min(Duration::from_millis(100)), &mut |peer, event| told.push((peer, event)))?;
            told.into_iter().for_each(|(peer, event)| self.note(peer, event));
        }
        Ok(true)
    }

    fn note(&mut self, peer: usize, event: Event) {
        match event {
            Event::Online => drop(self.joining.remove(&peer)),
            Event::Published { .. } => drop(self.publishing.remove(&peer)),
            Event::Left => drop(self.gone.insert(peer)),
            Event::Done { op, outcome } => drop(self.done.insert((peer, op), outcome)),
            _ => {}
        }
    }
}
