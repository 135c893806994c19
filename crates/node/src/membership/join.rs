//! Join: introducing ourselves, signed, to the peers nearest to our place, and letting others in.

use std::net::SocketAddr;
use std::time::Duration;

use wire::p2pp::{Builder, Code, Message, MessageType, Object, PeerList, object};
use wire::{Contact, Time};

use super::options::{options_from_wire, options_to_wire};
use crate::config::OverlayOption;
use crate::event::Level;
use crate::node::{Alarm, Node};
use crate::publish::session_of_lifetime;
use crate::request::Purpose;

/// Joins are sent to this many of the nearest peers, so that one lost or lying peer does not matter.
pub(crate) const JOINS: usize = 4;

impl Node {
    /// Our own lookup has ended: introduce ourselves to the nearest peers.
    pub(crate) fn join_through(&mut self, now: Time, closest: &[Contact]) {
        self.membership.self_lookup = false;
        if self.is_client() {
            return; // Its view of the overlay chooses the peers that carry it.
        }
        self.membership.joined = closest.iter().take(JOINS).map(|c| self.book.contact(*c)).collect();
        if self.membership.joined.is_empty() {
            return; // The bootstrap alarm tries again.
        }
        self.send_joins(now);
    }

    pub(crate) fn send_joins(&mut self, now: Time) {
        let Some(options) = self.standing.as_ref().map(|s| s.options.clone()) else { return };
        let objects = [Object::PeerInfo(self.own_info(now)), Object::P2pOptions(options_to_wire(&options))];
        for contact in self.membership.joined.clone() {
            let to = (contact.address, Some(contact.id));
            self.ask_signed(now, to, MessageType::Join, &objects, Purpose::Join);
        }
    }

    pub(crate) fn handle_join_answer(&mut self, now: Time, message: &Message<'_>) {
        match message.header.code {
            Code::OK => {
                self.learn_mentioned(now, message);
                self.learn_sessions(message);
                if !self.membership.online {
                    self.come_online(now);
                }
            }
            Code::JOIN_DEFERRED => {
                let wait = message.find(object::EXPIRES, |o| match o {
                    Object::Expires(seconds) => Some(seconds),
                    _ => None,
                });
                self.timers.set(Alarm::Join, now + Duration::from_secs(wait.unwrap_or(30).into()));
            }
            code => {
                let why = message.refusal();
                self.log(Level::Warn, "join", format!("refused: {code} {why}"));
                if code == Code::WRONG_OVERLAY && !self.membership.online {
                    self.stay_offline(format!("refused by a peer of another overlay: {why}"));
                }
            }
        }
    }

    /// Who leads us here or lets us in says how long it would have others keep a record: by that we know how
    /// long sessions last here, before we have seen any end.
    pub(super) fn learn_sessions(&mut self, answer: &Message<'_>) {
        let lifetime = answer.find(object::EXPIRES, |o| match o {
            Object::Expires(seconds) => Some(Duration::from_secs(seconds.into())),
            _ => None,
        });
        let told = &mut self.membership.told_sessions;
        if let Some(lifetime) = lifetime.filter(|_| told.len() < JOINS) {
            told.push(session_of_lifetime(lifetime));
            told.sort_unstable();
            // The middle one: a single liar does not set our timers.
            let session = told[told.len() / 2];
            if let Some(standing) = &mut self.standing {
                standing.table.expect_sessions(session);
            }
        }
    }

    /// Answers Join: the neighbours the newcomer should know.
    pub(crate) fn answer_join(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        // Before the signature: under another hash no Node-ID fits its key.
        if let Some(difference) = self.difference_of(message) {
            return self.refuse(now, remote, message, Code::WRONG_OVERLAY, &difference);
        }
        if self.signer(message).is_none() {
            return self.refuse(now, remote, message, Code::FORBIDDEN, "bad signature");
        }
        let Some(source) = message.header.source else { return };
        if let Some(why) = self.unwelcome(&source) {
            return self.refuse(now, remote, message, Code::FORBIDDEN, &why.to_string());
        }
        if !message.header.from_peer {
            return self.answer_attach(now, remote, message, source);
        }
        let Some(standing) = &self.standing else { return };
        let peers: Vec<Contact> = standing
            .table
            .route(source.key(), self.replicas())
            .contacts()
            .iter()
            .copied()
            .filter(|c| c.id != source)
            .collect();
        let mut builder = Builder::new(&self.answer_header(message, Code::OK));
        builder.push(&Object::ObservedAddress(remote));
        builder.push(&Object::NeighborTable(PeerList::Contacts(&peers)));
        builder.push(&Object::Expires(self.record_lifetime().as_secs() as u32));
        self.respond(now, remote, message, builder);
        self.mention(now, Contact { id: source, address: remote });
    }

    /// In what the overlay that a Join is meant for differs from ours, as the newcomer sees it.
    pub(super) fn difference_of(&self, join: &Message<'_>) -> Option<String> {
        let theirs = join.find(object::P2P_OPTIONS, |o| match o {
            Object::P2pOptions(options) => Some(options_from_wire(&options)),
            _ => None,
        })?;
        let ours = &self.standing.as_ref()?.options;
        match theirs {
            Ok(theirs) => theirs.difference(ours, &OverlayOption::OF_KEYS),
            Err(_) => Some(format!("algorithm is {} there", ours.algorithm)),
        }
    }
}
