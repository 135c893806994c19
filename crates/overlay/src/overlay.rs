//! The trait every overlay algorithm implements, and the words it speaks.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use wire::{Book, Contact, Distance, Key, NodeId, Time};

use crate::{Algorithm, Churn};

/// The most peers one [`Route`] names, whatever was asked for.
///
/// Twenty contacts with IPv6 addresses just fit one datagram of 1,200 bytes.
pub const MAX_ROUTE: usize = 20;

/// An algorithm that decides which peers to know and which of them lead to a key.
///
/// After every `handle_*` the owner drains [`poll_upkeep`](Overlay::poll_upkeep); it wakes the
/// overlay again at [`poll_timeout`](Overlay::poll_timeout). Every wish of the overlay is answered:
/// with [`handle_peer`](Overlay::handle_peer) for each peer that replied and
/// [`handle_failure`](Overlay::handle_failure) for each that did not.
pub trait Overlay: Send {
    /// Which algorithm this is.
    fn algorithm(&self) -> Algorithm;

    /// The peer whose view this is.
    fn local(&self) -> NodeId;

    /// How responsible `peer` is for `key`: the smaller, the more.
    fn rank(&self, key: &Key, peer: &NodeId) -> Distance {
        (self.algorithm().metric().rank)(key, peer)
    }

    /// Where `key` leads from here, if `count` peers hold each key (at most [`MAX_ROUTE`]).
    ///
    /// Used three ways: to answer a peer that searches, to start a search of our own (the
    /// contacts of either answer are its seeds), and to forward a request (see
    /// [`next_hop`](crate::next_hop)).
    fn route(&self, key: &Key, count: usize) -> Route;

    /// Something was learnt about a peer. Clients and our own identity must not be reported.
    fn handle_peer(&mut self, now: Time, contact: Contact, evidence: Evidence);

    /// A peer did not answer, after all the retransmissions that the engine grants.
    fn handle_failure(&mut self, now: Time, id: &NodeId);

    /// A peer said goodbye. It is forgotten at once.
    fn handle_leave(&mut self, now: Time, id: &NodeId);

    /// We started a search for `key`, so that region of the table needs no refreshing soon.
    fn handle_lookup(&mut self, _now: Time, _key: &Key) {}

    /// What shall be told to a peer with whom tables are exchanged; `None` for an algorithm that has
    /// no news. Each piece is told a few times.
    fn news(&mut self, _now: Time) -> Option<News> {
        None
    }

    /// Somebody says that a peer is gone: a reason to ask it, and no more.
    fn handle_rumor(&mut self, _now: Time, _departed: &NodeId) {}

    /// What this peer takes on, in requests of others passed on a second, where the algorithm asks.
    fn set_capacity(&mut self, _capacity: u32) {}

    /// Digests ([`crate::gia::digest`]) of the keys whose records are held here, whenever they change.
    fn set_holdings(&mut self, _now: Time, _digests: Vec<u32>) {}

    /// What shall be said to a peer in an exchange or its answer; `None` for an algorithm without
    /// links that both sides agree on.
    fn greeting(&mut self, _now: Time, _to: &NodeId) -> Option<Greeting> {
        None
    }

    /// Another peer greets: `answered` if in an answer to us, else in a request of its own from an
    /// address that is proven.
    fn handle_greeting(&mut self, _now: Time, _from: Contact, _greeting: &Greeting, _answered: bool) {}

    /// A request for `key` is to be passed to `to`; `false` if that peer must not be sent one now.
    fn spend(&mut self, _now: Time, _key: &Key, _to: &NodeId) -> bool {
        true
    }

    /// A routed request came from `from`; `false` if that peer was not to send one.
    fn handle_walk(&mut self, _now: Time, _from: SocketAddr) -> bool {
        true
    }

    /// The moment named by [`poll_timeout`](Overlay::poll_timeout) has come.
    fn handle_timeout(&mut self, now: Time);

    /// When the overlay wants to be woken, and why. Always later than the last
    /// [`handle_timeout`](Overlay::handle_timeout).
    fn poll_timeout(&self) -> Option<(Time, Reason)>;

    /// The next thing the overlay wishes to be done for its tables.
    fn poll_upkeep(&mut self) -> Option<Upkeep>;

    /// The next peer that has entered the table: of the records held here, those that fall to it now
    /// should be offered to it.
    fn poll_newcomer(&mut self) -> Option<Contact>;

    /// Contacts that are kept come from this book from now on. An algorithm that keeps its own copies
    /// takes more memory and works alike.
    fn share(&mut self, _book: Arc<dyn Book>) {}

    /// Slows periodic upkeep by `factor`; 1.0 is the algorithm's own pace, and less counts as 1.0.
    fn set_pace(&mut self, factor: f32);

