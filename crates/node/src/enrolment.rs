//! Getting a name from its authority: asking, renewing at half-life, hearing what was taken back; and giving.
//!
//! An authority is a peer, and its key is the authority key: whoever has a link to it knows that, and hands
//! a code to nobody else. It is asked for a certificate when a user has none or half of it is over, again and
//! again, ever less often, until it answers; what one has goes on counting meanwhile. Its list of revoked keys
//! is a record like any other, which all peers look up now and then. So an authority that is down is missed by
//! newcomers first, and by the others days later.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::certificate::TOLERANCE;
use wire::document::Authority;
use wire::p2pp::{Builder, Code, Kind, Message, MessageType, Object, object};
use wire::{Certificate, KeyPair, NameRequest, PublicKey, Revocations, Time, UnixTime};

use crate::event::{Event, Level};
use crate::names::Names;
use crate::node::{Alarm, Node};
use crate::publish::data_place;
use crate::request::Purpose;
use crate::search::{Findings, For, LookupOptions, Want};
use crate::storage::Claim;

/// Pause after the first attempt that came to nothing, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3_600));

/// How often the lists of authorities are looked up. This, and half a minute, is how long a key may go on that
/// was revoked.
const LOOK_UP_LISTS: Duration = Duration::from_secs(900);

/// Who gives names: the part of an authority that knows whom it gave which.
pub trait Registrar: Send {
    /// Somebody whose request is authentic asks for a name, or for another certificate of it.
    ///
    /// # Errors
    /// A code and, in words for the person who asks, why not and what to do.
    fn enrol(
        &mut self,
        now: UnixTime,
        from: IpAddr,
        request: &NameRequest,
    ) -> Result<Certificate, (Code, String)>;
}

/// A user's dealings with the authority of its name.
#[derive(Default)]
struct Enrolment {
    /// The code that its owner was given.
    code: String,
    certificate: Option<Certificate>,
    /// A request is under way.
    asking: bool,
    failures: u32,
    next: Time,
    /// Why the last request came to nothing.
    problem: Option<String>,
}

/// The names of users served here, and what this peer gives itself.
#[derive(Default)]
pub(crate) struct Enrolments {
    users: BTreeMap<String, Enrolment>,
    registrar: Option<Box<dyn Registrar>>,
    /// When the lists of authorities are looked up next.
    lists_due: Time,
}

impl Enrolments {
    pub(crate) fn new(saved: &[Vec<u8>]) -> Self {
        let certificates = saved.iter().filter_map(|bytes| Certificate::parse(bytes).ok());
        let with =
            |c: Certificate| (c.aor.clone(), Enrolment { certificate: Some(c), ..Enrolment::default() });
        Enrolments { users: certificates.map(with).collect(), ..Enrolments::default() }
    }

    pub(crate) fn saved(&self) -> Vec<Vec<u8>> {
        self.users.values().filter_map(|e| e.certificate.as_ref()?.to_bytes().ok()).collect()
    }

    pub(crate) fn certificate(&self, aor: &str) -> Option<&Certificate> {
        self.users.get(aor)?.certificate.as_ref()
    }

    /// Why a name has no certificate, or no new one.
    pub(crate) fn problem(&self, aor: &str) -> Option<String> {
        self.users.get(aor)?.problem.clone()
    }
}

/// Where an authority publishes its list of revoked keys, as a value of its own.
pub fn revocations_key(authority: &PublicKey) -> String {
    format!("openvoip-revocations:{authority}")
}

/// Whether a certificate is one of this authority for this user, and counts now.
fn is_good(
    names: &Names,
    certificate: &Certificate,
    authority: &Authority,
    user: &KeyPair,
    now: UnixTime,
) -> bool {
    let overlay = names.rules.as_ref().map(|rules| rules.founder);
    Some(certificate.overlay) == overlay
        && certificate.user == user.public()
        && certificate.is_of(&authority.key, user.signatures())
        && certificate.check_time(now).is_ok()
}

impl Node {
    /// Asks the authority of a name that is served here for a certificate, now and with this code.
    pub fn enrol(&mut self, now: Time, aor: &str, code: &str) {
        let enrolment = self.enrolments.users.entry(aor.to_owned()).or_default();
        (enrolment.code, enrolment.next, enrolment.failures) = (code.to_owned(), now, 0);
        if self.is_online() {
            self.look_after_names(now);
        }
        self.drain(now);
    }

    /// Gives names from now on, as the authority whose key this peer has.
    pub fn register(&mut self, registrar: Box<dyn Registrar>) {
        self.enrolments.registrar = Some(registrar);
    }

