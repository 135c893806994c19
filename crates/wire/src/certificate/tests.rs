use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::Seed;
use crate::p2pp::record::MAX_VALUE;

const DAY: u64 = 86_400;
const START: u64 = 1_800_000_000;

fn pair(n: u8) -> KeyPair {
    KeyPair::from_seed(Seed([n; 32]))
}

/// Pair 3 certifies that alice is pair 5, in the overlay that pair 1 founded.
fn certificate() -> Certificate {
    let times = (UnixTime(START), UnixTime(START + 7 * DAY));
    Certificate::sign(&pair(3), (pair(1).public(), "alice@camp.example", pair(5).public()), 9, times).unwrap()
}

fn list(number: u64) -> Revocations {
    let keys = [(pair(6).public(), UnixTime(START + DAY))];
    Revocations::sign(&pair(3), pair(1).public(), number, keys.into()).unwrap()
}

fn request() -> NameRequest {
    let to = (pair(1).public(), pair(3).public());
    NameRequest::sign(&pair(5), to, "alice@camp.example", UnixTime(START), "0123abcd").unwrap()
}

#[test]
fn each_reads_as_it_was_written_and_its_signature_covers_every_byte() {
    let (certificate, list, request) = (certificate(), list(4), request());
    let signatures = Signatures::Ed25519;
    let bytes = certificate.to_bytes().unwrap();
    assert_eq!(Certificate::parse(&bytes), Ok(certificate.clone()));
    assert!(
        certificate.is_of(&pair(3).public(), signatures) && !certificate.is_of(&pair(4).public(), signatures)
    );
    let holds =
        |bytes: &[u8]| Certificate::parse(bytes).is_ok_and(|c| c.is_of(&pair(3).public(), signatures));
    changed_anywhere_it_is_refused(&bytes, holds);
    assert_eq!(Revocations::parse(&list.to_bytes()), Ok(list.clone()));
    let holds = |bytes: &[u8]| Revocations::parse(bytes).is_ok_and(|l| l.is_authentic(signatures));
    changed_anywhere_it_is_refused(&list.to_bytes(), holds);
    let bytes = request.to_bytes().unwrap();
    assert_eq!(NameRequest::parse(&bytes), Ok(request));
    let holds = |bytes: &[u8]| NameRequest::parse(bytes).is_ok_and(|r| r.is_authentic(signatures));
    changed_anywhere_it_is_refused(&bytes, holds);
}

fn changed_anywhere_it_is_refused(bytes: &[u8], holds: impl Fn(&[u8]) -> bool) {
    assert!(holds(bytes));
    for place in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[place] ^= 1;
        assert!(!holds(&changed), "byte {place}");
        assert!(!holds(&bytes[..place]), "{place} bytes");
    }
    assert!(!holds(&[bytes, &[0]].concat()));
}

#[test]
fn the_examples_of_the_specification_are_these() {
    let text = include_str!("../../../../docs/authority.md");
    let mut examples = text.split("```hex\n").skip(1).map(|rest| rest.split_once("```").expect("its end").0);
    for bytes in [certificate().to_bytes().unwrap(), list(4).to_bytes(), request().to_bytes().unwrap()] {
        let lines: Vec<String> = bytes.chunks(40).map(|line| data_encoding::HEXLOWER.encode(line)).collect();
        assert_eq!(examples.next().expect("an example").trim_end(), lines.join("\n"));
    }
}

#[test]
fn a_certificate_counts_two_hours_before_it_begins_and_after_it_ends_and_no_longer() {
    let certificate = certificate();
    let at = |time| certificate.check_time(UnixTime(time));
    let end = START + 7 * DAY;
    for good in [START - TOLERANCE, START, end, end + TOLERANCE] {
        assert_eq!(at(good), Ok(()), "{good}");
    }
    assert_eq!(at(START - TOLERANCE - 1), Err(Lapse::Early));
    assert_eq!(at(end + TOLERANCE + 1), Err(Lapse::Expired));
    assert_eq!(certificate.half_life(), UnixTime(START + 7 * DAY / 2));
    assert_eq!((at(u64::MAX), at(0)), (Err(Lapse::Expired), Err(Lapse::Early)));
}

#[test]
fn a_revoked_key_stays_so_until_its_certificates_have_ended_by_every_clock() {
    let list = list(1);
    let holds = |key: u8, time| list.holds(&pair(key).public(), UnixTime(time));
    assert!(holds(6, START) && holds(6, START + DAY + TOLERANCE) && !holds(6, START + DAY + TOLERANCE + 1));
    assert!(!holds(5, START));
}

