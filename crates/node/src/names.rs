//! Names that an authority gives: whether the record of a user counts.
//!
//! Where the overlay's document names authorities, every user's record says its name, so that a holder, who
//! knows only the hash, sees in which domain it is. In the domain of an authority the record has its
//! certificate instead. Holders refuse any other record, searches pass over it, and of two certified ones the
//! later certificate counts. What has ended or was taken back while it was held is dropped.
//!
//! Where nothing was told of authorities or banned keys, all of this costs a comparison.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use wire::certificate::Lapse;
use wire::document::{Authority, OverlayDocument};
use wire::p2pp::{Code, Kind, Record, RecordRef};
use wire::{HashAlgorithm, PublicKey, Revocations, Signatures, Time, UnixTime};

use crate::directory::place_of_user;
use crate::event::{Event, Level};
use crate::node::Node;
use crate::storage::{Claim, Devices};

/// What the overlay's document says of names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameRules {
    /// The founder key, which names the overlay in certificates.
    pub founder: PublicKey,
    /// Who gives names.
    pub authorities: BTreeSet<Authority>,
    /// Keys whose records do not count.
    pub banned: BTreeSet<PublicKey>,
}

impl NameRules {
    /// Those of a document, if it says anything of names.
    pub fn of(document: &OverlayDocument) -> Option<NameRules> {
        let OverlayDocument { founder, authorities, revoked, .. } = document.clone();
        let says = !authorities.is_empty() || !revoked.is_empty();
        says.then_some(NameRules { founder, authorities, banned: revoked })
    }

    /// Who gives this name: the authority of its domain, else the one of every name.
    pub fn authority_of(&self, aor: &str) -> Option<&Authority> {
        let domain = aor.split_once('@').map_or("", |(_, domain)| domain);
        let of = |domain: &str| self.authorities.iter().find(|a| a.domain == domain);
        of(domain).or_else(|| of(""))
    }
}

/// Why the record of a user does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NameFlaw {
    Banned,
    Unnamed,
    Missing,
    Forged,
    Early,
    Expired,
    Revoked,
}

impl fmt::Display for NameFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameFlaw::Banned => "the overlay's document bans its key",
            NameFlaw::Unnamed => "its record does not say whose it is",
            NameFlaw::Missing => "its record has no certificate, and names there are given by an authority",
            NameFlaw::Forged => "its certificate is not one of the authority for this name and key",
            NameFlaw::Early => "its certificate begins later, or a clock is wrong by more than two hours",
            NameFlaw::Expired => "its certificate has ended, or a clock is wrong by more than two hours",
            NameFlaw::Revoked => "the authority took its certificate back",
        })
    }
}

/// What is known of names: the rules, and the latest word of each authority.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) rules: Option<Arc<NameRules>>,
    lists: BTreeMap<PublicKey, Revocations>,
    signatures: Signatures,
}

impl Names {
    pub(crate) fn new(rules: Option<Arc<NameRules>>, saved: &[Vec<u8>], signatures: Signatures) -> Self {
        let mut names = Names { rules, lists: BTreeMap::new(), signatures };
        for list in saved.iter().filter_map(|bytes| Revocations::parse(bytes).ok()) {
            names.take_list(list);
        }
        names
    }

    /// The latest list of each authority, for the next start: else an old one could be served anew.
    pub(crate) fn saved_lists(&self) -> Vec<Vec<u8>> {
        self.lists.values().map(Revocations::to_bytes).collect()
    }

    /// Takes the rules of a new document; what authorities said that it does not name counts no more.
    pub(crate) fn take_rules(&mut self, rules: Option<NameRules>) {
        self.rules = rules.map(Arc::new);
        let named: BTreeSet<PublicKey> = self.authorities().map(|authority| authority.key).collect();
        self.lists.retain(|authority, _| named.contains(authority));
    }

    /// Who gives a name, if an authority does.
    pub(crate) fn authority_of(&self, aor: &str) -> Option<&Authority> {
        self.rules.as_ref()?.authority_of(aor)
    }

    /// Every authority.
    pub(crate) fn authorities(&self) -> impl Iterator<Item = &Authority> {
        self.rules.iter().flat_map(|rules| &rules.authorities)
    }

    /// Whether records must say their names.
    pub(crate) fn must_be_said(&self) -> bool {
        self.authorities().next().is_some()
    }