    /// How long sessions last by what others have measured, for a table that has seen little.
    fn expect_sessions(&mut self, _told: Duration) {}

    /// The whole routing table, for people (`showrt`) and for table exchanges.
    fn contacts(&self) -> Vec<Entry>;

    /// The neighbour table (`shownt`): the peers nearest to us, nearest first.
    fn neighbors(&self) -> Vec<Contact>;

    /// Peers that we know around a key, at most `count`: whom somebody there need not name to us.
    fn around(&self, key: &Key, count: usize) -> Vec<Contact> {
        self.route(key, count).contacts().to_vec()
    }

    /// The smoothed round-trip time to a peer of the table, where it is known.
    fn rtt(&self, id: &NodeId) -> Option<Duration>;

    /// How fast peers of the table leave, as far as it was seen; the engine tunes its care for records
    /// by it. An algorithm that does not measure speaks for sessions of an hour.
    fn churn(&self) -> Churn {
        Churn::default()
    }

    /// How many peers in good standing the table holds.
    fn len(&self) -> usize;

    /// True while we know nobody.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the table holds this peer in good standing.
    fn contains(&self, id: &NodeId) -> bool;

    /// Whether the table has this peer at this address: it answered there.
    fn has(&self, contact: &Contact) -> bool {
        self.route(contact.id.key(), 1).contacts().contains(contact)
    }

    /// Whether a peer may be one of the `count` that `route` names for a key. A table that cannot see so
    /// without looking for all of them says yes.
    fn may_name(&self, _key: &Key, _count: usize, _id: &NodeId) -> bool {
        true
    }

    /// The peer in good standing that the table has at an address.
    fn at(&self, address: SocketAddr) -> Option<NodeId> {
        let mut good = self.contacts().into_iter().filter(|e| e.standing == Standing::Good);
        good.find(|e| e.contact.address == address).map(|e| e.contact.id)
    }

    /// Whether a peer of the table has us in its own, as it last said: then neither need say its name.
    fn is_mutual(&self, _id: &NodeId) -> bool {
        false
    }

    /// The peers that may know us, whom we tell that we go.
    fn acquaintances(&self) -> Vec<Contact> {
        self.neighbors().into_iter().chain(self.contacts().into_iter().map(|e| e.contact)).collect()
    }

    /// A peer has said whether it has us in its table.
    fn note_mutual(&mut self, _id: &NodeId, _mutual: bool) {}

    /// The peer in good standing whose Node-ID begins with these 64 bits.
    fn beginning_with(&self, head: u64) -> Option<Contact> {
        let mut good = self.contacts().into_iter().filter(|e| e.standing == Standing::Good);
        good.find(|e| e.contact.id.key().head() == head).map(|e| e.contact)
    }
}

/// Where a key leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Route {
    /// Others are nearer: these, the nearest first, each strictly nearer than we are.
    Toward(Vec<Contact>),
    /// As far as we can tell these hold the key.
    Replicas {
        /// The holders besides us, the most responsible first.
        contacts: Vec<Contact>,
        /// Whether we are one of them.
        includes_self: bool,
    },
}

impl Route {
    /// The peers it names, whichever answer it is.
    pub fn contacts(&self) -> &[Contact] {
        match self {
            Route::Toward(contacts) | Route::Replicas { contacts, .. } => contacts,
        }
    }

    /// Whether we hold the key ourselves.
    pub fn includes_self(&self) -> bool {
        matches!(self, Route::Replicas { includes_self: true, .. })
    }
}

/// How we know of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evidence {
    /// It answered something we sent it, at this address.
    Alive {
        /// How long the answer took, if it was to a first transmission (Karn's rule).
        rtt: Option<Duration>,
    },
    /// Somebody named it, or an unproven request came from it.
    Mentioned,
}

/// What two peers that are neighbours by agreement, or could be, say to each other.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Greeting {
    /// The sender takes the receiver for a neighbour, or wants it as one.
    pub neighbor: bool,
    /// And did not until now: the link begins with this.
    pub fresh: bool,
    /// What the sender takes on, in requests a second.
    pub capacity: u32,
    /// How many neighbours it has.
    pub degree: u8,
    /// Requests that the receiver may have sent it in all since the link began.
    pub tokens: u32,
    /// Requests that the sender has sent the receiver in all since then.
    pub spent: u32,
    /// A mark of the receiver's index that the sender has; 0 for none.
    pub known: u32,
    /// Digests of the keys whose records the sender holds, where the receiver does not know.
    pub index: Option<Vec<u32>>,
}

/// The bounds of an overlay in which keys have no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walks {
    /// Holders of a record besides its owner.
    pub copies: usize,
    /// Hops of one walk at most.
    pub hops: u8,
    /// Peers asked to find holders for a record.
    pub questions: usize,
}

