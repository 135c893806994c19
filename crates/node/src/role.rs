//! Peer or client: who carries others, and who is carried.
//!
//! A peer that strangers cannot reach is of no use in anybody's table; nor is one whose owner allows
//! it too few bytes. Such a node is a *client*. Whether strangers reach us is seen, not believed: a
//! request from an address to which we never wrote is proof, as AutoNAT does it; where none comes, we
//! ask another peer to have a third one write to us.
//!
//! One verdict decides nothing. Three failed tests in a row make a client, three passed tests in a row
//! and ten minutes a peer again, since a peer that comes and goes costs its neighbours more than it
//! carries. Load is not a reason to step down: if the busy did, the rest would become busy (Skype's
//! outage of December 2010 went that way). A busy peer sheds work instead, see `ledger.rs`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::Time;

/// What a node is in the overlay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Role {
    /// It routes for others and keeps their records.
    Peer,
    /// It uses the overlay through the peers it is attached to.
    Client,
}

impl Role {
    /// A word for `status`.
    pub fn name(self) -> &'static str {
        match self {
            Role::Peer => "peer",
            Role::Client => "client",
        }
    }
}

/// Who decides about the role.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
pub enum RolePolicy {
    /// The node itself, by what it sees.
    #[default]
    Auto,
    /// Always a peer.
    Peer,
    /// Always a client.
    Client,
}

wire::choices!(RolePolicy, "role": Auto = "auto", Peer = "peer", Client = "client");

/// With a ceiling below this, in bytes per second, a node is a client. Overlays of three hundred peers with
/// sessions of an hour were seen to find everything with half of it, by shedding work; but that leaves
/// nothing for others.
pub const LEAST_CAPACITY: u32 = 50;

/// So many verdicts in a row count.
const ENOUGH: i8 = 3;

/// How long a client stays one at least.
const SETTLED: Duration = Duration::from_secs(600);

/// The first test after joining: others have had time to write by themselves.
const FIRST_TEST: Duration = Duration::from_secs(20);

/// Between tests while a peer does not know.
const TEST_PEER: Duration = Duration::from_secs(20);

/// Between tests of a client.
const TEST_CLIENT: Duration = Duration::from_secs(180);

/// A peer that was reached is sure of it for so long.
const SURE: Duration = Duration::from_secs(1_800);

/// A peer that wrote to us unasked shows reachability once in this time: three peers that do so in one
/// second have all found the same open door.
const APART: Duration = Duration::from_secs(10);

/// How long the third peer has to write to us.
const TEST_TIME: Duration = Duration::from_secs(6);

/// What a node is, and what it knows about itself.
#[derive(Debug)]
pub(crate) struct Roles {
    policy: RolePolicy,
    capacity: u32,
    role: Role,
    since: Time,
    /// Verdicts in a row: positive while strangers reach us.
    streak: i8,
    reached: Option<Time>,
    testing: Option<Time>,
    next_test: Time,
    /// Whom we wrote to; kept while that can matter, see [`Roles::wrote`].
    written: Option<Written>,
}

impl Roles {
    pub(crate) fn new(policy: RolePolicy, capacity: u32, now: Time) -> Self {
        let role = match policy {
            RolePolicy::Client => Role::Client,
            RolePolicy::Auto if capacity < LEAST_CAPACITY => Role::Client,
            _ => Role::Peer,
        };
        let next_test = now + FIRST_TEST;
        Roles {
            policy,
            capacity,
            role,
            since: now,
            streak: 0,
            reached: None,
            testing: None,
            next_test,
            written: None,
        }
    }

    /// It founds the overlay. Somebody must be a peer of it, whatever its budget; unless it was told otherwise.
    pub(crate) fn found(&mut self) {
        if self.policy == RolePolicy::Auto {
            (self.role, self.capacity) = (Role::Peer, self.capacity.max(LEAST_CAPACITY));
        }
    }

    /// What the node is now.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Whether strangers reach this node: unknown before the first verdict.
    pub(crate) fn is_reachable(&self) -> Option<bool> {
        (self.streak != 0).then_some(self.streak > 0)
    }

