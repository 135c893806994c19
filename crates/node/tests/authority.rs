//! Names that an authority gives: nobody else has them, and nothing waits for it.

mod world;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use node::report::{MessageReport, UserStatus};
use node::{CallOptions, Charter, Config, LookupOptions, Outcome, Profile, Registrar, User};
use wire::document::Authority;
use wire::p2pp::Code;
use wire::{Certificate, KeyPair, NameRequest, OverlayDocument, PublicKey, Revocations, UnixTime};
use world::charter::{charter, document, founder, pair};
use world::{World, address};

const HOUR: Duration = Duration::from_secs(3_600);

/// Records of this world end so soon.
const LIFETIME: Duration = Duration::from_secs(120);

/// Who gives names, who calls, whose name it is, and who wants to have it.
const AUTHORITY: usize = 1;
const FRIEND: usize = 2;
const OWNER: usize = 5;
const THIEF: usize = 8;
const NAME: &str = "user5@test";

/// The key of the peer that is the authority, as the world makes it.
fn authority() -> KeyPair {
    pair(1_001)
}

/// The overlay's document: it names the authority, and bans these keys.
fn says(banned: &[PublicKey]) -> Arc<Charter> {
    let authority =
        Authority { domain: "test".into(), key: authority().public(), address: address(AUTHORITY) };
    charter(OverlayDocument {
        authorities: [authority].into(),
        revoked: banned.iter().copied().collect(),
        ..document(1, Profile::Open)
    })
}

/// What the authority knows, and the test may change.
struct Office {
    given: BTreeMap<String, PublicKey>,
    serial: u64,
    life: Duration,
}

impl Office {
    fn certify(&mut self, aor: &str, user: PublicKey, now: UnixTime) -> Certificate {
        self.serial += 1;
        let times = (now, UnixTime(now.0 + self.life.as_secs()));
        Certificate::sign(&authority(), (founder(), aor, user), self.serial, times).unwrap()
    }
}

struct Desk(Arc<Mutex<Office>>);

impl Registrar for Desk {
    fn enrol(
        &mut self,
        now: UnixTime,
        _: IpAddr,
        asked: &NameRequest,
    ) -> Result<Certificate, (Code, String)> {
        let mut office = self.0.lock().unwrap();
        let owner = *office.given.entry(asked.aor.clone()).or_insert(asked.user);
        if owner != asked.user {
            return Err((Code::FORBIDDEN, format!("{} is another key's", asked.aor)));
        }
        Ok(office.certify(&asked.aor, asked.user, now))
    }
}

fn configure(config: &mut Config) {
    config.charter = Some(says(&[]));
    config.record_lifetime = LIFETIME;
    config.refresh_interval = LIFETIME / 3;
}

/// Eight peers, all of whose users but the authority's own are certified for so long.
fn ready(life: Duration) -> (World, Arc<Mutex<Office>>) {
    let mut world = World::with(8, |_, config| configure(config));
    let office = Arc::new(Mutex::new(Office { given: BTreeMap::new(), serial: 0, life }));
    world.nodes[AUTHORITY].register(Box::new(Desk(office.clone())));
    world.run(Duration::from_secs(40));
    for n in (0..8).filter(|n| *n != AUTHORITY) {
        assert_eq!(status(&world, n).state, "published", "{n}");
    }
    (world, office)
}

fn status(world: &World, n: usize) -> UserStatus {
    world.nodes[n].status(world.now).users.pop().unwrap()
}

/// A peer that knows nothing of authorities, and says that it is somebody.
fn steal(world: &mut World, name: &str) {
    world.grow_with(1, |_, config| {
        config.record_lifetime = LIFETIME;
        config.refresh_interval = LIFETIME / 3;
    });
    let now = world.now;
    world.nodes[THIEF].add_user(now, User { aor: name.into(), keys: pair(666) });
    world.collect(THIEF);
    world.run(Duration::from_secs(30));
}

fn write(world: &mut World, from: usize, to: &str) -> MessageReport {
    let op = world.nodes[from].message(world.now, &format!("user{from}@test"), to, "hello");
    match world.wait(from, op) {
        Outcome::Message(report) => report,
        other => panic!("{other:?}"),
    }
}

fn nothing_reached_the_thief(world: &World) {
    assert_eq!(world.nodes[THIEF].inbox().count(), 0);
}

