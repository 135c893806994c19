//! Overlay documents and tickets, what people hand each other before they join; and what an authority says of names.

use wire::certificate::{Certificate, MAX_LIFE, NameRequest, Revocations};
use wire::document::{Chain, MAX_CHAIN, MAX_LEN, OverlayDocument, SignedDocument};
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
