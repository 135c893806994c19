//! What the golden vectors say about records is what a peer writes: where a user's record stands, and
//! what is in it.

use node::directory::{canonical_aor, place_of_user};
use node::storage::Devices;
use wire::{HashAlgorithm, KeyPair, Seed};

const FILE: &str = include_str!("../../../docs/p2pp-vectors.txt");

/// The object line of a vector.
fn object(name: &str) -> &'static str {
    let vector = FILE.split("\n[").find(|v| v.starts_with(&format!("{name}]"))).expect(name);
    vector.lines().find_map(|l| l.strip_prefix("object: ")).expect("an object")
}

#[test]
fn a_user_stands_where_the_vectors_say() {
    let place = place_of_user(HashAlgorithm::Sha256, &canonical_aor("sip:Alice@demo.test", "else.where"));
    assert_eq!(object("object/Resource-ID"), format!("Resource-ID {place}"));
}

#[test]
fn a_device_list_reads_as_the_vectors_say() {
    let device = KeyPair::from_seed(Seed([0x22; 32])).public();
    let value: String = Devices(vec![device]).to_bytes().iter().map(|b| format!("{b:02x}")).collect();
    assert!(object("object/Resource-Object").ends_with(&format!(" value={value}")));
}
