//! P2PP transactions: getting one message over one hop, in spite of loss.
//!
//! A *client transaction* sends a request and repeats it after the hop's measured timeout (RFC 6298)
//! and twice that again, three times in all, until the hop acknowledges or answers. Silence means that the
//! hop is dead, and whoever sent the request decides what next. An acknowledged request waits for
//! its answer until the deadline, which shrinks from hop to hop, so that a hop gives up before the
//! one that asked it.
//!
//! A *hedged* request is one that another hop could serve as well. It is sent once; if the hop is silent
//! for longer than it usually is, the sender is told at once and may ask another hop beside. A late
//! answer is still welcome. So a dead hop costs a round trip and not a transaction's whole patience.
//!
//! A *server transaction* remembers a request that is being forwarded, or was answered late, so that
//! a repetition is answered alike and a loop is recognised. Requests that are answered at once and
//! change nothing twice need none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use wire::p2pp::{Header, MessageType, TransactionId};
use wire::{NodeId, Time};

use crate::timers::Timers;

/// Sends of one request to one hop before it counts as dead.
pub(crate) const MAX_SENDS: u8 = 3;

/// How long an answer is repeated for late repetitions of its request.
pub(crate) const ANSWER_LIFETIME: Duration = Duration::from_secs(15);

/// Most requests under way at once; one more fails as if nobody had answered.
pub(crate) const MAX_CLIENTS: usize = 4_096;

/// Most requests of others remembered at once; the oldest is forgotten.
pub(crate) const MAX_SERVERS: usize = 1_024;

/// A request under way to one hop.
#[derive(Debug)]
pub(crate) struct Client<P> {
    pub(crate) remote: SocketAddr,
    pub(crate) id: Option<NodeId>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) message: MessageType,
    pub(crate) purpose: P,
    pub(crate) first_sent: Time,
    pub(crate) deadline: Time,
    sends: u8,
    most_sends: u8,
    acknowledged: bool,
    rto: Duration,
    hedge: Hedge,
}

/// Whether somebody else shall be asked when the hop is silent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hedge {
    /// No: the request is repeated.
    No,
    /// Yes, once the first patience is over.
    Ready,
    /// Somebody else was asked; this hop is waited for and not asked again.
    Done,
}

impl<P> Client<P> {
    /// The round trip, if it can be told: only of requests that were sent once (Karn).
    pub(crate) fn rtt(&self, now: Time) -> Option<Duration> {
        (self.sends == 1 && !self.acknowledged).then(|| now.since(self.first_sent))
    }
}

/// Names a request under way: copies of one may be at several hops.
pub(crate) type ClientKey = (TransactionId, SocketAddr);

/// Names a request of somebody else.
pub(crate) type ServerKey = (NodeId, TransactionId);

/// A request of somebody else that is remembered.
#[derive(Debug)]
pub(crate) struct Server {
    /// The hop it came from.
    pub(crate) upstream: SocketAddr,
    pub(crate) header: Header,
    pub(crate) state: Serving,
    pub(crate) arrived: Time,
    sends: u8,
}

#[derive(Debug)]
pub(crate) enum Serving {
    /// Being forwarded; acknowledged already.
    Forwarding,
    /// Answered; the answer is repeated on request, and by itself until it is acknowledged.
    Answered(Vec<u8>),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Alarm {
    Client(ClientKey),
    Answer(ServerKey),
    Forget(ServerKey),
}

/// What became of a transaction when its time came.
#[derive(Debug)]
pub(crate) enum Due<P> {
    /// Send this again.
    Resend { to: (SocketAddr, Option<NodeId>), bytes: Vec<u8>, message: MessageType },
    /// This hedged request is neither acknowledged nor answered in the usual time.
    Silent(ClientKey),
    /// The hop is dead (it did not even acknowledge) or too slow (it did).
    Failed { client: Client<P>, dead: bool },
}

/// Every transaction of a peer.
#[derive(Debug)]
pub(crate) struct Transactions<P> {
    /// Boxed, for a tree has room for eleven in its smallest node.
    clients: BTreeMap<ClientKey, Box<Client<P>>>,
    servers: BTreeMap<ServerKey, Box<Server>>,
    /// Their keys in order of arrival.
    arrivals: BTreeSet<(Time, ServerKey)>,
    timers: Timers<Alarm>,
    /// What was never sent; emptied after every input.
    refused: VecDeque<Client<P>>,
}

impl<P> Transactions<P> {
    pub(crate) fn new() -> Self {
        Transactions {
            clients: BTreeMap::new(),
            servers: BTreeMap::new(),
            arrivals: BTreeSet::new(),
            timers: Timers::default(),
            refused: VecDeque::new(),
        }
    }

