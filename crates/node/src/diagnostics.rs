//! What this peer tells about itself, and asks of others.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use overlay::News;
use wire::p2pp::{
    Builder, Code, Connections, Diagnostic, Message, MessageType, Object, PeerList, RequestOptions, object,
};
use wire::{Contact, NodeId, RngExt, Time};

use crate::budget::Work;
use crate::directory::{ResolvedFor, canonical_aor};
use crate::event::{OpId, Outcome};
use crate::node::{Alarm, Node, Standing};
use crate::publish::What;
use crate::report::{
    Budget, ConnectionRow, Found, NatStatus, ObjectRow, OverlayStatus, PhoneStatus, PingReport, Probes,
    Rates, Status, TableRow, Upkeep, UserStatus,
};
use crate::request::Purpose;
use crate::search::{Findings, For, LookupOptions, Mode, Want};
use crate::upkeep::{index_bytes, link_state};

/// Answers about ourselves per second, all askers together.
const ANSWERS_PER_S: u32 = 50;

/// Most rows fetched of a remote table.
const MAX_ROWS: usize = 1_024;

/// A peer as a person or program points at it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// The peer that serves this user.
    User(String),
    /// The peer with this Node-ID.
    Node(NodeId),
    /// The peer at this address.
    Address(SocketAddr),
}

impl FromStr for Target {
    type Err = std::convert::Infallible;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(match (s.parse(), s.parse::<wire::Key>()) {
            (Ok(address), _) => Target::Address(address),
            (_, Ok(key)) => Target::Node(NodeId(key)),
            _ => Target::User(s.to_owned()),
        })
    }
}

/// What can be asked of another peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// Its routing table (`getrt`).
    Routing,
    /// Its neighbour table (`getnt`).
    Neighbors,
    /// Its records (`getro`).
    Objects,
    /// How it is.
    Diagnostics,
}

struct Asking {
    to: (SocketAddr, Option<NodeId>),
    table: Table,
    found: Found,
}

/// The state behind questions, probes and settings.
#[derive(Default)]
pub(crate) struct Diagnostics {
    asking: BTreeMap<OpId, Asking>,
    pub(crate) load: BTreeMap<String, String>,
    probes: Probes,
    window: (Time, u32),
}

impl Diagnostics {
    /// A question has failed.
    pub(crate) fn forget(&mut self, op: OpId) {
        self.asking.remove(&op);
    }
}

impl Node {
    // ---- views ---------------------------------------------------------------------------------

    /// The state of this peer.
    pub fn status(&self, now: Time) -> Status {
        let (rates, maintenance) = self.ledger.rates(now);
        let mapped = self.link.mapped.address();
        let reach = match (self.roles.is_reachable(), mapped) {
            (Some(true), _) => "direct",
            (Some(false), _) => "nat",
            (None, None) => "unknown",
            (None, Some(address)) if address == self.config.listen => "direct",
            (None, Some(_)) if self.config.listen.ip().is_unspecified() => "unknown",
            (None, Some(_)) => "nat",
        };
        let ledger = self.ledger.totals().map(|(function, received, sent)| {
            let rates = Rates { received: received as f64, sent: sent as f64 };
            (function.name().to_owned(), rates)
        });
        Status {
            online: self.is_online(),
            node_id: self.node_id().map(|id| id.to_string()).unwrap_or_default(),
            public_key: self.public_key().to_string(),
            listen: self.config.listen.to_string(),
            sip: self.config.sip.to_string(),
            sips: self.config.sips.map_or(String::new(), |address| address.to_string()),
            overlay: self.overlay_status(now),
            users: self.identity.users.iter().map(|u| self.user_status(now, u)).collect(),
            phones: self.phones_status(),
            locked_out: self.phones.locked_out(now),
            routing_entries: self.standing.as_ref().map_or(0, |s| s.table.len()),
            neighbors: self.standing.as_ref().map_or(0, |s| s.table.neighbors().len()),
            objects: self.storage.len(),
            calls: self.phones.active_calls(),
            bytes_per_s: rates,
            ledger: ledger.collect(),
            budget: Budget {
                used_bytes_per_s: maintenance,
                ceiling_bytes_per_s: self.config.budget_bytes_per_s.into(),
                shedding: !self.ledger.budget.may(now, Work::Upkeep),
                shed: self.ledger.budget.named_counts(),
            },
            upkeep: Upkeep {
                session_s: self.churn().session().as_secs_f64(),
                stretch: self.churn().stretch(),
                refresh_s: self.refresh_interval().as_secs_f64(),
                repair_s: self.repair_interval().as_secs_f64(),
            },
            rss_bytes: 0,
            uptime_ms: now.since(self.started).as_millis() as u64,
            nat: NatStatus {
                kind: match mapped {
                    None => "unknown".into(),
                    Some(_) if reach == "direct" => "none".into(),
                    Some(_) => "mapped".into(),
                },
                mapped: mapped.map(|a| a.to_string()),
            },
            reachability: reach.into(),
            role: self.roles.role().name().into(),
            clients: self.attachments.clients(),
            warm_links: self.attachments.warm(),
            profile: self.config.profile.to_string(),
            links: self.link.count_links(),
            streams: self.link.count_streams(),
            load: self.diagnostics.load.clone(),
            dropped: self.dropped(),
            probes: Probes {
                every_s: self.config.probe_interval.map(|d| d.as_secs_f64()),
                ..self.diagnostics.probes
            },
        }
    }

