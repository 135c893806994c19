//! Overlay documents and tickets, what people hand each other before they join; and what an authority, or a domain, says
//! of names.

use wire::certificate::{Certificate, MAX_LIFE, NameRequest, Revocations};
use wire::dns::{self, Texts};
use wire::document::{Chain, MAX_CHAIN, MAX_LEN, OverlayDocument, SignedDocument};
use wire::domain::{self, Way, Word};
use wire::p2pp::record::MAX_VALUE;
use wire::ticket::{NotATicket, Ticket};
use wire::{Signatures, UnixTime};

/// A document has one encoding, a bounded length, and counts only if somebody signed it; so do several in a row.
pub fn document(bytes: &[u8]) {
    if let Ok(chain) = Chain::parse(bytes) {
        assert_eq!(chain.to_bytes(), bytes);
        assert!((1..=MAX_CHAIN).contains(&chain.documents().len()));
        let [first, newest] = [&chain.documents()[0], chain.newest()];
        if let Ok(kept) = chain.accept(&first.document.founder, None) {
            assert!(first.is_of_founder() && kept.newest() == newest);
            assert!(kept.documents().iter().all(SignedDocument::is_authentic));
            assert!(kept.accept(&first.document.founder, None) == Ok(kept.clone()));
        }
    }
    let Ok(signed) = SignedDocument::parse(bytes) else { return };
    assert_eq!(signed.to_bytes(), bytes);
    assert!(bytes.len() <= MAX_LEN);
    assert_eq!(signed.document.check(), Ok(()));
    let founder = signed.document.founder;
    if signed.accept(&founder, None).is_ok() {
        assert!(signed.is_authentic() && signed.is_of_founder());
    }
    // However it is signed, it cannot follow itself.
    assert!(signed.accept(&founder, Some(&signed.document)).is_err());
    let older = OverlayDocument { sequence: 0, ..signed.document.clone() };
    if signed.accept(&founder, Some(&older)).is_ok() {
        assert!(signed.document.sequence > 0 && signed.is_authentic());
    }
}

/// A ticket reads the same however it is written, and one wrong letter is noticed.
pub fn ticket(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(ticket) = text.parse::<Ticket>() else { return };
    let written = ticket.to_text().expect("what was read can be written");
    assert_eq!(written.parse(), Ok(ticket.clone()));
    assert_eq!(ticket.to_capitals().expect("likewise").parse(), Ok(ticket));
    let (rest, last) = written.split_at(written.len() - 1);
    let other = if last == "0" { "8" } else { "0" };
    assert_eq!(format!("{rest}{other}").parse::<Ticket>(), Err(NotATicket::Typing));
}

/// A certificate, a list of revocations and a request have one encoding, fit into a record, and end.
pub fn certificate(bytes: &[u8]) {
    if let Ok(certificate) = Certificate::parse(bytes) {
        assert_eq!(certificate.to_bytes().as_deref(), Ok(bytes));
        assert!(bytes.len() < MAX_VALUE);
        let (from, until) = (certificate.not_before.0, certificate.not_after.0);
        assert!(from < until && until - from <= MAX_LIFE);
        assert!((from..=until).contains(&certificate.half_life().0));
        assert!(certificate.check_time(certificate.half_life()).is_ok());
    }
    if let Ok(list) = Revocations::parse(bytes) {
        assert_eq!(list.to_bytes(), bytes);
        assert!(bytes.len() < MAX_VALUE);
        assert!(list.keys.iter().all(|(key, until)| list.holds(key, *until)));
        assert!(list.keys.keys().all(|key| list.holds(key, UnixTime(0))));
    }
    if let Ok(request) = NameRequest::parse(bytes) {
        assert_eq!(request.to_bytes().as_deref(), Ok(bytes));
        assert!(!request.is_proven_by(&[0; 32]) || request.proof.is_some());
        let other = NameRequest { user: request.authority, ..request.clone() };
        let both = request.is_authentic(Signatures::Ed25519) && other.is_authentic(Signatures::Ed25519);
        assert!(!both || request.user == request.authority);
    }
}

/// An answer of DNS holds no more texts than bytes, and a key that a domain names is the one that it wrote.
pub fn domain(bytes: &[u8]) {
    let place = domain::place_of_name("alice@camp.example").expect("it can be asked");
    // Whoever guesses the number of a question is heard.
    let id = bytes.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    let question = dns::question(id, &place).expect("it fits");
    assert!(dns::read(id, &place, &question).is_err(), "a question is no answer");
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let found = dns::read(id, &place, bytes);
    for found in [found, Ok(Texts { texts: lines, ..Texts::default() })].into_iter().flatten() {
        assert!(found.texts.iter().map(Vec::len).sum::<usize>() <= bytes.len());
        let word = domain::read_name(&found, Way::Dns);
        if let Some(Word::Key(key, _)) = word {
            let alone = Texts { texts: vec![domain::text_of(&key).into_bytes()], ..Texts::default() };
            assert_eq!(domain::read_name(&alone, Way::Dns), word);
        }
    }
}
