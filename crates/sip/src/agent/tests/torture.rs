//! What a user agent server answers to a request it cannot serve (RFC 3261 sections 8.2, 10.3, 12.2.2
//! and 21), and to messages after the ideas of RFC 4475 and RFC 5118. The messages are our own.

use wire::ConnectionId;
use wire::sip::digest::Challenge;
use wire::sip::{self, Message};

use super::rig::{World, sdp};
use crate::Flow;

/// A phone's request with these header lines in place of the usual ones, or beside them; `-` leaves
/// one out.
fn request(line: &str, changes: &[(&str, &str)], body: &str) -> Vec<u8> {
    let method = line.split(' ').next().unwrap_or_default();
    let (cseq, length) = (format!("7 {method}"), body.len().to_string());
    let branch = format!("SIP/2.0/UDP 192.168.0.10:5060;branch=z9hG4bK{}", body.len() + line.len());
    let mut headers = vec![
        ("Via", branch.as_str()),
        ("Max-Forwards", "70"),
        ("From", "<sip:bob@home.example>;tag=b"),
        ("To", "<sip:alice@home.example>"),
        ("Call-ID", "torture"),
        ("CSeq", &cseq),
        ("Contact", "<sip:bob@192.168.0.10>"),
        ("Content-Length", &length),
    ];
    for (name, value) in changes {
        match headers.iter_mut().find(|(n, _)| n == name) {
            Some(header) => header.1 = value,
            None => headers.push((name, value)),
        }
    }
    let present = headers.iter().filter(|(_, value)| *value != "-");
    let lines: String = present.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{line}\r\n{lines}\r\n{body}").into_bytes()
}

fn invite(changes: &[(&str, &str)], body: &str) -> Vec<u8> {
    request("INVITE sip:alice@home.example SIP/2.0", changes, body)
}

fn options(changes: &[(&str, &str)]) -> Vec<u8> {
    request("OPTIONS sip:alice@home.example SIP/2.0", changes, "")
}

/// The final answers that Bob's registered phone gets to these bytes, in a world of their own.
fn answers(bytes: &[u8]) -> Vec<String> {
    let mut world = World::new(1);
    let bob = world.registered(0, "bob");
    let flow = world.flow_of(bob);
    answers_in(&mut world, flow, bytes)
}

fn answers_in(world: &mut World, flow: Flow, bytes: &[u8]) -> Vec<String> {
    world.inject(0, flow, bytes);
    let mut out = Vec::new();
    while let Some((_, bytes)) = world.agents[0].poll_transmit() {
        out.push(String::from_utf8(bytes).expect("our answers are text"));
    }
    out.retain(|text| !text.starts_with("SIP/2.0 1"));
    out
}

fn header(text: &str, name: &str) -> Option<String> {
    let mut lines = text.lines().filter_map(|l| l.split_once(':'));
    lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}

/// One request, one answer, with the status and with the header that must explain it.
#[track_caller]
fn refused(what: &str, bytes: &[u8], status: u16, explained: Option<(&str, &str)>) {
    let answers = answers(bytes);
    let [answer] = &answers[..] else { panic!("{what}: {answers:?}") };
    assert!(answer.starts_with(&format!("SIP/2.0 {status} ")), "{what}: {answer}");
    assert!(answer.lines().next().is_some_and(|l| l.len() > 12), "{what}: no reason phrase");
    if let Some((name, value)) = explained {
        let found = header(answer, name).unwrap_or_default();
        assert!(found.contains(value), "{what}: {name} says {found:?}");
    }
    // Whoever asked finds the answer by these (section 8.2.6), and a tag tells answerers apart.
    for name in ["Via", "From", "To"] {
        assert!(header(answer, name).is_some(), "{what}: no {name}");
    }
    assert!(header(answer, "To").is_some_and(|to| to.contains(";tag=")), "{what}: no tag");
}

