//! The overlay's document on its way from peer to peer.
//!
//! Every message says which document its originator has. Whoever hears of a newer one than its own asks for it there,
//! part by part, and judges it by the founder key that it was told, or by the document it holds: so one
//! peer that is given the next document gives it to all, and nobody needs to be trusted to carry it. A peer that
//! was told no founder key, by ticket or document, judges nothing and asks for nothing.
//!
//! What a document says of names, authorities, banned keys (`bans.rs`) and kinds of records (`policy.rs`) holds at once, and so do the options that
//! need no other place in the overlay. Which algorithm, hash and base it has, and the profile, hold from the next
//! start: they decide what a key means and who can speak to whom.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use wire::document::{Chain, OverlayDocument};
use wire::p2pp::{Builder, Code, Message, MessageType, Object, object};
use wire::{NodeId, PublicKey, RngExt, Time};

use crate::budget::Work;
use crate::config::{OverlayOption, OverlayOptions};
use crate::event::{Event, Level};
use crate::names::NameRules;
use crate::node::{Alarm, Node};
use crate::request::Purpose;

/// Bytes of one part: with all headers less than a datagram may have.
const PART: usize = 1_000;

/// Longest documents that are carried, in bytes: a hundred and fifty usual ones, or three with every list full. The
/// founder signs anew, which needs none before it, where there are more.
const MAX_CARRIED: usize = 65_536;

/// How long a peer is not asked again that gave what does not count, and one that gave nothing: it may be short of
/// budget, or about to have another document.
const LATER: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(30);

/// How many such peers are remembered.
const MAX_FRUITLESS: usize = 64;

/// Pause between two peers that are asked, so that a crowd of liars costs a question a second.
const PAUSE: Duration = Duration::from_secs(1);

/// Then another peer may be asked: who is slow on purpose does not keep us from it.
const PARTS_WITHIN: Duration = Duration::from_secs(30);

/// Whom a peer tells at once that it has a newer document, drawn at random: each does the same, so that all know within
/// a second or two, for a kilobyte each.
const TOLD: usize = 8;

/// What a peer was told of its overlay before it met anybody: by whose word documents count, and those that it took.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Charter {
    /// The founder key.
    pub founder: PublicKey,
    /// The documents, of which the newest holds.
    pub documents: Option<Chain>,
}

impl Charter {
    /// The document that holds.
    pub fn newest(&self) -> Option<&OverlayDocument> {
        self.documents.as_ref().map(|chain| &chain.newest().document)
    }

    /// What it says of names.
    pub fn names(&self) -> Option<NameRules> {
        self.newest().and_then(NameRules::of)
    }

    fn sequence(&self) -> u64 {
        self.newest().map_or(0, |document| document.sequence)
    }
}

/// What a sequence may skip, so that its short form is later.
const MAX_SKIP: u64 = i16::MAX as u64;

/// A sequence as headers say it: its low bits, and never nothing.
fn short(sequence: u64) -> u16 {
    if sequence == 0 { 0 } else { (sequence as u16).max(1) }
}

/// Whether a sequence that is heard is later than one's own. As with serial numbers (RFC 1982), half of all are later.
fn is_later(heard: u16, own: u16) -> bool {
    heard != 0 && (own == 0 || (heard.wrapping_sub(own) as i16) > 0)
}

/// Documents that arrive in parts.
struct Fetch {
    from: (SocketAddr, Option<NodeId>),
    since: Time,
    /// Sequence and length, since the first part said them.
    whole: Option<(u64, usize)>,
    bytes: Vec<u8>,
}

struct Known {
    charter: Arc<Charter>,
    fetch: Option<Fetch>,
    /// Who was asked in vain, and until when nobody asks it again.
    fruitless: BTreeMap<SocketAddr, Time>,
    asked: Option<Time>,
    /// The document of which it turned out that this version cannot live by it.
    useless: Option<u16>,
}

/// The overlay's documents, as far as a peer knows them; nothing where it was told no founder key.
#[derive(Default)]
pub(crate) struct Documents(Option<Box<Known>>);

impl Documents {
    pub(crate) fn new(charter: Option<&Arc<Charter>>) -> Self {
        let known = |charter: &Arc<Charter>| Known {
            charter: charter.clone(),
            fetch: None,
            fruitless: BTreeMap::new(),
            asked: None,
            useless: None,
        };
        Documents(charter.map(known).map(Box::new))
    }

