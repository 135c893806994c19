//! What a peer is told before it starts, each default with its reason.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use overlay::Algorithm;
use sip::Prefix;
use wire::document::OverlayDocument;
use wire::sdp::dtls::Fingerprint;
pub(crate) use wire::strict::MAX_NAME;
pub use wire::strict::is_name;
use wire::{HashAlgorithm, KeyPair, LinkFamily, Profile, PublicKey};

use crate::budget::Limits;
use crate::dial;
use crate::document::Charter;
use crate::domains::DomainProof;
use crate::networks::NetworkRules;
use crate::plane::{DtlsPolicy, EndToEndPolicy, SdesPolicy};
use crate::role::RolePolicy;

/// Options that all peers of an overlay share; learnt from the bootstrap peer unless this peer founds
/// the overlay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OverlayOptions {
    /// The overlay's name.
    pub name: String,
    /// Which algorithm routes.
    pub algorithm: Algorithm,
    /// Which hash places peers and resources.
    pub hash: HashAlgorithm,
    /// Base of the algorithm: 2, 4, 8 or 16.
    pub base: u16,
    /// How many peers hold each record.
    pub replicas: u8,
    /// Difficulty of the admission puzzle that a Node-ID must fulfil ([`wire::puzzle`]); 0: everybody may
    /// come.
    pub difficulty: u8,
    /// Whether operators may set load values from afar.
    pub remote_settings: bool,
}

/// The bases that the algorithms here have.
pub const BASES: [u16; 4] = [2, 4, 8, 16];

impl OverlayOptions {
    /// As the overlay's document says them.
    ///
    /// # Errors
    /// In words, if this version cannot take part in such an overlay.
    pub fn of(document: &OverlayDocument) -> Result<OverlayOptions, String> {
        let Some(algorithm) = Algorithm::from_number(document.algorithm) else {
            return Err(format!(
                "it asks for algorithm {}, which this version does not have",
                document.algorithm
            ));
        };
        if !BASES.contains(&document.base) {
            return Err(format!("it asks for base {}, and this version has 2, 4, 8 and 16", document.base));
        }
        document.kinds.iter().try_for_each(|rule| rule.check())?;
        Ok(OverlayOptions {
            name: document.name.clone(),
            algorithm,
            hash: document.hash,
            base: document.base,
            replicas: document.replicas,
            difficulty: document.difficulty,
            remote_settings: document.remote_settings,
        })
    }
}

impl Default for OverlayOptions {
    fn default() -> Self {
        OverlayOptions {
            name: "openvoip".into(),
            algorithm: Algorithm::Kademlia,
            // The only one of the four that still resists collisions.
            hash: HashAlgorithm::Sha256,
            // Two: small tables; at a thousand peers a larger base saves less than one hop.
            base: 2,
            // With sessions of an hour and repair every ten minutes, the chance that five holders
            // die between two repairs is below one in a million.
            replicas: 5,
            difficulty: 0,
            remote_settings: false,
        }
    }
}

/// An option that an overlay may have otherwise than this peer was told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum OverlayOption {
    /// The overlay's name.
    Name,
    /// Which algorithm routes.
    Algorithm,
    /// Which hash places peers and resources.
    Hash,
    /// Base of the algorithm.
    Base,
    /// How many peers hold each record.
    Replicas,
    /// Difficulty of the admission puzzle.
    Difficulty,
    /// Whether operators may set load values from afar.
    RemoteSettings,
}

impl OverlayOption {
    /// Those without which keys do not mean the same to two peers.
    pub const OF_KEYS: [OverlayOption; 4] =
        [OverlayOption::Name, OverlayOption::Algorithm, OverlayOption::Hash, OverlayOption::Base];

    /// All of them, in the order in which differences are told.
    pub const ALL: [OverlayOption; 7] = [
        OverlayOption::Name,
        OverlayOption::Algorithm,
        OverlayOption::Hash,
        OverlayOption::Base,
        OverlayOption::Replicas,
        OverlayOption::Difficulty,
        OverlayOption::RemoteSettings,
    ];

    /// Its name in configuration and in words to people.
    pub fn name(self) -> &'static str {
        match self {
            OverlayOption::Name => "name",
            OverlayOption::Algorithm => "algorithm",
            OverlayOption::Hash => "hash",
            OverlayOption::Base => "base",
            OverlayOption::Replicas => "replicas",
            OverlayOption::Difficulty => "difficulty",
            OverlayOption::RemoteSettings => "remote_settings",
        }
    }

    fn of(self, options: &OverlayOptions) -> String {
        match self {
            OverlayOption::Name => options.name.clone(),
            OverlayOption::Algorithm => options.algorithm.to_string(),
            OverlayOption::Hash => options.hash.to_string(),
            OverlayOption::Base => options.base.to_string(),
            OverlayOption::Replicas => options.replicas.to_string(),
            OverlayOption::Difficulty => options.difficulty.to_string(),
            OverlayOption::RemoteSettings => options.remote_settings.to_string(),
        }
    }
}

