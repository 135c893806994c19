//! Names that their domain proves: what it says of one, asked when a user here calls, writes to or looks up that name.
//!
//! The world asks ([`Event::DomainWanted`](crate::Event::DomainWanted)), and [`Node::handle_domain_said`] takes the answer. The
//! search in the overlay goes on beside it; who is called waits for the domain's word for [`PATIENCE`] at most. What comes
//! of a word ([`Word`]):
//!
//! | the domain says | a name that is not pinned | a pinned one |
//! |---|---|---|
//! | a key | only records of that key count | the same key: goes on. Another: refused, with both |
//! | that it has no such user | refused | refused, unless a person confirmed the pin |
//! | nothing | goes on as ever; refused where a proof is required | the same; a confirmed pin goes on |
//! | not a word | the same | goes on if a person or the domain has vouched for the pin |
//!
//! Nobody is asked unless the owner wants it, and never about a name that an authority gives, that proves itself, that
//! is in the overlay's own domain, or in one that is in no DNS. Who calls us is asked about nowhere.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use wire::domain::{self, Way, Word};
use wire::p2pp::Kind;
use wire::{PublicKey, Time, choices};

use crate::config::User;
use crate::directory::{Resolved, place_of_user};
use crate::event::{Level, OpId};
use crate::node::{Alarm, Node};
use crate::pins::short;
use crate::search::{For, LookupOptions, Want};

/// For so long a call, message or look-up waits for a domain: a person waits about three seconds for a sign of life.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// Words remembered; beyond it the one learnt first is forgotten.
const MAX_WORDS: usize = 256;

/// Names that the world is asked about at once; who comes then is told nothing.
pub(crate) const MAX_ASKED: usize = 16;

/// Look-ups that wait for a domain at once; who comes then does not wait.
const MAX_WAITING: usize = 64;

/// A word is remembered for so long at least, and a key or anything else for so long at most.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3_600);
const LONGEST_WITHOUT: Duration = Duration::from_secs(600);

/// And that a domain was silent.
const SILENCE: Duration = Duration::from_secs(30);

/// When domains are asked whose a name is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DomainProof {
    /// Never: nobody's DNS hears whom this peer calls.
    #[default]
    Never,
    /// Always, and what they say holds; where they say nothing it is as if they had not been asked.
    WhenFound,
    /// And who is not proven is not called.
    Required,
}

choices!(
    DomainProof, "choice of `names.domain_proof`":
    Never = "never", WhenFound = "when_found", Required = "required",
);

/// Why nobody is called under a name of a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unproven {
    /// The domain has no such user.
    Nobody,
    /// It says nothing of the name.
    Nothing,
    /// It does not answer.
    Silent,
    /// It names a key of which nobody is there.
    Away(PublicKey),
}

impl Unproven {
    /// In words, for whoever called this name.
    pub(crate) fn why(self, name: &str) -> String {
        let domain = domain::domain_of(name).unwrap_or("its domain");
        match self {
            Unproven::Nobody => format!("{domain} says that it has no such user"),
            Unproven::Nothing => {
                format!("{domain} says nothing of {name}, and names.domain_proof is \"required\" here")
            }
            Unproven::Silent => {
                format!("{domain} does not answer, and names.domain_proof is \"required\" here")
            }
            Unproven::Away(key) => {
                format!("{domain} names the key {}, and nobody with it is there", short(key))
            }
        }
    }
}

/// What is known of a domain's word for one name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Asked {
    /// It is nobody's to be asked.
    #[default]
    Not,
    /// The world is asking.
    Waits,
    /// It was asked.
    Said(Word),
}

impl Asked {
    /// The key that the domain names.
    pub(crate) fn key(self) -> Option<(PublicKey, Way)> {
        match self {
            Asked::Said(Word::Key(key, way)) => Some((key, way)),
            _ => None,
        }
    }

    /// As `lookup` shows it.
    fn shown(self) -> Option<&'static str> {
        match self {
            Asked::Not => None,
            Asked::Said(Word::Key(_, way)) => Some(way.name()),
            Asked::Said(Word::Nobody) => Some("nobody"),
            Asked::Waits | Asked::Said(Word::Nothing | Word::Silent) => Some("unproven"),
        }
    }
}