    /// What arrived on any port and was of no use, by reason.
    fn dropped(&self) -> BTreeMap<String, u64> {
        let strays = ("media of no call", self.phones.plane.strays);
        let phones = self.phones.agent.drops().iter().map(|(why, n)| (*why, *n));
        let counted = self.link.drops().into_iter().chain(phones);
        counted.chain([strays]).filter(|(_, n)| *n > 0).map(|(why, n)| (why.to_owned(), n)).collect()
    }

    fn overlay_status(&self, now: Time) -> OverlayStatus {
        let options = self.standing.as_ref().map_or(&self.config.overlay, |s| &s.options);
        OverlayStatus {
            name: options.name.clone(),
            algorithm: options.algorithm.name().into(),
            hash: options.hash.name().into(),
            base: options.base,
            size_estimate: self.size_estimate(now),
            document: self.documents().map(|chain| chain.newest().document.sequence),
        }
    }

    fn phones_status(&self) -> Vec<PhoneStatus> {
        let phones = self.phones.registered().into_iter();
        phones.map(|phone| PhoneStatus { number: self.number_text(&phone.user), ..phone }).collect()
    }

    fn number_text(&self, aor: &str) -> Option<String> {
        self.number_of(aor).map(|number| number.to_string())
    }

    fn user_status(&self, now: Time, user: &crate::config::User) -> UserStatus {
        let publication = self.publications.find(&What::User(user.aor.clone()));
        let state = match publication {
            _ if self.claim_of(now, &user.aor).is_none() => "uncertified",
            Some(p) if p.taken => "taken",
            Some(p) if p.verified => "published",
            _ => "publishing",
        };
        UserStatus {
            aor: user.aor.clone(),
            public_key: user.keys.public().to_string(),
            number: self.number_text(&user.aor),
            number_state: self.number_state(&user.aor),
            state: state.into(),
            certified_until: self.enrolments.certificate(&user.aor).map(|c| c.not_after.0),
            domain_proof: self.own_proof(now, user).map(str::to_owned),
            problem: self.enrolments.problem(&user.aor),
        }
    }

    fn number_state(&self, aor: &str) -> Option<String> {
        let publication = self.publications.find(&What::Number(aor.to_owned()))?;
        let state = match publication {
            p if p.taken => "crowded",
            p if p.verified => "published",
            _ => "publishing",
        };
        Some(state.to_owned())
    }

    /// The routing table (`showrt`).
    pub fn routes(&self, now: Time) -> Vec<TableRow> {
        let Some(standing) = &self.standing else { return Vec::new() };
        let row = |e: overlay::Entry| TableRow {
            row: e.row.into(),
            node: e.contact.id.to_string(),
            address: e.contact.address.to_string(),
            rtt_ms: e.rtt.map(ms),
            last_seen_ms: Some(now.since(e.last_seen).as_millis() as u64),
            state: e.standing.name().into(),
        };
        standing.table.contacts().into_iter().map(row).collect()
    }

