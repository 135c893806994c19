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
//! | not a word | the same | what it said last holds; else goes on if a person confirmed the pin |
//!
//! Nobody is asked unless the owner wants it, and never about a name that an authority gives, that proves itself, that
//! is in a domain that is in no DNS or, unless proofs are required, in the overlay's own. Who calls us is asked about
//! nowhere.

use std::collections::VecDeque;
use std::time::Duration;

use sip::Flow;
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

/// Names that the world is asked about at once, for all and for one phone (the command line counts as one), so that nobody
/// keeps the others from asking.
pub(crate) const MAX_ASKED: usize = 16;
const MAX_ASKED_FOR_ONE: usize = 4;

/// The same with those that wait for others; who comes then is told so.
const MAX_WANTED: usize = 128;
const MAX_WANTED_BY_ONE: usize = 16;

/// A question of which the world says nothing for so long is forgotten.
const LOST: Duration = Duration::from_secs(60);

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

/// Why nobody is called under a name after this word of its domain.
pub(crate) fn why_not(name: &str, word: Word) -> String {
    let domain = domain::domain_of(name).unwrap_or("its domain");
    let because = match word {
        Word::Key(key, _) => {
            return format!("{domain} names the key {}, and nobody with it is found", short(key));
        }
        Word::Nobody => return format!("{domain} says that it has no such user"),
        Word::Nothing => format!("{domain} says nothing of {name}"),
        Word::Silent => format!("{domain} does not answer"),
        Word::Busy => format!("{domain} was not asked, for too many names are asked about at once"),
        Word::NoServer => format!("{domain} was not asked, for no DNS server is known (set names.dns)"),
    };
    format!("{because}, and names.domain_proof is \"required\" here")
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

    /// As it is shown beside a key.
    fn shown(self, beside: PublicKey) -> Option<&'static str> {
        match self {
            Asked::Not => None,
            Asked::Said(Word::Key(key, _)) if key != beside => Some("other_key"),
            Asked::Said(Word::Key(_, way)) => Some(way.name()),
            Asked::Said(Word::Nobody) => Some("nobody"),
            Asked::Waits | Asked::Said(_) => Some("unproven"),
        }
    }
}

/// A look-up that waits for a domain.
struct Waiting {
    op: OpId,
    name: String,
    options: LookupOptions,
}

/// A name that the world is asked about, or will be once others are done.
struct Question {
    name: String,
    /// On whose behalf.
    source: Flow,
    since: Time,
    is_told: bool,
}

/// What domains said; nothing at a peer that asks none.
#[derive(Default)]
pub(crate) struct Domains(Option<Box<Known>>);

#[derive(Default)]
struct Known {
    /// By name, until when it holds; the one learnt last at the end.
    words: VecDeque<(String, Word, Time)>,
    /// The one wanted first in front. A name stands here once for each who wants it until the world is told.
    questions: Vec<Question>,
    waiting: VecDeque<Waiting>,
    /// When it was last logged that there are too many.
    warned: Option<Time>,
}

impl Domains {
    /// The next name that the world is to ask about: none while it asks about enough, for this one or for all.
    pub(crate) fn poll_wanted(&mut self) -> Option<String> {
        let questions = &mut self.0.as_mut()?.questions;
        let told = |source| questions.iter().filter(|q| q.is_told && q.source == source).count();
        if questions.iter().filter(|q| q.is_told).count() >= MAX_ASKED {
            return None;
        }
        let next = questions.iter().position(|q| !q.is_told && told(q.source) < MAX_ASKED_FOR_ONE)?;
        questions[next].is_told = true;
        let name = questions[next].name.clone();
        questions.retain(|q| q.is_told || q.name != name);
        Some(name)
    }

    fn word(&self, now: Time, name: &str) -> Option<Word> {
        let words = &self.0.as_ref()?.words;
        words.iter().find(|(known, _, until)| known == name && now < *until).map(|(_, word, _)| *word)
    }