    /// What headers say of the document that is held.
    pub(crate) fn announced(&self) -> u16 {
        short(self.sequence())
    }

    fn sequence(&self) -> u64 {
        self.0.as_ref().map_or(0, |known| known.charter.sequence())
    }

    fn held(&self) -> Option<&Chain> {
        self.0.as_ref()?.charter.documents.as_ref()
    }

    /// The document that holds.
    pub(crate) fn newest(&self) -> Option<&OverlayDocument> {
        self.0.as_ref().and_then(|known| known.charter.newest())
    }

    /// The keys that the document bans.
    pub(crate) fn banned(&self) -> impl Iterator<Item = &PublicKey> {
        self.newest().into_iter().flat_map(|document| &document.revoked)
    }

    pub(crate) fn bans(&self, key: &PublicKey) -> bool {
        self.newest().is_some_and(|document| document.revoked.contains(key))
    }

    /// Whether newer ones are being fetched.
    pub(crate) fn are_on_their_way(&self) -> bool {
        self.0.as_ref().is_some_and(|known| known.fetch.is_some())
    }

    /// Begins to fetch the documents of a peer that says it has newer ones, unless others are on their way.
    fn begin(&mut self, now: Time, from: (SocketAddr, Option<NodeId>), heard: u16) -> bool {
        let own = self.announced();
        let Some(known) = self.0.as_mut().filter(|_| is_later(heard, own)) else { return false };
        let is_busy = known.fetch.as_ref().is_some_and(|fetch| now.since(fetch.since) < PARTS_WITHIN);
        let is_early = known.asked.is_some_and(|at| now.since(at) < PAUSE);
        if known.useless == Some(heard)
            || is_busy
            || is_early
            || known.fruitless.get(&from.0).is_some_and(|until| *until > now)
        {
            return false;
        }
        if let Some(slow) = known.fetch.take() {
            known.give_up(now, slow.from.0, LATER);
        }
        known.asked = Some(now);
        known.fetch = Some(Fetch { from, since: now, whole: None, bytes: Vec::new() });
        true
    }

    /// What a peer gave does not count.
    fn shun(&mut self, now: Time, from: SocketAddr) {
        if let Some(known) = &mut self.0 {
            known.give_up(now, from, LATER);
        }
    }

    /// Adds a part that a peer sent; all documents, once they are whole.
    fn take_part(
        &mut self,
        now: Time,
        from: SocketAddr,
        part: Option<(u64, usize, usize, &[u8])>,
    ) -> Progress {
        let Some(known) = &mut self.0 else { return Progress::None };
        let Some(fetch) = known.fetch.as_mut().filter(|fetch| fetch.from.0 == from) else {
            return Progress::None;
        };
        let is_other = |(sequence, length, ..): &(u64, usize, usize, &[u8])| {
            fetch.whole.is_some_and(|whole| whole != (*sequence, *length))
        };
        if part.as_ref().is_none_or(is_other) {
            known.give_up(now, from, SOON);
            return Progress::None;
        }
        let fits = part.filter(|(_, length, offset, bytes)| {
            *length <= MAX_CARRIED
                && *offset == fetch.bytes.len()
                && !bytes.is_empty()
                && bytes.len() <= length.saturating_sub(*offset)
        });
        let Some((sequence, length, _, bytes)) = fits else {
            known.give_up(now, from, LATER);
            return Progress::None;
        };
        fetch.whole = Some((sequence, length));
        fetch.bytes.extend_from_slice(bytes);
        if fetch.bytes.len() < length {
            return Progress::Next(fetch.from, fetch.bytes.len());
        }
        let whole = std::mem::take(&mut fetch.bytes);
        known.fetch = None;
        Progress::Whole(whole)
    }
}

impl Known {
    /// Nothing good came from this peer, and nothing is expected before then.
    fn give_up(&mut self, now: Time, from: SocketAddr, pause: Duration) {
        self.fetch.take_if(|fetch| fetch.from.0 == from);
        self.fruitless.retain(|_, until| *until > now);
        let until = self.fruitless.remove(&from).map_or(now + pause, |until| until.max(now + pause));
        if self.fruitless.len() >= MAX_FRUITLESS {
            let oldest = self.fruitless.iter().min_by_key(|(_, until)| **until).map(|(at, _)| *at);
            oldest.map(|at| self.fruitless.remove(&at));
        }
        self.fruitless.insert(from, until);
    }
}