    /// The neighbour table (`shownt`).
    pub fn neighbors(&self, now: Time) -> Vec<TableRow> {
        let Some(standing) = &self.standing else { return Vec::new() };
        let rows: BTreeMap<String, TableRow> =
            self.routes(now).into_iter().map(|r| (r.node.clone(), r)).collect();
        let named = |(n, c): (usize, Contact)| {
            let known = rows.get(&c.id.to_string()).cloned();
            TableRow { row: n as u32, ..known.unwrap_or_else(|| plain_row(n, &c)) }
        };
        standing.table.neighbors().into_iter().enumerate().map(named).collect()
    }

    /// The records held (`showro`).
    pub fn objects(&self, now: Time) -> Vec<ObjectRow> {
        let row = |s: &crate::storage::Stored| ObjectRow {
            key: s.record.resource.to_string(),
            kind: s.record.kind.name().into(),
            owner: s.record.owner.to_string(),
            sequence: s.record.sequence,
            value_bytes: Some(s.record.value.len()),
            expires_ms: Some(s.expires.since(now).as_millis() as u64),
            removed: s.record.tombstone,
        };
        self.storage.iter().map(row).collect()
    }

    /// The peers with which traffic was exchanged lately (`showcp`).
    pub fn connections(&self, now: Time) -> Vec<ConnectionRow> {
        let names: BTreeMap<SocketAddr, NodeId> = self
            .standing
            .iter()
            .flat_map(|s| s.table.contacts())
            .map(|e| (e.contact.address, e.contact.id))
            .collect();
        self.link
            .round_trips
            .iter()
            .map(|(address, rtt, at)| ConnectionRow {
                node: names.get(&address).map(|id| id.to_string()),
                address: address.to_string(),
                path: "direct".into(),
                rtt_ms: Some(ms(rtt)),
                last_seen_ms: now.since(at).as_millis() as u64,
            })
            .collect()
    }

    /// How many peers the overlay has, judged by how close our neighbours stand to us, and those found
    /// nearest in searches of ours to other places.
    pub fn size_estimate(&self, now: Time) -> u64 {
        self.standing.as_ref().map_or(0, |s| s.size(now, &self.membership.size))
    }

    /// How many there are at most, for whoever judges whether peers stand too close to each other.
    pub(crate) fn size_at_most(&self, now: Time) -> u64 {
        self.standing.as_ref().map_or(0, |s| s.size_at_most(now, &self.membership.size))
    }

    /// The same by our neighbours alone: less exact, and never late where the overlay grows.
    pub(crate) fn size_around_us(&self) -> u64 {
        self.standing.as_ref().map_or(0, Standing::size_around_us)
    }

    // ---- questions to others -------------------------------------------------------------------

    /// Asks a peer whether it lives.
    pub fn ping(&mut self, now: Time, target: &Target) -> OpId {
        let op = self.new_op();
        match self.contact_at_once(target) {
            Some((address, id)) => {
                self.ask(now, (address, id), MessageType::KeepAlive, &[], Purpose::Ping(op));
            }
            None => self.resolve_target(now, op, target, ResolvedFor::Ping(op)),
        }
        self.drain(now);
        op
    }

    pub(crate) fn ping_contact(&mut self, now: Time, op: OpId, contact: Contact) {
        let to = (contact.address, Some(contact.id));
        self.ask(now, to, MessageType::KeepAlive, &[], Purpose::Ping(op));
    }

    pub(crate) fn handle_ping_answer(
        &mut self,
        _now: Time,
        op: OpId,
        remote: SocketAddr,
        message: &Message<'_>,
        rtt: Option<Duration>,
    ) {
        let node = message.header.responder.map(|id| id.to_string()).unwrap_or_default();
        let rtt_ms = rtt.or_else(|| self.link.round_trips.rtt(remote)).map(ms).unwrap_or_default();
        let report = PingReport { node, address: remote.to_string(), path: "direct".into(), rtt_ms };
        self.done(op, Outcome::Ping(report));
    }

