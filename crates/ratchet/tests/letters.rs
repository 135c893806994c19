//! Letters between whole peers over a network: who hears what, how often, and by what it was protected.

#[path = "../../node/tests/world/mod.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use node::ratchet::{Prekeys, Ratchet, Sealed, Unopened};
use node::report::MessageReport;
use node::{Config, Outcome, Profile, Saved};
use ratchet::{Kept, Olm, Store};
use wire::{NodeId, UnixTime};
use world::World;

/// A disk that outlives its peer.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Store for Disk {
    fn load(&self) -> Result<Vec<Kept>, String> {
        Ok(self.0.lock().unwrap().iter().map(|(name, bytes)| (name.clone(), bytes.clone().into())).collect())
    }

    fn save(&self, name: &str, bytes: &[u8], _: bool) -> Result<(), String> {
        self.0.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn remove(&self, name: &str) {
        self.0.lock().unwrap().remove(name);
    }

    fn set_aside(&self, name: &str) {
        self.remove(name);
    }
}

/// A ratchet that opens nothing of what it is sent, whatever its keys.
#[derive(Debug)]
struct Blind(Olm);

impl Ratchet for Blind {
    fn prekeys(&self) -> Prekeys {
        self.0.prekeys()
    }

    fn rotate(&mut self, unix: UnixTime) -> bool {
        self.0.rotate(unix)
    }

    fn peers(&self) -> usize {
        self.0.peers()
    }

    fn has_written(&self, peer: &NodeId) -> bool {
        self.0.has_written(peer)
    }

    fn last_heard(&self, peer: &NodeId) -> Option<UnixTime> {
        self.0.last_heard(peer)
    }

    fn begin(&mut self, unix: UnixTime, peer: NodeId, prekeys: &Prekeys, ours: bool) -> bool {
        self.0.begin(unix, peer, prekeys, ours)
    }

    fn seal(&mut self, peer: &NodeId, bound: &[u8; 32], text: &[u8], ours: bool) -> Option<Sealed> {
        self.0.seal(peer, bound, text, ours)
    }

    fn open(&mut self, _: UnixTime, _: NodeId, _: &[u8; 32], _: &Sealed) -> Result<Vec<u8>, Unopened> {
        Err(Unopened::Unknown)
    }
}

const PEERS: usize = 5;
const ALICE: usize = 1;
const BOB: usize = 3;

fn olm(disk: &Disk) -> Box<Olm> {
    Box::new(Olm::new(Box::new(disk.clone()), UnixTime(1_800_000_000)).unwrap())
}

/// Peers of an overlay, of whom Alice and Bob read letters; the rest carry no ratchet.
fn world_of(profile: Profile) -> (World, [Disk; 2]) {
    let mut world = World::with(PEERS, |_, config| config.profile = profile);
    let disks = [Disk::default(), Disk::default()];
    for (n, disk) in [ALICE, BOB].into_iter().zip(&disks) {
        world.nodes[n].use_ratchet(world.now, olm(disk));
        world.collect(n);
    }
    world.run(Duration::from_secs(30));
    (world, disks)
}

fn restart(world: &mut World, n: usize, disk: &Disk) {
    world.restart_with(n, Saved::default(), |_, config: &mut Config| config.profile = Profile::Secure);
    world.nodes[n].use_ratchet(world.now, olm(disk));
    world.collect(n);
    world.run(Duration::from_secs(30));
}

fn write(world: &mut World, from: usize, to: usize, text: &str) -> MessageReport {
    let (from_name, to_name) = (format!("user{from}@test"), format!("user{to}@test"));
    let op = world.nodes[from].message(world.now, &from_name, &to_name, text);
    match world.wait(from, op) {
        Outcome::Message(report) => report,
        other => panic!("{other:?}"),
    }
}

/// What is in the inbox of a peer, and by what each was protected.
fn inbox(world: &World, n: usize) -> Vec<(String, String)> {
    world.nodes[n].inbox().map(|m| (m.text.clone(), m.protected.clone())).collect()
}

fn by_ratchet(texts: &[&str]) -> Vec<(String, String)> {
    texts.iter().map(|text| (text.to_string(), "ratchet".into())).collect()
}

fn dropped(world: &mut World, n: usize, what: &str) -> u64 {
    let now = world.now;
    world.nodes[n].status(now).dropped.get(what).copied().unwrap_or(0)
}

#[test]
fn two_peers_write_to_each_other_by_ratchet_and_with_others_as_before() {
    let (mut world, disks) = world_of(Profile::Secure);
    for (from, to, text) in
        [(ALICE, BOB, "one"), (BOB, ALICE, "two"), (ALICE, BOB, "three"), (ALICE, BOB, "four")]
    {
        let report = write(&mut world, from, to, text);
        assert_eq!(
            (report.state.as_str(), report.protected.as_str()),
            ("delivered", "ratchet"),
            "{report:?}"
        );
    }
    assert_eq!(inbox(&world, BOB), by_ratchet(&["one", "three", "four"]));
    assert_eq!(inbox(&world, ALICE), by_ratchet(&["two"]));
    for (from, to) in [(ALICE, 2), (2, ALICE)] {
        assert_eq!(write(&mut world, from, to, "to who has none").protected, "encrypted");
    }
    assert_eq!(inbox(&world, 2), [("to who has none".to_owned(), "encrypted".to_owned())]);
    assert_eq!(write(&mut world, ALICE, ALICE, "to myself").protected, "local");
    assert_eq!([ALICE, BOB, 2].map(|n| world.nodes[n].status(world.now).letters), [1, 1, 0]);
    assert!(disks.iter().all(|disk| disk.0.lock().unwrap().len() == 2), "an account, and the other");
}

