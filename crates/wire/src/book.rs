//! What many peers know alike, kept once.
//!
//! A process may hold many thousand peers, and what they know overlaps: each knows some hundred of the
//! same contacts, and each record has several holders. A peer keeps both behind an [`Arc`] that it gets
//! from a [`Book`]. A peer alone makes its own; a world that holds many gives all of them one book that
//! hands out the same.

use std::fmt::Debug;
use std::sync::Arc;

use crate::p2pp::{Record, RecordRef};
use crate::{Contact, NodeId};

/// Where a peer gets what it keeps for long. A book changes how much memory peers take, and nothing
/// else: what it hands out equals what it was given.
pub trait Book: Debug + Send + Sync {
    /// The contact, to be kept.
    fn contact(&self, contact: Contact) -> Arc<Contact> {
        Arc::new(contact)
    }

    /// The identity, to be kept.
    fn id(&self, id: NodeId) -> Arc<NodeId> {
        Arc::new(id)
    }

    /// The record, to be kept. Its signature has been checked.
    fn record(&self, record: RecordRef<'_>) -> Arc<Record> {
        Arc::new(record.to_record())
    }
}

/// The book of a peer that shares with nobody.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct OwnBook;

impl Book for OwnBook {}
