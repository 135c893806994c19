//! What a peer can be told, as the configuration file says it.
//!
//! [`Settings`] mirrors [`node::Config`] field by field and adds what only the real world knows: users
//! and logs. `settings/template.toml` is the commented file that equals the defaults, and the place
//! where every field is explained; `layers.rs` lays a file and the command line over the defaults and
//! remembers where each value came from.

mod layers;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use node::config::is_name;
use node::dial::Rules;
use node::{
    Algorithm, Config, DomainProof, DtlsPolicy, EndToEndPolicy, LinkFamily, NetworkRules, OverlayOptions,
    Prefix, Profile, RolePolicy, SdesPolicy,
};
use serde::{Deserialize, Serialize};
use wire::{HashAlgorithm, PublicKey};

use crate::home::CertificateFiles;
use crate::resolver::MAX_SERVERS as MAX_DNS;

pub use layers::{BadConfig, Origin, Problem, Resolved, put, resolve};

/// The commented configuration file that equals the defaults.
pub const TEMPLATE: &str = include_str!("settings/template.toml");

/// Name of the configuration file that is read from the data directory if it is there.
pub const FILE_NAME: &str = "openvoip.toml";

/// Everything the configuration file can say.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // The template explains each field, with its reason.
pub struct Settings {
    pub listen: SocketAddr,
    pub sip: SocketAddr,
    pub sips: SocketAddr,
    pub media: IpAddr,
    pub users: Vec<String>,
    pub numbers: bool,
    pub bootstrap: Vec<SocketAddr>,
    pub udp: bool,
    pub tcp: bool,
    #[serde(with = "text")]
    pub role: RolePolicy,
    #[serde(with = "texts")]
    pub operators: Vec<PublicKey>,
    pub phones: Phones,
    pub dial: Rules,
    pub names: Names,
    pub overlay: Overlay,
    pub records: Records,
    pub budget: Budget,
    pub lookup: Lookup,
    pub networks: Networks,
    pub probe: Probe,
    pub inbox: Inbox,
    pub log: Log,
}

/// Phones at this peer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Phones {
    #[serde(with = "texts")]
    pub from: Vec<Prefix>,
    #[serde(with = "text")]
    pub sdes: SdesPolicy,
    #[serde(with = "text")]
    pub dtls: DtlsPolicy,
    #[serde(with = "text")]
    pub end_to_end: EndToEndPolicy,
    pub certificate: String,
    pub key: String,
}

/// Networks over which not everything may go.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Networks {
    #[serde(with = "texts")]
    pub readable: Vec<Prefix>,
    #[serde(with = "texts")]
    pub sealed: Vec<Prefix>,
}

impl Networks {
    /// The rules, if there are any.
    fn rules(&self) -> Option<NetworkRules> {
        let rules = NetworkRules::new(&self.readable, &self.sealed);
        (!rules.is_empty()).then_some(rules)
    }
}

/// Names that their domains prove.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Names {
    #[serde(with = "text")]
    pub domain_proof: DomainProof,
    pub dns: Vec<SocketAddr>,
}

/// Options that all peers of an overlay share.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Overlay {
    pub name: String,
    #[serde(with = "text")]
    pub algorithm: Algorithm,
    #[serde(with = "text")]
    pub hash: HashAlgorithm,
    pub base: u16,
    pub replicas: u8,
    pub difficulty: u8,
    pub remote_settings: bool,
    #[serde(with = "text")]
    pub profile: Profile,
    #[serde(with = "text")]
    pub links: LinkFamily,
    pub force_open: bool,
    pub document: String,
}

impl Overlay {
    /// An overlay of these options, protected so and held to no document.
    fn new(options: OverlayOptions, (profile, links): (Profile, LinkFamily)) -> Self {
        let OverlayOptions { name, algorithm, hash, base, replicas, difficulty, remote_settings } = options;
        let (force_open, document) = (false, String::new());
        Overlay {
            name,
            algorithm,
            hash,
            base,
            replicas,
            difficulty,
            remote_settings,
            profile,
            links,
            force_open,
            document,
        }
    }
}

/// This peer's own records at other peers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Records {
    pub lifetime_s: u64,
    pub refresh_s: u64,
}

/// The ceiling of maintenance traffic.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Budget {
    pub bytes_per_s: u32,
    pub burst_bytes: u32,
    pub forwarding_bytes_per_s: u32,
    pub capacity: u32,
}

/// Lookups.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Lookup {
    pub timeout_ms: u64,
}

/// The health check.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Probe {
    pub every_s: u64,
}

/// Messages that wait here.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Inbox {
    pub limit: usize,
}