#[test]
fn where_messages_shall_be_readable_there_are_no_letters() {
    for profile in [Profile::Signed, Profile::Open] {
        let (mut world, _) = world_of(profile);
        let report = write(&mut world, ALICE, BOB, "hello");
        assert_eq!((report.state.as_str(), report.protected.as_str()), ("delivered", "signed"), "{profile}");
        assert_eq!(inbox(&world, BOB), [("hello".to_owned(), "signed".to_owned())]);
    }
}

#[test]
fn a_letter_through_hops_is_heard_once_like_one_over_the_link() {
    let (mut world, _) = world_of(Profile::Secure);
    assert_eq!(write(&mut world, ALICE, BOB, "over the link").protected, "ratchet");
    world.parted = Some([ALICE, BOB]);
    assert_eq!(write(&mut world, ALICE, BOB, "through hops").state, "delivered");
    assert_eq!(inbox(&world, BOB), by_ratchet(&["over the link", "through hops"]));
}

#[test]
fn who_lost_its_sessions_hears_each_message_once_all_the_same() {
    for wiped in [BOB, ALICE] {
        let (mut world, disks) = world_of(Profile::Secure);
        assert_eq!(write(&mut world, ALICE, BOB, "one").state, "delivered");
        assert_eq!(write(&mut world, BOB, ALICE, "two").state, "delivered");
        let [mut of_alice, mut of_bob] = disks;
        let lost = if wiped == BOB { &mut of_bob } else { &mut of_alice };
        *lost = Disk::default();
        restart(&mut world, wiped, &lost.clone());
        for (from, to) in [(ALICE, BOB), (BOB, ALICE)] {
            let report = write(&mut world, from, to, "after");
            assert_eq!(
                (report.state.as_str(), report.protected.as_str()),
                ("delivered", "ratchet"),
                "{wiped}"
            );
        }
        let after = |n| inbox(&world, n).iter().filter(|m| **m == by_ratchet(&["after"])[0]).count();
        assert_eq!((after(ALICE), after(BOB)), (1, 1), "{wiped}");
    }
}

#[test]
fn both_ends_go_on_after_a_restart() {
    let (mut world, [of_alice, of_bob]) = world_of(Profile::Secure);
    assert_eq!(write(&mut world, ALICE, BOB, "one").state, "delivered");
    assert_eq!(write(&mut world, BOB, ALICE, "two").state, "delivered");
    restart(&mut world, ALICE, &of_alice);
    restart(&mut world, BOB, &of_bob);
    assert_eq!(write(&mut world, BOB, ALICE, "three").protected, "ratchet");
    assert_eq!(write(&mut world, ALICE, BOB, "four").protected, "ratchet");
    assert_eq!((inbox(&world, ALICE), inbox(&world, BOB)), (by_ratchet(&["three"]), by_ratchet(&["four"])));
    assert_eq!([ALICE, BOB].map(|n| dropped(&mut world, n, "letter unopened")), [0, 0]);
}

#[test]
fn two_that_write_first_at_the_same_time_are_both_heard() {
    let (mut world, _) = world_of(Profile::Secure);
    let ops = [(ALICE, BOB), (BOB, ALICE)].map(|(from, to)| {
        let (from_name, to_name) = (format!("user{from}@test"), format!("user{to}@test"));
        (from, world.nodes[from].message(world.now, &from_name, &to_name, "first"))
    });
    ops.iter().for_each(|(n, _)| world.collect(*n));
    for (n, op) in ops {
        assert!(matches!(world.wait(n, op), Outcome::Message(report) if report.state == "delivered"));
    }
    assert_eq!((inbox(&world, ALICE), inbox(&world, BOB)), (by_ratchet(&["first"]), by_ratchet(&["first"])));
}

#[test]
fn a_letter_that_its_reader_cannot_open_goes_once_more_and_then_fails_unread_by_anybody() {
    let (mut world, [_, of_bob]) = world_of(Profile::Secure);
    world.nodes[BOB].use_ratchet(world.now, Box::new(Blind(*olm(&of_bob))));
    let report = write(&mut world, ALICE, BOB, "hello");
    assert_eq!(
        (report.state.as_str(), report.status, report.protected.as_str()),
        ("failed", 493, ""),
        "{report:?}"
    );
    world.run(Duration::from_secs(60));
    assert_eq!(dropped(&mut world, BOB, "letter unopened"), 2, "and no more");
    assert!(inbox(&world, BOB).is_empty(), "and never with less protection");
}
