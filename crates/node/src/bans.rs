//! Whom a peer has nothing to do with: whose key the overlay's document bans, and whose Node-ID cost too little.
//!
//! A banned key is known for sure where a link proves it, or a signature. Under `open` other messages prove nothing,
//! and are refused by the name that they give.

use std::collections::BTreeSet;
use std::fmt;

use wire::{NodeId, Time};

use crate::node::Node;

/// Why a peer has nothing to do with another's Node-ID.
pub(crate) enum Unwelcome {
    /// The document bans its key.
    Banned,
    /// It cost less than admission asks.
    Cheap { asked: u8, shown: u8 },
}

impl fmt::Display for Unwelcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unwelcome::Banned => f.write_str("the overlay's document bans this key"),
            Unwelcome::Cheap { asked, shown } => {
                write!(f, "admission asks for difficulty {asked}, this Node-ID has {shown}")
            }
        }
    }
}

impl Node {
    /// Why we have nothing to do with a Node-ID, if so.
    pub(crate) fn unwelcome(&self, id: &NodeId) -> Option<Unwelcome> {
        let standing = self.standing.as_ref()?;
        if standing.bans(id) {
            return Some(Unwelcome::Banned);
        }
        let (asked, shown) = (standing.options.difficulty, wire::puzzle::work(id));
        (asked > shown).then_some(Unwelcome::Cheap { asked, shown })
    }

    /// Whether the document bans the key of a Node-ID.
    pub(crate) fn is_banned(&self, id: &NodeId) -> bool {
        self.standing.as_ref().is_some_and(|standing| standing.bans(id))
    }

    /// Forgets whoever is banned now, what it has stored and what it holds, and ends its calls.
    pub(crate) fn shut_out_banned(&mut self, now: Time) {
        let hash = self.hash();
        let banned: BTreeSet<NodeId> = self.documents.banned().map(|key| key.node_id(hash)).collect();
        let Some(standing) = &mut self.standing else { return };
        let new: Vec<NodeId> = banned.iter().filter(|id| !standing.bans(id)).copied().collect();
        standing.banned = (!banned.is_empty()).then(|| banned.into());
        new.iter().for_each(|id| standing.table.handle_leave(now, id));
        let documents = &self.documents;
        self.storage.drop_where(|record| documents.bans(&record.owner));
        if new.is_empty() {
            return;
        }
        self.publications.forget_holders(&new);
        self.attachments.shut_out(&new);
        let in_calls = self.phones.peers_in_calls();
        for id in new.into_iter().filter(|id| in_calls.contains(id)) {
            self.handle_peer_lost(now, id);
        }
    }
}