#[test]
fn a_request_that_makes_no_sense_is_answered_400_with_the_reason() {
    let line = |line: &str| request(line, &[], "");
    let cases = [
        ("no Call-ID", options(&[("Call-ID", "-")])),
        ("no CSeq", options(&[("CSeq", "-")])),
        ("another method in CSeq", options(&[("CSeq", "8 INVITE")])),
        ("a CSeq beyond 31 bits", options(&[("CSeq", "2147483648 OPTIONS")])),
        ("a CSeq beyond every number", options(&[("CSeq", "36893488147419103232 OPTIONS")])),
        ("a CSeq that is no number", options(&[("CSeq", "x OPTIONS")])),
        ("Max-Forwards beyond a byte", options(&[("Max-Forwards", "300")])),
        ("Max-Forwards that is no number", options(&[("Max-Forwards", "many")])),
        ("a body longer than the datagram", options(&[("Content-Length", "9999")])),
        ("a negative length", options(&[("Content-Length", "-999")])),
        ("two lengths", options(&[("l", "0")])),
        ("two Call-IDs", options(&[("i", "another")])),
        ("two Froms", options(&[("f", "<sip:x@y>;tag=2")])),
        ("a quote that never ends", options(&[("From", "\"Mr. J <sip:j@x>;tag=1")])),
        ("a line without a colon", options(&[("Subject", "x\r\nno colon here")])),
        ("brackets round the Request-URI", line("OPTIONS <sip:alice@home.example> SIP/2.0")),
        ("blanks in the Request-URI", line("OPTIONS sip:alice@home.example; lr SIP/2.0")),
        ("two blanks in the first line", line("OPTIONS  sip:alice@home.example  SIP/2.0")),
        ("a blank at the end of the first line", line("OPTIONS sip:alice@home.example SIP/2.0 ")),
        ("headers in the Request-URI", line("OPTIONS sip:alice@home.example?Route=%3Csip:x%3E SIP/2.0")),
        ("an INVITE without Contact", invite(&[("Contact", "-")], "")),
    ];
    for (what, bytes) in cases {
        refused(what, &bytes, 400, None);
    }
    // Where a header is missing the answer cannot copy it.
    for name in ["From", "To"] {
        let answers = answers(&options(&[(name, "-")]));
        assert!(answers[0].starts_with(&format!("SIP/2.0 400 Missing {name}\r\n")), "{answers:?}");
    }
}

#[test]
fn what_cannot_be_served_is_refused_with_the_header_that_says_what_can() {
    let line = |line: &str| request(line, &[], "");
    let text = [("Content-Type", "text/plain")];
    let unknown = [("Content-Type", "application/unknownformat")];
    let zipped = [("Content-Type", "application/sdp"), ("Content-Encoding", "gzip")];
    let required = [("Require", "100rel, nothingSupportsThis, norSupportsThis")];
    let allow = Some(("Allow", "INVITE"));
    let cases = [
        ("a version nobody speaks", line("OPTIONS sip:alice@home.example SIP/7.0"), 505, None),
        ("a method nobody knows", line("NEWMETHOD sip:alice@home.example SIP/2.0"), 501, allow),
        ("a method that only looks known", line("RE%47IST%45R sip:home.example SIP/2.0"), 501, allow),
        ("a method in small letters", line("invite sip:alice@home.example SIP/2.0"), 501, allow),
        ("a scheme nobody knows", line("OPTIONS nobodyKnowsThisScheme:totallyopaque SIP/2.0"), 416, None),
        ("a scheme with slashes", line("OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0"), 416, None),
        (
            "an unknown extension",
            options(&required),
            420,
            Some(("Unsupported", "nothingSupportsThis, norSupportsThis")),
        ),
        ("no hops left", invite(&[("Max-Forwards", "0")], ""), 483, None),
        ("a text for a description", invite(&text, "hello"), 415, Some(("Accept", "application/sdp"))),
        ("an unknown body", invite(&unknown, "<x/>"), 415, Some(("Accept", "application/sdp"))),
        ("a packed body", invite(&zipped, "v=0"), 415, Some(("Accept-Encoding", "identity"))),
        (
            "an event nobody offers",
            line("SUBSCRIBE sip:alice@home.example SIP/2.0"),
            489,
            Some(("Allow-Events", "refer")),
        ),
        (
            "a state nobody keeps",
            line("PUBLISH sip:alice@home.example SIP/2.0"),
            489,
            Some(("Allow-Events", "refer")),
        ),
        ("REFER outside a call", line("REFER sip:alice@home.example SIP/2.0"), 403, None),
        ("a number where a user was", invite(&[], "").replace_line("INVITE nobody: SIP/2.0"), 416, None),
    ];
    for (what, bytes, status, explained) in cases {
        refused(what, &bytes, status, explained);
    }
}