#[test]
fn a_name_is_stolen_neither_before_nor_while_nor_after_its_owner_is_there() {
    let (mut world, _) = ready(HOUR * 24);
    steal(&mut world, "user9@test");
    for from in [FRIEND, 3, 6] {
        assert_eq!(write(&mut world, from, "user9@test").state, "failed", "before");
    }
    nothing_reached_the_thief(&world);
    world.grow_with(1, |_, config| configure(config));
    world.run(Duration::from_secs(40));
    assert_eq!(status(&world, 9).state, "published", "the thief stood in nobody's way");
    for from in [FRIEND, 3, 6] {
        assert_eq!(write(&mut world, from, "user9@test").state, "delivered", "while");
    }
    world.dead.insert(9);
    world.run(LIFETIME * 3);
    for from in [FRIEND, 3, 6, 7] {
        assert_eq!(write(&mut world, from, "user9@test").state, "failed", "after");
    }
    nothing_reached_the_thief(&world);
}

#[test]
fn whoever_is_called_without_a_certificate_is_not_rung_and_the_caller_is_told_why() {
    // Half of the peers know no authorities, and keep what the thief brings.
    let mut world = World::with(8, |n, config| {
        configure(config);
        config.charter = config.charter.take().filter(|_| n == FRIEND);
    });
    world.run(Duration::from_secs(20));
    assert_eq!(write(&mut world, 3, NAME).state, "delivered", "without a document anybody is reached");
    let failed = write(&mut world, FRIEND, NAME);
    assert_eq!((failed.state.as_str(), failed.status), ("failed", 437), "{}", failed.reason);
    let op = world.nodes[FRIEND].call(world.now, "user2@test", NAME, CallOptions::default());
    let Outcome::Call(call) = world.wait(FRIEND, op) else { panic!("a call") };
    let failure = call.failure.unwrap();
    assert_eq!(failure.cause, "not_certified");
    assert!(failure.evidence.contains("does not say whose it is"), "{}", failure.evidence);
    assert!(failure.next_step.contains("openvoip status"));
    let op = world.nodes[FRIEND].lookup_user(world.now, NAME, LookupOptions::default());
    let Outcome::Lookup(report) = world.wait(FRIEND, op) else { panic!("a lookup") };
    assert!(!report.found && report.refused.unwrap().contains("does not say"));
}

#[test]
fn the_authority_may_be_down_and_nothing_changes_until_certificates_end() {
    let (mut world, _) = ready(HOUR * 4);
    world.dead.insert(AUTHORITY);
    world.run(HOUR * 3);
    assert_eq!(write(&mut world, FRIEND, NAME).state, "delivered");
    let owner = status(&world, OWNER);
    assert!(owner.state == "published" && owner.problem.unwrap().contains("does not answer"));
    // It comes back, and the certificate is renewed within the longest pause.
    let until = owner.certified_until;
    world.dead.remove(&AUTHORITY);
    world.run(HOUR * 2);
    let owner = status(&world, OWNER);
    assert!(owner.certified_until > until && owner.problem.is_none());
    // Gone for good: two hours beyond the end, for clocks that are wrong, and no longer.
    world.dead.insert(AUTHORITY);
    world.run(HOUR * 7);
    assert_eq!(write(&mut world, FRIEND, NAME).state, "failed");
    assert_eq!(status(&world, OWNER).state, "uncertified");
}

#[test]
fn clocks_that_are_an_hour_wrong_on_either_side_do_not_matter() {
    let (mut world, _) = ready(HOUR * 24);
    let right = world.epoch;
    for (n, skew) in [(8, right + 3_600), (9, right - 3_600)] {
        world.epoch = skew;
        world.grow_with(1, |_, config| configure(config));
        world.run(Duration::from_secs(40));
        assert_eq!(status(&world, n).state, "published", "{n}");
    }
    for (from, to) in [(8, 9), (9, 8), (FRIEND, 8), (FRIEND, 9), (8, OWNER), (9, OWNER)] {
        let report = write(&mut world, from, &format!("user{to}@test"));
        assert_eq!(report.state, "delivered", "{from} -> {to}: {}", report.reason);
    }
    // Three hours are too many, and are told.
    world.epoch = right + 3 * 3_600;
    world.grow_with(1, |_, config| configure(config));
    world.run(Duration::from_secs(40));
    assert!(status(&world, 10).problem.unwrap().contains("clocks differ"));
}

