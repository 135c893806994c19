//! Word of who came and who went, from others.
//!
//! A rumour proves nothing: whoever is said to have come may become a neighbour once it answers, and whoever
//! is said to be gone is asked. Two kinds travel. Peers that exchange tables tell each other their news. And
//! whoever seeks a record in vain where many are gone tells everybody it knows: those may have been all that
//! held the record, and its owner, who could place it anew, would only learn so at its next refresh. Whoever
//! finds the word true looks after its own records and passes it on.

use std::time::Duration;

use wire::p2pp::{Builder, Class, Header, Message, MessageType, Object};
use wire::{Contact, NodeId, RngExt, Time};

use crate::budget::Work;
use crate::node::Node;
use crate::request::{ANSWER_TIMEOUT, Purpose};

/// Departures told, and heeded, in one message.
const MOST_GONE: usize = 8;

/// Peers told that others are gone, at most.
const MOST_TOLD: usize = 64;

/// Word is proven by silence that comes so soon.
const FRESH: Duration = Duration::from_secs(5);

/// Words that wait for their proof, or were proven, in this time: whoever invents more is not heard.
const MOST_WORDS: usize = 8;

/// A word has news if it names so many whom no other did.
const NEWS: usize = 2;

/// Peers that are said to be gone.
pub(crate) struct Word {
    heard: Time,
    gone: Vec<NodeId>,
    proven: bool,
}

impl Node {
    /// Who came and who went, as another peer tells.
    pub(crate) fn learn_news(&mut self, now: Time, message: &Message<'_>) {
        self.learn_mentioned(now, message);
        if let Some(standing) = &mut self.standing {
            departed(message).iter().for_each(|id| standing.table.handle_rumor(now, id));
        }
    }

    /// Many are said to be gone: one whom we know is asked.
    pub(crate) fn hear_word(&mut self, now: Time, message: &Message<'_>) {
        let gone = departed(message);
        if !self.is_news(now, &gone) {
            return;
        }
        let Some(standing) = &self.standing else { return };
        let neighbors = standing.table.contacts().into_iter().map(|e| e.contact);
        let known = self.publications.holders().chain(neighbors).find(|c| gone.contains(&c.id));
        if let Some(Contact { id, address }) = known {
            self.membership.words.push(Word { heard: now, gone, proven: false });
            let (transaction, question) = self.question(MessageType::KeepAlive, &[]);
            let (to, deadline) = ((address, Some(id)), now + ANSWER_TIMEOUT);
            let patience = self.link.round_trips.patience(address) * 2;
            self.request(
                now,
                to,
                MessageType::KeepAlive,
                transaction,
                question.finish(),
                deadline,
                Purpose::Word,
            );
            self.transactions.hedge((transaction, address), patience);
        }
    }

    fn is_news(&mut self, now: Time, gone: &[NodeId]) -> bool {
        let words = &mut self.membership.words;
        words.retain(|word| now.since(word.heard) < FRESH);
        let is_new = |id: &&NodeId| words.iter().all(|word| !word.gone.contains(id));
        words.len() < MOST_WORDS && gone.iter().filter(is_new).count() >= NEWS
    }

    /// Who is said to be gone has not answered for longer than usual. That is enough to care for what it held;
    /// whether it stays in the table is found out with more patience. The word is passed on if it was there, and
    /// not where peers go all the time. `false` if it is out of date.
    pub(crate) fn prove_word(&mut self, now: Time, silent: Option<NodeId>) -> bool {
        let is_proof = |word: &&mut Word| {
            !word.proven && now.since(word.heard) < FRESH && silent.is_some_and(|id| word.gone.contains(&id))
        };
        let Some(word) = self.membership.words.iter_mut().find(is_proof) else { return false };
        word.proven = true;
        let gone = word.gone.clone();
        let table = self.standing.as_ref().map(|s| &s.table);
        let was_in_table = silent.is_some_and(|id| table.is_some_and(|t| t.contains(&id)));
        self.replace_lost(now, &gone);
        self.look_after_holders(now);
        if was_in_table && !self.churn().is_storm() {
            self.spread_word(now, &gone);
        }
        true
    }

    /// A record was sought in vain where these are gone: others shall know. What we say is no news to us.
    pub(crate) fn tell_of_lost(&mut self, now: Time, gone: &[NodeId]) {
        let gone = &gone[..gone.len().min(MOST_GONE)];
        if self.is_news(now, gone) {
            self.membership.words.push(Word { heard: now, gone: gone.to_vec(), proven: true });
            self.replace_lost(now, gone);
            self.spread_word(now, gone);
        }
    }

    /// Tells everybody we know that these peers are gone.
    fn spread_word(&mut self, now: Time, gone: &[NodeId]) {
        let may = self.ledger.budget.may(now, Work::Replication);
        let Some(standing) = self.standing.as_ref().filter(|_| may) else { return };
        let mut living = standing.table.contacts();
        living.retain(|e| !gone.contains(&e.contact.id));
        let header = Header { class: Class::Indication, ..self.header(MessageType::ExchangeTable) };
        let mut word = Builder::new(&header);
        for id in gone {
            word.push(&Object::PeerId(*id));
        }
        let word = word.finish();
        let first = self.rng.random_range(0..living.len().max(1));
        for told in living.iter().cycle().skip(first).take(living.len().min(MOST_TOLD)) {
            let to = (told.contact.address, Some(told.contact.id));
            self.send_meant(now, MessageType::ExchangeTable, to, word.clone());
        }
    }
}

/// Who is gone, by what another peer says.
fn departed(message: &Message<'_>) -> Vec<NodeId> {
    let named = message.objects().filter_map(|o| match o {
        Object::PeerId(id) => Some(id),
        _ => None,
    });
    named.take(MOST_GONE).collect()
}
