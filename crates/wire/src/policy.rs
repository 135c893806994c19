//! Who may store records of a kind: one of a few policies, in every overlay the usual one unless its document says
//! otherwise.

use std::collections::BTreeSet;

use crate::choices;
use crate::p2pp::Kind;
use crate::p2pp::record::MAX_VALUE;

/// Who may store records of a kind. Under every policy only its owner's key replaces or withdraws a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Policy {
    /// Nobody: the overlay does not keep such records.
    Nobody = 0,
    /// Only at the hash of the owner's own key: what a peer says of itself.
    OwnPlace = 1,
    /// The first owner at a place, while its record lives: names of users.
    FirstOwner = 2,
    /// Any owner at any place, each a record of its own: values of applications.
    EachOwner = 3,
    /// Any owner whose key makes the number of the place, as far as can be seen without working it out: numbers.
    OwnNumber = 4,
    /// Reserved for what is left for the owner of a place. This version keeps it as under [`Policy::EachOwner`].
    DropBox = 5,
    /// Those who run the overlay, by its document: its founder, its operators and managed peers.
    Operators = 6,
}

choices!(
    Policy, "policy": Nobody = "nobody", OwnPlace = "own place", FirstOwner = "first owner",
    EachOwner = "each owner", OwnNumber = "own number", DropBox = "drop box", Operators = "operators",
);

/// What holds for one kind of record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KindRule {
    /// The kind.
    pub kind: Kind,
    /// Who may store it.
    pub policy: Policy,
    /// Its largest value, in bytes.
    pub max_value: u16,
}

/// What holds where no document says otherwise, of the kinds that every document describes.
const FIRST: [(Kind, Policy); 6] = [
    (Kind::USER, Policy::FirstOwner),
    (Kind::PEER, Policy::OwnPlace),
    (Kind::NUMBER, Policy::OwnNumber),
    (Kind::STUN, Policy::OwnPlace),
    (Kind::TURN, Policy::OwnPlace),
    (Kind::DATA, Policy::EachOwner),
];

/// The same of kinds that came later: a document describes them only to say something else, so that earlier versions
/// can live by one that does not.
const LATER: [(Kind, Policy); 2] = [(Kind::DROP, Policy::DropBox), (Kind::NOTICE, Policy::Operators)];

impl KindRule {
    /// The rule of a kind under a policy, for values as large as a record can have.
    pub fn new(kind: Kind, policy: Policy) -> KindRule {
        KindRule { kind, policy, max_value: MAX_VALUE as u16 }
    }

    /// What a document describes that says nothing out of the usual.
    pub fn today() -> BTreeSet<KindRule> {
        FIRST.into_iter().map(|(kind, policy)| KindRule::new(kind, policy)).collect()
    }

    /// Every kind that peers of this version keep where no document says otherwise.
    pub fn all_usual() -> impl Iterator<Item = KindRule> {
        FIRST.into_iter().chain(LATER).map(|(kind, policy)| KindRule::new(kind, policy))
    }

    /// What holds for a kind where no document says otherwise.
    pub fn usual(kind: Kind) -> Option<KindRule> {
        KindRule::all_usual().find(|rule| rule.kind == kind)
    }

    /// Whether applications store records of a kind, so that a document may say how.
    pub fn is_of_applications(kind: Kind) -> bool {
        matches!(kind, Kind::DATA | Kind::DROP | Kind::NOTICE) || Kind::OF_DOCUMENTS.contains(&kind.0)
    }

    /// Whether peers of this version can live by it.
    ///
    /// # Errors
    /// In words, if not.
    pub fn check(&self) -> Result<(), String> {
        let KindRule { kind, policy, max_value } = *self;
        if !KindRule::is_of_applications(kind) {
            return match KindRule::usual(kind) {
                Some(usual) if usual == *self => Ok(()),
                Some(usual) => {
                    Err(format!("{kind:?} is under the policy '{}' here, and has no other", usual.policy))
                }
                None => {
                    Err(format!("this version keeps no {kind:?}, and a document can add 0x4001 to 0x7fff"))
                }
            };
        }
        let suits = match policy {
            Policy::OwnNumber => false,
            // Who leaves something asks for a box, and nobody else does.
            Policy::DropBox | Policy::Nobody => true,
            _ => kind != Kind::DROP,
        };
        match (suits, usize::from(max_value) <= MAX_VALUE) {
            (false, _) => Err(format!("{kind:?} cannot be under the policy '{policy}'")),
            (_, false) => {
                Err(format!("a value of {kind:?} cannot have {max_value} bytes: the most is {MAX_VALUE}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_may_change_what_applications_keep_add_kinds_of_its_own_and_nothing_else() {
        let own = Kind(*Kind::OF_DOCUMENTS.start());
        for kind in [Kind::DATA, Kind::NOTICE, own, Kind(*Kind::OF_DOCUMENTS.end())] {
            for policy in Policy::ALL {
                let is_good = policy != Policy::OwnNumber;
                assert_eq!(KindRule::new(kind, policy).check().is_ok(), is_good, "{kind:?} {policy}");
            }
        }
        assert!(KindRule { max_value: 801, ..KindRule::new(own, Policy::EachOwner) }.check().is_err());
        assert!(KindRule::new(Kind::DROP, Policy::Nobody).check().is_ok());
        assert!(KindRule::new(Kind::DROP, Policy::EachOwner).check().is_err());
        assert!(KindRule::all_usual().all(|rule| rule.check().is_ok()));
        for kind in [Kind::USER, Kind::PEER, Kind::NUMBER] {
            assert!(KindRule::new(kind, Policy::EachOwner).check().is_err(), "{kind:?}");
            assert!(KindRule { max_value: 1, ..KindRule::usual(kind).unwrap() }.check().is_err(), "{kind:?}");
        }
        assert!(KindRule::new(Kind(0x3fff), Policy::EachOwner).check().is_err());
    }
}
