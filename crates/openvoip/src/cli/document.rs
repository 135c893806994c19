//! The overlay's signed document: making it, looking at it, changing it, and inviting by it.
//!
//! All of it is done here, with files; no peer need run.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use node::{Algorithm, LinkFamily, OverlayOptions, Profile};
use openvoip::control::{self, exit};
use openvoip::home::{self, read_documents};
use openvoip::serve;
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use serde_json::{Value, json};
use wire::document::{Authority, Chain, KindRule};
use wire::p2pp::Kind;
use wire::ticket::{MAX_PEERS, PREFIX};
use wire::{HashAlgorithm, KeyPair, OverlayDocument, PublicKey, SignedDocument, Ticket};

use super::answer::{Context, print};

/// A key is its owner's alone, a document is for everybody.
const KEY_MODE: u32 = 0o600;
const DOCUMENT_MODE: u32 = 0o644;

/// Found an overlay on paper: a signed document of it, and the founder key beside it, in FILE.key. Who has
/// that key can change everything; keep it, and name operators for daily work.
#[derive(Args)]
pub(crate) struct Create {
    /// The overlay's name.
    name: String,
    /// Its algorithm [default: kademlia].
    #[arg(long)]
    algorithm: Option<Algorithm>,
    /// The hash that places keys: sha-256, sha-1, md5 or md4 [default: sha-256].
    #[arg(long)]
    hash: Option<HashAlgorithm>,
    /// Base of the algorithm: 2, 4, 8 or 16 [default: 2].
    #[arg(long)]
    base: Option<u16>,
    /// How many peers hold each record, 1 to 16 [default: 5].
    #[arg(long, value_name = "N")]
    replicas: Option<u8>,
    /// Difficulty of the admission puzzle, 0 to 32 [default: 0].
    #[arg(long, value_name = "N")]
    difficulty: Option<u8>,
    /// What protects messages and sound between peers: secure, signed (readable) or open [default: secure].
    #[arg(long)]
    profile: Option<Profile>,
    /// Which protocols make the links between peers: noise, or tls (DTLS over UDP, TLS over TCP; profile secure only)
    /// [default: noise].
    #[arg(long)]
    links: Option<LinkFamily>,
    /// Let operators of peers set load values on them from afar.
    #[arg(long)]
    remote_settings: bool,
    /// A peer to ask first; repeatable.
    #[arg(long, value_name = "IP:PORT")]
    peer: Vec<SocketAddr>,
    /// A key that may sign the next document; repeatable.
    #[arg(long, value_name = "KEY")]
    operator: Vec<PublicKey>,
    /// The key of a peer that the operators run; repeatable.
    #[arg(long, value_name = "KEY")]
    managed: Vec<PublicKey>,
    /// Who gives the names of a domain, as `openvoip authority key` shows it; `*` for every domain; repeatable.
    #[arg(long, value_name = "DOMAIN=KEY@IP:PORT")]
    authority: Vec<AuthorityAt>,
    /// Who may store records of a kind, and how large their values are: data, drop, notice, or one of the overlay's own
    /// from 0x4001 to 0x7fff, under nobody, own-place, first-owner, each-owner, drop-box or operators; repeatable.
    #[arg(long, value_name = "KIND=POLICY[:BYTES]")]
    kind: Vec<Rule>,
    /// Where the document goes. A file that is there stays.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Create {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let key_file = home::beside(&self.out, ".key");
        context.show(match self.create(&key_file) {
            Ok(signed) => {
                let mut body = describe(&self.out, &Chain::new(signed));
                body["key_file"] = json!(key_file);
                control::answer("overlay", exit::OK, body)
            }
            Err(e) => control::failure(exit::FAILED, &e, "openvoip overlay create --help"),
        })
    }

    fn create(&self, key_file: &Path) -> Result<SignedDocument, String> {
        let founder = home::new_key(HashAlgorithm::default(), 0)?;
        let usual = OverlayOptions::default();
        let document = OverlayDocument {
            founder: founder.public(),
            sequence: 1,
            created: serve::unix_now(),
            name: self.name.clone(),
            algorithm: self.algorithm.unwrap_or(usual.algorithm).number(),
            hash: self.hash.unwrap_or(usual.hash),
            base: self.base.unwrap_or(usual.base),
            replicas: self.replicas.unwrap_or(usual.replicas),
            difficulty: self.difficulty.unwrap_or(usual.difficulty),
            remote_settings: self.remote_settings,
            profile: self.profile.unwrap_or_default(),
            links: self.links.unwrap_or_default(),
            kinds: with_rules(KindRule::today(), &self.kind, &[]),
            bootstrap: self.peer.iter().copied().collect(),
            managed: self.managed.iter().copied().collect(),
            revoked: [].into(),
            operators: self.operator.iter().copied().collect(),
            authorities: self.authority.iter().map(|AuthorityAt(authority)| authority.clone()).collect(),
        };
        let signed = SignedDocument::sign(document, &founder).map_err(|flaw| flaw.to_string())?;
        OverlayOptions::of(&signed.document)?;
        if self.out.exists() {
            return Err(format!("{} is there already, and stays", self.out.display()));
        }
        home::write_new(key_file, KEY_MODE, home::text_of(&founder).as_bytes())?;
        home::write_new(&self.out, DOCUMENT_MODE, &signed.to_bytes())?;
        Ok(signed)
    }
}

