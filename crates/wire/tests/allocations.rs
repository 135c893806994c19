//! Receiving allocates nothing: a message borrows its datagram, and what is read of it stands on the
//! stack until somebody keeps it.

use wire::p2pp::{Message, Object, Record};
use wire::{HashAlgorithm, KeyPair, ResourceId, Seed, UnixTime};

/// Every datagram of the golden vectors, the hostile ones too.
fn datagrams() -> Vec<(String, Vec<u8>)> {
    let file = include_str!("../../../docs/p2pp-vectors.txt");
    let mut found: Vec<(String, String)> = Vec::new();
    for line in file.lines() {
        if let Some(name) = line.strip_prefix('[') {
            found.push((name.trim_end_matches(']').to_owned(), String::new()));
        } else if let Some(hex) = line.strip_prefix("hex:").or_else(|| line.strip_prefix(' ')) {
            found.last_mut().expect("a name comes first").1.push_str(hex.trim());
        }
    }
    found.retain(|(name, _)| !name.starts_with("object/"));
    let decode = |hex: String| data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal");
    found.into_iter().map(|(name, hex)| (name, decode(hex))).collect()
}

fn allocations(work: impl FnOnce()) -> u64 {
    allocation_counter::measure(work).count_total
}

/// Looks at everything in a message, as far as it is one.
fn read(datagram: &[u8]) -> usize {
    let Ok(message) = Message::parse(datagram) else { return 0 };
    let parts = message.objects().map(|object| match object {
        Object::RoutingTable(list) | Object::NeighborTable(list) => list.contacts().count(),
        Object::PeerInfo(info) => info.addresses.len(),
        Object::Resource(record) => record.value.len(),
        _ => 1,
    });
    parts.sum()
}

#[test]
fn reading_any_message_allocates_nothing() {
    let datagrams = datagrams();
    assert!(datagrams.len() > 60);
    for (name, datagram) in datagrams {
        let mut parts = 0;
        assert_eq!(allocations(|| parts = read(&datagram)), 0, "{name}, {parts} parts");
    }
}

#[test]
fn checking_signatures_allocates_nothing() {
    for (name, datagram) in datagrams() {
        let Ok(message) = Message::parse(&datagram) else { continue };
        let mut signer = None;
        assert_eq!(allocations(|| signer = message.signer(HashAlgorithm::Sha256)), 0, "{name}");
    }
    let owner = KeyPair::from_seed(Seed([1; 32]));
    let place = ResourceId(HashAlgorithm::Sha256.digest(b"somewhere"));
    let value = vec![0; wire::p2pp::record::MAX_VALUE];
    let record = Record::sign(&owner, place, wire::p2pp::Kind::DATA, 1, UnixTime(1), 60, value);
    let mut good = false;
    assert_eq!(allocations(|| good = record.as_ref().verify()), 0);
    assert!(good);
}

#[test]
fn what_is_kept_is_counted() {
    let owner = KeyPair::from_seed(Seed([1; 32]));
    let place = ResourceId(HashAlgorithm::Sha256.digest(b"somewhere"));
    let record = Record::sign(&owner, place, wire::p2pp::Kind::DATA, 1, UnixTime(1), 60, vec![7]);
    // One for the value; the counter counts.
    let borrowed = record.as_ref();
    let mut kept = None;
    assert_eq!(allocations(|| kept = Some(borrowed.to_record())), 1);
    assert_eq!(kept, Some(record.clone()));
}
