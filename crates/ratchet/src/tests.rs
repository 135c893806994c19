//! Two ends of ratchets, and what an enemy between them has: everything that was written.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use wire::HashAlgorithm;

use super::*;
use crate::account::FALLBACK_FOR;
use crate::correspondent::{MAX_ENDED, MAX_SESSIONS};

const NOW: UnixTime = UnixTime(1_800_000_000);
const BOUND: [u8; 32] = [7; 32];

/// A disk, which may be full.
#[derive(Clone, Default)]
struct Disk {
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    full: Arc<AtomicBool>,
    /// How often it was waited for.
    lasting: Arc<AtomicUsize>,
    aside: Arc<Mutex<Vec<String>>>,
}

impl Disk {
    /// What a thief takes away.
    fn copy(&self) -> Disk {
        let files = self.files.lock().unwrap().clone();
        Disk { files: Arc::new(Mutex::new(files)), ..Disk::default() }
    }
}

impl Store for Disk {
    fn load(&self) -> Result<Vec<Kept>, String> {
        let files = self.files.lock().unwrap();
        Ok(files.iter().map(|(name, bytes)| (name.clone(), bytes.clone().into())).collect())
    }

    fn save(&self, name: &str, bytes: &[u8], lasts: bool) -> Result<(), String> {
        if self.full.load(Ordering::Relaxed) {
            return Err("no room".into());
        }
        self.lasting.fetch_add(usize::from(lasts), Ordering::Relaxed);
        self.files.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn remove(&self, name: &str) {
        self.files.lock().unwrap().remove(name);
    }

    fn set_aside(&self, name: &str) {
        self.remove(name);
        self.aside.lock().unwrap().push(name.to_owned());
    }
}

fn id(n: u32) -> NodeId {
    NodeId(HashAlgorithm::Sha256.digest(&n.to_be_bytes()))
}

const ALICE: u32 = 1;
const BOB: u32 = 2;

fn on(disk: &Disk) -> Olm {
    Olm::new(Box::new(disk.clone()), NOW).unwrap()
}

/// Alice, who has begun to write to Bob, and Bob, each with a disk.
fn two() -> (Olm, Olm, [Disk; 2]) {
    let disks = [Disk::default(), Disk::default()];
    let [mut alice, bob] = [on(&disks[0]), on(&disks[1])];
    assert!(alice.begin(NOW, id(BOB), &bob.prekeys(), true));
    (alice, bob, disks)
}

fn write(from: &mut Olm, to: u32, text: &str) -> Sealed {
    from.seal(&id(to), &BOUND, text.as_bytes(), true).unwrap()
}

fn read(at: &mut Olm, from: u32, letter: &Sealed) -> Result<String, Unopened> {
    at.open(NOW, id(from), &BOUND, letter).map(|text| String::from_utf8(text).unwrap())
}

#[test]
fn both_write_and_letters_open_once_in_any_order() {
    let (mut alice, mut bob, _) = two();
    let mut letters: Vec<Sealed> = (0..5).map(|n| write(&mut alice, BOB, &format!("to bob {n}"))).collect();
    assert!(letters.iter().all(|l| l.opening), "until he has answered");
    for n in [3, 0, 4] {
        assert_eq!(read(&mut bob, ALICE, &letters[n]), Ok(format!("to bob {n}")));
    }
    let answer = write(&mut bob, ALICE, "to alice");
    assert!(!answer.opening);
    assert_eq!(read(&mut alice, BOB, &answer), Ok("to alice".into()));
    letters.push(write(&mut alice, BOB, "to bob 5"));
    assert!(!letters[5].opening);
    for n in [5, 2, 1] {
        assert_eq!(read(&mut bob, ALICE, &letters[n]), Ok(format!("to bob {n}")));
    }
    for letter in &letters {
        assert_eq!(read(&mut bob, ALICE, letter), Err(Unopened::Again));
    }
}

#[test]
fn who_takes_everything_that_an_end_has_opens_no_earlier_letter() {
    let (mut alice, mut bob, disks) = two();
    let mut recorded = Vec::new();
    for n in 0..3 {
        let letter = write(&mut alice, BOB, &format!("{n}"));
        read(&mut bob, ALICE, &letter).unwrap();
        let answer = write(&mut bob, ALICE, &format!("answer {n}"));
        read(&mut alice, BOB, &answer).unwrap();
        recorded.push((letter, answer));
    }
    // What the first letter was for is on his disk until the fallback key is gone.
    for week in 1..=2 {
        bob.rotate(UnixTime(NOW.0 + week * FALLBACK_FOR));
    }
    let [mut as_alice, mut as_bob] = disks.map(|disk| on(&disk.copy()));
    for (letter, answer) in &recorded {
        assert!(read(&mut as_bob, ALICE, letter).is_err());
        assert!(read(&mut as_alice, BOB, answer).is_err());
        // And neither by forgetting that they were opened, which leaves the keys of first letters.
        as_bob.peers.clear();
        as_alice.peers.clear();
    }
    let first = &recorded[0].0;
    assert_eq!(read(&mut as_bob, ALICE, first), Err(Unopened::Unknown));
}

#[test]
fn a_fallback_key_opens_for_two_weeks_and_not_longer() {
    let (mut alice, mut bob, _) = two();
    let early = bob.prekeys();
    let letter = write(&mut alice, BOB, "hello");
    bob.rotate(UnixTime(NOW.0 + FALLBACK_FOR - 1));
    assert_eq!(bob.prekeys(), early);
    bob.rotate(UnixTime(NOW.0 + FALLBACK_FOR));
    assert_ne!(bob.prekeys().fallback, early.fallback);
    assert_eq!(bob.prekeys().identity, early.identity);
    assert_eq!(read(&mut bob, ALICE, &letter), Ok("hello".into()));
    let (mut alice, mut bob, _) = two();
    let letter = write(&mut alice, BOB, "hello");
    for week in 1..=2 {
        bob.rotate(UnixTime(NOW.0 + week * FALLBACK_FOR));
    }
    assert_eq!(read(&mut bob, ALICE, &letter), Err(Unopened::Unknown));
}

#[test]
fn a_letter_passed_off_as_anothers_or_for_another_does_not_open_and_harms_nothing() {
    let (mut alice, mut bob, _) = two();
    let first = write(&mut alice, BOB, "hello");
    let bound_to_others = [8; 32];
    assert_eq!(bob.open(NOW, id(3), &bound_to_others, &first), Err(Unopened::Unknown));
    assert!(!bob.knows(&id(3)), "and nothing of it stays");
    assert_eq!(read(&mut bob, ALICE, &first), Ok("hello".into()));
    let answer = write(&mut bob, ALICE, "hi");
    // Spliced into another's session, or altered anywhere.
    assert!(alice.begin(NOW, id(3), &on(&Disk::default()).prekeys(), true));
    assert_eq!(read(&mut alice, 3, &answer), Err(Unopened::Unknown));
    for at in 0..answer.bytes.len() {
        let mut altered = answer.clone();
        altered.bytes[at] ^= 1;
        assert!(read(&mut alice, BOB, &altered).is_err(), "byte {at}");
    }
    assert_eq!(read(&mut alice, BOB, &answer), Ok("hi".into()));
}

#[test]
fn both_go_on_after_a_restart_and_what_was_opened_before_it_stays_opened() {
    let (mut alice, mut bob, disks) = two();
    let first = write(&mut alice, BOB, "one");
    read(&mut bob, ALICE, &first).unwrap();
    let keys = bob.prekeys();
    drop((alice, bob));
    let [mut alice, mut bob] = [on(&disks[0]), on(&disks[1])];
    assert_eq!(bob.prekeys(), keys);
    assert_eq!(read(&mut bob, ALICE, &first), Err(Unopened::Again));
    let second = write(&mut alice, BOB, "two");
    assert_eq!(read(&mut bob, ALICE, &second), Ok("two".into()));
    let answer = write(&mut bob, ALICE, "three");
    assert_eq!(read(&mut alice, BOB, &answer), Ok("three".into()));
}

#[test]
fn what_is_not_kept_has_not_happened() {
    let (mut alice, mut bob, disks) = two();
    let first = write(&mut alice, BOB, "one");
    disks.iter().for_each(|disk| disk.full.store(true, Ordering::Relaxed));
    assert_eq!(alice.seal(&id(BOB), &BOUND, b"two", true), None);
    assert!(!alice.begin(NOW, id(3), &bob.prekeys(), true) && !alice.knows(&id(3)));
    assert_eq!(read(&mut bob, ALICE, &first), Err(Unopened::NotKept));
    let keys = bob.prekeys();
    assert!(!bob.rotate(UnixTime(NOW.0 + FALLBACK_FOR)));
    assert_eq!(bob.prekeys(), keys);
    disks.iter().for_each(|disk| disk.full.store(false, Ordering::Relaxed));
    assert_eq!(read(&mut bob, ALICE, &first), Ok("one".into()));
    let second = write(&mut alice, BOB, "two");
    assert_eq!(read(&mut bob, ALICE, &second), Ok("two".into()));
}

#[test]
fn two_that_write_first_at_the_same_time_hear_each_other_and_go_on() {
    let [mut alice, mut bob] = [on(&Disk::default()), on(&Disk::default())];
    assert!(
        alice.begin(NOW, id(BOB), &bob.prekeys(), true) && bob.begin(NOW, id(ALICE), &alice.prekeys(), true)
    );
    let crossing = (write(&mut alice, BOB, "from alice"), write(&mut bob, ALICE, "from bob"));
    assert_eq!(read(&mut bob, ALICE, &crossing.0), Ok("from alice".into()));
    assert_eq!(read(&mut alice, BOB, &crossing.1), Ok("from bob".into()));
    for n in 0..4 {
        let letter = write(&mut alice, BOB, "more");
        assert_eq!(read(&mut bob, ALICE, &letter), Ok("more".into()), "{n}");
        let answer = write(&mut bob, ALICE, "answer");
        assert_eq!(read(&mut alice, BOB, &answer), Ok("answer".into()), "{n}");
    }
}

#[test]
fn lost_state_is_unknown_and_an_old_state_again_and_new_keys_mend_both() {
    let (mut alice, mut bob, disks) = two();
    let old = disks[0].copy();
    let letter = write(&mut alice, BOB, "one");
    read(&mut bob, ALICE, &letter).unwrap();
    let answer = write(&mut bob, ALICE, "answer");
    read(&mut alice, BOB, &answer).unwrap();
    let letter = write(&mut alice, BOB, "two");
    let mut wiped = on(&Disk::default());
    assert_eq!(read(&mut wiped, ALICE, &letter), Err(Unopened::Unknown));
    assert!(alice.begin(NOW, id(BOB), &wiped.prekeys(), true));
    let letter = write(&mut alice, BOB, "two");
    assert_eq!(read(&mut wiped, ALICE, &letter), Ok("two".into()));
    let mut alice = on(&old);
    let letter = write(&mut alice, BOB, "by a key that was used");
    assert_eq!(read(&mut bob, ALICE, &letter), Err(Unopened::Again));
    assert!(alice.begin(NOW, id(BOB), &bob.prekeys(), true));
    let letter = write(&mut alice, BOB, "three");
    assert_eq!(read(&mut bob, ALICE, &letter), Ok("three".into()));
}

#[test]
fn sessions_with_a_peer_are_few_and_an_ended_one_does_not_begin_again() {
    let (mut alice, mut bob, disks) = two();
    let mut firsts = Vec::new();
    for _ in 0..MAX_SESSIONS + 3 {
        assert!(alice.begin(NOW, id(BOB), &bob.prekeys(), true));
        let first = write(&mut alice, BOB, "again");
        assert!(read(&mut bob, ALICE, &first).is_ok());
        firsts.push(first);
    }
    for first in &firsts {
        assert_eq!(read(&mut bob, ALICE, first), Err(Unopened::Again));
    }
    let mut bob = on(&disks[1]);
    assert_eq!(read(&mut bob, ALICE, &firsts[0]), Err(Unopened::Again), "after a restart too");
    for _ in 0..MAX_ENDED + 1 {
        assert!(alice.begin(NOW, id(BOB), &bob.prekeys(), true));
    }
    assert!(disks[0].files.lock().unwrap()[&id(BOB).to_string()].len() < 16 << 10);
}

#[test]
fn what_is_kept_of_a_peer_that_skips_as_many_as_it_can_is_bounded() {
    let (mut alice, mut bob, disks) = two();
    for _ in 0..8 {
        (0..100).for_each(|_| drop(write(&mut alice, BOB, "never sent")));
        let letter = write(&mut alice, BOB, "sent");
        assert!(read(&mut bob, ALICE, &letter).is_ok());
        let answer = write(&mut bob, ALICE, "so a new chain begins");
        assert!(read(&mut alice, BOB, &answer).is_ok());
    }
    let kept = disks[1].files.lock().unwrap()[&id(ALICE).to_string()].len();
    assert!((10_000..60_000).contains(&kept), "{kept}");
}

/// A letter of somebody new, from one end.
fn stranger(alice: &mut Olm, bob: &Olm) -> Sealed {
    assert!(alice.begin(NOW, id(BOB), &bob.prekeys(), true));
    write(alice, BOB, "from one of many")
}

#[test]
fn strangers_push_out_strangers_and_not_whom_we_wrote_to() {
    let (mut alice, mut bob, disks) = two();
    assert!(bob.begin(NOW, id(ALICE), &alice.prekeys(), true));
    write(&mut bob, ALICE, "a friend");
    for n in 0..MAX_STRANGERS as u32 + 10 {
        let letter = stranger(&mut alice, &bob);
        let later = UnixTime(NOW.0 + u64::from(n) + 1);
        assert!(bob.open(later, id(100 + n), &BOUND, &letter).is_ok());
        assert!(bob.seal(&id(100 + n), &BOUND, b"an answer, or a notice", false).is_some());
    }
    assert_eq!(bob.peers.len(), MAX_STRANGERS + 1);
    assert!(bob.has_written(&id(ALICE)) && !bob.has_written(&id(200)));
    assert!(bob.knows(&id(ALICE)), "silent for longest, and a friend");
    assert!(!bob.knows(&id(100)) && bob.knows(&id(100 + MAX_STRANGERS as u32 + 9)));
    assert_eq!(disks[1].files.lock().unwrap().len(), MAX_STRANGERS + 2, "and the account");
    assert!(bob.peers.values().filter(|p| !p.written).all(|p| p.kept_sessions() == 1));
}

#[test]
fn where_all_are_friends_a_stranger_finds_no_room_and_who_is_written_to_takes_that_of_the_one_silent_for_longest()
 {
    let (mut alice, mut bob, _) = two();
    for n in 0..MAX_PEERS as u32 {
        assert!(bob.begin(UnixTime(NOW.0 + u64::from(n)), id(100 + n), &alice.prekeys(), true));
    }
    let letter = stranger(&mut alice, &bob);
    assert_eq!(read(&mut bob, ALICE, &letter), Err(Unopened::NotKept));
    assert!(!bob.begin(NOW, id(ALICE), &alice.prekeys(), false) && bob.knows(&id(100)));
    assert!(bob.begin(NOW, id(ALICE), &alice.prekeys(), true));
    assert!(bob.knows(&id(ALICE)) && !bob.knows(&id(100)));
    assert_eq!(bob.peers.len(), MAX_PEERS);
}

#[test]
fn on_a_full_disk_a_strangers_letter_removes_nobody() {
    let (mut alice, mut bob, disks) = two();
    for n in 0..MAX_STRANGERS as u32 {
        let letter = stranger(&mut alice, &bob);
        assert!(read(&mut bob, 100 + n, &letter).is_ok());
    }
    disks[1].full.store(true, Ordering::Relaxed);
    let letter = stranger(&mut alice, &bob);
    assert_eq!(read(&mut bob, 99, &letter), Err(Unopened::NotKept));
    assert_eq!(bob.peers.len(), MAX_STRANGERS);
    assert!((0..MAX_STRANGERS as u32).all(|n| bob.knows(&id(100 + n))));
    assert_eq!(on(&disks[1].copy()).peers.len(), MAX_STRANGERS, "on disk too");
}

#[test]
fn who_was_away_for_longer_than_a_key_may_open_forgets_it_with_the_turn() {
    let (mut alice, mut bob, _) = two();
    let letter = write(&mut alice, BOB, "hello");
    assert!(bob.rotate(UnixTime(NOW.0 + 30 * 86_400)));
    assert_eq!(read(&mut bob, ALICE, &letter), Err(Unopened::Unknown));
    let keys = bob.prekeys();
    assert!(bob.rotate(NOW));
    assert_eq!(bob.prekeys(), keys, "a clock that goes back turns nothing");
}

#[test]
fn only_what_a_person_writes_waits_for_the_disk() {
    let (mut alice, mut bob, disks) = two();
    let lasting = || disks[1].lasting.swap(0, Ordering::Relaxed);
    assert_eq!(lasting(), 1, "the account");
    let letter = write(&mut alice, BOB, "hello");
    read(&mut bob, ALICE, &letter).unwrap();
    assert!(bob.begin(NOW, id(ALICE), &alice.prekeys(), true));
    assert!(bob.seal(&id(ALICE), &BOUND, b"an answer", false).is_some());
    assert_eq!(lasting(), 0);
    write(&mut bob, ALICE, "from a person");
    assert_eq!(lasting(), 1);
}

#[test]
fn what_cannot_be_understood_is_set_aside_and_the_rest_is_there() {
    let (mut alice, mut bob, disks) = two();
    let letter = write(&mut alice, BOB, "hello");
    read(&mut bob, ALICE, &letter).unwrap();
    disks[1].files.lock().unwrap().insert(id(9).to_string(), b"{\"sessions\":".to_vec());
    let bob = on(&disks[1]);
    assert!(bob.knows(&id(ALICE)) && !bob.knows(&id(9)));
    assert_eq!(*disks[1].aside.lock().unwrap(), [id(9).to_string()]);
}

#[test]
fn keys_of_small_order_begin_nothing() {
    let (mut alice, ..) = two();
    for point in [[0; 32], {
        let mut one = [0; 32];
        one[0] = 1;
        one
    }] {
        assert!(!alice.begin(NOW, id(3), &Prekeys { identity: point, fallback: point }, true));
    }
    assert!(!alice.knows(&id(3)));
}

proptest! {
    #[test]
    fn any_bytes_are_refused(opening: bool, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (mut alice, mut bob, _) = two();
        let letter = write(&mut alice, BOB, "hello");
        let sealed = Sealed { opening, bytes };
        prop_assert!(read(&mut bob, ALICE, &sealed).is_err());
        prop_assert_eq!(read(&mut bob, ALICE, &letter), Ok("hello".into()));
    }
}
