//! Bootstrap: the way in. Every bootstrap address and some hosts of the cache are asked for the
//! overlay's options and some peers; the first answer adopts the options and looks for our own place.

use std::net::SocketAddr;
use std::time::Duration;

use overlay::Evidence;
use wire::p2pp::{Builder, Code, Message, MessageType, Object, PeerList, object};
use wire::{Contact, Time, puzzle};

use super::options::{options_from_wire, options_to_wire};
use super::{SHORT_LEN, contacts_in};
use crate::bans::Unwelcome;
use crate::config::{OverlayOption, OverlayOptions};
use crate::event::{Event, Level};
use crate::node::{Alarm, Node};
use crate::request::Purpose;
use crate::search::{For, Want};

/// Peers a bootstrap answer names (slides of 2008: recently joined and managed ones mixed).
pub(crate) const BOOTSTRAP_PEERS: usize = 20;

/// And while the answerer is short of budget: twice as many as a search asks at once, since some of them may be
/// gone, or lie.
const BOOTSTRAP_PEERS_BRIEF: usize = 6;

/// Hosts remembered across restarts.
pub(crate) const HOST_CACHE: usize = 64;

/// Hosts of the cache that are asked at once; the next attempt asks the next ones.
const HOSTS_AT_ONCE: usize = 8;

/// How often the host cache is worth keeping, for a peer that ends without a word.
const KEEP_HOSTS: Duration = Duration::from_secs(600);

/// First pause before bootstrap is tried again, doubled up to a minute.
const RETRY: Duration = Duration::from_secs(2);

impl Node {
    /// Asks every address it knows for options and peers.
    pub(crate) fn bootstrap(&mut self, now: Time) {
        if self.membership.online && self.standing.as_ref().is_some_and(|s| !s.table.is_empty()) {
            return;
        }
        // Somebody has answered, and we are about to be let in.
        if self.membership.self_lookup || self.transactions.any(|purpose| *purpose == Purpose::Join) {
            let pause = self.jitter(RETRY, 0.75, 1.25);
            return self.timers.set(Alarm::Bootstrap, now + pause);
        }
        let mut addresses = self.membership.bootstrap.clone();
        let hosts = &self.membership.hosts;
        let turn = self.membership.attempts as usize * HOSTS_AT_ONCE;
        addresses.extend(
            hosts.iter().cycle().skip(turn % hosts.len().max(1)).take(HOSTS_AT_ONCE.min(hosts.len())),
        );
        addresses.sort_unstable();
        addresses.dedup();
        for address in addresses {
            if address != self.config.listen {
                self.ask_bootstrap(now, address);
            }
        }
        let pause = RETRY * (1 << self.membership.attempts.min(5));
        self.membership.attempts += 1;
        if self.membership.attempts == 3 && self.membership.offline.is_none() {
            if self.membership.founder && self.standing.is_none() {
                // Everybody else is gone and waits for the founder. Should somebody of the cache come
                // back, the attempts go on while the table is empty.
                self.found(now);
            } else {
                let profile = self.config.profile;
                self.stay_offline(format!(
                    "no bootstrap peer and no host of the cache answers to profile {profile}; still trying"
                ));
            }
        }
        let pause = self.jitter(pause.min(Duration::from_secs(60)), 0.75, 1.25);
        self.timers.set(Alarm::Bootstrap, now + pause);
    }

    /// Says why this peer is not in the overlay, once for each reason.
    pub(super) fn stay_offline(&mut self, reason: String) {
        if self.membership.offline.as_ref() != Some(&reason) {
            self.membership.offline = Some(reason.clone());
            self.emit(Event::Offline { reason });
        }
    }

    pub(crate) fn ask_bootstrap(&mut self, now: Time, address: SocketAddr) {
        let objects = [Object::PublicKey(self.public_key())];
        self.ask(now, (address, None), MessageType::Bootstrap, &objects, Purpose::Bootstrap);
    }