/// Another first line for the same request.
trait ReplaceLine {
    fn replace_line(&self, line: &str) -> Vec<u8>;
}

impl ReplaceLine for Vec<u8> {
    fn replace_line(&self, line: &str) -> Vec<u8> {
        let end = self.windows(2).position(|w| w == b"\r\n").expect("a first line");
        [line.as_bytes(), &self[end..]].concat()
    }
}

#[test]
fn a_request_of_no_dialog_and_no_transaction_is_answered_481() {
    for method in ["BYE", "INFO", "UPDATE", "PRACK", "NOTIFY", "CANCEL"] {
        let line = format!("{method} sip:alice@home.example SIP/2.0");
        refused(method, &request(&line, &[], ""), 481, None);
        let tagged = [("To", "<sip:alice@home.example>;tag=never")];
        refused(method, &request(&line, &tagged, ""), 481, None);
    }
    let again = invite(&[("To", "<sip:alice@home.example>;tag=never")], "");
    refused("a re-INVITE", &again, 481, None);
    let refer = request("REFER sip:a@home.example SIP/2.0", &[("To", "<sip:a@home.example>;tag=x")], "");
    refused("a REFER", &refer, 481, None);
}

#[test]
fn a_method_out_of_place_is_answered_405_with_those_that_are_in_place() {
    // A peer cannot register a phone here.
    let mut world = World::new(1);
    let register = request("REGISTER sip:home.example SIP/2.0", &[], "");
    let answers = answers_in(&mut world, Flow::Peer(super::rig::node(7)), &register);
    assert!(answers[0].starts_with("SIP/2.0 405 "), "{answers:?}");
    assert!(header(&answers[0], "Allow").is_some_and(|a| a.contains("INVITE") && a.contains("BYE")));
}

#[test]
fn an_odd_but_legal_request_is_served() {
    let bob = "sip:bob@home.example";
    let cases = [
        ("no hops left, but OPTIONS", options(&[("Max-Forwards", "0")])),
        ("no Max-Forwards", options(&[("Max-Forwards", "-")])),
        ("a transport nobody knows", options(&[("v", "SIP/2.0/UNKNOWN h.example.com;branch=z9hG4bKkdjuw")])),
        (
            "IPv6 without brackets in received",
            options(&[("v", "SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bKas3")]),
        ),
        ("a branch that is only the cookie", options(&[("Via", "SIP/2.0/UDP 192.168.0.10;branch=z9hG4bK")])),
        ("a display name without a blank", options(&[("From", "caller<sip:bob@home.example>;tag=323")])),
        (
            "a display name that is no token",
            options(&[("To", "\"Bell, Alexander\" <sip:a.g.bell@home.example>")]),
        ),
        (
            "semicolons in the user",
            request("OPTIONS sip:user;par=u%40example.net@home.example SIP/2.0", &[], ""),
        ),
        ("a date of the wrong zone", options(&[("Date", "Fri, 01 Jan 2010 16:00:00 EST")])),
        ("a header of no sense", options(&[("UnknownHeaderWithUnusualValue", ";;,,;;,;")])),
        ("folded lines", options(&[("Subject", "first\r\n second\r\n\tthird")])),
        ("names in short", options(&[("k", "100rel"), ("s", "x"), ("o", bob)])),
        ("a second message after the body", [options(&[]), invite(&[], "")].concat()),
        (
            "lines that end in a line feed",
            String::from_utf8(options(&[])).unwrap().replace("\r\n", "\n").into_bytes(),
        ),
    ];
    for (what, bytes) in cases {
        let answers = answers(&bytes);
        assert_eq!(answers.len(), 1, "{what}: {answers:?}");
        assert!(answers[0].starts_with("SIP/2.0 200 "), "{what}: {}", answers[0]);
        assert!(header(&answers[0], "Allow").is_some() && header(&answers[0], "Accept").is_some());
    }
}

