//! REGISTER, and who may ask for anything at all.

use std::time::Duration;

use wire::Time;
use wire::sip::digest::Credentials;
use wire::sip::{Message, Method, NameAddr, Uri};
use wire::strict::MAX_NAME;

use super::{Agent, Alarm};
use crate::address::split;
use crate::auth::Verdict;
use crate::event::Event;
use crate::flow::Flow;
use crate::lockout::LockOut;
use crate::registrar::{self, Binding, MAX_BINDINGS, MAX_EXPIRES, MIN_EXPIRES, NAT_EXPIRES};
use crate::transaction::ServerId;

/// Who a phone's request comes from, or what to answer instead.
pub(super) enum Proof {
    Of(String),
    Answer(Box<Message>),
}

impl Agent {
    /// Who sends this request: a registered phone by its address, any phone by its credentials, a
    /// peer or a local user agent by its word.
    pub(super) fn identify(&mut self, now: Time, flow: Flow, request: &Message) -> Proof {
        let claimed = request.from().and_then(|f| self.addresses.aor(&f.uri)).unwrap_or_default();
        if !flow.is_phone() {
            return Proof::Of(claimed);
        }
        let mut here: Vec<String> = self.registrar.users_at(flow).map(str::to_owned).collect();
        if !here.is_empty() {
            let name = split(&claimed).0;
            let meant = here.iter().position(|u| split(u).0 == name).unwrap_or(0);
            return Proof::Of(here.swap_remove(meant));
        }
        self.prove(now, flow, request, "Proxy-Authorization")
    }

    /// Judges the credentials in `header`; challenges where there are none.
    fn prove(&mut self, now: Time, flow: Flow, request: &Message, header: &str) -> Proof {
        let Some(remote) = flow.remote() else {
            return Proof::Of(String::new());
        };
        let (status, ask) = match header {
            "Authorization" => (401, "WWW-Authenticate"),
            _ => (407, "Proxy-Authenticate"),
        };
        let realm = self.addresses.domain().to_owned();
        let answer = |guard: &mut crate::auth::Guard, stale: bool| {
            let challenge = guard.challenge(now, remote.ip(), &realm, stale);
            let reply = Message::reply_to(request, status, "");
            Proof::Answer(Box::new(reply.with(ask, challenge.to_value())))
        };
        // A phone may carry credentials for several realms; ours is the last nonce we gave.
        let found = request
            .headers_named(header)
            .filter_map(Credentials::parse)
            .find(|c| c.realm.eq_ignore_ascii_case(&realm) || request.headers_named(header).count() == 1);
        let Some(credentials) = found else {
            return answer(&mut self.guard, false);
        };
        let user = self.user_named(&credentials.username);
        let name = user.clone().unwrap_or_else(|| self.nobody_named(&credentials.username));
        let password = user.as_deref().and_then(|u| self.registrar.password(u));
        let method = request.method().map_or("", Method::as_str);
        let verdict = self.guard.judge(now, remote.ip(), &name, password, &credentials, method);
        match verdict {
            Verdict::Proven => {
                self.door.proven(now, remote.ip());
                Proof::Of(name)
            }
            Verdict::Stale => answer(&mut self.guard, true),
            Verdict::Locked(lock) => Proof::Answer(Box::new(locked_out(request, &lock))),
            Verdict::Wrong(locked) => {
                let reply = match &locked {
                    Some(lock) => Proof::Answer(Box::new(locked_out(request, lock))),
                    None => answer(&mut self.guard, false),
                };
                let user_agent = request.header("User-Agent").unwrap_or("").to_owned();
                self.events.push_back(Event::WrongPassword { user: name, remote, user_agent, locked });
                reply
            }
        }
    }

    /// The user that an authentication name means: `bob` or `bob@dom`.
    fn user_named(&self, name: &str) -> Option<String> {
        let name = name.to_ascii_lowercase();
        let aor = match name.contains('@') {
            true => name,
            false => format!("{name}@{}", self.addresses.domain()),
        };
        self.registrar.resolve(&aor)
    }

    /// How one who is no user of ours is counted: by one name, however they write it, as users are. The name may be
    /// as long as a message and is kept.
    fn nobody_named(&self, name: &str) -> String {
        let name: String = name.to_ascii_lowercase().chars().take(MAX_NAME).collect();
        format!("{}@{}", split(&name).0, self.addresses.domain())
    }

    pub(super) fn register(&mut self, now: Time, flow: Flow, id: ServerId, request: Message) {
        let Some(remote) = flow.remote() else {
            return self.not_allowed(now, id, &request);
        };
        self.addresses.learn(&flow, request.uri());
        let user = match self.prove(now, flow, &request, "Authorization") {
            Proof::Of(user) => user,
            Proof::Answer(reply) => return self.reply(now, id, *reply),
        };
        let wanted = request.to().and_then(|t| self.addresses.aor(&t.uri));
        if wanted.and_then(|w| self.registrar.resolve(&w)).as_deref() != Some(&user) {
            return self.refuse(now, id, &request, 403, "Forbidden: not your address");
        }
        let result = if request.header("Contact") == Some("*") {
            self.unregister_all(&user, &request)
        } else {
            self.update_bindings(now, flow, remote, &user, &request)
        };
        if let Err((status, reason)) = result {
            let mut reply = Message::reply_to(&request, status, reason);
            if status == 423 {
                reply.push("Min-Expires", MIN_EXPIRES.to_string());
            }
            return self.reply(now, id, reply);
        }
        let mut reply = Message::reply_to(&request, 200, "");
        for binding in self.registrar.bindings(&user) {
            let mut contact = binding.contact.clone();
            contact.params.set("expires", Some(&registrar::seconds_left(now, binding).to_string()));
            reply.push("Contact", contact.to_string());
        }
        self.reply(now, id, reply);
    }