    /// What is known of a name, or that the world is asked on behalf of somebody.
    fn ask(&mut self, now: Time, name: &str, source: Flow) -> Asked {
        if let Some(word) = self.word(now, name) {
            return Asked::Said(word);
        }
        let questions = &mut self.0.get_or_insert_default().questions;
        // Who was told and never answers is not waited for.
        questions.retain(|q| now < q.since + LOST);
        if questions.iter().any(|q| q.name == name && (q.is_told || q.source == source)) {
            return Asked::Waits;
        }
        let of_one = questions.iter().filter(|q| q.source == source).count();
        if of_one >= MAX_WANTED_BY_ONE || questions.len() >= MAX_WANTED {
            return Asked::Said(Word::Busy);
        }
        questions.push(Question { name: name.to_owned(), source, since: now, is_told: false });
        Asked::Waits
    }

    /// Why a name has waited in vain.
    pub(crate) fn silence_of(&self, name: &str) -> Word {
        let is_queued = |q: &Question| q.name == name && !q.is_told;
        let queued = self.0.as_ref().is_some_and(|known| known.questions.iter().any(is_queued));
        if queued { Word::Busy } else { Word::Silent }
    }

    /// Whether it is to be logged that there are too many: once a while.
    fn is_worth_a_warning(&mut self, now: Time) -> bool {
        let warned = &mut self.0.get_or_insert_default().warned;
        let is_news = warned.is_none_or(|before| now >= before + SHORTEST);
        if is_news {
            *warned = Some(now);
        }
        is_news
    }

