use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::Seed;

fn pair(n: u8) -> KeyPair {
    KeyPair::from_seed(Seed([n; 32]))
}

fn key(n: u16) -> PublicKey {
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    PublicKey(bytes)
}

/// The first document of an overlay that `pair(1)` founded and `pair(2)` may change.
fn sample() -> OverlayDocument {
    OverlayDocument {
        founder: pair(1).public(),
        sequence: 1,
        created: UnixTime(1_800_000_000),
        name: "camp".into(),
        algorithm: 2,
        hash: HashAlgorithm::Sha256,
        base: 2,
        replicas: 5,
        difficulty: 0,
        remote_settings: false,
        profile: Profile::Open,
        links: LinkFamily::Noise,
        kinds: KindRule::today(),
        bootstrap: ["192.0.2.1:7080", "[2001:db8::1]:7080"].iter().map(|a| a.parse().unwrap()).collect(),
        managed: BTreeSet::new(),
        revoked: [key(9)].into(),
        operators: [pair(2).public()].into(),
        authorities: BTreeSet::new(),
    }
}

fn authority(domain: &str) -> Authority {
    let address = "192.0.2.1:7080".parse().unwrap();
    Authority { domain: domain.into(), key: pair(3).public(), address }
}

fn signed(change: impl Fn(&mut OverlayDocument), by: u8) -> SignedDocument {
    let mut document = sample();
    change(&mut document);
    SignedDocument::sign(document, &pair(by)).unwrap()
}

/// Where the bytes of the options begin in the sample.
const OPTIONS: usize = 4 + 1 + 32 + 16 + 1 + "camp".len();

#[test]
fn a_document_reads_as_it_was_written_and_its_signature_covers_every_byte() {
    let signed = signed(|_| (), 1);
    let bytes = signed.to_bytes();
    assert_eq!(SignedDocument::parse(&bytes), Ok(signed.clone()));
    assert!(signed.is_authentic() && signed.is_of_founder());
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        let read = SignedDocument::parse(&changed);
        assert!(read.is_err() || !read.unwrap().is_authentic(), "byte {place}");
    }
}

#[test]
fn the_example_of_the_specification_is_this_document() {
    let text = include_str!("../../../../docs/overlay-document.md");
    let (_, example) = text.split_once("```hex\n").expect("an example");
    let (example, _) = example.split_once("```").expect("its end");
    let bytes = signed(|_| (), 1).to_bytes();
    let lines: Vec<String> = bytes.chunks(40).map(|line| data_encoding::HEXLOWER.encode(line)).collect();
    assert_eq!(example.trim_end(), lines.join("\n"));
}

#[test]
fn what_is_cut_off_or_goes_on_is_no_document() {
    let bytes = signed(|_| (), 1).to_bytes();
    for len in 0..bytes.len() {
        assert!(SignedDocument::parse(&bytes[..len]).is_err(), "{len} bytes");
    }
    assert_eq!(SignedDocument::parse(&[&bytes[..], &[0]].concat()), Err(Flaw::Trailing(1)));
}

#[test]
fn another_beginning_a_later_version_and_unknown_numbers_are_named() {
    let bytes = signed(|_| (), 1).to_bytes();
    let with = |place: usize, value: u8| {
        let mut changed = bytes.clone();
        changed[place] = value;
        SignedDocument::parse(&changed).unwrap_err().to_string()
    };
    assert_eq!(with(0, b'X'), "this is not an overlay document");
    assert_eq!(with(4, 3), "this is version 3, and this program reads version 2; update openvoip");
    assert_eq!(with(OPTIONS + 1, 99), "hash: 99 is not the number of a hash");
    assert_eq!(with(OPTIONS + 2, 9), "base: 2^9 is not 0 or a power of two up to 256");
    assert_eq!(with(OPTIONS + 3, 0), "replicas: 0 is not 1 to 16");
    assert_eq!(with(OPTIONS + 4, 33), "difficulty: 33 is not 0 to 32");
    assert_eq!(with(OPTIONS + 5, 2), "flags: 2 is not 0 or 1 (remote settings)");
    for bits in [0, 8] {
        assert!(with(OPTIONS + 6, bits).starts_with("profile: "));
    }
    assert_eq!(with(OPTIONS + 11, 9), "policy: 9 is not the number of a policy");
    assert!(with(OPTIONS - 4, b' ').contains("is not a word of letters"));
}