/// Show what a document or a ticket says, and whether a document's signature holds: exit 1 if it does not.
#[derive(Args)]
pub(crate) struct Show {
    /// A document's file, or a ticket, in quotes if there are spaces in it.
    #[arg(value_name = "FILE|TICKET")]
    what: String,
}

impl Show {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let file = Path::new(&self.what);
        let is_ticket = self.what.trim_start().to_ascii_lowercase().starts_with(PREFIX);
        context.show(match is_ticket {
            true => match self.what.parse() {
                Ok(ticket) => invite(&ticket).unwrap_or_else(|e| failed(&e)),
                Err(e) => control::failure(exit::FAILED, &format!("{e}"), "openvoip overlay show TICKET"),
            },
            false => match read_documents(file) {
                Ok(chain) => {
                    let exit = if chain.newest().is_authentic() { exit::OK } else { exit::FAILED };
                    control::answer("overlay", exit, describe(file, &chain))
                }
                Err(e) => failed(&e),
            },
        })
    }
}

/// Change a document, raise its sequence, and sign it anew with the founder key or an operator key that the
/// document named before. Without a change only sequence, date and signature are new. What an operator signs
/// stands behind the documents before it, so that newcomers can judge it too.
#[derive(Args)]
pub(crate) struct Sign {
    /// The document; the new one takes its place unless --out says otherwise.
    file: PathBuf,
    /// The file of the key to sign with: FILE.key of `create`, or an operator.key.
    #[arg(long, value_name = "KEYFILE")]
    key: PathBuf,
    /// Add a peer to ask first; repeatable.
    #[arg(long, value_name = "IP:PORT")]
    peer: Vec<SocketAddr>,
    /// Take a peer to ask first out; repeatable.
    #[arg(long, value_name = "IP:PORT")]
    drop_peer: Vec<SocketAddr>,
    /// Add a key that may sign the next document; repeatable.
    #[arg(long, value_name = "KEY")]
    operator: Vec<PublicKey>,
    /// Take an operator key out; repeatable.
    #[arg(long, value_name = "KEY")]
    drop_operator: Vec<PublicKey>,
    /// Add the key of a peer that the operators run; repeatable.
    #[arg(long, value_name = "KEY")]
    managed: Vec<PublicKey>,
    /// Take the key of a managed peer out; repeatable.
    #[arg(long, value_name = "KEY")]
    drop_managed: Vec<PublicKey>,
    /// Ban the key of a peer or user, which ends its being an operator or managed; repeatable.
    #[arg(long, value_name = "KEY")]
    revoke: Vec<PublicKey>,
    /// Take a ban back; repeatable.
    #[arg(long, value_name = "KEY")]
    pardon: Vec<PublicKey>,
    /// Say who may store records of a kind, instead of who did; repeatable.
    #[arg(long, value_name = "KIND=POLICY[:BYTES]")]
    kind: Vec<Rule>,
    /// Let a kind be as usual again, or not kept at all if the document added it; repeatable.
    #[arg(long, value_name = "KIND")]
    drop_kind: Vec<Kind>,
    /// Say who gives the names of a domain, instead of who did; repeatable.
    #[arg(long, value_name = "DOMAIN=KEY@IP:PORT")]
    authority: Vec<AuthorityAt>,
    /// Nobody gives the names of this domain any more; repeatable.
    #[arg(long, value_name = "DOMAIN")]
    drop_authority: Vec<String>,
    /// Write the new document to another file, which must not be there.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Sign {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let file = self.out.as_deref().unwrap_or(&self.file);
        context.show(match self.sign(file) {
            Ok(chain) => control::answer("overlay", exit::OK, describe(file, &chain)),
            Err(e) => control::failure(exit::FAILED, &e, "openvoip overlay sign --help"),
        })
    }

    fn sign(&self, file: &Path) -> Result<Chain, String> {
        let mut chain = authentic(&self.file)?;
        let next = self.next(&chain.newest().document, &home::read_key(&self.key)?)?;
        chain.push(next).map_err(|flaw| format!("{flaw}: let the founder sign, which begins anew"))?;
        match &self.out {
            Some(_) => home::write_new(file, DOCUMENT_MODE, &chain.to_bytes())?,
            None => home::replace(file, DOCUMENT_MODE, &chain.to_bytes())?,
        }
        Ok(chain)
    }

    /// The document that follows `held`, signed by a key that may.
    fn next(&self, held: &OverlayDocument, key: &KeyPair) -> Result<SignedDocument, String> {
        let mut document = held.clone();
        document.sequence = held.sequence.checked_add(1).ok_or("its sequence cannot be raised any more")?;
        document.created = serve::unix_now();
        document.kinds = with_rules(held.kinds.clone(), &self.kind, &self.drop_kind);
        let OverlayDocument { bootstrap, operators, managed, revoked, authorities, .. } = &mut document;
        let given = self.authority.iter().map(|AuthorityAt(authority)| authority);
        let dropped = self.drop_authority.iter().map(|domain| of_all(domain));
        let gone: Vec<&str> = given.clone().map(|a| a.domain.as_str()).chain(dropped).collect();
        authorities.retain(|a| !gone.contains(&a.domain.as_str()));
        authorities.extend(given.cloned());
        bootstrap.extend(&self.peer);
        bootstrap.retain(|peer| !self.drop_peer.contains(peer));
        revoked.extend(&self.revoke);
        revoked.retain(|key| !self.pardon.contains(key));
        operators.extend(&self.operator);
        operators.retain(|key| !self.drop_operator.contains(key) && !self.revoke.contains(key));
        managed.extend(&self.managed);
        managed.retain(|key| !self.drop_managed.contains(key) && !self.revoke.contains(key));
        document.kinds.iter().try_for_each(KindRule::check)?;
        let signed = SignedDocument::sign(document, key).map_err(|flaw| flaw.to_string())?;
        signed.accept(&held.founder, Some(held)).map_err(|_| {
            format!("{} is neither the founder key nor an operator key of the document", key.public())
        })?;
        Ok(signed)
    }
}