    /// The world has said what it can of a name; `false` if it was not asked.
    fn learn(&mut self, now: Time, name: &str, word: Word, ttl: Duration) -> bool {
        let Some(known) = &mut self.0 else { return false };
        if !known.questions.iter().any(|q| q.is_told && q.name == name) {
            return false;
        }
        known.questions.retain(|q| q.name != name);
        known.words.retain(|(other, ..)| other != name);
        if known.words.len() >= MAX_WORDS {
            known.words.pop_front();
        }
        let lasts = match word {
            Word::Key(..) => ttl.clamp(SHORTEST, LONGEST),
            Word::Nobody | Word::Nothing => ttl.clamp(SHORTEST, LONGEST_WITHOUT),
            Word::Silent | Word::Busy | Word::NoServer => SILENCE,
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
        self.pins.hear_domain(name, word);
        self.save_pins();
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

    /// Asks the domain of a name on behalf of somebody, if it is to be asked.
    pub(crate) fn ask_domain(&mut self, now: Time, name: &str, source: Flow) -> Asked {
        if !self.is_for_its_domain(name) {
            return Asked::Not;
        }
        match domain::place_of_name(name).filter(|place| wire::dns::question(0, place).is_some()) {
            Some(_) => self.domains.ask(now, name, source),
            // It cannot say anything of a name that does not fit there.
            None => Asked::Said(Word::Nothing),
        }
    }

    fn is_for_its_domain(&self, name: &str) -> bool {
        // The overlay's own name is whatever its founder likes: it proves nothing where a proof is required.
        let ours = self.standing.as_ref().map_or(&self.config.overlay, |standing| &standing.options);
        let (ours, is_required) = (&ours.name, self.config.domain_proof == DomainProof::Required);
        self.config.domain_proof != DomainProof::Never
            && domain::domain_of(name).is_some_and(|domain| is_required || !domain.eq_ignore_ascii_case(ours))
            && self.names.authority_of(name).is_none()
            && self.proof_in(name).is_none()
    }

    /// What holds after this word of a name's domain: while it is silent what it said of a pinned name before.
    pub(crate) fn word_that_holds(&mut self, now: Time, name: &str, word: Word) -> Word {
        if word == Word::Busy && self.domains.is_worth_a_warning(now) {
            let message = format!("too many names of domains are asked about at once: {name} was not");
            self.log(Level::Warn, "names", message);
        }
        self.pins.said(name).filter(|_| word.is_silence()).unwrap_or(word)
    }

    /// Whether a name may be called after this word of its domain, and the key whose records count if only that one's do.
    pub(crate) fn judge_by_domain(&self, name: &str, word: Word) -> Result<Option<PublicKey>, Resolved> {
        let is_required = self.config.domain_proof == DomainProof::Required;
        let is_refused = match word {
            Word::Key(said, way) => match self.pins.owner(name).filter(|known| *known != said) {
                Some(known) => return Err(Resolved::KeyChanged([known, said], Some(way))),
                None => return Ok(Some(said)),
            },
            Word::Nobody => true,
            Word::Nothing | Word::Silent | Word::Busy | Word::NoServer => is_required,
        };
        if is_refused && !self.pins.is_confirmed(name) { Err(Resolved::NotOfDomain(word)) } else { Ok(None) }
    }

    /// Looks up a user by name, once its domain has said what it has to.
    pub(crate) fn look_up_asked(&mut self, now: Time, name: String, options: LookupOptions) -> OpId {
        let op = self.new_op();
        let waiting = Waiting { op, name: name.clone(), options };
        if self.ask_domain(now, &name, Flow::Local(0)) == Asked::Waits && self.domains.wait(waiting) {
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
        said.shown(user.keys.public())
    }

    /// What a domain said of a name that was looked up, as it is shown beside the key that was found.
    pub(crate) fn shown_of_domain(&self, now: Time, name: &str, found: PublicKey) -> Option<&'static str> {
        self.known_of_domain(now, name).shown(found)
    }

    /// Why no record of others counts under a name.
    pub(crate) fn named_elsewhere(&self, now: Time, name: &str) -> Option<String> {
        let ((key, _), domain) = self.known_of_domain(now, name).key().zip(domain::domain_of(name))?;
        Some(format!("{domain} names the key {}, of which no record stands there", short(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_for_many_names_keeps_nobody_else_from_asking() {
        let (mut domains, now) = (Domains::default(), Time::ZERO);
        let phone = |n: u16| Flow::Udp(([10, 0, 0, 1], n).into());
        let asks = |domains: &mut Domains, n: u16, name: String| domains.ask(now, &name, phone(n));
        let told = |domains: &mut Domains| std::iter::from_fn(|| domains.poll_wanted()).collect::<Vec<_>>();
        let names = |range: std::ops::Range<usize>| range.map(|n| format!("u{n}@hole.example"));
        let waiting = names(0..40).filter(|name| asks(&mut domains, 1, name.clone()) == Asked::Waits).count();
        assert_eq!(waiting, MAX_WANTED_BY_ONE);
        assert_eq!(asks(&mut domains, 1, "u40@hole.example".into()), Asked::Said(Word::Busy));
        assert_eq!(told(&mut domains), names(0..MAX_ASKED_FOR_ONE).collect::<Vec<_>>());
        // Also of a name that waits on the other's behalf.
        for name in ["alice@camp.example", "u9@hole.example"] {
            assert_eq!(asks(&mut domains, 2, name.into()), Asked::Waits);
            assert_eq!(told(&mut domains), [name]);
        }
        assert!(domains.learn(now, "u0@hole.example", Word::Silent, SILENCE));
        assert_eq!(told(&mut domains), ["u4@hole.example"], "one done, the next");
        let others = (3..40).flat_map(|phone| (0..4).map(move |n| (phone, format!("u{n}@p{phone}.example"))));
        let taken = others.filter(|(n, name)| asks(&mut domains, *n, name.clone()) == Asked::Waits).count();
        assert!(taken < MAX_WANTED && domains.0.as_ref().unwrap().questions.len() == MAX_WANTED);
        assert_eq!(told(&mut domains).len(), MAX_ASKED - 6);
        assert_eq!(domains.silence_of("u8@hole.example"), Word::Busy, "it was never asked");
        assert_eq!(domains.silence_of("u1@hole.example"), Word::Silent);
    }

    #[test]
    fn a_question_of_which_the_world_says_nothing_is_forgotten_and_makes_room() {
        let mut domains = Domains::default();
        let asks = |domains: &mut Domains, at: u64, name: &str| {
            domains.ask(Time::ZERO + Duration::from_secs(at), name, Flow::Local(0));
            domains.poll_wanted()
        };
        for n in 0..MAX_ASKED_FOR_ONE {
            assert!(asks(&mut domains, 0, &format!("u{n}@camp.example")).is_some());
        }
        assert_eq!(asks(&mut domains, 59, "alice@camp.example"), None);
        assert_eq!(asks(&mut domains, 60, "bob@camp.example").as_deref(), Some("alice@camp.example"));
    }
}
