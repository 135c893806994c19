//! Users, their passwords, and the phones they are reached at (RFC 3261 section 10).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wire::Time;
use wire::sip::NameAddr;
use zeroize::Zeroizing;

use crate::address::split;
use crate::flow::Flow;

/// The shortest registration granted, in seconds (shorter ones are answered 423).
pub const MIN_EXPIRES: u32 = 60;
/// The longest registration granted, in seconds.
pub const MAX_EXPIRES: u32 = 3600;
/// The longest registration granted to a phone behind a NAT, whose mapping would die meanwhile.
pub const NAT_EXPIRES: u32 = 120;
/// Most phones one user registers; one more replaces the one that registered longest ago.
pub const MAX_BINDINGS: usize = 16;
/// Most users of one peer: a household or an office, not a carrier.
pub const MAX_USERS: usize = 10_000;

/// One phone of one user.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    /// Names its timer.
    pub(crate) id: u64,
    /// The Contact as sent, without its `expires`.
    pub(crate) contact: NameAddr,
    /// Where requests to it go.
    pub(crate) flow: Flow,
    /// Whence it registered, and so whence its requests come.
    pub(crate) source: Flow,
    pub(crate) call_id: String,
    pub(crate) cseq: u32,
    pub(crate) expires_at: Time,
    pub(crate) user_agent: String,
}

impl Binding {
    /// What makes two Contacts the same phone: the instance where there is one (RFC 5626), else
    /// the URI.
    fn same_phone(&self, other: &NameAddr) -> bool {
        let instance = |c: &NameAddr| c.params.get("+sip.instance").map(str::to_owned);
        let stream = |c: &NameAddr| c.params.get("reg-id").map(str::to_owned);
        match (instance(&self.contact), instance(other)) {
            (Some(a), Some(b)) if a == b => stream(&self.contact) == stream(other),
            (Some(_), Some(_)) => false,
            _ => self.contact.uri == other.uri,
        }
    }
}

#[derive(Debug, Default)]
struct User {
    password: Zeroizing<String>,
    bindings: Vec<Binding>,
}

#[derive(Debug, Default)]
pub(crate) struct Registrar {
    users: BTreeMap<String, User>,
    /// Who registered from where; one phone may have several accounts.
    sources: BTreeSet<(Flow, String)>,
    owners: BTreeMap<u64, String>,
    next_id: u64,
}

/// An update that would turn back time (RFC 3261 section 10.3, step 7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OutOfOrder;

impl Registrar {
    pub(crate) fn add_user(&mut self, aor: &str, password: &str) -> bool {
        if self.users.len() >= MAX_USERS && !self.users.contains_key(aor) {
            return false;
        }
        self.users.entry(aor.to_ascii_lowercase()).or_default().password = password.to_owned().into();
        true
    }

    pub(crate) fn remove_user(&mut self, aor: &str) -> Vec<Binding> {
        let removed = self.users.remove(aor).map(|u| u.bindings).unwrap_or_default();
        for binding in &removed {
            self.unlist(aor, binding);
        }
        removed
    }

    pub(crate) fn users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    pub(crate) fn password(&self, aor: &str) -> Option<&str> {
        self.users.get(aor).map(|u| u.password.as_str())
    }

    /// The user meant by an address: itself, or the only sensible reading of a name whose domain
    /// was spelled in some other way.
    pub(crate) fn resolve(&self, aor: &str) -> Option<String> {
        if self.users.contains_key(aor) {
            return Some(aor.to_owned());
        }
        let (name, _) = split(aor);
        let mut same = self.users.keys().filter(|k| split(k).0 == name);
        match (same.next(), same.next()) {
            (Some(only), None) => Some(only.clone()),
            _ => None,
        }
    }

    pub(crate) fn bindings(&self, aor: &str) -> &[Binding] {
        self.users.get(aor).map_or(&[], |u| &u.bindings)
    }

    /// The users whose phones registered from `flow`.
    pub(crate) fn users_at(&self, flow: Flow) -> impl Iterator<Item = &str> {
        let from = (flow, String::new());
        self.sources.range(from..).take_while(move |(f, _)| *f == flow).map(|(_, u)| u.as_str())
    }

    /// Registers a phone or renews it; says whether it is new, its number, and which phone had to
    /// make room.
    pub(crate) fn bind(
        &mut self,
        aor: &str,
        mut binding: Binding,
    ) -> Result<(bool, u64, Option<Binding>), OutOfOrder> {
        self.next_id += 1;
        binding.id = self.next_id;
        let id = binding.id;
        let Some(user) = self.users.get_mut(aor) else {
            return Err(OutOfOrder);
        };
        let old = user.bindings.iter().position(|b| b.same_phone(&binding.contact));
        if let Some(old) = old.map(|at| &user.bindings[at])
            && old.call_id == binding.call_id
            && binding.cseq <= old.cseq
        {
            return Err(OutOfOrder);
        }
        let replaced = old.map(|at| user.bindings.remove(at));
        let crowded = user.bindings.len() >= MAX_BINDINGS;
        let evicted = crowded.then(|| user.bindings.remove(0));
        user.bindings.push(binding.clone());
        let new = replaced.is_none();
        for gone in replaced.iter().chain(&evicted) {
            self.unlist(aor, gone);
        }
        self.sources.insert((binding.source, aor.to_owned()));
        self.owners.insert(id, aor.to_owned());
        Ok((new, id, evicted))
    }

    /// Removes the phones of a user for which `gone` holds.
    pub(crate) fn unbind(&mut self, aor: &str, gone: impl Fn(&Binding) -> bool) -> Vec<Binding> {
        let Some(user) = self.users.get_mut(aor) else {
            return Vec::new();
        };
        let all = std::mem::take(&mut user.bindings);
        let (removed, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(gone);
        user.bindings = kept;
        for binding in &removed {
            self.unlist(aor, binding);
        }
        removed
    }

    pub(crate) fn unbind_contact(&mut self, aor: &str, contact: &NameAddr) -> Vec<Binding> {
        self.unbind(aor, |b| b.same_phone(contact))
    }

    /// The user whose phone has that number.
    pub(crate) fn owner(&self, id: u64) -> Option<String> {
        self.owners.get(&id).cloned()
    }

    fn unlist(&mut self, aor: &str, binding: &Binding) {
        self.owners.remove(&binding.id);
        let others = self.bindings(aor).iter().any(|b| b.source == binding.source);
        if !others {
            self.sources.remove(&(binding.source, aor.to_owned()));
        }
    }
}

/// Seconds left, for a Contact in a 200.
pub(crate) fn seconds_left(now: Time, binding: &Binding) -> u64 {
    (binding.expires_at.since(now) + Duration::from_millis(500)).as_secs()
}
