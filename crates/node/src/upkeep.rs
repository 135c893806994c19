//! What the overlay's algorithm wishes for its tables, turned into requests as the byte budget allows.

use std::net::SocketAddr;

use overlay::{Greeting, MAX_ROUTE, News, Upkeep};
use wire::p2pp::link_state::{Index, LinkState};
use wire::p2pp::{
    Builder, Message, MessageType, Object, PLookup, PeerList, RequestOptions, TransactionId, object,
};
use wire::{Contact, Key, NodeId, Time};

use crate::budget::Work;
use crate::node::{Alarm, Node};
use crate::request::{ANSWER_TIMEOUT, FEW_SENDS, Purpose, is_brief, push_known};
use crate::search::{For, LookupOptions, Want};
use crate::transaction::MAX_SENDS;

/// Peers whom we want named around a key that is searched with one question: as many as the nearest that
/// Kademlia keeps whole, since most are known and cost two bytes.
pub(crate) const NEAR: usize = 16;

/// Bytes that a request for upkeep costs us, about, with its headers and one repetition in ten.
const REQUEST_COST: usize = 150;

/// Bytes more that a request with our neighbours costs us.
const TABLE_COST: usize = 900;

/// Neighbours named in such a request, as many as fit a datagram with room for a cookie.
const NEIGHBORS_GIVEN: usize = 14;

impl Node {
    /// Does what the overlay wishes for its tables, as far as the byte budget allows.
    pub(crate) fn drain_upkeep(&mut self, now: Time) {
        while let Some(newcomer) = self.standing.as_mut().and_then(|s| s.table.poll_newcomer()) {
            if self.is_client() {
                self.attach_to(now, newcomer);
                continue;
            }
            self.welcome(now, newcomer);
            self.welcome_back(now, &newcomer);
            // Who founded the overlay asked nobody on the way in: the first to come tell where it is seen.
            if self.link.mapped.address().is_none() {
                self.ask_bootstrap(now, newcomer.address);
            }
        }
        loop {
            let put_off = self.membership.put_off.take();
            let is_new = put_off.is_none();
            let poll = || self.standing.as_mut().and_then(|s| s.table.poll_upkeep());
            let Some(wish) = put_off.map(|wish| *wish).or_else(poll) else { return };
            if self.is_under_way(&wish) {
                continue;
            }
            if !self.ledger.budget.may(now, Work::Upkeep) {
                if is_new {
                    self.ledger.budget.shed(Work::Upkeep);
                }
                self.membership.put_off = Some(Box::new(wish));
                return self.timers.set(Alarm::Upkeep, self.ledger.budget.may_at(now, Work::Upkeep));
            }
            self.ledger.budget.begin(now, Work::Upkeep, cost_of(&wish));
            self.fulfil(now, wish);
        }
    }

    /// Asks what the algorithm wishes to know.
    fn fulfil(&mut self, now: Time, wish: Upkeep) {
        match wish {
            Upkeep::Ping(contact) => {
                self.ask_whether_it_lives(now, (contact.address, Some(contact.id)));
            }
            Upkeep::Ask { with, key } => {
                let to = (with.address, Some(with.id));
                let wanted = Object::PLookup(PLookup { key, count: NEAR as u8, exact: false });
                self.ask_for_news(
                    now,
                    to,
                    MessageType::LookupPeer,
                    &[wanted],
                    (key, NEAR),
                    Purpose::Near(key),
                );
            }
            Upkeep::Greet(contact) => {
                let to = (contact.address, Some(contact.id));
                let greeting = self.standing.as_mut().and_then(|s| s.table.greeting(now, &contact.id));
                let Some(greeting) = greeting else { return };
                let index = index_bytes(&greeting);
                let objects = [
                    Object::RequestOptions(RequestOptions::default()),
                    Object::LinkState(link_state(&greeting, &index)),
                ];
                self.ask(now, to, MessageType::ExchangeTable, &objects, Purpose::Exchange);
            }
            Upkeep::Exchange { with, give, rows } => {
                let to = (with.address, Some(with.id));
                let wanted = RequestOptions {
                    routing_table: rows,
                    neighbor_table: !rows,
                    partial: true,
                    ..RequestOptions::default()
                };
                let ours = if give { self.what_to_tell(now) } else { News::default() };
                let mut objects = vec![Object::RequestOptions(wanted)];
                if give {
                    objects.push(Object::NeighborTable(PeerList::Contacts(&ours.arrived)));
                }
                objects.extend(ours.departed.iter().map(|id| Object::PeerId(*id)));
                let around = (*with.id.key(), 2 * MAX_ROUTE);
                self.ask_for_news(now, to, MessageType::ExchangeTable, &objects, around, Purpose::Exchange);
            }
            Upkeep::Lookup { key, width } => {
                let options = LookupOptions { width, ..LookupOptions::default() };
                self.search(now, key, Want::Peers, For::Upkeep, options);
            }
        }
    }