#[test]
fn kept_is_what_was_judged_behind_what_was_held_and_nothing_else() {
    let founder = pair(1).public();
    let numbers = |chain: &Chain| chain.documents().iter().map(|d| d.document.sequence).collect::<Vec<_>>();
    let of = |sequence, by| Chain::new(signed(|d| d.sequence = sequence, by));
    let mut held = of(1, 1);
    held.push(signed(|d| d.sequence = 4, 2)).unwrap();
    let taken = |chain: &Chain, held: Option<&Chain>| chain.accept(&founder, held).map(|kept| numbers(&kept));
    assert_eq!(taken(&of(7, 2), Some(&held)), Ok(vec![1, 4, 7]));
    assert_eq!(taken(&of(7, 1), Some(&held)), Ok(vec![7]));
    assert_eq!(taken(&of(7, 2), None), Err(Refusal::Signer(pair(2).public())));
    assert_eq!(taken(&held, Some(&held)), Err(Refusal::Old { theirs: 4, held: 4 }));
    // An older document is old, whoever may sign by now.
    let without = Chain::new(signed(|d| (d.sequence, d.operators) = (9, BTreeSet::new()), 1));
    assert_eq!(taken(&of(7, 2), Some(&without)), Err(Refusal::Old { theirs: 7, held: 9 }));
    // What nobody signed stands neither in front nor in the middle.
    let forged =
        |sequence: u64| SignedDocument { signature: [7; 64], ..signed(|d| d.sequence = sequence, 1) };
    for forged in [forged(1), forged(3)] {
        let with = |documents: &[&SignedDocument]| {
            let bytes: Vec<u8> = documents.iter().flat_map(|d| d.to_bytes()).collect();
            Chain::parse(&bytes).unwrap()
        };
        let (third, seventh) = (of(3, 1), of(7, 2));
        let spoiled = with(&[&forged, seventh.newest()]);
        assert_eq!(taken(&spoiled, Some(&held)), Ok(vec![1, 4, 7]));
        assert_eq!(taken(&spoiled, None), Err(Refusal::Signature(founder)));
        let spoiled = with(&[third.newest(), &forged, seventh.newest()]);
        assert_eq!(taken(&spoiled, None), Ok(vec![3, 7]));
    }
    while held.documents().len() < MAX_CHAIN {
        let next = held.newest().document.sequence + 1;
        held.push(signed(|d| d.sequence = next, 2)).unwrap();
    }
    assert_eq!(taken(&of(99, 2), Some(&held)), Err(Refusal::Long));
    assert_eq!(taken(&of(99, 1), Some(&held)), Ok(vec![99]));
}

#[test]
fn two_rules_for_one_kind_and_a_key_revoked_and_trusted_are_contradictions() {
    let two = [Policy::FirstOwner, Policy::EachOwner];
    let rule = |policy| KindRule { kind: Kind::USER, policy, max_value: 1 };
    let mut document = OverlayDocument { kinds: two.map(rule).into(), ..sample() };
    assert_eq!(document.check(), Err(Flaw::Order("kinds")));
    for revoked in [pair(1).public(), pair(2).public()] {
        document = OverlayDocument { revoked: [revoked].into(), ..sample() };
        assert!(document.check().unwrap_err().to_string().contains("trusted to sign"), "{revoked}");
    }
}

#[test]
fn a_document_with_authorities_is_of_version_2_and_one_without_of_version_1() {
    let with = |authorities: &[Authority]| OverlayDocument {
        authorities: authorities.iter().cloned().collect(),
        ..sample()
    };
    let every = signed(|d| d.authorities = [authority(""), authority("camp.example")].into(), 1);
    assert_eq!((signed(|_| (), 1).to_bytes()[4], every.to_bytes()[4]), (1, 2));
    assert_eq!(SignedDocument::parse(&every.to_bytes()), Ok(every));
    // Version 2 with no authority would be a second encoding of a document without.
    let mut bytes = signed(|_| (), 1).to_bytes();
    bytes[4] = 2;
    bytes.splice(bytes.len() - 96..bytes.len() - 96, [0, 0]);
    assert!(SignedDocument::parse(&bytes).unwrap_err().to_string().starts_with("authorities: "));
    let other = Authority { key: pair(4).public(), ..authority("camp.example") };
    assert_eq!(with(&[authority("camp.example"), other]).check(), Err(Flaw::Order("authorities")));
    assert!(with(&[authority("Camp")]).check().is_err() && with(&[authority("a b")]).check().is_err());
    let nowhere = Authority { address: "0.0.0.0:7080".parse().unwrap(), ..authority("camp") };
    assert!(with(&[nowhere]).check().is_err());
    let mut banned = with(&[authority("camp")]);
    banned.revoked.insert(pair(3).public());
    assert!(banned.check().unwrap_err().to_string().contains("trusted to sign"));
}