    /// Publishes which keys lost their names, as the authority.
    pub fn publish_revocations(&mut self, now: Time, list: Revocations) {
        let key = revocations_key(&self.public_key());
        self.put(now, &key, &list.to_bytes(), None);
        self.take_revocations(now, list);
    }

    /// What the record of a user says of its name; `None` while it would count nowhere.
    pub(crate) fn claim_of(&self, now: Time, aor: &str) -> Option<Claim> {
        let user = self.identity.users.iter().find(|user| user.aor == aor)?;
        let Some(authority) = self.names.authority_of(aor) else {
            return Some(if self.names.must_be_said() { Claim::Name(aor.to_owned()) } else { Claim::None });
        };
        let certificate = self.enrolments.certificate(aor)?;
        let counts = is_good(&self.names, certificate, authority, &user.keys, self.unix(now));
        counts.then(|| Claim::Certificate(certificate.clone()))
    }

    // ---- as who wants a name -------------------------------------------------------------------

    /// Asks for what is missing or half over, and for what was taken back.
    pub(crate) fn look_after_names(&mut self, now: Time) {
        if !self.names.must_be_said() || !self.is_online() {
            return;
        }
        if self.enrolments.lists_due <= now {
            self.enrolments.lists_due = now + self.jitter(LOOK_UP_LISTS, 0.75, 1.25);
            self.look_up_lists(now);
        }
        let users: Vec<String> = self.identity.users.iter().map(|user| user.aor.clone()).collect();
        let mut wake = self.enrolments.lists_due;
        for aor in users {
            if self.names.authority_of(&aor).is_some() {
                wake = wake.min(self.ask_for_name(now, &aor));
            }
        }
        self.timers.set(Alarm::Names, wake.max(now + Duration::from_secs(1)));
    }

    /// Asks the authority of a name if it is time; when it is next.
    fn ask_for_name(&mut self, now: Time, aor: &str) -> Time {
        let unix = self.unix(now);
        let has = matches!(self.claim_of(now, aor), Some(Claim::Certificate(_)));
        let enrolment = self.enrolments.users.entry(aor.to_owned()).or_default();
        let half = enrolment.certificate.as_ref().filter(|_| has).map_or(UnixTime(0), Certificate::half_life);
        let due = enrolment.next.max(now + Duration::from_secs(half.0.saturating_sub(unix.0)));
        if enrolment.asking || due > now {
            return due.max(now + RETRY.0);
        }
        let code = enrolment.code.clone();
        let user = self.identity.users.iter().find(|user| user.aor == aor).map(|user| user.keys.clone());
        let rules = self.names.rules.as_ref().zip(self.names.authority_of(aor).cloned());
        let (Some(user), Some((rules, authority))) = (user, rules) else { return now + RETRY.1 };
        let request = NameRequest::sign(&user, (rules.founder, authority.key), aor, unix, &code);
        match request.and_then(|request| request.to_bytes()) {
            Ok(bytes) => {
                let to = (authority.address, Some(authority.key.node_id(self.hash())));
                let objects = [Object::SigningRequest(&bytes)];
                self.enrolments.users.entry(aor.to_owned()).or_default().asking = true;
                self.ask(now, to, MessageType::Enroll, &objects, Purpose::Enrol(aor.into()));
            }
            Err(flaw) => self.name_not_given(now, aor, &flaw.to_string()),
        }
        now + RETRY.0
    }

    /// The authority gave a certificate, or says why it does not.
    pub(crate) fn handle_enrol_answer(&mut self, now: Time, aor: &str, message: &Message<'_>) {
        let certificate = message.find(object::CERTIFICATE, |o| match o {
            Object::Certificate(bytes) => Certificate::parse(bytes).ok(),
            _ => None,
        });
        let unix = self.unix(now);
        let user = self.identity.users.iter().find(|user| user.aor == aor);
        let given = certificate.filter(|c| {
            let authority = self.names.authority_of(aor).zip(user);
            let good = authority.is_some_and(|(a, user)| is_good(&self.names, c, a, &user.keys, unix));
            message.header.code.is_ok() && c.aor == aor && good
        });
        let Some(certificate) = given else {
            let why = match message.header.code.is_ok() {
                true => "the answer has no certificate of the authority that counts now".to_owned(),
                false => message.refusal().to_owned(),
            };
            return self.name_not_given(now, aor, &why);
        };
        let until = certificate.not_after.0;
        let enrolment = self.enrolments.users.entry(aor.to_owned()).or_default();
        // Not at once again, whatever the two clocks say of its half-life.
        let life = until.saturating_sub(certificate.not_before.0);
        let next = now + Duration::from_secs(life / 4);
        *enrolment = Enrolment { certificate: Some(certificate), next, ..Enrolment::default() };
        self.log(Level::Info, "names", format!("{aor} is certified until {until}, in Unix seconds"));
        self.emit(Event::Save);
        self.republish_user(now, aor);
        self.look_after_names(now);
    }