    /// Whether something is asked already that will tell as much: a peer anything, or the way to our own
    /// place while we join.
    fn is_under_way(&self, wish: &Upkeep) -> bool {
        let tells = |purpose: &Purpose| {
            use Purpose::{Exchange, Join, KeepAlive, Near, Step};
            matches!(purpose, Step(_) | KeepAlive | Near(_) | Exchange | Join)
        };
        match wish {
            Upkeep::Ping(contact) => self.transactions.asks(contact.address, tells),
            Upkeep::Lookup { key, .. } => {
                self.membership.self_lookup && self.node_id().is_some_and(|id| id.key() == key)
            }
            _ => false,
        }
    }

    /// Asks for peers, and says whom we know around a key, up to a number: they need not be named.
    fn ask_for_news(
        &mut self,
        now: Time,
        to: (SocketAddr, Option<NodeId>),
        message: MessageType,
        objects: &[Object<'_>],
        (key, count): (Key, usize),
        purpose: Purpose,
    ) {
        let known = self.standing.as_ref().map(|s| s.table.around(&key, count)).unwrap_or_default();
        self.ask_knowing(now, to, message, objects, &known, purpose);
    }

    /// Asks for peers other than those known.
    pub(crate) fn ask_knowing(
        &mut self,
        now: Time,
        to: (SocketAddr, Option<NodeId>),
        message: MessageType,
        objects: &[Object<'_>],
        known: &[Contact],
        purpose: Purpose,
    ) {
        let (transaction, question) = match is_brief(&purpose) {
            true => self.brief_question(message, objects, known, to.1),
            false => self.knowing_question(message, objects, known, to.1),
        };
        let most_sends = match purpose {
            Purpose::Step(_) => FEW_SENDS,
            _ if self.churn().is_storm() => 1,
            _ => MAX_SENDS,
        };
        self.request(now, to, message, transaction, question.finish(), now + ANSWER_TIMEOUT, purpose);
        self.transactions.limit((transaction, to.0), most_sends);
    }

    /// A question that lists whom we know, but whoever is asked.
    fn knowing_question(
        &mut self,
        message: MessageType,
        objects: &[Object<'_>],
        known: &[Contact],
        to: Option<NodeId>,
    ) -> (TransactionId, Builder) {
        let (transaction, mut question) = self.question(message, objects);
        push_known(&mut question, transaction, known.iter().map(|c| &c.id).filter(|id| Some(**id) != to));
        (transaction, question)
    }

    /// What we tell a peer with whom we exchange tables: our news, or else our neighbours.
    pub(crate) fn what_to_tell(&mut self, now: Time) -> News {
        let Some(standing) = &mut self.standing else { return News::default() };
        let news = standing.table.news(now);
        let mut news =
            news.unwrap_or_else(|| News { arrived: standing.table.neighbors(), ..News::default() });
        news.arrived.truncate(NEIGHBORS_GIVEN);
        news
    }

    /// Another peer says how it sees the link between us.
    pub(crate) fn hear_greeting(&mut self, now: Time, from: Contact, message: &Message<'_>, answered: bool) {
        let greeting = message.find(object::LINK_STATE, |o| match o {
            Object::LinkState(link) => Some(greeting(&link)),
            _ => None,
        });
        if let (Some(greeting), Some(standing)) = (greeting, &mut self.standing) {
            standing.table.handle_greeting(now, from, &greeting, answered);
        }
    }

    /// Slows upkeep down as spending nears the ceiling, so that it never has to stop.
    pub(crate) fn update_pace(&mut self, now: Time) {
        let (_, used) = self.ledger.rates(now);
        let share = used / f64::from(self.config.budget_bytes_per_s.max(1));
        if let Some(standing) = &mut self.standing {
            standing.table.set_pace((0.5 + share).clamp(1.0, 4.0) as f32);
        }
    }
}

/// Bytes that a wish costs us, about.
fn cost_of(wish: &Upkeep) -> usize {
    match wish {
        Upkeep::Ping(_) | Upkeep::Greet(_) | Upkeep::Ask { .. } => REQUEST_COST,
        Upkeep::Exchange { give: false, .. } => REQUEST_COST,
        Upkeep::Exchange { give: true, .. } => REQUEST_COST + TABLE_COST,
        Upkeep::Lookup { width, .. } => REQUEST_COST * width,
    }
}

/// The index of a greeting as its object has it.
pub(crate) fn index_bytes(greeting: &Greeting) -> Vec<u8> {
    greeting.index.iter().flatten().flat_map(|digest| digest.to_be_bytes()).collect()
}

/// A greeting as an object, with its index as bytes.
pub(crate) fn link_state<'a>(greeting: &Greeting, index: &'a [u8]) -> LinkState<'a> {
    let &Greeting { neighbor, fresh, degree, capacity, tokens, spent, known, .. } = greeting;
    let index = greeting.index.as_ref().and_then(|_| Index::new(index));
    LinkState { neighbor, fresh, degree, capacity, tokens, spent, known, index }
}

fn greeting(link: &LinkState<'_>) -> Greeting {
    let &LinkState { neighbor, fresh, degree, capacity, tokens, spent, known, index } = link;
    let index = index.map(|index| index.iter().take(overlay::gia::MAX_INDEX).collect());
    Greeting { neighbor, fresh, degree, capacity, tokens, spent, known, index }
}