/// Logs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Log {
    pub level: String,
    pub file: bool,
    pub max_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        // Every field by its name: a new one of `Config` does not go unmentioned here.
        let Config {
            overlay,
            insist: _, // Follows from who said what: `Resolved::config`.
            profile,
            links,
            udp,
            tcp,
            bootstrap,
            role,
            listen,
            sip,
            sips,
            phones_from,
            sdes,
            dtls,
            end_to_end,
            networks: _,    // Nobody's by default.
            fingerprint: _, // Of a certificate that the world makes when it starts.
            media,
            record_lifetime,
            refresh_interval,
            budget_bytes_per_s,
            budget_burst_bytes,
            forwarding_bytes_per_s,
            capacity,
            lookup_timeout,
            operators,
            probe_interval,
            inbox_limit,
            dial,
            numbers,
            domain_proof,
            charter: _, // The document's word: `invitation::take_document`.
        } = Config::default();
        Settings {
            listen,
            sip,
            sips: sips.expect("on loopback"),
            media,
            users: Vec::new(),
            numbers,
            bootstrap,
            udp,
            tcp,
            role,
            operators,
            phones: Phones {
                from: phones_from.to_vec(),
                sdes,
                dtls,
                end_to_end,
                certificate: String::new(),
                key: String::new(),
            },
            dial,
            names: Names { domain_proof, dns: Vec::new() },
            overlay: Overlay::new(overlay, (profile, links)),
            records: Records { lifetime_s: record_lifetime.as_secs(), refresh_s: refresh_interval.as_secs() },
            budget: Budget {
                bytes_per_s: budget_bytes_per_s,
                burst_bytes: budget_burst_bytes,
                forwarding_bytes_per_s,
                capacity,
            },
            lookup: Lookup { timeout_ms: lookup_timeout.as_millis() as u64 },
            networks: Networks::default(),
            probe: Probe { every_s: probe_interval.map_or(0, |d| d.as_secs()) },
            inbox: Inbox { limit: inbox_limit },
            log: Log { level: "info".into(), file: false, max_bytes: 1_000_000 },
        }
    }
}

impl Settings {
    /// What the node is told, if nobody insists on anything.
    pub fn config(&self) -> Config {
        let overlay = &self.overlay;
        Config {
            overlay: OverlayOptions {
                name: overlay.name.clone(),
                algorithm: overlay.algorithm,
                hash: overlay.hash,
                base: overlay.base,
                replicas: overlay.replicas,
                difficulty: overlay.difficulty,
                remote_settings: overlay.remote_settings,
            },
            insist: Vec::new(),
            profile: overlay.profile,
            links: overlay.links,
            udp: self.udp,
            tcp: self.tcp,
            bootstrap: self.bootstrap.clone(),
            role: self.role,
            listen: self.listen,
            sip: self.sip,
            sips: Some(self.sips),
            phones_from: self.phones.from.as_slice().into(),
            sdes: self.phones.sdes,
            dtls: self.phones.dtls,
            end_to_end: self.phones.end_to_end,
            networks: self.networks.rules().map(Arc::new),
            fingerprint: None,
            media: self.media,
            record_lifetime: Duration::from_secs(self.records.lifetime_s),
            refresh_interval: Duration::from_secs(self.records.refresh_s),
            budget_bytes_per_s: self.budget.bytes_per_s,
            budget_burst_bytes: self.budget.burst_bytes,
            forwarding_bytes_per_s: self.budget.forwarding_bytes_per_s,
            capacity: self.budget.capacity,
            lookup_timeout: Duration::from_millis(self.lookup.timeout_ms),
            operators: self.operators.clone(),
            probe_interval: Some(Duration::from_secs(self.probe.every_s)).filter(|d| !d.is_zero()),
            inbox_limit: self.inbox.limit,
            dial: self.dial.clone(),
            numbers: self.numbers,
            domain_proof: self.names.domain_proof,
            charter: None,
        }
    }

    /// The owner's own certificate for phones, if there is one.
    pub fn certificate(&self) -> Option<CertificateFiles> {
        let Phones { certificate, key, .. } = &self.phones;
        let files = || CertificateFiles { certificate: certificate.into(), key: key.into() };
        (!certificate.is_empty()).then(files)
    }

    /// The users served, in canonical form; a name without a domain gets the overlay's.
    pub fn canonical_users(&self) -> Vec<String> {
        self.users.iter().map(|user| node::canonical_aor(user, &self.overlay.name)).collect()
    }

    /// Why the profile is none for the address that this peer listens at, if so: in the open whoever is on
    /// the network reads everything, and speaks in everybody's name.
    pub fn exposure(&self) -> Option<String> {
        let Overlay { profile, force_open, .. } = self.overlay;
        let exposed = profile == Profile::Open && !self.listen.ip().is_loopback() && !force_open;
        exposed.then(|| {
            format!(
                "open protects nothing and is for laboratories, but {} is reached from other machines: \
                 choose secure or signed, or force it with --force-open",
                self.listen
            )
        })
    }

