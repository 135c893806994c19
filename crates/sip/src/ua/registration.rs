//! Being reachable (RFC 3261 section 10.2): one binding, renewed at half its time.

use std::time::Duration;

use wire::Time;
use wire::sip::{Message, Method, NameAddr, Uri};

use super::{Asked, UaEvent, UserAgent};
use crate::transaction::ClientId;

/// How soon a registrar that did not answer, or was in trouble, is asked again.
const RETRY: Duration = Duration::from_secs(30);

/// The longest registration we let a registrar talk us into.
const MAX_EXPIRES: u32 = 86_400;

/// What we know of our own registration.
#[derive(Debug)]
pub(super) struct Registration {
    call_id: String,
    cseq: u32,
    expires: u32,
    /// The newest REGISTER without an answer.
    client: Option<ClientId>,
    wanted: bool,
    renew_at: Option<Time>,
}

impl Registration {
    pub(super) fn new(call_id: String, expires: u32) -> Self {
        Registration { call_id, cseq: 0, expires, client: None, wanted: false, renew_at: None }
    }

    /// When the next REGISTER is due.
    pub(super) fn due(&self) -> Option<Time> {
        self.renew_at
    }

    /// The REGISTER was sent again with credentials.
    pub(super) fn asked_again(&mut self, client: ClientId, cseq: u32) {
        self.client = Some(client);
        self.cseq = self.cseq.max(cseq);
    }
}

impl UserAgent {
    /// Registers, and renews the registration at half its time. Asked again while a REGISTER is
    /// under way, it waits for that one's answer.
    pub fn register(&mut self, now: Time) {
        let under_way = self.registration.wanted && self.registration.client.is_some();
        self.registration.wanted = true;
        self.registration.renew_at = None;
        if !under_way {
            self.send_register(now, self.registration.expires);
        }
    }

    /// Takes the registration back.
    pub fn unregister(&mut self, now: Time) {
        self.registration.wanted = false;
        self.registration.renew_at = None;
        self.send_register(now, 0);
    }

    fn send_register(&mut self, now: Time, expires: u32) {
        self.registration.cseq = self.registration.cseq.saturating_add(1);
        let aor = self.own_address();
        let tag = self.transactions.token();
        let request = Message::request(Method::Register, format!("sip:{}", self.config.domain))
            .with("Max-Forwards", "70")
            .with("From", aor.clone().with_tag(&tag).to_string())
            .with("To", aor.to_string())
            .with("Call-ID", &self.registration.call_id)
            .with("CSeq", format!("{} REGISTER", self.registration.cseq))
            .with("Contact", self.contact())
            .with("Expires", expires.to_string());
        let client = self.ask(now, Asked::Register, request);
        self.registration.client = Some(client);
    }

    /// An answer to any but the newest REGISTER says nothing about now.
    fn is_newest(&mut self, id: ClientId) -> bool {
        let newest = self.registration.client == Some(id);
        if newest {
            self.registration.client = None;
        }
        newest
    }

    pub(super) fn registered(&mut self, now: Time, id: ClientId, response: &Message) {
        if !self.is_newest(id) {
            return;
        }
        if !self.registration.wanted {
            return self.tell(UaEvent::Unregistered);
        }
        let granted = self.granted(response).clamp(2, MAX_EXPIRES);
        self.registration.renew_at = Some(now + Duration::from_secs(u64::from(granted)) / 2);
        self.tell(UaEvent::Registered);
    }

    /// How long the registrar will remember us: it may shorten what we asked for.
    fn granted(&self, response: &Message) -> u32 {
        let same = |uri: &str| {
            let (Ok(a), Ok(b)) = (Uri::parse(uri), Uri::parse(self.contact().trim_matches(['<', '>'])))
            else {
                return false;
            };
            (a.user, a.host, a.port) == (b.user, b.host, b.port)
        };
        let own = response.list("Contact").filter_map(NameAddr::parse).find(|c| same(&c.uri));
        let of_contact = own.and_then(|c| c.params.get("expires").and_then(|e| e.parse().ok()));
        let of_header = || response.header("Expires").and_then(|e| e.parse().ok());
        of_contact.or_else(of_header).unwrap_or(self.registration.expires)
    }

    /// 423: the registrar wants a longer time than ours.
    pub(super) fn registered_too_briefly(&mut self, now: Time, id: ClientId, response: &Message) -> bool {
        let least = response.header("Min-Expires").and_then(|v| v.parse().ok()).unwrap_or(0);
        let longer = least > self.registration.expires && least <= MAX_EXPIRES;
        if !longer || !self.registration.wanted || self.registration.client != Some(id) {
            return false;
        }
        self.questions.remove(&id);
        self.registration.expires = least;
        self.send_register(now, least);
        true
    }

    pub(super) fn register_failed(&mut self, now: Time, id: ClientId, status: u16) {
        if !self.is_newest(id) {
            return;
        }
        // Trouble passes; a refusal does not, and asking again would only lock the user out.
        let trouble = matches!(status, 408 | 480 | 500 | 502..=504);
        self.registration.renew_at = (trouble && self.registration.wanted).then_some(now + RETRY);
        self.tell(UaEvent::RegisterFailed { status });
    }
}