    /// Takes a list of an authority of ours that is newer than the one held; whether it was.
    pub(crate) fn take_list(&mut self, list: Revocations) -> bool {
        let Some(rules) = &self.rules else { return false };
        let is_ours =
            rules.founder == list.overlay && rules.authorities.iter().any(|a| a.key == list.authority);
        let is_newer = self.lists.get(&list.authority).is_none_or(|held| held.number < list.number);
        let taken = is_ours && is_newer && list.is_authentic(self.signatures);
        if taken {
            self.lists.insert(list.authority, list);
        }
        taken
    }

    /// Whether a record may stand for the name that it is stored under, and the serial of its certificate if
    /// it has one. Its own signature is somebody else's business.
    pub(crate) fn check(
        &self,
        hash: HashAlgorithm,
        now: UnixTime,
        record: &RecordRef<'_>,
    ) -> Result<Option<u64>, NameFlaw> {
        let Some(rules) = &self.rules else { return Ok(None) };
        match record.kind {
            Kind::USER => {}
            // A number is no name, and nobody gives it; but a key that was lost is lost here too.
            Kind::NUMBER => return self.check_key(rules, now, &record.owner).map(|()| None),
            _ => return Ok(None),
        }
        let claim = self.check_claim(rules, now, record)?;
        let (Some(aor), true) = (claim.as_ref().and_then(Claim::aor), self.must_be_said()) else {
            return if self.must_be_said() { Err(NameFlaw::Unnamed) } else { Ok(None) };
        };
        if place_of_user(hash, aor) != record.resource {
            return Err(NameFlaw::Unnamed);
        }
        let Some(authority) = rules.authority_of(aor) else { return Ok(None) };
        match &claim {
            Some(Claim::Certificate(certificate))
                if certificate.overlay == rules.founder
                    && certificate.is_of(&authority.key, self.signatures) =>
            {
                Ok(Some(certificate.serial))
            }
            Some(Claim::Certificate(_)) => Err(NameFlaw::Forged),
            _ => Err(NameFlaw::Missing),
        }
    }

    /// Whether the key at a number is banned, or was taken back by any authority: a number is in no domain.
    fn check_key(&self, rules: &NameRules, now: UnixTime, key: &PublicKey) -> Result<(), NameFlaw> {
        if rules.banned.contains(key) {
            return Err(NameFlaw::Banned);
        }
        match self.lists.values().any(|list| list.holds(key, now)) {
            true => Err(NameFlaw::Revoked),
            false => Ok(()),
        }
    }

    /// What can be said without a signature: also of a record that was good when it came.
    fn check_claim(
        &self,
        rules: &NameRules,
        now: UnixTime,
        record: &RecordRef<'_>,
    ) -> Result<Option<Claim>, NameFlaw> {
        if rules.banned.contains(&record.owner) {
            return Err(NameFlaw::Banned);
        }
        let claim = Devices::read(record.value).map(|(_, claim)| claim);
        let Some(Claim::Certificate(certificate)) = &claim else { return Ok(claim) };
        let Some(authority) = rules.authority_of(&certificate.aor) else { return Ok(claim) };
        if certificate.user != record.owner {
            return Err(NameFlaw::Forged);
        }
        certificate.check_time(now).map_err(|lapse| match lapse {
            Lapse::Early => NameFlaw::Early,
            Lapse::Expired => NameFlaw::Expired,
        })?;
        match self.lists.get(&authority.key).is_some_and(|list| list.holds(&record.owner, now)) {
            true => Err(NameFlaw::Revoked),
            false => Ok(claim),
        }
    }

    /// Whether a record that was good when it came still is.
    fn still_counts(&self, now: UnixTime, record: &Record) -> bool {
        let Some(rules) = &self.rules else { return true };
        match record.kind {
            Kind::USER => self.check_claim(rules, now, &record.as_ref()).is_ok(),
            Kind::NUMBER => self.check_key(rules, now, &record.owner).is_ok(),
            _ => true,
        }
    }
}

/// The serial of the certificate in a record's value; 0 where there is none.
pub(crate) fn serial(record: &Record) -> u64 {
    match Devices::read(&record.value) {
        Some((_, Claim::Certificate(certificate))) => certificate.serial,
        _ => 0,
    }
}

