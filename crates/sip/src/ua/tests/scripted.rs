//! One user agent against answers and requests written out by hand: registrars, proxies, strangers.

use super::*;

struct Script {
    ua: UserAgent,
    now: Time,
}

impl Script {
    fn new() -> Self {
        Script { ua: UserAgent::new(config(A), Seed::from_number(5)), now: Time::from_secs(1) }
    }

    fn flow() -> Flow {
        Flow::Udp(address(B))
    }

    /// The next message it sends.
    fn next(&mut self) -> Message {
        let (_, bytes) = self.ua.poll_transmit().expect("a message");
        sip::parse(&bytes).expect("a well-formed message")
    }

    fn take(&mut self, message: &Message) {
        self.ua.handle_message(self.now, Self::flow(), &message.to_bytes());
    }

    fn reply(&mut self, request: &Message, status: u16, headers: &[(&str, &str)]) {
        let mut reply = Message::reply_to(request, status, "");
        reply.set_to_tag("theirs");
        headers.iter().for_each(|(name, value)| reply.push(name, value));
        self.take(&reply);
    }

    fn told(&mut self) -> Vec<UaEvent> {
        std::iter::from_fn(|| self.ua.poll_event()).collect()
    }

    /// Sends a request from outside any call; what it answers.
    fn request(&mut self, method: &str, headers: &[(&str, &str)]) -> Message {
        let mut request = Message::request(Method::parse(method), "sip:alice@192.0.2.1");
        let branch = self.ua.transactions.token();
        request.push("Via", format!("SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK{branch}"));
        request.push("From", "<sip:bob@example.org>;tag=b");
        request.push("To", "<sip:alice@example.org>");
        request.push("Call-ID", branch);
        request.push("CSeq", format!("1 {method}"));
        request.push("Max-Forwards", "70");
        request.push("Contact", "<sip:bob@192.0.2.2>");
        headers.iter().for_each(|(name, value)| request.set(name, value));
        self.take(&request);
        self.next()
    }
}

const CHALLENGE: &str = "Digest realm=\"example.org\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"";

fn proves(request: &Message, name: &str) -> bool {
    let credentials = request.header(name).and_then(wire::sip::digest::Credentials::parse);
    let method = request.method().map_or("", |m| m.as_str());
    credentials.is_some_and(|c| c.username == "alice" && c.uri == request.uri() && c.proves("secret", method))
}

#[test]
fn a_registration_answers_the_challenge_and_is_renewed_at_half_its_granted_time() {
    let mut s = Script::new();
    s.ua.register(s.now);
    let first = s.next();
    assert_eq!((first.uri(), first.header("Expires")), ("sip:example.org", Some("3600")));
    s.reply(&first, 401, &[("WWW-Authenticate", CHALLENGE)]);
    let second = s.next();
    assert!(proves(&second, "Authorization"));
    assert_eq!(second.call_id(), first.call_id());
    assert_eq!(second.cseq().unwrap().number, first.cseq().unwrap().number + 1);
    let contact =
        format!("{};expires=120, <sip:other@192.0.2.9>;expires=9", second.header("Contact").unwrap());
    s.reply(&second, 200, &[("Contact", &contact)]);
    assert_eq!(s.told(), [UaEvent::Registered]);
    s.ua.handle_timeout(s.now + Duration::from_secs(59));
    assert_eq!(s.ua.poll_transmit(), None);
    s.now += Duration::from_secs(60);
    s.ua.handle_timeout(s.now);
    assert!(s.next().cseq().unwrap().number > second.cseq().unwrap().number);
    // While that one is under way, another would only get in its way.
    s.ua.register(s.now);
    assert_eq!(s.ua.poll_transmit(), None);
}

#[test]
fn a_wrong_password_is_told_once_and_not_tried_again() {
    let mut s = Script::new();
    s.ua.register(s.now);
    for _ in 0..2 {
        let request = s.next();
        s.reply(&request, 401, &[("WWW-Authenticate", CHALLENGE)]);
    }
    assert_eq!(s.told(), [UaEvent::RegisterFailed { status: 401 }]);
    s.ua.handle_timeout(s.now + Duration::from_secs(10_000));
    assert_eq!(s.ua.poll_transmit(), None);
}

#[test]
fn a_stale_nonce_is_no_wrong_password() {
    let mut s = Script::new();
    s.ua.register(s.now);
    for n in 0..=MAX_CHALLENGES {
        let request = s.next();
        assert_eq!(request.header("Authorization").is_some(), n > 0);
        s.reply(&request, 401, &[("WWW-Authenticate", &format!("{CHALLENGE}, stale=true"))]);
    }
    assert_eq!(s.told(), [UaEvent::RegisterFailed { status: 401 }], "but there is an end to it");
}