/// Make a ticket of a document: the overlay's name, its founder key and up to eight of the peers to ask first, as
/// a text and as a QR code.
#[derive(Args)]
pub(crate) struct Invite {
    /// The document.
    file: PathBuf,
}

impl Invite {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let ticket = match self.ticket() {
            Ok(ticket) => ticket,
            Err(e) => return context.show(failed(&e)),
        };
        let answer = invite(&ticket).unwrap_or_else(|e| failed(&e));
        if context.json || answer["ticket"].is_null() {
            return context.show(answer);
        }
        print(answer["ticket"].as_str().unwrap_or_default());
        if let Some(code) = ticket.to_capitals().ok().and_then(|text| qr(&text)) {
            print(code);
        }
        exit::OK
    }

    fn ticket(&self) -> Result<Ticket, String> {
        let OverlayDocument { profile, links, founder, name, bootstrap, .. } =
            authentic(&self.file)?.newest().document.clone();
        Ok(Ticket { profile, links, founder, name, peers: bootstrap.into_iter().take(MAX_PEERS).collect() })
    }
}

/// Give the running peer the next document of its overlay. Peers give it to each other, so one is enough; what it says
/// of bans and authorities holds at once, and its other options when a peer starts.
#[derive(Args)]
pub(crate) struct Push {
    /// The document.
    file: PathBuf,
}

impl Push {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let hex =
            |chain: Chain| chain.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        context.show(match authentic(&self.file) {
            Ok(chain) => {
                context.ask(&json!({ "command": "overlay push", "documents": { "hex": hex(chain) } }))
            }
            Err(e) => failed(&e),
        })
    }
}

/// Stands for the domain of an authority that gives every name.
const EVERY_DOMAIN: &str = "*";

fn of_all(domain: &str) -> &str {
    if domain == EVERY_DOMAIN { "" } else { domain }
}

/// An authority as it is typed.
#[derive(Clone)]
struct AuthorityAt(Authority);