    fn unregister_all(&mut self, user: &str, request: &Message) -> Result<(), (u16, &'static str)> {
        if request.header("Expires").map(str::trim) != Some("0") || request.list("Contact").count() > 1 {
            return Err((400, "Contact * needs Expires 0"));
        }
        let gone = self.registrar.unbind(user, |_| true);
        self.unregistered(user, gone, false);
        Ok(())
    }

    fn update_bindings(
        &mut self,
        now: Time,
        flow: Flow,
        remote: std::net::SocketAddr,
        user: &str,
        request: &Message,
    ) -> Result<(), (u16, &'static str)> {
        let contacts: Option<Vec<NameAddr>> = request.list("Contact").map(NameAddr::parse).collect();
        let contacts = contacts.ok_or((400, "Malformed Contact"))?;
        if contacts.len() > MAX_BINDINGS {
            return Err((400, "Too many Contacts"));
        }
        let general = expiry(request.header("Expires")).unwrap_or(MAX_EXPIRES);
        let natted = request.via().is_some_and(|v| {
            v.params.get("received").is_some_and(|r| !v.host.trim_matches(['[', ']']).eq(r))
        });
        let longest = if natted { NAT_EXPIRES } else { MAX_EXPIRES };
        let wish = |c: &NameAddr| match c.params.get("expires") {
            Some(own) => expiry(Some(own)).unwrap_or(MAX_EXPIRES),
            None => general,
        };
        // All or nothing (RFC 3261 section 10.3): judge every Contact before changing one.
        for contact in &contacts {
            let uri = Uri::parse(&contact.uri).map_err(|_| (400, "Malformed Contact"))?;
            if !matches!(uri.scheme.as_str(), "sip" | "sips") || contact.uri == "*" {
                return Err((400, "Contact is not a SIP URI"));
            }
            if (1..MIN_EXPIRES).contains(&wish(contact)) {
                return Err((423, ""));
            }
        }
        for mut contact in contacts {
            let seconds = wish(&contact).min(longest);
            contact.params.remove("expires");
            if seconds == 0 {
                let gone = self.registrar.unbind_contact(user, &contact);
                self.unregistered(user, gone, false);
                continue;
            }
            let uri = contact.uri.clone();
            let binding = Binding {
                id: 0,
                flow: flow_to(flow, remote, &contact),
                source: flow,
                contact,
                call_id: request.call_id().to_owned(),
                cseq: request.cseq().map_or(0, |c| c.number),
                expires_at: now + Duration::from_secs(seconds.into()),
                user_agent: request.header("User-Agent").unwrap_or("").to_owned(),
            };
            let (to, user_agent) = (binding.flow, binding.user_agent.clone());
            let expires_at = binding.expires_at;
            let bound = self.registrar.bind(user, binding);
            let (new, id, evicted) = bound.map_err(|_| (500, "REGISTER out of order"))?;
            self.unregistered(user, evicted.into_iter().collect(), true);
            self.alarms.set(Alarm::Binding(id), expires_at);
            self.events.push_back(Event::Registered {
                user: user.to_owned(),
                contact: uri,
                flow: to,
                user_agent,
                expires: seconds,
                new,
            });
        }
        Ok(())
    }

    pub(super) fn unregistered(&mut self, user: &str, gone: Vec<Binding>, lost: bool) {
        for binding in gone {
            self.alarms.cancel(Alarm::Binding(binding.id));
            let (user, contact) = (user.to_owned(), binding.contact.uri);
            self.events.push_back(Event::Unregistered { user, contact, lost });
        }
    }

    /// A registration ran out.
    pub(super) fn binding_expired(&mut self, id: u64) {
        if let Some(user) = self.registrar.owner(id) {
            let gone = self.registrar.unbind(&user, |b| b.id == id);
            self.unregistered(&user, gone, true);
        }
    }

    /// The connection that phones registered over is gone, and with it the way to them.
    pub(super) fn drop_bindings_at(&mut self, flow: Flow) {
        let users: Vec<String> = self.registrar.users_at(flow).map(str::to_owned).collect();
        for user in users {
            let gone = self.registrar.unbind(&user, |b| b.source == flow);
            self.unregistered(&user, gone, true);
        }
    }
}

/// An expiry as written; `None` for nonsense, which stands for the default (RFC 3261 section
/// 20.19). What exceeds 32 bits is as good as for ever.
fn expiry(text: Option<&str>) -> Option<u32> {
    let text = text?.trim();
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}

/// Where to send requests for a Contact. Behind a NAT only the address it registered from works;
/// without one, the Contact says it itself (some desk phones send from another port than they
/// listen at).
fn flow_to(flow: Flow, remote: std::net::SocketAddr, contact: &NameAddr) -> Flow {
    let Flow::Udp(_) = flow else { return flow };
    let Ok(uri) = Uri::parse(&contact.uri) else {
        return flow;
    };
    match uri.host.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
        Ok(ip) if ip == remote.ip() => Flow::Udp((ip, uri.port.unwrap_or(5060)).into()),
        _ => flow,
    }
}

fn locked_out(request: &Message, lock: &LockOut) -> Message {
    let seconds = lock.seconds;
    let hint = format!("399 openvoip \"Wrong password too often, try again in {seconds} s\"");
    Message::reply_to(request, 403, "").with("Retry-After", seconds.to_string()).with("Warning", hint)
}