#[test]
fn a_registrar_that_wants_a_longer_time_gets_it() {
    let mut s = Script::new();
    s.ua.config.expires = 60;
    s.ua.registration = Registration::new("c".into(), 60);
    s.ua.register(s.now);
    let request = s.next();
    s.reply(&request, 423, &[("Min-Expires", "300")]);
    let request = s.next();
    assert_eq!(request.header("Expires"), Some("300"));
    s.reply(&request, 200, &[]);
    assert_eq!(s.told(), [UaEvent::Registered]);
    assert_eq!(s.ua.registration.due(), Some(s.now + Duration::from_secs(150)));
}

#[test]
fn a_silent_registrar_is_asked_again_later() {
    let mut s = Script::new();
    s.ua.register(s.now);
    while let Some((at, _)) = s.ua.poll_timeout().filter(|(at, _)| *at < Time::from_secs(40)) {
        s.ua.handle_timeout(at);
    }
    assert_eq!(s.told(), [UaEvent::RegisterFailed { status: 408 }]);
    let (at, why) = s.ua.poll_timeout().unwrap();
    assert_eq!((at, why), (Time::from_secs(33 + 30), "registration"));
    while s.ua.poll_transmit().is_some() {}
    s.ua.handle_timeout(at);
    let request = s.next();
    s.now = at;
    s.reply(&request, 200, &[]);
    s.ua.unregister(s.now);
    let request = s.next();
    assert_eq!(request.header("Expires"), Some("0"));
    s.reply(&request, 200, &[]);
    assert_eq!(s.told(), [UaEvent::Registered, UaEvent::Unregistered]);
    assert_eq!(s.ua.registration.due(), None);
}

#[test]
fn a_challenged_call_goes_again_and_its_ack_carries_the_credentials_too() {
    let mut s = Script::new();
    let handle = s.ua.invite(s.now, "bob", sound(A));
    let first = s.next();
    s.reply(&first, 407, &[("Proxy-Authenticate", CHALLENGE)]);
    assert!(s.next().is(&Method::Ack));
    let second = s.next();
    assert!(second.is(&Method::Invite) && proves(&second, "Proxy-Authorization"));
    assert_eq!((second.call_id(), second.from_tag()), (first.call_id(), first.from_tag()));
    assert_eq!(second.body, first.body);
    let route = [("Record-Route", "<sip:p2@x;lr>"), ("Record-Route", "<sip:p1@x;lr>")];
    let contact = ("Contact", "<sip:bob@192.0.2.2:5999>");
    s.reply(&second, 200, &[route[0], route[1], contact]);
    let ack = s.next();
    assert_eq!(ack.cseq().unwrap().number, second.cseq().unwrap().number);
    assert_eq!(ack.header("Proxy-Authorization"), second.header("Proxy-Authorization"));
    assert_eq!(s.told(), [UaEvent::Answered { handle, sdp: Vec::new() }]);
    s.ua.hang_up(s.now, handle);
    let bye = s.next();
    assert_eq!(bye.uri(), "sip:bob@192.0.2.2:5999");
    assert_eq!(bye.headers_named("Route").collect::<Vec<_>>(), ["<sip:p1@x;lr>", "<sip:p2@x;lr>"]);
    assert_eq!(bye.to_tag().as_deref(), Some("theirs"));
    assert!(bye.cseq().unwrap().number > second.cseq().unwrap().number);
}

#[test]
fn a_challenge_that_crosses_the_cancel_ends_the_call() {
    let mut s = Script::new();
    let handle = s.ua.invite(s.now, "bob", sound(A));
    let invite = s.next();
    s.reply(&invite, 180, &[]);
    s.ua.hang_up(s.now, handle);
    assert!(s.next().is(&Method::Cancel));
    s.reply(&invite, 407, &[("Proxy-Authenticate", CHALLENGE)]);
    assert!(s.next().is(&Method::Ack));
    assert_eq!(s.ua.poll_transmit(), None, "nothing is asked again");
    let ringing = UaEvent::Ringing { handle, status: 180, sdp: None };
    assert_eq!(s.told(), [ringing, failed(handle, 487, "Request Terminated")]);
}