/// Who came and who went.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct News {
    /// Peers that answered us and are new.
    pub arrived: Vec<Contact>,
    /// Peers that answered us once and do not any more.
    pub departed: Vec<NodeId>,
}

/// A wish for the good of the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upkeep {
    /// Ask this peer whether it lives (P2PP KeepAlive).
    Ping(Contact),
    /// Ask this peer whom it knows nearest to a key (P2PP LookupPeer), and mention whom it names: a
    /// search of one question, for a region in which somebody is known.
    Ask {
        /// Whom.
        with: Contact,
        /// For whose nearest peers.
        key: Key,
    },
    /// Swap tables with this peer (P2PP ExchangeTable) and mention what it names.
    Exchange {
        /// With whom.
        with: Contact,
        /// Whether our own neighbours shall be named to it; else it only names its peers to us.
        give: bool,
        /// Whether its routing table is wanted, else its neighbours.
        rows: bool,
    },
    /// Exchange greetings with this peer ([`Overlay::greeting`]), and no tables.
    Greet(Contact),
    /// Search for this key, asking others even where we could answer ourselves: a search for our
    /// own place that we answer from our own table would teach us nothing.
    Lookup {
        /// What to search for.
        key: Key,
        /// How many of the peers nearest to it must have spoken.
        width: usize,
    },
}

/// Why a machine of this crate wants to be woken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// An entry was silent for long: ask whether it lives.
    Check,
    /// A part of the table went unused for long: search there.
    Refresh,
    /// Look up our own place, to know our neighbours.
    Neighbors,
    /// Swap tables with a neighbour.
    Stabilise,
    /// Tell others who came and who went.
    Gossip,
    /// A peer that was mentioned waits to be asked whether it lives.
    Verify,
    /// A question of a lookup takes longer than expected: ask somebody else beside.
    Patience,
    /// A question of a lookup went unanswered: count it as failed.
    GiveUp,
}

impl Reason {
    /// A word for logs.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Check => "check",
            Reason::Refresh => "refresh",
            Reason::Neighbors => "neighbors",
            Reason::Stabilise => "stabilise",
            Reason::Gossip => "gossip",
            Reason::Verify => "verify",
            Reason::Patience => "patience",
            Reason::GiveUp => "give-up",
        }
    }
}

/// One line of a routing table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The row: how many digits of our own identifier the peer shares, in Kademlia.
    pub row: u16,
    /// The column: the digit at which it differs; always 1 or 0 in base 2.
    pub column: u8,
    /// Who and where it is.
    pub contact: Contact,
    /// When it last answered.
    pub last_seen: Time,
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// What we think of it.
    pub standing: Standing,
}

/// What we think of an entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Standing {
    /// It answered when last asked.
    Good,
    /// It failed to answer, and gets another chance.
    Suspect,
    /// It waits in the replacement cache for a place in a full row.
    Spare,
}

impl Standing {
    /// A word for tables shown to people.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Good => "good",
            Standing::Suspect => "suspect",
            Standing::Spare => "spare",
        }
    }
}

/// How an algorithm measures nearness.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// How responsible a peer is for a key; the smaller, the more.
    pub rank: fn(&Key, &NodeId) -> Distance,
    /// How far along the way to a key a peer stands, where that differs from responsibility.
    ///
    /// On a ring a search walks up to the key from one side while the holders stand on the other.
    /// There a [`Lookup`](crate::Lookup) orders peers by progress until one of them names the
    /// holders. `None` where both are one thing, as with XOR; then no peer's word about who holds
    /// the key is needed, nor believed.
    pub progress: Option<fn(&Key, &NodeId) -> Distance>,
}

impl Metric {
    /// Which of the peers that one of them names around a key it has no reason to name.
    ///
    /// Near the key everybody knows everybody, farther off one knows those that are nearer. `reach` is the part
    /// of the space that counts as near; beyond it whoever is farther from the key than the peer that names
    /// it is a stray, and who names more strays than others is believed of none. So a liar that would have us
    /// know all its friends may name only the few that stand where they would be found anyway.
    pub fn strays(
        &self,
        key: &Key,
        from: &NodeId,
        named: &[Contact],
        as_holders: bool,
        reach: f64,
    ) -> Vec<bool> {
        let measure = self.progress.filter(|_| !as_holders).unwrap_or(self.rank);
        // On a ring who names the holders stands before the key, and they behind it.
        let most = (!as_holders || self.progress.is_none()).then(|| measure(key, from));
        let strays = |contact: &Contact| {
            let distance = measure(key, &contact.id);
            distance.part() > reach && most.is_none_or(|most| distance > most)
        };
        let mut all: Vec<bool> = named.iter().map(strays).collect();
        if all.iter().filter(|stray| **stray).count() * 2 > all.len() {
            all.fill(true);
        }
        all
    }