#[test]
fn the_largest_document_is_as_long_as_the_bound_and_one_item_more_is_refused() {
    let address = |n: usize| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n as u16 + 1], 7_080));
    let keys = |count: usize, start: u16| (0..count as u16).map(|n| key(start + n)).collect();
    let rule = |n| KindRule { kind: Kind(n), policy: Policy::EachOwner, max_value: 1 };
    let largest = OverlayDocument {
        name: "n".repeat(strict::MAX_NAME),
        kinds: (0..MAX_KINDS as u16).map(rule).collect(),
        bootstrap: (0..MAX_BOOTSTRAP).map(address).collect(),
        managed: keys(MAX_MANAGED, 0),
        revoked: keys(MAX_REVOKED, 1_000),
        operators: keys(MAX_OPERATORS, 2_000),
        authorities: (0..MAX_AUTHORITIES)
            .map(|n| Authority {
                address: address(0),
                ..authority(&format!("{n}{}", "d".repeat(strict::MAX_NAME - 1)))
            })
            .collect(),
        ..sample()
    };
    let signed = SignedDocument::sign(largest.clone(), &pair(1)).unwrap();
    assert_eq!(signed.to_bytes().len(), MAX_LEN);
    assert_eq!(SignedDocument::parse(&signed.to_bytes()), Ok(signed));
    let longer: [fn(&mut OverlayDocument); 7] = [
        |d| d.name.push('n'),
        |d| _ = d.kinds.insert(KindRule { kind: Kind(99), policy: Policy::OwnPlace, max_value: 0 }),
        |d| _ = d.bootstrap.insert(SocketAddr::from(([192, 0, 2, 1], 7_080))),
        |d| _ = d.managed.insert(key(900)),
        |d| _ = d.revoked.insert(key(1_900)),
        |d| _ = d.operators.insert(key(2_900)),
        |d| _ = d.authorities.insert(authority("")),
    ];
    for (n, longer) in longer.iter().enumerate() {
        let mut document = largest.clone();
        longer(&mut document);
        let unchecked = SignedDocument { document, signer: key(0), signature: [0; 64] };
        assert!(unchecked.document.check().is_err(), "{n}");
        assert!(SignedDocument::parse(&unchecked.to_bytes()).is_err(), "{n}");
    }
    let over = vec![0; MAX_LEN + 1];
    assert!(matches!(SignedDocument::parse(&over), Err(Flaw::TooMany { what: "bytes", .. })));
}

/// The order of the group, L of RFC 8032 section 5.1, least significant byte first.
const GROUP_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