    /// Asks a peer for one of its tables.
    pub fn tables_of(&mut self, now: Time, target: &Target, table: Table) -> OpId {
        let op = self.new_op();
        match self.contact_at_once(target) {
            Some(to) => self.ask_tables(now, op, to, table),
            None => self.resolve_target(now, op, target, ResolvedFor::Tables(op, table)),
        }
        self.drain(now);
        op
    }

    pub(crate) fn contact_at_once(&self, target: &Target) -> Option<(SocketAddr, Option<NodeId>)> {
        match target {
            Target::Address(address) => Some((*address, None)),
            Target::Node(id) => {
                let table = &self.standing.as_ref()?.table;
                let entry = table.contacts().into_iter().find(|e| e.contact.id == *id)?;
                Some((entry.contact.address, Some(*id)))
            }
            Target::User(_) => None,
        }
    }

    pub(crate) fn resolve_target(&mut self, now: Time, op: OpId, target: &Target, purpose: ResolvedFor) {
        match target {
            Target::User(user) => {
                let aor = canonical_aor(user, &self.default_domain());
                if self.is_user(&aor) {
                    return self.failed(
                        op,
                        Code::BAD_REQUEST.0,
                        format!("{aor} is served by this peer itself"),
                    );
                }
                self.resolve(now, &aor, purpose);
            }
            Target::Node(id) => self.resolve_node(now, *id, purpose),
            Target::Address(_) => unreachable!("an address needs no resolving"),
        }
    }

    pub(crate) fn ask_tables(&mut self, now: Time, op: OpId, to: (SocketAddr, Option<NodeId>), table: Table) {
        let offset = self.diagnostics.asking.get(&op).map_or(0, |a| rows_of(&a.found));
        let options = RequestOptions {
            routing_table: table == Table::Routing,
            neighbor_table: table == Table::Neighbors,
            partial: true,
            offset: offset as u16,
            ..RequestOptions::default()
        };
        let found = self.diagnostics.asking.remove(&op).map(|a| a.found).unwrap_or_default();
        self.diagnostics.asking.insert(op, Asking { to, table, found });
        let (message, object) = match table {
            Table::Routing | Table::Neighbors => {
                (MessageType::ExchangeTable, Object::RequestOptions(options))
            }
            Table::Objects => (MessageType::Query, Object::RequestOptions(options)),
            Table::Diagnostics => (MessageType::GetDiagnostics, Object::DiagnosticOptions(u64::MAX)),
        };
        self.ask(now, to, message, &[object], Purpose::Tables(op));
    }

    pub(crate) fn handle_tables_answer(&mut self, now: Time, op: OpId, message: &Message<'_>) {
        let Some(mut asking) = self.diagnostics.asking.remove(&op) else { return };
        if !message.header.code.is_ok() {
            let code = message.header.code;
            return self.failed(op, code.0, code.reason());
        }
        let before = rows_of(&asking.found);
        asking.found.node = message.header.responder.map(|id| id.to_string()).unwrap_or_default();
        for object in message.objects() {
            read_found(&mut asking.found, object);
        }
        let after = rows_of(&asking.found);
        let paged = asking.table != Table::Diagnostics;
        if paged && after > before && after < MAX_ROWS {
            let (to, table) = (asking.to, asking.table);
            self.diagnostics.asking.insert(op, asking);
            return self.ask_tables(now, op, to, table);
        }
        self.done(op, Outcome::Tables(asking.found));
    }

    // ---- answers about ourselves ---------------------------------------------------------------

    fn may_answer(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) -> bool {
        let (start, count) = &mut self.diagnostics.window;
        if now.since(*start) >= Duration::from_secs(1) {
            (*start, *count) = (now, 0);
        }
        *count += 1;
        let may = *count <= ANSWERS_PER_S;
        if !may {
            self.refuse(now, remote, message, Code::BUSY, "");
        }
        may
    }