    /// We write to an address: a NAT in front of us lets it in from now on. A peer that is sure of being
    /// reached remembers nobody, until so long before it tests itself again as a NAT may remember.
    pub(crate) fn wrote(&mut self, now: Time, to: SocketAddr) {
        let sure = |at: Time| self.role == Role::Peer && now.since(at) + TURN < SURE;
        if self.policy == RolePolicy::Auto && !self.reached.is_some_and(sure) {
            // Begun anew, it does not know yet whom we wrote to before.
            let blind_until = if self.reached.is_some() { now + TURN } else { Time::ZERO };
            self.written.get_or_insert_with(|| Written { blind_until, ..Written::default() }).add(now, to);
        } else {
            self.written = None;
        }
    }

    /// Whether we wrote to an address lately, as far as we know.
    pub(crate) fn has_written(&self, now: Time, to: SocketAddr) -> bool {
        self.written.as_ref().is_none_or(|w| now < w.blind_until || w.contains(to))
    }

    /// A request came from an address to which we never wrote.
    pub(crate) fn reached(&mut self, now: Time) {
        let fresh = self.reached.is_none_or(|at| now.since(at) >= APART);
        if fresh || self.testing.is_some() {
            self.reached = Some(now);
            self.streak = self.streak.max(0).saturating_add(1).min(ENOUGH);
            self.testing = None;
        }
    }

    /// Whether it is time to have ourselves written to.
    pub(crate) fn wants_test(&self, now: Time) -> bool {
        let useful = self.policy == RolePolicy::Auto && self.capacity >= LEAST_CAPACITY;
        let sure = self.role == Role::Peer && self.reached.is_some_and(|at| now.since(at) < SURE);
        useful && !sure && self.testing.is_none() && now >= self.next_test
    }

    /// A third peer will write to us now.
    pub(crate) fn test_begins(&mut self, now: Time) {
        self.testing = Some(now + TEST_TIME);
    }

    /// Nobody could be found who would write to us.
    pub(crate) fn test_impossible(&mut self, now: Time) {
        self.testing = None;
        self.plan(now);
    }

    fn plan(&mut self, now: Time) {
        self.next_test = now + if self.role == Role::Peer { TEST_PEER } else { TEST_CLIENT };
    }

    /// When [`decide`](Self::decide) may have something new to say.
    pub(crate) fn next(&self) -> Option<Time> {
        (self.policy == RolePolicy::Auto).then(|| self.testing.unwrap_or(self.next_test))
    }

    /// Counts a test that nobody passed, and says if the role shall change. It counts as changed then.
    pub(crate) fn decide(&mut self, now: Time) -> Option<Role> {
        if self.testing.is_some_and(|until| until <= now) {
            self.testing = None;
            self.streak = self.streak.min(0).saturating_sub(1).max(-ENOUGH);
        }
        if self.testing.is_none() && self.next_test <= now {
            self.plan(now);
        }
        let role = match self.policy {
            RolePolicy::Auto if self.capacity < LEAST_CAPACITY => Role::Client,
            RolePolicy::Auto if self.role == Role::Peer && self.streak <= -ENOUGH => Role::Client,
            RolePolicy::Auto if self.streak >= ENOUGH && now.since(self.since) >= SETTLED => Role::Peer,
            _ => self.role,
        };
        if role == self.role {
            return None;
        }
        (self.role, self.since, self.reached) = (role, now, None);
        self.plan(now);
        Some(role)
    }
}

/// The addresses written to within ten to twenty minutes, which is longer than NATs remember.
///
/// Two Bloom filters in turn: a kilobyte, where a list would grow with the overlay. With 200 addresses
/// one stranger in two hundred is taken for an acquaintance, and his word not counted.
#[derive(Debug)]
struct Written {
    filters: [Box<[u64; WORDS]>; 2],
    turned: Time,
    blind_until: Time,
}

const WORDS: usize = 64;
const TURN: Duration = Duration::from_secs(600);

impl Default for Written {
    fn default() -> Self {
        Written {
            filters: [Box::new([0; WORDS]), Box::new([0; WORDS])],
            turned: Time::ZERO,
            blind_until: Time::ZERO,
        }
    }
}

impl Written {
    fn add(&mut self, now: Time, address: SocketAddr) {
        if now.since(self.turned) >= TURN {
            self.turned = now;
            self.filters.swap(0, 1);
            self.filters[0].fill(0);
        }
        for bit in bits(address) {
            self.filters[0][bit / 64] |= 1 << (bit % 64);
        }
    }