#[test]
fn a_certificate_that_lasts_too_long_or_names_nobody_is_none() {
    let sign = |aor: &str, life| {
        let times = (UnixTime(START), UnixTime(START + life));
        Certificate::sign(&pair(3), (pair(1).public(), aor, pair(5).public()), 1, times)
    };
    assert!(sign("alice@camp", MAX_LIFE).is_ok());
    for (aor, life) in [("alice@camp", MAX_LIFE + 1), ("alice@camp", 0), ("alice", 1), ("Alice@camp", 1)] {
        assert!(sign(aor, life).is_err(), "{aor} {life}");
    }
    assert!(sign(&format!("{}@camp", "a".repeat(MAX_AOR - 5)), 1).is_ok());
    assert!(sign(&format!("{}@camp", "a".repeat(MAX_AOR - 4)), 1).is_err());
    assert!(sign("a@b@c", 1).is_err() && sign("al ice@camp", 1).is_err() && sign("@camp", 1).is_err());
}

#[test]
fn the_largest_of_each_fits_where_it_travels() {
    let aor = format!("{}@camp", "a".repeat(MAX_AOR - 5));
    let times = (UnixTime(START), UnixTime(START + 1));
    let largest = Certificate::sign(&pair(3), (pair(1).public(), &aor, pair(5).public()), 1, times).unwrap();
    assert!(2 + 8 * 32 + largest.to_bytes().unwrap().len() <= MAX_VALUE);
    let keys = |count: usize| (0..count).map(|n| (PublicKey([n as u8; 32]), UnixTime(START))).collect();
    let list = Revocations::sign(&pair(3), pair(1).public(), 1, keys(MAX_REVOKED)).unwrap();
    assert!(list.to_bytes().len() <= MAX_VALUE, "{}", list.to_bytes().len());
    assert!(Revocations::sign(&pair(3), pair(1).public(), 1, keys(MAX_REVOKED + 1)).is_err());
    // Who asks with less than the answer has would have to prove its address first.
    let to = (pair(1).public(), pair(3).public());
    let asked = NameRequest::sign(&pair(5), to, &aor, UnixTime(START), "").unwrap();
    assert!(asked.to_bytes().unwrap().len() >= largest.to_bytes().unwrap().len());
}

#[test]
fn one_key_twice_in_a_list_is_no_list() {
    let list = list(1);
    let mut bytes = list.to_bytes();
    let entry = bytes[75..115].to_vec();
    bytes[74] = 2;
    let mut later = entry;
    later[39] += 1;
    bytes.splice(115..115, later);
    assert_eq!(Revocations::parse(&bytes), Err(Flaw::Order("revoked keys")));
}

#[test]
fn a_code_is_proven_for_one_request_and_said_in_none() {
    let code = code_key("0123abcd");
    let asked = request();
    assert!(asked.is_proven_by(&code) && !asked.is_proven_by(&code_key("0123abce")));
    // Who overhears it asks for the name for another key, or for another name.
    let thief = NameRequest { user: pair(6).public(), ..asked.clone() };
    let other = NameRequest { aor: "bob@camp.example".into(), ..asked.clone() };
    let elsewhere = NameRequest { authority: pair(4).public(), ..asked.clone() };
    assert!(![thief, other, elsewhere].iter().any(|request| request.is_proven_by(&code)));
    let none = NameRequest { proof: None, ..asked.clone() };
    assert!(!none.is_proven_by(&code));
    let bytes = asked.to_bytes().unwrap();
    assert!(!bytes.windows(8).any(|w| w == b"0123abcd") && !bytes.windows(8).any(|w| w == &code[..8]));
    let mut odd = bytes;
    let place = odd.len() - 64 - 32 - 1;
    odd[place] = 31;
    assert!(NameRequest::parse(&odd).unwrap_err().to_string().starts_with("proof: 31"));
}

proptest! {
    #[test]
    fn any_bytes_have_one_meaning(bytes in vec(any::<u8>(), 0..300), place in any::<prop::sample::Index>()) {
        for sample in [certificate().to_bytes().unwrap(), list(1).to_bytes(), request().to_bytes().unwrap()] {
            let mut near = sample.clone();
            let place = place.index(near.len());
            let len = bytes.len().min(near.len() - place).min(4);
            near[place..place + len].copy_from_slice(&bytes[..len]);
            for bytes in [&bytes, &near] {
                if let Ok(certificate) = Certificate::parse(bytes) {
                    prop_assert_eq!(&certificate.to_bytes().unwrap(), bytes);
                }
                if let Ok(list) = Revocations::parse(bytes) {
                    prop_assert_eq!(&list.to_bytes(), bytes);
                }
                if let Ok(request) = NameRequest::parse(bytes) {
                    prop_assert_eq!(&request.to_bytes().unwrap(), bytes);
                }
            }
        }
    }
}