    pub(crate) fn answer_exchange(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let options = request_options(message);
        // What is said of a link is heard from proven addresses only, and answered in kind.
        let is_greeting = message.objects().any(|o| matches!(o, Object::LinkState(_)));
        let greeter = message.header.source.filter(|_| is_greeting && message.header.from_peer);
        if greeter.is_some() && !self.link.proofs.is_proven(now, remote) {
            return self.demand_proof(now, remote, message);
        }
        if let Some(id) = greeter {
            self.hear_greeting(now, Contact { id, address: remote }, message, false);
        }
        // Who tells us something is told something.
        let gives = message.objects().any(|o| matches!(o, Object::NeighborTable(_)));
        let told = if gives { self.what_to_tell(now) } else { News::default() };
        let greeting = greeter.and_then(|id| self.standing.as_mut().and_then(|s| s.table.greeting(now, &id)));
        let Some(standing) = &self.standing else { return };
        let mut builder = Builder::new(&self.answer_header(message, Code::OK));
        if let Some(greeting) = greeting {
            let index = index_bytes(&greeting);
            builder.push(&Object::LinkState(link_state(&greeting, &index)));
        }
        let neighbors = || if gives { told.arrived.clone() } else { standing.table.neighbors() };
        let routing = || standing.table.contacts().into_iter().map(|e| e.contact).collect();
        let tables: [(bool, Vec<Contact>); 2] = [
            (false, if options.routing_table { routing() } else { Vec::new() }),
            (true, if options.neighbor_table { neighbors() } else { Vec::new() }),
        ];
        for (near, contacts) in tables {
            let rest = contacts.get(usize::from(options.offset)..).unwrap_or_default();
            let fits = builder.room().saturating_sub(5) / crate::membership::SHORT_LEN;
            let mut page = rest[..rest.len().min(fits)].to_vec();
            crate::answer::leave_out_known(message, &mut page);
            let list = PeerList::Contacts(&page);
            builder.push(&if near { Object::NeighborTable(list) } else { Object::RoutingTable(list) });
        }
        for id in told.departed.iter().filter(|_| options.neighbor_table) {
            if builder.room() >= 40 {
                builder.push(&Object::PeerId(*id));
            }
        }
        self.respond(now, remote, message, builder);
        if message.header.from_peer {
            self.learn_news(now, message);
        }
    }

    pub(crate) fn answer_query(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        if !self.may_answer(now, remote, message) {
            return;
        }
        let offset = usize::from(request_options(message).offset);
        let mut builder = Builder::new(&self.answer_header(message, Code::OK));
        for stored in self.storage.iter().skip(offset) {
            if builder.room() < 60 {
                break;
            }
            builder.push(&Object::RecordSummary((*stored.record).as_ref().summary()));
        }
        self.respond(now, remote, message, builder);
    }

    pub(crate) fn answer_diagnostics(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        if !self.may_answer(now, remote, message) {
            return;
        }
        let (rates, maintenance) = self.ledger.rates(now);
        let mut builder = Builder::new(&self.answer_header(message, Code::OK));
        let connections = Connections {
            neighbors: self.standing.as_ref().map_or(0, |s| s.table.neighbors().len() as u16),
            routing: self.standing.as_ref().map_or(0, |s| s.table.len() as u16),
            clients: self.attachments.clients() as u16,
        };
        builder.push(&Object::Uptime(now.since(self.started).as_secs() as u32));
        builder.push(&Object::Connections(connections));
        // Nothing here names a user or a phone.
        let mut values = vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("objects", self.storage.len().to_string()),
            ("bytes_per_s.in", format!("{:.1}", rates.received)),
            ("bytes_per_s.out", format!("{:.1}", rates.sent)),
            ("maintenance_bytes_per_s", format!("{maintenance:.1}")),
            ("size_estimate", self.size_estimate(now).to_string()),
        ];
        for name in crate::operator::LOAD_NAMES {
            if let Some(value) = self.diagnostics.load.get(name) {
                values.push((name, value.clone()));
            }
        }
        for (name, value) in &values {
            if builder.room() > name.len() + value.len() + 5 {
                builder.push(&Object::Diagnostic(Diagnostic { name, value }));
            }
        }
        self.respond(now, remote, message, builder);
    }

    // ---- health check --------------------------------------------------------------------------

    /// Looks a random key up: nothing is there, but a healthy overlay says so quickly.
    pub(crate) fn probe(&mut self, now: Time) {
        let key = self.hash().digest(&self.rng.random::<[u8; 16]>());
        self.diagnostics.probes.issued += 1;
        let options = LookupOptions { mode: Mode::Iterative, ..LookupOptions::default() };
        self.search(now, key, Want::Peers, For::Probe, options);
        if let Some(interval) = self.config.probe_interval {
            let next = self.jitter(interval, 0.75, 1.25);
            self.timers.set(Alarm::Probe, now + next);
        }
    }

    /// Starts, changes or ends the health check.
    pub fn set_probe_interval(&mut self, now: Time, interval: Option<Duration>) {
        self.config.probe_interval = interval;
        match interval {
            Some(_) => self.timers.set(Alarm::Probe, now),
            None => self.timers.cancel(Alarm::Probe),
        }
    }

    pub(crate) fn handle_probe_done(&mut self, now: Time, findings: &Findings) {
        let alone = self.standing.as_ref().is_none_or(|s| s.table.is_empty());
        let healthy = alone || !findings.closest.is_empty();
        let unix = self.unix(now).0;
        let probes = &mut self.diagnostics.probes;
        probes.succeeded += u64::from(healthy);
        probes.failed += u64::from(!healthy);
        probes.last_ms = ms(findings.took);
        probes.last_time = Some(unix);
    }
}