    fn contains(&self, address: SocketAddr) -> bool {
        let holds =
            |filter: &[u64; WORDS]| bits(address).iter().all(|bit| filter[bit / 64] >> (bit % 64) & 1 == 1);
        self.filters.iter().any(|filter| holds(filter))
    }
}

/// Three places in a filter, of a hash (FNV-1a) of the address.
fn bits(address: SocketAddr) -> [usize; 3] {
    let fold = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    let seed = address.port().to_be_bytes().into_iter().fold(0xcbf2_9ce4_8422_2325, fold);
    let hash = match address.ip() {
        IpAddr::V4(ip) => ip.octets().into_iter().fold(seed, fold),
        IpAddr::V6(ip) => ip.octets().into_iter().fold(seed, fold),
    };
    [hash, hash >> 21, hash >> 42].map(|h| h as usize % (WORDS * 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_written_to_are_known_for_ten_minutes_and_strangers_are_not() {
        let mut written = Written::default();
        let address = |n: u16| SocketAddr::from(([10, 0, (n / 250) as u8, (n % 250) as u8], 7_080));
        (0..200).for_each(|n| written.add(Time::from_secs(1_000), address(n)));
        assert!((0..200).all(|n| written.contains(address(n))));
        let taken_for_known = (1_000..3_000).filter(|n| written.contains(address(*n))).count();
        assert!(taken_for_known < 40, "{taken_for_known} of 2,000");
        written.add(Time::from_secs(1_601), address(900));
        assert!(written.contains(address(7)));
        written.add(Time::from_secs(2_202), address(900));
        assert!(!written.contains(address(7)));
    }

    fn auto() -> Roles {
        Roles::new(RolePolicy::Auto, 500, Time::ZERO)
    }

    /// Runs the machine for `seconds`; strangers reach it, or not.
    fn live(roles: &mut Roles, from: u64, seconds: u64, open: bool) -> Vec<(u64, Role)> {
        let mut changes = Vec::new();
        for s in from..from + seconds {
            let now = Time::from_secs(s);
            if roles.wants_test(now) {
                roles.test_begins(now);
                if open {
                    roles.reached(now);
                }
            }
            changes.extend(roles.decide(now).map(|role| (s, role)));
        }
        changes
    }

    #[test]
    fn a_peer_behind_a_closed_door_becomes_a_client_after_three_tests_and_stays_one() {
        let mut roles = auto();
        let changes = live(&mut roles, 0, 4_000, false);
        assert!(matches!(changes[..], [(60..=120, Role::Client)]), "{changes:?}");
        assert_eq!(roles.is_reachable(), Some(false));
    }

    #[test]
    fn a_client_whose_door_opens_becomes_a_peer_and_not_before_ten_minutes() {
        let mut roles = auto();
        let [(when, Role::Client)] = live(&mut roles, 0, 200, false)[..] else { panic!("no client") };
        let changes = live(&mut roles, 200, 3_000, true);
        let [(again, Role::Peer)] = changes[..] else { panic!("{changes:?}") };
        assert!(again >= when + 600 && again < when + 1_200, "{when} {again}");
    }

    #[test]
    fn a_door_that_opens_now_and_then_makes_no_peer() {
        let mut roles = auto();
        live(&mut roles, 0, 200, false);
        for turn in 0..20 {
            let open = turn % 3 != 0;
            assert_eq!(live(&mut roles, 200 + turn * 180, 180, open), [], "{turn}");
        }
    }

    #[test]
    fn a_peer_that_is_written_to_never_tests() {
        let mut roles = auto();
        for s in (0..6_000).step_by(600) {
            roles.reached(Time::from_secs(s));
            assert!(!roles.wants_test(Time::from_secs(s + 599)));
        }
        assert_eq!(roles.role(), Role::Peer);
    }

    #[test]
    fn a_node_with_few_bytes_is_a_client_and_a_told_role_is_kept() {
        let poor = Roles::new(RolePolicy::Auto, 40, Time::ZERO);
        assert_eq!((poor.role(), poor.wants_test(Time::from_secs(99))), (Role::Client, false));
        let mut told = Roles::new(RolePolicy::Peer, 40, Time::ZERO);
        assert_eq!(live(&mut told, 0, 5_000, false), []);
        assert_eq!(told.role(), Role::Peer);
    }
}