#[test]
fn a_second_phone_that_answers_is_acknowledged_and_ended() {
    let mut s = Script::new();
    s.ua.invite(s.now, "bob", sound(A));
    let invite = s.next();
    s.reply(&invite, 200, &[("Contact", "<sip:one@192.0.2.2>")]);
    assert!(s.next().is(&Method::Ack));
    for n in 0..20 {
        let mut fork = Message::reply_to(&invite, 200, "").with("Contact", "<sip:two@192.0.2.2>");
        fork.set_to_tag(&format!("fork{n}"));
        s.take(&fork);
        if n + 1 < MAX_FORKS {
            assert!(s.next().is(&Method::Ack));
            let bye = s.next();
            assert!(bye.is(&Method::Bye) && bye.uri() == "sip:two@192.0.2.2");
        }
        s.take(&fork);
        assert_eq!(s.ua.poll_transmit().is_some(), n + 1 < MAX_FORKS, "acknowledged again, ended once");
        assert_eq!(s.ua.poll_transmit(), None);
    }
    assert_eq!(s.told().len(), 1);
}

#[test]
fn what_is_not_for_us_is_refused_with_the_code_it_deserves() {
    let mut s = Script::new();
    let options = s.request("OPTIONS", &[]);
    assert_eq!((options.status(), options.to_tag().is_some()), (200, true));
    assert!(options.lists("Allow", "INVITE"));
    for (method, headers, status) in [
        ("SUBSCRIBE", &[][..], 405),
        ("JUMP", &[], 501),
        ("BYE", &[], 481),
        ("INFO", &[("To", "<sip:alice@example.org>;tag=unknown")], 481),
        ("MESSAGE", &[("To", "<sip:alice@example.org>;tag=unknown")], 481),
        ("REFER", &[("Refer-To", "<sip:c@d>")], 403),
        ("INVITE", &[("Require", "100rel")], 420),
        ("INVITE", &[("Replaces", "x;to-tag=1;from-tag=2")], 481),
    ] {
        assert_eq!(s.request(method, headers).status(), status, "{method} {headers:?}");
    }
    assert_eq!((s.told(), s.ua.calls()), (Vec::new(), 0));
}

#[test]
fn a_caller_that_requires_a_session_timer_is_to_refresh_it_himself() {
    let mut s = Script::new();
    let mut request = Message::request(Method::Invite, "sip:alice@192.0.2.1");
    request.push("Via", "SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKt");
    for (name, value) in [
        ("From", "<sip:bob@example.org>;tag=b"),
        ("To", "<sip:alice@example.org>"),
        ("Call-ID", "t"),
        ("CSeq", "1 INVITE"),
        ("Max-Forwards", "70"),
        ("Contact", "<sip:bob@192.0.2.2>"),
        ("Require", "timer"),
        ("Session-Expires", "1800"),
    ] {
        request.push(name, value);
    }
    s.take(&request.with_body("application/sdp", sound(B)));
    let [UaEvent::Incoming { handle, .. }] = s.told()[..] else { panic!() };
    s.ua.answer(s.now, handle, sound(A));
    let answer = s.next();
    assert_eq!(answer.header("Session-Expires"), Some("1800;refresher=uac"));
    let mut update = Message::request(Method::Update, "sip:alice@192.0.2.1");
    update.push("Via", "SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKu");
    for (name, value) in [
        ("From", "<sip:bob@example.org>;tag=b"),
        ("To", answer.header("To").unwrap()),
        ("Call-ID", "t"),
        ("CSeq", "2 UPDATE"),
        ("Max-Forwards", "70"),
        ("Session-Expires", "1800;refresher=uac"),
    ] {
        update.push(name, value);
    }
    s.take(&update);
    assert_eq!(s.next().status(), 200);
    update.set("CSeq", "1 UPDATE");
    update.set("Via", "SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKv");
    s.take(&update);
    assert_eq!(s.next().status(), 500, "what was overtaken is refused");
}

#[test]
fn whom_a_person_means_becomes_a_uri() {
    for (text, uri) in [
        ("bob", "sip:bob@example.org"),
        ("bob@other.example", "sip:bob@other.example"),
        ("bob@192.0.2.1:5062", "sip:bob@192.0.2.1:5062"),
        ("sip:bob@other.example;x=y", "sip:bob@other.example;x=y"),
        ("\"Bob\" <sip:bob@other.example>;tag=1", "sip:bob@other.example"),
        ("bob smith", "sip:bob%20smith@example.org"),
        ("é", "sip:%C3%A9@example.org"),
    ] {
        assert_eq!(to_uri(text, "example.org"), uri);
    }
}