fn request_options(message: &Message<'_>) -> RequestOptions {
    message
        .find(object::REQUEST_OPTIONS, |o| match o {
            Object::RequestOptions(options) => Some(options),
            _ => None,
        })
        .unwrap_or_default()
}

fn rows_of(found: &Found) -> usize {
    found.rows.len().max(found.objects.len())
}

fn read_found(found: &mut Found, object: Object<'_>) {
    match object {
        Object::RoutingTable(list) | Object::NeighborTable(list) => {
            for contact in list.contacts() {
                let row = plain_row(found.rows.len(), &contact);
                found.rows.push(row);
            }
        }
        Object::RecordSummary(summary) => found.objects.push(ObjectRow {
            key: summary.resource.to_string(),
            kind: summary.kind.name().into(),
            sequence: summary.sequence,
            ..ObjectRow::default()
        }),
        Object::Diagnostic(d) => {
            found.diagnostics.insert(d.name.to_owned(), d.value.to_owned());
        }
        Object::Uptime(seconds) => {
            found.diagnostics.insert("uptime_ms".into(), (u64::from(seconds) * 1_000).to_string());
        }
        Object::Connections(c) => {
            found.diagnostics.insert("routing_entries".into(), c.routing.to_string());
            found.diagnostics.insert("neighbors".into(), c.neighbors.to_string());
        }
        _ => {}
    }
}

fn plain_row(row: usize, contact: &Contact) -> TableRow {
    TableRow {
        row: row as u32,
        node: contact.id.to_string(),
        address: contact.address.to_string(),
        state: "live".into(),
        ..TableRow::default()
    }
}

fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use wire::{KeyPair, Seed, UnixTime};

    use super::*;
    use crate::config::{Config, Identity, Saved};
    use crate::event::Event;

    #[test]
    fn a_question_that_nobody_answers_is_forgotten() {
        let seed = Seed::from_number(1);
        let identity = Identity { peer: KeyPair::from_seed(seed), users: Vec::new() };
        let mut now = Time::from_secs(1);
        let mut node = Node::new(Config::default(), identity, Saved::default(), seed, now, UnixTime(0));
        let nobody = Target::Address(([10, 0, 0, 9], 7080).into());
        let op = node.tables_of(now, &nobody, Table::Objects);
        assert_eq!(node.diagnostics.asking.len(), 1);
        while now < Time::from_secs(10) {
            now = node.poll_timeout().expect("a peer always waits for something").0;
            node.handle_timeout(now);
        }
        let failed =
            |e: Event| matches!(e, Event::Done { op: o, outcome: Outcome::Failed { .. } } if o == op);
        assert!(std::iter::from_fn(|| node.poll_event()).any(failed));
        assert!(node.diagnostics.asking.is_empty());
    }
}