/// A look-up that waits for a domain.
struct Waiting {
    op: OpId,
    name: String,
    options: LookupOptions,
}

/// What domains said; nothing at a peer that asks none.
#[derive(Default)]
pub(crate) struct Domains(Option<Box<Known>>);

#[derive(Default)]
struct Known {
    /// By name, until when it holds; the one learnt last at the end.
    words: VecDeque<(String, Word, Time)>,
    /// Names that the world is to be told.
    wanted: VecDeque<String>,
    /// Names of which it has not said anything yet.
    asked: BTreeSet<String>,
    waiting: VecDeque<Waiting>,
}

impl Domains {
    /// The next name that the world is to ask about.
    pub(crate) fn poll_wanted(&mut self) -> Option<String> {
        wire::queue::pop_front(&mut self.0.as_mut()?.wanted)
    }

    fn word(&self, now: Time, name: &str) -> Option<Word> {
        let words = &self.0.as_ref()?.words;
        words.iter().find(|(known, _, until)| known == name && now < *until).map(|(_, word, _)| *word)
    }

    /// What is known of a name, or that the world is being asked.
    fn ask(&mut self, now: Time, name: &str) -> Asked {
        if let Some(word) = self.word(now, name) {
            return Asked::Said(word);
        }
        let known = self.0.get_or_insert_default();
        if known.asked.len() >= MAX_ASKED && !known.asked.contains(name) {
            return Asked::Said(Word::Silent);
        }
        if known.asked.insert(name.to_owned()) {
            known.wanted.push_back(name.to_owned());
        }
        Asked::Waits
    }

    /// The world has said what it can of a name; `false` if it was not asked.
    fn learn(&mut self, now: Time, name: &str, word: Word, ttl: Duration) -> bool {
        let Some(known) = self.0.as_mut().filter(|known| known.asked.contains(name)) else { return false };
        known.asked.remove(name);
        known.wanted.retain(|wanted| wanted != name);
        known.words.retain(|(other, ..)| other != name);
        if known.words.len() >= MAX_WORDS {
            known.words.pop_front();
        }
        let lasts = match word {
            Word::Key(..) => ttl.clamp(SHORTEST, LONGEST),
            Word::Nobody | Word::Nothing => ttl.clamp(SHORTEST, LONGEST_WITHOUT),
            Word::Silent => SILENCE,
        };
        known.words.push_back((name.to_owned(), word, now + lasts));
        true
    }

    /// Lets a look-up wait; `false` if too many do.
    fn wait(&mut self, waiting: Waiting) -> bool {
        let known = self.0.get_or_insert_default();
        let has_room = known.waiting.len() < MAX_WAITING;
        if has_room {
            known.waiting.push_back(waiting);
        }
        has_room
    }

    /// The look-ups that wait for what this says.
    fn waiting(&mut self, which: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let Some(known) = &mut self.0 else { return Vec::new() };
        let (done, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut known.waiting).into_iter().partition(which);
        known.waiting = rest.into();
        done
    }
}

impl Node {
    /// The world has asked the domain of a name, [`Event::DomainWanted`](crate::Event::DomainWanted); `ttl` is how long its
    /// word may be remembered.
    pub fn handle_domain_said(&mut self, now: Time, name: &str, word: Word, ttl: Duration) {
        if !self.domains.learn(now, name, word, ttl) {
            return;
        }
        if let (Word::Key(said, _), Some(known)) = (word, self.pins.owner(name))
            && said != known
        {
            let (said, known) = (short(said), short(known));
            let message = format!("the domain of {name} names the key {said}, and it was known by {known}");
            self.log(Level::Warn, "names", message);
        }
        for id in self.directory.waiting_for_domain(name) {
            self.settle_domain(now, id, word);
        }
        for waiting in self.domains.waiting(|waiting| waiting.name == name) {
            self.timers.cancel(Alarm::DomainOfLookup(waiting.op));
            self.look_up_name(now, waiting.op, waiting.name, waiting.options);
        }
        self.drain(now);
    }