    /// How many client and server transactions there are.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.clients.len(), self.servers.len())
    }

    /// Starts a client transaction; `true` if the caller shall send the bytes. If too many are under
    /// way, or one of this name is, the request has failed: see [`Transactions::pop_refused`]. (Hops
    /// keep the name that the originator chose, who may choose one twice.)
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn start(
        &mut self,
        now: Time,
        transaction: TransactionId,
        (remote, id): (SocketAddr, Option<NodeId>),
        message: MessageType,
        bytes: Vec<u8>,
        rto: Duration,
        deadline: Time,
        purpose: P,
    ) -> bool {
        let mut client = Client {
            remote,
            id,
            bytes,
            message,
            purpose,
            first_sent: now,
            deadline,
            sends: 1,
            most_sends: MAX_SENDS,
            acknowledged: false,
            rto,
            hedge: Hedge::No,
        };
        let key = (transaction, remote);
        if self.clients.len() >= MAX_CLIENTS || self.clients.contains_key(&key) {
            client.bytes = Vec::new();
            self.refused.push_back(client);
            return false;
        }
        self.timers.set(Alarm::Client(key), (now + rto).min(deadline));
        self.clients.insert(key, Box::new(client));
        true
    }

    /// Makes a request just started one that is sent so many times at most.
    pub(crate) fn limit(&mut self, key: ClientKey, most_sends: u8) {
        if let Some(client) = self.clients.get_mut(&key) {
            client.most_sends = most_sends;
        }
    }

    /// Makes a request just started a hedged one, whose hop is given so much patience.
    pub(crate) fn hedge(&mut self, key: ClientKey, patience: Duration) {
        if let Some(client) = self.clients.get_mut(&key) {
            client.hedge = Hedge::Ready;
            self.timers.set(Alarm::Client(key), (client.first_sent + patience).min(client.deadline));
        }
    }

    /// Nobody else can be asked in place of a silent hop: its request is repeated like any other.
    pub(crate) fn insist(&mut self, now: Time, key: ClientKey) -> Option<Due<P>> {
        self.clients.get_mut(&key)?.hedge = Hedge::No;
        self.client_due(now, key)
    }

    /// Nobody listens where a request was sent. A hedged one has failed: somebody else can be asked. Any other
    /// is repeated at once and not when the time has come, until it was refused as often as it may be sent.
    pub(crate) fn unreachable(&mut self, now: Time, key: ClientKey) -> Option<Due<P>> {
        let client = self.clients.get(&key).filter(|c| !c.acknowledged)?;
        if client.hedge != Hedge::No {
            return self.end(key).map(|client| Due::Failed { client, dead: false });
        }
        self.client_due(now, key)
    }

    /// The next request that found no room.
    pub(crate) fn pop_refused(&mut self) -> Option<Client<P>> {
        self.refused.pop_front()
    }

    /// The request with this transaction-ID, if `remote` is whom it was sent to.
    pub(crate) fn client(&self, transaction: TransactionId, remote: SocketAddr) -> Option<&Client<P>> {
        self.clients.get(&(transaction, remote)).map(|c| &**c)
    }

    /// The request of this name to whatever hop, whose purpose `select`s.
    pub(crate) fn copy(&self, transaction: TransactionId, select: impl Fn(&P) -> bool) -> Option<ClientKey> {
        let lowest = SocketAddr::from(([0; 4], 0));
        let copies = self.clients.range((transaction, lowest)..);
        copies.take_while(|(key, _)| key.0 == transaction).find(|(_, c)| select(&c.purpose)).map(|(k, _)| *k)
    }

    /// Sends a request once more with other bytes (it must prove its address first).
    pub(crate) fn restart(&mut self, now: Time, key: ClientKey, bytes: Vec<u8>) {
        if let Some(client) = self.clients.get_mut(&key) {
            client.bytes = bytes;
            client.sends = 1;
            client.first_sent = now;
            self.timers.set(Alarm::Client(key), (now + client.rto).min(client.deadline));
        }
    }

    /// The hop has the request and will see to it. Returns the request the first time, with the round
    /// trip if it can be told.
    pub(crate) fn acknowledged(
        &mut self,
        now: Time,
        key: ClientKey,
    ) -> Option<(&Client<P>, Option<Duration>)> {
        let client = self.clients.get_mut(&key)?;
        let rtt = client.rtt(now);
        if std::mem::replace(&mut client.acknowledged, true) {
            return None;
        }
        self.timers.set(Alarm::Client(key), client.deadline);
        Some((client, rtt))
    }