impl OverlayOptions {
    /// In which of these options another overlay differs from ours, in words; `None` if in none.
    pub fn difference(&self, theirs: &OverlayOptions, among: &[OverlayOption]) -> Option<String> {
        let differ = among.iter().filter(|option| option.of(self) != option.of(theirs));
        let told = differ.map(|o| format!("{} is {} there and {} here", o.name(), o.of(theirs), o.of(self)));
        Some(told.collect::<Vec<_>>().join(", ")).filter(|words| !words.is_empty())
    }
}

/// Everything a peer is told before it starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The overlay's options; used as they are by a founder, replaced by what bootstrap says otherwise.
    pub overlay: OverlayOptions,
    /// Options of `overlay` on which this peer insists: an overlay that has others is not joined, and
    /// [`Event::Offline`](crate::Event::Offline) says in what it differs.
    pub insist: Vec<OverlayOption>,
    /// What protects the traffic between peers.
    pub profile: Profile,
    /// Which protocols make the links between peers, where the profile is secure.
    pub links: LinkFamily,
    /// Whether it goes over UDP; without it nobody hears sound of another peer here.
    pub udp: bool,
    /// Whether it goes over TCP, on the same port, where UDP does not get through.
    pub tcp: bool,
    /// Addresses of peers to ask first. Empty and no host cache: this peer founds the overlay.
    pub bootstrap: Vec<SocketAddr>,
    /// Whether this node is a peer or a client, or decides by itself.
    pub role: RolePolicy,
    /// The address of the peer port, as far as this peer knows it.
    pub listen: SocketAddr,
    /// The address at which phones register.
    pub sip: SocketAddr,
    /// The address at which phones register over TLS, if the world serves it.
    pub sips: Option<SocketAddr>,
    /// Where phones may stand: who sends to the SIP address from elsewhere gets no answer.
    pub phones_from: Arc<[Prefix]>,
    /// When sound between phones and this peer is protected.
    pub sdes: SdesPolicy,
    /// When it is so by keys of a handshake (DTLS-SRTP).
    pub dtls: DtlsPolicy,
    /// Networks over which not everything may go, if there are any.
    pub networks: Option<Arc<NetworkRules>>,
    /// Which keys phones may have with each other, so that what they send is carried as it is.
    pub end_to_end: EndToEndPolicy,
    /// Of the certificate that the world shows in handshakes with phones, if it makes any; most peers of a simulation
    /// have no phones, so it takes little room where it is not.
    pub fingerprint: Option<Arc<Fingerprint>>,
    /// The address announced to phones for media; the SIP address if unspecified.
    pub media: IpAddr,
    /// The longest that a stored record of ours lives without being refreshed.
    pub record_lifetime: Duration,
    /// The longest time between two refreshes of own records; churn shortens it.
    pub refresh_interval: Duration,
    /// Ceiling of maintenance traffic, sent bytes per second with IP and UDP headers.
    pub budget_bytes_per_s: u32,
    /// Bytes that may be sent beyond the ceiling at once, for joining.
    pub budget_burst_bytes: u32,
    /// Allowance for passing on others' requests, sent bytes per second; ten seconds of it at once.
    pub forwarding_bytes_per_s: u32,
    /// What this peer takes on for others, in requests passed on a second. Gia gives the able more to do;
    /// no other algorithm asks.
    pub capacity: u32,
    /// How long a lookup may take per attempt.
    pub lookup_timeout: Duration,
    /// Keys of operators who may change log levels and, where the overlay allows it, load values.
    pub operators: Vec<PublicKey>,
    /// How often to look up a random key as a health check.
    pub probe_interval: Option<Duration>,
    /// How many unanswered SIP calls, messages and records are kept: see the modules' own bounds.
    pub inbox_limit: usize,
    /// What digits mean that are dialled here.
    pub dial: dial::Rules,
    /// Whether users here have numbers, and numbers and keys can be dialled: for worlds that work out what keys cost
    /// ([`Event::StretchWanted`](crate::Event::StretchWanted)).
    pub numbers: bool,
    /// When domains are asked whose a name is: for worlds that can ask
    /// ([`Event::DomainWanted`](crate::Event::DomainWanted)).
    pub domain_proof: DomainProof,
    /// Whose overlay this is, and what its document says, if this peer was told.
    pub charter: Option<Arc<Charter>>,
}