    /// How much of the space is nearer to a key than each of these peers, the nearest first. Where peers
    /// stand evenly, so many of them stand in a part as its share of all.
    pub fn parts(&self, key: &Key, peers: &[Contact]) -> Vec<f64> {
        let mut distances: Vec<Distance> = peers.iter().map(|c| (self.rank)(key, &c.id)).collect();
        distances.sort_unstable();
        distances.iter().map(Distance::part).collect()
    }
}

impl Algorithm {
    /// The bounds of walks where keys have no place: records are where walks of their owner ended, who
    /// replaces what is lost. `None` where records are with the peers nearest to their keys.
    pub fn walks(self) -> Option<Walks> {
        match self {
            Algorithm::Gia => Some(crate::gia::WALKS),
            _ => None,
        }
    }

    /// The number of this algorithm in P2P-Options.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The algorithm with this number, if this build knows it.
    pub fn from_number(number: u8) -> Option<Self> {
        Algorithm::ALL.iter().copied().find(|a| a.number() == number)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is not an algorithm's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownAlgorithm(pub String);

impl fmt::Display for UnknownAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Algorithm::ALL.iter().map(|a| a.name()).collect();
        write!(f, "unknown overlay algorithm '{}': choose one of {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownAlgorithm {}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;
    fn from_str(s: &str) -> Result<Self, UnknownAlgorithm> {
        Algorithm::ALL
            .iter()
            .copied()
            .find(|a| a.name().eq_ignore_ascii_case(s))
            .ok_or_else(|| UnknownAlgorithm(s.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back_to_their_algorithm() {
        for &algorithm in Algorithm::ALL {
            assert_eq!(algorithm.name().to_uppercase().parse(), Ok(algorithm));
            assert_eq!(Algorithm::from_number(algorithm.number()), Some(algorithm));
        }
        assert_eq!(Algorithm::Kademlia.number(), 2);
        assert_eq!(Algorithm::from_number(255), None);
    }

    #[test]
    fn a_peer_names_whoever_is_nearer_to_the_key_than_itself_and_near_the_key_anybody_near_it() {
        let key = wire::HashAlgorithm::Sha256.digest(b"sip:bob@example.org");
        let contact = |n: u32| Contact {
            id: NodeId(wire::HashAlgorithm::Sha256.digest(&n.to_be_bytes())),
            address: std::net::SocketAddr::from(([10, 0, 0, 1], n as u16)),
        };
        let metric = Algorithm::Kademlia.metric();
        let mut peers: Vec<Contact> = (0..200).map(contact).collect();
        peers.sort_by_key(|c| (metric.rank)(&key, &c.id));
        let strays =
            |from: usize, named: &[Contact]| metric.strays(&key, &peers[from].id, named, false, 32.0 / 200.0);
        assert_eq!(strays(60, &peers[10..18]), [false; 8]);
        assert_eq!(strays(0, &peers[1..9]), [false; 8]);
        assert_eq!(strays(60, &peers[100..108]), [true; 8]);
        let a_few = [&peers[10..13], &peers[100..102]].concat();
        assert_eq!(strays(60, &a_few), [false, false, false, true, true]);
        let most = [&peers[10..12], &peers[100..103]].concat();
        assert_eq!(strays(60, &most), [true; 5]);
        // In a small overlay everybody is near every key.
        assert_eq!(metric.strays(&key, &peers[0].id, &peers[150..158], false, 32.0 / 20.0), [false; 8]);
    }

    #[test]
    fn on_a_ring_holders_stand_behind_the_key_whoever_names_them() {
        let at = |head: u8| wire::Key::from_slice(&[&[head][..], &[0; 31]].concat()).unwrap();
        let contact =
            |head| Contact { id: NodeId(at(head)), address: std::net::SocketAddr::from(([10, 0, 0, 1], 1)) };
        let strays = |from, named: &[u8], as_holders| {
            let named: Vec<Contact> = named.iter().map(|head| contact(*head)).collect();
            Algorithm::Chord.metric().strays(&at(100), &NodeId(at(from)), &named, as_holders, 0.05)
        };
        assert_eq!(strays(90, &[101, 104, 110], true), [false; 3]);
        assert_eq!(strays(90, &[101, 104, 150, 99], true), [false, false, true, true]);
        assert_eq!(strays(20, &[50, 80, 99, 10], false), [false, false, false, true]);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = "tulip".parse::<Algorithm>().unwrap_err();
        assert!(error.to_string().contains("kademlia"), "{error}");
    }
}