    /// The answer came: ends the client transaction.
    pub(crate) fn answered(&mut self, transaction: TransactionId, remote: SocketAddr) -> Option<Client<P>> {
        self.end((transaction, remote))
    }

    /// Whether the purpose of some request under way is of this sort.
    pub(crate) fn any(&self, select: impl Fn(&P) -> bool) -> bool {
        self.clients.values().any(|c| select(&c.purpose))
    }

    /// Whether a request of this sort is under way to an address.
    pub(crate) fn asks(&self, remote: SocketAddr, select: impl Fn(&P) -> bool) -> bool {
        self.clients.iter().any(|(key, c)| key.1 == remote && select(&c.purpose))
    }

    /// Ends every client transaction whose purpose `select`s.
    pub(crate) fn abandon(&mut self, mut select: impl FnMut(&P) -> bool) {
        let ended: Vec<_> =
            self.clients.iter().filter(|(_, c)| select(&c.purpose)).map(|(t, _)| *t).collect();
        self.refused.retain(|c| !select(&c.purpose));
        ended.into_iter().for_each(|t| {
            self.end(t);
        });
    }

    /// Ends a client transaction, whatever becomes of it.
    pub(crate) fn end(&mut self, key: ClientKey) -> Option<Client<P>> {
        self.timers.cancel(Alarm::Client(key));
        let client = self.clients.remove(&key);
        if self.clients.is_empty() {
            self.clients = BTreeMap::new();
        }
        client.map(|client| *client)
    }

    /// A request of somebody else that is remembered.
    pub(crate) fn server(&self, key: &ServerKey) -> Option<&Server> {
        self.servers.get(key).map(|server| &**server)
    }

    /// Remembers a request that will be answered later.
    pub(crate) fn serve(&mut self, now: Time, key: ServerKey, upstream: SocketAddr, header: Header) {
        if self.servers.len() >= MAX_SERVERS {
            let oldest = self.arrivals.first().map(|(_, key)| *key);
            oldest.into_iter().for_each(|k| self.forget(k));
        }
        let server = Server { upstream, header, state: Serving::Forwarding, arrived: now, sends: 0 };
        if let Some(before) = self.servers.insert(key, Box::new(server)) {
            self.arrivals.remove(&(before.arrived, key));
        }
        self.arrivals.insert((now, key));
        self.timers.set(Alarm::Forget(key), now + ANSWER_LIFETIME * 2);
    }

    /// Remembers the late answer to a request and repeats it until it is acknowledged.
    pub(crate) fn answer_late(&mut self, now: Time, key: ServerKey, bytes: Vec<u8>, rto: Duration) {
        if let Some(server) = self.servers.get_mut(&key) {
            server.state = Serving::Answered(bytes);
            server.sends = 1;
            self.timers.set(Alarm::Answer(key), now + rto);
            self.timers.set(Alarm::Forget(key), now + ANSWER_LIFETIME);
        }
    }

    /// Remembers the immediate answer to a request that must not be carried out twice.
    pub(crate) fn answered_at_once(
        &mut self,
        now: Time,
        key: ServerKey,
        upstream: SocketAddr,
        header: Header,
        bytes: Vec<u8>,
    ) {
        self.serve(now, key, upstream, header);
        if let Some(server) = self.servers.get_mut(&key) {
            server.state = Serving::Answered(bytes);
        }
        self.timers.set(Alarm::Forget(key), now + ANSWER_LIFETIME);
    }

    /// Our late answer arrived, says the address it was sent to.
    pub(crate) fn answer_received(&mut self, key: &ServerKey, remote: SocketAddr) {
        if self.servers.get(key).is_some_and(|s| s.upstream == remote) {
            self.timers.cancel(Alarm::Answer(*key));
        }
    }

    fn forget(&mut self, key: ServerKey) {
        if let Some(server) = self.servers.remove(&key) {
            self.arrivals.remove(&(server.arrived, key));
        }
        if self.servers.is_empty() {
            (self.servers, self.arrivals) = (BTreeMap::new(), BTreeSet::new());
        }
        self.timers.cancel(Alarm::Answer(key));
        self.timers.cancel(Alarm::Forget(key));
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.timers.next().map(|(at, _)| *at)
    }