/// How far a fetch has come.
enum Progress {
    None,
    Next((SocketAddr, Option<NodeId>), usize),
    Whole(Vec<u8>),
}

impl Node {
    /// The documents held, oldest first; the newest holds.
    pub fn documents(&self) -> Option<&Chain> {
        self.documents.held()
    }

    /// Takes the next document of the overlay from somebody here, and lets the others know of it.
    ///
    /// # Errors
    /// In words, if it is none for this peer.
    pub fn give_document(&mut self, now: Time, chain: &Chain) -> Result<(), String> {
        let newest = &chain.newest().document;
        let founder = newest.founder;
        if self.documents.0.is_none() {
            return Err(format!(
                "this peer was not told whose overlay it is in, and cannot judge documents; start it with a ticket or \
                 with --document, if the founder key {founder} is right"
            ));
        }
        let own = self.documents.sequence();
        if own > 0 && newest.sequence.saturating_sub(own) > MAX_SKIP {
            return Err(format!(
                "its sequence skips {MAX_SKIP} and more, and peers that have {own} would not ask for it"
            ));
        }
        let taken = self.take_documents(now, chain);
        self.drain(now);
        taken
    }

    /// Whether headers that say so speak of another document than ours.
    pub(crate) fn is_another_document(&self, sequence: u16) -> bool {
        sequence != self.documents.announced()
    }

    /// A peer that we asked, or that is in our table, has this document; if that is newer than ours it is asked for it.
    pub(crate) fn hear_of_document(&mut self, now: Time, from: (SocketAddr, Option<NodeId>), sequence: u16) {
        if self.is_another_document(sequence) && self.documents.begin(now, from, sequence) {
            self.ask_for_document(now, from, 0);
        }
    }

    fn ask_for_document(&mut self, now: Time, to: (SocketAddr, Option<NodeId>), offset: usize) {
        let wanted = Object::DocumentPart {
            sequence: self.documents.sequence(),
            length: 0,
            offset: offset as u32,
            bytes: &[],
        };
        self.ask(now, to, MessageType::GetDocument, &[wanted], Purpose::Document);
    }

    /// GetDocument: a part of our documents, if they are newer than the asker's.
    pub(crate) fn answer_get_document(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let Some((sequence, _, offset, _)) = part_of(message) else {
            return self.refuse(now, remote, message, Code::BAD_REQUEST, "no Document-Part");
        };
        let own = self.documents.sequence();
        if own <= sequence {
            return self.refuse(now, remote, message, Code::NOT_FOUND, "");
        }
        if !self.link.proofs.is_proven(now, remote) {
            return self.demand_proof(now, remote, message);
        }
        if !self.takes_on(now, remote, message, Work::Lookups) {
            return;
        }
        let all = self.documents.held().map(Chain::to_bytes).filter(|all| offset < all.len());
        let Some(all) = all else { return self.refuse(now, remote, message, Code::NOT_FOUND, "") };
        let bytes = &all[offset..all.len().min(offset + PART)];
        let length = all.len() as u32;
        let part = Object::DocumentPart { sequence: own, length, offset: offset as u32, bytes };
        let builder = Builder::new(&self.answer_header(message, Code::OK)).with(&part);
        self.respond(now, remote, message, builder);
    }

    /// A part came, or the word that there is none.
    pub(crate) fn handle_document_answer(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let part = part_of(message).filter(|_| message.header.code.is_ok());
        match self.documents.take_part(now, remote, part) {
            Progress::None => {}
            Progress::Next(to, offset) => self.ask_for_document(now, to, offset),
            Progress::Whole(bytes) => {
                let read = Chain::parse(&bytes).map_err(|flaw| flaw.to_string());
                if let Err(why) = read.and_then(|chain| self.take_documents(now, &chain)) {
                    self.log(Level::Info, "document", format!("what {remote} gave: {why}"));
                    self.documents.shun(now, remote);
                }
            }
        }
    }