#[test]
fn a_body_that_may_be_ignored_is_no_reason_to_refuse() {
    let extra =
        [("Content-Type", "application/unknownformat"), ("Content-Disposition", "render;handling=optional")];
    assert_eq!(answers(&invite(&extra, "<x/>")), [""; 0]);
    let needed = [extra[0], ("Content-Disposition", "render;handling=required")];
    refused("a required body", &invite(&needed, "<x/>"), 415, Some(("Accept", "application/sdp")));
    let description = String::from_utf8(sdp("bob")).unwrap();
    assert_eq!(answers(&invite(&[("Content-Type", "Application/SDP ; charset=x")], &description)), [""; 0]);
}

#[test]
fn broken_responses_and_broken_acks_are_dropped() {
    let response = |line: &str, changes: &[(&str, &str)]| options(changes).replace_line(line);
    let cases = [
        ("a status beyond every number", response("SIP/2.0 4294967301 better not break the receiver", &[])),
        ("a status of two digits", response("SIP/2.0 20 OK", &[])),
        (
            "a CSeq beyond 32 bits",
            response("SIP/2.0 503 Service Unavailable", &[("CSeq", "9292394834772304023312 OPTIONS")]),
        ),
        ("a branch nobody sent", response("SIP/2.0 200 OK", &[])),
        ("two hops", response("SIP/2.0 200 OK", &[("v", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx")])),
        ("no hop", response("SIP/2.0 200 OK", &[("Via", "-")])),
        ("an ACK without Call-ID", request("ACK sip:alice@home.example SIP/2.0", &[("Call-ID", "-")], "")),
        ("an ACK of another version", request("ACK sip:alice@home.example SIP/7.0", &[], "")),
        (
            "an ACK that requires something",
            request("ACK sip:alice@home.example SIP/2.0", &[("Require", "x")], ""),
        ),
        ("a request without Via", options(&[("Via", "-")])),
        ("no SIP at all", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("half a first line", b"INVITE sip:alice@ho".to_vec()),
    ];
    for (what, bytes) in cases {
        assert_eq!(answers(&bytes), [""; 0], "{what}");
    }
}

#[test]
fn a_stream_that_cannot_be_cut_is_answered_and_closed() {
    let flow = Flow::Stream(ConnectionId(5), "192.168.0.77:40000".parse().unwrap());
    let cases = [
        ("no Content-Length", options(&[("Content-Length", "-")]), true),
        ("a negative length", options(&[("Content-Length", "-1")]), true),
        ("two lengths", options(&[("l", "0")]), true),
        ("a response", options(&[("Content-Length", "-")]).replace_line("SIP/2.0 200 OK"), false),
        ("another protocol", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), false),
    ];
    for (what, bytes, answered) in cases {
        let mut world = World::new(1);
        assert!(!world.agents[0].handle_message(world.now, flow, &bytes, &mut crate::Unchanged), "{what}");
        let answer = world.agents[0].poll_transmit();
        assert_eq!(answer.is_some(), answered, "{what}");
        assert!(answer.is_none_or(|(_, a)| a.starts_with(b"SIP/2.0 400 Bad Request")), "{what}");
        assert_eq!(world.agents[0].drops().get("sip stream"), Some(&1), "{what}");
    }
}

/// The status of the answer to an authorised REGISTER with these headers, and the answer.
fn registering(changes: &[(&str, &str)]) -> (u16, Message) {
    let mut world = World::new(1);
    let bob = world.phone(0, "bob", false);
    let flow = world.flow_of(bob);
    let own = [("To", "<sip:bob@home.example>")];
    let line = "REGISTER sip:home.example SIP/2.0";
    let first = answers_in(&mut world, flow, &request(line, &own, ""));
    let challenge = header(&first[0], "WWW-Authenticate").as_deref().and_then(Challenge::parse).unwrap();
    let proof = challenge.answer("bob", "secret", "REGISTER", "sip:home.example", "c0ffee").to_value();
    let branch = "SIP/2.0/UDP 192.168.0.10:5060;branch=z9hG4bKsecond";
    let extra = [("Authorization", proof.as_str()), ("CSeq", "8 REGISTER"), ("Via", branch)];
    let all = [&own[..], &extra, changes].concat();
    let answer = answers_in(&mut world, flow, &request(line, &all, "")).remove(0);
    let answer = sip::parse(answer.as_bytes()).unwrap();
    (answer.status(), answer)
}

#[test]
fn a_registration_is_judged_whole_before_anything_is_changed() {
    let cases = [
        ("a plain one", vec![], 200),
        ("a parameter nobody knows", vec![("Contact", "<sip:bob@192.168.0.10>;unknownparam")], 200),
        ("an expiry of no sense", vec![("Contact", "<sip:bob@192.168.0.10>;expires=280297596632815")], 200),
        ("an Expires of no sense", vec![("Expires", "later")], 200),
        ("headers without brackets", vec![("Contact", "sip:bob@192.168.0.10?Route=%3Csip:x%3E")], 400),
        ("a parameter without brackets", vec![("Contact", "sip:bob@192.168.0.10;unknownparam")], 200),
        ("a bracket that never ends", vec![("Contact", "<sip:bob@192.168.0.10")], 400),
        ("a Contact of another scheme", vec![("Contact", "<name:John_Smith>")], 400),
        ("one good and one bad Contact", vec![("Contact", "<sip:bob@192.168.0.10>, <mailto:b@x>")], 400),
        ("a star that stays", vec![("Contact", "*"), ("Expires", "60")], 400),
        ("a star and another", vec![("Contact", "*, <sip:bob@192.168.0.10>"), ("Expires", "0")], 400),
        ("a star that goes", vec![("Contact", "*"), ("Expires", "0")], 200),
        ("too short", vec![("Expires", "1")], 423),
        ("somebody else's name", vec![("To", "<sip:alice@home.example>")], 403),
        ("an address of another scheme", vec![("To", "isbn:2983792873")], 403),
    ];
    for (what, changes, status) in cases {
        let (found, answer) = registering(&changes);
        assert_eq!(found, status, "{what}: {answer:?}");
        match status {
            423 => assert!(answer.header("Min-Expires").is_some(), "{what}"),
            200 => {}
            _ => assert_eq!(answer.contact(), None, "{what}: something was bound"),
        }
    }
}

#[test]
fn credentials_of_an_unknown_scheme_are_no_credentials() {
    let mut world = World::new(1);
    let bob = world.phone(0, "bob", false);
    let flow = world.flow_of(bob);
    let unknown =
        [("To", "<sip:bob@home.example>"), ("Authorization", "NoOneKnowsThisScheme opaque-data=here")];
    let answers = answers_in(&mut world, flow, &request("REGISTER sip:home.example SIP/2.0", &unknown, ""));
    assert!(answers[0].starts_with("SIP/2.0 401 "), "{answers:?}");
    assert!(header(&answers[0], "WWW-Authenticate").is_some_and(|c| c.starts_with("Digest ")));
}