impl FromStr for AuthorityAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(domain, rest)| Some((domain, rest.split_once('@')?)));
        let (domain, (key, address)) = parts.ok_or("write DOMAIN=KEY@IP:PORT")?;
        Ok(AuthorityAt(Authority {
            domain: of_all(domain).to_owned(),
            key: key.parse().map_err(|e| format!("{key}: {e}"))?,
            address: address.parse().map_err(|e| format!("{address}: {e}"))?,
        }))
    }
}

/// The rule of a kind as it is typed.
#[derive(Clone)]
struct Rule(KindRule);

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, policy) = text.split_once('=').ok_or("write KIND=POLICY or KIND=POLICY:BYTES")?;
        let (policy, most) =
            policy.split_once(':').map_or((policy, None), |(policy, most)| (policy, Some(most)));
        let mut rule = KindRule::new(kind.parse()?, policy.replace('-', " ").parse()?);
        if let Some(most) = most {
            rule.max_value = most.parse().map_err(|_| format!("'{most}' is not a number of bytes"))?;
        }
        rule.check().map(|()| Rule(rule))
    }
}

/// Rules with others in the place of some.
fn with_rules(mut rules: BTreeSet<KindRule>, said: &[Rule], dropped: &[Kind]) -> BTreeSet<KindRule> {
    rules
        .retain(|rule| !dropped.contains(&rule.kind) && said.iter().all(|Rule(said)| said.kind != rule.kind));
    rules.extend(KindRule::today().into_iter().filter(|rule| dropped.contains(&rule.kind)));
    rules.extend(said.iter().map(|Rule(rule)| rule));
    rules
}

/// The documents in a file, if somebody signed the newest as it is.
fn authentic(file: &Path) -> Result<Chain, String> {
    let chain = read_documents(file)?;
    match chain.newest().is_authentic() {
        true => Ok(chain),
        false => Err(format!("{}: its signature does not hold", file.display())),
    }
}

/// A QR code for a terminal, two rows of it a line: what is light is drawn, as on a dark screen.
fn qr(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    Some(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

/// What a ticket says.
fn invite(ticket: &Ticket) -> Result<Value, String> {
    let text = ticket.to_text().map_err(|flaw| format!("this makes no ticket: {flaw}"))?;
    let body = json!({ "name": ticket.name, "profile": ticket.profile.name(), "links": ticket.links.name(), "founder": ticket.founder.to_string(), "peers": ticket.peers, "ticket": text });
    Ok(control::answer("ticket", exit::OK, body))
}

fn failed(reason: &str) -> Value {
    control::failure(exit::FAILED, reason, "openvoip overlay create NAME --out FILE")
}

/// What the newest document of a file says, who signed it, and whether the founder key is enough to accept it.
fn describe(file: &Path, chain: &Chain) -> Value {
    let signed = chain.newest();
    let document = &signed.document;
    let algorithm = Algorithm::from_number(document.algorithm)
        .map_or_else(|| json!(document.algorithm), |algorithm| json!(algorithm.name()));
    let keys = |keys: &BTreeSet<PublicKey>| keys.iter().map(PublicKey::to_string).collect::<Vec<_>>();
    let kind = |rule: &KindRule| {
        json!({ "kind": rule.kind.name(), "number": rule.kind.0, "policy": rule.policy.name(),
            "max_value_bytes": rule.max_value })
    };
    let authority = |a: &Authority| {
        let domain = if a.domain.is_empty() { EVERY_DOMAIN } else { &a.domain };
        json!({ "domain": domain, "key": a.key.to_string(), "address": a.address })
    };
    json!({
        "file": file,
        "name": document.name,
        "founder": document.founder.to_string(),
        "sequence": document.sequence,
        "created": document.created.0,
        "signature_holds": signed.is_authentic(),
        "signer": signed.signer.to_string(),
        "signed_by_founder": signed.is_of_founder(),
        "documents": chain.documents().len(),
        "good_for_newcomers": chain.accept(&document.founder, None).is_ok(),
        "algorithm": algorithm,
        "hash": document.hash.name(),
        "base": document.base,
        "replicas": document.replicas,
        "difficulty": document.difficulty,
        "remote_settings": document.remote_settings,
        "profile": document.profile.name(),
        "links": document.links.name(),
        "kinds": document.rules().iter().map(kind).collect::<Vec<_>>(),
        "bootstrap": document.bootstrap,
        "managed": keys(&document.managed),
        "revoked": keys(&document.revoked),
        "operators": keys(&document.operators),
        "authorities": document.authorities.iter().map(authority).collect::<Vec<_>>(),
        "bytes": signed.to_bytes().len(),
    })
}
