//! The recursive way: copies of a question that hops pass on, and answers that come straight from whoever has
//! the record. Where keys have no place a copy is a walk.

use std::net::SocketAddr;
use std::time::Duration;

use wire::p2pp::{
    AddressInfo, Builder, Code, Density, Header, Kind, Message, MessageType, Object, RLookup, RequestOptions,
    object,
};
use wire::{Contact, Key, PublicKey, ResourceId, Time};

use super::{
    ANSWER_LEN, For, MAX_COPIES, Progress, RECURSIVE_ATTEMPTS, Search, SearchId, VALUE_LEN, WALK_ATTEMPTS,
    WIDTH, Want, hop,
};
use crate::node::{Alarm, Node, Standing, millis};
use crate::report::Hop;
use crate::request::Purpose;

impl Node {
    /// Answers from what we hold, or sends the question to the best peer.
    pub(super) fn try_recursively(&mut self, now: Time, id: SearchId) {
        let Some(search) = self.searches.running.get(&id) else { return };
        let Want::Object(kind, owner) = search.want else { return };
        if !search.options.fresh && self.find_at_home(now, id, kind, owner) {
            return self.finish(now, id);
        }
        self.attempt(now, id);
        // One walk may go astray, two seldom do.
        if self.walks().is_some() {
            self.send_copy(now, id);
        }
    }

    /// Recursive attempts before we ask ourselves. Walks cost us one question each and others the rest, and
    /// go farther than we could ask.
    fn recursive_attempts(&self) -> u8 {
        if self.walks().is_some() { WALK_ATTEMPTS } else { RECURSIVE_ATTEMPTS }
    }

    /// Sends a copy of the question on a way not tried yet, or goes on iteratively.
    fn attempt(&mut self, now: Time, id: SearchId) {
        let Some(search) = self.searches.running.get(&id) else { return };
        if search.attempt >= self.recursive_attempts() || !self.send_copy(now, id) {
            return self.go_iterative(now, id, &[]);
        }
        let third = self.config.lookup_timeout / (u32::from(RECURSIVE_ATTEMPTS) + 1);
        // No longer than a few hops take, as far as hops are known: where many are gone answers may long have
        // been slow because of the silent ones.
        let hops = self.link.round_trips.lately().map_or(third, |rtt| rtt * 6);
        let usual = self.searches.usual.map_or(hops, |(mean, deviation)| hops.min(mean + deviation * 4));
        self.timers.set(Alarm::Hedge(id), now + usual.clamp(link::rtt::MIN_PATIENCE * 2, third));
    }

    /// Sends a copy of the question through the best first hop not tried yet; `false` if there is none.
    fn send_copy(&mut self, now: Time, id: SearchId) -> bool {
        let Some(search) = self.searches.running.get(&id) else { return false };
        let Want::Object(kind, owner) = search.want else { return false };
        let (key, trace) = (search.key, search.options.trace);
        if search.tried.len() >= MAX_COPIES {
            return false;
        }
        let tried = search.tried.clone();
        let hops = self.first_hops(now, &key);
        let Some(table) = self.standing.as_mut().map(|s| &mut s.table) else { return false };
        let mut untried = hops.into_iter().filter(|c| !tried.contains(&c.id));
        let Some(first) = untried.find(|c| table.spend(now, &key, &c.id)) else { return false };
        let Some(search) = self.searches.running.get(&id) else { return false };
        // A route log makes answers long, and the last copy shall come back where strangers are kept out.
        let may_be_direct = !trace && search.attempt + 1 < self.recursive_attempts() && !self.is_client();
        // A stranger would first have to make a link to us, which takes as long as the way back.
        let direct = may_be_direct && !self.link.has_links() && self.searches.prefers_direct();
        // Of our own record we know the length.
        let value = match search.purpose {
            For::ReadBack(id) => self.publications.value_len(id),
            _ => None,
        };
        let origin = self.own_addresses().first().copied().filter(|_| direct);
        let deadline = now + self.config.lookup_timeout;
        let mut header = self.header(MessageType::LookupObject);
        header.recursive = true;
        header.ttl = self.initial_ttl(now);
        header.deadline_ms = millis(deadline.since(now));
        let origin = origin.map(|origin| (origin, value.unwrap_or(VALUE_LEN)));
        let walks = self.walks().is_some();
        let bytes = object_question(&header, key, kind, owner, trace, origin);
        let to = (first.address, Some(first.id));
        let Some(search) = self.searches.running.get_mut(&id) else { return false };
        let before = search.tried.len();
        search.tried.push(first.id);
        search.messages += 1;
        search.direct = origin.is_some();
        let message = MessageType::LookupObject;
        self.request(now, to, message, header.transaction, bytes, deadline, Purpose::Recursive(id));
        // Where one hop is silent others may be, and what was measured while many joined at once is too much:
        // each further copy is waited for half as long. It costs a message should it be wrong.
        let halvings = if walks { 0 } else { before.min(3) };
        let patience = self.link.round_trips.patience(first.address) / (1 << halvings);
        let patience = patience.max(link::rtt::MIN_PATIENCE);
        self.transactions.hedge((header.transaction, first.address), patience);
        true
    }