    /// What a rule of a network forbids that this peer would do from the start, if so: listen there, or ask its first peers there.
    pub fn forbidden(&self) -> Option<String> {
        let rules = self.networks.rules()?;
        let profile = self.overlay.profile;
        let mut all =
            self.bootstrap.iter().map(|peer| (peer.ip(), "bootstrap")).chain([(self.listen.ip(), "listen")]);
        all.find_map(|(ip, key)| {
            let why = rules.forbids(profile, ip)?;
            Some(format!(
                "the overlay is {profile}, and [networks] says of {ip} ({key}) that {why}: take an overlay of another \
                 profile, or another address"
            ))
        })
    }

    /// Values that no peer can work with, each with its key.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut within = |key, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                problems.push((key, format!("{value} is not between {low} and {high}")));
            }
        };
        within("overlay.replicas", self.overlay.replicas.into(), 1, 16);
        within("records.lifetime_s", self.records.lifetime_s, 60, 604_800);
        within("records.refresh_s", self.records.refresh_s, 10, self.records.lifetime_s / 2);
        within("budget.bytes_per_s", self.budget.bytes_per_s.into(), 10, 1 << 30);
        within("budget.burst_bytes", self.budget.burst_bytes.into(), 1_500, 1 << 30);
        within("budget.forwarding_bytes_per_s", self.budget.forwarding_bytes_per_s.into(), 500, 1 << 30);
        within("budget.capacity", self.budget.capacity.into(), 1, 1 << 20);
        within("lookup.timeout_ms", self.lookup.timeout_ms, 100, 60_000);
        within("probe.every_s", self.probe.every_s, 0, 86_400);
        within("inbox.limit", self.inbox.limit as u64, 1, 100_000);
        within("log.max_bytes", self.log.max_bytes, 10_000, 1 << 40);
        if !node::BASES.contains(&self.overlay.base) {
            problems.push(("overlay.base", format!("{} is not 2, 4, 8 or 16", self.overlay.base)));
        }
        if !is_name(&self.overlay.name) {
            problems.push(("overlay.name", "must be a word of letters, digits, dots and dashes".into()));
        }
        for user in self.canonical_users() {
            let parts = user.split_once('@');
            if !parts.is_some_and(|(user, domain)| is_name(user) && is_name(domain)) {
                problems.push(("users", format!("'{user}' is not a name like alice@camp.example")));
            }
        }
        if self.names.dns.len() > MAX_DNS {
            problems.push(("names.dns", format!("at most {MAX_DNS} servers are asked")));
        }
        if !self.udp && !self.tcp {
            problems
                .push(("tcp", "without UDP a peer needs TCP: one of `udp` and `tcp` must be true".into()));
        }
        if self.phones.certificate.is_empty() != self.phones.key.is_empty() {
            problems.push(("phones.certificate", "certificate and key go together".into()));
        }
        if !self.overlay.links.suits(self.overlay.profile) {
            let why = format!("{} is for the profile secure only", self.overlay.links);
            problems.push(("overlay.links", why));
        }
        problems.extend(self.exposure().map(|problem| ("overlay.profile", problem)));
        problems.extend(self.forbidden().map(|problem| ("networks", problem)));
        let twice = self.networks.readable.iter().find(|prefix| self.networks.sealed.contains(prefix));
        problems.extend(twice.map(|prefix| ("networks", format!("{prefix} is both readable and sealed"))));
        problems.extend(self.dial.problems());
        if let Err(e) = node::operator::check_log_filter(&self.log.level) {
            problems.push(("log.level", e));
        }
        problems
    }
}

/// A value that is written as it is shown.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// A list of such values.
mod texts {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(values: &[T], out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(values.iter().map(T::to_string))
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| text.parse()).collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_equals_the_defaults() {
        let template: Settings = toml::from_str(TEMPLATE).unwrap();
        assert_eq!(template, Settings::default());
        assert_eq!(template.config(), Config::default());
        assert_eq!(template.problems(), []);
    }

    #[test]
    fn values_out_of_range_are_named() {
        let mut settings = Settings::default();
        settings.overlay.base = 3;
        settings.records.refresh_s = 4_000;
        settings.phones.key = "key.pem".into();
        settings.users = vec!["alice/..".into()];
        settings.log.level = "dbug".into();
        let keys: Vec<&str> = settings.problems().iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["records.refresh_s", "overlay.base", "users", "phones.certificate", "log.level"]);
    }
}