#[test]
fn a_signature_has_one_form() {
    let mut signed = signed(|_| (), 1);
    // S + L passes the equation of RFC 8032 as S does; only the check of its range tells them apart.
    let mut carry = 0;
    for (byte, order) in signed.signature[32..].iter_mut().zip(GROUP_ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    assert_eq!(carry, 0);
    assert!(!signed.is_authentic());
    // A key of small order could have "signed" anything.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut anything = signed.clone();
    anything.signer = PublicKey(neutral);
    anything.signature = [0; 64];
    anything.signature[0] = 1;
    assert!(!anything.is_authentic());
}

#[test]
fn the_founder_or_an_operator_of_the_document_before_may_sign_the_next() {
    let founder = pair(1).public();
    let first = signed(|_| (), 1);
    assert_eq!(first.accept(&founder, None), Ok(()));
    let second = signed(|d| (d.sequence, d.operators) = (2, [pair(3).public()].into()), 2);
    assert_eq!(second.accept(&founder, Some(&first.document)), Ok(()));
    // The new operator could not have appointed itself, and the old one is out.
    let third = |by| signed(|d| d.sequence = 3, by);
    assert_eq!(third(3).accept(&founder, Some(&first.document)), Err(Refusal::Signer(pair(3).public())));
    assert_eq!(third(3).accept(&founder, Some(&second.document)), Ok(()));
    assert_eq!(third(2).accept(&founder, Some(&second.document)), Err(Refusal::Signer(pair(2).public())));
    assert_eq!(third(1).accept(&founder, Some(&second.document)), Ok(()));
    // Whoever holds nothing cannot know the operators.
    assert_eq!(second.accept(&founder, None), Err(Refusal::Signer(pair(2).public())));
}

/// The founder's first document, and two that follow it: signed by 2 and by 3, each appointed by the one before.
fn chain() -> Chain {
    let mut chain = Chain::new(signed(|_| (), 1));
    chain.push(signed(|d| (d.sequence, d.operators) = (2, [pair(3).public()].into()), 2)).unwrap();
    chain.push(signed(|d| d.sequence = 3, 3)).unwrap();
    chain
}

#[test]
fn who_knows_only_the_founder_key_accepts_a_whole_chain_and_no_part_without_its_beginning() {
    let (chain, founder) = (chain(), pair(1).public());
    assert_eq!(Chain::parse(&chain.to_bytes()), Ok(chain.clone()));
    assert_eq!(chain.accept(&founder, None), Ok(chain.clone()));
    let without = |n: usize| {
        let mut documents = chain.documents().to_vec();
        documents.remove(n);
        let bytes: Vec<u8> = documents.iter().flat_map(SignedDocument::to_bytes).collect();
        Chain::parse(&bytes).unwrap()
    };
    assert_eq!(without(0).accept(&founder, None), Err(Refusal::Signer(pair(2).public())));
    assert_eq!(without(1).accept(&founder, None), Err(Refusal::Signer(pair(3).public())));
    assert!(without(2).accept(&founder, None).is_ok());
    assert!(matches!(chain.accept(&pair(9).public(), None), Err(Refusal::Founder { .. })));
    let mut bytes = chain.to_bytes();
    *bytes.last_mut().unwrap() ^= 1;
    let forged = Chain::parse(&bytes).unwrap();
    assert_eq!(forged.accept(&founder, None), Err(Refusal::Signature(pair(3).public())));
    assert!(Chain::parse(&[]).is_err() && Chain::parse(&bytes[..bytes.len() - 1]).is_err());
}

#[test]
fn who_holds_a_document_goes_on_from_there_and_not_back() {
    let (chain, founder) = (chain(), pair(1).public());
    let first = Chain::new(chain.documents()[0].clone());
    let mut second = first.clone();
    second.push(chain.documents()[1].clone()).unwrap();
    for held in [&first, &second] {
        assert_eq!(chain.accept(&founder, Some(held)), Ok(chain.clone()));
    }
    let old = Refusal::Old { theirs: 1, held: 3 };
    assert_eq!(first.accept(&founder, Some(&chain)), Err(old));
    // Another document 2 than the one held appoints nobody.
    let held = Chain::new(signed(|d| d.sequence = 2, 1));
    assert_eq!(chain.accept(&founder, Some(&held)), Err(Refusal::Signer(pair(3).public())));
}

#[test]
fn a_chain_has_a_bound_and_the_founder_begins_a_new_one() {
    let mut chain = Chain::new(signed(|_| (), 1));
    for sequence in 2..=MAX_CHAIN as u64 {
        chain.push(signed(|d| d.sequence = sequence, 2)).unwrap();
    }
    let next = |by| signed(|d| d.sequence = 100, by);
    assert!(matches!(chain.push(next(2)), Err(Flaw::TooMany { what: "documents", count: 33, most: 32 })));
    let longer = [chain.to_bytes(), next(2).to_bytes()].concat();
    assert!(matches!(Chain::parse(&longer), Err(Flaw::TooMany { what: "documents", .. })));
    chain.push(next(1)).unwrap();
    assert_eq!(chain, Chain::new(next(1)));
}

#[test]
fn another_founder_an_older_sequence_and_a_broken_signature_are_refused() {
    let (first, founder) = (signed(|d| d.sequence = 5, 1), pair(1).public());
    let other = pair(4).public();
    let refusal = Refusal::Founder { theirs: founder, ours: other };
    assert_eq!(first.accept(&other, None), Err(refusal));
    for sequence in [4, 5] {
        let refusal = Refusal::Old { theirs: sequence, held: 5 };
        let late = signed(|d| d.sequence = sequence, 1);
        assert_eq!(late.accept(&founder, Some(&first.document)), Err(refusal));
    }
    let mut forged = first;
    forged.document.replicas = 1;
    assert_eq!(forged.accept(&founder, None), Err(Refusal::Signature(founder)));
}

fn any_keys(most: usize, mark: u8) -> impl Strategy<Value = BTreeSet<PublicKey>> {
    // The mark keeps revoked keys apart from others.
    let key = any::<[u8; 32]>().prop_map(move |mut bytes| {
        bytes[31] = mark;
        PublicKey(bytes)
    });
    btree_set(key, 0..most.min(20))
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<([u8; 4], u16)>().prop_map(SocketAddr::from);
    let v6 = any::<([u8; 16], u16)>().prop_map(SocketAddr::from);
    prop_oneof![v4, v6].prop_filter("can be written to", |a| strict::check_peer_address(a).is_ok())
}

prop_compose! {
    fn any_document()(
        (sequence, created, algorithm, remote_settings) in any::<(u64, u64, u8, bool)>(),
        name in "[a-zà-öø-ü0-9-]{1,60}",
        hash in prop::sample::select(HashAlgorithm::ALL.to_vec()),
        base_bits in 0..=MAX_BASE_BITS,
        replicas in 1..=MAX_REPLICAS,
        difficulty in 0..=MAX_DIFFICULTY,
        (profile, links) in prop::sample::select(crate::profile::EVERY.to_vec()),
        kinds in btree_set(any::<u16>(), 0..=MAX_KINDS),
        policy in prop::sample::select(Policy::ALL.to_vec()),
        max_value in any::<u16>(),
        bootstrap in btree_set(any_address(), 0..=MAX_BOOTSTRAP),
        managed in any_keys(MAX_MANAGED, 1),
        revoked in any_keys(MAX_REVOKED, 2),
        operators in any_keys(MAX_OPERATORS, 1),
        domains in btree_set("[a-z]{0,3}", 0..=MAX_AUTHORITIES),
    ) -> OverlayDocument {
        OverlayDocument {
            founder: key(1),
            sequence,
            created: UnixTime(created),
            name,
            algorithm,
            hash,
            base: if base_bits == 0 { 0 } else { 1 << base_bits },
            replicas,
            difficulty,
            remote_settings,
            profile,
            links,
            kinds: kinds.into_iter().map(|n| KindRule { kind: Kind(n), policy, max_value }).collect(),
            bootstrap,
            managed,
            revoked,
            operators,
            authorities: domains.iter().map(|domain| authority(domain)).collect(),
        }
    }
}

proptest! {
    #[test]
    fn any_document_reads_as_it_was_written(document in any_document(), by in 1_u8..9) {
        let signed = SignedDocument::sign(document, &pair(by)).unwrap();
        let bytes = signed.to_bytes();
        prop_assert!(bytes.len() <= MAX_LEN && signed.is_authentic());
        prop_assert_eq!(SignedDocument::parse(&bytes), Ok(signed));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..600), valid in any::<bool>()) {
        let mut bytes = bytes;
        if valid {
            bytes.splice(0..0, [&MAGIC[..], &[VERSION]].concat());
        }
        if let Ok(signed) = SignedDocument::parse(&bytes) {
            prop_assert_eq!(signed.to_bytes(), bytes);
        }
    }

    #[test]
    fn what_still_reads_after_a_change_has_one_encoding(
        document in any_document(), place in any::<prop::sample::Index>(), value in any::<u8>()
    ) {
        let mut bytes = SignedDocument::sign(document, &pair(1)).unwrap().to_bytes();
        let place = place.index(bytes.len());
        bytes[place] = value;
        if let Ok(signed) = SignedDocument::parse(&bytes) {
            prop_assert_eq!(signed.to_bytes(), bytes);
        }
    }
}