    /// A request for a name came to nothing: it is repeated, ever less often.
    pub(crate) fn name_not_given(&mut self, now: Time, aor: &str, why: &str) {
        let enrolment = self.enrolments.users.entry(aor.to_owned()).or_default();
        let pause = (RETRY.0 * (1 << enrolment.failures.min(9))).min(RETRY.1);
        enrolment.failures += 1;
        enrolment.asking = false;
        let is_news = enrolment.problem.as_deref() != Some(why);
        enrolment.problem = Some(why.to_owned());
        let pause = self.jitter(pause, 0.75, 1.25);
        self.enrolments.users.entry(aor.to_owned()).or_default().next = now + pause;
        if is_news {
            let holds = match self.claim_of(now, aor) {
                Some(_) => "the certificate held goes on counting until it ends",
                None => "nobody can call it before; a new code is tried with: openvoip up --enrol CODE",
            };
            self.log(Level::Warn, "names", format!("no certificate for {aor}: {why}; {holds}"));
        }
        self.timers.set_by(Alarm::Names, now + pause);
    }

    // ---- what was taken back -------------------------------------------------------------------

    fn look_up_lists(&mut self, now: Time) {
        let authorities: Vec<PublicKey> = self.names.authorities().map(|a| a.key).collect();
        for authority in authorities {
            let place = data_place(self.hash(), &revocations_key(&authority));
            let want = Want::Object(Kind::DATA, Some(authority));
            self.search(now, place.0, want, For::Revocations, LookupOptions::default());
        }
    }

    pub(crate) fn handle_revocations_found(&mut self, now: Time, findings: &Findings) {
        for (record, _) in &findings.records {
            if let Ok(list) = Revocations::parse(&record.value) {
                self.take_revocations(now, list);
            }
        }
    }

    // ---- as the authority ----------------------------------------------------------------------

    /// Somebody asks for a name.
    pub(crate) fn answer_enroll(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        if self.enrolments.registrar.is_none() {
            return self.refuse(now, remote, message, Code::NOT_IMPLEMENTED, "this peer gives no names");
        }
        // How many are given is counted by address.
        if !self.link.proofs.is_proven(now, remote) {
            return self.demand_proof(now, remote, message);
        }
        match self.give_name(now, remote, message) {
            Ok(certificate) => {
                let builder = Builder::new(&self.answer_header(message, Code::OK));
                self.respond(now, remote, message, builder.with(&Object::Certificate(&certificate)));
            }
            Err((code, reason)) => {
                self.log(Level::Info, "names", format!("{remote} asked for a name: {reason}"));
                self.refuse(now, remote, message, code, &reason);
            }
        }
    }

    fn give_name(
        &mut self,
        now: Time,
        remote: SocketAddr,
        message: &Message<'_>,
    ) -> Result<Vec<u8>, (Code, String)> {
        let refused = |code, reason: &str| Err((code, reason.to_owned()));
        let request = message.find(object::SIGNING_REQUEST, |o| match o {
            Object::SigningRequest(bytes) => Some(NameRequest::parse(bytes)),
            _ => None,
        });
        let Some(Ok(request)) = request else {
            return refused(Code::BAD_REQUEST, "this is no request for a name; update openvoip");
        };
        if !request.is_authentic(self.identity.peer.signatures()) {
            return refused(Code::FORBIDDEN, "the request is not signed by the key that it names");
        }
        let own = self.public_key();
        let is_ours = |a: &Authority| a.key == own && request.authority == own;
        let overlay = self.names.rules.as_ref().map(|rules| rules.founder);
        if overlay != Some(request.overlay) || !self.names.authority_of(&request.aor).is_some_and(is_ours) {
            return refused(
                Code::FORBIDDEN,
                "this authority does not give that name; take the latest document",
            );
        }
        let unix = self.unix(now);
        if request.time.0.abs_diff(unix.0) > TOLERANCE {
            return refused(Code::FORBIDDEN, "the clocks differ by more than two hours; set yours");
        }
        let Some(registrar) = &mut self.enrolments.registrar else {
            return refused(Code::NOT_IMPLEMENTED, "this peer gives no names");
        };
        let certificate = registrar.enrol(unix, remote.ip(), &request)?;
        certificate.to_bytes().map_err(|flaw| (Code::BAD_REQUEST, flaw.to_string()))
    }
}
