//! Whether a record may stand where it is, by the rules of its kind: what holders check before they keep it, and
//! whoever reads before they believe it.
//!
//! Only what the record itself shows is judged here; what depends on others that are held is `storage.rs`.

use wire::document::{KindRule, OverlayDocument, Policy};
use wire::p2pp::{Code, Kind, RecordRef};
use wire::{HashAlgorithm, Number, PublicKey, ResourceId};

use crate::node::Node;
use crate::publish::data_place;
use crate::storage::{Claim, Devices};

/// What holds for records: by the overlay's document, where there is one. Read from it each time, so that a new
/// document holds at once.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// The hash that places keys.
    pub hash: HashAlgorithm,
    /// The document that holds.
    pub document: Option<&'a OverlayDocument>,
}

impl Rules<'_> {
    /// What holds for a kind, if it is kept at all.
    pub fn rule(&self, kind: Kind) -> Option<KindRule> {
        let rule = self.document.map_or_else(|| KindRule::usual(kind), |document| document.rule(kind));
        rule.filter(|rule| rule.policy != Policy::Nobody)
    }

    /// Under which policy a record may stand where it is.
    ///
    /// # Errors
    /// The code with which a holder refuses it.
    pub fn check(&self, record: &RecordRef<'_>) -> Result<Policy, Code> {
        let rule = self.rule(record.kind).ok_or(Code::INSERT_ERROR)?;
        if record.value.len() > rule.max_value.into() {
            return Err(Code::TOO_LARGE);
        }
        let may = match rule.policy {
            Policy::Nobody => false,
            Policy::FirstOwner | Policy::EachOwner | Policy::DropBox => true,
            Policy::OwnPlace => own_place(self.hash, &record.owner) == record.resource,
            Policy::OwnNumber => makes_its_number(self.hash, record),
            Policy::Operators => self.document.is_some_and(|document| document.is_run_by(&record.owner)),
        };
        if may { Ok(rule.policy) } else { Err(Code::FORBIDDEN) }
    }
}

/// Where stands what a key says of itself.
pub(crate) fn own_place(hash: HashAlgorithm, owner: &PublicKey) -> ResourceId {
    ResourceId(owner.node_id(hash).0)
}

/// Whether key and stretch of a record make the number at whose place it is.
fn makes_its_number(hash: HashAlgorithm, record: &RecordRef<'_>) -> bool {
    let Some((devices, Claim::Stretch(stretch))) = Devices::read(record.value) else { return false };
    let number = Number::of(&record.owner, &stretch);
    devices.0.len() <= Devices::MAX_AT_NUMBER && number.place(hash) == record.resource
}

impl Node {
    /// Drops what does not stand where it may since a new document holds.
    pub(crate) fn drop_unruly(&mut self) {
        let rules = Rules { hash: self.storage.hash(), document: self.documents.newest() };
        self.storage.drop_where(|record| rules.check(&record.as_ref()).is_err());
    }

    /// Where a value of an application stands that is called so, and how many bytes it may have. What has the
    /// owner's place is called by the owner's key.
    pub(crate) fn place_of_value(&self, kind: Kind, key: &str) -> Result<(ResourceId, usize), String> {
        let rules = self.rules();
        let rule = rules.rule(kind).filter(|_| KindRule::is_of_applications(kind));
        let rule = rule.ok_or_else(|| format!("this overlay keeps no values as {kind:?}"))?;
        let owner = || key.parse().map_err(|e| format!("{kind:?} stands at a public key: {e}"));
        let place = match rule.policy {
            Policy::OwnPlace => own_place(rules.hash, &owner()?),
            _ => data_place(rules.hash, key),
        };
        Ok((place, rule.max_value.into()))
    }

    /// What holds for records.
    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules { hash: self.storage.hash(), document: self.documents.newest() }
    }
}
