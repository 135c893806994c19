//! One book for all peers of a world: what many know alike is in memory once.
//!
//! Each thing is handed out as long as anybody keeps it. What nobody keeps any more is thrown out when
//! its shelf has doubled, so that churn does not make the book grow.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use wire::p2pp::{Record, RecordRef};
use wire::{Book, Contact, NodeId};

/// Things from which on a shelf is worth sweeping.
const SWEEP_FROM: usize = 4_096;

/// A book for every peer of a world.
#[derive(Debug, Default)]
pub(crate) struct SharedBook {
    contacts: Mutex<Shelf<Contact>>,
    ids: Mutex<Shelf<NodeId>>,
    records: Mutex<Shelf<Record>>,
}

impl Book for SharedBook {
    fn contact(&self, contact: Contact) -> Arc<Contact> {
        let is_same = |kept: &Contact| *kept == contact;
        with(&self.contacts, |shelf| shelf.keep(contact.id.key().head(), is_same, || contact))
    }

    fn id(&self, id: NodeId) -> Arc<NodeId> {
        with(&self.ids, |shelf| shelf.keep(id.key().head(), |kept| *kept == id, || id))
    }

    fn record(&self, record: RecordRef<'_>) -> Arc<Record> {
        let is_same = |kept: &Record| kept.as_ref() == record;
        let [a, b, c, d, e, f, g, h, ..] = record.signature;
        let name = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        with(&self.records, |shelf| shelf.keep(name, is_same, || record.to_record()))
    }
}

/// A world has one thread, so nobody ever waits here; and a shelf is whole between any two calls.
fn with<S, T>(shelf: &Mutex<S>, act: impl FnOnce(&mut S) -> T) -> T {
    act(&mut shelf.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Things of one kind by the beginnings of their names, which chance makes no two of alike.
#[derive(Debug)]
struct Shelf<V> {
    things: BTreeMap<u64, Arc<V>>,
    sweep_at: usize,
}

impl<V> Default for Shelf<V> {
    fn default() -> Self {
        Shelf { things: BTreeMap::new(), sweep_at: SWEEP_FROM }
    }
}

impl<V> Shelf<V> {
    /// The thing of this name, if it is the same; else a new one takes the name.
    fn keep(&mut self, name: u64, is_same: impl FnOnce(&V) -> bool, make: impl FnOnce() -> V) -> Arc<V> {
        if let Some(kept) = self.things.get(&name).filter(|kept| is_same(kept)) {
            return kept.clone();
        }
        if self.things.len() >= self.sweep_at {
            self.things.retain(|_, thing| Arc::strong_count(thing) > 1);
            self.sweep_at = (self.things.len() * 2).max(SWEEP_FROM);
        }
        let thing = Arc::new(make());
        self.things.insert(name, thing.clone());
        thing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::HashAlgorithm;

    fn contact(n: u32, port: u16) -> Contact {
        let id = NodeId(HashAlgorithm::Sha256.digest(&n.to_be_bytes()));
        Contact { id, address: ([10, 0, 0, 1], port).into() }
    }

    #[test]
    fn what_is_the_same_is_kept_once_and_a_peer_that_moved_is_another() {
        let book = SharedBook::default();
        let (first, again, moved) =
            (book.contact(contact(1, 1)), book.contact(contact(1, 1)), book.contact(contact(1, 2)));
        assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &moved));
        assert_eq!((first.address.port(), moved.address.port()), (1, 2));
    }

    #[test]
    fn what_nobody_keeps_is_thrown_out() {
        let book = SharedBook::default();
        let kept: Vec<_> = (0..100).map(|n| book.contact(contact(n, 1))).collect();
        (100..50_000).for_each(|n| {
            book.contact(contact(n, 1));
        });
        assert!(with(&book.contacts, |shelf| shelf.things.len()) <= SWEEP_FROM);
        assert!(kept.iter().all(|c| Arc::ptr_eq(c, &book.contact(**c))));
    }
}