impl Default for Config {
    fn default() -> Self {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Config {
            overlay: OverlayOptions::default(),
            insist: Vec::new(),
            profile: Profile::default(),
            links: LinkFamily::default(),
            udp: true,
            tcp: true,
            bootstrap: Vec::new(),
            role: RolePolicy::Auto,
            // Loopback until told otherwise: nothing is exposed by accident.
            listen: SocketAddr::new(loopback, 7080),
            sip: SocketAddr::new(loopback, 5060),
            sips: Some(SocketAddr::new(loopback, 5061)),
            phones_from: Prefix::at_home(),
            // Who asks gets it; phones that cannot are heard too.
            sdes: SdesPolicy::Offered,
            // Phones that do not know it would refuse the call and have to be called again.
            dtls: DtlsPolicy::Accepted,
            networks: None,
            // Phones that have it say so beside what any phone understands, so that nobody is called twice.
            end_to_end: EndToEndPolicy::Zrtp,
            fingerprint: None,
            media: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            // Three refreshes may be lost before a record ends.
            record_lifetime: Duration::from_secs(7_200),
            // A republish every 30 to 60 s, as in 2008, would eat the whole budget. Where nobody leaves,
            // half an hour does: two records with five holders each cost a byte a second.
            refresh_interval: Duration::from_secs(1_800),
            budget_bytes_per_s: 500,
            budget_burst_bytes: 60_000,
            // Twenty lookups a second passed on: people who look each other up a hundred times as often as on
            // other days leave most of it.
            forwarding_bytes_per_s: 5_000,
            capacity: overlay::gia::CAPACITY,
            // A person waits about three seconds for the first sign of life.
            lookup_timeout: Duration::from_millis(2_500),
            operators: Vec::new(),
            probe_interval: None,
            inbox_limit: 1_000,
            dial: dial::Rules::default(),
            // A world that does not know how says nothing, and nobody here has a number.
            numbers: true,
            // Whom its users call is nobody's business unless the owner says so, and a mesh has no DNS.
            domain_proof: DomainProof::Never,
            charter: None,
        }
    }
}

/// Where phones reach a peer at which they register here and, over TLS, there: what is on loopback is reached from
/// there only.
pub fn reached_at(sip: SocketAddr, sips: Option<SocketAddr>) -> IpAddr {
    let mut registrars = [Some(sip), sips].into_iter().flatten().map(|address| address.ip());
    registrars.find(|ip| !ip.is_loopback()).unwrap_or(sip.ip())
}

impl Config {
    /// The address named to phones for sound: the one said, else where they register.
    pub fn phone_ip(&self) -> IpAddr {
        let said = Some(self.media).filter(|ip| !ip.is_unspecified());
        said.unwrap_or_else(|| reached_at(self.sip, self.sips))
    }

    /// What the budget is made of.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            bytes_per_s: self.budget_bytes_per_s,
            burst_bytes: self.budget_burst_bytes,
            forwarding_bytes_per_s: self.forwarding_bytes_per_s,
        }
    }
}

/// A user served by this peer.
#[derive(Clone, Debug)]
pub struct User {
    /// The canonical address-of-record, for example `alice@example.org`.
    pub aor: String,
    /// The user key, which signs the list of the user's devices.
    pub keys: KeyPair,
}

/// Who this peer is: the peer key gives the Node-ID and signs what the peer says.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The peer key.
    pub peer: KeyPair,
    /// The users it serves.
    pub users: Vec<User>,
}

fn data_kind() -> u16 {
    wire::p2pp::Kind::DATA.0
}

/// A value that the console or an application stored.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KeptValue {
    /// The text key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// How long holders may keep it unrefreshed, in seconds.
    pub ttl_s: u64,
    /// The number of its kind; [`Kind::DATA`](wire::p2pp::Kind::DATA) in what earlier versions saved.
    #[serde(default = "data_kind")]
    pub kind: u16,
}

/// What survives a restart besides the keys: peers to try first, and the last sequence numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Saved {
    /// The host cache: addresses of peers that were heard, the latest first.
    pub hosts: Vec<SocketAddr>,
    /// It founded its overlay, and founds it again if nobody of the cache is there.
    #[serde(default)]
    pub founder: bool,
    /// Values that the console or an application stored (`overlay put`), published again.
    pub values: Vec<KeptValue>,
    /// Messages received, as the inbox shows them.
    pub inbox: Vec<crate::report::InboxMessage>,
    /// The clock of each operator's last command, by public key: a recorded one stays old.
    #[serde(default)]
    pub operator_clocks: std::collections::BTreeMap<String, u64>,
    /// The keys that first answered to names.
    #[serde(default)]
    pub pins: Vec<crate::report::PinRow>,
    /// The latest list of revoked keys of each authority.
    #[serde(default)]
    pub revocations: Vec<Vec<u8>>,
    /// The certificates of users served here.
    #[serde(default)]
    pub certificates: Vec<Vec<u8>>,
}