impl Node {
    /// Whether a record that was brought may be kept here. One that an authority certified later takes the
    /// place of those certified before it, for another key.
    pub(crate) fn admit_name(&mut self, now: Time, record: &RecordRef<'_>) -> Result<(), Code> {
        if self.names.rules.is_none() {
            return Ok(());
        }
        if record.kind != Kind::USER {
            let checked = self.names.check(self.hash(), self.unix(now), record);
            return checked.map(|_| ()).map_err(|_| Code::FORBIDDEN);
        }
        if record.tombstone && self.names.must_be_said() {
            // It says no name. Whoever has nothing here has nothing to withdraw either.
            let is_owners =
                self.storage.at(&record.resource, Kind::USER).any(|s| s.record.owner == record.owner);
            return if is_owners { Ok(()) } else { Err(Code::FORBIDDEN) };
        }
        let unix = self.unix(now);
        let later = self.names.check(self.hash(), unix, record).map_err(|_| Code::FORBIDDEN)?;
        if let Some(later) = later.filter(|_| record.verify_by(self.identity.peer.signatures())) {
            let (resource, owner) = (record.resource, record.owner);
            self.storage.drop_where(|held| {
                held.resource == resource
                    && held.kind == Kind::USER
                    && held.owner != owner
                    && serial(held) < later
            });
        }
        Ok(())
    }

    /// Drops the records of users whose certificates have ended or were taken back, and those at their numbers.
    pub(crate) fn drop_lapsed_names(&mut self, now: Time) {
        if self.names.rules.is_some() {
            let unix = self.unix(now);
            let names = &self.names;
            self.storage.drop_where(|held| !names.still_counts(unix, held));
        }
    }