    /// Asks the domain of a name, if it is to be asked.
    pub(crate) fn ask_domain(&mut self, now: Time, name: &str) -> Asked {
        if !self.is_for_its_domain(name) {
            return Asked::Not;
        }
        match domain::place_of_name(name).filter(|place| wire::dns::question(0, place).is_some()) {
            Some(_) => self.domains.ask(now, name),
            // It cannot say anything of a name that does not fit there.
            None => Asked::Said(Word::Nothing),
        }
    }

    fn is_for_its_domain(&self, name: &str) -> bool {
        self.config.domain_proof != DomainProof::Never
            && domain::domain_of(name).is_some_and(|d| !d.eq_ignore_ascii_case(&self.config.overlay.name))
            && self.names.authority_of(name).is_none()
            && self.proof_in(name).is_none()
    }

    /// Whether a name may be called after this word of its domain, and the key whose records count if only that one's do.
    pub(crate) fn judge_by_domain(&mut self, name: &str, word: Word) -> Result<Option<PublicKey>, Resolved> {
        let is_required = self.config.domain_proof == DomainProof::Required;
        let refused = match word {
            Word::Key(said, way) => match self.pins.owner(name).filter(|known| *known != said) {
                Some(known) => {
                    self.pins.refuse(name, said);
                    self.save_pins();
                    return Err(Resolved::KeyChanged([known, said], Some(way)));
                }
                None => return Ok(Some(said)),
            },
            Word::Nobody if !self.pins.is_confirmed(name) => Unproven::Nobody,
            Word::Nothing if is_required && !self.pins.is_confirmed(name) => Unproven::Nothing,
            Word::Silent if is_required && !self.pins.is_vouched_for(name) => Unproven::Silent,
            Word::Nobody | Word::Nothing | Word::Silent => return Ok(None),
        };
        Err(Resolved::NotOfDomain(refused))
    }

    /// Looks up a user by name, once its domain has said what it has to.
    pub(crate) fn look_up_asked(&mut self, now: Time, name: String, options: LookupOptions) -> OpId {
        let op = self.new_op();
        let waiting = Waiting { op, name: name.clone(), options };
        if self.ask_domain(now, &name) == Asked::Waits && self.domains.wait(waiting) {
            self.timers.set(Alarm::DomainOfLookup(op), now + PATIENCE);
        } else {
            self.look_up_name(now, op, name, options);
        }
        self.drain(now);
        op
    }

    /// A domain takes too long for whoever looks up a name.
    pub(crate) fn look_up_unproven(&mut self, now: Time, op: OpId) {
        for waiting in self.domains.waiting(|waiting| waiting.op == op) {
            self.look_up_name(now, op, waiting.name, waiting.options);
        }
    }

    fn look_up_name(&mut self, now: Time, op: OpId, name: String, options: LookupOptions) {
        let owner = self.known_of_domain(now, &name).key().map(|(key, _)| key);
        let place = self.expected_place(&name, place_of_user(self.hash(), &name));
        self.search(now, place.0, Want::Object(Kind::USER, owner), For::Lookup(op, name), options);
    }

    /// What is known by now, without asking.
    fn known_of_domain(&self, now: Time, name: &str) -> Asked {
        match self.is_for_its_domain(name) {
            true => self.domains.word(now, name).map_or(Asked::Waits, Asked::Said),
            false => Asked::Not,
        }
    }

    /// What the domain of a user's name has said of it, as far as that is known.
    pub(crate) fn own_proof(&self, now: Time, user: &User) -> Option<&'static str> {
        let said = self.domains.word(now, &user.aor).map(Asked::Said)?;
        let is_others = said.key().is_some_and(|(key, _)| key != user.keys.public());
        if is_others { Some("other_key") } else { said.shown() }
    }

    /// What a domain said of a name that was looked up, as it is shown; and why no record of others counts.
    pub(crate) fn shown_of_domain(&self, now: Time, name: &str) -> (Option<&'static str>, Option<String>) {
        let known = self.known_of_domain(now, name);
        let elsewhere = known.key().zip(domain::domain_of(name)).map(|((key, _), domain)| {
            format!("{domain} names the key {}, of which no record stands there", short(key))
        });
        (known.shown(), elsewhere)
    }
}