#[test]
fn who_loses_the_certificate_is_reached_no_more_and_an_older_list_gives_it_not_back() {
    let (mut world, _) = ready(HOUR * 24);
    assert_eq!(write(&mut world, FRIEND, NAME).state, "delivered");
    let lost = pair(9_000 + OWNER as u64).public();
    let until = UnixTime(world.epoch + 30 * 3_600);
    let list = |number, keys: &[PublicKey], by: &KeyPair| {
        let keys = keys.iter().map(|key| (*key, until)).collect();
        Revocations::sign(by, founder(), number, keys).unwrap()
    };
    let publish = |world: &mut World, list: Revocations| {
        let now = world.now;
        world.nodes[AUTHORITY].publish_revocations(now, list);
        world.collect(AUTHORITY);
        world.run(Duration::from_secs(1_200));
    };
    // Somebody else's word is none, wherever it stands.
    publish(&mut world, list(9, &[lost], &pair(666)));
    assert_eq!(write(&mut world, FRIEND, NAME).state, "delivered");
    publish(&mut world, list(2, &[lost], &authority()));
    for from in [FRIEND, 3, 6] {
        assert_eq!(write(&mut world, from, NAME).state, "failed", "{from}");
    }
    assert_eq!(write(&mut world, FRIEND, "user6@test").state, "delivered", "others keep theirs");
    // The list before, as somebody might have kept it.
    publish(&mut world, list(1, &[], &authority()));
    assert_eq!(write(&mut world, FRIEND, NAME).state, "failed");
    let kept = world.nodes[FRIEND].save().revocations;
    assert_eq!(Revocations::parse(&kept[0]).unwrap().number, 2, "also after a restart");
    publish(&mut world, list(3, &[], &authority()));
    world.run(LIFETIME);
    assert_eq!(write(&mut world, FRIEND, NAME).state, "delivered", "pardoned");
}

#[test]
fn an_authority_that_gives_a_name_to_another_key_is_noticed_by_whoever_knew_the_owner() {
    let (mut world, office) = ready(HOUR * 24);
    assert_eq!(write(&mut world, FRIEND, NAME).state, "delivered");
    // The thief's key gets the owner's name, while the owner is there.
    office.lock().unwrap().given.insert(NAME.into(), pair(666).public());
    world.grow_with(1, |_, config| configure(config));
    let now = world.now;
    world.nodes[THIEF].add_user(now, User { aor: NAME.into(), keys: pair(666) });
    world.collect(THIEF);
    world.run(Duration::from_secs(60));
    let thief = world.nodes[THIEF].status(world.now).users.into_iter().find(|u| u.aor == NAME).unwrap();
    assert_eq!(thief.state, "published", "what a lying authority can do");
    world.dead.insert(OWNER);
    world.run(LIFETIME * 2);
    let refused = write(&mut world, FRIEND, NAME);
    assert_eq!((refused.state.as_str(), refused.status), ("failed", 438), "and what it cannot");
    nothing_reached_the_thief(&world);
    // Who never met the owner cannot tell.
    assert_eq!(write(&mut world, 3, NAME).state, "delivered");
    assert_eq!(world.nodes[THIEF].inbox().count(), 1);
}

#[test]
fn a_name_is_given_once() {
    let (mut world, _) = ready(HOUR * 24);
    world.grow_with(1, |_, config| configure(config));
    let now = world.now;
    world.nodes[THIEF].add_user(now, User { aor: NAME.into(), keys: pair(666) });
    world.collect(THIEF);
    world.run(Duration::from_secs(30));
    let thief = world.nodes[THIEF].status(world.now).users.into_iter().find(|u| u.aor == NAME).unwrap();
    assert_eq!(thief.state, "uncertified");
    assert!(thief.problem.unwrap().contains("another key's"));
    assert_eq!(write(&mut world, FRIEND, NAME).state, "delivered");
    assert_eq!(world.nodes[OWNER].inbox().count(), 1);
}

#[test]
fn a_key_that_the_document_bans_has_no_name_anywhere() {
    let banned = pair(9_000 + OWNER as u64).public();
    let mut world = World::with(8, |_, config| {
        let banning = OverlayDocument { revoked: [banned].into(), ..document(1, Profile::Open) };
        config.charter = Some(charter(banning));
    });
    world.run(Duration::from_secs(30));
    assert_eq!(write(&mut world, FRIEND, "user6@test").state, "delivered");
    assert_eq!(write(&mut world, FRIEND, NAME).state, "failed");
}
