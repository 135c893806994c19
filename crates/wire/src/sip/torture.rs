//! Forty-three messages that separate parsers (after the ideas of RFC 4475 and RFC 5118), so that
//! the adopted parser can be replaced without fear; and properties that hold for any bytes.

use proptest::prelude::*;

use super::*;

/// A request with these header lines in place of, or beside, the usual ones.
fn request(line: &str, changes: &[(&str, &str)]) -> Vec<u8> {
    let method = line.split(' ').next().unwrap();
    let cseq = format!("1 {method}");
    let mut headers = vec![
        ("Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa"),
        ("Max-Forwards", "70"),
        ("From", "<sip:a@example.com>;tag=1"),
        ("To", "<sip:b@example.net>"),
        ("Call-ID", "c@192.0.2.1"),
        ("CSeq", &cseq),
    ];
    for (name, value) in changes {
        match headers.iter_mut().find(|(n, _)| n == name) {
            Some(header) => header.1 = value,
            None => headers.push((name, value)),
        }
    }
    let mut text = format!("{line}\r\n");
    for (name, value) in headers.into_iter().filter(|(_, v)| *v != "-") {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    (text + "\r\n").into_bytes()
}

fn options(changes: &[(&str, &str)]) -> Vec<u8> {
    request("OPTIONS sip:b@example.net SIP/2.0", changes)
}

fn accept(bytes: impl AsRef<[u8]>) -> Message {
    let bytes = bytes.as_ref();
    parse(bytes).unwrap_or_else(|r| panic!("{} {}\n{}", r.status, r.reason, String::from_utf8_lossy(bytes)))
}

const TORTUOUS: &str = "INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\r\n\
TO :\r\n sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n\r\n\
from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8\r\n\
MaX-fOrWaRdS: 0068\r\n\
Call-ID: wsinv.ndaksdj@192.0.2.1\r\n\
Content-Length   : 150\r\n\
cseq: 0009\r\n  INVITE\r\n\
Via  : SIP  /   2.0\r\n /UDP\r\n    192.0.2.2;branch=390skdjuw\r\n\
s :\r\n\
NewFangledHeader:   newfangled value\r\n continued newfangled value\r\n\
UnknownHeaderWithUnusualValue: ;;,,;;,;\r\n\
Content-Type: application/sdp\r\n\
Route:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\n\
v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n \
SIP  /    2.0   / UDP  192.168.255.111   ; branch=\r\n z9hG4bK30239\r\n\
m:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam =\r\n      newvalue ;\r\n  \
secondparam ; q = 0.33\r\n\r\n";

#[test]
fn a_tortuous_but_legal_invite_is_read_right() {
    let bytes = [TORTUOUS.as_bytes(), &[b'x'; 150]].concat();
    let m = accept(bytes);
    assert_eq!(m.to_tag().as_deref(), Some("1918181833n"));
    assert_eq!(m.from_tag().as_deref(), Some("98asjd8"));
    assert_eq!(m.headers_named("Via").count(), 3);
    assert_eq!(m.via().unwrap().branch(), "390skdjuw");
    assert!(!m.via().unwrap().has_magic_cookie());
    assert_eq!(m.contact().unwrap().params.get("q"), Some("0.33"));
    assert_eq!((m.header("Subject"), m.cseq().unwrap().number), (Some(""), 9));
    assert_eq!(m.header("NewFangledHeader"), Some("newfangled value continued newfangled value"));
    assert_eq!(m.body.len(), 150);
}

#[test]
fn odd_but_legal_messages_are_read_right() {
    // 2: a method of every token character.
    let odd = "!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com SIP/2.0";
    let m = accept(request(odd, &[]));
    assert_eq!(Uri::parse(m.uri()).unwrap().host, "example.com");
    // 3: escaped characters in the user part.
    let m = accept(request("INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0", &[]));
    assert_eq!(Uri::parse(m.uri()).unwrap().user_decoded(), "sips:user@example.com");
    // 4: an escape that is no escape in a method.
    assert!(matches!(
        accept(request("RE%47IST%45R sip:x@y.example SIP/2.0", &[])).method(),
        Some(Method::Other(_))
    ));
    // 5: an escaped null.
    accept(request("REGISTER sip:example.com SIP/2.0", &[("To", "sip:null-%00-null@example.com")]));
    // 6: no space between display name and bracket.
    let m = accept(options(&[("From", "caller<sip:caller@example.com>;tag=323")]));
    assert_eq!(m.from().unwrap().display, "caller");
    // 7: a long display name.
    let long = format!("\"{}\" <sip:a@example.com>;tag=1", "I have a long name ".repeat(100));
    assert_eq!(accept(options(&[("From", &long)])).from_tag().as_deref(), Some("1"));
    // 8: bytes after the body of a datagram are noise.
    let twice = [options(&[("Content-Length", "0")]), b"INVITE sip:joe SIP/2.0\r\n\r\n".to_vec()].concat();
    assert!(accept(twice).body.is_empty());
    // 9: semicolons in the user part belong to the user.
    let m = accept(request("OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0", &[]));
    assert_eq!(Uri::parse(m.uri()).unwrap().user, "user;par=u%40example.net");
    // 10: transports nobody knows.
    let via = "SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKkdjuw";
    assert_eq!(accept(options(&[("Via", via)])).via().unwrap().transport, "UNKNOWN");
    // 11: a URI of an unknown scheme; 12: and a tel one.
    accept(request("OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0", &[]));
    let m = accept(request("INVITE tel:+15551234;phone-context=x SIP/2.0", &[]));
    assert_eq!(Uri::parse(m.uri()).unwrap().user, "+15551234");
    // 13: an empty reason phrase; 14: a long one with every kind of character.
    let response = |line: &str| {
        let rest = String::from_utf8(options(&[])).unwrap();
        format!("{line}\r\n{}", rest.split_once("\r\n").unwrap().1)
    };
    assert_eq!(accept(response("SIP/2.0 100 ")).reason(), "");
    assert_eq!(accept(response("SIP/2.0 200 = 2**3 * 5**2 \u{43d}\u{43e}")).status(), 200);
    // 15: a display name in ISO 8859-1.
    let mut latin = options(&[("From", "J@rgen <sip:j@example.com>;tag=1")]);
    let at = latin.iter().position(|b| *b == b'@').unwrap();
    let at = latin[at + 1..].iter().position(|b| *b == b'J').unwrap() + at + 2;
    latin[at] = 0xfc;
    assert_eq!(accept(latin).from().unwrap().display, "J\u{fc}rgen");
    // 16: IPv6 in URI, Via and Contact.
    let m = accept(request(
        "REGISTER sip:[2001:db8::10] SIP/2.0",
        &[
            ("Via", "SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKas3"),
            ("Contact", "\"Caller\" <sip:caller@[2001:db8::1]>"),
        ],
    ));
    assert_eq!(Uri::parse(m.uri()).unwrap().host, "[2001:db8::10]");
    assert_eq!(m.via().unwrap().host, "[2001:db8::9:1]");
    // 17: without Content-Length the body of a datagram is the rest.
    let bare = [options(&[("Content-Type", "text/plain")]), b"the rest".to_vec()].concat();
    assert_eq!(accept(bare).body, b"the rest");
    // 18: the star Contact.
    assert_eq!(accept(options(&[("Contact", "*")])).header("Contact"), Some("*"));
    // 19: blank lines before the message; 20: lines that end in a bare LF.
    accept([b"\r\n\r\n".to_vec(), options(&[])].concat());
    let bare = String::from_utf8(options(&[("Content-Type", "text/plain")])).unwrap().replace("\r\n", "\n");
    assert_eq!(accept(bare + "a\nb").body, b"a\nb");
    // 21: compact names, all of them.
    let short = "v: SIP/2.0/UDP h;branch=z9hG4bKa\r\nf: <sip:a@b>;tag=1\r\nt: <sip:b@c>\r\ni: 1\r\nCSeq: 1 MESSAGE\r\nm: <sip:a@b>\r\nk: timer\r\nc: text/plain\r\nl: 2\r\nMax-Forwards: 1\r\n\r\nhi";
    let m = accept(format!("MESSAGE sip:b@c SIP/2.0\r\n{short}"));
    assert_eq!(
        (m.content_type().as_str(), m.header("Supported"), &m.body[..]),
        ("text/plain", Some("timer"), &b"hi"[..])
    );
    // 22: no Max-Forwards, as some old phones.
    accept(options(&[("Max-Forwards", "-")]));
    // 23: a body of zero bytes in it.
    let zeros = [options(&[("Content-Length", "3")]), vec![0, 0, 0]].concat();
    assert_eq!(accept(zeros).body, [0, 0, 0]);
    // 24: several Contacts in one line, commas in quotes.
    let m = accept(options(&[("Contact", "\"a, b\" <sip:a@x>, <sip:b@x;p=1>;q=0.5")]));
    assert_eq!(m.list("Contact").count(), 2);
}

#[test]
fn what_must_be_refused_is_refused_with_the_right_status() {
    let known: Vec<Method> = Method::KNOWN.into_iter().filter(|m| *m != Method::Publish).collect();
    let policy = Policy { methods: &known, options: &["100rel"] };
    let invite = |changes: &[(&str, &str)]| request("INVITE sip:b@example.net SIP/2.0", changes);
    let line = |line: &str| request(line, &[]);
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("body longer than the datagram", invite(&[("Content-Length", "9999")]), 400),
        ("negative length", invite(&[("Content-Length", "-999")]), 400),
        ("two lengths", invite(&[("Content-Length", "0"), ("l", "0")]), 400),
        ("brackets round the Request-URI", line("INVITE <sip:b@example.net> SIP/2.0"), 400),
        ("blanks in the Request-URI", line("INVITE sip:b@example.net; lr SIP/2.0"), 400),
        ("two blanks in the first line", line("INVITE  sip:b@example.net  SIP/2.0"), 400),
        ("a header in the Request-URI", line("INVITE sip:b@example.net?Route=%3Csip:x%3E SIP/2.0"), 400),
        ("a version nobody speaks", line("OPTIONS sip:b@example.net SIP/7.0"), 505),
        ("another method in CSeq", invite(&[("CSeq", "1 OPTIONS")]), 400),
        ("a CSeq beyond 32 bits", invite(&[("CSeq", "36893488147419103232 INVITE")]), 400),
        ("no Call-ID, From or To", invite(&[("Call-ID", "-"), ("From", "-"), ("To", "-")]), 400),
        ("two Call-IDs", invite(&[("i", "other")]), 400),
        ("a From that ends in quotes", invite(&[("From", "\"Mr. J <sip:j@x>;tag=1")]), 400),
        ("a header without a colon", invite(&[("Subject", "x\r\nno colon here")]), 400),
        ("a scheme nobody knows", line("OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0"), 416),
        ("an extension nobody knows", invite(&[("Require", "100rel, nothingSupportsThis")]), 420),
        ("no hops left", invite(&[("Max-Forwards", "0")]), 483),
        ("a method nobody knows", line("NEWMETHOD sip:b@example.net SIP/2.0"), 501),
        ("a method known and not offered", line("PUBLISH sip:b@example.net SIP/2.0"), 405),
    ];
    assert_eq!(cases.len(), 19);
    for (what, bytes, status) in cases {
        let refusal = match parse(&bytes) {
            Ok(message) => check(&message, &policy).expect_err(what),
            Err(refusal) => refusal,
        };
        assert_eq!(refusal.status, status, "{what}: {}", refusal.reason);
        assert!(!refusal.reason.contains('\n'));
    }
}