    /// Whom to send a question of our own to, the best first: those on the way, then the other holders,
    /// should we be one ourselves.
    fn first_hops(&self, now: Time, key: &Key) -> Vec<Contact> {
        let Some(standing) = &self.standing else { return Vec::new() };
        let mut hops = self.ways(now, key, |_| false).to_vec();
        let near = standing.table.route(key, self.replicas());
        hops.extend(near.contacts().iter().filter(|c| !hops.contains(c)).copied().collect::<Vec<_>>());
        hops
    }

    /// The first hop of a copy is silent: another one is tried beside it. `false` if there is none.
    pub(crate) fn hedge_search(&mut self, now: Time, id: SearchId) -> bool {
        let most = self.recursive_attempts();
        let is_recursive = |s: &Search| matches!(s.progress, Progress::Recursive) && s.attempt < most;
        // A search that ended or went on iteratively has no use for one.
        !self.searches.running.get(&id).is_some_and(|s| is_recursive(s)) || self.send_copy(now, id)
    }

    /// The answer takes longer than usual: another copy goes another way, or the search goes on
    /// iteratively. Copies under way may still be answered.
    pub(crate) fn handle_search_hedge(&mut self, now: Time, id: SearchId) {
        let Some(search) = self.searches.running.get_mut(&id) else { return };
        if matches!(search.progress, Progress::Recursive) {
            search.attempt += 1;
            self.attempt(now, id);
        }
    }

    /// Whether we hold what is sought ourselves, and belong to its holders: of a record that has moved on
    /// there may be a newer version by now. Where keys have no place none moves on.
    pub(super) fn find_at_home(
        &mut self,
        now: Time,
        id: SearchId,
        kind: Kind,
        owner: Option<PublicKey>,
    ) -> bool {
        let (replicas, unix) = (self.replicas(), self.unix(now));
        let Some(search) = self.searches.running.get_mut(&id) else { return false };
        let belongs =
            |s: &Standing| s.walks().is_some() || s.table.route(&search.key, replicas).includes_self();
        if !self.standing.as_ref().is_some_and(belongs) {
            return false;
        }
        let place = ResourceId(search.key);
        let held = self.storage.live(now, &place, kind);
        let hash = self.storage.hash();
        search.records = held
            .filter(|s| self.names.check(hash, unix, &(*s.record).as_ref()).is_ok())
            .filter(|s| owner.is_none_or(|o| s.record.owner == o))
            .filter(|s| !self.numbers.refutes(&(*s.record).as_ref()))
            .map(|s| ((*s.record).clone(), s.expires.since(now)))
            .collect();
        if search.records.is_empty() {
            return false;
        }
        let told = self.storage.live(now, &place, kind).fold(Density::default(), |all, s| all.closer(s.told));
        search.told = self.standing.as_ref().map(|s| s.density_at(&search.key).closer(told));
        true
    }