    /// The next thing whose time has come.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Due<P>> {
        while let Some(alarm) = self.timers.pop_due(now) {
            match alarm {
                Alarm::Client(key) => return self.client_due(now, key),
                Alarm::Answer(key) => {
                    if let Some(again) = self.answer_due(now, key) {
                        return Some(again);
                    }
                }
                Alarm::Forget(key) => self.forget(key),
            }
        }
        None
    }

    fn client_due(&mut self, now: Time, key: ClientKey) -> Option<Due<P>> {
        let client = self.clients.get_mut(&key).expect("an alarm ends with its transaction");
        let is_silent = !client.acknowledged && now < client.deadline;
        if is_silent && client.hedge == Hedge::Ready {
            client.hedge = Hedge::Done;
            self.timers.set(Alarm::Client(key), client.deadline);
            return Some(Due::Silent(key));
        }
        if !is_silent || client.sends >= client.most_sends || client.hedge == Hedge::Done {
            // Whether a hop lives that was gone round is found out apart from its request.
            let dead = !client.acknowledged && client.hedge == Hedge::No;
            return self.end(key).map(|client| Due::Failed { client, dead });
        }
        client.sends += 1;
        let wait = client.rto * (1 << (client.sends - 1));
        self.timers.set(Alarm::Client(key), (now + wait).min(client.deadline));
        let to = (client.remote, client.id);
        Some(Due::Resend { to, bytes: client.bytes.clone(), message: client.message })
    }

    fn answer_due(&mut self, now: Time, key: ServerKey) -> Option<Due<P>> {
        let server = self.servers.get_mut(&key)?;
        let Serving::Answered(bytes) = &server.state else { return None };
        if server.sends >= MAX_SENDS {
            return None;
        }
        let to = (server.upstream, None);
        let again = Due::Resend { to, bytes: bytes.clone(), message: server.header.message };
        server.sends += 1;
        self.timers.set(Alarm::Answer(key), now + link::rtt::INITIAL_RTO * u32::from(server.sends));
        Some(again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTO: Duration = Duration::from_millis(100);

    fn hop() -> SocketAddr {
        ([10, 0, 0, 1], 7080).into()
    }

    fn begin(deadline: Time) -> Transactions<&'static str> {
        let mut transactions = Transactions::new();
        let id = TransactionId(1);
        assert!(start(&mut transactions, id, deadline, "ping"));
        transactions
    }

    fn start<P>(transactions: &mut Transactions<P>, id: TransactionId, deadline: Time, purpose: P) -> bool {
        let bytes = vec![1, 2, 3];
        let to = (hop(), None);
        transactions.start(Time::ZERO, id, to, MessageType::KeepAlive, bytes, RTO, deadline, purpose)
    }

    fn run(mut transactions: Transactions<&'static str>) -> (Vec<u64>, Time, bool) {
        let mut resent = Vec::new();
        loop {
            let now = transactions.poll_timeout().expect("an outcome");
            match transactions.pop_due(now) {
                Some(Due::Resend { .. }) => resent.push(now.as_millis()),
                Some(Due::Failed { dead, .. }) => return (resent, now, dead),
                Some(Due::Silent(_)) | None => {}
            }
        }
    }

    #[test]
    fn a_silent_hop_is_asked_three_times_and_then_dead() {
        let (resent, end, dead) = run(begin(Time::from_secs(9)));
        assert_eq!(resent, [100, 300]);
        assert_eq!((end, dead), (Time::from_millis(700), true));
    }

    #[test]
    fn a_hedged_request_tells_of_silence_once_and_then_waits_for_a_late_answer() {
        let mut transactions = begin(Time::from_secs(2));
        let key = (TransactionId(1), hop());
        transactions.hedge(key, Duration::from_millis(30));
        let now = transactions.poll_timeout().unwrap();
        assert_eq!(now, Time::from_millis(30));
        assert!(matches!(transactions.pop_due(now), Some(Due::Silent(silent)) if silent == key));
        assert!(transactions.client(key.0, key.1).is_some());
        let (resent, end, dead) = run(transactions);
        assert!(resent.is_empty());
        assert_eq!((end, dead), (Time::from_secs(2), false));
    }

    #[test]
    fn where_nobody_else_can_be_asked_a_hedged_request_is_repeated() {
        let mut transactions = begin(Time::from_secs(9));
        let key = (TransactionId(1), hop());
        transactions.hedge(key, Duration::from_millis(30));
        let now = transactions.poll_timeout().unwrap();
        assert!(matches!(transactions.pop_due(now), Some(Due::Silent(_))));
        assert!(matches!(transactions.insist(now, key), Some(Due::Resend { .. })));
        let (resent, end, dead) = run(transactions);
        assert_eq!((resent, end, dead), (vec![230], Time::from_millis(630), true));
    }

    #[test]
    fn where_nobody_listens_a_request_fails_after_as_many_sends_and_no_waiting() {
        let mut transactions = begin(Time::from_secs(9));
        let key = (TransactionId(1), hop());
        let elsewhere = (key.0, SocketAddr::from(([10, 0, 0, 2], 7080)));
        assert!(transactions.unreachable(Time::ZERO, elsewhere).is_none());
        let due = std::array::from_fn(|_| transactions.unreachable(Time::ZERO, key));
        let [Some(Due::Resend { .. }), Some(Due::Resend { .. }), Some(Due::Failed { dead: true, .. }), None] =
            due
        else {
            panic!("{due:?}")
        };
    }

    #[test]
    fn where_nobody_listens_a_hedged_request_has_failed_and_that_proves_no_death() {
        let mut transactions = begin(Time::from_secs(9));
        let key = (TransactionId(1), hop());
        transactions.hedge(key, Duration::from_millis(30));
        assert!(matches!(transactions.unreachable(Time::ZERO, key), Some(Due::Failed { dead: false, .. })));
        assert!(transactions.client(key.0, key.1).is_none());
    }

    #[test]
    fn a_hop_that_has_a_request_is_believed_rather_than_who_says_that_nobody_is_there() {
        let mut transactions = begin(Time::from_secs(9));
        let key = (TransactionId(1), hop());
        assert!(transactions.acknowledged(Time::ZERO, key).is_some());
        assert!(transactions.unreachable(Time::ZERO, key).is_none());
        assert!(transactions.client(key.0, key.1).is_some());
    }

    #[test]
    fn the_deadline_ends_it_earlier() {
        let (resent, end, _) = run(begin(Time::from_millis(250)));
        assert_eq!(resent, [100]);
        assert_eq!(end, Time::from_millis(250));
    }

    #[test]
    fn an_acknowledged_request_waits_for_the_deadline_in_silence() {
        let mut transactions = begin(Time::from_secs(3));
        assert!(transactions.acknowledged(Time::ZERO, (TransactionId(1), hop())).is_some());
        let (resent, end, dead) = run(transactions);
        assert!(resent.is_empty());
        assert_eq!((end, dead), (Time::from_secs(3), false));
    }

    #[test]
    fn a_full_table_forgets_what_came_first() {
        let mut transactions = Transactions::<()>::new();
        let key = |n: usize| (NodeId(wire::HashAlgorithm::Sha1.digest(b"asker")), TransactionId(n as u64));
        let served = |n: usize| Header::request(MessageType::KeepAlive, key(n).1, key(n).0);
        // The first two come once more, so that the third is the oldest.
        for (at, n) in (0..MAX_SERVERS).chain([0, 1, MAX_SERVERS]).enumerate() {
            transactions.serve(Time::from_millis(at as u64), key(n), hop(), served(n));
        }
        let known: Vec<bool> = [0, 1, 2, 3].map(|n| transactions.server(&key(n)).is_some()).to_vec();
        assert_eq!((known, transactions.arrivals.len()), (vec![true, true, false, true], MAX_SERVERS));
    }

    #[test]
    fn a_request_named_like_one_under_way_fails_and_leaves_that_alone() {
        let mut transactions = begin(Time::from_secs(3));
        assert!(!start(&mut transactions, TransactionId(1), Time::from_secs(9), "somebody else's"));
        assert_eq!(transactions.pop_refused().map(|c| c.purpose), Some("somebody else's"));
        assert_eq!(transactions.client(TransactionId(1), hop()).map(|c| c.purpose), Some("ping"));
    }

    #[test]
    fn a_request_too_many_fails() {
        let mut transactions = Transactions::new();
        let deadline = Time::from_secs(3);
        for n in 0..MAX_CLIENTS as u64 {
            assert!(start(&mut transactions, TransactionId(n), deadline, n));
        }
        let n = MAX_CLIENTS as u64;
        assert!(!start(&mut transactions, TransactionId(n), deadline, n));
        assert!(!start(&mut transactions, TransactionId(n + 1), deadline, n + 1));
        transactions.abandon(|purpose| *purpose == n);
        assert_eq!(transactions.pop_refused().map(|c| c.purpose), Some(n + 1));
        assert!(transactions.pop_refused().is_none());
    }

    #[test]
    fn an_answer_from_another_address_is_not_an_answer() {
        let mut transactions = begin(Time::from_secs(3));
        assert!(transactions.answered(TransactionId(1), ([10, 0, 0, 2], 7080).into()).is_none());
        let client = transactions.answered(TransactionId(1), hop()).unwrap();
        assert_eq!(client.rtt(Time::from_millis(30)), Some(Duration::from_millis(30)));
        assert_eq!(transactions.poll_timeout(), None);
    }
}