    /// Nothing came.
    pub(crate) fn lose_document(&mut self, now: Time, remote: SocketAddr) {
        if let Some(known) = &mut self.documents.0 {
            known.give_up(now, remote, SOON);
        }
    }

    fn take_documents(&mut self, now: Time, chain: &Chain) -> Result<(), String> {
        let Some(known) = &mut self.documents.0 else { return Ok(()) };
        let kept = chain.accept(&known.charter.founder, known.charter.documents.as_ref());
        let kept = kept.map_err(|why| why.to_string())?;
        let ours = self.standing.as_ref().map_or(&self.config.overlay, |standing| &standing.options);
        let bytes = kept.to_bytes();
        let document = &kept.newest().document;
        let options = match usable(document, bytes.len(), ours) {
            Ok(options) => options,
            Err(why) => {
                known.useless = Some(short(document.sequence));
                return Err(why);
            }
        };
        let moves = options.difference(ours, &OverlayOption::OF_KEYS).is_some()
            || (document.profile, document.links) != (self.config.profile, self.config.links);
        let sequence = document.sequence;
        known.charter = Charter { founder: known.charter.founder, documents: Some(kept) }.into();
        known.fruitless = BTreeMap::new();
        self.names.take_rules(known.charter.names());
        self.storage.honour(self.names.authorities().map(|authority| authority.key).collect());
        self.live_by(now, options);
        self.drop_lapsed_names(now);
        self.drop_unruly();
        self.take_up_waiting(now);
        self.shut_out_banned(now);
        self.look_after_names(now);
        self.log(Level::Info, "document", format!("document {sequence} of the overlay holds now"));
        if moves {
            let message = "it moves the overlay to other options of keys, another profile or other links: those hold here when \
                           this peer starts again";
            self.log(Level::Warn, "document", message.into());
        }
        if self.documents.bans(&self.public_key()) {
            let message = "the overlay's document bans this peer's key: others have nothing to do with it";
            self.log(Level::Warn, "document", message.into());
        }
        self.emit(Event::Document(bytes));
        self.tell_of_document(now);
        Ok(())
    }

    /// Takes the options of a new document that need no other place in the overlay; all of them, where this peer has
    /// none yet, and asks its bootstrap peers anew.
    fn live_by(&mut self, now: Time, options: OverlayOptions) {
        let Some(standing) = &mut self.standing else {
            self.config.overlay = options;
            return self.timers.set(Alarm::Bootstrap, now);
        };
        let ours = &mut standing.options;
        ours.replicas = options.replicas;
        ours.difficulty = options.difficulty;
        ours.remote_settings = options.remote_settings;
        let ours = ours.clone();
        if let Some(reason) = self.lacks_work(&ours) {
            self.log(Level::Warn, "document", reason);
        }
    }

    /// Lets some others hear of a new document by a question whether they live.
    fn tell_of_document(&mut self, now: Time) {
        let Some(standing) = &self.standing else { return };
        let mut others = standing.good_contacts(standing.id.key());
        for _ in 0..TOLD.min(others.len()) {
            let one = others.swap_remove(self.rng.random_range(0..others.len()));
            self.ask_whether_it_lives(now, (one.address, Some(one.id)));
        }
    }
}

/// The options of a document that whoever may sign it signed, and that fills so many bytes with those before it, or
/// why this peer cannot live by it, which is in an overlay with those of `ours`.
fn usable(document: &OverlayDocument, bytes: usize, ours: &OverlayOptions) -> Result<OverlayOptions, String> {
    if bytes > MAX_CARRIED {
        return Err("with those before it, it is too long to travel; the founder has to sign anew".into());
    }
    let options = OverlayOptions::of(document)?;
    match options.difference(ours, &[OverlayOption::Name]) {
        Some(difference) => Err(format!("it is of an overlay of another name: {difference}")),
        None => Ok(options),
    }
}

/// Sequence, length, offset and bytes of a Document-Part.
fn part_of<'a>(message: &Message<'a>) -> Option<(u64, usize, usize, &'a [u8])> {
    message.find(object::DOCUMENT_PART, |o| match o {
        Object::DocumentPart { sequence, length, offset, bytes } => {
            Some((sequence, length as usize, offset as usize, bytes))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests;