    /// A list of an authority was found.
    pub(crate) fn take_revocations(&mut self, now: Time, list: Revocations) {
        let (authority, number, count) = (list.authority, list.number, list.keys.len());
        if self.names.take_list(list) {
            self.drop_lapsed_names(now);
            self.emit(Event::Save);
            let message = format!("list {number} of the authority {authority} takes back {count} keys");
            self.log(Level::Info, "names", message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{Certificate, KeyPair, ResourceId, Seed};

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn pair(n: u8) -> KeyPair {
        KeyPair::from_seed(Seed([n; 32]))
    }

    /// Pair 1 founded the overlay, pair 2 gives the names of camp.
    fn names() -> Names {
        let address = "192.0.2.1:7080".parse().unwrap();
        let authority = Authority { domain: "camp".into(), key: pair(2).public(), address };
        let rules = NameRules {
            founder: pair(1).public(),
            authorities: [authority].into(),
            banned: [pair(9).public()].into(),
        };
        Names::new(Some(rules.into()), &[], Signatures::Ed25519)
    }

    fn certificate(by: u8, overlay: u8, aor: &str, user: u8, from: u64) -> Claim {
        let times = (UnixTime(from), UnixTime(from + 86_400));
        let who = (pair(overlay).public(), aor, pair(user).public());
        Claim::Certificate(Certificate::sign(&pair(by), who, 3, times).unwrap())
    }

    fn judge(names: &Names, owner: u8, place: &str, claim: &Claim) -> Result<Option<u64>, NameFlaw> {
        let hash = HashAlgorithm::Sha256;
        let value = Devices(vec![pair(5).public()]).with(claim).unwrap();
        let place = ResourceId(hash.digest(place.as_bytes()));
        let record = Record::sign(&pair(owner), place, Kind::USER, 1, NOW, 60, value);
        names.check(hash, NOW, &record.as_ref())
    }

    #[test]
    fn a_certificate_counts_for_its_name_key_overlay_authority_and_time_only() {
        let names = names();
        let alice = |claim: &Claim| judge(&names, 4, "alice@camp", claim);
        let good = certificate(2, 1, "alice@camp", 4, NOW.0);
        assert_eq!(alice(&good), Ok(Some(3)));
        assert_eq!(judge(&names, 4, "bob@camp", &good), Err(NameFlaw::Unnamed), "another name");
        assert_eq!(
            judge(&names, 6, "alice@camp", &good),
            Err(NameFlaw::Forged),
            "copied into another's record"
        );
        for forged in [(3, 1, 4), (2, 7, 4), (2, 1, 6)] {
            let (by, overlay, user) = forged;
            assert_eq!(alice(&certificate(by, overlay, "alice@camp", user, NOW.0)), Err(NameFlaw::Forged));
        }
        assert_eq!(alice(&certificate(2, 1, "alice@camp", 4, NOW.0 + 7_201)), Err(NameFlaw::Early));
        assert_eq!(
            alice(&certificate(2, 1, "alice@camp", 4, NOW.0 - 86_400 - 7_201)),
            Err(NameFlaw::Expired)
        );
        assert_eq!(alice(&certificate(2, 1, "alice@camp", 4, NOW.0 - 86_400 - 7_200)), Ok(Some(3)));
    }

    #[test]
    fn where_one_domain_has_an_authority_every_record_says_its_name() {
        let names = names();
        assert_eq!(judge(&names, 4, "alice@camp", &Claim::None), Err(NameFlaw::Unnamed));
        assert_eq!(judge(&names, 4, "alice@camp", &Claim::Name("alice@camp".into())), Err(NameFlaw::Missing));
        assert_eq!(judge(&names, 4, "alice@camp", &Claim::Name("alice@lan".into())), Err(NameFlaw::Unnamed));
        assert_eq!(judge(&names, 4, "alice@lan", &Claim::Name("alice@lan".into())), Ok(None));
        assert_eq!(judge(&names, 9, "alice@lan", &Claim::Name("alice@lan".into())), Err(NameFlaw::Banned));
        assert_eq!(judge(&Names::default(), 4, "alice@camp", &Claim::None), Ok(None));
    }

    #[test]
    fn a_list_counts_if_the_authority_signed_it_and_none_is_older() {
        let mut names = names();
        let list = |by: u8, overlay: u8, number, keys: &[u8]| {
            let keys = keys.iter().map(|n| (pair(*n).public(), UnixTime(NOW.0 + 10))).collect();
            Revocations::sign(&pair(by), pair(overlay).public(), number, keys).unwrap()
        };
        assert!(!names.take_list(list(3, 1, 1, &[4])), "another key's");
        let forged = Revocations { authority: pair(2).public(), ..list(3, 1, 1, &[4]) };
        assert!(!names.take_list(forged), "in the authority's name");
        assert!(!names.take_list(list(2, 7, 1, &[4])), "of another overlay");
        let alice = certificate(2, 1, "alice@camp", 4, NOW.0);
        assert_eq!(judge(&names, 4, "alice@camp", &alice), Ok(Some(3)));
        assert!(names.take_list(list(2, 1, 5, &[4])));
        assert_eq!(judge(&names, 4, "alice@camp", &alice), Err(NameFlaw::Revoked));
        for old in [4, 5] {
            assert!(!names.take_list(list(2, 1, old, &[])), "rolled back");
        }
        let again = Names::new(names.rules.clone(), &names.saved_lists(), Signatures::Ed25519);
        assert_eq!(judge(&again, 4, "alice@camp", &alice), Err(NameFlaw::Revoked), "after a restart");
    }

    #[test]
    fn a_key_that_was_taken_back_or_banned_has_no_number_either() {
        let mut names = names();
        let at_number = |owner: u8| {
            let (key, stretch) = (pair(owner).public(), wire::Stretch([7; wire::Stretch::LEN]));
            let place = wire::Number::of(&key, &stretch).place(HashAlgorithm::Sha256);
            let value = Devices(vec![pair(5).public()]).with(&Claim::Stretch(stretch)).unwrap();
            Record::sign(&pair(owner), place, Kind::NUMBER, 1, NOW, 60, value)
        };
        let judged = |names: &Names, owner| {
            let checked = names.check(HashAlgorithm::Sha256, NOW, &at_number(owner).as_ref());
            assert_eq!(checked.is_ok(), names.still_counts(NOW, &at_number(owner)));
            checked
        };
        assert_eq!(judged(&names, 4), Ok(None));
        assert_eq!(judged(&names, 9), Err(NameFlaw::Banned));
        let keys = [(pair(4).public(), UnixTime(NOW.0 + 10))].into();
        assert!(names.take_list(Revocations::sign(&pair(2), pair(1).public(), 1, keys).unwrap()));
        assert_eq!(judged(&names, 4), Err(NameFlaw::Revoked));
        assert_eq!(judged(&names, 6), Ok(None));
    }

    #[test]
    fn the_authority_of_a_domain_goes_before_that_of_every_name() {
        let mut rules = Arc::unwrap_or_clone(names().rules.unwrap());
        assert_eq!(rules.authority_of("alice@lan"), None);
        let address = "192.0.2.2:7080".parse().unwrap();
        rules.authorities.insert(Authority { domain: String::new(), key: pair(3).public(), address });
        let key = |aor: &str| rules.authority_of(aor).map(|a| a.key);
        assert_eq!((key("alice@camp"), key("alice@lan")), (Some(pair(2).public()), Some(pair(3).public())));
    }
}