    /// An answer came back over the hops, or from the first of them.
    pub(crate) fn handle_recursive_answer(
        &mut self,
        now: Time,
        id: SearchId,
        (holder, message): (Option<Contact>, &Message<'_>),
        sent: Time,
    ) {
        self.collect(now, id, message, holder);
        let ttl = self.initial_ttl(now);
        let Some(search) = self.searches.running.get_mut(&id) else { return };
        if message.header.code.is_ok() && !search.records.is_empty() {
            search.path = route_log(message, |address| self.link.round_trips.rtt(address));
            search.hops = u32::from(ttl.saturating_sub(message.header.ttl)) + 1;
            search.progress = Progress::Recursive;
            if !search.direct {
                self.searches.misses = self.searches.misses.wrapping_add(1);
            }
            self.searches.answered_in(now.since(sent));
            return self.finish(now, id);
        }
        if !matches!(search.progress, Progress::Recursive) {
            return;
        }
        search.attempt += 1;
        if message.header.code == Code::NOT_FOUND {
            // Someone near the key says there is nothing: see for ourselves.
            let seeds = self.contacts_of_answer(message, WIDTH);
            return self.go_iterative(now, id, &seeds);
        }
        self.attempt(now, id);
    }

    /// An answer came from an address that we asked nothing: straight from whoever a question of ours
    /// reached. It knows the question's random number, as the hops do.
    pub(crate) fn handle_direct_answer(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let header = message.header;
        let ours = |p: &Purpose| matches!(p, Purpose::Recursive(_));
        let Some(copy) = self.transactions.copy(header.transaction, ours) else {
            return self.link.count_drop("late answer");
        };
        let Some(client) = self.transactions.end(copy) else { return };
        let Purpose::Recursive(id) = client.purpose else { return };
        self.searches.misses = 0;
        if header.code == Code::PROOF_REQUIRED {
            return self.ask_with_cookie(now, id, remote, message);
        }
        let holder = header.responder.map(|id| Contact { id, address: remote });
        self.handle_recursive_answer(now, id, (holder, message), client.first_sent);
    }

    /// Whoever has the record wants our address proven first, for its answer is long.
    fn ask_with_cookie(&mut self, now: Time, id: SearchId, remote: SocketAddr, message: &Message<'_>) {
        let Some(search) = self.searches.running.get_mut(&id) else { return };
        let Want::Object(kind, owner) = search.want else { return };
        let Some(cookie) = message.find(object::COOKIE, |o| match o {
            Object::Cookie(cookie) => Some(cookie),
            _ => None,
        }) else {
            return;
        };
        search.messages += 1;
        let resource = ResourceId(search.key);
        let deadline = now + self.config.lookup_timeout;
        let mut header = self.header(MessageType::LookupObject);
        // Not routed any further; the hops are counted by what is left.
        header.ttl = message.header.ttl;
        header.deadline_ms = millis(deadline.since(now));
        let bytes = Builder::new(&header)
            .with(&Object::RLookup(RLookup { resource, kind, owner }))
            .with(&Object::Cookie(cookie))
            .finish();
        let (to, purpose) = ((remote, None), Purpose::Recursive(id));
        self.request(now, to, MessageType::LookupObject, header.transaction, bytes, deadline, purpose);
    }

    /// A copy came to nothing. Others may be under way; if not, the search goes on.
    pub(crate) fn handle_recursive_silence(&mut self, now: Time, id: SearchId) {
        let others = self.transactions.any(|p| *p == Purpose::Recursive(id));
        let Some(search) = self.searches.running.get_mut(&id).filter(|_| !others) else { return };
        if matches!(search.progress, Progress::Recursive) {
            search.attempt += 1;
            self.attempt(now, id);
        }
    }
}

/// A question for records; with an `origin`, for an answer straight to there with a value of so many bytes.
fn object_question(
    header: &Header,
    key: Key,
    kind: Kind,
    owner: Option<PublicKey>,
    trace: bool,
    origin: Option<(SocketAddr, usize)>,
) -> Vec<u8> {
    let mut builder = Builder::new(header);
    builder.push(&Object::RLookup(RLookup { resource: ResourceId(key), kind, owner }));
    if let Some((origin, value_len)) = origin {
        builder.push(&Object::AddressInfo(AddressInfo::host(origin)));
        let answer = ANSWER_LEN + key.as_bytes().len() + value_len;
        if let Some(lacking) = answer.checked_sub(builder.len()) {
            builder.push(&Object::Padding(&vec![0; lacking.saturating_sub(4)]));
        }
    }
    if trace {
        let options = RequestOptions { route_log: true, ..RequestOptions::default() };
        builder.push(&Object::RequestOptions(options));
    }
    builder.finish()
}

/// The hops a recursive answer reports. Each has logged the round trip to the one after it; `first` is ours to the
/// first of them.
fn route_log(message: &Message<'_>, first: impl Fn(SocketAddr) -> Option<Duration>) -> Vec<Hop> {
    let hops = message.objects().filter_map(|o| match o {
        Object::RouteHop(hop) => Some(hop),
        _ => None,
    });
    let mut path = Vec::new();
    let mut to_next = None;
    for h in hops {
        let decision = match h.decision {
            1 => "answered",
            2 => "rerouted",
            _ => "forwarded",
        };
        let rtt = if path.is_empty() { first(h.address) } else { to_next };
        path.push(hop(h.id, h.address, rtt, decision));
        to_next = (h.rtt_micros > 0).then(|| Duration::from_micros(h.rtt_micros.into()));
    }
    path
}