    /// The host cache: the peers of the table, heard latest first, then those that answered a Bootstrap
    /// once. Whoever led us in may be gone tomorrow; some of the others will be there.
    pub(crate) fn hosts(&self) -> Vec<SocketAddr> {
        let mut entries = self.standing.as_ref().map(|s| s.table.contacts()).unwrap_or_default();
        entries.sort_by_key(|e| std::cmp::Reverse(e.last_seen));
        let mut hosts: Vec<SocketAddr> = Vec::with_capacity(HOST_CACHE);
        for host in entries.iter().map(|e| e.contact.address).chain(self.membership.hosts.iter().copied()) {
            if hosts.len() < HOST_CACHE && !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        hosts
    }

    /// Has the host cache written down every so often.
    pub(crate) fn keep_hosts(&mut self, now: Time) {
        if self.membership.online && self.membership.hosts_kept.is_none_or(|at| now.since(at) >= KEEP_HOSTS) {
            self.membership.hosts_kept = Some(now);
            self.emit(Event::Save);
        }
    }

    /// A peer told us the overlay's options and some peers.
    pub(crate) fn handle_bootstrap_answer(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        match message.header.code {
            Code::VERSION_NOT_SUPPORTED => return self.differ_in_version(remote, "another version"),
            Code::FORBIDDEN if self.standing.is_none() => {
                let why = message.refusal();
                return self.stay_offline(format!("{remote} does not let this peer in: {why}"));
            }
            code if !code.is_ok() => return,
            _ => {}
        }
        let options = message.find(object::P2P_OPTIONS, |o| match o {
            Object::P2pOptions(options) => Some(options_from_wire(&options)),
            _ => None,
        });
        match (options, &self.standing) {
            (Some(Ok(options)), None) => {
                if let Some(difference) = self.config.overlay.difference(&options, &self.config.insist) {
                    if self.documents.are_on_their_way() {
                        return; // They may say the same as it does.
                    }
                    return self.stay_offline(format!(
                        "{remote} is in another overlay than this peer was told to join: {difference}"
                    ));
                }
                if let Some(reason) = self.lacks_work(&options) {
                    return self.stay_offline(reason);
                }
                self.adopt_options(now, options);
            }
            (Some(Ok(options)), Some(standing)) => {
                if let Some(difference) = standing.options.difference(&options, &OverlayOption::OF_KEYS) {
                    let text = format!("{remote} is in another overlay: {difference}");
                    return self.log(Level::Warn, "join", text);
                }
            }
            (Some(Err(reason)), None) => return self.stay_offline(reason),
            (None, None) => return,
            _ => {}
        }
        self.membership.remember_host(remote);
        self.learn_sessions(message);
        self.learn_alive_responder(now, remote, message);
        // Whoever was heard last stands first, and is likeliest to be there still.
        let worth_asking = if self.churn().is_storm() { BOOTSTRAP_PEERS / 2 } else { BOOTSTRAP_PEERS };
        contacts_in(message).iter().take(worth_asking).for_each(|contact| self.mention(now, *contact));
        if self.membership.online || self.membership.self_lookup {
            return;
        }
        self.membership.self_lookup = true;
        let mut seeds = contacts_in(message);
        seeds.retain(|c| !self.is_banned(&c.id));
        if let Some(id) = message.header.responder.filter(|_| message.header.from_peer) {
            seeds.push(Contact { id, address: remote });
        }
        let own = *self.node_id().expect("options were adopted").key();
        self.search_with_seeds(now, own, Want::Peers, For::Join, &seeds);
    }

    /// Why an overlay with these options would not let this peer in, if its Node-ID cost too little.
    pub(crate) fn lacks_work(&self, options: &OverlayOptions) -> Option<String> {
        let (asked, shown) = (options.difficulty, puzzle::work(&self.public_key().node_id(options.hash)));
        (shown < asked).then(|| {
            format!(
                "the overlay '{}' admits identities of difficulty {asked}, and that of this peer has {shown}. \
                 Set overlay.difficulty = {asked} in the configuration and move the file peer.key away: at \
                 the next start another identity is made, with 2^{asked} draws",
                options.name
            )
        })
    }

    /// Whom we asked to let us in speaks another version of the protocol.
    pub(crate) fn differ_in_version(&mut self, remote: SocketAddr, theirs: &str) {
        if !self.membership.online && self.membership.bootstrap.contains(&remote) {
            let ours = wire::p2pp::VERSION;
            self.stay_offline(format!("{remote} speaks {theirs} of P2PP and this peer version {ours}"));
        }
    }

    pub(super) fn learn_alive_responder(&mut self, now: Time, address: SocketAddr, message: &Message<'_>) {
        let (Some(standing), Some(id)) = (&mut self.standing, message.header.responder) else { return };
        if message.header.from_peer {
            standing.meet(now, Contact { id, address }, Evidence::Alive { rtt: None });
        }
    }

    /// Answers Bootstrap: options, the asker's address, and peers, the latest and the oldest mixed. Whoever is
    /// short of budget names a few, drawn from all: others serve as well, and newcomers spread over them.
    pub(crate) fn answer_bootstrap(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let Some(standing) = &self.standing else {
            return self.refuse(now, remote, message, Code::REJECTED, "not in an overlay yet");
        };
        let key = message.find(object::PUBLIC_KEY, |o| match o {
            Object::PublicKey(key) => Some(key),
            _ => None,
        });
        if key.is_some_and(|key| self.documents.bans(&key)) {
            return self.refuse(now, remote, message, Code::FORBIDDEN, &Unwelcome::Banned.to_string());
        }
        let mut entries = standing.table.contacts();
        entries.retain(|e| e.standing != overlay::Standing::Suspect);
        entries.sort_by_key(|e| std::cmp::Reverse(e.last_seen));
        let (count, half) = match self.ledger.budget.is_short(now) {
            true => (BOOTSTRAP_PEERS_BRIEF, 0),
            false => (BOOTSTRAP_PEERS, BOOTSTRAP_PEERS / 2),
        };
        let mut peers: Vec<Contact> = entries.iter().take(half).map(|e| e.contact).collect();
        let mut rest: Vec<Contact> = entries.iter().skip(half).map(|e| e.contact).collect();
        while peers.len() < count && !rest.is_empty() {
            let pick = wire::RngExt::random_range(&mut self.rng, 0..rest.len());
            peers.push(rest.swap_remove(pick));
        }
        peers.retain(|c| c.address != remote);
        let standing = self.standing.as_ref().expect("checked above");
        let options = options_to_wire(&standing.options);
        let mut builder = Builder::new(&self.answer_header(message, Code::OK));
        builder.push(&Object::P2pOptions(options)).push(&Object::ObservedAddress(remote));
        builder.push(&Object::Expires(self.record_lifetime().as_secs() as u32));
        let fits = peers.len().min(builder.room().saturating_sub(8) / SHORT_LEN);
        builder.push(&Object::RoutingTable(PeerList::Contacts(&peers[..fits])));
        self.respond(now, remote, message, builder);
    }
}