#[test]
fn a_refusal_can_be_sent_to_whom_it_concerns_and_to_nobody_else() {
    let bad =
        request("INVITE sip:b@example.net SIP/2.0", &[("Content-Length", "-1"), ("From", "<sip:e@x>;tag=7")]);
    let reply = parse(&bad).unwrap_err().reply().unwrap();
    assert_eq!((reply.status(), reply.from_tag().as_deref()), (400, Some("7")));
    assert_eq!(parse(&reply.clone().to_bytes()).unwrap(), reply);
    let ack = request("ACK sip:b@example.net SIP/2.0", &[("Content-Length", "-1")]);
    assert_eq!(parse(&ack).unwrap_err().reply(), None);
    let nowhere = request("INVITE sip:b@example.net SIP/2.0", &[("Via", "-")]);
    assert_eq!(parse(&nowhere).unwrap_err().reply(), None);
    assert_eq!(parse(b"\x16\x03\x01\x02\x00").unwrap_err().reply(), None);
    assert_eq!(parse(&vec![b'a'; MAX_MESSAGE + 1]).unwrap_err().status, 513);
}

fn sample() -> Vec<u8> {
    let plain = request(
        "INVITE sip:bob@192.0.2.4:5060;transport=udp SIP/2.0",
        &[
            ("Record-Route", "<sip:p1.example.com;lr>, <sip:p2.example.com;lr>"),
            ("Contact", "\"Bob\" <sip:bob@192.0.2.4>;+sip.instance=\"<urn:uuid:1>\";expires=3600"),
            ("Authorization", "Digest username=\"bob\", realm=\"x\", nonce=\"1\", response=\"00\""),
            ("Supported", "100rel, timer"),
            ("Content-Type", "application/sdp"),
            ("Content-Length", "5"),
        ],
    );
    [plain, b"v=0\r\n".to_vec()].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_was_read_survives_being_written(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)
    ) {
        let mut bytes = sample();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        match parse(&bytes) {
            Ok(message) => {
                let again = parse(&message.to_bytes());
                prop_assert_eq!(again, Ok(message), "{}", String::from_utf8_lossy(&bytes));
            }
            Err(refusal) => {
                if let Some(reply) = refusal.reply() {
                    prop_assert!(reply.to_bytes().starts_with(b"SIP/2.0 "));
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_text_in_a_field_is_read_or_refused(text in "\\PC{0,60}") {
        let _ = (Via::parse(&text), NameAddr::parse(&text), CSeq::parse(&text), Uri::parse(&text));
        let _ = (digest::Challenge::parse(&text), digest::Credentials::parse(&text));
        let _ = (split_list(&text).count(), percent_decode(&text), unquote(&text));
        let digest = format!("Digest {text}");
        let _ = (digest::Challenge::parse(&digest), digest::Credentials::parse(&digest));
    }

    #[test]
    fn a_uri_that_parses_survives_being_written(text in "sips?:[a-z;:?@%=.0-9\\[\\]&-]{1,40}") {
        if let Ok(uri) = Uri::parse(&text) {
            prop_assert_eq!(Uri::parse(&uri.to_string()), Ok(uri));
        }
    }
}
